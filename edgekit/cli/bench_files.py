"""The files that ``edgekit bench`` and ``edgekit bench report`` make of benchmarks: a page, CSV and Markdown."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.output import progress_bar

if TYPE_CHECKING:
    from edgekit.bench import BenchmarkReport
    from edgekit.bench.accuracy import Verified
    from edgekit.bench.op_times import OpProfile

_STDOUT = Path("-")


@dataclass(frozen=True)
class Files:
    """What to write where; ``-`` is stdout, in place of the table.

    Attributes:
        html: the page, or ``None``.
        csv: a row for each case.
        csv_samples: a row for each run.
        markdown: for a pull request.
        accuracy: what is known of the models' accuracy, ``[MODEL=]FILE`` each; for the page.
        overwrite: whether existing files may be replaced.
    """

    html: Path | None
    csv: Path | None
    csv_samples: Path | None
    markdown: Path | None
    accuracy: tuple[str, ...]
    overwrite: bool

    @property
    def to_stdout(self) -> bool:
        """Whether one of them is what is printed."""
        return _STDOUT in self._named().values()

    def check(self, ctx: click.Context, others: Sequence[Path | None], *, as_json: bool, profile: bool) -> None:
        """Refuse before the long run what makes no sense, and what could not be written.

        Args:
            ctx: the command's.
            others: files that are read or written besides, which none of these may be.
            as_json: whether JSON is printed.
            profile: whether times by operator are to be shown.

        Raises:
            OutputError: a file exists, or its folder takes none.
            click.UsageError: two of them are one, or one option is nothing without another.
        """
        from edgekit.files import check_writable

        if (self.accuracy or profile) and self.html is None:
            raise click.UsageError("--accuracy and --profile are shown on the page: name it with --html.", ctx)
        if self.html == _STDOUT:
            raise click.UsageError("--html takes a file's name: a page is nothing for a terminal.", ctx)
        if as_json and self.to_stdout:
            raise click.UsageError("--json and - both print on stdout: choose one.", ctx)
        seen = {path.resolve(): "" for path in others if path is not None}
        for option, path in self._named().items():
            if path.resolve() in seen:
                other = seen[path.resolve()] or "another file of this command"
                raise click.UsageError(f"{option} {path} is {other} as well: give each its own name.", ctx)
            seen[path.resolve()] = option
            if path != _STDOUT:
                check_writable(path, overwrite=self.overwrite)

    def write(
        self,
        reports: Sequence[tuple[str, BenchmarkReport]],
        *,
        verified: Sequence[Verified] = (),
        profiles: Sequence[OpProfile] = (),
    ) -> None:
        """Write them, each whole or not at all.

        Args:
            reports: what to call each benchmark, and the benchmark.
            verified: what is known of the models' accuracy, for the page.
            profiles: times by operator, for the page.

        Raises:
            EdgekitError: a file cannot be written, or it cannot be told which model an accuracy is of.
        """
        from edgekit.files import write_whole
        from edgekit.report.bench_rows import csv_text, markdown_text, samples_csv_text

        makers: dict[str, Callable[[], str]] = {
            "--html": lambda: _page(reports, verified, profiles),
            "--csv": lambda: csv_text(reports),
            "--csv-samples": lambda: samples_csv_text(reports),
            "--markdown": lambda: markdown_text(reports),
        }
        made = {path: makers[option]() for option, path in self._named().items()}
        for path, text in made.items():
            if path == _STDOUT:
                click.echo(text, nl=False)
            else:
                write_whole(path, text.encode(), overwrite=self.overwrite)

    def _named(self) -> dict[str, Path]:
        every = {"--html": self.html, "--csv": self.csv, "--csv-samples": self.csv_samples, "--markdown": self.markdown}
        return {option: path for option, path in every.items() if path is not None}


def _page(
    reports: Sequence[tuple[str, BenchmarkReport]], verified: Sequence[Verified], profiles: Sequence[OpProfile]
) -> str:
    from edgekit.bench.accuracy import accuracies, models_of
    from edgekit.report.bench_html import bench_page

    cases = [result for _, report in reports for result in report.cases]
    return bench_page(reports, accuracy=accuracies(models_of(cases), verified), profiles=profiles)


def file_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--html``, ``--csv``, ``--csv-samples``, ``--markdown``, ``--accuracy`` and ``--overwrite``, which become one argument ``files``."""
    path = click.Path(path_type=Path)
    options = (
        click.option("--html", type=path, metavar="FILE", help="Write one page with plots, which needs no network."),
        click.option("--csv", type=path, metavar="FILE", help="Write every figure, a row for each case; - is stdout."),
        click.option("--csv-samples", type=path, metavar="FILE", help="Write every run that was timed; - is stdout."),
        click.option("--markdown", type=path, metavar="FILE", help="Write Markdown, for a pull request; - is stdout."),
        click.option(
            "--accuracy", multiple=True, metavar="[MODEL=]FILE",
            help="For --html: what `edgekit verify --json` printed, or a converted model with its proof inside.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace FILE when it exists."),
    )  # fmt: skip

    @functools.wraps(function)
    def gathered(*args: Any, **given: Any) -> Any:
        names = [field.name for field in dataclasses.fields(Files)]
        return function(*args, files=Files(**{name: given.pop(name) for name in names}), **given)

    decorated: Callable[..., Any] = gathered
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def check_files(
    ctx: click.Context, files: Files, models: Sequence[Path], output: Path | None, *, as_json: bool, profile: bool
) -> list[Verified]:
    """Before a benchmark: refuse what could not be written afterwards, and read what is known of the models' accuracy.

    Args:
        ctx: the command's.
        files: what is to be written.
        models: what is to be measured.
        output: the benchmark's own file, or ``None``.
        as_json: whether JSON is printed.
        profile: whether operators are measured, too.

    Returns:
        What was named, and what the models' manifests say.

    Raises:
        EdgekitError: a file cannot be read or written, or it cannot be told which model an accuracy is of.
    """
    files.check(ctx, [*models, output], as_json=as_json, profile=profile)
    if profile and ctx.params.get("on") is not None:
        raise click.UsageError("--profile measures on this machine, and --on names another one.", ctx)
    if files.html is None:
        return []
    from edgekit.bench.accuracy import accuracies, of_manifest, read_verified
    from edgekit.bench.runner import named_models

    named = named_models(models)
    given = [read_verified(text) for text in files.accuracy]
    accuracies([(name, model.sha256, len(model.content)) for name, model in named], given)
    return [*given, *(found for _, model in named if (found := of_manifest(model)) is not None)]


def write_files(
    files: Files, report: BenchmarkReport, models: Sequence[Path], verified: Sequence[Verified], *, profile: bool
) -> None:
    """After a benchmark: write the files.

    Args:
        files: what to write.
        report: what was measured.
        models: what was measured.
        verified: what ``check_files`` gave.
        profile: whether to measure operators first.

    Raises:
        EdgekitError: a file cannot be written.
    """
    profiles = _profiles(report, models) if profile and not report.interrupted else []
    files.write([("", report)], verified=verified, profiles=profiles)


def _profiles(report: BenchmarkReport, models: Sequence[Path]) -> list[OpProfile]:
    """Times by operator of each model in each way in which it ran; ways in which operators cannot be timed are told."""
    from edgekit.bench.profile import profile
    from edgekit.bench.runner import named_models
    from edgekit.errors import EdgekitError

    named = dict(named_models(models))
    ways = dict.fromkeys(
        (result.case.model, str(result.launches[0].asked["delegate"]), result.launches[0].threads, result.case.engine)
        for result in report.cases
        if result.launches and result.case.model in named
    )
    found: list[OpProfile] = []
    with progress_bar() as progress:
        for name, delegate, threads, engine in ways:
            try:
                found.append(profile(named[name], delegate=delegate, threads=threads, engine=engine, progress=progress))
            except EdgekitError as error:
                click.echo(f"no times by operator of {name} on {delegate}: {error}", err=True)
    return found

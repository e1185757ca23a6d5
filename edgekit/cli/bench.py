"""``edgekit bench``: measures models, and leaves ``compare``, ``history`` and ``profile`` to their own files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.bench_options import list_of, share
from edgekit.cli.data_options import DATA, color_option, crop_option, normalize_option, resize_option
from edgekit.cli.output import console, print_json, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.bench import BenchmarkReport, CaseResult
    from edgekit.report.fields import Field

#: Not columns here: the error has a line of its own, and so has the verdict on a single case.
_BELOW = frozenset({"error"})
_ALONE = frozenset({"verdict"})
#: What a table does without when there is no room for it, in this order; a model's name is folded to so many letters.
_SPARE = ("verdict", "p99_ns", "first_run_ns", "load_ns", "rerun_ns", "p90_ns", "peak_rss_bytes")
_NAME_WIDTH = 24


#: Further commands by their first word → the module that holds ``command``.
_OTHERS: dict[str, str] = {"compare": "bench_compare", "history": "bench_history", "profile": "bench_profile"}


_EPILOG = """
\b
edgekit bench compare A.json B.json ...   compares files that -o wrote
edgekit bench history FOLDER NEW.json     keeps them, and shows how each case went
edgekit bench profile MODEL               measures each operator
"""


class _Command(click.Command):
    """Measures models, unless the first word names another command; a model file of such a name is ``./compare``."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Leave the command line to another command where it names one."""
        if args and args[0] in _OTHERS:
            other: click.Command = importlib.import_module(f"edgekit.cli.{_OTHERS[args[0]]}").command
            return other.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("bench", cls=_Command, epilog=_EPILOG)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("--runs", type=int, help="Steady runs of each launch.  [default: about a second of them]")
@click.option("--warmup", type=int, help="Runs between the first one and the steady ones.  [default: until steady]")
@click.option("--launches", type=int, help="Processes for each case.  [default: at least 5, as many as --target takes]")
@click.option(
    "--target", default="3%", show_default=True, callback=share, metavar="SHARE",
    help="End when the median's 95 % interval is so narrow.",
)  # fmt: skip
@click.option(
    "--budget", type=float, metavar="SECONDS", help="Begin no more launches after this.  [default: 60 for each case]"
)
@click.option("--threads", callback=list_of(int), metavar="N[,N...]", help="CPU threads; the profile's by default.")
@click.option(
    "--delegate", callback=list_of(str), metavar="KIND[,...]",
    help="xnnpack, none, gpu or edgetpu; the profile's pick by default.",
)  # fmt: skip
@click.option("--batch", callback=list_of(int), metavar="N[,N...]", help="Samples in one run; the model's by default.")
@click.option("--device", metavar="ID", help="Device profile; detected by default.")
@click.option("--engine", metavar="NAME", help="litert, tflite-runtime or tensorflow; the first installed by default.")
@click.option(
    "--scenario", type=click.Choice(["single-stream", "server", "offline"]), default="single-stream", show_default=True,
    help="One after another; at random times within a bound; as many as possible.",
)  # fmt: skip
@click.option(
    "--workers", type=int, help="server, offline: sessions beside each other; one for each processor by default."
)
@click.option("--latency-bound", type=float, metavar="MS", help="server: what a query may take from its arrival.")
@click.option("--percentile", type=int, default=99, show_default=True, help="server: how many of 100 must keep it.")
@click.option(
    "--rate", type=float, metavar="PER_SECOND", help="server: try this rate instead of searching the highest."
)
@click.option("--least", type=float, metavar="SECONDS", help="server, offline: the least time of a measurement.")
@click.option("--data", metavar=DATA, help="Real inputs, as for `edgekit verify`.  [default: random ones]")
@normalize_option(".  [default: as the model's manifest says]")
@resize_option
@color_option()
@crop_option
@click.option(
    "--meter-csv", type=click.Path(path_type=Path), metavar="FILE", help="What an external power meter writes."
)
@click.option("--require-valid", is_flag=True, help="Exit code 1 unless the verdict is VALID.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole benchmark as JSON, raw samples included.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the benchmark as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace FILE when it exists.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    models: tuple[Path, ...],
    target: float,
    budget: float | None,
    threads: tuple[int | None, ...],
    delegate: tuple[str | None, ...],
    batch: tuple[int | None, ...],
    latency_bound: float | None,
    rate: float | None,
    least: float | None,
    data: str | None,
    normalize: str | None,
    resize: str | None,
    color: str | None,
    crop: str | None,
    require_valid: bool,
    as_json: bool,
    output: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Measure load, first run, warm-up and steady latency of models.

    Each MODEL is measured in processes of its own, interleaved with the others, on every combination of the delegates,
    threads and batches that are given. With several cases each one's median is compared with the first one's. A case that
    fails is a row of the table, and the exit code is 1. Ctrl-C ends it and shows what was measured so far.
    """
    from edgekit.bench import sweep
    from edgekit.files import check_writable

    if output is not None:
        check_writable(output, overwrite=overwrite)
    if data is not None:
        from edgekit.cli.bench_data import read_data

        samples, preprocessing = read_data(
            data, models, batch, normalize=normalize, resize=resize, color=color, crop=crop
        )  # fmt: skip
        options.update(data=samples, data_name=data, preprocessing=preprocessing)
    with progress_bar() as progress:
        report = sweep(
            models, delegates=delegate, threads=threads, batches=batch, target=target, budget_s=budget,
            latency_bound_ms=latency_bound, rate_per_s=rate, least_s=least, progress=progress, **options,
        )  # fmt: skip
    if report.interrupted:
        click.echo("interrupted: this is what was measured until then.", err=True)
    if output is not None:
        report.save(output, overwrite=overwrite)
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    if not report.passed or (require_valid and not report.verdict.valid):
        ctx.exit(1)


def _print_report(report: BenchmarkReport) -> None:
    """A row for each case, as wide as its figures need; below it what failed, and whether to believe the rest."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgekit.bench.cases import case_names
    from edgekit.bench.results import FIELDS

    alike = len({launch.threads for result in report.cases for launch in result.launches}) < 2
    hidden = _BELOW | ({"threads"} if alike else set()) | (_ALONE if len(report.cases) == 1 else set())
    out = console()
    titles, rows, left_out = _fitting([field for field in FIELDS if field.key not in hidden], report.cases, out.width)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(titles):
        drawn.add_column(name, overflow="fold", no_wrap=number > 0)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    out.print(Text(_title(report, alike), style="bold"), soft_wrap=True)  # a table of failures is narrower
    out.print(drawn)
    if left_out:
        click.echo(f"Not shown for want of room: {', '.join(left_out)}; --json has everything.")
    for name, result in zip(case_names(report.cases), report.cases, strict=True):
        if result.error is not None:
            click.echo(f"{name} failed: {result.error}")
    _print_verdict(report)


def _fitting(
    fields: Sequence[Field[CaseResult]], cases: Sequence[CaseResult], width: int
) -> tuple[list[str], list[list[str]], list[str]]:
    """A table that fits: what can be done without is left out, and named."""
    from edgekit.report.fields import table

    left_out = []
    for spare in (*_SPARE, None):
        titles, rows = table(fields, cases)
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        widths[0] = min(widths[0], _NAME_WIDTH)  # the model's name may take a second line
        if spare is None or sum(widths) + 2 * len(widths) <= width:
            break
        left_out += [field.title for field in fields if field.key == spare and field.title in titles]
        fields = [field for field in fields if field.key != spare]
    return titles, rows, left_out


def _title(report: BenchmarkReport, alike: bool) -> str:
    launches = [launch for result in report.cases for launch in result.launches]
    if not launches:
        return "Nothing was measured"
    counts = [len(result.launches) for result in report.cases if result.launches]
    runs = [len(launch.total_ns) for launch in launches]
    parts = [f"{_span(counts)} launch{'es' if counts != [1] else ''}"]
    if any(runs):
        warmup = [launch.warmup_runs or 0 for launch in launches]
        parts.append(f"{_span(runs)} runs each after {_span(warmup)} warm-up runs")
    if alike:
        parts.append(f"{launches[0].threads} thread{'s' if launches[0].threads > 1 else ''}")
    parts.append(launches[0].engine)
    if report.inputs != "random":
        parts.append(f"inputs of {report.inputs}")
    return ", ".join(parts)


def _span(numbers: list[int]) -> str:
    return str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"


def _print_verdict(report: BenchmarkReport) -> None:
    from rich.text import Text

    from edgekit.bench.launch import SERVER, SINGLE_STREAM
    from edgekit.bench.scenarios import sample_rule

    if not any(result.launches for result in report.cases):
        return
    verdict, case = report.verdict, report.cases[0].case
    style = {"VALID": "green", "NOISY": "bold yellow"}.get(verdict.level, "bold red")
    console().print(Text(verdict.level, style=style))
    for reason in verdict.reasons:
        click.echo(f"- {reason}")
    if case.scenario == SINGLE_STREAM:
        count = min(result.summary.count for result in report.cases if result.launches)
    elif case.scenario == SERVER:
        count = 0
    else:
        count = min(
            sum(launch.samples or 0 for launch in result.launches) for result in report.cases if result.launches
        )
    click.echo(sample_rule(case.scenario, count, case.percentile))
    _print_energy(report)


def _print_energy(report: BenchmarkReport) -> None:
    """What an inference takes, or why that is not known."""
    from edgekit.bench.cases import case_names
    from edgekit.bench.energy import no_source, per_inference

    found = [(name, per_inference(result)) for name, result in zip(case_names(report.cases), report.cases, strict=True)]
    for name, energy in found:
        if energy is not None:
            click.echo(f"energy of {name}: {energy}")
    if all(energy is None for _, energy in found):
        click.echo(f"energy: {no_source()}")

"""``edgekit bench --on ssh://…`` and ``edgekit bench clean``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.output import print_json, progress_bar

if TYPE_CHECKING:
    from edgekit.bench import BenchmarkReport

_python = click.option(
    "--remote-python", metavar="PATH", help="--on: the Python there; the first of 3.10 or newer by default."
)
_folder = click.option(
    "--remote-folder", metavar="FOLDER", help="--on: edgekit's place there; ~/.cache/edgekit by default."
)
_OPTIONS = (
    click.option(
        "--on", metavar="ssh://[USER@]HOST[:PORT]", help="Measure on another machine; nothing need be installed there."
    ),
    _python,
    _folder,
    click.option(
        "--wheels", type=click.Path(path_type=Path), metavar="FOLDER",
        help="--on: wheels for that machine; downloaded by default.",
    ),
    click.option(
        "--reconnect", type=float, default=120.0, show_default=True, metavar="SECONDS",
        help="--on: try so long after a dropped connection.",
    ),
    click.option(
        "--log", type=click.Path(path_type=Path), metavar="FILE", help="--on: write what was said there."
    ),
)  # fmt: skip
#: What is of use with --on only.
_NAMES = ("remote_python", "remote_folder", "wheels", "reconnect", "log")
#: Other files of the command.
_FILES = ("output", "html", "csv", "csv_samples", "markdown", "meter_csv")


def remote_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of ``edgekit bench`` for another machine.

    Args:
        command: what gets them.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def measure(ctx: click.Context, models: tuple[Path, ...], on: str | None, **options: Any) -> BenchmarkReport:
    """Measure here, or where ``--on`` says.

    Args:
        ctx: the command's, which knows what was given.
        models: the files.
        on: see ``Remote.destination``; ``None`` for this machine.
        options: what ``sweep`` takes, and the other options for another machine.

    Raises:
        EdgekitError: see ``sweep`` and ``benchmark_on``.
    """
    named = {name: options.pop(name) for name in _NAMES}
    if on is None:
        from edgekit.bench import sweep

        given = [name for name in _NAMES if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
        if given:
            raise click.UsageError(f"--{given[0].replace('_', '-')} is for another machine: name it with --on.")
        with progress_bar() as progress:
            return sweep(models, progress=progress, **options)
    files = [*models, *(ctx.params.get(name) for name in _FILES)]
    if named["log"] is not None and named["log"].resolve() in {path.resolve() for path in files if path is not None}:
        raise click.UsageError(f"--log {named['log']} is another file of this command as well: give each its own name.")
    from edgekit.bench.remote import Remote, benchmark_on

    remote = Remote(
        on, named["remote_python"], named["remote_folder"], named["wheels"], named["reconnect"], named["log"],
        bool(ctx.params.get("overwrite")),
    )  # fmt: skip
    with contextlib.ExitStack() as bars:
        drawn: list[Callable[[str, int, int], None]] = []

        def draw(step: str, done: int, total: int) -> None:
            if not drawn:  # not before: they would paint over what ssh asks
                drawn.append(bars.enter_context(progress_bar()))
            drawn[0](step, done, total)

        return benchmark_on(
            remote, models, progress=draw, notify=lambda text: click.echo(text, err=True), **options
        )  # fmt: skip


@click.command("clean")
@click.argument("on", metavar="ssh://[USER@]HOST[:PORT]")
@_python
@_folder
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def command(on: str, remote_python: str | None, remote_folder: str | None, as_json: bool) -> None:
    """Stop a benchmark that runs on another machine, and remove what edgekit put there."""
    from edgekit.bench.remote import Remote, clean
    from edgekit.report.units import size_text

    size, stopped = clean(Remote(on, remote_python, remote_folder))
    if as_json:
        print_json({"destination": on, "removed_bytes": size, "stopped": stopped})
        return
    if stopped is not None:
        click.echo(f"stopped: the benchmark of {stopped}")
    click.echo(f"removed: {size_text(size)} on {on}")

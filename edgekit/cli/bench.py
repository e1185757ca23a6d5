"""``edgekit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.output import console, print_json, progress_bar

if TYPE_CHECKING:
    from edgekit.bench import BenchmarkReport

#: Not columns here: the error has a line of its own, and the number of threads is the same for all.
_BELOW = ("error", "threads")


@click.command("bench")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("--runs", default=200, show_default=True, help="Steady runs of each launch.")
@click.option("--warmup", default=20, show_default=True, help="Runs between the first one and the steady ones.")
@click.option("--launches", default=3, show_default=True, help="Processes for each model.")
@click.option("--threads", type=int, help="CPU threads; the profile's number by default.")
@click.option("--delegate", metavar="KIND", help="xnnpack, none, gpu or edgetpu; the profile's pick by default.")
@click.option("--device", metavar="ID", help="Device profile; detected by default.")
@click.option("--engine", metavar="NAME", help="litert, tflite-runtime or tensorflow; the first installed by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole benchmark as JSON, raw samples included.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the benchmark as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace FILE when it exists.")
@click.pass_context
def command(
    ctx: click.Context,
    models: tuple[Path, ...],
    runs: int,
    warmup: int,
    launches: int,
    threads: int | None,
    delegate: str | None,
    device: str | None,
    engine: str | None,
    as_json: bool,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Measure load, first run, warm-up and steady latency of models.

    Each MODEL is measured in processes of its own, interleaved with the others. With several, each one's median is
    compared with the first one's. A model that fails is a row of the table, and the exit code is 1.
    """
    from edgekit.bench import benchmark
    from edgekit.files import check_writable

    if output is not None:
        check_writable(output, overwrite=overwrite)
    with progress_bar() as progress:
        report = benchmark(
            models, runs=runs, warmup=warmup, launches=launches, delegate=delegate, device=device, threads=threads,
            engine=engine, progress=progress,
        )  # fmt: skip
    if output is not None:
        report.save(output, overwrite=overwrite)
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    if not report.passed:
        ctx.exit(1)


def _print_report(report: BenchmarkReport) -> None:
    """A row for each case, as wide as its figures need; below it what failed, and why."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgekit.bench.results import FIELDS
    from edgekit.report.fields import table

    launches = [launch for result in report.cases for launch in result.launches]
    title = f"{report.runs} runs after {report.warmup} warm-up runs"
    if launches:
        title += f", {max(len(result.launches) for result in report.cases)} launches"
        title += f", {launches[0].threads} thread{'s' if launches[0].threads > 1 else ''}, {launches[0].engine}"
    titles, rows = table([field for field in FIELDS if field.key not in _BELOW], report.cases)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(titles):
        drawn.add_column(name, overflow="fold", no_wrap=number > 1)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console().print(title, style="bold")  # a table of failures is narrower than this line
    console().print(drawn)
    for result in report.cases:
        if result.error is not None:
            click.echo(f"{result.case.model} failed: {result.error}")

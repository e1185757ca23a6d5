"""``edgekit bench history``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.bench_options import share
from edgekit.cli.output import print_json


@click.command("history")
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[NEW.json...]")
@click.option("--label", metavar="TEXT", help="What to call NEW.json, such as a commit.")
@click.option("--html", "page", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with the trends.")
@click.option("--overwrite", is_flag=True, help="Replace FILE when it exists.")
@click.option(
    "--fail-over", callback=share, metavar="SHARE", help="Exit code 1 when the last one is slower by more, surely: 5%."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison of the last two as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    files: tuple[Path, ...],
    label: str | None,
    page: Path | None,
    overwrite: bool,
    fail_over: float | None,
    as_json: bool,
) -> None:
    """Keep benchmarks in FOLDER, and show how each case went.

    NEW.json, which `edgekit bench -o` wrote, is added first. Then the last benchmark is compared with the one before it.
    """
    from edgekit.bench.history import add_to_history, read_history
    from edgekit.bench.results import BenchmarkReport
    from edgekit.files import check_writable, write_whole

    if page is not None:
        check_writable(page, overwrite=overwrite)
    for report in [BenchmarkReport.read(path) for path in files]:
        add_to_history(folder, report, label)
    history = read_history(folder)
    for problem in history.problems:
        click.echo(f"left out: {problem}", err=True)
    if page is not None:
        write_whole(page, history.html().encode(), overwrite=overwrite)
    if len(history.entries) < 2:
        click.echo(
            f"{len(history.entries)} benchmark{'s' if len(history.entries) != 1 else ''} in {folder}: two can be compared",
            err=True,
        )
        if as_json:
            print_json(None)
        return
    found = history.compare_latest(fail_over=fail_over)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.markdown())
    if not found.passed:
        ctx.exit(1)

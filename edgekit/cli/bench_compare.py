"""``edgekit bench compare``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.bench_options import share
from edgekit.cli.output import print_json, print_table


@click.command("compare")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="A.json B.json...")
@click.option(
    "--fail-over", callback=share, metavar="SHARE", help="Exit code 1 when a case is slower by more, surely: 5%."
)
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(
    ctx: click.Context, files: tuple[Path, ...], fail_over: float | None, markdown: bool, as_json: bool
) -> None:
    """Compare benchmarks that `edgekit bench -o` wrote with the first of them."""
    from edgekit.bench.compare import compare
    from edgekit.bench.results import BenchmarkReport

    found = compare(
        [BenchmarkReport.read(path) for path in files], fail_over=fail_over, labels=[path.name for path in files]
    )
    if as_json:
        print_json(found.to_json())
    elif markdown:
        click.echo(found.markdown(), nl=False)
    else:
        titles, rows = found.rows()
        print_table(f"Latency against {found.base}", titles, rows)
        notes = [text for item in found.against for text in (*item.differences, *item.warnings)]
        for text in dict.fromkeys((*found.failures, *notes)):
            click.echo(f"- {text}")
        if found.fail_over is not None:
            click.echo(f"{'passed' if found.passed else 'FAILED'}: at most {100 * found.fail_over:g} % slower")
    if not found.passed:
        ctx.exit(1)

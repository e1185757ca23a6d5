"""``edgekit demo``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.output import print_json, print_pairs, progress_bar


@click.command("demo")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("edgekit-demo"), show_default=True, metavar="DIR",
    help="Folder for the models, the log, the benchmark and the report.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the demo's files when DIR exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(output: Path, overwrite: bool, as_json: bool) -> None:
    """Train, convert, prove and benchmark a small model, offline.

    A small convolutional network learns scikit-learn's real handwritten digits, is converted to int8, proven against
    the float model, run and measured. DIR then holds both models, the latency log, the benchmark and report.html.
    """
    from edgekit.demo import FILES, run_demo

    with progress_bar() as progress:
        result = run_demo(output, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(result.to_json())
        return
    print_pairs("Handwritten digits, float against int8 (95 % intervals in brackets)", result.rows())
    for name in FILES:
        click.echo(str(output / name))

"""``edgekit bench report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.bench_files import Files, file_options
from edgekit.cli.output import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.bench import BenchmarkReport


@click.command("report")
@click.argument("benchmarks", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE.json...")
@file_options
@click.option(
    "--profile", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="For --html: what `edgekit bench profile -o` wrote.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures and verdicts as JSON, without raw samples.")
@click.pass_context
def command(
    ctx: click.Context,
    benchmarks: tuple[Path, ...],
    files: Files,
    profile: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show benchmarks that `edgekit bench -o` wrote: as a table, one page with plots, CSV or Markdown.

    With several files the later ones are compared with the first.
    """
    from edgekit.bench.accuracy import read_verified
    from edgekit.bench.results import BenchmarkReport
    from edgekit.report.profile_parts import read_profile

    files.check(ctx, [*benchmarks, *profile], as_json=as_json, profile=bool(profile))
    reports = list(zip(_labels(benchmarks), map(BenchmarkReport.read, benchmarks), strict=True))
    verified, profiles = [read_verified(text) for text in files.accuracy], [read_profile(path) for path in profile]
    files.write(reports, verified=verified, profiles=profiles)
    if as_json:
        print_json(_json(reports))
    elif not files.to_stdout:
        _print(reports)


def _labels(files: Sequence[Path]) -> list[str]:
    """Each file's name; its path where two have one name."""
    names = [path.name for path in files]
    return names if len(set(names)) == len(names) else [str(path) for path in files]


def _json(reports: Sequence[tuple[str, BenchmarkReport]]) -> dict[str, Any]:
    from edgekit.bench.compare import compare
    from edgekit.bench.results import FIELDS
    from edgekit.report.fields import as_json

    comparison = None
    if len(reports) > 1:
        comparison = compare([report for _, report in reports], labels=[label for label, _ in reports]).to_json()
    return {
        "type": "edgekit-bench-report",
        "schema": 1,
        "benchmarks": [
            {
                "label": label,
                "interrupted": report.interrupted,
                "verdict": report.verdict.to_json(),
                "cases": [as_json(FIELDS, result) for result in report.cases],
            }
            for label, report in reports
        ],
        "comparison": comparison,
    }


def _print(reports: Sequence[tuple[str, BenchmarkReport]]) -> None:
    from edgekit.bench.compare import compare
    from edgekit.cli.bench_table import print_report

    for label, report in reports:
        if len(reports) > 1:
            click.echo(label)
        print_report(report, here=False)
        if len(reports) > 1:
            click.echo()
    if len(reports) > 1:
        found = compare([report for _, report in reports], labels=[label for label, _ in reports])
        print_table(f"Latency against {found.base}", *found.rows())

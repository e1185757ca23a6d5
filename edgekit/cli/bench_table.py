"""How a benchmark is shown in a terminal: a row for each case with a small histogram, what failed, and whether to believe the rest."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from edgekit.cli.output import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.bench import BenchmarkReport, CaseResult
    from edgekit.report.fields import Field

#: Not columns here: the error has a line of its own, and so has the verdict on a single case.
_BELOW = frozenset({"error"})
_ALONE = frozenset({"verdict"})
#: What a table does without when there is no room for it, in this order; energy has a line below, too. A model's name is folded to so
#: many letters.
_SPARE = (
    "energy_per_inference_j",
    "verdict",
    "p99_ns",
    "first_run_ns",
    "load_ns",
    "rerun_ns",
    "histogram",
    "p90_ns",
    "peak_rss_bytes",
)
_NAME_WIDTH = 24
#: Letters of a small histogram.
_HISTOGRAM_WIDTH = 10
#: Terminals whose fonts or programs lack the block characters.
_PLAIN = ("linux", "dumb")


def print_report(report: BenchmarkReport, *, here: bool = True) -> None:
    """Print a benchmark: a table as wide as its figures need, and below it what failed and the verdict.

    Args:
        report: what to show.
        here: whether it was measured just now on this machine, which can then say why it has no energy source.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgekit.bench.cases import case_names
    from edgekit.bench.results import FIELDS
    from edgekit.report.bench_rows import histogram_field, with_histogram

    alike = len({launch.threads for result in report.cases for launch in result.launches}) < 2
    hidden = _BELOW | ({"threads"} if alike else set()) | (_ALONE if len(report.cases) == 1 else set())
    out = console()
    fields = [field for field in FIELDS if field.key not in hidden]
    drawn = histogram_field(_HISTOGRAM_WIDTH, blocks=shows_blocks())
    titles, rows, left_out = _fitting(with_histogram(fields, drawn), report.cases, out.width)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(titles):
        shown.add_column(name, overflow="fold", no_wrap=number > 0)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    out.print(Text(_title(report, alike), style="bold"), soft_wrap=True)  # a table of failures is narrower
    out.print(shown)
    if left_out:
        click.echo(f"Not shown for want of room: {', '.join(left_out)}; --json has everything.")
    for name, result in zip(case_names(report.cases), report.cases, strict=True):
        if result.error is not None:
            click.echo(f"{name} failed: {result.error}")
    _print_verdict(report, here)


def shows_blocks() -> bool:
    """Whether stdout can show block characters, as far as that is known."""
    if os.environ.get("TERM") in _PLAIN and sys.stdout.isatty():
        return False
    from edgekit.report.sparks import BLOCKS

    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


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
    if remote := report.host.get("remote"):
        parts.append(f"on {remote['value']}")
    return ", ".join(parts)


def _span(numbers: list[int]) -> str:
    return str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"


def _print_verdict(report: BenchmarkReport, here: bool) -> None:
    from rich.text import Text

    from edgekit.report.bench_rows import rule_text

    if not any(result.launches for result in report.cases):
        return
    verdict = report.verdict
    style = {"VALID": "green", "NOISY": "bold yellow"}.get(verdict.level, "bold red")
    console().print(Text(verdict.level, style=style))
    for reason in verdict.reasons:
        click.echo(f"- {reason}")
    click.echo(rule_text(report))
    _print_energy(report, here)


def _print_energy(report: BenchmarkReport, here: bool) -> None:
    """What an inference takes, or why that is not known."""
    from edgekit.bench.cases import case_names
    from edgekit.bench.energy import no_source, per_inference

    found = [(name, per_inference(result)) for name, result in zip(case_names(report.cases), report.cases, strict=True)]
    for name, energy in found:
        if energy is not None:
            click.echo(f"energy of {name}: {energy}")
    if all(energy is None for _, energy in found):
        told = report.host.get("no_energy_source")  # by the machine that measured, where that is another one
        click.echo(f"energy: {told['value'] if told else no_source() if here else 'there was no source'}")

"""A benchmark as CSV, for programs and spreadsheets, and as Markdown, for a pull request: both from its one list of fields."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from edgekit.bench.cases import CaseResult, case_names
from edgekit.bench.figures import FIELDS
from edgekit.bench.launch import SERVER, SINGLE_STREAM, Launch
from edgekit.bench.results import BenchmarkReport
from edgekit.bench.validity import verdict_of
from edgekit.report.fields import NOTHING, Field, table
from edgekit.report.sparks import counts, spark

#: What to call a benchmark, and the benchmark.
Labelled = tuple[str, BenchmarkReport]

_INTERVAL = ("value", "low", "high")
#: Fields that hold several figures: what is taken of each, and its column. A test sees to it that none is missing.
PARTS: Mapping[str, tuple[tuple[str | int, str], ...]] = {
    "median_ns": (*zip(_INTERVAL, ("median_ns", "median_low_ns", "median_high_ns"), strict=True),),
    "full_pace_ns": (*zip(_INTERVAL, ("full_pace_ns", "full_pace_low_ns", "full_pace_high_ns"), strict=True),),
    "rerun_ns": ((0, "rerun_low_ns"), (1, "rerun_high_ns")),
    "samples_per_s": (*zip(_INTERVAL, ("samples_per_s", "samples_low_per_s", "samples_high_per_s"), strict=True),),
    "confirmed": ((0, "confirmed_launches"),),
    "energy_per_inference_j": (
        ("joules", "energy_per_inference_j"), ("low", "energy_per_inference_low_j"), ("high", "energy_per_inference_high_j"),
        ("idle_w", "idle_w"), ("source", "energy_source"),
    ),
    "ratio_to_first": (*zip(_INTERVAL, ("ratio_to_first", "ratio_low", "ratio_high"), strict=True),),
}  # fmt: skip
#: Columns before those of the fields: what the benchmark was and what the case.
_BEFORE = ("benchmark", "started_utc", "edgekit", "inputs")
_CASE = ("sha256", "size_bytes", "delegate_asked", "delegate_got", "device", "percentile", "rate_per_s")
_AFTER = ("reasons",)
#: A spreadsheet takes a text that begins so for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SPARK_WIDTH = 16
#: The heading of the column with small histograms: from where to where they reach.
HISTOGRAM = "min–p99"


def histogram_field(width: int, *, blocks: bool = True) -> Field[CaseResult]:
    """A column with a small histogram of each case's runs.

    Args:
        width: in letters.
        blocks: see ``spark``.
    """
    return Field(
        "histogram",
        HISTOGRAM if blocks else HISTOGRAM.replace("–", "-"),
        lambda result: counts([value for launch in result.launches for value in launch.total_ns], width) or None,
        lambda columns: spark(columns, blocks=blocks),
    )


def with_histogram(fields: Sequence[Field[CaseResult]], field: Field[CaseResult]) -> list[Field[CaseResult]]:
    """Fields with that of the histograms among them, behind the percentiles.

    Args:
        fields: of cases.
        field: see ``histogram_field``.
    """
    place = next((number for number, item in enumerate(fields, 1) if item.key == "p99_ns"), len(fields))
    return [*fields[:place], field, *fields[place:]]


def csv_text(reports: Sequence[Labelled]) -> str:
    """A row for each case with every figure, and in the first row what each column is; units are in the names.

    Args:
        reports: one or more.
    """
    names = [column for field in FIELDS for _, column in PARTS.get(field.key, ((0, field.key),))]
    rows: list[Sequence[Any]] = [(*_BEFORE, *_CASE, *names, *_AFTER)]
    for label, report in reports:
        before = (label, _moment(report.started_unix_s), report.edgekit, report.inputs)
        for result in report.cases:
            figures = [value for field in FIELDS for value in _values(field, result)]
            reasons = "; ".join(verdict_of(result).reasons) if result.launches else ""
            rows.append((*before, *_case(result), *figures, reasons))
    return _written(rows)


def samples_csv_text(reports: Sequence[Labelled]) -> str:
    """A row for each run that is in the files: warm-up and steady runs, and the queries of the server scenario's trials.

    Args:
        reports: one or more.
    """
    rows: list[Sequence[Any]] = [
        ("benchmark", "case", "launch", "phase", "run", "total_ns", "invoke_ns", "trial_rate_per_s")
    ]
    for label, report in reports:
        for name, result in zip(case_names(report.cases), report.cases, strict=True):
            for number, launch in enumerate(result.launches, 1):
                rows += [(label, name, number, *row) for row in _runs(launch)]
    return _written(rows)


def _runs(launch: Launch) -> Iterator[tuple[Any, ...]]:
    yield "first", 1, launch.first_run_ns, None, None
    for number, value in enumerate(launch.warmup_ns, 1):
        yield "warm-up", number, value, None, None
    for number, value in enumerate(launch.total_ns, 1):
        invoke = launch.invoke_ns[number - 1] if number <= len(launch.invoke_ns) else None
        yield "steady", number, value, invoke, None
    for trial in launch.trials:
        for number, value in enumerate(trial.latency_ns, 1):
            yield trial.purpose, number, value, None, trial.rate_per_s


def _written(rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[_cell(value) for value in row] for row in rows])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = " ".join(value.split("\0"))
        return f"'{text}" if text.startswith(_FORMULA) else text
    return value


def _values(field: Field[CaseResult], result: CaseResult) -> Iterator[Any]:
    value = field.value(result)
    if field.key not in PARTS:
        yield value
    else:
        for part, _ in PARTS[field.key]:
            yield None if value is None else value[part]


def _case(result: CaseResult) -> tuple[Any, ...]:
    case = result.case
    asked, got = (_delegate(result, side) for side in ("asked", "got"))
    return case.sha256, case.size_bytes, asked or case.delegate, got, case.device, case.percentile, case.rate_per_s


def _delegate(result: CaseResult, side: str) -> Any:
    return getattr(result.launches[0], side).get("delegate") if result.launches else None


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def markdown_text(reports: Sequence[Labelled]) -> str:
    """A section for each benchmark: the verdict, a table of its cases, what failed, and the machine.

    Args:
        reports: one or more; with several, the later ones are compared with the first.
    """
    from edgekit.bench.compare import compare

    parts = [_section(label, report) for label, report in reports]
    if len(reports) > 1:
        parts.append(compare([report for _, report in reports], labels=[label for label, _ in reports]).markdown())
    return "\n".join(parts)


def _section(label: str, report: BenchmarkReport) -> str:
    titles, rows = table(with_histogram(FIELDS, histogram_field(_SPARK_WIDTH)), report.cases)
    drawn = titles.index(HISTOGRAM) if HISTOGRAM in titles else -1
    names = ("model", "asked → got", "scenario", "verdict", "error")
    lines = [f"### Benchmark{f' {markdown_escape(label)}' if label else ''}", ""]
    if any(result.launches for result in report.cases):
        lines += [f"**{report.verdict.level}**", ""]
        lines += [*(f"- {markdown_escape(reason)}" for reason in report.verdict.reasons), ""] * bool(
            report.verdict.reasons
        )
    lines.append(f"| {' | '.join(titles)} |")
    lines.append(
        f"|{'|'.join('---' if title in names or column == drawn else '---:' for column, title in enumerate(titles))}|"
    )
    for row in rows:
        cells = [
            # No-break spaces: Markdown would trim and join blanks.
            f"`{cell.replace(' ', chr(0xA0))}`" if column == drawn and cell != NOTHING else markdown_escape(cell)
            for column, cell in enumerate(row)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    cpu = machine_text(report)
    lines += [
        "",
        f"{markdown_escape(cpu)}{', ' if cpu else ''}edgekit {report.edgekit}, {_moment(report.started_unix_s)}.",
    ]
    return "\n".join(lines) + "\n"


def machine_text(report: BenchmarkReport) -> str:
    """The machine in a line: its board or product, and its processor, as far as they are known.

    Args:
        report: a benchmark.
    """
    found = []
    for key in ("device_tree_model", "product", "cpu_model", "machine"):
        fact = report.host.get(key)
        value = fact.get("value") if isinstance(fact, Mapping) else fact
        if value and str(value) not in found:
            found.append(str(value))
    cores = report.host.get("logical_cores")
    count = cores.get("value") if isinstance(cores, Mapping) else None
    return ", ".join([*found, *([f"{count} processor{'s' if count != 1 else ''}"] if count else [])])


def rule_text(report: BenchmarkReport) -> str:
    """What MLPerf's rules say of the number of samples, beside the number of a benchmark.

    Args:
        report: one with at least one launch.
    """
    from edgekit.bench.scenarios import sample_rule

    case = report.cases[0].case
    measured = [result for result in report.cases if result.launches]
    if case.scenario == SINGLE_STREAM:
        count = min(result.summary.count for result in measured)
    elif case.scenario == SERVER:
        count = 0
    else:
        count = min(sum(launch.samples or 0 for launch in result.launches) for result in measured)
    return sample_rule(case.scenario, count, case.percentile)


def markdown_escape(text: str) -> str:
    """Text that is text in a Markdown table's cell: no markup, no HTML, no end of the cell or the line."""
    return re.sub(r"([\\`*\[\]<>|]|(?<!\w)_|_(?!\w)|^#)", r"\\\1", " ".join(text.split()))

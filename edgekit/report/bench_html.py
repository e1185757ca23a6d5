"""One or more benchmarks as one page: whether to believe them, what was measured, each case's times, and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any

from edgekit.bench.accuracy import Accuracy, Key
from edgekit.bench.cases import case_names
from edgekit.bench.compare import compare
from edgekit.bench.energy import per_inference
from edgekit.bench.figures import FIELDS
from edgekit.bench.op_times import OpProfile
from edgekit.bench.results import BenchmarkReport
from edgekit.report import html
from edgekit.report.bench_case import GOOD, case_parts
from edgekit.report.bench_compared import accuracy_parts, comparison_parts, overview
from edgekit.report.bench_rows import Labelled, machine_text, rule_text
from edgekit.report.fields import table
from edgekit.report.profile_parts import profile_parts
from edgekit.report.units import size_text

#: More cases than this are folded at first.
_OPEN = 3
#: More cases than this are not among the links at the top, one by one.
_LISTED = 12
#: Columns of all pictures over time together, so that a page of a hundred cases stays small; of one there are so many at most.
_COLUMNS, _MOST_COLUMNS, _FEWEST_COLUMNS = 9000, 300, 40
#: The processor features worth a line: those that kernels can use.
_SIMD = ("sse4", "avx", "amx", "fma", "f16c", "neon", "asimd", "sve", "i8mm", "bf16")
_LONG = 300


def bench_page(
    reports: Sequence[Labelled],
    *,
    accuracy: Mapping[Key, Accuracy] | None = None,
    profiles: Sequence[OpProfile] = (),
) -> str:
    """Build the page.

    Args:
        reports: what to call each benchmark, and the benchmark; the later ones are compared with the first.
        accuracy: the models' figures, where they are known.
        profiles: times by operator, where they were measured.

    Returns:
        HTML with everything in it, to be saved as UTF-8.
    """
    from edgekit import __version__

    several = len(reports) > 1
    count = sum(len(report.cases) for _, report in reports)
    columns = min(_MOST_COLUMNS, max(_FEWEST_COLUMNS, _COLUMNS // max(1, count)))
    contents: list[tuple[str, str]] = []
    parts: list[html.Part] = []

    def add(anchor: str, title: str, inside: Sequence[html.Part]) -> None:
        if inside:
            contents.append((anchor, title))
            parts.append(html.Section(title, inside, anchor))

    if several:
        found = compare([report for _, report in reports], labels=[label for label, _ in reports])
        add("compared", f"Compared with {found.base}", comparison_parts(found))
    named = [
        (f"{label}: {name}" if several else name, result)
        for label, report in reports
        for name, result in zip(case_names(report.cases), report.cases, strict=True)
    ]
    add("accuracy", "Accuracy against latency", accuracy_parts(named, accuracy or {}))
    for number, (label, report) in enumerate(reports, 1):
        add(f"figures-{number}", f"Figures of {label}" if several else "Figures", list(_figures(report)))
    if len(named) > _LISTED:
        add("cases", "Cases", [html.Text(f"{len(named)} cases, folded; a line opens when it is chosen.", soft=True)])
    for number, (name, result) in enumerate(named, 1):
        inside = case_parts(result, alone=len(named) == 1, columns=columns)
        anchor = f"case-{number}"
        if len(named) <= _LISTED:
            contents.append((anchor, name))
        parts.append(html.Details(name, inside, len(named) <= _OPEN, anchor))
    for number, profile in enumerate(profiles, 1):
        add(
            f"operators-{number}",
            f"Operators of {PurePath(profile.model).name} on {profile.delegate}",
            profile_parts(profile),
        )
    for number, (label, report) in enumerate(reports, 1):
        of = f" ({label})" if several else ""
        add(f"method-{number}", f"How it was measured{of}", [html.Table(_method(report))])
        add(f"machine-{number}", f"The machine{of}", [_machine(report)])
    return html.page(
        _title(reports),
        _lead(reports),
        [*_verdicts(reports), html.Contents(contents), *parts],
        f"Made by edgekit {__version__}.",
    )


def _title(reports: Sequence[Labelled]) -> str:
    models = list(dict.fromkeys(result.case.model for _, report in reports for result in report.cases))
    return f"Benchmark of {models[0]}" if len(models) == 1 else f"Benchmark of {len(models)} models"


def _lead(reports: Sequence[Labelled]) -> str:
    _, first = reports[0]
    when = " and ".join(dict.fromkeys(_moment(report.started_unix_s)[:10] for _, report in reports))
    counts = [
        sum(len(report.cases) for _, report in reports),
        sum(len(item.launches) for _, report in reports for item in report.cases),
    ]
    words = ", ".join(
        f"{count} {one if count == 1 else many}" for count, (one, many) in zip(counts, _COUNTED, strict=True)
    )
    machine = machine_text(first)
    return f"{words}, {when}{f', on {machine}' if machine else ''}."


_COUNTED = (("case", "cases"), ("launch", "launches"))


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _verdicts(reports: Sequence[Labelled]) -> list[html.Part]:
    parts: list[html.Part] = []
    for label, report in reports:
        found, note = report.verdict, label if len(reports) > 1 else ""
        words = {"VALID": "The conditions were recorded, and nothing speaks against the figures."}.get(found.level, "")
        parts.append(
            html.Judgement(found.level, found.reasons, GOOD[found.level], " ".join(filter(None, (note, words))))
        )
        failed = [
            f"{name}: {result.error}"
            for name, result in zip(case_names(report.cases), report.cases, strict=True)
            if result.error is not None
        ]
        if failed:
            parts.append(html.Judgement(f"{len(failed)} failed", failed, False, note))
    return parts


def _figures(report: BenchmarkReport) -> list[html.Part]:
    titles, rows = table([field for field in FIELDS if field.key != "error"], report.cases)
    parts: list[html.Part] = [html.Table(rows, titles, (), "Figures of all cases"), *overview(report)]
    if any(result.launches for result in report.cases):
        parts.append(html.Text(rule_text(report), soft=True))
    if all(per_inference(result) is None for result in report.cases):
        parts.append(html.Text("Energy: there was no source.", soft=True))
    return parts


def _method(report: BenchmarkReport) -> list[tuple[str, str]]:
    launches = [launch for result in report.cases for launch in result.launches]
    rows = [
        ("began", _moment(report.started_unix_s)),
        ("scenario", _joined(result.case.scenario for result in report.cases)),
        ("inputs", "random, valid for type and range" if report.inputs == "random" else report.inputs),
        (
            "steady runs",
            "about a second of them in each launch" if report.runs is None else f"{report.runs} in each launch",
        ),
        ("warm-up", "until the times have no trend" if report.warmup is None else f"{report.warmup} runs"),
        ("launches", _launches(report)),
        ("interpreter", _joined(launch.engine for launch in launches)),
        ("threads", _joined(launch.threads for launch in launches)),
        ("ended early", "yes: it was interrupted" if report.interrupted else ""),
        ("edgekit", report.edgekit),
    ]
    rows += [
        (f"delegate of {result.case.model}", f"{launch.asked.get('delegate')}: {launch.asked['reason']}")
        for result in report.cases
        for launch in result.launches[:1]
        if launch.asked.get("reason")
    ]
    energy = next((found for result in report.cases if (found := per_inference(result)) is not None), None)
    if energy is not None:
        rows.append(("energy source", energy.source))
    return [row for row in dict.fromkeys(rows) if row[1]]


def _launches(report: BenchmarkReport) -> str:
    if report.launches is not None:
        return f"{report.launches} of each case, each a process, in turn"
    words = "each a process, in turn"
    if report.target is not None:
        words += f", until the median's 95 % interval is {100 * report.target:g} % wide"
    if report.budget_s is not None:
        words += f" or {report.budget_s:g} s are over"
    return words


def _joined(values: Any) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def _machine(report: BenchmarkReport) -> html.Part:
    rows = []
    for name, fact in report.host.items():
        value, source = (fact.get("value"), fact.get("source")) if isinstance(fact, Mapping) else (fact, "")
        if value is None:
            continue
        title = str(name).replace("_", " ")
        if name == "cpu_flags" and isinstance(value, list):
            title, value = "SIMD features", [flag for flag in value if str(flag).startswith(_SIMD)]
        if str(name).endswith("_bytes") and isinstance(value, int | float):
            title, value = title.removesuffix(" bytes"), size_text(value)
        if str(name).endswith("_c") and isinstance(value, int | float):
            title, value = title.removesuffix(" c"), f"{value:.0f} °C"
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        rows.append((title, text if len(text) <= _LONG else f"{text[:_LONG]}…", str(source or "")))
    if not rows:
        return html.Text("Nothing was recorded of it.", soft=True)
    return html.Table(rows, ("fact", "value", "where it was read"))

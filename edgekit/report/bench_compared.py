"""The cases of a benchmark held against each other: medians, ratios, a sweep's table, and accuracy against latency."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from edgekit.bench.accuracy import Accuracy, Key, convex_front
from edgekit.bench.cases import CaseResult, case_names
from edgekit.bench.compare import Comparison
from edgekit.bench.launch import SERVER
from edgekit.bench.results import BenchmarkReport
from edgekit.bench.validity import INVALID, verdict_of
from edgekit.report import html
from edgekit.report.bench_case import unit_of
from edgekit.report.fields import NOTHING
from edgekit.report.forest import Estimate, Forest
from edgekit.report.scatter import Dot, Line, Scatter
from edgekit.report.units import milliseconds, percent

#: So many points draw a line of the front, which is straight on linear axes only.
_STEPS = 16


def overview(report: BenchmarkReport) -> Iterator[html.Part]:
    """Pictures of all cases beside each other; nothing for a single one.

    Args:
        report: a benchmark.
    """
    names = case_names(report.cases)
    if len(names) < 2:
        return
    pictures = [part for part in (_medians(report, names), _throughputs(report, names), _ratios(report, names)) if part]
    if pictures:
        yield html.Row(pictures)
    yield from _sweeps(report)


def _sound(result: CaseResult) -> bool:
    return verdict_of(result).level != INVALID


def _medians(report: BenchmarkReport, names: Sequence[str]) -> html.Part | None:
    found = [(name, result, result.steady) for name, result in zip(names, report.cases, strict=True)]
    known = [(name, result, interval) for name, result, interval in found if interval is not None]
    if len(known) < 2:
        return None
    factor, unit = unit_of(max(interval.value for _, _, interval in known))
    items = [
        Estimate(
            name, interval.value / factor, milliseconds(interval.value),
            None if interval.low is None else interval.low / factor,
            None if interval.high is None else interval.high / factor, _sound(result),
        )
        for name, result, interval in known
    ]  # fmt: skip
    return Forest("Median run", unit, items, "With 95 % intervals over launches; hollow points are INVALID.")


def _throughputs(report: BenchmarkReport, names: Sequence[str]) -> html.Part | None:
    items = []
    for name, result in zip(names, report.cases, strict=True):
        rate, found = result.highest_rate_per_s, result.throughput
        if rate is not None:
            items.append(Estimate(name, rate, f"{rate:.4g} per s", sound=_sound(result)))
        elif found is not None and (not result.medians_ns or result.case.batch is not None):
            items.append(Estimate(name, found.value, f"{found.value:.4g} per s", found.low, found.high, _sound(result)))
    if not items:
        return None
    server = report.cases[0].case.scenario == SERVER
    title, unit = ("Highest valid rate", "queries per s") if server else ("Samples per second", "per s")
    return Forest(title, unit, items, "" if server else "With 95 % intervals over launches; hollow points are INVALID.")


def _ratios(report: BenchmarkReport, names: Sequence[str]) -> html.Part | None:
    items = [
        Estimate(
            name, result.ratio.value, f"{result.ratio.value:.3g}", result.ratio.low, result.ratio.high, _sound(result)
        )
        for name, result in zip(names, report.cases, strict=True)
        if result.ratio is not None
    ]
    if not items:
        return None
    caption = f"Time as a multiple of that of {names[0]}, with 95 % intervals over rounds; below 1 is faster."
    return Forest("Against the first", "×", items, caption, 1.0)


def _sweeps(report: BenchmarkReport) -> Iterator[html.Part]:
    """A table for each model that was measured in more than two ways: delegates across, threads and batches down."""
    for model in dict.fromkeys((result.case.model, result.case.sha256) for result in report.cases):
        cases = [result for result in report.cases if (result.case.model, result.case.sha256) == model]
        if len(cases) > 2:
            yield _sweep(model[0], cases)


def _sweep(model: str, cases: Sequence[CaseResult]) -> html.Part:
    across = list(dict.fromkeys(result.case.delegate for result in cases))
    down = list(dict.fromkeys((result.case.threads, result.case.batch) for result in cases))
    by_place = {(result.case.delegate, (result.case.threads, result.case.batch)): result for result in cases}
    figures = {place: _figure(result) for place, result in by_place.items()}
    known = [value for value, _ in figures.values() if value is not None]
    best, worst = min(known, default=1.0), max(known, default=1.0)

    def cell(delegate: str | None, row: tuple[int | None, int | None]) -> tuple[str, float | None]:
        value, text = figures.get((delegate, row), (None, NOTHING))
        if value is None:
            return text, None
        # By ratio: twice as long is as far apart everywhere.
        return text, 0.75 * (1.0 if worst <= best else 1 - math.log(value / best) / math.log(worst / best))

    batches = len({batch for _, batch in down}) > 1
    rows = [(_row_name(row, batches), [cell(delegate, row) for delegate in across]) for row in down]
    heads = ["", *(delegate or "default delegate" for delegate in across)]
    per = "per sample" if batches else "per run"
    return html.HeatTable(
        f"{model}: all combinations", heads, rows,
        f"Median time {per}; the more colour the faster. What failed is named, and says why below.",
    )  # fmt: skip


def _row_name(row: tuple[int | None, int | None], batches: bool) -> str:
    threads, batch = row
    words = "default threads" if threads is None else f"{threads} thread{'s' if threads != 1 else ''}"
    return f"{words}, {'default batch' if batch is None else f'batch {batch}'}" if batches else words


def _figure(result: CaseResult) -> tuple[float | None, str]:
    """A case's time, less being better, and its text."""
    if result.error is not None:
        return None, "failed"
    rate = result.highest_rate_per_s
    if rate is not None:
        return 1e9 / rate, f"{rate:.4g} per s"
    if result.steady is not None:
        value = result.steady.value / (result.case.batch or 1)
        return value, milliseconds(value)
    if result.throughput is not None:
        return 1e9 / result.throughput.value, f"{result.throughput.value:.4g} per s"
    return None, NOTHING


def accuracy_parts(cases: Sequence[tuple[str, CaseResult]], known: Mapping[Key, Accuracy]) -> list[html.Part]:
    """Accuracy against latency, a picture and a table for each metric.

    Args:
        cases: each with its name.
        known: the models' figures.

    Returns:
        Nothing where no timed case has a figure.
    """
    found = [
        (name, result, figure)
        for name, result in cases
        if result.steady is not None and (figure := known.get((result.case.model, result.case.sha256))) is not None
    ]
    parts: list[html.Part] = []
    for metric in dict.fromkeys(figure.metric for _, _, figure in found):
        parts += _against_latency(metric, [item for item in found if item[2].metric == metric])
    without = [name for name, result in cases if (result.case.model, result.case.sha256) not in known]
    if parts and without:
        parts.append(html.Text(f"Of these no accuracy is known: {', '.join(without)}.", soft=True))
    return parts


def _against_latency(metric: str, items: Sequence[tuple[str, CaseResult, Accuracy]]) -> list[html.Part]:
    factor, unit = unit_of(max(result.steady.value for _, result, _ in items if result.steady is not None))
    scale = 100.0 if items[0][2].share else 1.0
    points, dots, rows, marks = [], [], [], []
    for _, result, figure in items:
        assert result.steady is not None  # accuracy_parts has looked
        points.append((result.steady.value / (result.case.batch or 1) / factor, scale * figure.value))
    front = convex_front(points)
    for number, ((name, result, figure), (x, y)) in enumerate(zip(items, points, strict=True), 1):
        interval = result.steady
        assert interval is not None
        of = factor * (result.case.batch or 1)
        text = _accuracy_text(figure)
        x_ends = None if interval.low is None or interval.high is None else (interval.low / of, interval.high / of)
        y_ends = None if figure.low is None or figure.high is None else (scale * figure.low, scale * figure.high)
        on = number - 1 in front
        dots.append(
            Dot(x, y, f"{number} {name}: {x:.3g} {unit}, {text}", str(number), on, x_ends=x_ends, y_ends=y_ends)
        )
        rows.append(
            (f"{number} {name}", "on the front" if on else "behind it", milliseconds(x * factor), text, figure.origin)
        )
        marks.append(True if on else None)
    lines = []
    if len(front) > 1:
        lines = [
            Line(
                [point for ends in itertools.pairwise(points[number] for number in front) for point in _between(*ends)],
                "the front",
            )
        ]
    batched = any(result.case.batch for _, result, _ in items)
    picture = Scatter(
        f"{metric[:1].upper()}{metric[1:]} against latency", f"{unit} {'per sample' if batched else 'per run'}", "%" if scale > 1 else metric, dots, lines,
        "Full points are on the front: each of the others is slower and no more accurate than a point of it, or lies below a line between two. "
        "Lines are 95 % intervals.", (None, False),
    )  # fmt: skip
    return [
        html.Row([picture]),
        html.Table(rows, ("model", "choice", "median", metric, "measured on"), marks, f"{metric} and latency"),
    ]


def _between(first: tuple[float, float], last: tuple[float, float]) -> Iterator[tuple[float, float]]:
    for step in range(_STEPS + 1):
        share = step / _STEPS
        yield first[0] + share * (last[0] - first[0]), first[1] + share * (last[1] - first[1])


def _accuracy_text(figure: Accuracy) -> str:
    if not figure.share:
        ends = "" if figure.low is None or figure.high is None else f" ({figure.low:.4g} to {figure.high:.4g})"
        return f"{figure.value:.4g}{ends}"
    ends = "" if figure.low is None or figure.high is None else f" ({100 * figure.low:.1f} to {100 * figure.high:.1f})"
    return f"{percent(figure.value)}{ends}"


def comparison_parts(found: Comparison) -> list[html.Part]:
    """Benchmarks compared with the first one: ratios as a picture, and the table with what to know of it.

    Args:
        found: what ``compare`` gives.
    """
    parts: list[html.Part] = []
    several = len(found.against) > 1
    items = [
        Estimate(
            f"{item.label}: {change.name}" if several else change.name, change.ratio, f"{change.ratio:.3f}, {change.word}",
            change.low, change.high, item.same_host,
        )
        for item in found.against
        for change in item.changes
        if change.ratio is not None
    ]  # fmt: skip
    if items:
        caption = f"Time as a multiple of that in {found.base}, with bootstrap 95 % intervals over launches; below 1 is faster."
        parts.append(html.Row([Forest(f"Against {found.base}", "×", items, caption, 1.0)]))
    titles, rows = found.rows()
    parts.append(html.Table(rows, titles, (), f"Comparison with {found.base}"))
    notes = [f"{item.label}: {text}" for item in found.against for text in (*item.differences, *item.warnings)]
    parts += [html.Text(note, soft=True) for note in dict.fromkeys(notes)]
    return parts

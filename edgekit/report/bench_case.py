"""One case of a benchmark as parts of a page: how its times are spread, how they went, what loading took, and its scenario's trials."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.bench.cases import CaseResult
from edgekit.bench.energy import per_inference
from edgekit.bench.figures import FIELDS
from edgekit.bench.launch import Launch, Trial
from edgekit.bench.validity import verdict_of
from edgekit.report import html
from edgekit.report.distribution import Histogram
from edgekit.report.fields import NOTHING
from edgekit.report.scatter import Dot, Line, Scatter
from edgekit.report.svg import Bar
from edgekit.report.timeline import Stretch, Timeline, Track
from edgekit.report.trend import Point, Trend
from edgekit.report.units import milliseconds, size_text
from edgekit.tensors import Array

#: The verdicts as a page colours them.
GOOD: Mapping[str, bool | None] = {"VALID": True, "NOISY": None, "INVALID": False}
#: Below this median a time is shown in microseconds.
_SMALL_NS = 100_000
_PERCENTILES = (50, 90, 99)
#: Figures of the large tiles, in this order, where a case has them.
_TILES = (
    "median_ns", "full_pace_ns", "highest_rate_per_s", "samples_per_s", "p90_ns", "p99_ns", "load_ns", "first_run_ns", "peak_rss_bytes",
    "energy_per_inference_j",
)  # fmt: skip


def case_parts(result: CaseResult, *, alone: bool, columns: int) -> list[html.Part]:
    """Everything that is known of a case.

    Args:
        result: one case.
        alone: whether it is the only one, so that its verdict stands above already.
        columns: how finely runs over time are drawn.
    """
    parts: list[html.Part] = []
    if result.error is not None:
        parts.append(html.Judgement("failed", [result.error], False))
    if not result.launches:
        return parts or [html.Text("It was not measured.", soft=True)]
    if not alone:
        found = verdict_of(result)
        parts.append(html.Judgement(found.level, found.reasons, GOOD[found.level]))
    parts.append(html.Tiles(list(_tiles(result))))
    parts.append(html.Row([*_times(result, columns), *_scenario(result), *_beside(result)]))
    parts.append(html.Details("All figures", [_all_figures(result)]))
    return parts


def _tiles(result: CaseResult) -> Iterator[html.Tile]:
    fields = {field.key: field for field in FIELDS}
    for key in _TILES:
        cell = fields[key].cell(result)
        if cell != NOTHING:
            yield html.Tile(fields[key].title, cell.partition(" ±")[0], _note(result, key))


def _note(result: CaseResult, key: str) -> str:
    if key in ("median_ns", "full_pace_ns"):
        found = result.interval if key == "median_ns" else result.steady
        return "" if found is None or found.width is None else f"95 % interval ±{50 * found.width:.2g} %"
    if key == "samples_per_s" and result.throughput is not None and result.throughput.low is not None:
        return f"95 %: {result.throughput.low:.4g} to {result.throughput.high:.4g}"
    if key == "highest_rate_per_s":
        case = result.case
        return f"{case.percentile} % within {milliseconds(case.latency_bound_ns or 0)}"
    return ""


def unit_of(median_ns: float) -> tuple[float, str]:
    """In what to show times: nanoseconds of the unit, and its name.

    Args:
        median_ns: what they lie around.
    """
    return (1e3, "µs") if 0 < median_ns < _SMALL_NS else (1e6, "ms")


def _times(result: CaseResult, columns: int) -> Iterator[html.Part]:
    times = np.array([value for launch in result.launches for value in launch.total_ns], dtype=float)
    factor, unit = unit_of(float(np.median(times)) if len(times) else 0.0)
    if len(times):
        summary = result.summary
        marks = {f"p{percent}": getattr(summary, f"p{percent}_ns") / factor for percent in _PERCENTILES}
        medians = [value / factor for value in result.medians_ns]
        count = len(result.launches)
        yield Histogram(
            "Time of a run", unit, list(times / factor), marks, medians,
            f"Steady runs of {count} launch{'es' if count != 1 else ''}. The small lines below the axis are the launches' medians.",
        )  # fmt: skip
    launches = sorted(result.launches, key=lambda launch: launch.started_unix_s)
    full_ns = result.full_pace_ns
    stretches = [_stretch(launch, number, launches[0], factor, full_ns) for number, launch in enumerate(launches, 1)]
    if any(len(item.steady) or item.temperature or item.frequency for item in stretches):
        yield Timeline("Over the launches", unit, stretches, _caption(stretches, launches), columns)
    if len(result.medians_ns) > 1:
        points = [
            Point(f"launch {number}", value / factor)
            for number, value in enumerate((float(np.median(item.total_ns)) for item in launches if item.total_ns), 1)
        ]
        yield Trend("Median of each launch", unit, points, "The axis does not begin at zero.")


def _caption(stretches: Sequence[Stretch], launches: Sequence[Launch]) -> str:
    shown = [
        (
            any(len(item.steady) for item in stretches),
            "runs (warm-up grey, the line the steady ones' medians, arrows beyond the axis)",
        ),
        (any(item.temperature for item in stretches), "the warmest zone"),
        (any(item.frequency for item in stretches), "the highest frequency"),
        (any(item.pace for item in stretches), "the processor's pace with a fixed piece of work"),
    ]
    words = [f"From above: {'; '.join(text for there, text in shown if there)}."]
    took = stretches[-1].end_s - stretches[0].begin_s
    pauses = sum(max(0.0, after.begin_s - before.end_s) for before, after in itertools.pairwise(stretches))
    if len(launches) > 1:
        words.append(f"{took:.0f} s in all; the gaps are drawn short, and {pauses:.0f} s of it were between launches.")
    return " ".join(words)


def _stretch(launch: Launch, number: int, first: Launch, factor: float, full_pace_ns: float | None) -> Stretch:
    """Where each run lies on the calendar's clock: their times are kept, and when the steady ones began."""
    warm_ns = np.asarray(launch.warmup_ns, dtype=float)
    kept = len(warm_ns) or 1
    before_s = (launch.engine_import_ns + launch.load_ns + launch.first_run_ns) / 1e9
    steady_s = launch.steady_started_unix_s
    if steady_s is None:  # schema 1
        steady_s = launch.started_unix_s + before_s + float(warm_ns.sum()) / 1e9
    # Warm-up ended there; of more than are kept, the rest took as long as those did.
    warm_s = steady_s - float(warm_ns.sum()) / 1e9 * max(1.0, (launch.warmup_runs or 0) / kept)
    total = np.asarray(launch.total_ns, dtype=float)
    spent = float(total.sum())
    stretch = max(1.0, launch.steady_wall_ns / spent) if spent else 1.0  # between runs is time, too
    steady = _track(steady_s, total, factor, stretch)
    first_s = warm_s - launch.first_run_ns / 1e9
    warm = np.vstack([[[first_s, launch.first_run_ns / factor]], _track(warm_s, warm_ns, factor)])
    samples = [sample for sample in launch.conditions if isinstance(sample.get("at_s"), int | float)]
    unix = [float(sample.get("unix_s", launch.started_unix_s + sample["at_s"])) for sample in samples]
    begin = min([*unix, launch.started_unix_s, first_s])
    end = max([*unix, steady_s + launch.steady_wall_ns / 1e9])
    if not total.size:
        warm = warm[:0]
    label = f"launch {number}: {launch.started_unix_s - first.started_unix_s:.0f} s after the first one"
    if total.size:
        label += f", {total.size:,} runs, median {milliseconds(float(np.median(total)))}"
    return Stretch(
        label, begin, end, warm, steady, _readings(samples, unix, "thermal_c", 1.0), _readings(samples, unix, "khz", 1000.0),
        _paces(launch, steady_s, steady, full_pace_ns),
    )  # fmt: skip


def _paces(launch: Launch, steady_s: float, steady: Array, full_pace_ns: float | None) -> Track:
    """How fast the processor was between the runs, in per cent of its full pace."""
    if full_pace_ns is None:
        return []
    moments = [steady_s, *steady[:, 0].tolist()]
    return [
        (moments[min(done, len(moments) - 1)], 100 * full_pace_ns / taken)
        for done, taken in zip(launch.pace_runs, launch.pace_ns, strict=False)
        if taken
    ]


def _track(begin_s: float, times_ns: Array, factor: float, stretch: float = 1.0) -> Array:
    return np.column_stack([begin_s + np.cumsum(times_ns) / 1e9 * stretch, times_ns / factor])


def _readings(samples: Sequence[Mapping[str, Any]], unix: Sequence[float], key: str, factor: float) -> Track:
    """The highest value of each sample that has one."""
    found = []
    for sample, moment in zip(samples, unix, strict=True):
        values = sample.get(key)
        if isinstance(values, Mapping) and values:
            found.append((moment, max(float(value) for value in values.values()) / factor))
    return found


def _scenario(result: CaseResult) -> Iterator[html.Part]:
    trials = result.trials
    if trials:
        yield _rates(result, trials)
    rates = [rate for launch in result.launches if (rate := launch.samples_per_s)]
    if rates and not result.medians_ns:
        points = [Point(f"launch {number}", rate) for number, rate in enumerate(rates, 1)]
        yield Trend("Throughput of each launch", "samples per s", points, "The axis does not begin at zero.")


def _set_aside(trials: Sequence[Trial]) -> str:
    """How many trials say nothing of their rate, behind those that are not valid."""
    count = sum(trial.disturbance is not None for trial in trials)
    return f"; {count} of these say nothing of the rate, as something disturbed the machine" if count else ""


def _rates(result: CaseResult, trials: Sequence[Trial]) -> html.Part:
    """The percentile of each trial's latencies over its rate."""
    case = result.case
    bound_ms = (case.latency_bound_ns or 0) / 1e6
    dots = []
    for trial in trials:
        if not trial.latency_ns:
            continue
        seen_ms = float(np.percentile(trial.latency_ns, case.percentile, method="inverted_cdf")) / 1e6
        words = "valid" if trial.valid else "not valid" if trial.refutes else f"not valid, and {trial.disturbance}"
        told = (
            f"{trial.rate_per_s:.4g} per s ({trial.purpose}): p{case.percentile} of {len(trial.latency_ns):,} answers "
            f"{seen_ms:.3g} ms, {trial.over} of {trial.queries:,} over the bound: {words}"
        )
        dots.append(Dot(trial.rate_per_s, seen_ms, told, filled=trial.valid))
    if not dots:
        return html.Text("No query was answered in any trial.", soft=True)
    rates = [dot.x for dot in dots]
    lines = [Line([(min(rates), bound_ms), (max(rates), bound_ms)], "the latency bound", "bound", bound=True)]
    best = result.highest_rate_per_s
    if best is not None:
        low = min([dot.y for dot in dots] + [bound_ms])
        lines.append(Line([(best, low), (best, bound_ms)], f"the highest valid rate: {best:.4g} per s"))
    return Scatter(
        "Rate against latency", "queries per s", f"ms, p{case.percentile}", dots, lines,
        f"A point for each trial; full ones are valid, hollow ones are not{_set_aside(trials)}. The upright line is the highest valid rate.",
        (False, None),
    )  # fmt: skip


#: What an application waits for once, in the order in which it happens.
_ONCE = (("engine_import_ns", "import of the interpreter"), ("load_ns", "load"), ("first_run_ns", "first run"))
_MEMORY = (
    ("rss_before_load_bytes", "before the load"), ("rss_after_load_bytes", "after the load"), ("peak_rss_bytes", "at most"),
)  # fmt: skip


def _beside(result: CaseResult) -> Iterator[html.Part]:
    once = [_bar(result, key, label, 1e6, milliseconds(result.median(key) or 0)) for key, label in _ONCE]
    yield html.Bars(
        "Before the second run", "ms", once, "Medians over the launches; lines from the least to the most.", thin=True
    )
    memory = [
        _bar(result, key, label, 1e6, size_text(value))
        for key, label in _MEMORY
        if (value := result.median(key)) is not None
    ]
    if memory:
        yield html.Bars(
            "Memory of the process", "MB", memory, "Resident; Python and the interpreter are in it.", thin=True
        )
    energy = per_inference(result)
    if energy is not None:
        # Below 0 where idle took more than the runs: no length, and the words say it.
        shown = [max(0.0, 1e3 * value) for value in (energy.joules, energy.low or 0.0, energy.high or 0.0)]
        ends: tuple[float | None, float | None] = (None, None) if energy.low is None else (shown[1], shown[2])
        text = str(energy).partition(" per inference")[0]
        yield html.Bars(
            "Energy per inference", "mJ", [Bar("one inference", shown[0], text, ends[0], ends[1], 1)], str(energy)
        )


def _bar(result: CaseResult, key: str, label: str, factor: float, text: str) -> Bar:
    values = [value / factor for launch in result.launches if (value := getattr(launch, key)) is not None]
    ends: tuple[float | None, float | None] = (min(values), max(values)) if len(values) > 1 else (None, None)
    return Bar(label, float(np.median(values)), text, ends[0], ends[1], 1)


def _all_figures(result: CaseResult) -> html.Part:
    rows = [(field.title, cell) for field in FIELDS if (cell := field.cell(result)) != NOTHING]
    case = result.case
    rows += [("file", f"{case.size_bytes:,} bytes, sha256 {case.sha256}")]
    launch = result.launches[0]
    taken = launch.got.get("taken")
    if taken is not None:
        rows.append(
            (
                "on the delegate",
                f"{taken} of {launch.got.get('operators')} operators, {launch.got.get('partitions')} partitions",
            )
        )
    return html.Table(rows)

"""``compare``: what changed between benchmarks, with an interval, and whether it is more than chance.

Launches differ more than the runs of one launch do, so that a launch is the unit: its figure is the median of its steady runs, of
those at full pace where something often slowed the processor, and a case's figure the median over its launches. How sure a ratio is,
``resampling`` says.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.bench.cases import CaseResult
from edgekit.bench.hosts import differences as host_differences
from edgekit.bench.pace import SLOWER
from edgekit.bench.resampling import SIGNIFICANT as SIGNIFICANT
from edgekit.bench.resampling import chance as chance
from edgekit.bench.resampling import least_chance
from edgekit.bench.resampling import ratio_interval as ratio_interval
from edgekit.bench.results import BenchmarkReport
from edgekit.bench.validity import INVALID, verdict
from edgekit.errors import OptionError
from edgekit.report.fields import NOTHING
from edgekit.report.units import milliseconds
from edgekit.tensors import Array


@dataclass(frozen=True)
class Change:
    """One case in two benchmarks.

    Attributes:
        name: what to call the case.
        base_ns: the median in the first benchmark; ``None`` where it has none.
        new_ns: the median in the other one.
        ratio: ``new_ns`` over ``base_ns``: below 1 is faster.
        low: lower end of the ratio's 95 % interval; ``None`` where a side has a single launch.
        high: upper end.
        p: share of deals of the launches that differ as much by chance; ``None`` where a side has a single launch.
        launches: of each side.
        others: further figures by key (``load_ns``, ``first_run_ns``, ``p90_ns``, ``peak_rss_bytes``): the base's and the new one's.
        error: why there is no ratio, or ``None``.
        failed: whether the gate counts it as worse.
    """

    name: str
    base_ns: float | None
    new_ns: float | None
    ratio: float | None
    low: float | None
    high: float | None
    p: float | None
    launches: tuple[int, int]
    others: Mapping[str, tuple[float | None, float | None]]
    error: str | None
    failed: bool

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance, as far as can be told."""
        return self.p is not None and self.p < SIGNIFICANT

    @property
    def word(self) -> str:
        """``faster``, ``slower``, ``no difference shown`` or ``not known``."""
        if self.ratio is None or self.p is None:
            return "not known"
        if not self.significant:
            return "no difference shown"
        return "faster" if self.ratio < 1 else "slower"


@dataclass(frozen=True)
class Against:
    """One benchmark compared with the first one.

    Attributes:
        label: what to call it.
        changes: one for each case of either.
        differences: what differs between the two machines or the way of measuring, a sentence each.
        same_host: whether both ran on one kind of machine.
        warnings: what else to know before the ratios are believed, a sentence each.
    """

    label: str
    changes: tuple[Change, ...]
    differences: tuple[str, ...]
    same_host: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Benchmarks compared with the first of them.

    Attributes:
        base: what to call the first one.
        against: one for each other.
        fail_over: how much slower is too slow, as a share: 0.05 is 5 %; ``None`` for no gate.
    """

    base: str
    against: tuple[Against, ...]
    fail_over: float | None

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the gate does not pass, a sentence each; empty without a gate."""
        if self.fail_over is None:
            return ()
        found = []
        for item in self.against:
            if not item.same_host:
                found.append(
                    f"{item.label} is of another machine than {self.base}: slower or faster says nothing of the change"
                )
            for change in item.changes:
                if change.failed and change.ratio is not None:
                    text = f"{change.name} takes {change.ratio:.3f} times as long in {item.label}"
                    found.append(f"{text}; more than {1 + self.fail_over:g} was not expected")
                elif change.failed:
                    found.append(f"{change.name}: {change.error}")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether nothing is slower than ``fail_over`` allows; always true without it."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "type": "edgekit-comparison",
            "schema": 1,
            "base": self.base,
            "fail_over": self.fail_over,
            "passed": self.passed,
            "failures": list(self.failures),
            "against": [
                {
                    "label": item.label,
                    "same_host": item.same_host,
                    "differences": list(item.differences),
                    "warnings": list(item.warnings),
                    "cases": [
                        {
                            **{key: value for key, value in vars(change).items() if key != "others"},
                            "launches": list(change.launches),
                            "word": change.word,
                            "others": {key: list(pair) for key, pair in change.others.items()},
                        }
                        for change in item.changes
                    ],
                }
                for item in self.against
            ],
        }

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """The headings and cells of one table of all comparisons; the column of labels only where there are several."""
        several = len(self.against) > 1
        titles = [*(["benchmark"] if several else []), "case", "before", "after", "ratio (95 %)", "p", "says", *_OTHERS]
        rows = []
        for item in self.against:
            for change in item.changes:
                others = [_pair_text(key, change.others.get(key, (None, None))) for key in _OTHERS.values()]
                rows.append(
                    [
                        *([item.label] if several else []),
                        change.name,
                        NOTHING if change.base_ns is None else milliseconds(change.base_ns),
                        NOTHING if change.new_ns is None else milliseconds(change.new_ns),
                        _ratio_text(change),
                        NOTHING if change.p is None else f"{change.p:.3f}",
                        (change.error or change.word) + (" ✗" if change.failed and self.fail_over is not None else ""),
                        *others,
                    ]
                )
        return titles, rows

    def markdown(self) -> str:
        """A table and what to know of it, for a pull request."""
        titles, rows = self.rows()
        numbers = [title not in ("benchmark", "case", "says") for title in titles]
        lines = [f"### Latency against {_cell(self.base)}", ""]
        if self.fail_over is not None:
            limit = f"at most {100 * self.fail_over:g} % slower"
            lines += [f"**{'passed' if self.passed else 'FAILED'}** ({limit})", ""]
        lines.append(f"| {' | '.join(titles)} |")
        lines.append(f"|{'|'.join('---:' if number else '---' for number in numbers)}|")
        lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
        notes = [*self.failures]
        for item in self.against:
            prefix = f"{item.label}: " if len(self.against) > 1 else ""
            notes += [f"{prefix}{text}" for text in (*item.differences, *item.warnings)]
        lines += ["", *(f"- {_cell(note)}" for note in dict.fromkeys(notes))] if notes else []
        lines += ["", "Medians of steady runs; intervals and p over launches."]
        return "\n".join(lines) + "\n"


#: Heading → key of the further figures; a ratio of the two is shown.
_OTHERS: Mapping[str, str] = {
    "p90 ×": "p90_ns", "load ×": "load_ns", "first run ×": "first_run_ns", "memory ×": "peak_rss_bytes",
}  # fmt: skip


def compare(
    reports: Sequence[BenchmarkReport], *, fail_over: float | None = None, labels: Sequence[str] | None = None
) -> Comparison:
    """Compare benchmarks with the first of them.

    Cases belong together when model, delegate, device, threads and engine are the same; where each benchmark has a single case,
    those two do, whatever they are called.

    Args:
        reports: two or more.
        fail_over: the gate: a case fails when its ratio is above 1 + ``fail_over``, the interval lies above 1 and the difference is more
            than chance, as far as so many launches can show it; when it failed or is missing where the first one has it; or when the
            machines differ. ``None`` for no gate.
        labels: what to call each; ``"first"``, ``"second"`` and so on by default.

    Raises:
        OptionError: there are fewer than two, or ``fail_over`` is not a share.
    """
    if len(reports) < 2:
        raise OptionError(
            f"{len(reports)} benchmark{'s' if len(reports) != 1 else ''} to compare: at least two were expected."
        )
    if fail_over is not None and not 0 <= fail_over < math.inf:
        raise OptionError(f"fail_over is {fail_over}: a share was expected, such as 0.05 for 5 %.")
    names = list(labels) if labels is not None else [_ORDINALS[min(place, 4)] for place in range(len(reports))]
    if len(names) != len(reports):
        raise OptionError(f"{len(names)} labels for {len(reports)} benchmarks: one for each was expected.")
    base, verdicts = reports[0], [verdict(report) for report in reports]
    against = []
    for report, name, judged in zip(reports[1:], names[1:], verdicts[1:], strict=True):
        differences, same = host_differences(base, report)
        warnings = [
            f"{label} is {found.level}: {'; '.join(found.reasons)}"
            for label, found in ((names[0], verdicts[0]), (name, judged))
            if not found.valid
        ]
        if any(found.level == INVALID for found in (verdicts[0], judged)):
            warnings.append("a ratio of an INVALID benchmark is not to be believed: measure again")
        changes = tuple(_change(key, first, other, fail_over) for key, first, other in _pairs(base, report))
        against.append(Against(name, changes, tuple(differences), same, tuple(warnings)))
    return Comparison(names[0], tuple(against), fail_over)


def _by_own_pace(result: CaseResult | None) -> CaseResult | None:
    """Forget what earlier benchmarks tell: two that were slowed alike from beginning to end can be compared."""
    return None if result is None else dataclasses.replace(result, known_pace_ns=None)


def _paces(first: CaseResult | None, other: CaseResult | None) -> str | None:
    """Why two cases cannot be compared: one has too few runs at full pace, or none from the beginning to the end."""
    if first is None or other is None or first.full_pace_ns is None or other.full_pace_ns is None:
        return None
    for which, result in (("first", first), ("second", other)):
        if result.lacks_full_pace:
            text = f"something slowed the processor for {100 * (result.slowed_share or 0):.0f} % of the {which} of the two benchmarks"
            return f"{text}, and too few runs at full pace are left: measure again"
    slower = other.full_pace_ns / first.full_pace_ns
    if 1 / SLOWER <= slower <= SLOWER:
        return None
    which, times = ("the second", slower) if slower > 1 else ("the first", 1 / slower)
    text = f"something slowed the processor during all of {which} of the two benchmarks"
    return f"{text}: a fixed piece of work took {times:.2f} times as long; measure again"


_ORDINALS = ("the first", "the second", "the third", "the fourth", "a later one")


def case_key(result: CaseResult) -> tuple[Any, ...]:
    """What makes two cases the same: everything that a case is called by, but what the file holds."""
    return tuple(value for name, value in vars(result.case).items() if name not in ("sha256", "size_bytes"))


def _pairs(base: BenchmarkReport, other: BenchmarkReport) -> list[tuple[str, CaseResult | None, CaseResult | None]]:
    """Cases that belong together, in the first one's order, then what only the other has."""
    if len(base.cases) == len(other.cases) == 1:
        first, second = base.cases[0], other.cases[0]
        names = dict.fromkeys((case_name(first, base), case_name(second, other)))
        return [(" → ".join(names), first, second)]
    mine = {case_key(result): result for result in base.cases}
    theirs = {case_key(result): result for result in other.cases}
    found = []
    for key in dict.fromkeys((*mine, *theirs)):
        first_of, second_of = mine.get(key), theirs.get(key)
        name = case_name(first_of, base) if first_of is not None else case_name(theirs[key], other)
        found.append((name, first_of, second_of))
    return found


def case_name(result: CaseResult, report: BenchmarkReport) -> str:
    """A case's model, and what tells it from the benchmark's other cases of that model."""
    same = [item for item in report.cases if item.case.model == result.case.model]
    words = [result.case.model]
    for key, value in vars(result.case).items():
        if key not in ("model", "sha256", "size_bytes") and len({str(vars(item.case)[key]) for item in same}) > 1:
            words.append(
                f"{value} {key.removesuffix('s') if value == 1 else key}" if isinstance(value, int) else str(value)
            )
    return ", ".join(words)


def _change(name: str, first: CaseResult | None, other: CaseResult | None, fail_over: float | None) -> Change:
    if any(result is not None and result.lacks_full_pace for result in (first, other)):
        first, other = _by_own_pace(first), _by_own_pace(other)
    below, above = _medians(first), _medians(other)
    base = None if below is None else float(np.median(below))
    new = None if above is None else float(np.median(above))
    launches = (0 if below is None else len(below), 0 if above is None else len(above))
    others = {key: (_figure(first, key), _figure(other, key)) for key in _OTHERS.values()}
    if below is None or above is None or base is None or new is None or base <= 0:
        missing = "was not measured" if other is None else other.error or "has no steady run"
        if other is not None and above is not None:
            missing = "is new" if first is None else f"failed before: {first.error or 'no steady run'}"
        worse = below is not None and above is None and fail_over is not None
        return Change(name, base, new, None, None, None, None, launches, others, missing, worse)
    ratio = new / base
    if (paces := _paces(first, other)) is not None:
        return Change(name, base, new, None, None, None, None, launches, others, paces, fail_over is not None)
    low, high = ratio_interval(below, above)
    p = chance(below, above)
    by_chance = p is not None and p >= SIGNIFICANT and least_chance(*launches) < SIGNIFICANT
    failed = fail_over is not None and ratio > 1 + fail_over and (low is None or low > 1) and not by_chance
    return Change(name, base, new, ratio, low, high, p, launches, others, None, failed)


def _medians(result: CaseResult | None) -> Array | None:
    """One time of each launch in nanoseconds: the median steady run; a sample's share of the time where runs overlap.

    Of the server scenario it is the time between two queries at the highest valid rate, a single figure.
    """
    if result is None or result.error is not None:
        return None
    found: Sequence[float] = result.steady_medians_ns
    if not found:
        found = [1e9 / rate for launch in result.launches if (rate := launch.samples_per_s)]
    if not found and result.highest_rate_per_s:
        found = [1e9 / result.highest_rate_per_s]
    return np.asarray(found) if found else None


def _figure(result: CaseResult | None, key: str) -> float | None:
    if result is None or not result.launches:
        return None
    if key == "p90_ns":
        return result.summary.p90_ns or None
    return result.median(key)


def _ratio_text(change: Change) -> str:
    if change.ratio is None:
        return NOTHING
    if change.low is None or change.high is None:
        return f"{change.ratio:.3f}"
    return f"{change.ratio:.3f} ({change.low:.3f}–{change.high:.3f})"


def _pair_text(key: str, pair: tuple[float | None, float | None]) -> str:
    before, after = pair
    return NOTHING if not before or after is None else f"{after / before:.2f}"


def _cell(text: str) -> str:
    """Text that ends neither a Markdown table's cell nor its line."""
    return " ".join(text.replace("|", "\\|").split())

"""``CaseResult``: what all launches of a case say together, and how two cases compare."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.bench import pace
from edgekit.bench.launch import CONFIRM, Case, Launch, Trial
from edgekit.bench.statistics import LaunchInterval, early_stopping_estimate, over_launches
from edgekit.runtime.summary import LatencySummary
from edgekit.tensors import Array

_RESAMPLES = 1000
_SEED = 0
_RESAMPLED_RUNS = 401
#: When the processor was slowed for this share of the time, the figures of the rest are shown, and compared, if so many launches have so
#: many runs in it.
SLOWED_SHARE = 0.10
FEWEST_FULL_LAUNCHES, FEWEST_FULL_RUNS = 3, 30
#: What may differ between a benchmark's cases of one model, and how it is told.
_APART = {
    "delegate": "{}", "threads": "threads {}", "batch": "batch {}", "engine": "{}", "device": "{}", "scenario": "{}",
    "workers": "workers {}", "rate_per_s": "{} per s",
}  # fmt: skip


@dataclass(frozen=True)
class Ratio:
    """How long a case takes as a multiple of the first case.

    Attributes:
        value: this case's median steady time over the first one's; of batches of different sizes, the time of a sample.
        low: lower end of the 95 % interval; ``None`` with a single launch.
        high: upper end.
    """

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class CaseResult:
    """One case's launches.

    Attributes:
        case: what was measured.
        launches: those that ended well.
        error: why one did not, or ``None``.
        ratio: against the first case; ``None`` for the first one itself, and where one of the two failed.
        known_pace_ns: what the fixed piece of work took at full pace in earlier benchmarks of this case on this machine, see
            ``edgekit.bench.known_pace``; ``None`` where there was none.
    """

    case: Case
    launches: tuple[Launch, ...]
    error: str | None = None
    ratio: Ratio | None = None
    known_pace_ns: float | None = None

    @functools.cached_property
    def summary(self) -> LatencySummary:
        """Percentiles over the steady runs of all launches."""
        return LatencySummary.of(value for launch in self.launches for value in launch.total_ns)

    @property
    def medians_ns(self) -> tuple[float, ...]:
        """The median steady run of each launch."""
        return tuple(float(np.median(launch.total_ns)) for launch in self.launches if launch.total_ns)

    @property
    def interval(self) -> LaunchInterval | None:
        """The median over the launches' medians in nanoseconds, its interval, and where a rerun's will lie.

        ``None`` where no run was timed by itself.
        """
        medians = self.medians_ns
        return over_launches(medians) if medians else None

    @functools.cached_property
    def slowed_share(self) -> float | None:
        """For what share of the steady runs' time something slowed the processor itself, see ``edgekit.bench.pace``.

        ``None`` where that was not measured.
        """
        times = [value for launch in self.launches for value in launch.pace_ns]
        if self.full_pace_ns is None or not times:
            return None
        return float(pace.slowed(times, self.full_pace_ns).mean())

    @functools.cached_property
    def full_pace_ns(self) -> float | None:
        """What the fixed piece of work takes at full pace, here or as it is known; ``None`` where it was not done.

        In the server scenario it is the pace under all the load that the machine can bear.
        """
        times = [value for launch in self.launches for value in launch.pace_ns]
        times += [value for trial in self.trials if not trial.valid for value in trial.pace_ns]
        return min(pace.full_pace_ns(times), self.known_pace_ns or math.inf) if times else None

    @functools.cached_property
    def _at_full_pace(self) -> tuple[Array, ...]:
        """The runs that were made while nothing slowed the processor, of each launch; none of one that has too few."""
        found = []
        for launch in self.launches:
            runs = np.asarray(launch.total_ns, np.int64)
            if self.full_pace_ns is not None:
                slow = pace.slowed(launch.pace_ns, self.full_pace_ns)
                runs = runs[pace.at_full_pace(len(runs), launch.pace_runs, slow)]
            found.append(runs if len(runs) >= FEWEST_FULL_RUNS else runs[:0])
        return tuple(found)

    @property
    def slowed(self) -> bool:
        """Whether the processor was slowed so often that the runs at full pace count, and there are enough of those."""
        return self._often_slowed and self._enough_at_full_pace

    @property
    def lacks_full_pace(self) -> bool:
        """Whether the processor was slowed so often, and there are too few runs at full pace that could count."""
        return self._often_slowed and not self._enough_at_full_pace

    @property
    def _often_slowed(self) -> bool:
        return self.slowed_share is not None and self.slowed_share >= SLOWED_SHARE

    @property
    def _enough_at_full_pace(self) -> bool:
        return sum(len(runs) > 0 for runs in self._at_full_pace) >= FEWEST_FULL_LAUNCHES

    @property
    def steady_runs_ns(self) -> tuple[Array, ...]:
        """The runs that count, by launch: those at full pace where the processor was often slowed, else all."""
        if not self.slowed:
            return tuple(np.asarray(launch.total_ns) for launch in self.launches if launch.total_ns)
        return tuple(runs for runs in self._at_full_pace if len(runs))

    @property
    def typical_ns(self) -> float | None:
        """The median of all runs that count, whichever launch they are of; ``None`` where no run was timed by itself."""
        runs = self.steady_runs_ns
        return float(np.median(np.concatenate(runs))) if runs else None

    @property
    def steady_medians_ns(self) -> tuple[float, ...]:
        """The median of each launch's ``steady_runs_ns``."""
        return tuple(float(np.median(runs)) for runs in self.steady_runs_ns)

    @property
    def steady(self) -> LaunchInterval | None:
        """As ``interval``, of the runs that count; a rerun is told by this."""
        medians = self.steady_medians_ns
        return over_launches(medians) if medians else None

    @property
    def throughput(self) -> LaunchInterval | None:
        """Samples per second over the launches, with its interval; ``None`` for the server scenario."""
        found = [value for launch in self.launches if (value := launch.samples_per_s)]
        return over_launches(found) if found else None

    @property
    def p90_estimate_ns(self) -> int | None:
        """MLPerf's estimate of the 90th percentile over the steady runs of all launches; ``None`` with fewer than 64."""
        return early_stopping_estimate([value for launch in self.launches for value in launch.total_ns], 90)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials of the server scenario, in the order in which they were made."""
        return tuple(trial for launch in self.launches for trial in launch.trials)

    @property
    def highest_rate_per_s(self) -> float | None:
        """The highest rate that was valid whenever it was tried, and below every rate that a further launch refuted.

        ``None`` where there is none, and outside the server scenario.
        """
        confirmed = [trial for trial in self.trials if trial.purpose == CONFIRM]
        refuted = {trial.rate_per_s for trial in self.trials if trial.refutes}
        too_high = min((trial.rate_per_s for trial in confirmed if trial.refutes), default=float("inf"))
        tried = [trial for trial in confirmed if trial.valid] or [trial for trial in self.trials if trial.valid]
        rates = {trial.rate_per_s for trial in tried} - refuted
        return max((rate for rate in rates if rate < too_high), default=None)

    @property
    def confirmations(self) -> int | None:
        """In how many launches the highest rate was valid, or the one that was named; ``None`` outside the server scenario."""
        if not self.trials:
            return None
        rate = self.highest_rate_per_s if self.case.rate_per_s is None else self.case.rate_per_s
        return sum(any(trial.rate_per_s == rate and trial.valid for trial in item.trials) for item in self.launches)

    @property
    def disturbed_launches(self) -> int:
        """How many launches of the server scenario say nothing of a rate: it did not hold, and something disturbed the machine."""
        return sum(
            bool(item.trials) and not any(trial.valid or trial.refutes for trial in item.trials)
            for item in self.launches
        )

    def median(self, key: str) -> int | None:
        """The middle launch's figure.

        Args:
            key: a number's name in ``Launch``.

        Returns:
            The median over launches; ``None`` where no launch has it.
        """
        values = [value for launch in self.launches if (value := getattr(launch, key)) is not None]
        return round(float(np.median(values))) if values else None


def case_names(cases: Sequence[CaseResult]) -> list[str]:
    """What to call cases in a sentence: the model, and what tells a case from the others of that model.

    Args:
        cases: of one benchmark.
    """
    return [", ".join([result.case.model, *_apart(result, cases)]) for result in cases]


def _apart(result: CaseResult, cases: Sequence[CaseResult]) -> Iterator[str]:
    same = [vars(item.case) for item in cases if item.case.model == result.case.model]
    for key, text in _APART.items():
        value = getattr(result.case, key)
        if len({str(item[key]) for item in same}) > 1:
            yield f"the default {key}" if value is None else text.format(value)


def ratio(first: CaseResult, other: CaseResult) -> Ratio:
    """Compare two cases' medians, of the runs that count (``CaseResult.steady_runs_ns``).

    The interval is a bootstrap over launches (2.5 % and 97.5 % of 1000 resamples, fixed seed): launches differ more
    than the runs of one launch do. Launches of the same round ran next to each other, so a round is drawn as a whole;
    what is left at full pace is no longer of rounds, and each side's launches are drawn by themselves.
    With three launches it is a rough interval.

    Args:
        first: what to compare with.
        other: what to compare.
    """
    below, above = first.steady_runs_ns, other.steady_runs_ns
    in_rounds = not (first.slowed or other.slowed)
    if in_rounds:
        rounds = min(len(below), len(above))
        below, above = below[:rounds], above[:rounds]
    a_sample = (first.case.batch or 1) / (other.case.batch or 1)
    value = a_sample * float(np.median(np.concatenate(above)) / np.median(np.concatenate(below)))
    if min(len(below), len(above)) < 2:
        return Ratio(value, None, None)
    random = np.random.default_rng(_SEED)
    draws = [random.integers(0, len(below), (_RESAMPLES, len(below)))]
    draws.append(draws[0] if in_rounds else random.integers(0, len(above), (_RESAMPLES, len(above))))
    sides = [_medians(side, drawn) for side, drawn in zip((below, above), draws, strict=True)]
    low, high = np.percentile(a_sample * sides[1] / sides[0], [2.5, 97.5])
    return Ratio(value, float(low), float(high))


def _medians(side: Sequence[Array], draws: Array) -> Array:
    """The median of the runs of each draw of launches."""
    thinned = [_thinned(times) for times in side]
    known: dict[tuple[int, ...], float] = {}  # few launches give few different draws
    found = []
    for draw in draws:
        rows = tuple(sorted(int(row) for row in draw))
        if rows not in known:
            known[rows] = float(np.median(np.concatenate([thinned[row] for row in rows])))
        found.append(known[rows])
    return np.asarray(found)


def _thinned(times: Array) -> Array:
    """As many evenly spaced quantiles as serve to resample a median; thousands of runs a thousand times take seconds."""
    if len(times) <= _RESAMPLED_RUNS:
        return times
    return np.asarray(np.quantile(times, (np.arange(_RESAMPLED_RUNS) + 0.5) / _RESAMPLED_RUNS))


def with_ratios(cases: tuple[CaseResult, ...]) -> tuple[CaseResult, ...]:
    """Add each case's ratio to the first one.

    Args:
        cases: in order; nothing is added to or against cases that failed, nor where runs were not timed one by one.
    """
    first = cases[0]

    def compared(result: CaseResult) -> CaseResult:
        usable = all(item.error is None and item.medians_ns for item in (first, result))
        return dataclasses.replace(result, ratio=ratio(first, result)) if usable else result

    return (first, *(compared(result) for result in cases[1:]))

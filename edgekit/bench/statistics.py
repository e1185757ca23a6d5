"""Intervals over launches, and how many samples a percentile takes; numpy and the standard library alone.

Launches of one program differ from each other by more than chance within a launch explains: where memory came to lie, which
processor, which clock speed. So a launch counts as one observation, its median, and intervals are over launches (Kalibera and
Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: The confidence of MLPerf's early stopping, whose tolerance is 0 (MLPerf Inference Rules, appendix "Early Stopping Criterion").
MLPERF_CONFIDENCE = 0.99
#: Samples for a percentile at 99 % confidence by the same rules' table "Rounded Inferences", with its margin of error.
MLPERF_SAMPLES: dict[int, tuple[int, str]] = {
    90: (24_576, "0.50 %"),
    95: (57_344, "0.25 %"),
    97: (90_112, "0.15 %"),
    99: (270_336, "0.05 %"),
}
#: The standard error of a median of normal observations is this many times that of their mean: sqrt(pi / 2).
_MEDIAN_LOSS = math.sqrt(math.pi / 2)
_FRACTION_TERMS = 10_000
#: Half the width of what a machine changes from one benchmark to the next, minutes later, beyond what launches seconds apart show: its
#: temperature, its clock, its other programs. A judgement, which ``benchmarks/bench_fidelity.py`` checks.
BETWEEN_RERUNS = 0.01


@dataclass(frozen=True)
class LaunchInterval:
    """What launches say together of one figure, and what a rerun is expected to say.

    Attributes:
        value: the median over launches.
        low: lower end of its 95 % interval; ``None`` with fewer than three launches, as the next three.
        high: upper end.
        predicted_low: lower end of the 95 % interval for the value of a rerun of as many launches.
        predicted_high: upper end.
        launches: how many.
    """

    value: float
    low: float | None
    high: float | None
    predicted_low: float | None
    predicted_high: float | None
    launches: int

    @property
    def width(self) -> float | None:
        """From end to end, as a share of the value; ``None`` without an interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / self.value

    @property
    def predicted_width(self) -> float | None:
        """Likewise of the interval for a rerun."""
        if self.predicted_low is None or self.predicted_high is None:
            return None
        return (self.predicted_high - self.predicted_low) / self.value

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(vars(self))


def over_launches(values: Sequence[float]) -> LaunchInterval:
    """The median over launches with its 95 % interval.

    The interval is Student's for the logarithms of the launches' values, widened by sqrt(pi / 2) for the median in place of the mean; the one
    for a rerun by sqrt(2) besides, as the rerun's value has the same error as this one, and by ``BETWEEN_RERUNS``. Logarithms, because
    what slows a launch down multiplies its time. A single slow launch then widens the interval and does not move the value.

    Args:
        values: one figure of each launch, above zero.
    """
    logs = np.log(np.asarray(values, np.float64))
    middle, count = float(np.median(logs)), len(logs)
    if count < 3:
        return LaunchInterval(math.exp(middle), None, None, None, None, count)
    error = _MEDIAN_LOSS * float(logs.std(ddof=1)) / math.sqrt(count) * student_quantile(0.975, count - 1)
    rerun = math.hypot(error * math.sqrt(2), BETWEEN_RERUNS)
    return LaunchInterval(
        math.exp(middle), math.exp(middle - error), math.exp(middle + error),
        math.exp(middle - rerun), math.exp(middle + rerun), count,
    )  # fmt: skip


def launches_needed(values: Sequence[float], target: float) -> int:
    """How many launches the interval will about need to be as narrow as ``target``, judged by those that there are.

    Args:
        values: one figure of each launch so far.
        target: width from end to end, as a share of the value.
    """
    width = over_launches(values).width
    if width is None or width <= target:
        return len(values)
    return max(len(values) + 1, math.ceil(len(values) * (width / target) ** 2))


@functools.lru_cache(maxsize=256)
def student_quantile(share: float, freedom: int) -> float:
    """The value below which that share of Student's t distribution lies.

    Args:
        share: from 0.5 to below 1.
        freedom: degrees of freedom.
    """
    low, high = 0.0, 1.0
    while _student_below(high, freedom) < share:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_below(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _student_below(value: float, freedom: int) -> float:
    """The share below a positive value (NIST Digital Library of Mathematical Functions, 8.17.vi: through the beta function)."""
    return 1 - beta_regularized(freedom / (freedom + value * value), freedom / 2, 0.5) / 2


def beta_regularized(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b).

    By its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22), evaluated from the front with
    Lentz's method, on the side of the mean where it converges fast.

    Args:
        x: from 0 to 1.
        a: above 0.
        b: above 0.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_regularized(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    ) / a  # fmt: skip
    fraction, above, below = 1.0, 1.0, 0.0
    for number in range(1, _FRACTION_TERMS):
        half = number // 2
        if number % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        below = 1 / _not_zero(1 + term * below)
        above = _not_zero(1 + term / above)
        fraction *= above * below
        if abs(above * below - 1) < 1e-14:
            break
    return front / fraction


def _not_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


@functools.lru_cache(maxsize=4096)
def fewest_queries(over: int, percentile: int = 99, confidence: float = MLPERF_CONFIDENCE) -> int:
    """How many queries there must be for that many over the bound to show that the percentile is within it.

    The smallest number at which a system that meets the bound in exactly ``percentile`` per cent of the queries would have so
    few over it with a probability of at most 1 - ``confidence`` (MLPerf Inference Rules, appendix "Early Stopping Criterion").

    Args:
        over: queries over the latency bound.
        percentile: per cent of the queries that must be within it.
        confidence: how sure to be.

    Returns:
        Queries, those over the bound included.
    """
    share = percentile / 100

    def unlikely(under: int) -> bool:
        return beta_regularized(share, under, over + 1) <= 1 - confidence

    high = max(1, math.ceil((over + 1) * share / (1 - share)))
    while not unlikely(high):
        high *= 2
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if unlikely(middle) else (middle, high)
    return high + over


def most_over(queries: int, percentile: int = 99, confidence: float = MLPERF_CONFIDENCE) -> int | None:
    """How many of that many queries may be over the bound by the rule of ``fewest_queries``; ``None`` when too few were made.

    Args:
        queries: how many there were.
        percentile: see ``fewest_queries``.
        confidence: see ``fewest_queries``.
    """
    if fewest_queries(0, percentile, confidence) > queries:
        return None
    low, high = 0, queries
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fewest_queries(middle, percentile, confidence) <= queries else (low, middle)
    return low


def early_stopping_estimate(samples: Sequence[int] | npt.NDArray[np.int64], percentile: int = 90) -> int | None:
    """The percentile that MLPerf's single stream reports of few queries: at 99 % confidence no lower than the true one.

    With t the number of queries that may be over the bound, the t - 1 slowest are left out and the slowest of the others is
    the estimate (MLPerf Inference Rules, appendix "Early Stopping Criterion").

    Args:
        samples: the latency of each query.
        percentile: which.

    Returns:
        The estimate; ``None`` when there are too few queries for one, which are fewer than 64 for the 90th percentile.
    """
    ordered = np.sort(np.asarray(samples, np.int64))
    allowed = most_over(len(ordered), percentile)
    return int(ordered[-allowed]) if allowed else None

"""Percentiles of run times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgekit.runtime.histogram import Histogram


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of one time per run, in nanoseconds (nearest rank); of the total time unless something else is said.

    Attributes:
        count: how many runs.
        mean_ns: arithmetic mean; 0 when there was no run.
        min_ns: the fastest run.
        p50_ns: half of the runs were at most this long.
        p90_ns: 90 % of the runs.
        p95_ns: 95 % of the runs.
        p99_ns: 99 % of the runs.
        max_ns: the slowest run.
        exact: whether the percentiles come from all samples; if not, from the histogram, at most 1 % off.
    """

    count: int
    mean_ns: int
    min_ns: int
    p50_ns: int
    p90_ns: int
    p95_ns: int
    p99_ns: int
    max_ns: int
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    @classmethod
    def of(cls, times_ns: Iterable[int] | npt.NDArray[np.int64]) -> LatencySummary:
        """Summarise samples exactly.

        Args:
            times_ns: the time of each run.
        """
        samples = times_ns if isinstance(times_ns, np.ndarray) else np.asarray(list(times_ns), dtype=np.int64)
        ordered = np.sort(samples)
        if ordered.size == 0:
            return cls(0, 0, 0, 0, 0, 0, 0, 0, True)

        def rank(percent: int) -> int:
            return int(ordered[max(0, -(-percent * ordered.size // 100) - 1)])  # in whole numbers, so that none is off

        return cls(
            count=int(ordered.size),
            mean_ns=round(float(ordered.mean())),
            min_ns=int(ordered[0]),
            p50_ns=rank(50),
            p90_ns=rank(90),
            p95_ns=rank(95),
            p99_ns=rank(99),
            max_ns=int(ordered[-1]),
            exact=True,
        )

    @classmethod
    def of_histogram(cls, histogram: Histogram) -> LatencySummary:
        """Summarise what a histogram has counted: percentiles at most 1 % off, the rest exact."""
        return cls(
            count=histogram.count,
            mean_ns=histogram.mean_ns,
            min_ns=histogram.min_ns,
            p50_ns=histogram.percentile(50),
            p90_ns=histogram.percentile(90),
            p95_ns=histogram.percentile(95),
            p99_ns=histogram.percentile(99),
            max_ns=histogram.max_ns,
            exact=histogram.count == 0,
        )

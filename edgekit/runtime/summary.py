"""Percentiles of run times."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of the total time per run, in nanoseconds (nearest rank).

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
    def of(cls, totals_ns: Iterable[int]) -> LatencySummary:
        """Summarise samples exactly.

        Args:
            totals_ns: total time of each run.
        """
        ordered = np.sort(np.asarray(list(totals_ns), dtype=np.int64))
        if ordered.size == 0:
            return cls(0, 0, 0, 0, 0, 0, 0, 0, True)

        def rank(share: float) -> int:
            return int(ordered[max(0, math.ceil(share * ordered.size) - 1)])

        return cls(
            count=int(ordered.size),
            mean_ns=round(float(ordered.mean())),
            min_ns=int(ordered[0]),
            p50_ns=rank(0.50),
            p90_ns=rank(0.90),
            p95_ns=rank(0.95),
            p99_ns=rank(0.99),
            max_ns=int(ordered[-1]),
            exact=True,
        )

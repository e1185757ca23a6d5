"""When a launch has warmed up: when the medians of its last blocks of runs show no trend any more.

Runs are put together to blocks of some milliseconds. The test is Mann and Kendall's for a trend (Mann, "Nonparametric tests against
trend", Econometrica 13, 1945; Kendall, "Rank Correlation Methods", 1975) on the medians of the last ten blocks: it asks only which of
two blocks was faster, so that one slow block does not decide. All runs up to the block that ends without a trend are warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: A block lasts at least so long: long enough that ten of them meet a governor that looks every 10 ms.
BLOCK_NS = 20_000_000
#: Blocks that are looked at; with fewer than ten the normal approximation of the test's statistic is not good.
BLOCKS = 10
#: Warm-up that has not ended after so long never will: the machine is not quiet.
LIMIT_NS = 8_000_000_000
#: Two-sided, 5 %.
_CRITICAL = 1.959964
#: A trend of less than this from the first half to the second is none that matters.
_MATTERS = 0.002


def trend(values: Sequence[float]) -> float:
    """Mann and Kendall's statistic, in standard deviations: above zero when values rise.

    Args:
        values: in the order of time.

    Returns:
        About normal with mean 0 and standard deviation 1 where there is no trend; 0 for fewer than three values.
    """
    count = len(values)
    if count < 3:
        return 0.0
    row = np.asarray(values, np.float64)
    signs = int(np.sign(row[None, :] - row[:, None])[np.triu_indices(count, 1)].sum())
    _, ties = np.unique(row, return_counts=True)
    variance = (count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if signs == 0 or variance <= 0:
        return 0.0
    return (signs - math.copysign(1, signs)) / math.sqrt(variance)


def has_trend(values: Sequence[float]) -> bool:
    """Whether values rise or fall: so that chance does it one time in 20, and by more than 0.2 %.

    Args:
        values: above zero, in the order of time.
    """
    half = len(values) // 2
    if abs(trend(values)) < _CRITICAL:
        return False
    early, late = float(np.median(values[:half])), float(np.median(values[-half:]))
    return abs(late - early) > _MATTERS * early


def drift(samples: Sequence[int], blocks: int = 20) -> float | None:
    """How much slower the last quarter of some runs is than the first, where they have a trend.

    Args:
        samples: the time of each run, in order.
        blocks: how many blocks to make of them.

    Returns:
        A share: 0.05 for 5 % slower, negative for faster; 0 without a trend, ``None`` with too few runs to tell.
    """
    if len(samples) < 2 * blocks:
        return None
    medians = [float(np.median(block)) for block in np.array_split(np.asarray(samples, np.float64), blocks)]
    if not has_trend(medians):
        return 0.0
    quarter = blocks // 4
    return float(np.median(medians[-quarter:]) / np.median(medians[:quarter])) - 1


class WarmUp:
    """Is told of runs one by one, and says when the launch is warm.

    Args:
        block_ns: the least time of a block.
        limit_ns: when to give up.

    Attributes:
        settled: whether the last blocks had no trend; ``False`` as well when it was given up.
        runs: how many runs it was told of.
    """

    def __init__(self, block_ns: int = BLOCK_NS, limit_ns: int = LIMIT_NS) -> None:
        self.settled = False
        self.runs = 0
        self._block_ns = block_ns
        self._left_ns = limit_ns
        self._block: list[int] = []
        self._block_left_ns = block_ns
        self._medians: list[float] = []

    def add(self, run_ns: int) -> bool:
        """Note one run.

        Args:
            run_ns: how long it took.

        Returns:
            Whether warm-up is over, settled or not.
        """
        self.runs += 1
        self._block.append(run_ns)
        self._left_ns -= run_ns
        self._block_left_ns -= run_ns
        if self._block_left_ns > 0 and self._left_ns > 0:
            return False
        self._medians.append(float(np.median(self._block)))
        self._block, self._block_left_ns = [], self._block_ns
        window = self._medians[-BLOCKS:]
        # Runs of a second fill no ten blocks before the limit: then what there is must do.
        if len(window) >= BLOCKS or (self._left_ns <= 0 and len(window) >= 3):
            self.settled = not has_trend(window)
        return self.settled or self._left_ns <= 0

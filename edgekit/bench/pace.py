"""How fast the processor itself is while a model runs: a fixed piece of work, timed between runs.

A virtual machine does not see when its host gives the other half of a processor core to somebody else, or lowers the clock: no time
is counted as stolen, and there is no frequency to read. A piece of work that is always the same tells: it takes as long as it ever does, or
it takes longer, and then the runs beside it do too. It computes in registers alone, so that it neither needs the caches nor takes
anything from them that a model had there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: The work is done so often, if runs are shorter; about one per cent of the time.
EVERY_NS = 3_000_000
#: Sums of so many integers: about 20 to 100 µs.
_WORK = range(1500)
#: The fastest of the works but for so many per cent is the full pace; one that takes longer than so many times that is not at it.
_FASTEST_PERCENT, _SLOWER = 2, 1.15
_clock = time.perf_counter_ns


class Pace:
    """Times the work between runs.

    Args:
        full_ns: what it takes at full pace, as far as that is known.

    Attributes:
        runs: how many runs had ended at each time.
        times_ns: of the work.
        due_ns: on the clock: when it is to be done next.
        full_runs: runs between two times at full pace; ``None`` where that is not known.
    """

    def __init__(self, full_ns: float | None = None) -> None:
        self.runs: list[int] = []
        self.times_ns: list[int] = []
        self.due_ns = 0
        self.full_runs = None if full_ns is None else 0
        self._limit_ns = 0.0 if full_ns is None else _SLOWER * full_ns

    def take(self, runs: int) -> None:
        """Do the work.

        Args:
            runs: how many runs have ended.
        """
        start = _clock()
        sum(_WORK)
        end = _clock()
        if self.full_runs is not None and self.runs and max(end - start, self.times_ns[-1]) <= self._limit_ns:
            self.full_runs += runs - self.runs[-1]
        self.runs.append(runs)
        self.times_ns.append(end - start)
        self.due_ns = end + EVERY_NS


def full_pace_ns(times_ns: Sequence[int] | npt.NDArray[np.float64]) -> float:
    """What the work takes when nothing slows the processor.

    Args:
        times_ns: of the work, of all launches together.
    """
    return float(np.percentile(np.asarray(times_ns, np.float64), _FASTEST_PERCENT))


def slowed(times_ns: Sequence[int] | npt.NDArray[np.float64], full_ns: float) -> npt.NDArray[np.bool_]:
    """Which times of the work were longer than they need be.

    Args:
        times_ns: of the work.
        full_ns: see ``full_pace_ns``.
    """
    return np.asarray(times_ns, np.float64) > _SLOWER * full_ns


def at_full_pace(count: int, runs: Sequence[int], slow: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which runs were made at full pace: the work was, both before and after them.

    Args:
        count: how many runs there were.
        runs: how many had ended at each time of the work, rising.
        slow: whether the work took longer, at each time.
    """
    if not len(runs):
        return np.zeros(count, np.bool_)
    after = np.searchsorted(np.asarray(runs), np.arange(count), side="right")
    # Before the first time and behind the last one, one neighbour must do.
    return ~slow[np.clip(after - 1, 0, len(slow) - 1)] & ~slow[np.clip(after, 0, len(slow) - 1)]

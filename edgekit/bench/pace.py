"""How fast the processor itself is while a model runs: a fixed piece of work, timed between runs.

A virtual machine does not see when its host gives the other half of a processor core to somebody else, or lowers the clock: no time
is counted as stolen, and there is no frequency to read. A piece of work that is always the same tells: it takes as long as it ever does, or
it takes longer, and then the runs beside it do too. It computes in registers alone, so that it neither needs the caches nor takes
anything from them that a model had there.

Threads of a model run beside each other, and a run is as slow as the slowest of them: with as many threads as processors the work is
done on each of these, one after another, and its longest time counts.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt

#: The work is done so often, if runs are shorter; about one per cent of the time.
EVERY_NS = 3_000_000
#: Sums of so many integers: about 20 to 100 µs.
WORK = range(1500)
#: The fastest of the works but for so many per cent is the full pace; one that takes longer than so many times that is not at it.
_FASTEST_PERCENT, SLOWER = 2, 1.15
_clock = time.perf_counter_ns


def processors(threads: int) -> tuple[int, ...]:
    """The processors that a model's threads run on, where that is known: on all that this process may use.

    Args:
        threads: of the model.

    Returns:
        Their numbers; empty for one thread, for fewer threads than processors, and where the system does not tell.
    """
    if threads < 2 or not hasattr(os, "sched_getaffinity"):
        return ()
    found = tuple(sorted(os.sched_getaffinity(0)))
    return found if 1 < len(found) <= threads else ()


class Pace:
    """Times the work between runs. A context manager, which ends its threads.

    Args:
        full_ns: what it takes at full pace, as far as that is known.
        on: processors to do it on, each by a thread of its own; empty for the one that the caller happens to be on.

    Attributes:
        runs: how many runs had ended at each time.
        times_ns: of the work.
        due_ns: on the clock: when it is to be done next.
        spent_ns: on the clock, for all of it.
        spent_cpu_ns: processor time for all of it.
        full_runs: runs between two times at full pace; ``None`` where that is not known.
    """

    def __init__(self, full_ns: float | None = None, on: Sequence[int] = ()) -> None:
        self.runs: list[int] = []
        self.times_ns: list[int] = []
        self.due_ns = 0
        self.spent_ns = self.spent_cpu_ns = 0
        self.full_runs = None if full_ns is None else 0
        self._limit_ns = 0.0 if full_ns is None else SLOWER * full_ns
        self._workers = [_Worker(number) for number in on]
        self._every_ns = EVERY_NS * max(1, len(on))

    def take(self, runs: int) -> None:
        """Do the work.

        Args:
            runs: how many runs have ended.
        """
        start, cpu_start = _clock(), time.process_time_ns()
        taken_ns = max(worker.do() for worker in self._workers) if self._workers else timed_work()
        if self.full_runs is not None and self.runs and max(taken_ns, self.times_ns[-1]) <= self._limit_ns:
            self.full_runs += runs - self.runs[-1]
        self.runs.append(runs)
        self.times_ns.append(taken_ns)
        end = _clock()
        self.spent_ns += end - start
        self.spent_cpu_ns += time.process_time_ns() - cpu_start
        self.due_ns = end + self._every_ns

    def __enter__(self) -> Pace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.end()


class _Worker:
    """A thread on one processor that does the work when it is asked to.

    Args:
        processor: its number.
    """

    def __init__(self, processor: int) -> None:
        self._processor = processor
        self._asked, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._taken_ns = 0
        self._over = False
        threading.Thread(target=self._serve, name=f"edgekit-pace-{processor}", daemon=True).start()

    def do(self) -> int:
        """Do it once, and return what it took."""
        self._asked.release()
        self._done.acquire()
        return self._taken_ns

    def end(self) -> None:
        """End the thread."""
        self._over = True
        self._asked.release()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # a sandbox that forbids it: the thread then runs where the system puts it
            os.sched_setaffinity(0, {self._processor})  # of this thread alone
        while True:
            self._asked.acquire()
            if self._over:
                return
            # Just after it was woken a thread is slow; the second time tells of the processor.
            timed_work()
            self._taken_ns = timed_work()
            self._done.release()


def timed_work() -> int:
    """Do the work once, and return how many nanoseconds it took."""
    start = _clock()
    sum(WORK)
    return _clock() - start


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
    return np.asarray(times_ns, np.float64) > SLOWER * full_ns


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

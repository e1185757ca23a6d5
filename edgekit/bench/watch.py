"""``Watch``: whether something outside disturbed the machine while a rate was tried.

A latency bound is broken by an overload and by a machine that stands still for a moment alike; only the first says something of the
rate. What others took is read from the system (``edgekit.bench.conditions``). What slows the processor itself is seen in the fixed piece of
work of ``edgekit.bench.pace``, in the processor time of its thread: waiting for a processor, or for Python's lock, is the trial's own load.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edgekit.bench.cases import SLOWED_SHARE
from edgekit.bench.conditions import Reader
from edgekit.bench.disturbances import outside
from edgekit.bench.pace import WORK, full_pace_ns, slowed

#: The work is done so often where there is time for it, and at the latest after so many times as long.
EVERY_NS, _LATEST = 10_000_000, 5
#: Time enough for it until the next query.
_ROOM_NS = 500_000
#: Fewer times than this tell nothing.
_FEWEST = 10
_clock = time.perf_counter_ns


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """What came from outside.

    Attributes:
        text: in a sentence without its full stop.
        left: what it left of the machine's power to compute, about: 1 for all.
    """

    text: str
    left: float


class Watch:
    """Looks at the machine while trials run.

    Args:
        full_ns: what the work takes at full pace under load, as far as earlier launches found out.
        root: the root folder of the file system that the conditions are read from.

    Attributes:
        times_ns: processor time of the work since ``begin``.
    """

    def __init__(self, full_ns: float | None = None, root: str | os.PathLike[str] = "/") -> None:
        self.times_ns: list[int] = []
        self._full_ns = full_ns
        self._loaded_ns: list[int] = []
        self._reader = Reader(root)
        self._due_ns = 0
        self._first: dict[str, Any] = {}

    def begin(self) -> None:
        """A trial begins."""
        self.times_ns = []
        self._first = self._sample()

    def between(self, wait_ns: int = 0) -> None:
        """Do the work if it is due. To be called where the queries come from, before each of them.

        Args:
            wait_ns: how long it is until the next query, from now.
        """
        late_ns = _clock() - self._due_ns
        if late_ns >= 0 and (wait_ns >= _ROOM_NS or late_ns >= (_LATEST - 1) * EVERY_NS):
            start = time.thread_time_ns()
            sum(WORK)
            self.times_ns.append(time.thread_time_ns() - start)
            self._due_ns = _clock() + EVERY_NS

    def through(self, values: Iterable[Any]) -> Iterator[Any]:
        """Pass values on, with the work between them.

        Args:
            values: what goes to the model.
        """
        for item in values:
            self.between()
            yield item

    def loaded(self) -> None:
        """The times since ``begin`` are of a machine that had all the load it can bear: what is slower than these is slowed."""
        self._loaded_ns += self.times_ns

    def disturbance(self, percentile: int) -> Disturbance | None:
        """What came from outside since ``begin``. To be asked at the end of a trial that did not hold its bound.

        Args:
            percentile: per cent of the queries that had to be within the bound.

        Returns:
            ``None`` when there was nothing.
        """
        self.loaded()
        last = self._sample()
        seconds = last["at_s"] - self._first["at_s"]
        if seconds <= 0:
            return None
        stolen, busy, own = (self._growth(last, key) / seconds for key in ("steal_s", "busy_s", "own_s"))
        left, slow = 1 - (stolen + max(0.0, busy - own)) / last["facts"]["cores"], 0.0
        if len(self.times_ns) >= _FEWEST:
            full = full_pace_ns(self._loaded_ns)
            full = min(full, self._full_ns or full)
            slow = float(slowed(self.times_ns, full).mean())
            left *= min(1.0, full / statistics.fmean(self.times_ns))
        # As long as that, queries had to wait whatever the rate.
        if stolen >= 1 - percentile / 100:
            return Disturbance(f"the host of this virtual machine took {1000 * stolen:.0f} ms of each second", left)
        for finding in outside([self._first, last]):
            return Disturbance(finding.text, left)
        if slow >= SLOWED_SHARE:
            return Disturbance(f"for {100 * slow:.0f} % of the time something slowed the processor", left)
        return None

    def _growth(self, last: Mapping[str, Any], key: str) -> float:
        """How much a counter grew since ``begin``; 0 where there is none."""
        return float(last[key] - self._first[key]) if key in last and key in self._first else 0.0

    def _sample(self) -> dict[str, Any]:
        # This process is the one at work, and not one that it started.
        own = {"at_s": time.monotonic(), "own_s": time.process_time()}
        return {**self._reader.sample(), **own, "facts": {"cores": _cores()}}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

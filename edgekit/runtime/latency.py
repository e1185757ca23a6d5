"""Every run's time: a ring of nanosecond samples and a histogram, allocated once, never growing.

The file that a log may be written to is in ``logfile``, the percentiles are in ``summary``; a session that is not asked for
them does not load them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import OptionError
from edgekit.records import Record

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.runtime.summary import LatencySummary

#: Sub-buckets of each power of two: 128 makes a bucket at most 1/128 = 0.8 % wide.
_SUB_BITS = 7
_BUCKETS = 64 << _SUB_BITS


class RunRecord(Record):
    """One run's times, in nanoseconds of the monotonic clock.

    Attributes:
        start_ns: when the run began.
        copy_in_ns: checking, quantising and copying the inputs.
        invoke_ns: the interpreter's own time.
        copy_out_ns: copying and dequantising the outputs.
    """

    start_ns: int
    copy_in_ns: int
    invoke_ns: int
    copy_out_ns: int

    @property
    def total_ns(self) -> int:
        """What the caller waited."""
        return self.copy_in_ns + self.invoke_ns + self.copy_out_ns


def _bucket(value_ns: int) -> int:
    """The histogram bucket of a time: its power of two and its next 7 bits."""
    if value_ns < 1 << _SUB_BITS:
        return max(value_ns, 0)
    shift = value_ns.bit_length() - 1 - _SUB_BITS
    return ((shift + 1) << _SUB_BITS) + (value_ns >> shift) - (1 << _SUB_BITS)


def _middle(bucket: int) -> int:
    """The time in the middle of a bucket."""
    if bucket < 1 << _SUB_BITS:
        return bucket
    shift = (bucket >> _SUB_BITS) - 1
    low = ((bucket & ((1 << _SUB_BITS) - 1)) + (1 << _SUB_BITS)) << shift
    return low + ((1 << shift) >> 1)


class LatencyLog:
    """The times of a session's runs: in memory always, in a file on request.

    Args:
        capacity: how many runs the ring holds.
        path: a JSON Lines file to append to, or ``None``.
        header: what the file's first line says beside schema and clock: model, host, delegates.

    Raises:
        EdgekitError: the file cannot be opened.
    """

    def __init__(self, capacity: int = 4096, path: Path | None = None, header: Mapping[str, Any] | None = None) -> None:
        if capacity < 1:
            raise OptionError(f"a latency log of capacity {capacity}: at least 1 was expected.")
        self._ring = np.zeros((capacity, 4), dtype=np.int64)
        self._counts = np.zeros(_BUCKETS, dtype=np.int64)
        self._count = 0
        self._sum = 0
        self._min = 0
        self._max = 0
        self._writer = None
        if path is not None:
            from edgekit.runtime.logfile import Writer

            self._writer = Writer(path, dict(header or {}))

    def add(self, record: RunRecord) -> None:
        """Note one run."""
        self.add_ns(record.start_ns, record.copy_in_ns, record.invoke_ns, record.copy_out_ns)

    def add_ns(self, start_ns: int, copy_in_ns: int, invoke_ns: int, copy_out_ns: int) -> None:
        """Note one run without making an object for it."""
        total = copy_in_ns + invoke_ns + copy_out_ns
        row = (start_ns, copy_in_ns, invoke_ns, copy_out_ns)
        self._ring[self._count % len(self._ring)] = row
        self._counts[_bucket(total)] += 1
        self._min = total if self._count == 0 else min(self._min, total)
        self._max = max(self._max, total)
        self._count += 1
        self._sum += total
        if self._writer is not None:
            self._writer.add(row)

    @property
    def count(self) -> int:
        """How many runs were noted."""
        return self._count

    @property
    def dropped(self) -> int:
        """How many records did not reach the file."""
        return self._writer.dropped if self._writer is not None else 0

    def records(self) -> list[RunRecord]:
        """The runs that the ring still holds, oldest first."""
        size = len(self._ring)
        held = min(self._count, size)
        return [
            RunRecord(*(int(value) for value in self._ring[number % size]))
            for number in range(self._count - held, self._count)
        ]

    def summary(self) -> LatencySummary:
        """Percentiles over all runs: exact while the ring holds all, from the histogram after that."""
        from edgekit.runtime.summary import LatencySummary

        if self._count <= len(self._ring):
            return LatencySummary.of(self._ring[: self._count, 1:].sum(axis=1).tolist())
        cumulated = np.cumsum(self._counts)

        def rank(share: float) -> int:
            bucket = int(np.searchsorted(cumulated, math.ceil(share * self._count)))
            return min(max(_middle(bucket), self._min), self._max)

        return LatencySummary(
            count=self._count,
            mean_ns=round(self._sum / self._count),
            min_ns=self._min,
            p50_ns=rank(0.50),
            p90_ns=rank(0.90),
            p95_ns=rank(0.95),
            p99_ns=rank(0.99),
            max_ns=self._max,
            exact=False,
        )

    def close(self) -> None:
        """Write what is waiting and close the file. Harmless when called twice."""
        if self._writer is not None:
            self._writer.close()

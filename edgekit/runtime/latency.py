"""Every run's time: a ring of nanosecond samples and histograms, allocated once, never growing.

The file that a log may be written to is in ``logwriter``, its reader in ``logfile``, the percentiles are in ``summary``; a
session that is not asked for them does not load them.

How a run is noted cheaply: ``add_ns`` puts its five numbers behind those of the runs before it and does nothing else. After
512 runs, or when somebody asks, these are *folded*: moved into the ring at once with numpy. From there they are counted in the
histograms, 4096 at once, since the cost of that is less one of numbers than of calls.
"""

from __future__ import annotations

import os
import struct
import weakref
from _thread import allocate_lock  # what threading.Lock is, without the import of threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import OptionError, one_of
from edgekit.records import Record
from edgekit.runtime.histogram import BUCKETS, Histogram, add_rows

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from edgekit.runtime.logwriter import Writer
    from edgekit.runtime.summary import LatencySummary

#: What a run's time consists of, in the order in which it passes.
PHASES: tuple[str, ...] = ("queue", "copy_in", "invoke", "copy_out")
#: What can be summarised: the phases and their sum.
TIMES: tuple[str, ...] = ("total", *PHASES)
#: The numbers of a run: when the caller asked for it, then the phases.
_COLUMNS = 1 + len(PHASES)
#: Runs that may wait to be folded, and their numbers.
_FRESH = 512
_FRESH_NUMBERS = _FRESH * _COLUMNS
#: Runs that may wait in the ring to be counted in the histograms; no ring is shorter.
_UNCOUNTED = 4096
#: Runs that may wait for the disk when there is a file; the ring is made as long. About a tenth of a second of the fastest
#: models, a quarter of an hour of a camera.
BACKLOG = 32_768
#: So many of them wake the thread that writes before its time.
_WAKE = BACKLOG // 4
#: The greatest numbers that are kept: a clock of 36 years, and times of 13 days, which are easily added up in 64 bits.
_LATEST_NS = 1 << 60
_LONGEST_NS = 1 << 50
#: Logs of this process, to be told of a fork.
_LOGS: weakref.WeakSet[LatencyLog] = weakref.WeakSet()


class RunRecord(Record):
    """One run's times, in nanoseconds of the monotonic clock.

    Attributes:
        start_ns: when the caller asked for the run.
        queue_ns: waiting for its turn: in a queue, or for another thread's run on the same session.
        copy_in_ns: checking, quantising and copying the inputs.
        invoke_ns: the interpreter's own time.
        copy_out_ns: copying and dequantising the outputs.
        sequence: the run's number in its log, from 0.
    """

    start_ns: int
    queue_ns: int
    copy_in_ns: int
    invoke_ns: int
    copy_out_ns: int
    sequence: int = 0

    @property
    def total_ns(self) -> int:
        """What the caller waited, the queue included."""
        return self.queue_ns + self.copy_in_ns + self.invoke_ns + self.copy_out_ns


class LogOptions(Record):
    """Where a latency log goes, and how much room it may take: at most ``keep * max_bytes``, for ever.

    Attributes:
        path: a JSON Lines file to append to; older files have a number behind this name.
        max_bytes: when the file would grow beyond this, it is numbered and a new one begun.
        max_age_s: when the file is older than this, likewise; ``None`` for no limit.
        keep: how many files there may be, the one that is written among them. The oldest is deleted.
        flush_s: how long a record may wait before it is written: what a kill can lose.
        sync_s: how often the file is forced onto the disk, which is what a power cut cannot lose; ``None`` leaves that to
            the operating system (Linux: after about 30 s).
    """

    path: Path | str
    max_bytes: int = 8_000_000
    max_age_s: float | None = 7 * 86_400.0
    keep: int = 8
    flush_s: float = 0.25
    sync_s: float | None = None

    def _check(self) -> None:
        if self.max_bytes < 16_384:
            raise OptionError(f"a latency log of files of {self.max_bytes} bytes: at least 16384 were expected.")
        if self.keep < 2:
            raise OptionError(f"a latency log of {self.keep} files: at least 2 were expected, to change between.")
        for name in ("max_age_s", "flush_s", "sync_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise OptionError(f"a latency log with {name}={value}: a number of seconds above 0 was expected.")


class LatencyLog:
    """The times of a session's runs: in memory always, in a file on request.

    One thread at a time may call ``add_ns`` (a session does so under its lock); everything else may be called by any thread
    at any time. In the child process after a fork the log starts anew and empty, and writes no file: that is the parent's.

    Args:
        capacity: how many runs the ring holds.
        path: a JSON Lines file to append to, or ``LogOptions`` with one, or ``None``.
        header: what the file's first line says beside schema and clock: model, host, delegates.

    Raises:
        EdgekitError: the file cannot be opened.
    """

    def __init__(
        self,
        capacity: int = 4096,
        path: Path | str | LogOptions | None = None,
        header: Mapping[str, Any] | None = None,
    ) -> None:
        if capacity < 1:
            raise OptionError(f"a latency log of capacity {capacity}: at least 1 was expected.")
        self._capacity = capacity
        self._pack = struct.Struct(f"={_FRESH_NUMBERS}q").pack_into
        self._packed = bytearray(8 * _FRESH_NUMBERS)  # folding allocates nothing large: that would cost page faults
        self._columns: npt.NDArray[np.int64] = np.frombuffer(self._packed, np.int64).reshape(_FRESH, _COLUMNS).T
        self._writer: Writer | None = None
        self._orphan = False
        self._begin(max(capacity, _UNCOUNTED if path is None else BACKLOG))
        if path is not None:
            from edgekit.runtime.logwriter import Writer

            options = path if isinstance(path, LogOptions) else LogOptions(path)
            self._writer = Writer(options, dict(header or {}), self)
        _LOGS.add(self)

    def restart(self, capacity: int) -> None:
        """Forget all runs, and hold so many from now on; no run may be under way, and the log may have no file.

        Raises:
            OptionError: the log has a file, whose numbers must go on; or no room is asked for.
        """
        if capacity < 1:
            raise OptionError(f"a latency log of capacity {capacity}: at least 1 was expected.")
        if self._writer is not None:
            raise OptionError("a latency log with a file cannot begin anew. Load the model again, with another file.")
        self._capacity = capacity
        self._begin(max(capacity, _UNCOUNTED))

    def _begin(self, ring: int) -> None:
        """An empty log. What is allocated here is all there will ever be, but for the numbers of the fresh runs."""
        self._lock = allocate_lock()  # held while folding and while copying, never while anything is written
        self._fresh: list[int] = []  # only add_ns and what it calls change it
        self._folded = 0  # so many of these numbers are folded
        self._before = 0  # runs whose numbers are no longer in that list
        self._ring = np.zeros((_COLUMNS, ring), np.int64)
        # One block of zeros, of which the system gives real memory only to the pages that are written to.
        self._counts = np.zeros((len(TIMES), BUCKETS), np.int64)
        self._counted = 0  # so many runs are in the histograms
        self._times = np.empty((len(TIMES), _UNCOUNTED), np.int64)
        self._room = np.empty((len(TIMES), _UNCOUNTED))
        self._histograms = [Histogram(row) for row in self._counts]

    def add(self, record: RunRecord) -> None:
        """Note one run; its sequence number is given here."""
        self.add_ns(record.start_ns, record.queue_ns, record.copy_in_ns, record.invoke_ns, record.copy_out_ns)

    def add_ns(self, start_ns: int, queue_ns: int, copy_in_ns: int, invoke_ns: int, copy_out_ns: int) -> None:
        """Note one run without making an object for it."""
        fresh = self._fresh
        fresh += (start_ns, queue_ns, copy_in_ns, invoke_ns, copy_out_ns)
        if len(fresh) >= _FRESH_NUMBERS:
            self._turn()

    def _turn(self) -> None:
        """Fold what is fresh, and begin a new list."""
        with self._lock:
            self._before = self._fold()
            self._fresh = []
            self._folded = 0

    def _fold(self) -> int:
        """Move what is fresh to the ring; the lock is held.

        Returns:
            How many runs have been folded since the beginning.
        """
        end = len(self._fresh)  # a run that is noted meanwhile waits for the next time
        while self._folded < end:
            fresh = self._fresh
            if self._folded or end != _FRESH_NUMBERS:
                fresh = fresh[self._folded : min(end, self._folded + _FRESH_NUMBERS)]
            self._keep(self._before + self._folded // _COLUMNS, fresh)
            self._folded += len(fresh)
        return self._before + self._folded // _COLUMNS

    def _keep(self, first: int, fresh: list[int]) -> None:
        """Put the numbers of some runs into the ring; ``first`` is the first one's sequence number."""
        last = first + len(fresh) // _COLUMNS
        if last - self._counted > _UNCOUNTED:
            self._count_until(first)
        columns = self._unpack(fresh)
        size = self._ring.shape[1]
        place = first % size
        fitting = min(size - place, last - first)
        self._ring[:, place : place + fitting] = columns[:, :fitting]
        if fitting < last - first:
            self._ring[:, : last - first - fitting] = columns[:, fitting:]
        writer = self._writer
        if writer is not None and last - writer.next > _WAKE:
            writer.wake()

    def _count_until(self, end: int) -> None:
        """Count the runs before this one in the histograms; the lock is held."""
        size = self._ring.shape[1]
        while self._counted < end:
            place = self._counted % size
            runs = min(end - self._counted, size - place, _UNCOUNTED)
            times = self._times[:, :runs]
            times[1:] = self._ring[1:, place : place + runs]
            np.sum(times[1:], axis=0, out=times[0])
            add_rows(self._counts, self._histograms, times, self._room[:, :runs])
            self._counted += runs

    def _unpack(self, fresh: list[int]) -> npt.NDArray[np.int64]:
        """Fresh numbers as an array of a row for each column."""
        try:
            # A few times faster than numpy's own way from a list to an array.
            pack = self._pack if len(fresh) == _FRESH_NUMBERS else struct.Struct(f"={len(fresh)}q").pack_into
            pack(self._packed, 0, *fresh)
        except struct.error:  # what is no integer, or does not fit, must not stop the log
            self._packed[: 8 * len(fresh)] = np.array([_whole(value) for value in fresh], np.int64).tobytes()
        columns: npt.NDArray[np.int64] = self._columns[:, : len(fresh) // _COLUMNS]
        if columns.min() < 0 or columns[1:].max() > _LONGEST_NS or columns[0].max() > _LATEST_NS:
            np.maximum(columns, 0, out=columns)
            np.minimum(columns[1:], _LONGEST_NS, out=columns[1:])
            np.minimum(columns[0], _LATEST_NS, out=columns[0])
        return columns

    @property
    def count(self) -> int:
        """How many runs were noted."""
        with self._lock:
            return self._before + len(self._fresh) // _COLUMNS

    @property
    def dropped(self) -> int:
        """How many records did not reach the file and never will."""
        if self._orphan:
            return self.count
        return 0 if self._writer is None else self._writer.dropped_of(self.count)

    @property
    def reopened(self) -> int:
        """How often the file was begun anew because somebody had moved or deleted it or its folder."""
        return 0 if self._writer is None else self._writer.reopened

    def records(self) -> list[RunRecord]:
        """The runs that the ring still holds, oldest first."""
        first, rows = self.rows(0, None)
        first, rows = first + max(0, len(rows) - self._capacity), rows[-self._capacity :]
        return [RunRecord(a, b, c, d, e, number) for number, (a, b, c, d, e) in enumerate(rows.tolist(), first)]

    def rows(self, first: int, limit: int | None) -> tuple[int, npt.NDArray[np.int64]]:
        """Runs as an array: start_ns and the phases in nanoseconds, one row for each run.

        Args:
            first: the sequence number to begin with.
            limit: at most so many; ``None`` for all.

        Returns:
            The sequence number of the first row (later than asked for when the ring has forgotten that one), and a copy of
            the rows.
        """
        with self._lock:
            end = self._fold()
            size = self._ring.shape[1]
            first = min(max(first, end - size), end)
            last = end if limit is None else min(end, first + limit)
            return first, self._ring[:, np.arange(first, last) % size].T

    def histograms(self) -> tuple[int, dict[str, Histogram]]:
        """How many runs there were, and copies of their histograms by ``TIMES``, all of the same moment."""
        with self._lock:
            end = self._fold()
            self._count_until(end)
            return end, {name: item.copy() for name, item in zip(TIMES, self._histograms, strict=True)}

    def histogram(self, time: str = "total") -> Histogram:
        """A copy of the histogram over all runs.

        Args:
            time: one of ``TIMES``: ``"total"`` or a phase.
        """
        return self.histograms()[1][one_of(time, TIMES, "time")]

    def summary(self, time: str = "total") -> LatencySummary:
        """Percentiles over all runs: exact while the ring holds all, from the histogram after that.

        Args:
            time: one of ``TIMES``: ``"total"`` (what the caller waited) or a phase.
        """
        from edgekit.runtime.summary import LatencySummary

        column = TIMES.index(one_of(time, TIMES, "time"))
        first, rows = self.rows(0, None)
        if first == 0 and len(rows) <= self._capacity:
            return LatencySummary.of(rows[:, column] if column else rows[:, 1:].sum(axis=1))
        return LatencySummary.of_histogram(self.histogram(time))

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until the file has every run that was noted before this call, or the count of those dropped.

        Args:
            timeout_s: how long to wait at most.

        Returns:
            Whether it came to that; ``True`` when there is no file.
        """
        return self._writer is None or self._writer.flush(self.count, timeout_s)

    def close(self) -> None:
        """Write what is waiting and close the file. Harmless when called twice."""
        if self._writer is not None:
            self._writer.close()

    def after_fork(self) -> None:
        """In the child: start anew. The lock may be another thread's, which is not here to release it."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
            self._orphan = True
        self._begin(max(self._capacity, _UNCOUNTED))


def _whole(value: Any) -> int:
    """An integer that fits, whatever was given."""
    try:
        return min(max(int(value), 0), 1 << 62)
    except (TypeError, ValueError, OverflowError):
        return 0


def _after_fork() -> None:
    for log in list(_LOGS):
        log.after_fork()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork)

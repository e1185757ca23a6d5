"""Every run's time: a ring of nanosecond samples, a histogram, and a JSON Lines file.

The ring and the histogram are allocated once and never grow. The file is written by a thread of its own,
so that a slow or full disk never holds up a run: records that cannot be written are dropped, counted, and
reported once.

File format (schema 1): the first line is the header, an object with ``"type": "edgekit-latency"``; each
further line is an array ``[start_ns, copy_in_ns, invoke_ns, copy_out_ns]`` on the monotonic clock that the
header names. The reader ignores a torn line at the end of the file or before a further header.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import DataError, OptionError, from_os_error

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
TYPE = "edgekit-latency"
#: Sub-buckets of each power of two: 128 makes a bucket at most 1/128 = 0.8 % wide.
_SUB_BITS = 7
_BUCKETS = 64 << _SUB_BITS
_FLUSH_SECONDS = 0.25
#: Records waiting for the disk; about one second of a very fast model.
_BACKLOG = 65_536


@dataclass(frozen=True)
class RunRecord:
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
        self._writer = _Writer(path, dict(header or {})) if path is not None else None

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


class _Writer:
    """Appends records to a file from a thread of its own.

    Nothing is buffered here, so that it is known which records a full disk has kept. After a write that was cut in the
    middle of a line the header is written again, and the reader takes a torn line before a header for what it is.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.dropped = 0
        self._path = path
        self._waiting: deque[tuple[int, int, int, int]] = deque()
        self._stop = threading.Event()
        self._warned = False
        try:
            self._file = path.open("ab", buffering=0)
            torn = _ends_torn(path) if path.is_file() else False
        except OSError as error:
            raise from_os_error(error, path, "write") from error
        first = {
            "type": TYPE,
            "schema": SCHEMA,
            "clock": "perf_counter_ns",
            "fields": ["start_ns", "copy_in_ns", "invoke_ns", "copy_out_ns"],
            "started_unix_s": time.time(),
            "started_clock_ns": time.perf_counter_ns(),
            "pid": os.getpid(),
            **header,
        }
        self._header = f"{json.dumps(first, ensure_ascii=False)}\n".encode()
        self._owed = b"\n" + self._header if torn else self._header
        self._write([])
        self._thread = threading.Thread(target=self._loop, name="edgekit-latency-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def add(self, row: tuple[int, int, int, int]) -> None:
        if len(self._waiting) >= _BACKLOG or self._stop.is_set():
            self.dropped += 1
        else:
            self._waiting.append(row)

    def _loop(self) -> None:
        while not self._stop.wait(_FLUSH_SECONDS):
            self._drain()

    def _drain(self) -> None:
        rows = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if rows:
            self._write([f"[{a},{b},{c},{d}]\n" for a, b, c, d in rows])

    def _write(self, lines: list[str]) -> None:
        data = self._owed + "".join(lines).encode()
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:]) or 0
        except (OSError, ValueError) as error:
            kept = data[:done].count(b"\n") - self._owed.count(b"\n")
            self.dropped += len(lines) - max(kept, 0)
            if done:
                self._owed = b"\n" + self._header
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"latency log {self._path}: cannot write ({error}); records that do not fit are dropped and counted.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        else:
            self._owed = b""

    def close(self) -> None:
        if self._stop.is_set():
            return
        self._stop.set()
        atexit.unregister(self.close)
        self._thread.join()
        self._drain()
        with contextlib.suppress(OSError):  # nothing is buffered: no record is lost here
            self._file.close()


def _ends_torn(path: Path) -> bool:
    """Whether a file's last line has no end, as after a power cut."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


@dataclass(frozen=True)
class LoggedRuns:
    """One session's part of a latency file.

    Attributes:
        header: what the first line says.
        records: its runs.
    """

    header: Mapping[str, Any]
    records: tuple[RunRecord, ...]


def read_log(path: str | os.PathLike[str]) -> tuple[LoggedRuns, ...]:
    """Read a latency file: one part for each header in it, since sessions append.

    Args:
        path: a JSON Lines file that a ``LatencyLog`` wrote.

    Raises:
        DataError: it is not a latency log, or is of a newer schema, or a line before the last is damaged.
        EdgekitError: it cannot be read.
    """
    from pathlib import Path

    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise from_os_error(error, path, "read") from error
    parts: list[tuple[dict[str, Any], list[RunRecord]]] = []
    torn = 0  # the number of a line that cannot be read: it must be its session's last one
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        item = _read_line(line)
        if isinstance(item, dict):
            if item["schema"] > SCHEMA:
                raise DataError(
                    f"{path} has schema {item['schema']}, this edgekit reads up to {SCHEMA}. Update edgekit."
                )
            parts.append((item, []))
            torn = 0
        elif torn and parts:
            raise DataError(f"{path}: line {torn} is damaged. A file that `edgekit run --log` wrote was expected.")
        elif item is None and not torn:
            torn = number
        elif not parts:
            break
        elif item is not None:
            parts[-1][1].append(item)
    if not parts:
        raise DataError(
            f"{path} is not a latency log: its first line is no header of type {TYPE!r}. "
            "A file that `edgekit run --log` wrote was expected."
        )
    return tuple(LoggedRuns(header, tuple(records)) for header, records in parts)


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _read_line(line: bytes) -> dict[str, Any] | RunRecord | None:
    """A header, a record, or ``None`` for a line that is neither."""
    try:
        item = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if isinstance(item, dict):
        return item if item.get("type") == TYPE and isinstance(item.get("schema"), int) else None
    # A sum of three such times still fits 64 bits.
    if isinstance(item, list) and len(item) == 4 and all(type(value) is int and 0 <= value < 1 << 61 for value in item):
        return RunRecord(*item)
    return None

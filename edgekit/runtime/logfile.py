"""The latency log as a JSON Lines file: written beside the runs, read back whole.

The file is written by a thread of its own, so that a slow or full disk never holds up a run: records that cannot be
written are dropped, counted, and reported once.

File format (schema 1): the first line is the header, an object with ``"type": "edgekit-latency"``; each
further line is an array ``[start_ns, copy_in_ns, invoke_ns, copy_out_ns]`` on the monotonic clock that the
header names. The reader ignores a torn line at the end of the file or before a further header.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import DataError, from_os_error
from edgekit.runtime.latency import RunRecord

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
TYPE = "edgekit-latency"
_FLUSH_SECONDS = 0.25
#: Records waiting for the disk; about one second of a very fast model.
_BACKLOG = 65_536


class Writer:
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
        """Note one run; returns at once."""
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
        """Write what is waiting and close the file."""
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
        raise from_os_error(error, path, "read", DataError) from error
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

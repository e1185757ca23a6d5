"""The latency log as a JSON Lines file: written by a thread of its own, so that a slow or full disk never holds up a run.

The thread takes the runs from the log's ring. What it cannot write is dropped, counted, and said once; when there is room
again it goes on. It looks at the file's place before each write, so that a file that was moved, deleted or cut short by
somebody else is begun anew, with its header. Several sessions, also of several processes, may write to the same file: each
writes whole lines under a lock on the file, and says which session they belong to.

What is in the file is described in ``docs/latency-log.md``.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import stat
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import OptionError, OutputError, from_os_error
from edgekit.runtime.logfile import rotated
from edgekit.runtime.logformat import FIELDS, SCHEMA, TYPE, header_age_s, is_beginning

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgekit.runtime.latency import LatencyLog, LogOptions

try:
    import fcntl
except ImportError:  # Windows: one session per file there
    fcntl = None  # type: ignore[assignment]  # there is no such module, so that there is no type of it

#: Records that are formatted at once, which other threads have to wait for: about 0.3 ms; and that are written at once.
_SLICE = 512
_CHUNK = 16 * _SLICE
_RECORD = f"[{','.join(['%d'] * len(FIELDS))}]\n"
#: No record is longer.
_RECORD_BYTES = 20 * len(FIELDS)
#: Between two slices, so that the runs get their turn.
_PAUSE_S = 0.0002
#: How long another writer of the same file is waited for.
_PATIENCE_S = 1.0
#: How long ``close`` waits for a disk that hangs.
_CLOSE_S = 10.0


class Writer:
    """Appends a log's records to a file from a thread of its own.

    Args:
        options: where, and how much.
        header: what the header says beside what it always says.
        source: where the records come from.

    Attributes:
        next: the sequence number of the next record to write.
        reopened: how often the file was not where it had been.

    Raises:
        OutputError: the file cannot be opened, or is something else than a latency log.
        OptionError: the header leaves no room for records.
    """

    def __init__(self, options: LogOptions, header: dict[str, Any], source: LatencyLog) -> None:
        self.next = 0
        self.reopened = 0
        self._options = options
        self._source = source
        self._path = os.path.realpath(os.fspath(options.path))
        self._session = os.urandom(8).hex()
        self._fixed = {
            **header,
            "session": self._session,
            "clock": "perf_counter_ns",
            "fields": list(FIELDS),
            "started_unix_s": time.time(),
            "started_clock_ns": time.perf_counter_ns(),
            "pid": os.getpid(),
        }
        if len(self._header(0)) > options.max_bytes // 4:
            raise OptionError(
                f"a latency log of files of {options.max_bytes} bytes: not enough for its header. Allow more."
            )
        # A header and a snapshot take at most a quarter of a file each, what is written at once a half: no file outgrows its bound.
        self._chunk = min(_CHUNK, options.max_bytes // 2 // _RECORD_BYTES)
        self._dropped = 0
        self._told = 0  # the number of dropped records that the file says
        self._warned = False
        self._file = -1
        self._regular = True
        self._identity = (0, 0)  # device and number of the file
        self._end: int | None = None  # where this writer left the file; None when a write was cut
        self._headed = False  # whether this file has this session's header
        self._later = False  # whether an earlier file, or an earlier place in this one, has
        self._born = 0.0  # when the file was begun, on the clock of time.monotonic
        self._synced = time.monotonic()
        try:
            self._open()
            self._check_content()
        except OSError as error:
            raise from_os_error(error, options.path, "write") from error
        self._stopping = False
        self._closed = False
        self._put(b"", 0)
        self._closing = threading.Lock()
        self._wake = threading.Event()
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="edgekit-latency-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def wake(self) -> None:
        """Write soon."""
        self._wake.set()

    def dropped_of(self, count: int) -> int:
        """How many of the first ``count`` runs did not reach the file and never will."""
        return self._dropped + (max(0, count - self.next) if self._closed else 0)

    def flush(self, count: int, timeout_s: float) -> bool:
        """Wait until the first ``count`` runs are written or dropped; whether that came to be."""
        with self._progress:
            self._wake.set()
            self._progress.wait_for(lambda: self._closed or self.next >= count, timeout_s)
        return self.next >= count

    def close(self) -> None:
        """Write what is waiting and close the file; a disk that hangs is given up."""
        with self._closing:
            if self._closed:
                return
            atexit.unregister(self.close)
            self._stopping = True
            self._wake.set()
            self._thread.join(_CLOSE_S)
            self._closed = True  # what is not written by now counts as dropped
            if self._thread.is_alive():
                return
            with self._progress:
                self._progress.notify_all()
            if self._file >= 0:
                with contextlib.suppress(OSError):  # nothing is buffered: no record is lost here
                    os.close(self._file)
                self._file = -1

    def abandon(self) -> None:
        """In the child after a fork: leave the file to the parent. No lock is taken, no thread is there to wait for."""
        self._closed = True
        atexit.unregister(self.close)
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1

    def _loop(self) -> None:
        while not self._stopping:
            self._wake.wait(self._options.flush_s)
            self._wake.clear()
            self._drain()
        self._drain()
        self._put(self._snapshot() + _line({"closed": self.next, "dropped": self._dropped}), 0)

    def _drain(self) -> None:
        """Write all that waits now, some at a time; what comes meanwhile waits for the next time."""
        goal = self._source.count
        while self.next < goal:
            try:
                first, rows = self._source.rows(self.next, self._chunk)
                self._dropped += first - self.next  # the ring has forgotten these
                self.next = first
                data = self._format(first, rows)
            except MemoryError as error:
                self._warn(error)
                break
            self._put(data, len(rows))
            self.next = first + len(rows)
        self._sync()
        with self._progress:
            self._progress.notify_all()

    def _format(self, first: int, rows: npt.NDArray[np.int64]) -> bytes:
        """Records as lines, some at a time so that the runs get their turn; without a pause when too many are waiting."""
        numbered = np.concatenate([np.arange(first, first + len(rows))[:, None], rows], axis=1)
        parts = []
        for begin in range(0, len(rows), _SLICE):
            some = numbered[begin : begin + _SLICE]
            parts.append((_RECORD * len(some) % tuple(some.reshape(-1).tolist())).encode())
            if len(rows) < self._chunk and not self._stopping:
                time.sleep(_PAUSE_S)
        return b"".join(parts)

    def _put(self, data: bytes, records: int) -> None:
        """Write whole lines, of which so many are records; count the records that do not get there."""
        done, before, heading = 0, b"", False
        try:
            try:
                size, before, heading = self._enter(len(data))
                whole = before + data
                while done < len(whole):
                    done += os.write(self._file, whole[done:] if done else whole)
                self._end = size + done
                self._told = self._dropped
            finally:
                self._leave()
        except (OSError, MemoryError) as error:
            kept = data[: max(0, done - len(before))].count(b"\n")
            self._dropped += max(0, records - kept)
            self._end = None
            self._warn(error)
        if heading:
            self._headed = done >= len(before)
            self._later = self._later or self._headed

    def _before(self, size: int) -> tuple[bytes, bool]:
        """What must stand before the next records in a file of this size, and whether a header is in it."""
        text = b""
        cut = self._regular and size and size != self._end and self._read(size - 1, 1) != b"\n"
        heading = not self._headed or (self._regular and size < (self._end or 1))
        told = 0 if heading else self._told
        if heading:
            # Runs that no file was there for are missing from the first file; a later file begins where it begins.
            text += self._header(self.next if self._later else 0)
            text += self._snapshot() if self._later else b""
        elif self._regular and size != self._end:
            text += _line({"session": self._session})  # others wrote here since
        if told != self._dropped:
            text += _line({"dropped": self._dropped})
        return (b"\n" if cut else b"") + text, heading

    def _header(self, first: int) -> bytes:
        own = {"first": first, "file_unix_s": time.time(), "reopened": self.reopened}
        return _line({"type": TYPE, "schema": SCHEMA, **self._fixed, **own})

    def _snapshot(self) -> bytes:
        """The histograms over all runs until now, so that percentiles outlive the files that are deleted."""
        runs, histograms = self._source.histograms()
        text = _line({"snapshot": runs, "times": {name: item.to_json() for name, item in histograms.items()}})
        return text if runs and len(text) <= self._options.max_bytes // 4 else b""

    def _enter(self, room: int) -> tuple[int, bytes, bool]:
        """Have the file open where it belongs, locked, with room for so many bytes.

        Returns:
            The file's size, and what ``_before`` returns.
        """
        for _ in range(10):
            if self._file < 0:
                os.makedirs(os.path.dirname(self._path), exist_ok=True)
                self._open()
            if not self._regular:
                return 0, *self._before(0)
            self._lock()
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                there = None
            if there is None or (there.st_dev, there.st_ino) != self._identity:
                self.reopened += 1
            else:
                before, heading = self._before(there.st_size)
                if not self._is_due(there.st_size, len(before) + room):
                    return there.st_size, before, heading
                self._rotate()
            self._shut()
        raise OSError(f"{self._path} is moved away again and again")

    def _is_due(self, size: int, room: int) -> bool:
        """Whether the file must make place for a new one."""
        limit = self._options.max_age_s
        old = limit is not None and time.monotonic() - self._born > limit
        return size > 0 and (old or size + room > self._options.max_bytes)

    def _rotate(self) -> None:
        """Give the file a number, and delete the oldest; the lock on it is held."""
        there = rotated(self._path)
        for _, old in there[: max(0, len(there) - (self._options.keep - 2))]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(old)
        number = there[-1][0] + 1 if there else 1
        if os.name == "nt":
            self._shut()  # Windows renames no file that is open
        os.rename(self._path, f"{self._path}.{number:06d}")

    def _open(self) -> None:
        try:
            self._regular = stat.S_ISREG(os.stat(self._path).st_mode)
        except FileNotFoundError:
            self._regular = True
        # A pipe that nobody reads must not hold up the program: opening it fails, and writing to it.
        flags = os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_BINARY", 0) | (os.O_RDWR if self._regular else os.O_WRONLY)
        self._file = os.open(self._path, flags, 0o666)
        self._headed = False
        self._end = 0
        self._born = time.monotonic()
        opened = os.fstat(self._file)
        self._identity = opened.st_dev, opened.st_ino
        if self._regular and opened.st_size:
            self._born -= header_age_s(self._read(0, 1 << 16))

    def _check_content(self) -> None:
        """Raise when the file is something else: a model whose name was given by mistake, say."""
        if self._regular and not is_beginning(self._read(0, 64)):
            self._shut()
            raise OutputError(
                f"cannot write the latency log {self._options.path}: the file is there and is no latency log. "
                "Give the name of a new file, or of a log to append to."
            )

    def _lock(self) -> None:
        """Keep other writers of this file out; where that cannot be had, go on: lines are appended whole."""
        if fcntl is None:
            return
        limit = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > limit:
                    return
                time.sleep(0.005)
            except OSError:  # some network file systems have no locks
                return

    def _leave(self) -> None:
        if fcntl is not None and self._file >= 0 and self._regular:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _shut(self) -> None:
        """Close this file; the next write opens what is there then."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self, place: int, size: int) -> bytes:
        """Bytes of the file; writing appends, wherever one has read."""
        os.lseek(self._file, place, os.SEEK_SET)
        return os.read(self._file, size)

    def _sync(self) -> None:
        every = self._options.sync_s
        if every is None or self._file < 0 or not self._regular or time.monotonic() - self._synced < every:
            return
        self._synced = time.monotonic()
        try:
            os.fsync(self._file)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        text = f"latency log {self._options.path}: cannot write ({error}); records that do not fit are dropped and counted."
        try:
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        except RuntimeWarning:  # warnings are errors in this program; an error here would end the log and tell nobody
            print(text, file=sys.stderr)


def _line(item: dict[str, Any]) -> bytes:
    return f"{json.dumps(item, ensure_ascii=False, separators=(',', ':'))}\n".encode()

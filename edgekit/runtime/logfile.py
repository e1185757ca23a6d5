"""Reading a latency log: one file, or one with the older files that rotation has numbered.

A kill or a power cut may leave half a line, or a block of zeros, anywhere. The reader counts such lines and goes on with the
next whole one: the sequence numbers tell what is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgekit.errors import DataError, from_os_error, one_of
from edgekit.runtime.histogram import Histogram
from edgekit.runtime.latency import TIMES, RunRecord
from edgekit.runtime.logformat import FIELDS, LIMIT, SCHEMA, TYPE, Rows, is_beginning, parse_line, parse_rows
from edgekit.runtime.summary import LatencySummary

_READ_BYTES = 1 << 20
#: Lines that are parsed at once.
_BULK = 2048


@dataclass(frozen=True, eq=False)
class LoggedRuns:
    """One session's part of a latency log.

    Attributes:
        header: what its first line says.
        rows: its runs as an array, one row for each, the columns as in ``FIELDS``; by sequence, each once.
        dropped: how many records the writer counted as not written.
        damaged: lines in it that could not be read.
        first: the sequence number with which the files that are there begin; those before were in older files.
        closed: how many runs the session had when it was closed; ``None`` when it is running, or was killed.
        snapshot: a number of runs, and the histograms over all of them from the first, by name of the time.
    """

    header: Mapping[str, Any]
    rows: Rows
    dropped: int = 0
    damaged: int = 0
    first: int = 0
    closed: int | None = None
    snapshot: tuple[int, Mapping[str, Histogram]] | None = None

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """Its runs as objects; of a long log ``rows`` takes a tenth of the memory."""
        return tuple(RunRecord(a, b, c, d, e, number) for number, a, b, c, d, e in self.rows.tolist())

    @property
    def gaps(self) -> tuple[tuple[int, int], ...]:
        """The sequence numbers that should be there and are not: first and last of each gap."""
        numbers = self.rows[:, 0]
        end = self.closed if self.closed is not None else int(numbers[-1]) + 1 if len(numbers) else self.first
        edges = np.concatenate([[self.first - 1], numbers, [max(end, self.first)]])
        places = np.flatnonzero(np.diff(edges) > 1)
        return tuple((int(edges[place]) + 1, int(edges[place + 1]) - 1) for place in places)

    @property
    def missing(self) -> int:
        """How many sequence numbers are in the gaps; at least the dropped ones that were not in older files."""
        return sum(last - first + 1 for first, last in self.gaps)

    def times(self, name: str = "total") -> Rows:
        """One time of each run in nanoseconds: ``"total"`` or a phase."""
        column = TIMES.index(one_of(name, TIMES, "time"))
        return self.rows[:, 1 + column] if column else self.rows[:, 2:].sum(axis=1)

    def histogram(self, name: str = "total") -> Histogram:
        """A histogram of one time over all runs of the session, also those that are no longer in a file."""
        one_of(name, TIMES, "time")
        if self.snapshot is None:
            histogram, since = Histogram(), 0
        else:
            since, histogram = self.snapshot[0], self.snapshot[1][name].copy()
        histogram.add(self.times(name)[self.rows[:, 0] >= since])
        return histogram

    def summary(self, name: str = "total") -> LatencySummary:
        """Percentiles: exact when every run is there, else from the histogram (at most 1 % off) if the file has one."""
        if self.snapshot is None or (self.first == 0 and not self.gaps):
            return LatencySummary.of(self.times(name))
        return LatencySummary.of_histogram(self.histogram(name))


class Part:
    """What has been read of a session so far."""

    def __init__(self, header: dict[str, Any], schema: int) -> None:
        self.header = header
        self.schema = schema
        self.blocks: list[Rows] = []
        self.last = -1  # the newest sequence number in this file
        self.first: int | None = None
        self.dropped = 0
        self.damaged = 0
        self.closed: int | None = None
        self.snapshot: tuple[int, dict[str, Histogram]] | None = None

    def finish(self) -> LoggedRuns:
        """The part as callers see it."""
        rows = np.concatenate(self.blocks) if self.blocks else np.empty((0, len(FIELDS)), np.int64)
        if len(self.blocks) > 1 and not (np.diff(rows[:, 0]) > 0).all():
            rows = rows[np.unique(rows[:, 0], return_index=True)[1]]
        first = min(self.first or 0, int(rows[0, 0])) if len(rows) else self.first or 0
        return LoggedRuns(self.header, rows, self.dropped, self.damaged, first, self.closed, self.snapshot)


class Parser:
    """Reads lines as they come.

    Args:
        path: the file's name, for messages.

    Attributes:
        parts: the sessions, in the order in which they were found.
        fresh: rows with the part that they belong to, as they were found; whoever wants them empties it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.parts: list[Part] = []
        self.fresh: list[tuple[Part, Rows]] | None = None
        self._path = path
        self._part: Part | None = None
        self._by_session: dict[str, Part] = {}
        self._rest = b""

    def begin_file(self) -> None:
        """What comes next is the beginning of a file."""
        self._part = None
        self._rest = b""
        for part in self.parts:
            part.last = -1

    def end_file(self) -> None:
        """What has come is all of the file; its last line may be whole without an end."""
        rest, self._rest = self._rest, b""
        if rest.strip(b"\0\n"):
            self._feed_lines([rest])

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the file; half a line waits for its other half.

        Raises:
            DataError: the file is of a newer schema.
        """
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        self._feed_lines(lines)

    def _feed_lines(self, lines: list[bytes]) -> None:
        begin = 0
        for number, line in enumerate(lines):
            if line[:1] == b"[" and number - begin < _BULK:
                continue
            self._feed_rows(lines[begin:number])
            begin = number
            if line[:1] != b"[":
                begin = number + 1
                if line:
                    self._feed_object(line)
        self._feed_rows(lines[begin:])

    def _feed_rows(self, lines: list[bytes]) -> None:
        part = self._part
        if not lines or part is None:
            return
        rows = parse_rows(lines, part.schema, part.last)
        if rows is None:
            for line in lines:
                row = parse_rows([line], part.schema, part.last)
                if row is None:
                    part.damaged += 1
                else:
                    self._take(part, row)
        else:
            self._take(part, rows)

    def _take(self, part: Part, rows: Rows) -> None:
        part.last = int(rows[-1, 0])
        part.blocks.append(rows)
        if self.fresh is not None:
            self.fresh.append((part, rows))

    def _feed_object(self, line: bytes) -> None:
        item = parse_line(line)
        if not isinstance(item, dict):
            if self._part is not None:
                self._part.damaged += 1
        elif item.get("type") == TYPE:
            self._feed_header(item)
        elif isinstance(item.get("session"), str):
            self._part = self._of_session(item["session"], item)
        elif self._part is not None:
            self._feed_note(self._part, item)

    def _feed_header(self, header: dict[str, Any]) -> None:
        schema, session = header.get("schema"), header.get("session")
        if type(schema) is not int or schema < 1:
            if self._part is not None:
                self._part.damaged += 1
            self._part = None
            return
        if schema > SCHEMA:
            raise DataError(f"{self._path} has schema {schema}, this edgekit reads up to {SCHEMA}. Update edgekit.")
        if schema == 1 or not isinstance(session, str):
            self._part = Part(header, schema)
            self.parts.append(self._part)
            return
        self._part = part = self._of_session(session, header)
        if "type" not in part.header:
            part.header = header
        first = header.get("first", 0)
        if type(first) is int and first >= 0:
            part.first = first if part.first is None else min(part.first, first)

    def _of_session(self, session: str, header: dict[str, Any]) -> Part:
        if session not in self._by_session:
            self._by_session[session] = Part(header, SCHEMA)
            self.parts.append(self._by_session[session])
        return self._by_session[session]

    @staticmethod
    def _feed_note(part: Part, item: dict[str, Any]) -> None:
        """A line that says what else happened; what this version does not know is left alone."""
        for key in ("dropped", "closed", "snapshot"):
            if key in item and (type(item[key]) is not int or not 0 <= item[key] < LIMIT):
                part.damaged += 1
                return
        part.dropped = max(part.dropped, item.get("dropped", 0))
        if "closed" in item:
            part.closed = item["closed"]
        if "snapshot" in item and (part.snapshot is None or part.snapshot[0] <= item["snapshot"]):
            try:
                times = item["times"]
                part.snapshot = (item["snapshot"], {name: Histogram.from_json(times[name]) for name in TIMES})
            except (ValueError, KeyError, TypeError):
                part.damaged += 1


def rotated(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """The numbered files that belong to a log, oldest first: their numbers and paths."""
    folder, name = os.path.split(os.path.abspath(path))
    pattern = re.compile(re.escape(name) + r"\.(\d{1,12})")
    found = ((pattern.fullmatch(item), item) for item in os.listdir(folder))
    return sorted((int(match[1]), os.path.join(folder, item)) for match, item in found if match)


def open_files(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Each file of a log, oldest first, open for reading.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    try:
        newest: BinaryIO | None = open(path, "rb")  # noqa: SIM115 - first, and read last: it may be rotated meanwhile
    except FileNotFoundError:
        newest = None
    try:
        older = rotated(path) if newest is None or os.path.isfile(path) else []
        if newest is None and not older:
            open(path, "rb").close()
        identity = None if newest is None else os.fstat(newest.fileno()).st_ino
        for _, name in older:
            try:
                file = open(name, "rb")  # noqa: SIM115 - closed below
            except FileNotFoundError:  # rotation has just deleted it
                continue
            with file:
                if os.fstat(file.fileno()).st_ino != identity:
                    yield file
        if newest is not None:
            yield newest
    finally:
        if newest is not None:
            newest.close()


def not_a_log(path: str | os.PathLike[str]) -> DataError:
    """The error for a file without a header."""
    return DataError(
        f"{path} is not a latency log: its first line is no header of type {TYPE!r}. "
        "A file that `edgekit run --log` wrote was expected."
    )


def logs_of(path: str | os.PathLike[str]) -> list[Path]:
    """The logs that a name means: itself, or all in it when it is a folder, without the numbered files.

    Raises:
        DataError: the folder holds no latency log, or cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    try:
        names = sorted(item.name for item in path.iterdir() if item.is_file())
        bases = sorted({re.sub(r"\.\d{1,12}$", "", name) for name in names})
        found = [path / base for base in bases if any(_is_log(file) for file in open_files(path / base))]
    except OSError as error:
        raise from_os_error(error, path, "read", DataError) from error
    if not found:
        raise DataError(f"{path} holds no latency log. A folder into which `edgekit run --log` wrote was expected.")
    return found


def _is_log(file: BinaryIO) -> bool:
    first = file.read(64)
    return len(first.strip(b"\0\n")) > len(TYPE) + 12 and is_beginning(first)


def read_log(path: str | os.PathLike[str]) -> tuple[LoggedRuns, ...]:
    """Read a latency log, its numbered older files included: one part for each session.

    Args:
        path: a JSON Lines file that a ``LatencyLog`` wrote, or a folder of such files.

    Raises:
        DataError: it is not a latency log, or is of a newer schema.
        EdgekitError: it cannot be read.
    """
    parts: list[LoggedRuns] = []
    for log in logs_of(path):
        parser = Parser(log)
        try:
            for file in open_files(log):
                parser.begin_file()
                while data := file.read(_READ_BYTES):
                    parser.feed(data)
                parser.end_file()
        except OSError as error:
            raise from_os_error(error, log, "read", DataError) from error
        if not parser.parts:
            raise not_a_log(log)
        parts += [part.finish() for part in parser.parts]
    return tuple(parts)

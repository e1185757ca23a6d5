"""The newest runs of a latency log, and the runs that come while one looks on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from edgekit.errors import DataError, from_os_error
from edgekit.runtime.latency import RunRecord
from edgekit.runtime.logfile import Parser, not_a_log, open_files

_READ_BYTES = 1 << 20


class Tail:
    """Reads a log's end, and follows it through rotation.

    Args:
        path: the log, without a number behind its name.

    Raises:
        DataError: it is not a latency log, or cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._parser = Parser(path)
        self._parser.fresh = []
        self._file: BinaryIO | None = None

    def newest(self, count: int) -> list[tuple[Mapping[str, Any], RunRecord]]:
        """The last so many runs, oldest first, each with its session's header; ``read_more`` goes on behind them."""
        try:
            for file in open_files(self._path):
                self._parser.begin_file()
                while data := file.read(_READ_BYTES):
                    self._parser.feed(data)
                    self._forget(count)
                position, identity = file.tell(), os.fstat(file.fileno()).st_ino
            self._file = open(self._path, "rb") if self._path.exists() else None  # noqa: SIM115 - kept open on purpose
            if self._file is not None and os.fstat(self._file.fileno()).st_ino == identity:
                self._file.seek(position)
            else:
                self._parser.begin_file()  # it was rotated just now
        except OSError as error:
            raise from_os_error(error, self._path, "read", DataError) from error
        if not self._parser.parts:
            raise not_a_log(self._path)
        return list(self._take())[-count:] if count else []

    def read_more(self) -> list[tuple[Mapping[str, Any], RunRecord]]:
        """The runs that have come since."""
        try:
            self._read()
            if self._moved():
                self._read()  # what was written between the reading and the moving
                if self._file is not None:
                    self._file.close()
                self._file = open(self._path, "rb")  # noqa: SIM115 - kept open on purpose
                self._parser.begin_file()
                self._read()
        except FileNotFoundError:  # moved away, and the next one has not begun
            pass
        except OSError as error:
            raise from_os_error(error, self._path, "read", DataError) from error
        return list(self._take())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> None:
        if self._file is not None:
            while data := self._file.read(_READ_BYTES):
                self._parser.feed(data)

    def _moved(self) -> bool:
        """Whether the name is another file's by now, or the file was cut short."""
        if self._file is None:
            return True
        there, here = os.stat(self._path), os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) or there.st_size < self._file.tell()

    def _take(self) -> Iterator[tuple[Mapping[str, Any], RunRecord]]:
        fresh, self._parser.fresh = self._parser.fresh or [], []
        for part, rows in fresh:
            part.blocks.clear()  # they are given out, and need not be kept
            for number, a, b, c, d, e in rows.tolist():
                yield part.header, RunRecord(a, b, c, d, e, number)

    def _forget(self, count: int) -> None:
        """Keep no more of a long log in memory than is asked for."""
        fresh = self._parser.fresh or []
        held = sum(len(rows) for _, rows in fresh)
        while fresh and held - len(fresh[0][1]) >= count:
            held -= len(fresh.pop(0)[1])
        for part in self._parser.parts:
            part.blocks.clear()

"""Reading FlatBuffers' tables and vectors, each reference tested before it is followed.

The layout is FlatBuffers' binary format: a root offset, tables with their vtables, vectors with a 32-bit length, everything
aligned to its own size. Native code follows the same references without a test, so what is wrong here must not reach it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmap import mmap

    #: What can be read: ``bytes``, or a mapped file.
    Content = bytes | mmap

#: Sane limit: far above any model for a small device, far below what would exhaust one.
MAX_ITEMS = 200_000


class Damaged(Exception):
    """A reference inside the file leaves the file, or what it says makes no sense; the text names it."""


class File:
    """A file's bytes, and how many items may still be read of it.

    Equal parts are shared (vtables, strings), so that a file may honestly mean a little more than it holds. A damaged
    or hostile one can name the same long part from everywhere, and reading it would take hours.

    Args:
        content: the whole file.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        self.view = memoryview(content)
        self.size = len(content)
        #: By a vtable's place: its tables' length and their fields' places. Writers share equal vtables, so there are few.
        self.vtables: dict[int, tuple[int, tuple[int, ...], int]] = {}
        self._left = 4 * len(content) + 100_000

    def spend(self, items: int) -> None:
        """Count what is read.

        Raises:
            Damaged: more than the file can honestly mean.
        """
        self._left -= items
        if self._left < 0:
            raise Damaged("it refers to the same bytes over and over")


# Bound once: on a device these few calls are most of the time that checking a file takes.
_read_u32 = struct.Struct("<I").unpack_from
_read_i32 = struct.Struct("<i").unpack_from
_read_u16_pair = struct.Struct("<HH").unpack_from
_SCALARS = {kind: struct.Struct(f"<{kind}") for kind in "bBHiIqQf"}


class Table:
    """A FlatBuffers table: where it starts and where each field lies. ``table_at`` makes one."""

    __slots__ = ("fields", "file", "position")

    def __init__(self, file: File, position: int, fields: tuple[int, ...]) -> None:
        self.file = file
        self.position = position
        self.fields = fields

    def scalar(self, field: int, kind: str, default: Any) -> Any:
        """A number; ``kind`` is its letter in ``struct``."""
        offset = self.fields[field] if field < len(self.fields) else 0
        if offset == 0:
            return default
        form = _SCALARS[kind]
        start = self.position + offset
        if start + form.size > self.file.size:
            raise Damaged(f"a field at byte {start} lies outside the file")
        return form.unpack_from(self.file.content, start)[0]

    def _indirect(self, offset: int) -> int:
        """Where the table or vector begins that a field, ``offset`` bytes into this table, refers to."""
        at = self.position + offset
        size = self.file.size
        if at + 4 > size:
            raise Damaged(f"a field at byte {at} lies outside the file")
        target: int = at + _read_u32(self.file.content, at)[0]
        if target + 4 > size:
            raise Damaged(f"an offset at byte {at} points outside the file")
        if target & 3:
            raise Damaged(f"an offset at byte {at} points to byte {target}, which is no multiple of 4")
        return target

    def table(self, field: int) -> Table | None:
        """The table that a field refers to."""
        offset = self.fields[field] if field < len(self.fields) else 0
        return table_at(self.file, self._indirect(offset)) if offset else None

    def vector(self, field: int, size: int) -> tuple[int, int] | None:
        """Start and length of a vector with elements of ``size`` bytes."""
        offset = self.fields[field] if field < len(self.fields) else 0
        if offset == 0:
            return None
        at = self._indirect(offset)
        count: int = _read_u32(self.file.content, at)[0]
        if at + 4 + count * size > self.file.size:
            raise Damaged(f"a vector of {count} items at byte {at} is longer than the file")
        return at + 4, count

    def numbers(self, field: int, kind: str) -> tuple[Any, ...]:
        """A vector of numbers."""
        if field >= len(self.fields) or self.fields[field] == 0:
            return ()
        found = self.vector(field, _SCALARS[kind].size)
        assert found is not None
        start, count = found
        self.file.spend(count)
        return struct.unpack_from(f"<{count}{kind}", self.file.content, start)

    def string(self, field: int) -> str:
        """A text; native code reads it up to the NUL behind it."""
        found = self.vector(field, 1)
        if found is None:
            return ""
        start, count = found
        self.file.spend(count)
        text = self.file.content[start : start + count + 1]
        if len(text) <= count or text[count] != 0:
            raise Damaged(f"the text at byte {start} has no end")
        return text[:count].decode("utf-8", "replace")

    def tables(self, field: int) -> Iterator[Table]:
        """A vector of tables."""
        found = self.vector(field, 4)
        if found is None:
            return
        start, count = found
        if count > MAX_ITEMS:
            raise Damaged(f"a list of {count} items at byte {start}, at most {MAX_ITEMS} are sane")
        for at in range(start, start + 4 * count, 4):
            yield table_at(self.file, at + int(_read_u32(self.file.content, at)[0]))


def table_at(file: File, position: int) -> Table:
    """The table at a byte.

    Raises:
        Damaged: it, its vtable or one of its fields lies outside the file.
    """
    size = file.size
    if position + 4 > size:
        raise Damaged(f"a table at byte {position} lies outside the file")
    vtable: int = position - _read_i32(file.content, position)[0]
    known = file.vtables.get(vtable)
    if known is None:
        known = file.vtables[vtable] = _vtable(file, position, vtable)
    table_bytes, fields, cost = known
    if position + table_bytes > size:
        raise Damaged(f"the table at byte {position} is longer than the file")
    if position & 3:
        raise Damaged(f"the table at byte {position} is not aligned")
    file.spend(cost)
    return Table(file, position, fields)


def _vtable(file: File, position: int, vtable: int) -> tuple[int, tuple[int, ...], int]:
    """A table's length, its fields' places in it, and what looking at them counts."""
    content, size = file.content, file.size
    if vtable < 0 or vtable + 4 > size:
        raise Damaged(f"the vtable of the table at byte {position} lies outside the file")
    if vtable & 1:
        raise Damaged(f"the vtable at byte {vtable} is not aligned")
    vtable_bytes, table_bytes = _read_u16_pair(content, vtable)
    if vtable_bytes < 4 or vtable_bytes % 2 or vtable + vtable_bytes > size or position + table_bytes > size:
        raise Damaged(f"the table at byte {position} is longer than the file")
    fields = struct.unpack_from(f"<{(vtable_bytes - 4) // 2}H", content, vtable + 4)
    if fields and max(fields) >= table_bytes:
        raise Damaged(f"a field of the table at byte {position} lies outside the table")
    return table_bytes, fields, vtable_bytes // 2

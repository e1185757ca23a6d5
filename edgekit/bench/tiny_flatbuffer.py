"""Writes small FlatBuffers front to back: enough for a model of one operator, without the ``flatbuffers`` package.

The layout is FlatBuffers' binary format, which ``edgekit.flatbuffer`` reads: a table is its vtable and then its fields, references are
unsigned and lead forward, everything is aligned to its own size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from edgekit.graph import IDENTIFIER


@dataclass(frozen=True)
class Scalar:
    """A number, by its letter in ``struct``."""

    kind: str
    value: float


@dataclass(frozen=True)
class Numbers:
    """A vector of numbers, or of bytes with ``values`` as ``bytes``.

    Attributes:
        kind: the numbers' letter in ``struct``.
        values: the numbers.
        align: a multiple of so many bytes is where the first one lies, at least its own size.
    """

    kind: str
    values: Sequence[float] | bytes
    align: int = 4


@dataclass(frozen=True)
class Fields:
    """A table: its fields by their numbers in the schema."""

    values: Mapping[int, Value]


Value = Scalar | Numbers | str | Fields | Sequence[Fields]


def write(root: Fields) -> bytes:
    """The whole file.

    Args:
        root: the root table.
    """
    out = bytearray(struct.pack("<I4s", 0, IDENTIFIER))
    waiting: list[Callable[[], None]] = []

    def refer(at: int) -> None:
        struct.pack_into("<I", out, at, len(out) - at)

    def pad(align: int, shift: int = 0) -> None:
        out.extend(bytes(-(len(out) + shift) % align))

    def table(fields: Fields, at: int) -> None:
        values = fields.values
        sizes = {
            number: struct.calcsize(value.kind) if isinstance(value, Scalar) else 4 for number, value in values.items()
        }
        places, size = {}, 4
        for number in sorted(values, key=lambda number: -sizes[number]):
            size += -size % sizes[number]
            places[number], size = size, size + sizes[number]
        slots = [places.get(number, 0) for number in range(max(values, default=-1) + 1)]
        pad(2)
        vtable = len(out)
        out.extend(struct.pack(f"<HH{len(slots)}H", 4 + 2 * len(slots), size, *slots))
        pad(4)
        start = len(out)
        refer(at)
        out.extend(struct.pack("<i", start - vtable) + bytes(size - 4))
        for number, value in values.items():
            if isinstance(value, Scalar):
                struct.pack_into(f"<{value.kind}", out, start + places[number], value.value)
            else:
                waiting.append(partial(child, value, start + places[number]))

    def child(value: Value, at: int) -> None:
        if isinstance(value, Fields):
            table(value, at)
        elif isinstance(value, str):
            text = value.encode()
            pad(4)
            refer(at)
            out.extend(struct.pack("<I", len(text)) + text + b"\0")
        elif isinstance(value, Numbers):
            pad(value.align, 4)
            refer(at)
            packed = (
                value.values
                if isinstance(value.values, bytes)
                else struct.pack(f"<{len(value.values)}{value.kind}", *value.values)
            )
            out.extend(struct.pack("<I", len(value.values)) + packed)
        elif not isinstance(value, Scalar):
            pad(4)
            refer(at)
            start = len(out) + 4
            out.extend(struct.pack("<I", len(value)) + bytes(4 * len(value)))
            for number, item in enumerate(value):
                waiting.append(partial(table, item, start + 4 * number))

    table(root, 0)
    while waiting:
        waiting.pop(0)()
    return bytes(out)

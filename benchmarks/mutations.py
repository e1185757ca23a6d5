"""Damaged copies of a model file: the same number gives the same copy, in every Python.

Five kinds, in turn: ``truncation``, ``bytes`` (one to eight of them, anywhere or in the structure), ``header`` (the first bytes,
the root table and its vtable), ``indices`` (operators' tensors, buffers, operator codes, inputs and outputs, options) and
``sizes`` (tensor shapes and the lengths of lists). Large constants are spared by all but ``bytes``, as a changed weight is a model
like another.
"""

from __future__ import annotations

import random
import struct

import numpy as np

from edgekit.flatbuffer import File, Table, table_at
from edgekit.graph import parse

KINDS = ("truncation", "bytes", "header", "indices", "sizes")
#: Constants up to so many bytes are axes, paddings and the like: part of the structure.
_SMALL = 64
_VALUES = (0, 1, 2, 3, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x40000000, 0x00FFFFFF)
_SIZES = (
    0,
    1,
    2,
    3,
    5,
    7,
    100,
    1000,
    4096,
    65536,
    1 << 20,
    1 << 24,
    1 << 28,
    1 << 30,
    0x7FFFFFFF,
    0xFFFFFFFF,
    0x80000000,
)


class Mutator:
    """Makes damaged copies of one file.

    Args:
        content: a healthy file.
        seed: another one gives other copies.
    """

    def __init__(self, content: bytes, seed: int = 0) -> None:
        self.content = content
        self._seed = seed
        graph = parse(content, "the model")
        base = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
        spared = np.zeros(len(content), bool)
        for subgraph in graph.subgraphs:
            for tensor in subgraph.tensors:
                if tensor.data is not None and len(tensor.data) > _SMALL:
                    start = np.frombuffer(tensor.data, np.uint8).__array_interface__["data"][0] - base
                    spared[start : start + len(tensor.data)] = True
        self._structure = np.flatnonzero(~spared)
        file = File(content)
        root = table_at(file, int(struct.unpack_from("<I", content)[0]))
        self._header = [*range(64), *range(root.position, root.position + 48)]
        self._indices, self._sizes = _places(root, len(content))

    def mutant(self, number: int) -> tuple[str, bytes]:
        """The kind and the bytes of a damaged copy."""
        chance = random.Random(f"{self._seed} {number}")
        kind = KINDS[number % len(KINDS)]
        work = bytearray(self.content)
        while bytes(work) == self.content:
            if kind == "truncation":
                tail = chance.random() < 0.3
                del work[chance.randrange(len(work) - 200 if tail else 0, len(work)) :]
            elif kind == "bytes":
                anywhere = chance.random() < 0.2
                for _ in range(chance.randint(1, 8)):
                    at = chance.randrange(len(work)) if anywhere else int(chance.choice(self._structure))
                    work[at] = chance.choice((work[at] ^ 1 << chance.randrange(8), chance.randrange(256), 0, 0xFF))
            elif kind == "header":
                for _ in range(chance.randint(1, 4)):
                    work[min(chance.choice(self._header), len(work) - 1)] = chance.randrange(256)
            else:
                places = self._indices if kind == "indices" else self._sizes
                for _ in range(chance.randint(1, 3)):
                    _overwrite(work, chance.choice(places), chance, _VALUES if kind == "indices" else _SIZES)
        return kind, bytes(work)


def _overwrite(work: bytearray, at: int, chance: random.Random, values: tuple[int, ...]) -> None:
    """Give a 32-bit word another value: one near its own, or one of ``values``."""
    own = struct.unpack_from("<I", work, at)[0]
    near = own + chance.choice((-4, -2, -1, 1, 2, 4, 8))
    value = near if chance.random() < 0.4 else chance.choice(values)
    struct.pack_into("<I", work, at, value & 0xFFFFFFFF)


def _places(root: Table, size: int) -> tuple[list[int], list[int]]:
    """Where indices lie, and where sizes do: byte numbers of 32-bit words."""
    indices: list[int] = []
    sizes: list[int] = []

    def vector(table: Table, field: int, into: list[int], bytes_each: int = 4) -> None:
        found = table.vector(field, bytes_each)
        if found is not None:
            sizes.append(found[0] - 4)
            into.extend(range(found[0], found[0] + 4 * found[1], 4) if bytes_each == 4 else ())

    def scalars(table: Table) -> None:
        indices.extend(table.position + offset for offset in table.fields if offset and offset % 4 == 0)

    for field in (1, 2, 4, 6, 7):
        vector(root, field, [])
    for field in (1, 4, 6, 7):
        for item in root.tables(field):
            if field != 4:
                scalars(item)
            elif item.vector(0, 1) is not None:
                vector(item, 0, [], 1)
    for subgraph in root.tables(2):
        vector(subgraph, 1, indices)
        vector(subgraph, 2, indices)
        for tensor in subgraph.tables(0):
            vector(tensor, 0, sizes)
            vector(tensor, 7, sizes)
            scalars(tensor)
            quant = tensor.table(4)
            if quant is not None:
                vector(quant, 2, [])
                vector(quant, 3, [], 8)
                scalars(quant)
        for op in subgraph.tables(3):
            vector(op, 1, indices)
            vector(op, 2, indices)
            scalars(op)
            options = op.table(4)
            if options is not None:
                scalars(options)
    keep = size - 4
    return [at for at in indices if at <= keep], [at for at in sizes if at <= keep]

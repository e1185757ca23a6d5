"""Sparse constants as a file stores them: whether sizes, indices and values fit each other, before native code follows them.

The encoding is ``table SparsityParameters`` of TensorFlow Lite's ``schema.fbs``: a tensor's sizes, and behind them those of its
blocks, are walked through one by one. A dense size is counted out; of a sparse one the places that hold something are listed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from edgekit.flatbuffer import Damaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.flatbuffer import Table

#: ``SparseIndexVector`` of schema.fbs: its members' letters in ``struct``.
_LETTERS = {1: "i", 2: "H", 3: "B"}


def check_sparsity(table: Table, shape: tuple[int, ...], name: str) -> int:
    """See that unpacking a sparse constant stays within it.

    Args:
        table: its ``SparsityParameters``.
        shape: the tensor's.
        name: what to call it in messages.

    Returns:
        How many values it has to hold.

    Raises:
        Damaged: sizes and indices do not fit each other or the shape.
    """
    order, blocks = table.numbers(0, "i"), table.numbers(1, "i")
    levels = list(table.tables(2))
    rank = len(shape) + len(blocks)
    if sorted(order) != list(range(rank)) or len(levels) != rank:
        raise _wrong(name, "its sizes are not all walked through once")
    sizes = _sizes(shape, order, blocks, levels, name)
    count = 1
    for axis, level in zip(order, levels, strict=True):
        count = count * sizes[axis] if level.scalar(0, "b", 0) == 0 else _listed(level, count, sizes[axis], name)
    return count


def _sizes(
    shape: tuple[int, ...], order: Sequence[int], blocks: Sequence[int], levels: Sequence[Table], name: str
) -> list[int]:
    """Each axis's size in blocks, and behind them the blocks' own sizes."""
    rank = len(shape)
    sizes = [*shape, *(0 for _ in blocks)]
    for axis, level in zip(order, levels, strict=True):
        if axis >= rank:
            sizes[axis] = level.scalar(1, "i", 0) if level.scalar(0, "b", 0) == 0 else 0
            if sizes[axis] < 1:
                raise _wrong(name, "a block has no size")
    for number, axis in enumerate(blocks):
        if not 0 <= axis < rank or sizes[axis] % sizes[rank + number]:
            raise _wrong(name, f"its blocks do not divide its shape {list(shape)}")
        sizes[axis] //= sizes[rank + number]
    for axis, level in zip(order, levels, strict=True):
        said = level.scalar(1, "i", 0)
        if level.scalar(0, "b", 0) == 0 and said != sizes[axis]:
            raise _wrong(name, f"it says {said} along axis {axis}, {sizes[axis]} follow from its shape")
    return sizes


def _listed(level: Table, count: int, size: int, name: str) -> int:
    """How many places a sparse level has, within each of the ``count`` places of the level above."""
    vectors = []
    for kind, field in ((2, 3), (4, 5)):
        held, letter = level.table(field), _LETTERS.get(level.scalar(kind, "B", 0))
        if held is None or letter is None:
            raise _wrong(name, "a list of places is missing")
        vectors.append(held.numbers(0, letter))
    segments, indices = vectors
    rising = all(low <= high for low, high in itertools.pairwise(segments))
    if len(segments) != count + 1 or segments[0] != 0 or not rising or segments[-1] != len(indices):
        raise _wrong(name, "its lists of places do not fit each other")
    if indices and not 0 <= min(indices) <= max(indices) < size:
        raise _wrong(name, "an index leads out of it")
    return len(indices)


def _wrong(name: str, why: str) -> Damaged:
    return Damaged(f"the sparse constant {name!r} is not in order: {why}")

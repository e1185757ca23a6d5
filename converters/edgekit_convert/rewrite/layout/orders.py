"""Orders of axes: ``(0, 2, 3, 1)`` is what TRANSPOSE makes of [batch, channels, height, width] to have the channels last."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from edgekit.graph import Op
from edgekit.tensors import Array
from edgekit_convert.rewrite.delegate.draft import Draft

#: Axis ``i`` of the new tensor is axis ``order[i]`` of the old one, as ``numpy.transpose`` has it.
Order = tuple[int, ...]
#: What a TRANSPOSE costs beside the values that it moves, and what a RESHAPE costs, in values moved.
_CALL, RESHAPE = 16, 1


def identity(rank: int) -> Order:
    """The order that changes nothing."""
    return tuple(range(rank))


def inverse(order: Order) -> Order:
    """The order that undoes another."""
    return tuple(order.index(axis) for axis in range(len(order)))


def then(first: Order, second: Order) -> Order:
    """One order behind another, as one."""
    return tuple(first[axis] for axis in second)


def permuted(shape: Sequence[int], order: Order) -> tuple[int, ...]:
    """A shape in another order."""
    return tuple(int(shape[axis]) for axis in order)


def without(order: Order, axes: Iterable[int]) -> Order:
    """The order of what is left where axes of the old tensor are dropped."""
    gone = set(axes)
    kept = [axis for axis in range(len(order)) if axis not in gone]
    return tuple(kept.index(axis) for axis in order if axis not in gone)


def in_place(order: Order, shape: Sequence[int]) -> bool:
    """Whether values stay where they are in memory: the axes that are larger than 1 keep their order."""
    large = [axis for axis in order if shape[axis] != 1]
    return large == sorted(large)


def cost(order: Order, shape: Sequence[int]) -> int:
    """What giving a tensor another order costs, in values moved."""
    if order == identity(len(order)):
        return 0
    return RESHAPE if in_place(order, shape) else math.prod(shape) + _CALL


def through_reshape(shape: Sequence[int], order: Order, other: Sequence[int]) -> Order | None:
    """The order of a reshaped tensor, so that a RESHAPE still is all that lies between the two.

    Args:
        shape: the tensor's shape in the old order.
        order: its new order.
        other: the shape that it is reshaped to, or from.

    Returns:
        The other's order; ``None`` where axes that the RESHAPE merges or splits together do not stay together.
    """
    large = [axis for axis in order if shape[axis] != 1]
    if large == sorted(large):
        return identity(len(other))
    blocks = {ours[0]: (ours, theirs) for ours, theirs in _blocks(shape, other)}
    found: list[int] = []
    while large:
        ours, theirs = blocks.get(large[0], ([], []))
        if not ours or large[: len(ours)] != ours:
            return None
        found += theirs
        large = large[len(ours) :]
    return _with_ones(found, other)


def _blocks(shape: Sequence[int], other: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of neighbouring axes, ones left out, that hold the same number of values on both sides."""
    sides = [[axis for axis, size in enumerate(item) if size != 1] for item in (shape, other)]
    blocks: list[tuple[list[int], list[int]]] = []
    while sides[0] and sides[1]:
        ours, theirs = [sides[0].pop(0)], [sides[1].pop(0)]
        while (count := math.prod(shape[a] for a in ours)) != (wanted := math.prod(other[a] for a in theirs)):
            side, block = (0, ours) if count < wanted else (1, theirs)
            if not sides[side]:
                return []
            block.append(sides[side].pop(0))
        blocks.append((ours, theirs))
    return blocks if not sides[0] and not sides[1] else []


def _with_ones(large: Sequence[int], shape: Sequence[int]) -> Order:
    """An order of all axes: the first one of size 1 stays first, others go with the larger axis behind them, or the last one.

    So [1, channels, 1, width] with the width before the channels is [1, 1, width, channels].
    """
    found: list[int] = [0] if shape[0] == 1 else []
    for axis in large:
        first = axis
        while first - 1 > 0 and shape[first - 1] == 1:
            first -= 1
        behind = len(shape) if axis == max(large) else axis + 1
        found += range(first, behind)
    return tuple(found)


def flat_places(shape: Sequence[int], order: Order, count: int) -> Array | None:
    """Where the values of a tensor's last axes, flattened, are after it was given another order.

    Args:
        shape: the tensor's.
        order: its new order.
        count: how many values those last axes hold together.

    Returns:
        The old place of each new one; ``None`` where the order moves an axis in front of them.
    """
    first = len(shape)
    size = 1
    while size < count and first > 0:
        first -= 1
        size *= shape[first]
    large = [axis for axis in order if shape[axis] != 1]
    front = [axis for axis in large if axis < first]
    if size != count or large[: len(front)] != sorted(front):
        return None
    back = [axis - first for axis in order if axis >= first]
    return np.transpose(np.arange(count).reshape(tuple(shape[first:])), back).reshape(-1)


def order_of(draft: Draft, op: Op) -> Order | None:
    """The order that a TRANSPOSE, or a RESHAPE that only moves axes of size 1, gives its tensor; ``None`` for others."""
    if draft.float_op(op, "TRANSPOSE"):
        values = draft.values(op, 1)
        return None if values is None else tuple(int(axis) % len(values) for axis in values)
    if not draft.float_op(op, "RESHAPE"):
        return None
    before, after = draft.shape(op.inputs[0]), draft.shape(op.outputs[0])
    large = [axis for axis, size in enumerate(before) if size != 1]
    if len(before) != len(after) or before == after or [before[axis] for axis in large] != [n for n in after if n != 1]:
        return None
    ones = [axis for axis, size in enumerate(before) if size == 1]
    return tuple(ones.pop(0) if size == 1 else large.pop(0) for size in after)

"""TRANSPOSE, RESHAPE, TRANSPOSE → one TRANSPOSE between two RESHAPEs, which move nothing.

So converters spell a shuffle of pixels and what cuts an image into windows: what is one move of blocks is done in two passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match
from edgekit_convert.rewrite.layout.orders import Order, in_place, inverse, order_of, permuted

#: Kernels move no more axes than this.
_RANK = 6


def find(draft: Draft) -> list[Match]:
    """Every such chain whose parts nothing else reads."""
    found = []
    for last in draft.ops:
        if last.name != "TRANSPOSE" or order_of(draft, last) is None:
            continue
        middle = draft.before(last.inputs[0], "RESHAPE")
        first = draft.before(middle.inputs[0], "TRANSPOSE") if middle is not None else None
        joined = _joined(draft, first, last) if first is not None else None
        if first is not None and middle is not None and joined is not None:
            change = partial(_change, first=first, middle=middle, last=last, shape=joined[0], order=joined[1])
            found.append(Match((first, middle, last), change))
    return found


def _joined(draft: Draft, first: Op, last: Op) -> tuple[tuple[int, ...], Order] | None:
    """The shape that what goes in is given, and the order that its axes then get; ``None`` where one TRANSPOSE cannot do it."""
    before, after = order_of(draft, first), order_of(draft, last)
    if before is None or after is None:
        return None
    source, between = draft.shape(first.inputs[0]), draft.shape(last.inputs[0])
    parts = _parts(permuted(source, before), between)
    if parts is None:
        return None
    sizes, ours, theirs = parts
    # The parts of the axes of what goes in, in its order, and of what comes out.
    start = [part for axis in inverse(before) for part in ours[axis]]
    end = [part for axis in after for part in theirs[axis]]
    blocks: list[list[int]] = []
    for part in end:  # neighbours that stay neighbours move as one
        place = start.index(part)
        if blocks and place > 0 and start[place - 1] == blocks[-1][-1]:
            blocks[-1].append(part)
        else:
            blocks.append([part])
    in_order = sorted(blocks, key=lambda block: start.index(block[0]))
    shape = tuple(math.prod(sizes[part] for part in block) for block in in_order)
    order = tuple(in_order.index(block) for block in blocks)
    if source[:1] == draft.shape(last.outputs[0])[:1] == (1,):  # the batch stays an axis of its own, for other batches
        shape, order = (1, *shape), (0, *(axis + 1 for axis in order))
    return (shape, order) if 0 < len(shape) <= _RANK else None


def _parts(first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[list[int]], list[list[int]]] | None:
    """Sizes of which the axes of two shapes of the same values are made, and which of them each axis is; ones have none."""
    ends = sorted(
        {math.prod(shape[axis:]) for shape in (first, second) for axis in range(len(shape))} | {1}, reverse=True
    )
    if any(larger % smaller for larger, smaller in pairwise(ends)):
        return None
    sizes = [larger // smaller for larger, smaller in pairwise(ends)]
    found = []
    for shape in (first, second):
        axes = []
        for axis in range(len(shape)):
            high, low = math.prod(shape[axis:]), math.prod(shape[axis + 1 :])
            axes.append([place for place in range(len(sizes)) if low <= ends[place + 1] and ends[place] <= high])
        found.append(axes)
    return sizes, found[0], found[1]


def _change(draft: Draft, first: Op, middle: Op, last: Op, shape: tuple[int, ...], order: Order) -> None:
    source, result = draft.inputs(first)[0], last.outputs[0]
    draft.remove(first, middle, last)
    if in_place(order, shape):
        draft.reshape(source, result)
        return
    apart = draft.activation(result, "apart", shape)
    draft.reshape(source, apart)
    turned = draft.activation(result, "turned", permuted(shape, order))
    draft.add("TRANSPOSE", [apart, draft.constant(result, "order", np.array(order, np.int32))], turned)
    draft.reshape(turned, result)

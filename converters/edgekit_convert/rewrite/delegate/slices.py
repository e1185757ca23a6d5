"""STRIDED_SLICE that drops axes, and GATHER of neighbours, → SLICE and RESHAPE.

XNNPACK takes a STRIDED_SLICE with stride 1 and no masks, and no GATHER. Taking element 0 of an axis (``x[:, 0]``) is a
STRIDED_SLICE that drops the axis. One that takes every second place is a RESHAPE into pairs of which the first is taken.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match

_Part = tuple[list[int], list[int]]


def find(draft: Draft) -> list[Match]:
    """Every STRIDED_SLICE and GATHER of a float tensor that takes one block of neighbours."""
    found = []
    for op in draft.ops:
        part = None
        if draft.float_op(op, "STRIDED_SLICE"):
            part = strided(draft, op)
        elif draft.float_op(op, "GATHER"):
            part = _gathered(draft, op)
        if part is not None:
            found.append(Match((op,), partial(_change, op=op, part=part)))
    return found


def strided(draft: Draft, op: Op) -> _Part | None:
    """Where a STRIDED_SLICE begins and how much it takes, of each axis of its input."""
    begin, end, strides = (draft.values(op, place) for place in (1, 2, 3))
    fancy = any(draft.option(op, name) for name in ("ellipsisMask", "newAxisMask", "offset"))
    if begin is None or end is None or strides is None or fancy or any(strides != 1):
        return None
    whole = draft.shape(op.inputs[0])
    masks = [int(draft.option(op, name)) for name in ("beginMask", "endMask", "shrinkAxisMask")]
    starts, sizes = [], []
    for axis, length in enumerate(whole):
        if axis >= begin.size:
            starts.append(0)
            sizes.append(length)
            continue
        first, last = int(begin[axis]), int(end[axis])
        first = 0 if masks[0] >> axis & 1 and not masks[2] >> axis & 1 else first + length if first < 0 else first
        last = length if masks[1] >> axis & 1 else last + length if last < 0 else last
        last = first + 1 if masks[2] >> axis & 1 else min(last, length)
        if not 0 <= first < last <= length:
            return None
        starts.append(first)
        sizes.append(last - first)
    return starts, sizes


def find_strides(draft: Draft) -> list[Match]:
    """Every STRIDED_SLICE of a float tensor with steps larger than 1 along some axes."""
    found = []
    for op in draft.ops:
        steps = _steps(draft, op) if draft.float_op(op, "STRIDED_SLICE") else None
        if steps is not None:
            found.append(Match((op,), partial(_stepped, op=op, steps=steps)))
    return found


def _steps(draft: Draft, op: Op) -> list[tuple[int, int, int, int]] | None:
    """Axis, first place, number of places and step, for each axis along which places are left out; the others are whole."""
    begin, end, strides = (draft.values(op, place) for place in (1, 2, 3))
    fancy = any(draft.option(op, name) for name in ("ellipsisMask", "newAxisMask", "shrinkAxisMask", "offset"))
    if begin is None or end is None or strides is None or fancy or strides.min() < 1 or strides.max() == 1:
        return None
    masks = [int(draft.option(op, name)) for name in ("beginMask", "endMask")]
    found = []
    for axis, (first, last, step) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)):
        length = draft.shape(op.inputs[0])[axis]
        first = 0 if masks[0] >> axis & 1 else first + length if first < 0 else first
        last = length if masks[1] >> axis & 1 else last + length if last < 0 else min(last, length)
        count = -(-(last - first) // step)
        if (first, count, step) == (0, length, 1):
            continue
        # Places are taken in blocks of a step; the blocks must lie within the tensor, some places before the first one perhaps.
        if count < 1 or first < max(0, first + count * step - length):
            return None
        found.append((axis, first, count, step))
    return found


def _stepped(draft: Draft, op: Op, steps: list[tuple[int, int, int, int]]) -> None:
    source, result = draft.inputs(op)[0], op.outputs[0]
    draft.remove(op)
    for axis, first, count, step in steps:
        shape = list(draft.shape(source))
        ahead = max(0, first + count * step - shape[axis])
        if count * step != shape[axis]:
            shape[axis] = count * step
            block = draft.activation(result, f"block_{axis}", shape)
            _slice(draft, source, block, axis, first - ahead, f"of_{axis}")
            source = block
        if step > 1:
            blocks = draft.activation(result, f"steps_{axis}", [*shape[:axis], count, step, *shape[axis + 1 :]])
            draft.reshape(source, blocks)
            one = draft.activation(result, f"one_{axis}", [*shape[:axis], count, 1, *shape[axis + 1 :]])
            _slice(draft, blocks, one, axis + 1, ahead, f"in_{axis}")
            source = draft.activation(result, f"kept_{axis}", [*shape[:axis], count, *shape[axis + 1 :]])
            draft.reshape(one, source)
    draft.replace_result(source, result)


def _slice(draft: Draft, source: int, result: int, axis: int, first: int, part: str) -> None:
    shape = draft.shape(result)
    begin = np.zeros(len(shape), np.int32)
    begin[axis] = first
    size = draft.constant(result, f"{part}_size", np.array(shape, np.int32))
    draft.add("SLICE", [source, draft.constant(result, f"{part}_begin", begin), size], result)


def _gathered(draft: Draft, op: Op) -> _Part | None:
    places = draft.values(op, 1)
    if places is None or int(draft.option(op, "batchDims")) != 0 or places.size == 0 or places.ndim > 1:
        return None
    whole = draft.shape(op.inputs[0])
    axis = int(draft.option(op, "axis")) % len(whole)
    first = int(places.reshape(-1)[0])
    if any(places.reshape(-1) != first + np.arange(places.size)) or not 0 <= first <= whole[axis] - places.size:
        return None
    starts, sizes = [0] * len(whole), list(whole)
    starts[axis], sizes[axis] = first, int(places.size)
    return starts, sizes


def _change(draft: Draft, op: Op, part: _Part) -> None:
    source, result = draft.inputs(op)[0], op.outputs[0]
    begin, size = part
    draft.remove(op)
    if tuple(size) != draft.shape(source):
        block = result if tuple(size) == draft.shape(result) else draft.activation(result, "block", size)
        first = draft.constant(result, "begin", np.array(begin, np.int32))
        draft.add("SLICE", [source, first, draft.constant(result, "size", np.array(size, np.int32))], block)
        source = block
    if source != result:
        draft.reshape(source, result)

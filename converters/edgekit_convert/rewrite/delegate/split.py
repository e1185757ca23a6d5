"""SPLIT into many parts, SPLIT_V and UNPACK → SLICEs; PACK → RESHAPEs and CONCATENATION; a long CONCATENATION → several.

XNNPACK takes a SPLIT in at most 4 parts and a CONCATENATION of at most 5 (xnnpack_delegate.cc), no SPLIT_V, UNPACK or PACK, and SLICE
and RESHAPE as they come.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import NONE, Draft, Match
from edgekit_convert.rewrite.delegate.nearest import MOST

_SPLITS = ("SPLIT", "SPLIT_V", "UNPACK")
_MOST_PARTS = 4


def find(draft: Draft) -> list[Match]:
    """Every SPLIT of more than 4 parts, SPLIT_V and UNPACK of a float tensor."""
    found = []
    for op in draft.ops:
        if draft.float_op(op, *_SPLITS) and _axis(draft, op) is not None:
            if op.name == "SPLIT" and len(op.outputs) <= _MOST_PARTS:
                continue
            found.append(Match((op,), partial(_slices, op=op)))
    return found


def find_joins(draft: Draft) -> list[Match]:
    """Every PACK, and every CONCATENATION of more than 5, of float tensors."""
    found = []
    for op in draft.ops:
        long = draft.float_op(op, "CONCATENATION") and len(op.inputs) > MOST and draft.act(op) == NONE
        if long or draft.float_op(op, "PACK"):
            found.append(Match((op,), partial(_joined, op=op)))
    return found


def _axis(draft: Draft, op: Op) -> int | None:
    """Along which axis an operator takes its input apart."""
    if op.name == "UNPACK":
        axis = int(draft.option(op, "axis"))
    else:
        values = draft.values(op, 0 if op.name == "SPLIT" else 2)
        if values is None:
            return None
        axis = int(values.reshape(-1)[0])
    return axis % len(draft.shape(_whole(op)))


def _whole(op: Op) -> int:
    return op.inputs[1 if op.name == "SPLIT" else 0]


def _slices(draft: Draft, op: Op) -> None:
    axis = _axis(draft, op) or 0
    source = draft.inputs(op)[1 if op.name == "SPLIT" else 0]
    whole = draft.shape(source)
    read = draft.wiring.read_by
    draft.remove(op)
    start = 0
    for result in op.outputs:
        size = 1 if op.name == "UNPACK" else draft.shape(result)[axis]
        shape = [*whole[:axis], size, *whole[axis + 1 :]]
        begin = [0] * len(whole)
        begin[axis], start = start, start + size
        if not read.get(result) and result not in draft.wiring.main.outputs:
            continue
        part = result if op.name != "UNPACK" else draft.activation(result, "part", shape)
        first = draft.constant(result, "begin", np.array(begin, np.int32))
        sizes = draft.constant(result, "size", np.array(shape, np.int32))
        draft.add("SLICE", [source, first, sizes], part)
        if part != result:
            draft.reshape(part, result)


def _joined(draft: Draft, op: Op) -> None:
    parts, result = draft.inputs(op), op.outputs[0]
    axis = int(draft.option(op, "axis")) % len(draft.shape(result))
    draft.remove(op)
    if op.name == "PACK":
        shape = [*draft.shape(result)[:axis], 1, *draft.shape(result)[axis + 1 :]]
        flat = []
        for number, index in enumerate(parts):
            values = draft.wiring.constant(index) if index < len(draft.wiring.main.tensors) else None
            if values is not None:
                flat.append(draft.constant(result, f"part_{number}", values.reshape(shape)))
                continue
            flat.append(draft.activation(result, f"part_{number}", shape))
            draft.reshape(index, flat[-1])
        parts = flat
    level = 0
    while len(parts) > MOST:
        groups = [parts[start : start + MOST] for start in range(0, len(parts), MOST)]
        parts = []
        for number, group in enumerate(groups):
            if len(group) == 1:
                parts += group
                continue
            shape = list(draft.shape(group[0]))
            shape[axis] = sum(draft.shape(index)[axis] for index in group)
            parts.append(draft.activation(result, f"join_{level}_{number}", shape))
            draft.add("CONCATENATION", group, parts[-1], axis=axis)
        level += 1
    draft.add("CONCATENATION", parts, result, axis=axis)

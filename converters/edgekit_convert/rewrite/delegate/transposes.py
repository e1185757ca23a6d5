"""TRANSPOSEs that undo each other, do nothing, or only move axes of size 1, become fewer, none, or a RESHAPE.

An export of a channels-first model is full of them. Moving an axis of size 1 leaves the values where they are in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match


def find(draft: Draft) -> list[Match]:
    """Every TRANSPOSE that can go or be simpler."""
    found: list[Match] = []
    for op in draft.ops:
        order = _order(draft, op)
        if order is None:
            continue
        shape = draft.shape(op.inputs[0])
        first = draft.wiring.made_by.get(op.inputs[0])
        earlier = _order(draft, first) if first is not None else None
        if _in_place(order, shape):
            if order != sorted(order):
                found.append(Match((op,), partial(_reshaped, op=op)))
            elif draft.can_bypass(op):
                found.append(Match((op,), partial(_bypassed, op=op)))
        elif first is not None and earlier is not None:
            both = [earlier[axis] for axis in order]
            if draft.inner(op.inputs[0]) or (both == sorted(both) and op.outputs[0] not in draft.wiring.main.outputs):
                found.append(Match((first, op), partial(_joined, first=first, op=op, order=both)))
    return found


def _order(draft: Draft, op: Op) -> list[int] | None:
    if not draft.float_op(op, "TRANSPOSE"):
        return None
    values = draft.values(op, 1)
    return None if values is None else [int(axis) for axis in values]


def _in_place(order: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether values stay where they are in memory: the axes that are larger than 1 keep their order."""
    large = [axis for axis in order if shape[axis] != 1]
    return large == sorted(large)


def _reshaped(draft: Draft, op: Op) -> None:
    draft.remove(op)
    draft.reshape(draft.inputs(op)[0], op.outputs[0])


def _bypassed(draft: Draft, op: Op) -> None:
    draft.bypass(op)


def _joined(draft: Draft, first: Op, op: Op, order: list[int]) -> None:
    source, result = draft.inputs(first)[0], op.outputs[0]
    if order == sorted(order) and result not in draft.wiring.main.outputs:
        draft.replace_by(op, source)
        return
    draft.remove(op)
    draft.add("TRANSPOSE", [source, draft.constant(result, "order", np.array(order, np.int32))], result)

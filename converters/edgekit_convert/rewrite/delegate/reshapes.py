"""RESHAPE after RESHAPE becomes one; a RESHAPE, SLICE, STRIDED_SLICE or CAST that changes nothing goes."""

from __future__ import annotations

from functools import partial

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match
from edgekit_convert.rewrite.delegate.slices import strided

_NOTHING = ("RESHAPE", "SLICE", "STRIDED_SLICE", "CAST")


def find(draft: Draft) -> list[Match]:
    """Every operator of these that can go."""
    found: list[Match] = []
    for op in draft.ops:
        if not draft.float_op(op, *_NOTHING):
            continue
        if _changes_nothing(draft, op):
            if draft.can_bypass(op):
                found.append(Match((op,), partial(_bypassed, op=op)))
            continue
        first = draft.before(op.inputs[0], "RESHAPE") if op.name == "RESHAPE" else None
        if first is not None:
            found.append(Match((first, op), partial(_joined, first=first, op=op)))
    return found


def _changes_nothing(draft: Draft, op: Op) -> bool:
    if draft.shape(op.inputs[0]) != draft.shape(op.outputs[0]) or draft.tensor(op.inputs[0]).dtype != "float32":
        return False
    return op.name != "STRIDED_SLICE" or strided(draft, op) is not None  # its stride may be -1


def _bypassed(draft: Draft, op: Op) -> None:
    draft.bypass(op)


def _joined(draft: Draft, first: Op, op: Op) -> None:
    draft.remove(first, op)
    draft.reshape(draft.inputs(first)[0], op.outputs[0])

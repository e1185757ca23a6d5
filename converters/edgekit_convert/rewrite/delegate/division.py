"""DIV by a constant → MUL; POW with 2, 3 or 0.5 → MULs or SQRT; ADD_N → ADDs.

XNNPACK takes MUL and ADD in int8, and no DIV; litert-quantizer has no int8 form of the others.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import NONE, Draft, Match


def find(draft: Draft) -> list[Match]:
    """Every such operator."""
    found = []
    for op in draft.ops:
        if draft.float_op(op, "DIV"):
            values = draft.values(op, 1)
            if values is not None and values.dtype == np.float32 and np.all(values):
                found.append(Match((op,), partial(_times, op=op)))
        elif draft.float_op(op, "POW") and draft.number(op, 1) in (2.0, 3.0, 0.5):
            if draft.shape(op.inputs[0]) == draft.shape(op.outputs[0]):
                found.append(Match((op,), partial(_power, op=op)))
        elif draft.float_op(op, "ADD_N") and len(op.inputs) > 1:
            found.append(Match((op,), partial(_sum, op=op)))
    return found


def _times(draft: Draft, op: Op) -> None:
    values = draft.values(op, 1)
    assert values is not None  # find has looked
    inverse = draft.constant(op.outputs[0], "inverse", (1 / values.astype(np.float64)).astype(np.float32))
    draft.remove(op)
    draft.add("MUL", [draft.inputs(op)[0], inverse], op.outputs[0], act=draft.act(op))


def _power(draft: Draft, op: Op) -> None:
    source, result, power = draft.inputs(op)[0], op.outputs[0], draft.number(op, 1)
    draft.remove(op)
    if power == 0.5:
        draft.add("SQRT", [source], result)
        return
    square = result if power == 2 else draft.activation(result, "square")
    draft.add("MUL", [source, source], square, act=NONE)
    if power == 3:
        draft.add("MUL", [square, source], result, act=NONE)


def _sum(draft: Draft, op: Op) -> None:
    first, *rest = draft.inputs(op)
    draft.remove(op)
    for number, index in enumerate(rest):
        total = op.outputs[0] if number == len(rest) - 1 else draft.activation(op.outputs[0], f"sum_{number}")
        draft.add("ADD", [first, index], total, act=NONE)
        first = total

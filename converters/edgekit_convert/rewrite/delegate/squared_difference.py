"""SQUARED_DIFFERENCE → SUB and MUL; division by a SQRT → multiplication by an RSQRT.

Layer normalisation is written with them. XNNPACK takes SUB and MUL in int8 and neither SQUARED_DIFFERENCE nor DIV.
"""

from __future__ import annotations

from functools import partial

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import NONE, Draft, Match


def find(draft: Draft) -> list[Match]:
    """Every SQUARED_DIFFERENCE of floats, and every DIV by a SQRT."""
    found = []
    for op in draft.ops:
        if draft.float_op(op, "SQUARED_DIFFERENCE"):
            found.append(Match((op,), partial(_squared, op=op)))
        elif draft.float_op(op, "DIV") and (root := draft.before(op.inputs[1], "SQRT")) is not None:
            found.append(Match((root, op), partial(_rooted, op=op, root=root)))
    return found


def _squared(draft: Draft, op: Op) -> None:
    result = op.outputs[0]
    difference = draft.activation(result, "difference")
    draft.remove(op)
    draft.add("SUB", draft.inputs(op), difference, act=NONE)
    draft.add("MUL", [difference, difference], result, act=NONE)


def _rooted(draft: Draft, op: Op, root: Op) -> None:
    inverse = draft.activation(root.outputs[0], "inverse")
    draft.remove(op, root)
    draft.add("RSQRT", [draft.inputs(root)[0]], inverse)
    draft.add("MUL", [draft.inputs(op)[0], inverse], op.outputs[0], act=draft.act(op))

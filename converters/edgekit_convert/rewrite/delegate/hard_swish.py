"""HARD_SWISH → ADD 3 with RELU6, MUL by 1/6, MUL by the input.

XNNPACK has no int8 HARD_SWISH, and the interpreter's own is slow. It takes these three, and makes them one lookup. The gate's two
tensors have the ranges 0..6 and 0..1, so that going from one to the other rounds nothing.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import RELU6, Draft, Match


def find(draft: Draft) -> list[Match]:
    """Every HARD_SWISH of floats."""
    return [Match((op,), partial(_change, op=op)) for op in draft.ops if draft.float_op(op, "HARD_SWISH")]


def _change(draft: Draft, op: Op) -> None:
    source, result = draft.inputs(op)[0], op.outputs[0]
    raised, gate = draft.activation(result, "raised"), draft.activation(result, "gate")
    draft.remove(op)
    draft.add("ADD", [source, draft.constant(result, "three", np.array(3, np.float32))], raised, act=RELU6)
    draft.add("MUL", [raised, draft.constant(result, "sixth", np.array(1 / 6, np.float32))], gate)
    draft.add("MUL", [source, gate], result)

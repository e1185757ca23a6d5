"""PRELU with one slope → LEAKY_RELU; LEAKY_RELU and PRELU → two MULs, of which one has a RELU, and their ADD.

max(x, 0) + a·min(x, 0) = a·(x + max(x·(1 - a)/a, 0)) as long as 0 < a ≤ 1. litert-quantizer has no int8 form of either operator.
With one slope XNNPACK makes the three one lookup; what is multiplied by a has that many times the result's scale, so that it
rounds as finely.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit.tensors import Array
from edgekit_convert.rewrite.delegate.draft import NONE, RELU, Draft, Match

#: XNNPACK's MUL takes products of scales down to 1/65536 of the result's (xnnpack_delegate.cc); far above it stays.
_SMALLEST = 1e-3


def find_one_slope(draft: Draft) -> list[Match]:
    """Every PRELU whose slopes are all the same."""
    found = []
    for op in draft.ops:
        slopes = draft.values(op, 1) if draft.float_op(op, "PRELU") else None
        # A slope of 0 is a RELU, which is fused.
        if slopes is not None and slopes.any() and np.all(slopes == slopes.reshape(-1)[0]):
            found.append(Match((op,), partial(_leaky, op=op, slope=float(slopes.reshape(-1)[0]))))
    return found


def find(draft: Draft) -> list[Match]:
    """Every PRELU and LEAKY_RELU with slopes above 0 and up to 1."""
    found = []
    for op in draft.ops:
        slopes = None
        if draft.float_op(op, "LEAKY_RELU"):
            slopes = np.array(draft.option(op, "alpha", 0.0), np.float32)
        elif draft.float_op(op, "PRELU"):
            slopes = draft.values(op, 1)
        if slopes is not None and slopes.size and slopes.min() >= _SMALLEST and slopes.max() <= 1:
            found.append(Match((op,), partial(_spelled, op=op, slopes=slopes)))
    return found


def _leaky(draft: Draft, op: Op, slope: float) -> None:
    draft.remove(op)
    draft.add("LEAKY_RELU", [draft.inputs(op)[0]], op.outputs[0], alpha=slope)


def _spelled(draft: Draft, op: Op, slopes: Array) -> None:
    source, result = draft.inputs(op)[0], op.outputs[0]
    draft.remove(op)
    if slopes.ndim > 1 and all(size == 1 for size in slopes.shape[:-1]):
        slopes = slopes.reshape(-1)
    steep, total = draft.activation(result, "steep"), draft.activation(result, "total")
    rest = (1 / slopes.astype(np.float64) - 1).astype(np.float32)
    draft.add("MUL", [source, draft.constant(result, "rest", np.asarray(rest))], steep, act=RELU)
    draft.add("ADD", [source, steep], total, act=NONE)
    draft.add("MUL", [total, draft.constant(result, "slope", slopes)], result, act=NONE)

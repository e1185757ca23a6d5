"""BATCH_MATMUL with a constant side → FULLY_CONNECTED with the constant as weights.

litert-quantizer gives the weights of a FULLY_CONNECTED a scale for each output channel and a BATCH_MATMUL one for all; and XNNPACK
takes an int8 BATCH_MATMUL only where the zero point of its right side is 0.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit.tensors import Array
from edgekit_convert.rewrite.delegate.draft import NONE, Draft, Match


def find(draft: Draft) -> list[Match]:
    """Every BATCH_MATMUL of floats with one constant matrix."""
    found = []
    for op in draft.ops:
        if not draft.float_op(op, "BATCH_MATMUL"):
            continue
        for side in (1, 0):
            values = draft.values(op, side)
            other = draft.shape(op.inputs[1 - side])
            if (
                values is None
                or values.ndim < 2
                or any(size != 1 for size in values.shape[:-2])
                or values.ndim > len(other)
            ):
                continue
            found.append(Match((op,), partial(_change, op=op, side=side)))
            break
    return found


def _change(draft: Draft, op: Op, side: int) -> None:
    values = draft.values(op, side)
    assert values is not None  # find has looked
    result = op.outputs[0]
    matrix: Array = values.reshape(values.shape[-2:])
    flips = bool(draft.option(op, "adjX", False)), bool(draft.option(op, "adjY", False))
    # FULLY_CONNECTED multiplies rows by rows: the right side wants its columns as rows, and where the left side is the constant
    # the whole product is computed the other way round, (a·b)ᵀ = bᵀ·aᵀ.
    weights: Array = matrix if flips[side] == (side == 1) else matrix.T
    source = draft.inputs(op)[1 - side]
    draft.remove(op)
    if flips[1 - side] == (side == 1):
        source = _transposed(draft, source, result, "turned")
    shape = (*draft.shape(source)[:-1], weights.shape[0])
    product = result if side == 1 else draft.activation(result, "product", shape)
    inputs = [source, draft.constant(result, "weights", weights.astype(np.float32))]
    # A bias of zeros is what bias correction works on.
    inputs.append(draft.constant(result, "bias", np.zeros(weights.shape[0], np.float32)))
    draft.add("FULLY_CONNECTED", inputs, product, act=NONE, keepNumDims=True)
    if side == 0:
        order = draft.constant(result, "order", _last_two(len(shape)))
        draft.add("TRANSPOSE", [product, order], result)


def _transposed(draft: Draft, source: int, like: int, part: str) -> int:
    shape = draft.shape(source)
    turned = draft.activation(like, part, (*shape[:-2], shape[-1], shape[-2]))
    draft.add("TRANSPOSE", [source, draft.constant(like, f"{part}_order", _last_two(len(shape)))], turned)
    return turned


def _last_two(rank: int) -> Array:
    return np.array([*range(rank - 2), rank - 1, rank - 2], np.int32)

"""REDUCE_MAX over height and width → MAX_POOL_2D over the whole image.

litert-quantizer has no int8 form of REDUCE_MAX; both pick a value and round nothing.
"""

from __future__ import annotations

from functools import partial

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import VALID, Draft, Match


def find(draft: Draft) -> list[Match]:
    """Every REDUCE_MAX of an image over both of its axes."""
    found = []
    for op in draft.ops:
        axes = draft.values(op, 1) if draft.float_op(op, "REDUCE_MAX") else None
        shape = draft.shape(op.inputs[0])
        if axes is not None and len(shape) == 4 and sorted(int(axis) % 4 for axis in axes.reshape(-1)) == [1, 2]:
            found.append(Match((op,), partial(_change, op=op)))
    return found


def _change(draft: Draft, op: Op) -> None:
    source, result = draft.inputs(op)[0], op.outputs[0]
    batch, height, width, channels = draft.shape(source)
    draft.remove(op)
    pooled = result
    if len(draft.shape(result)) != 4:
        pooled = draft.activation(result, "pooled", (batch, 1, 1, channels))
        draft.reshape(pooled, result)
    draft.add(
        "MAX_POOL_2D", [source], pooled, padding=VALID, filterHeight=height, filterWidth=width, strideH=1, strideW=1
    )

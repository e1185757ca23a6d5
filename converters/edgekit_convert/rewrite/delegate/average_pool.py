"""AVERAGE_POOL_2D without padding → DEPTHWISE_CONV_2D with constant weights.

XNNPACK has no int8 average pool. The weights are all the same number, which int8 holds exactly; and the convolution may have a
scale of its own, which the pool may not.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import VALID, Draft, Match


def find(draft: Draft) -> list[Match]:
    """Every average pool whose windows all lie within the image."""
    found = []
    for op in draft.ops:
        if not draft.float_op(op, "AVERAGE_POOL_2D"):
            continue
        if int(draft.option(op, "padding")) == VALID or not _pads(draft, op):
            found.append(Match((op,), partial(_change, op=op)))
    return found


def _pads(draft: Draft, op: Op) -> bool:
    before, after = draft.shape(op.inputs[0])[1:3], draft.shape(op.outputs[0])[1:3]
    for axis, letter in enumerate("HW"):
        size = int(draft.option(op, "filterHeight" if letter == "H" else "filterWidth"))
        if (after[axis] - 1) * int(draft.option(op, f"stride{letter}")) + size > before[axis]:
            return True
    return False


def _change(draft: Draft, op: Op) -> None:
    source, result = draft.inputs(op)[0], op.outputs[0]
    channels = draft.shape(result)[-1]
    height, width = int(draft.option(op, "filterHeight")), int(draft.option(op, "filterWidth"))
    weights = np.full((1, height, width, channels), 1 / (height * width), np.float32)
    inputs = [
        source,
        draft.constant(result, "weights", weights),
        draft.constant(result, "bias", np.zeros(channels, np.float32)),
    ]
    draft.remove(op)
    draft.add(
        "DEPTHWISE_CONV_2D",
        inputs,
        result,
        padding=VALID,
        depthMultiplier=1,
        strideH=draft.option(op, "strideH"),
        strideW=draft.option(op, "strideW"),
        act=draft.act(op),
    )

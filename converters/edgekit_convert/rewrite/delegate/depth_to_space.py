"""DEPTH_TO_SPACE → RESHAPE, TRANSPOSE, RESHAPE.

XNNPACK takes an int8 DEPTH_TO_SPACE, but litert-quantizer has no int8 form of it, so that it stands between a DEQUANTIZE and a
QUANTIZE. It moves values and rounds nothing.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match


def find(draft: Draft) -> list[Match]:
    """Every DEPTH_TO_SPACE of floats."""
    return [Match((op,), partial(_change, op=op)) for op in draft.ops if draft.float_op(op, "DEPTH_TO_SPACE")]


def _change(draft: Draft, op: Op) -> None:
    source, result = draft.inputs(op)[0], op.outputs[0]
    batch, height, width, _ = draft.shape(source)
    channels = draft.shape(result)[3]
    block = int(draft.option(op, "blockSize"))
    draft.remove(op)
    # Pixels of one row of the image side by side: the rows of a block are moved past the columns of the image.
    apart = draft.activation(result, "apart", (batch * height, width, block, block * channels))
    turned = draft.activation(result, "turned", (batch * height, block, width, block * channels))
    draft.reshape(source, apart)
    draft.add("TRANSPOSE", [apart, draft.constant(result, "order", np.array([0, 2, 1, 3], np.int32))], turned)
    draft.reshape(turned, result)

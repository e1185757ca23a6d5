"""PAD of an image with zeros before a convolution → the convolution's own SAME padding, where that pads exactly so.

SAME padding depends on size and stride: of an odd total the larger part is at the end. A frame of 1 around an image before a 3×3
convolution with stride 2, as PyTorch has it, is another thing for images of even size, and stays.
"""

from __future__ import annotations

from functools import partial

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import SAME, VALID, Draft, Match

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def find(draft: Draft) -> list[Match]:
    """Every convolution without padding that reads such a PAD, alone."""
    found = []
    for op in draft.ops:
        if not draft.float_op(op, *_CONVOLUTIONS) or int(draft.option(op, "padding")) != VALID:
            continue
        pad = draft.before(op.inputs[0], "PAD")
        if pad is not None and _is_same(draft, pad, op):
            found.append(Match((pad, op), partial(_change, pad=pad, op=op)))
    return found


def _is_same(draft: Draft, pad: Op, op: Op) -> bool:
    frame, weights = draft.values(pad, 1), draft.values(op, 1)
    if frame is None or weights is None or len(pad.inputs) != 2 or frame.shape != (4, 2) or frame[[0, 3]].any():
        return False
    before, after = draft.shape(pad.inputs[0]), draft.shape(op.outputs[0])
    for axis, letter in ((1, "H"), (2, "W")):
        stride = int(draft.option(op, f"stride{letter}", 1))
        reach = int(draft.option(op, f"dilation{letter}Factor", 1)) * (weights.shape[axis] - 1) + 1
        total = max((-(-before[axis] // stride) - 1) * stride + reach - before[axis], 0)
        if after[axis] != -(-before[axis] // stride) or int(frame[axis][0]) != total // 2:
            return False
    return True


def _change(draft: Draft, pad: Op, op: Op) -> None:
    draft.rewire(op, inputs=[draft.inputs(pad)[0], *draft.inputs(op)[1:]])
    draft.set_options(op, padding=SAME)
    draft.remove(pad)

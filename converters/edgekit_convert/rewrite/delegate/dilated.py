"""SPACE_TO_BATCH_ND → convolution → BATCH_TO_SPACE_ND becomes one convolution with dilation.

That is how TensorFlow spells a dilated convolution. XNNPACK takes the convolution with a dilation, in int8 too, and neither of the
two around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import SAME, VALID, Draft, Match

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class _Dilated:
    apart: Op
    convolution: Op
    together: Op
    dilation: tuple[int, int]
    padding: int


def find(draft: Draft) -> list[Match]:
    """Every such three whose padding is one that a convolution has."""
    found = []
    for op in draft.ops:
        spelled = _spelled(draft, op)
        if spelled is not None:
            found.append(Match((spelled.convolution, op), partial(_change, spelled=spelled)))
    return found


def _spelled(draft: Draft, op: Op) -> _Dilated | None:
    if not draft.float_op(op, "BATCH_TO_SPACE_ND"):
        return None
    convolution = draft.before(op.inputs[0], *_CONVOLUTIONS)
    # Several convolutions may read the parts; the last one to go takes it along.
    apart = draft.wiring.made_by.get(convolution.inputs[0]) if convolution is not None else None
    if convolution is None or apart is None or apart.name != "SPACE_TO_BATCH_ND":
        return None
    blocks, pads = draft.values(apart, 1), draft.values(apart, 2)
    other, crops, weights = draft.values(op, 1), draft.values(op, 2), draft.values(convolution, 1)
    if blocks is None or pads is None or other is None or crops is None or weights is None:
        return None
    steps = [
        int(draft.option(convolution, name, 1)) for name in ("strideH", "strideW", "dilationHFactor", "dilationWFactor")
    ]
    if blocks.size != 2 or blocks.tolist() != other.tolist() or steps != [1, 1, 1, 1]:
        return None
    paddings = set()
    for axis in (0, 1):
        total = int(blocks[axis]) * (weights.shape[1 + axis] - 1)
        offset = int(pads[axis][0]) - int(crops[axis][0])
        before, after = draft.shape(apart.inputs[0])[1 + axis], draft.shape(op.outputs[0])[1 + axis]
        inner = int(draft.option(convolution, "padding"))
        if inner == SAME and weights.shape[1 + axis] > 1:  # each part is padded by whole steps at both ends
            offset += int(blocks[axis]) * ((weights.shape[1 + axis] - 1) // 2)
        fits = {SAME} if after == before and offset == total // 2 else set()
        fits |= {VALID} if after == before - total and offset == 0 else set()
        paddings.add(frozenset(fits))
    common = set.intersection(*(set(item) for item in paddings))
    if not common:
        return None
    padding = VALID if VALID in common else SAME
    return _Dilated(apart, convolution, op, (int(blocks[0]), int(blocks[1])), padding)


def _change(draft: Draft, spelled: _Dilated) -> None:
    convolution = spelled.convolution
    inputs = [draft.inputs(spelled.apart)[0], *draft.inputs(convolution)[1:]]
    draft.rewire(convolution, inputs=inputs, outputs=[spelled.together.outputs[0]])
    height, width = spelled.dilation
    draft.set_options(convolution, dilationHFactor=height, dilationWFactor=width, padding=spelled.padding)
    draft.remove(spelled.together)

"""TILE → CONCATENATION of copies.

Keras writes UpSampling2D as RESHAPE, TILE, RESHAPE. litert-quantizer has no int8 form of TILE, XNNPACK takes none, and both have one
of CONCATENATION. Nothing is rounded.
"""

from __future__ import annotations

from functools import partial

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match
from edgekit_convert.rewrite.delegate.nearest import factors_of

_Stage = tuple[int, int]


def find(draft: Draft) -> list[Match]:
    """Every TILE of a float tensor by numbers that are products of 2, 3 and 5."""
    found = []
    for op in draft.ops:
        if (
            not draft.float_op(op, "TILE")
            or draft.values(op, 1) is None
            or draft.wiring.constant(op.inputs[0]) is not None
        ):
            continue
        stages = _stages(draft, op)
        if stages:
            found.append(Match((op,), partial(_change, op=op, stages=stages)))
    return found


def _stages(draft: Draft, op: Op) -> list[_Stage]:
    """Axes and numbers of copies, one CONCATENATION after another."""
    before, after = draft.shape(op.inputs[0]), draft.shape(op.outputs[0])
    stages: list[_Stage] = []
    # From the last axis on, so that the longest stretches of memory are copied last.
    for axis in reversed(range(len(before))):
        steps = factors_of(after[axis] // before[axis])
        if steps is None:
            return []
        stages += [(axis, step) for step in steps]
    return stages


def _change(draft: Draft, op: Op, stages: list[_Stage]) -> None:
    source, result = draft.inputs(op)[0], op.outputs[0]
    shape = list(draft.shape(source))
    draft.remove(op)
    for number, (axis, step) in enumerate(stages):
        shape[axis] *= step
        last = number == len(stages) - 1
        joined = result if last else draft.activation(result, f"copies_{number}", shape)
        draft.add("CONCATENATION", [source] * step, joined, axis=axis)
        source = joined

"""RESIZE_NEAREST_NEIGHBOR by a whole factor → CONCATENATION of copies and RESHAPE, along the width and along the height.

XNNPACK does not take the resize in int8. In memory [height, width, channels·2] of a tensor joined to itself along its channels is
[height, width·2, channels] with each pixel twice; the same is done to whole rows. Nothing is rounded.
"""

from __future__ import annotations

from functools import partial

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match

#: XNNPACK joins at most 5 tensors (xnnpack_delegate.cc).
MOST = 5


def find(draft: Draft) -> list[Match]:
    """Every resize by whole factors for which each pixel becomes a block of its own."""
    found = []
    for op in draft.ops:
        if not draft.float_op(op, "RESIZE_NEAREST_NEIGHBOR") or draft.option(op, "alignCorners", False):
            continue
        before, after = draft.shape(op.inputs[0]), draft.shape(op.outputs[0])
        whole = all(b % a == 0 for a, b in zip(before, after, strict=True))
        factors = (after[1] // before[1], after[2] // before[2])
        if whole and all(factors_of(factor) is not None for factor in factors) and factors != (1, 1):
            found.append(Match((op,), partial(_change, op=op, factors=factors)))
    return found


def factors_of(factor: int) -> list[int] | None:
    """A number as a product of factors that one CONCATENATION can do; ``None`` where it has others."""
    steps = []
    for size in range(MOST, 1, -1):
        while factor % size == 0:
            steps.append(size)
            factor //= size
    return steps if factor == 1 else None


def _change(draft: Draft, op: Op, factors: tuple[int, int]) -> None:
    batch, height, width, channels = draft.shape(op.inputs[0])
    source, result = draft.inputs(op)[0], op.outputs[0]
    draft.remove(op)
    stages = [(1, size) for size in factors_of(factors[1]) or ()] + [(0, size) for size in factors_of(factors[0]) or ()]
    for number, (across, size) in enumerate(stages):
        if not across and height == draft.shape(op.inputs[0])[1]:  # whole rows from here on
            rows = draft.activation(result, "rows", (batch, height, 1, width * channels))
            draft.reshape(source, rows)
            source = rows
        joined_shape = (
            (batch, height, width, size * channels) if across else (batch, height, 1, size * width * channels)
        )
        joined = draft.activation(result, f"{'wide' if across else 'high'}_{number}", joined_shape)
        draft.add("CONCATENATION", [source] * size, joined, axis=3)
        height, width = (height, width * size) if across else (height * size, width)
        last = number == len(stages) - 1
        shape = (batch, height, width, channels) if across else (batch, height, 1, width * channels)
        source = result if last else draft.activation(result, f"part_{number}", shape)
        draft.reshape(joined, source)

"""A RESHAPE or BROADCAST_TO that is there for a broadcast → the broadcast itself; MEAN and RESHAPE → MEAN that keeps its axes or not.

Squeeze-and-excite blocks and ONNX exports are full of [1, C] → [1, 1, 1, C]. ADD, SUB and MUL broadcast [1, C] alike.
"""

from __future__ import annotations

from functools import partial

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match

_BINARY = ("ADD", "SUB", "MUL")


def find(draft: Draft) -> list[Match]:
    """Every RESHAPE and BROADCAST_TO that only such operators read, and every MEAN with a RESHAPE behind it."""
    found = []
    for op in draft.ops:
        if not draft.float_op(op, "RESHAPE", "BROADCAST_TO") or op.outputs[0] in draft.wiring.main.outputs:
            continue
        mean = draft.before(op.inputs[0], "MEAN")
        if mean is not None and op.name == "RESHAPE" and _same_but_ones(draft, op):
            keeps = len(draft.shape(op.outputs[0])) == len(draft.shape(mean.inputs[0]))
            wanted = _mean_shape(draft, mean, keep=keeps)
            if wanted == draft.shape(op.outputs[0]):
                found.append(Match((mean, op), partial(_mean, mean=mean, op=op, keep=keeps)))
                continue
        if draft.wiring.constant(op.inputs[0]) is None and _needless(draft, op):
            found.append(Match((op,), partial(_bypassed, op=op)))
    return found


def _needless(draft: Draft, op: Op) -> bool:
    """Whether all readers give the same without it."""
    source, result = op.inputs[0], op.outputs[0]
    readers = draft.wiring.read_by.get(result, [])
    if not readers or (op.name == "RESHAPE" and not _leading_ones(draft, source, result)):
        return False
    for reader in readers:
        if not draft.float_op(reader, *_BINARY) or reader.inputs[0] == reader.inputs[1]:
            return False
        other = reader.inputs[1 if reader.inputs[0] == result else 0]
        if _broadcast(draft.shape(source), draft.shape(other)) != draft.shape(reader.outputs[0]):
            return False
    return True


def _leading_ones(draft: Draft, source: int, result: int) -> bool:
    """Whether two shapes differ in leading ones only."""
    return _stripped(draft.shape(source)) == _stripped(draft.shape(result))


def _stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    if any(m != n and 1 not in (m, n) for m, n in zip(a, b, strict=True)):
        return None
    return tuple(max(m, n) for m, n in zip(a, b, strict=True))


def _same_but_ones(draft: Draft, op: Op) -> bool:
    shapes = (draft.shape(index) for index in (op.inputs[0], op.outputs[0]))
    first, second = ([size for size in shape if size != 1] for shape in shapes)
    return first == second


def _mean_shape(draft: Draft, mean: Op, *, keep: bool) -> tuple[int, ...] | None:
    axes = draft.values(mean, 1)
    if axes is None or bool(draft.option(mean, "keepDims", False)) == keep:
        return None
    shape = draft.shape(mean.inputs[0])
    gone = {int(axis) % len(shape) for axis in axes.reshape(-1)}
    return tuple(1 if axis in gone else size for axis, size in enumerate(shape) if keep or axis not in gone)


def _mean(draft: Draft, mean: Op, op: Op, keep: bool) -> None:
    draft.set_options(mean, keepDims=keep)
    draft.rewire(mean, outputs=[op.outputs[0]])
    draft.remove(op)


def _bypassed(draft: Draft, op: Op) -> None:
    draft.bypass(op)

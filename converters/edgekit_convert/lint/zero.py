"""Ranges that do not hold zero: an int8 scale must cover it all the same, and the steps in between are wasted."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgekit_convert.graph.wiring import SHAPE_ONLY
from edgekit_convert.lint import normalisation
from edgekit_convert.lint.finding import LintFinding
from edgekit_convert.lint.seen import STEPS, Seen, words

#: Half of the steps wasted is a whole bit lost, 6 dB.
_WASTE = 0.5
#: These take their input's scale, and what is wrong with it was said there.
_SAME_SCALE = SHAPE_ONLY | {
    "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "PADV2", "MIRROR_PAD", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "GATHER",
    "GATHER_ND", "UNPACK", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "CONCATENATION",
    "PACK",
}  # fmt: skip
#: The kernels demand a fixed scale (TensorFlow Lite 8-bit quantization specification).
_FIXED_SCALE = frozenset({"SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION", "LOG_SOFTMAX"})


def find(seen: Seen) -> Iterator[LintFinding]:
    """Each tensor whose values stay away from zero by half of its int8 range or more. Needs true extremes."""
    wiring = seen.wiring
    said = {name for finding in normalisation.find(seen) for name in finding.leave_out}
    for index in (*wiring.main.inputs, *(index for op in wiring.main.ops for index in op.outputs)):
        span = seen.extent(index)
        if span is None or not wiring.is_activation(index) or not all(map(math.isfinite, span)):
            continue
        near, far = min(abs(span[0]), abs(span[1])), max(abs(span[0]), abs(span[1]))
        if span[0] <= 0 <= span[1] or near < _WASTE * far or near == far:
            continue
        op = wiring.made_by.get(index)
        if op is not None and (op.name in _FIXED_SCALE or op.name in _SAME_SCALE):
            continue
        name = wiring.tensor(index).name
        if name in said or _is_factor(seen, index):
            continue
        used = STEPS * (far - near) / far
        text = (
            f"{'input' if op is None else op.name} {name!r} has values from {words(span)}, never near 0, which an int8 range must "
            f"hold as well: {STEPS - used:.0f} of its {STEPS} steps stay unused, {used:.0f} are left."
        )
        if op is None:
            fix = "Have the model take values around 0 and subtract the offset in the preprocessing (--normalize)."
        else:
            fix = (
                f"Take the offset out of the model (the bias of the next layer can hold it), or leave {name!r} and what reads "
                "it in float."
            )
        out = (name, *(wiring.name(reader) for reader in wiring.readers([index]))) if op is not None else ()
        yield LintFinding("warning", "range-without-zero", (name,), text, fix, tuple(dict.fromkeys(out)))


def _is_factor(seen: Seen, index: int) -> bool:
    """Whether a tensor is only ever multiplied with others, as a gate is.

    Its error counts against its size then, not against how much it varies, and a large offset is part of the size.
    """
    wiring = seen.wiring
    readers = wiring.read_by.get(index, ())
    if not readers or index in wiring.main.outputs:
        return False
    for op in readers:
        others = [item for item in op.inputs if item != index and wiring.is_activation(item)]
        scaled = op.name in SHAPE_ONLY or (op.name in ("MUL", "DIV") and op.inputs[0] == index)
        if not (op.name == "MUL" and others) and not (scaled and not others and _is_factor(seen, op.outputs[0])):
            return False
    return True

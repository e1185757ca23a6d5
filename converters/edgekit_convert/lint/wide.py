"""Functions whose results span more orders of magnitude than 256 steps do: EXP, DIV, RSQRT, LOG, POW."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgekit.graph import Op
from edgekit_convert.lint import normalisation
from edgekit_convert.lint.finding import LintFinding, listed
from edgekit_convert.lint.seen import STEPS, Seen, words

#: exp(x) to exp(x + ln 256): what is below the largest result by more than this is less than one step.
_EXP_WIDTH = math.log(STEPS)
#: Which input must not come near 0.
_POLE = {"DIV": 1, "FLOOR_DIV": 1, "RSQRT": 0, "LOG": 0, "POW": 0}


def find(seen: Seen) -> Iterator[LintFinding]:
    """Each such operator outside a normalisation, and each tensor that is infinite. Needs true extremes."""
    if seen.extremes is None:
        return
    yield from _infinite(seen)
    normalising = {op.index for _, path in normalisation.roots(seen.wiring).values() for op in path}
    for op in seen.wiring.main.ops:
        if op.index in normalising or op.custom or not op.outputs:
            continue
        text = _exp(seen, op) if op.name == "EXP" else _pole(seen, op) if op.name in _POLE else None
        if text is not None:
            name = seen.wiring.name(op)
            # The maker of its input too: what was rounded to 0 before stays 0.
            maker = seen.wiring.made_by.get(op.inputs[_POLE.get(op.name, 0)])
            around = [*([maker] if maker else []), op, *seen.wiring.readers(op.outputs)]
            out = tuple(dict.fromkeys(seen.wiring.name(item) for item in around))
            fix = f"Leave {listed(out)} in float, so that the input and the result keep their small values."
            yield LintFinding("warning", "wide-range", (name,), text, fix, out)


def _exp(seen: Seen, op: Op) -> str | None:
    span = seen.extent(op.inputs[0])
    if span is None or not math.isfinite(span[1] - span[0]) or span[1] - span[0] <= _EXP_WIDTH:
        return None
    return (
        f"EXP {seen.wiring.name(op)!r} of {words(span)} gives results from {math.exp(min(span[0], 700)):.3g} to "
        f"{math.exp(min(span[1], 700)):.3g}: all that come from below {span[1] - _EXP_WIDTH:.4g} are less than one int8 step."
    )


def _pole(seen: Seen, op: Op) -> str | None:
    if op.name == "POW":
        exponent = seen.wiring.constant(op.inputs[1])
        if exponent is not None and exponent.size and exponent.min() > 0:
            return None  # a power of a small number is small
    index = op.inputs[_POLE[op.name]]
    span = seen.extent(index)
    if span is None or not seen.wiring.is_activation(index) or not all(map(math.isfinite, span)):
        return None
    far = max(abs(span[0]), abs(span[1]))
    near = 0.0 if span[0] <= 0 <= span[1] else min(abs(span[0]), abs(span[1]))
    step = far / (STEPS - 1)
    if near > step / 2 or far == 0:
        return None
    what = "divides by" if op.name in ("DIV", "FLOOR_DIV") else "takes"
    return (
        f"{op.name} {seen.wiring.name(op)!r} {what} {seen.wiring.tensor(index).name!r}, whose values are {words(span)}: with an "
        f"int8 step of {step:.3g} the small ones become 0, where the result is infinite."
    )


def _infinite(seen: Seen) -> Iterator[LintFinding]:
    """The first tensors that are infinite or not a number: no range can hold them."""
    wiring = seen.wiring
    for op in wiring.main.ops:
        wrong = [index for index in op.outputs if (span := seen.extent(index)) and not all(map(math.isfinite, span))]
        before = [seen.extent(index) for index in op.inputs if index >= 0]
        if wrong and all(span is None or all(map(math.isfinite, span)) for span in before):
            name = wiring.tensor(wrong[0]).name
            span = seen.extent(wrong[0])
            assert span is not None  # it was looked at above
            text = f"{op.name} {name!r} gives {words(span)} on the calibration data: no int8 range holds that."
            fix = "Use a finite number in the model; for a mask or a padding, one just below the values that occur."
            yield LintFinding("warning", "not-finite", (name,), text, fix)

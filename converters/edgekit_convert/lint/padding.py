"""Padding with another value than 0."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgekit_convert.lint.finding import LintFinding, mended
from edgekit_convert.lint.seen import STEPS, Seen, steps, steps_left, words
from edgekit_convert.rewrite import pad_value

#: Padding that leaves the values fewer steps than half costs them a whole bit.
_FEWEST_STEPS = STEPS / 2
#: Without data: trained activations seldom leave -100..100, so that a padding beyond is not meant as one of them.
_LARGE = 100.0


def find(seen: Seen) -> Iterator[LintFinding]:
    """Each PADV2, or PAD with a value, whose value is not 0."""
    wiring = seen.wiring
    by_rule = {op.index for op in pad_value.find(seen.graph)}
    for op in wiring.main.ops:
        value = pad_value.value_of(wiring, op)
        if not value:
            continue
        name = wiring.name(op)
        span = seen.span(op.inputs[0])
        text = f"{op.name} {name!r} pads with {value:.4g}"
        if span is not None and math.isfinite(value):
            whole = (min(span[0], value), max(span[1], value))
            left = steps(span, whole)
            harmful = left < _FEWEST_STEPS
            text += f", the values around it are {words(span)}"
            text += (
                f": the int8 range must hold both, which leaves the values {steps_left(left)}."
                if harmful
                else ": the int8 range holds both well."
            )
        else:
            harmful = not math.isfinite(value) or abs(value) >= _LARGE
            text += (
                ": the int8 range must hold that number too, and leaves the true values few of its steps."
                if harmful
                else "; whether the int8 range holds that well is only known with calibration data."
            )
        rule = seen.mends("pad-value") if harmful and op.index in by_rule else None
        if rule is not None:
            fix = mended(rule)
        elif harmful:
            fix = f"Pad with the lowest value that can occur (0 behind a RELU), or leave {name!r} and what reads it in float."
        else:
            fix = "Nothing need be done; XNNPACK has no int8 PADV2, so that padding with 0 would be faster."
        out = (name, *(wiring.name(reader) for reader in wiring.readers(op.outputs))) if harmful and not rule else ()
        level = "warning" if harmful and not rule else "note"
        yield LintFinding(level, "pad-value", (name,), text, fix, tuple(dict.fromkeys(out)), rule)

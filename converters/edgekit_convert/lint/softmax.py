"""SOFTMAX in the middle of a graph, and the masks before it."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.graph import Op
from edgekit_convert.graph.wiring import SHAPE_ONLY, Wiring
from edgekit_convert.lint.finding import LintFinding, listed, mended
from edgekit_convert.lint.seen import STEPS, Seen, steps, steps_left, words
from edgekit_convert.rewrite import mask

#: What may stand between a classifier's SOFTMAX and the model's outputs.
_TAIL = SHAPE_ONLY | {
    "CONCATENATION", "PACK", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "UNPACK", "GATHER", "ARG_MAX", "TOPK_V2", "CAST",
    "QUANTIZE", "DEQUANTIZE",
}  # fmt: skip


def inner(wiring: Wiring) -> list[Op]:
    """Every SOFTMAX on whose result the graph computes further."""
    return [op for op in wiring.main.ops if op.name == "SOFTMAX" and not wiring.reaches_output(op.outputs[0], _TAIL)]


def find(seen: Seen) -> Iterator[LintFinding]:
    """One finding for all inner softmaxes, and one for each mask that is too large."""
    wiring = seen.wiring
    found = inner(wiring)
    if found:
        names = tuple(wiring.name(op) for op in found)
        longest = max((wiring.tensor(op.outputs[0]).shape or (1,))[-1] for op in found)
        times = "" if len(found) == 1 else f" {len(found)} times"
        text = (
            f"SOFTMAX{times} in the middle of the graph ({listed(names)}): in int8 its result has steps of 1/{STEPS}, and over "
            f"{longest} entries the average one is {STEPS / longest:.2g} steps; what is smaller than half a step becomes 0."
        )
        fix = f"Leave {'it' if len(found) == 1 else 'them'} in float, or in int16: XNNPACK runs a float SOFTMAX and has no int8 one."
        yield LintFinding("warning", "inner-softmax", names, text, fix, names)
    yield from _masks(seen)


def _masks(seen: Seen) -> Iterator[LintFinding]:
    wiring = seen.wiring
    by_constant: dict[int, list[mask.Mask]] = {}
    for item in mask.find(seen.graph):
        by_constant.setdefault(item.constant, []).append(item)
    for constant, items in by_constant.items():
        values = wiring.constant(constant)
        assert values is not None  # the search gave constants
        size = max(values.max(), -values.min())
        name = wiring.tensor(constant).name
        sums = tuple(dict.fromkeys(wiring.tensor(item.softmax.inputs[0]).name for item in items))
        text = f"the mask {name!r} puts {-size:.4g} before the SOFTMAX of {listed(sums)}"
        span = seen.span(items[0].logits)
        if span is not None:
            left = steps(span, (span[0] - float(size), span[1])) if size < float("inf") else 0.0
            text += f", whose other values are {words(span)}: one int8 scale for both leaves them {steps_left(left)}."
        else:
            text += ": one int8 scale for both leaves the true values hardly any step."
        rule = seen.mends("softmax-mask")
        fix = (
            mended(rule)
            if rule
            else "Make the mask in the model only as large as needed: -30 hides as well as -1e9 does."
        )
        out = tuple(dict.fromkeys(wiring.name(item.softmax) for item in items)) + sums
        yield LintFinding(
            "note" if rule else "warning", "softmax-mask", (name, *sums), text, fix, () if rule else out, rule
        )

"""Rewrites of the float graph: one rule per file, each applied only where it is proven equivalent on data.

A ``Rule`` takes a ``ModelT`` object and the schema module, changes the object and returns how often it applied. A
``MeasuredRule`` looks for its pattern in the read-only view, which the lint does too, and knows the extremes of the
tensors that it asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from edgekit.graph import Graph
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.ranges.extremes import Extremes, extremes
from edgekit_convert.rewrite import arithmetic, fold, global_pool, layout, mask, pad_value, squeeze
from edgekit_convert.rewrite.comparing import difference, outputs

#: Largest difference of an output, relative to its largest value, that counts as equivalent in float32.
TOLERANCE = 1e-4
_SAMPLES = 8


@dataclass(frozen=True)
class Rule:
    """A rewrite.

    Attributes:
        name: a short name that stays the same between versions.
        text: what it does and what for.
        apply: changes a ``ModelT`` object in place, given the schema module; returns how often.
    """

    name: str
    text: str
    apply: Callable[[Any, Any], int]


@dataclass(frozen=True)
class MeasuredRule:
    """A rewrite that needs to know what the calibration data make of the model.

    Attributes:
        name: a short name that stays the same between versions.
        text: what it does and what for.
        watch: names the tensors whose extremes it needs; where it names some, all samples are run.
        apply: changes a ``ModelT`` object in place, given the same graph read-only and the extremes; returns how often.
    """

    name: str
    text: str
    watch: Callable[[Graph], tuple[str, ...]]
    apply: Callable[[Any, Graph, Extremes], int]


RULES: tuple[Rule | MeasuredRule, ...] = (
    MeasuredRule("fold", "operators on constants alone become their result", fold.watch, fold.apply),
    Rule("arithmetic", "NEG and SQUARE become MUL, which has an int8 form", arithmetic.apply),
    Rule("squeeze", "SQUEEZE and EXPAND_DIMS become RESHAPE, which has an int8 form", squeeze.apply),
    Rule(
        "global-pool",
        "AVERAGE_POOL_2D over the whole image becomes MEAN, which may change its scale and which XNNPACK takes in int8",
        global_pool.apply,
    ),
    MeasuredRule(
        "pad-value",
        "the padding before a max-pool becomes the lowest value that occurs, so that it does not set the int8 range",
        pad_value.watch,
        pad_value.apply,
    ),
    MeasuredRule(
        "softmax-mask",
        "a mask before a softmax becomes just large enough, so that it does not set the int8 range",
        mask.watch,
        mask.apply,
    ),
)
#: What is done to every pivot: without these it is not the network that was trained, but that and its file format's.
PIVOT_RULES: tuple[Rule | MeasuredRule, ...] = (
    Rule(
        "layout",
        "TRANSPOSEs that are left of a model whose channels came first are moved until they cancel",
        layout.apply,
    ),
)


@dataclass(frozen=True)
class Rewritten:
    """A rule that was applied, or was taken back.

    Attributes:
        rule: which.
        count: how often it matched.
        difference: largest difference of an output, relative to its largest value.
        kept: whether that was within ``TOLERANCE``.
    """

    rule: Rule | MeasuredRule
    count: int
    difference: float
    kept: bool


def rewrite(
    float_model: bytes, data: CalibrationSet, rules: Sequence[Rule | MeasuredRule] | None = None
) -> tuple[bytes, tuple[Rewritten, ...]]:
    """Apply rules, each checked on the model's own calibration data.

    Args:
        float_model: the pivot, all sizes fixed.
        data: representative data.
        rules: which, in order; ``None`` for those that accuracy wants.

    Returns:
        The rewritten pivot, and what each rule that matched did.
    """
    samples: list[dict[str, Array]] = []
    expected: list[Array] = []
    edited: Any = None
    done = []
    for rule in RULES if rules is None else rules:
        # A rule that matches nothing changes nothing, so that the next one may have the same object.
        edited = editing.read(float_model) if edited is None else edited
        count = _apply(rule, edited, float_model, data)
        if count == 0:
            continue
        if not samples:
            samples = [ready.inputs for ready in islice(data, _SAMPLES)]
            expected = outputs(float_model, samples)
        candidate, edited = editing.write(edited), None
        seen = difference(expected, outputs(candidate, samples))
        kept = seen <= TOLERANCE
        done.append(Rewritten(rule, count, seen, kept))
        if kept:
            float_model = candidate
    return float_model, tuple(done)


def _apply(rule: Rule | MeasuredRule, edited: Any, content: bytes, data: CalibrationSet) -> int:
    if isinstance(rule, Rule):
        return rule.apply(edited, editing.schema())
    graph = ModelFile.read(content).graph
    names = rule.watch(graph)
    return rule.apply(edited, graph, extremes(content, data, names) if names else {})

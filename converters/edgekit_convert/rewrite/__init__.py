"""Rewrites of the float graph: one rule per file, each applied only where it is proven equivalent on data.

A rule takes a ``ModelT`` object and the schema module, changes the object and returns how often it applied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.rewrite import global_pool, squeeze

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


RULES: tuple[Rule, ...] = (
    Rule("squeeze", "SQUEEZE becomes RESHAPE, which has an int8 form", squeeze.apply),
    Rule(
        "global-pool",
        "AVERAGE_POOL_2D over the whole image becomes MEAN, which may change its scale and which XNNPACK takes in int8",
        global_pool.apply,
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

    rule: Rule
    count: int
    difference: float
    kept: bool


def rewrite(float_model: bytes, data: CalibrationSet) -> tuple[bytes, tuple[Rewritten, ...]]:
    """Apply all rules, each checked on the model's own calibration data.

    Args:
        float_model: the pivot, all sizes fixed.
        data: representative data.

    Returns:
        The rewritten pivot, and what each rule that matched did.
    """
    samples = [ready.inputs for ready in islice(data, _SAMPLES)]
    expected = _outputs(float_model, samples)
    done = []
    for rule in RULES:
        edited = editing.read(float_model)
        count = rule.apply(edited, editing.schema())
        if count == 0:
            continue
        candidate = editing.write(edited)
        difference = _difference(expected, _outputs(candidate, samples))
        kept = difference <= TOLERANCE
        done.append(Rewritten(rule, count, difference, kept))
        if kept:
            float_model = candidate
    return float_model, tuple(done)


def _outputs(content: bytes, samples: list[dict[str, Array]]) -> list[Array]:
    collected = []
    with Session(ModelFile.read(content), DelegateChoice(DelegateSpec("none", 1), "comparing rewrites")) as session:
        for sample in samples:
            result = session.run(sample)
            collected += list(result.values()) if isinstance(result, dict) else [result]
    return collected


def _difference(expected: list[Array], actual: list[Array]) -> float:
    worst = 0.0
    for a, b in zip(expected, actual, strict=True):
        if a.shape != b.shape:
            return float("inf")
        size = float(np.abs(a).max(initial=0)) or 1.0
        worst = max(worst, float(np.abs(a.astype(np.float64) - b).max(initial=0)) / size)
    return worst

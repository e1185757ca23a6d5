"""Fourth stage: which operators are in int8, the int8 file, and better constants for it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.runtime.delegates import DelegateSpec
from edgekit.tensors import Array
from edgekit_convert.assign.placement import Placement, place
from edgekit_convert.assign.strict import strict_cost
from edgekit_convert.calibration import Finding
from edgekit_convert.options import Progress, Recipe, Target
from edgekit_convert.quantize import quantize
from edgekit_convert.refine.judge import Judge
from edgekit_convert.refine.scales import fit_biases
from edgekit_convert.refine.steps import Refined, Refinery
from edgekit_convert.stages.measuring import Measured, statistics_of
from edgekit_convert.stages.preparing import Prepared

#: Samples that decide between types that are about as fast.
_PLACEMENT_SAMPLES = 16


@dataclass(frozen=True)
class Quantised:
    """The quantised model, refined.

    Attributes:
        placed: which operators stay in float for speed; ``None`` where that was not looked for.
        refined: the file, and what was tried for it.
        findings: what was done, what will hurt, and what it costs.
    """

    placed: Placement | None
    refined: Refined
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "refinements": [step.to_json() for step in self.refined.steps],
            **({"placement": self.placed.to_json()} if self.placed is not None else {}),
        }


def quantise(
    prepared: Prepared, float_model: bytes, measured: Measured, *, recipe: Recipe, target: Target, tell: Progress
) -> Quantised:
    """Quantise and refine; under ``auto`` operators that are faster in float stay there.

    Args:
        prepared: the pivot, its data, and the times.
        float_model: the float graph, rewritten.
        measured: what the data show of it.
        recipe: what to quantise to.
        target: what the file is to run on.
        tell: called as ``tell(step, done, total)``.
    """
    placed = _placed(prepared, float_model, measured, recipe, tell) if _to_place(recipe, target) else None
    findings = list(placed.findings(target.elsewhere)) if placed is not None else []
    layers = placed.layers if placed is not None else None
    findings += measured.hurting(frozenset(layers or ()))
    parts = prepared.audit.parts
    refinery = Refinery(
        refining=prepared.in_order(parts.refining),
        held_out=prepared.in_order(parts.held_out),
        io=recipe.io,
        recipe=recipe.name,
        spec=prepared.spec,
        remeasure=lambda model: statistics_of(prepared, model, "Measuring ranges after equalisation", tell),
        progress=tell,
        layers=layers,
        dense_one_scale=target.edgetpu,
    )
    refined = refinery.run(float_model, measured.statistics, recipe.effort)
    findings += [step.finding() for step in refined.steps] + list(refined.findings)
    if recipe.name == "int8" and target.has_xnnpack:
        findings += strict_cost(refined.model, prepared.float_model, prepared.costs).findings()
    return Quantised(placed, refined, tuple(findings))


def _to_place(recipe: Recipe, target: Target) -> bool:
    return recipe.name == "auto" and target.has_xnnpack


def _placed(prepared: Prepared, float_model: bytes, measured: Measured, recipe: Recipe, tell: Progress) -> Placement:
    """Which operators stay in float, decided on the unrefined file."""
    ranges = measured.statistics.ranges
    plain, _ = fit_biases(quantize(float_model, ranges, recipe.io), float_model)
    samples = prepared.in_order(prepared.audit.parts.refining[:_PLACEMENT_SAMPLES])
    return place(
        plain,
        float_model,
        ranges,
        baseline=prepared.float_model,
        costs=prepared.costs,
        noise=_judged_by(float_model, samples, prepared.spec),
        prefer=measured.prefer,
        progress=tell,
    )


def _judged_by(float_model: bytes, samples: Sequence[Sequence[Array]], spec: DelegateSpec) -> Callable[[bytes], float]:
    """What tells a file's noise share on some samples; nothing is run before it is asked."""
    judge = functools.cache(lambda: Judge(float_model, samples, spec))
    return lambda model: float(judge().noise(model).mean())

"""Fifth stage: the gates, and what leaves int8 where plain int8 misses one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

from edgekit.errors import EngineError
from edgekit_convert.assign import Rescue, rescue
from edgekit_convert.assign.gates import Gates, Prover
from edgekit_convert.calibration import Finding
from edgekit_convert.options import Demands, Progress, Recipe
from edgekit_convert.stages.preparing import Prepared
from edgekit_convert.stages.quantising import Quantised
from edgekit_convert.verify import VerifyReport

#: Samples that the rescue estimates on.
_RESCUE_SAMPLES = 32


@dataclass(frozen=True)
class Gated:
    """The model after the gates had their say.

    Attributes:
        model: the flatbuffer.
        gates: what was asked.
        prover: the figures that decide, of any file; ``None`` where nothing is asked or the float model does not run.
        rescued: what was done for the gates; ``None`` where nothing was asked or may be done.
        findings: what was given up for them.
    """

    model: bytes
    gates: Gates
    prover: Prover | None
    rescued: Rescue | None
    findings: tuple[Finding, ...]

    def with_checks(self, report: VerifyReport, model: bytes, on: str) -> VerifyReport:
        """A report with a check for each gate.

        Args:
            report: the proof.
            model: the finished file.
            on: the data that decide, in words.
        """
        seen = self.prover(model) if self.prover is not None else None
        if seen is None:  # nothing was asked, or the file does not run, which the report says
            return report
        return replace(report, checks=(*report.checks, *self.gates.check(seen, on)))

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            **({"gates": self.gates.to_json()} if self.gates.any else {}),
            **({"rescue": self.rescued.to_json()} if self.rescued is not None else {}),
        }


def meet_gates(
    prepared: Prepared, quantised: Quantised, prefer: list[str], *, recipe: Recipe, demands: Demands, tell: Progress
) -> Gated:
    """Give up int8 for the cheapest operators that make the model meet the gates; only ``auto`` may.

    Args:
        prepared: the pivot, the data that decide, and the times.
        quantised: the model.
        prefer: operators, by the name of their first output, that are tried first.
        recipe: what was quantised to.
        demands: the gates, and the task's figure.
        tell: called as ``tell(step, done, total)``.
    """
    refined, gates, parts = quantised.refined, demands.gates, prepared.audit.parts
    prover = None
    if gates.any:
        only = frozenset() if "verify" in prepared.sets else parts.held_out_numbers
        with contextlib.suppress(EngineError):  # the proof will say that the float model does not run
            prover = Prover(
                prepared.float_model, prepared.deciding, metric=demands.metric, spec=prepared.spec, only=only
            )
    if prover is None or recipe.name != "auto":
        return Gated(refined.model, gates, prover, None, ())
    rescued = rescue(
        refined.model,
        refined.float_model,
        refined.ranges,
        gates=gates,
        prove=prover,
        samples=prepared.in_order(parts.refining[:_RESCUE_SAMPLES]),
        costs=prepared.costs,
        io=recipe.io,
        prefer=prefer,
        progress=tell,
    )
    return Gated(rescued.model, gates, prover, rescued, rescued.findings())

"""Third stage: what the activations of the float graph are like, and what of it will hurt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit.modelfile import ModelFile
from edgekit_convert.calibration import Finding
from edgekit_convert.lint import LintFinding, lint
from edgekit_convert.options import Progress
from edgekit_convert.quantize import int8_operators
from edgekit_convert.ranges import Statistics, measure, statistics_file
from edgekit_convert.stages.preparing import Prepared


@dataclass(frozen=True)
class Measured:
    """What the calibration data show of a float graph.

    Attributes:
        statistics: of its activations.
        linted: what in it will hurt, in the order of the rules.
        findings: whether the statistics were measured.
    """

    statistics: Statistics
    linted: tuple[LintFinding, ...]
    findings: tuple[Finding, ...]

    @property
    def prefer(self) -> list[str]:
        """Operators that accuracy wants in float, by the name of their first output."""
        return [name for item in self.linted for name in item.leave_out]

    def hurting(self, in_float: frozenset[str]) -> list[Finding]:
        """What will hurt, without what was found in operators that stay in float anyway.

        Args:
            in_float: those operators, by the name of their first output.
        """
        return [item.as_finding() for item in self.linted if not (item.leave_out and in_float >= set(item.leave_out))]


def measure_graph(prepared: Prepared, model: bytes, path: Path | None, tell: Progress) -> Measured:
    """Measure the activations on the calibration data, and look for what will hurt.

    Args:
        prepared: the data.
        model: the float graph.
        path: a file of statistics, read where it exists, else written; ``None`` for none.
        tell: called as ``tell(step, done, total)``.
    """
    statistics, reused = _statistics(
        model, prepared.audit.fingerprint, path, lambda: statistics_of(prepared, model, "Measuring ranges", tell)
    )
    linted = lint(
        ModelFile.read(model).graph,
        statistics,
        int8_operators(),
        extremes=statistics.extremes,
        rules_ran=True,
    )
    return Measured(statistics, linted, tuple(reused))


def statistics_of(prepared: Prepared, model: bytes, step: str, tell: Progress) -> Statistics:
    """Measure the activations of a float graph on all calibration data; held-out samples are kept apart.

    Args:
        prepared: the data.
        model: the float graph.
        step: what to call it.
        tell: called as ``tell(step, done, total)``.
    """
    found = prepared.audit
    return measure(model, prepared.data, lambda done: tell(step, done, found.count), apart=found.parts.held_out_numbers)


def _statistics(
    model: bytes, fingerprint: str, path: Path | None, measured: Callable[[], Statistics]
) -> tuple[Statistics, list[Finding]]:
    """What was measured on the float model: read from the file where there is one, else measured and written there."""
    if path is None:
        return measured(), []
    sha256 = hashlib.sha256(model).hexdigest()
    if path.exists():
        statistics = statistics_file.load(path, fingerprint=fingerprint, model_sha256=sha256)
        return statistics, [
            Finding("note", "statistics", f"activation statistics read from {path}, not measured again.")
        ]
    statistics = measured()
    statistics_file.save(path, statistics, fingerprint=fingerprint, model_sha256=sha256)
    return statistics, []

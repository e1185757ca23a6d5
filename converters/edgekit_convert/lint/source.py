"""The lint of a trained model in any form, with or without data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.preprocess import from_options
from edgekit_convert.calibration import CalibrationSet, preprocessing_for
from edgekit_convert.calibration.data import open_data
from edgekit_convert.frontends import Opening, Source, open_source
from edgekit_convert.frontends.examples import Examples
from edgekit_convert.frontends.layout import in_file_layout
from edgekit_convert.lint import lint
from edgekit_convert.lint.finding import LintFinding
from edgekit_convert.quantize import check_installed, int8_operators
from edgekit_convert.ranges.extremes import extremes
from edgekit_convert.rewrite import rewrite


@dataclass(frozen=True)
class LintReport:
    """What the lint found in a model.

    Attributes:
        source: what was looked at.
        samples: how many samples of data the ranges are from; 0 when only the structure was looked at.
        unmeasured: why no ranges were measured, or ``None``.
        findings: warnings first; what a rewrite rule mends is a note that names the rule.
    """

    source: str
    samples: int
    unmeasured: str | None
    findings: tuple[LintFinding, ...]

    @property
    def passed(self) -> bool:
        """Whether no warning is left: nothing was found, or the conversion mends it all."""
        return all(finding.level != "warning" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "source": self.source,
            "samples": self.samples,
            "unmeasured": self.unmeasured,
            "passed": self.passed,
            "findings": [finding.to_json() for finding in self.findings],
        }


def lint_source(
    source: Any,
    calibration: Any = None,
    *,
    normalize: Sequence[float] | str | None = None,
    resize: tuple[int, int] | int | str | None = None,
    color: str | None = None,
    crop: tuple[int, int] | str | None = None,
    samples: int = 1000,
    opening: Opening | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> LintReport:
    """Say what in a trained model will hurt in int8, before it is converted.

    Args:
        source: any source that ``convert`` takes.
        calibration: data as ``convert`` takes it; ``None`` to look at the structure only, which tells neither unequal ranges
            nor ranges without zero.
        normalize: see ``convert``, as the next three.
        resize: see ``convert``.
        color: see ``convert``.
        crop: see ``convert``.
        samples: use at most this many samples.
        opening: how the source is opened.
        progress: called as ``progress(step, done, total)``.

    Raises:
        EdgekitError: the source, the data or an option is not usable.
    """
    tell = progress or (lambda step, done, total: None)
    options = from_options(normalize, resize, color, crop)
    tell("Reading the model", 0, 0)
    examples = Examples(calibration, options) if calibration is not None else None
    opened = open_source(source, replace(opening or Opening(), examples=examples))
    check_installed()  # before the work, and behind what no extra would help
    if calibration is None:
        tell("Making the float .tflite", 0, 0)
        graph = ModelFile.read(opened.export(_closed(opened))).graph
        unmeasured = "no data were given (--calibration): ranges are not known, only the structure was looked at"
        return LintReport(opened.name, 0, unmeasured, lint(graph, None, int8_operators()))
    prepared = preprocessing_for(opened.inputs, options)
    read = open_data(calibration, opened.inputs, samples, "calibration")
    turned, _ = in_file_layout(read, opened.inputs, opened.layouts, prepared)
    data = CalibrationSet(turned, opened.inputs, prepared)
    tell("Making the float .tflite", 0, 0)
    float_model = opened.export(data.pinned())
    pivot = ModelFile.read(float_model)
    foreign = sorted({op.name for op in pivot.graph.main.ops if op.custom})
    if foreign:
        unmeasured = (
            f"no runtime here can run {', '.join(foreign)}: ranges are not known, only the structure was looked at"
        )
        return LintReport(opened.name, 0, unmeasured, lint(pivot.graph, None, int8_operators()))
    data = CalibrationSet(data.source, pivot.inputs, prepared)
    tell("Rewriting the graph", 0, 0)
    rewritten, rules = rewrite(float_model, data)
    count = len(data)
    measured = extremes(rewritten, data, progress=lambda done: tell("Measuring ranges", done, count))
    left = lint(ModelFile.read(rewritten).graph, None, int8_operators(), extremes=measured, rules_ran=True)
    warned = {(item.code, name) for item in left if item.level == "warning" for name in item.tensors}
    kept = {item.rule.name for item in rules if item.kept}
    mended = [
        item
        for item in lint(pivot.graph, None, int8_operators(), extremes=measured)
        if item.automatic in kept and not any((item.code, name) in warned for name in item.tensors)
    ]
    told = {(item.code, name) for item in mended for name in item.tensors}  # what a rule left of it is no news
    left = tuple(item for item in left if not any((item.code, name) in told for name in item.tensors))
    return LintReport(opened.name, count, None, (*left, *mended))


def _closed(opened: Source) -> dict[str, tuple[int, ...]]:
    """The inputs' shapes with a batch of 1.

    Raises:
        ConversionError: other sizes are open as well.
    """
    shapes = {spec.name: (1, *spec.shape[1:]) if spec.shape[:1] == (-1,) else spec.shape for spec in opened.inputs}
    for spec in opened.inputs:
        if -1 in shapes[spec.name]:
            raise ConversionError(
                f"the input {spec} has open sizes besides the batch: give data of the size that it will be used with "
                "(--calibration), or fix the sizes (--shape)."
            )
    return shapes

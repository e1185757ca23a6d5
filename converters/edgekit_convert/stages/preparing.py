"""First stage: the trained model as a float ``.tflite``, and data that were looked through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, OptionError
from edgekit.files import check_writable
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import Array
from edgekit_convert import quantize
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.gates import Gates
from edgekit_convert.assign.timer import Elsewhere
from edgekit_convert.calibration import Audit, CalibrationSet, Finding, Ready, audit, preprocessing_for
from edgekit_convert.calibration.data import DataSource, open_data
from edgekit_convert.frontends import Opening, Source, open_source
from edgekit_convert.frontends.examples import Examples
from edgekit_convert.frontends.layout import in_file_layout, layout_findings
from edgekit_convert.frontends.operators import check_operators
from edgekit_convert.frontends.shapes import check_batch
from edgekit_convert.options import Files, Progress, Reading, Target
from edgekit_convert.rewrite import PIVOT_RULES, Rewritten, rewrite
from edgekit_convert.verify.batches import check_batch_possible

#: The float stage may differ from the original framework by rounding only.
_FLOAT_TOLERANCE = 1e-3
_FLOAT_SAMPLES = 8


@dataclass(frozen=True)
class Prepared:
    """What a conversion starts from.

    Attributes:
        opened: the trained model.
        preprocessing: by input name.
        float_model: the pivot, a float ``.tflite``, all sizes fixed.
        pivot: the same, read.
        sets: data by name: ``"calibration"``, and ``"verify"`` where such were given.
        audit: what the representative data are.
        spec: the delegate that runs models here.
        costs: measured times on it.
        findings: what was noticed.
        batch: samples in one run of a second signature; ``None`` for none.
        rewritten: what the rules for every pivot did to it.
    """

    opened: Source
    preprocessing: Mapping[str, Preprocessing]
    float_model: bytes
    pivot: ModelFile
    sets: dict[str, CalibrationSet]
    audit: Audit
    spec: DelegateSpec
    costs: CostTable
    findings: tuple[Finding, ...]
    batch: int | None = None
    rewritten: tuple[Rewritten, ...] = ()

    @property
    def data(self) -> CalibrationSet:
        """The representative data."""
        return self.sets["calibration"]

    @property
    def deciding(self) -> CalibrationSet:
        """The data that the gates are decided on: those to verify with, where there are some."""
        return self.sets.get("verify", self.data)

    def in_order(self, samples: Iterable[Ready]) -> list[list[Array]]:
        """Inputs in the graph's order."""
        return [[ready.inputs[spec.name] for spec in self.pivot.inputs] for ready in samples]


def prepare(
    source: Any,
    calibration: Any,
    verify: Any,
    *,
    opening: Opening,
    reading: Reading,
    target: Target,
    gates: Gates,
    files: Files,
    tell: Progress,
) -> Prepared:
    """Read model and data, make the pivot, and see that everything that was asked can be done.

    Args:
        source: the trained model.
        calibration: representative data.
        verify: further data for the proof, or ``None``.
        opening: how the model is opened.
        reading: how data become what the model was trained on.
        target: what the file is to run on.
        gates: what is asked of it.
        files: what is read and written.
        tell: called as ``tell(step, done, total)``.

    Raises:
        EdgekitError: something is not usable.
    """
    options = reading.for_one_input()
    files.check()
    check_batch(opening.batch)
    if opening.batch is not None and target.edgetpu:
        raise OptionError("--batch gives a file two graphs, and the Edge TPU compiler takes one: leave it out.")
    tell("Reading the model", 0, 0)
    given = reading.preprocessing
    opened = open_source(source, replace(opening, examples=Examples(calibration, options, given or {})))
    preprocessing = dict(given) if given is not None else preprocessing_for(opened.inputs, options)
    _check_names(preprocessing, opened)
    read: dict[str, DataSource] = {}
    turned: list[Finding] = []
    for name, data, what in (("calibration", calibration, "calibration"), ("verify", verify, "verification")):
        if data is not None or name == "calibration":
            given_data = open_data(data, opened.inputs, reading.samples, what)
            read[name], seen = in_file_layout(given_data, opened.inputs, opened.layouts, preprocessing)
            turned += seen

    tell("Making the float .tflite", 0, 0)
    float_model = opened.export(CalibrationSet(read["calibration"], opened.inputs, preprocessing).pinned())
    pivot = ModelFile.read(float_model)
    _check_inputs(pivot, opened)
    check_operators(pivot, opened.name)
    quantize.check_installed()  # before the work, and behind what no extra would help
    # From here on each sample is held to the pivot's fixed sizes.
    sets = {name: CalibrationSet(item, pivot.inputs, preprocessing) for name, item in read.items()}
    float_model, rewritten = rewrite(float_model, sets["calibration"], PIVOT_RULES)
    pivot = ModelFile.read(float_model)
    if opening.batch is not None:  # what cannot be had is said before the work
        check_batch_possible(float_model, opening.batch)
    gates.check_possible(pivot, sets["calibration"], sets.get("verify"))
    costs = _costs(target, files.cost_table)
    found = audit(
        sets["calibration"],
        said_raw=reading.said_raw,
        graph=pivot.graph,
        input_scale=opened.input_scale,
        progress=lambda done, total: tell("Auditing the calibration data", done, total),
    )
    findings = [
        *found.findings,
        *layout_findings(opened),
        *turned,
        *(Finding("note", "source", note) for note in (*opened.notes, *opened.export_notes)),
    ]
    findings += _compare_float_stage(opened, pivot, sets["calibration"])
    return Prepared(
        opened,
        preprocessing,
        float_model,
        pivot,
        sets,
        found,
        target.spec,
        costs,
        tuple(findings),
        opening.batch,
        rewritten,
    )


def _check_names(preprocessing: Mapping[str, Preprocessing], opened: Source) -> None:
    unknown = sorted(set(preprocessing) - {spec.name for spec in opened.inputs})
    if unknown:
        known = ", ".join(spec.name for spec in opened.inputs)
        raise OptionError(f"preprocessing for the unknown input {', '.join(unknown)}: the model has {known}.")


def _check_inputs(pivot: ModelFile, opened: Source) -> None:
    by_name, by_place = {spec.name for spec in pivot.inputs}, [spec.name for spec in opened.inputs]
    if by_name != set(by_place):
        raise ConversionError(
            f"the float model's inputs are {sorted(by_name)}, the source's {by_place}: please report this model."
        )


def _costs(target: Target, path: Path | None) -> CostTable:
    """The table of times, with what measures them."""
    spec, python = target.spec, target.runtime_python
    costs = CostTable.open(path, spec, Elsewhere(spec, python) if python is not None else None)
    if python is not None:
        costs.check_timer()
    if path is not None:
        check_writable(path, overwrite=True)
    return costs


def difference(expected: Array, actual: Array) -> float:
    """The largest difference of two arrays as a share of the largest value that was expected.

    Args:
        expected: any shape, any numbers.
        actual: the same shape.

    Returns:
        0 for arrays without elements; infinite where one has a value that is no finite number, and the other not that same one.
    """
    a, b = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    if not apart.size:
        return 0.0
    if np.isnan(apart).any():
        return float("inf")
    return float(apart.max()) / (float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) or 1.0)


def _compare_float_stage(opened: Source, pivot: ModelFile, data: CalibrationSet) -> list[Finding]:
    """Compare the pivot with the original framework on a few samples."""
    if opened.reference is None:
        return []
    worst = 0.0
    with Session(pivot, DelegateChoice(DelegateSpec("none", 1), "comparing with the source")) as session:
        order = sorted(spec.name for spec in session.outputs)
        for number, ready in enumerate(data):
            if number == _FLOAT_SAMPLES:
                break
            expected = opened.reference(ready.inputs)
            result = session.run(ready.inputs)
            actual = [result[name] for name in order] if isinstance(result, dict) else [result]
            for a, b in zip(expected, actual, strict=True):
                worst = max(worst, difference(a, b))
    text = f"the float .tflite differs from the original by at most {worst:.1e} of the output's size"
    if worst > _FLOAT_TOLERANCE:
        return [
            Finding(
                "warning",
                "float-stage",
                f"{text}, more than {_FLOAT_TOLERANCE:.0e}: the conversion to float is not faithful.",
            )
        ]
    return [Finding("note", "float-stage", f"{text}.")]

"""Any float model against any quantised one, whoever made them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgekit.errors import AlreadyQuantisedError, ConversionError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing, from_options
from edgekit.runtime.delegates import DelegateChoice
from edgekit.tensors import TensorSpec
from edgekit_convert.assign.sensitivity import first_samples, sensitivity
from edgekit_convert.calibration import CalibrationSet, preprocessing_for
from edgekit_convert.calibration.data import open_data
from edgekit_convert.frontends import Opening, Source, open_source
from edgekit_convert.frontends.examples import Examples
from edgekit_convert.frontends.from_tflite import quantised_kind
from edgekit_convert.frontends.layout import in_file_layout, layouts_from_json
from edgekit_convert.quantize import int8_operators
from edgekit_convert.verify import Check, VerifyReport, corresponding, verify
from edgekit_convert.verify.layers import LayerReport, compare_layers

#: Rounding leaves a cosine above 0.99, equalised channels above this.
_TRAINED_APART = 0.6


def verify_pair(
    float_source: Any,
    candidate: str | os.PathLike[str] | bytes,
    data: Any,
    *,
    normalize: Sequence[float] | str | None,
    resize: tuple[int, int] | int | str | None,
    color: str | None,
    crop: tuple[int, int] | str | None,
    metric: Any,
    samples: int,
    choice: DelegateChoice,
    per_layer: bool = False,
    opening: Opening | None = None,
    progress: Callable[[str, int, int], None] | None,
) -> VerifyReport:
    """Compare two models on data; ``edgekit.verify`` documents the arguments. ``choice`` is the delegate for both."""
    tell = progress or (lambda step, done, total: None)
    tell("Reading the models", 0, 0)
    exported = ModelFile.read(candidate)
    options = from_options(normalize, resize, color, crop)
    own = exported.manifest.preprocessing if exported.manifest is not None and options == Preprocessing() else {}
    examples = Examples(data, options, own)
    opened = _open_float(float_source, exported, replace(opening or Opening(), examples=examples))
    _same_network("inputs", opened.inputs, exported.inputs, exported.name)
    names = corresponding(opened.inputs, exported.inputs)
    prepared: Mapping[str, Preprocessing] = preprocessing_for(opened.inputs, options)
    if not prepared and normalize is None and exported.manifest is not None:
        back = {theirs: ours for ours, theirs in names.items()}
        prepared = {back[name]: item for name, item in exported.manifest.preprocessing.items() if name in back}
    source, turned = in_file_layout(
        open_data(data, opened.inputs, samples, "verification"),
        opened.inputs,
        _layouts(opened, exported, names),
        prepared,
    )
    pinned = CalibrationSet(source, opened.inputs, prepared).pinned()
    float_model = opened.export(pinned)
    pivot = ModelFile.read(float_model)
    _same_network("outputs", pivot.outputs, exported.outputs, exported.name)
    fitting = CalibrationSet(source, pivot.inputs, prepared)
    report = verify(
        float_model,
        exported,
        {"data": fitting},
        io_type=None,
        strict=False,
        allow_custom=tuple(op.name for op in exported.graph.main.ops if op.custom),
        int8_operators=int8_operators(),
        metric=metric,
        choice=choice,
        progress=tell,
    )
    report = replace(report, checks=(*report.checks, *(Check("layout", None, finding.text) for finding in turned)))
    return _with_layers(report, float_model, exported, fitting, tell) if per_layer else report


def _layouts(opened: Source, exported: ModelFile, names: Mapping[str, str]) -> Mapping[str, tuple[int, ...]]:
    """How the float model's inputs lie in the original: as its frontend says, else as the other file's manifest does."""
    if opened.layouts or exported.manifest is None:
        return opened.layouts
    known = layouts_from_json(exported.manifest.source)
    return {ours: known[theirs] for ours, theirs in names.items() if theirs in known}


def _open_float(source: Any, exported: ModelFile, opening: Opening) -> Source:
    """Open the float model, and notice when the two were given the wrong way round."""
    try:
        return open_source(source, opening)
    except AlreadyQuantisedError as error:
        if quantised_kind(exported) is None:
            raise AlreadyQuantisedError(
                f"{error} The other file, {exported.name}, is a float model: give the float model first, then the "
                "quantised one."
            ) from error
        raise


def _with_layers(
    report: VerifyReport,
    float_model: bytes,
    exported: ModelFile,
    data: CalibrationSet,
    tell: Callable[[str, int, int], None],
) -> VerifyReport:
    """The report with the network tensor by tensor; where that cannot be had, the checks say why."""
    if not report.on:  # neither ran on its delegate, and the checks say so
        return report
    name = "layers compared"
    try:
        layers = compare_layers(
            float_model, exported, data, progress=lambda done, total: tell("Comparing layer by layer", done, total)
        )
    except EngineError as error:
        return replace(report, checks=(*report.checks, Check(name, None, f"none: {error}")))
    known, missing = len(layers.layers), len(layers.unmatched)
    text = f"{known} tensors on {layers.samples} samples"
    if missing:
        text += f"; without a counterpart in the float model: {missing}"
    if layers.likeness is not None and layers.likeness < _TRAINED_APART:
        text += (
            f". The weights of the two are not alike (median cosine {layers.likeness:.2f}, near 1 is usual): this int8 model "
            "was probably not made from this float model, but trained on its own"
        )
    checks = [Check(name, None, text)]
    try:
        layers = _with_alone(layers, float_model, exported, data, tell)
    except ConversionError as error:
        checks.append(Check("layers alone", None, f"none: {error}"))
    return replace(report, checks=(*report.checks, *checks), layers=layers)


def _with_alone(
    layers: LayerReport,
    float_model: bytes,
    exported: ModelFile,
    data: CalibrationSet,
    tell: Callable[[str, int, int], None],
) -> LayerReport:
    """The report with what each layer adds alone to the noise at the outputs."""
    shares = sensitivity(
        float_model,
        exported.content,
        first_samples(data),
        {layer.name: layer.int8_name for layer in layers.layers},
        lambda done, total: tell("Quantising each layer alone", done, total),
    )
    return layers.with_alone(shares)


def _same_network(side: str, ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec], origin: str) -> None:
    """Refuse two models whose inputs or outputs cannot be each other's."""
    names = corresponding(ours, theirs) if len(ours) == len(theirs) else {}
    shapes = {spec.name: spec.shape for spec in theirs}
    if not names or not all(_fits(spec.shape, shapes[names[spec.name]]) for spec in ours):
        raise ConversionError(
            f"the float model's {side} are {', '.join(str(spec) for spec in ours)}; those of {origin} are "
            f"{', '.join(str(spec) for spec in theirs)}: they are not the same network."
        )


def _fits(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    return len(first) == len(second) and all(a == b or -1 in (a, b) for a, b in zip(first, second, strict=True))

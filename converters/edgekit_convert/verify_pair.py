"""Any float model against any quantised one, whoever made them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing, from_options
from edgekit.runtime.delegates import DelegateChoice
from edgekit.tensors import TensorSpec
from edgekit_convert.calibration import CalibrationSet, preprocessing_for
from edgekit_convert.data import open_data
from edgekit_convert.frontends import open_source
from edgekit_convert.quantize import int8_operators
from edgekit_convert.verify import VerifyReport, corresponding, verify


def verify_pair(
    float_source: Any,
    candidate: str | os.PathLike[str] | bytes,
    data: Any,
    *,
    normalize: Sequence[float] | str | None,
    resize: tuple[int, int] | str | None,
    color: str | None,
    metric: Any,
    samples: int,
    choice: DelegateChoice,
    progress: Callable[[str, int, int], None] | None,
) -> VerifyReport:
    """Compare two models on data; ``edgekit.verify`` documents the arguments. ``choice`` is the delegate for both."""
    tell = progress or (lambda step, done, total: None)
    tell("Reading the models", 0, 0)
    exported = ModelFile.read(candidate)
    opened = open_source(float_source)
    _same_network("inputs", opened.inputs, exported.inputs, exported.name)
    names = corresponding(opened.inputs, exported.inputs)
    options = from_options(normalize, resize, color)
    prepared: Mapping[str, Preprocessing] = preprocessing_for(opened.inputs, options)
    if not prepared and normalize is None and exported.manifest is not None:
        back = {theirs: ours for ours, theirs in names.items()}
        prepared = {back[name]: item for name, item in exported.manifest.preprocessing.items() if name in back}
    source = open_data(data, opened.inputs, samples, "verification")
    pinned = CalibrationSet(source, opened.inputs, prepared).pinned()
    float_model = opened.export(pinned)
    pivot = ModelFile.read(float_model)
    _same_network("outputs", pivot.outputs, exported.outputs, exported.name)
    return verify(
        float_model,
        exported,
        {"data": CalibrationSet(source, pivot.inputs, prepared)},
        io_type=None,
        strict=False,
        allow_custom=tuple(op.name for op in exported.graph.main.ops if op.custom),
        int8_operators=int8_operators(),
        metric=metric,
        choice=choice,
        progress=tell,
    )


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

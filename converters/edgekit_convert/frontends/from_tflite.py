"""Float ``.tflite`` files: the pivot format itself, whoever wrote them.

Old files are repaired, half floats and sparse weights unpacked, and of several entry points one is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgekit.errors import AlreadyQuantisedError, ConversionError, EngineError, ModelFileError, OptionError, TensorError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import NUMPY_TYPES, Array
from edgekit_convert import graph as editing
from edgekit_convert.frontends.operators import check_operators
from edgekit_convert.frontends.source import Opening, Source
from edgekit_convert.frontends.tflite_kinds import quantised_kind as quantised_kind
from edgekit_convert.frontends.tflite_kinds import stored_kinds
from edgekit_convert.frontends.unused import refuse_unused
from edgekit_convert.graph.entries import keep_entry
from edgekit_convert.graph.plain import plain_floats

_DEFAULT = "serving_default"


def open_model(source: Path | bytes, opening: Opening) -> Source:
    """Open a float ``.tflite`` file, or its bytes.

    Raises:
        ModelFileError: it is damaged.
        AlreadyQuantisedError: it is quantised, by whomever.
        OptionError: an option means nothing here, or the signature does not exist or is not said.
        ConversionError: an input is of a type that no data can be given for.
    """
    model = ModelFile.read(source)
    name = model.path.name if model.path is not None else "the model"
    refuse_unused(opening, "a .tflite file", "trust_source", "model", "channels_last")
    kind = quantised_kind(model)
    if kind is not None:
        raise AlreadyQuantisedError(
            f"{model.name} is quantised already: {kind}. A float model was expected: convert the original that this file "
            "was made from."
        )
    key = _signature(model, opening.signature)
    mended, notes = editing.repair(_entry(model, key))
    notes = (*_said(model, key), *notes)
    repaired = ModelFile.read(mended)
    stored = stored_kinds(repaired)
    if stored:
        edited = editing.read(mended)
        notes += plain_floats(edited)
        if len(edited.subgraphs) == 1:
            editing.drop_unused(edited)
        mended = editing.write(edited)
    inputs = ModelFile.read(mended).inputs
    for spec in inputs:
        if spec.dtype not in NUMPY_TYPES or spec.dtype.startswith("complex"):
            raise ConversionError(
                f"{model.name}: the input {spec.name!r} is of type {spec.dtype}, only tensors of numbers can be converted."
            )

    loosened: list[str] = []

    def export(shapes: dict[str, tuple[int, ...]]) -> bytes:
        loosened.clear()
        try:
            return editing.pin_shapes(mended, shapes, loosened)
        except ConversionError:
            check_operators(ModelFile.read(mended), name)  # an operator that nothing runs is the better reason
            raise

    return Source("tflite", name, inputs, export, _packed(repaired) if stored else None, notes, export_notes=loosened)


def _signature(model: ModelFile, wanted: str | None) -> str | None:
    """The signature to convert; ``None`` for the main subgraph of a file that has none.

    Raises:
        OptionError: there is no such signature, or several and none is the default.
    """
    keys = [signature.key for signature in model.graph.signatures]
    if wanted is not None:
        if wanted not in keys:
            names = ", ".join(keys) or "none"
            raise OptionError(f"{model.name} has no signature {wanted!r}: it has {names}.")
        return wanted
    if _DEFAULT in keys:
        return _DEFAULT
    if len(keys) > 1:
        raise OptionError(
            f"{model.name} has the signatures {', '.join(keys)} and no {_DEFAULT!r}: say which with --signature."
        )
    return keys[0] if keys else None


def _entry(model: ModelFile, key: str | None) -> ModelFile:
    """The same model with one entry point."""
    if len(model.graph.subgraphs) == 1 and len(model.graph.signatures) <= 1:
        return model
    edited = editing.read(model.content)
    keep_entry(edited, key)
    return ModelFile.read(editing.write(edited))


def _said(model: ModelFile, key: str | None) -> tuple[str, ...]:
    keys = [signature.key for signature in model.graph.signatures]
    if len(keys) > 1:
        return (f"of the signatures {', '.join(keys)} the conversion is of {key}",)
    return ()


def _packed(model: ModelFile) -> Callable[[dict[str, Array]], list[Array]] | None:
    """Runs a file whose weights are packed, with the interpreter's own kernels: what the unpacked one is compared with.

    Returns:
        Outputs for inputs by name, in the order of the outputs' names; ``None`` where the interpreter has no kernels for it, as
        for most operators on half floats, or where two outputs are one tensor.
    """
    if len({spec.name for spec in model.outputs}) < len(model.outputs):
        return None
    try:
        session = Session(model, DelegateChoice(DelegateSpec("none", 1), "the file as it was given"))
    except (EngineError, ModelFileError, TensorError):
        return None

    def run(values: dict[str, Array]) -> list[Array]:
        result = session.run(values)
        return (
            [np.asarray(result[name]) for name in sorted(result)] if isinstance(result, dict) else [np.asarray(result)]
        )

    return run

"""Keras models in memory, ``.keras`` and ``.h5`` files: Keras 3, and Keras 2 through tf-keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, ModelFileError
from edgekit_convert.frontends import keras_files, keras_models
from edgekit_convert.frontends.freeze import Network
from edgekit_convert.frontends.source import Opening, Source
from edgekit_convert.frontends.tf_graphs import NARROW
from edgekit_convert.frontends.unused import refuse_unused


def open_archive(path: Path, opening: Opening) -> Source:
    """Open a ``.keras`` archive, or the folder that one was unpacked to.

    Raises:
        ModelFileError: it is damaged.
        ConversionError: it holds code or classes that Keras does not have, or Keras refused it.
    """
    return _open(keras_files.read_archive(path), "keras", opening)


def open_h5(path: Path, opening: Opening) -> Source:
    """Open an ``.h5`` file with Keras 3, or with tf-keras when Keras 3 refuses it.

    Raises:
        ModelFileError: it is damaged, or holds weights without a model.
        ConversionError: it holds code or classes that Keras does not have, or neither Keras reads it.
    """
    return _open(keras_files.read_h5(path), "h5", opening)


def open_model(model: Any, opening: Opening) -> Source:
    """Take a Keras model in memory.

    Raises:
        ConversionError: it is not a model, or its inputs are not known.
    """
    refuse_unused(opening, "a Keras model in memory", "signature", "model", "channels_last", "trust_source")
    keras_files.import_keras()
    if not keras_files.is_keras_model(model):
        raise ConversionError(
            f"cannot convert a {type(model).__module__}.{type(model).__qualname__}: a Keras model was expected. Put a layer into one "
            "with `keras.Sequential([keras.Input(shape), layer])`."
        )
    # Whatever code it has is the caller's own.
    return _source(model, "keras", str(getattr(model, "name", "model")), opening, (), trusted=True)


def _open(file: keras_files.KerasFile, kind: str, opening: Opening) -> Source:
    refuse_unused(opening, "a Keras model", "signature", "channels_last")
    name = file.path.name
    if opening.model is not None:
        model = keras_files.fill(file, opening.model, lambda made: keras_models.build(made, opening.shapes))
        note = f"the model is what {_said(opening.model)} makes; its weights were read from the file."
        return _source(model, kind, name, opening, (note,), trusted=True)
    if file.config is None:
        raise ModelFileError(
            f"{file.path} holds weights without a model: give a function that makes the model (--model module:function), or save "
            "the whole model (`model.save`), not its weights."
        )
    model, notes = keras_files.load(file, trusted=opening.trust_source)
    return _source(model, kind, name, opening, notes, trusted=opening.trust_source)


def _said(factory: Any) -> str:
    return factory if isinstance(factory, str) else str(getattr(factory, "__name__", "the function"))


def _source(model: Any, kind: str, name: str, opening: Opening, notes: tuple[str, ...], *, trusted: bool) -> Source:
    """The source of a model that is loaded."""
    keras_models.refuse_quantised(model, name)
    entry = keras_models.entry(model, name, opening.shapes)
    narrow = sorted(set(keras_models.compute_types(model)) & set(NARROW))
    if narrow:
        notes = (*notes, f"the model computes in {' and '.join(narrow)} in places: these were made float32.")
    network = Network(entry.call, entry.dtypes, name, trusted=trusted)
    scale = keras_models.input_scale(model)
    return Source(kind, name, entry.specs, network.export, network.reference, notes, scale, owner=model)

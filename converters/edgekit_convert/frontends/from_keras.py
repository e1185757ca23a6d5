"""Keras 3 (``.keras`` files and models in memory) and ``.h5`` files, old ones through tf-keras."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, ModelFileError
from edgekit.tensors import Array, TensorSpec
from edgekit_convert.frontends.freeze import import_tensorflow, to_float_tflite
from edgekit_convert.frontends.source import Source


def open_archive(path: Path) -> Source:
    """Open a ``.keras`` file.

    Raises:
        ConversionError: Keras refused it.
    """
    import_tensorflow()
    import keras

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises its own, Python's and zip errors here, all about the file
        raise ConversionError(_refused(path, error)) from error
    return _source(model, "keras", path.name, ())


def open_h5(path: Path) -> Source:
    """Open an ``.h5`` file with Keras 3, or with tf-keras when Keras 3 refuses it.

    Raises:
        ModelFileError: it holds no model, or is damaged.
        ConversionError: it holds code (a Lambda layer), or neither Keras reads it.
    """
    config = _h5_config(path)
    if any(item.get("class_name") == "Lambda" for item in _walk(config)):
        raise ConversionError(
            f"{path} has a Lambda layer, whose code is stored in the file and would run on loading. edgekit does not run "
            "code from a model file. Load it in your own program if you trust it, and pass the model object."
        )
    import_tensorflow()
    import keras

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _source(keras.models.load_model(path, compile=False), "h5", path.name, ())
    except Exception as error:  # whatever Keras 3 dislikes in an old file, tf-keras is asked next
        first = error
    try:
        import tf_keras
    except ImportError as error:
        raise ConversionError(
            f"{_refused(path, first)} Older files need tf-keras: `pip install 'edgekit[convert]'`."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = tf_keras.models.load_model(path, compile=False)
    except Exception as error:  # as above
        raise ConversionError(f"{_refused(path, first)} tf-keras refused it as well: {_first_line(error)}") from error
    note = f"Keras 3 refused the file ({_first_line(first)}); it was read with tf-keras."
    return _source(model, "h5", path.name, (note,))


def open_model(model: Any) -> Source:
    """Take a Keras model in memory.

    Raises:
        ConversionError: its inputs are not known.
    """
    import_tensorflow()
    return _source(model, "keras", str(getattr(model, "name", "model")), ())


def _h5_config(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ConversionError(f"reading {path} needs h5py ({error}): `pip install 'edgekit[convert]'`.") from error
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except OSError as error:
        raise ModelFileError(
            f"{path} is damaged or cut short: {_first_line(error)}. Copy it again, or save the model again."
        ) from error
    if text is None:
        raise ModelFileError(
            f"{path} holds weights without a model: save the whole model (`model.save`), not its weights."
        )
    try:
        return json.loads(text)
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged: its model_config is not JSON ({error}).") from error


def _walk(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict):
        yield item
        for value in item.values():
            yield from _walk(value)
    elif isinstance(item, list):
        for value in item:
            yield from _walk(value)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _refused(path: Path, error: Exception) -> str:
    text = f"Keras cannot load {path}: {_first_line(error)}"
    if "ambda" in str(error) or "safe_mode" in str(error):
        text += (
            " Code in a model file is not run. Load it in your own program if you trust it, and pass the model object."
        )
    return text if text.endswith(".") else f"{text}."


def _source(model: Any, kind: str, name: str, notes: tuple[str, ...]) -> Source:
    tensors = getattr(model, "inputs", None)
    if not tensors:
        raise ConversionError(
            f"the Keras model {name} does not know its inputs (a subclassed model). Export it with "
            "`model.export('folder')` and convert that folder."
        )
    names = [str(tensor.name).split(":")[0] for tensor in tensors]
    specs = tuple(
        TensorSpec(label, tuple(-1 if size is None else int(size) for size in tensor.shape), _dtype(tensor.dtype))
        for label, tensor in zip(names, tensors, strict=True)
    )
    structure = getattr(model, "_inputs_struct", None)

    def call(values: dict[str, Any]) -> dict[str, Any]:
        ordered = [values[label] for label in names]
        if isinstance(structure, dict):
            argument: Any = {key: values[str(item.name).split(":")[0]] for key, item in structure.items()}
        elif isinstance(structure, list | tuple) or len(ordered) > 1:
            argument = ordered
        else:
            argument = ordered[0]
        return _name_outputs(model(argument, training=False))

    def export(shapes: dict[str, tuple[int, ...]]) -> bytes:
        return to_float_tflite(call, {spec.name: (shapes[spec.name], spec.dtype) for spec in specs})

    def reference(values: dict[str, Array]) -> list[Array]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = call(dict(values))
        return [np.asarray(results[key]) for key in sorted(results)]

    return Source(kind, name, specs, export, reference, notes, _input_scale(model))


def _input_scale(model: Any) -> float | None:
    """The factor of a Rescaling layer among the first layers; converters often fold it into the first weights."""
    for layer in list(getattr(model, "layers", ()))[:4]:
        if type(layer).__name__ == "Rescaling":
            return float(np.abs(np.asarray(layer.scale)).max())
    return None


def _dtype(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def _name_outputs(result: Any) -> dict[str, Any]:
    """Outputs by name: a model's own keys, else ``output_0``, ``output_1``, ... in order."""
    if isinstance(result, dict):
        return {str(key): value for key, value in result.items()}
    items = list(result) if isinstance(result, list | tuple) else [result]
    width = len(str(len(items) - 1))
    return {f"output_{number:0{width}d}": item for number, item in enumerate(items)}

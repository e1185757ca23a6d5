"""TensorFlow SavedModel folders."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, OptionError
from edgekit.tensors import Array, TensorSpec
from edgekit_convert.frontends.freeze import import_tensorflow, to_float_tflite
from edgekit_convert.frontends.source import Source

_DEFAULT = "serving_default"


def open_model(path: Path) -> Source:
    """Open a SavedModel and its default signature.

    Raises:
        ConversionError: TensorFlow cannot load it, or an input is not a tensor of numbers.
        OptionError: it has several signatures and none is the default.
    """
    tf = import_tensorflow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded, signatures = _load(tf, path)
    except Exception as error:  # TensorFlow raises its own, Python's and protobuf's errors here, all about the folder
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConversionError(f"TensorFlow cannot load the SavedModel {path}: {first.strip()[:400]}.") from error
    if _DEFAULT in signatures:
        function = signatures[_DEFAULT]
    elif len(signatures) == 1:
        function = next(iter(signatures.values()))
    elif not signatures:
        raise ConversionError(f"the SavedModel {path} has no signature: export it with one (`model.export`).")
    else:
        raise OptionError(
            f"the SavedModel {path} has the signatures {', '.join(signatures)} and no {_DEFAULT!r}: export it with one."
        )
    specs = tuple(_spec(name, tensor, path) for name, tensor in function.structured_input_signature[1].items())

    def call(values: dict[str, Any]) -> dict[str, Any]:
        return {str(key): value for key, value in function(**values).items()}

    def export(shapes: dict[str, tuple[int, ...]]) -> bytes:
        return to_float_tflite(call, {spec.name: (shapes[spec.name], spec.dtype) for spec in specs})

    def reference(values: dict[str, Array]) -> list[Array]:
        results = call({name: tf.constant(value) for name, value in values.items()})
        return [np.asarray(results[key]) for key in sorted(results)]

    # The functions use variables that TensorFlow frees with the object that owns them.
    return Source("saved_model", path.name, specs, export, reference, owner=loaded)


def _load(tf: Any, path: Path) -> tuple[Any, dict[str, Any]]:
    """Load with the current loader, or with the old one for folders that TensorFlow 2.3 and before wrote."""
    try:
        loaded = tf.saved_model.load(str(path))
    except AttributeError:  # '_UserObject' object has no attribute 'add_slot': an old optimizer's state
        from tensorflow.python.saved_model import load_v1_in_v2

        loaded = load_v1_in_v2.load(str(path), ["serve"], skip_restoring_checkpoint=False)
    return loaded, dict(loaded.signatures)


def _spec(name: str, tensor: Any, path: Path) -> TensorSpec:
    dtype = str(tensor.dtype.name)
    if tensor.shape.rank is None:
        raise ConversionError(f"{path}: the input {name!r} has no known number of sizes: export the model with one.")
    if dtype in ("string", "resource", "variant"):
        raise ConversionError(
            f"{path}: the input {name!r} is of type {dtype}, only tensors of numbers can be converted."
        )
    return TensorSpec(name, tuple(-1 if size is None else int(size) for size in tensor.shape), dtype)

"""Frontends: each turns one framework's trained model into the pivot format, a float ``.tflite``."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, ModelFileError, from_os_error
from edgekit_convert.frontends.source import Source as Source


def open_source(source: Any) -> Source:
    """Recognise a trained model and open it with its frontend.

    Args:
        source: a path, a ``.tflite`` file's bytes, or a Keras model in memory.

    Raises:
        EdgekitError: it is missing, damaged, or of a kind that has no frontend.
    """
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source))
    if isinstance(source, bytes | bytearray):
        from edgekit_convert.frontends import from_tflite

        return from_tflite.open_model(bytes(source))
    family = {base.__module__.split(".")[0] for base in type(source).__mro__}
    if family & {"keras", "tf_keras"}:
        from edgekit_convert.frontends import from_keras

        return from_keras.open_model(source)
    raise ConversionError(
        f"cannot convert an object of type {type(source).__module__}.{type(source).__qualname__}: a Keras model, a path to "
        ".keras, .h5, .tflite or a SavedModel folder, or the bytes of a .tflite file was expected."
    )


def _open_path(path: Path) -> Source:
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            from edgekit_convert.frontends import from_saved_model

            return from_saved_model.open_model(path)
        raise ModelFileError(f"the folder {path} is not a SavedModel: it has no saved_model.pb.")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise from_os_error(error, path, "read") from error
    if head[4:8] == b"TFL3":
        from edgekit_convert.frontends import from_tflite

        return from_tflite.open_model(path)
    if head == b"\x89HDF\r\n\x1a\n":
        from edgekit_convert.frontends import from_keras

        return from_keras.open_h5(path)
    if zipfile.is_zipfile(path) and _is_keras_archive(path):
        from edgekit_convert.frontends import from_keras

        return from_keras.open_archive(path)
    raise ModelFileError(_unknown(path, head))


def _is_keras_archive(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return "config.json" in archive.namelist()


def _unknown(path: Path, head: bytes) -> str:
    kinds = "a .keras, .h5 or float .tflite file, or a SavedModel folder, was expected"
    if path.suffix in (".keras", ".h5", ".hdf5", ".tflite"):
        return (
            f"{path} is damaged or not what its name says: it begins with {head!r}; {kinds}. "
            "Copy or download the file again, or save the model again."
        )
    if path.suffix in (".onnx", ".pt", ".pth", ".pt2", ".th"):
        return f"{path}: this version of edgekit has no frontend for {path.suffix} files; {kinds}."
    return f"{path} is of no kind that can be converted: it begins with {head!r}; {kinds}."

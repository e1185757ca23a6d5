"""Frontends: each turns one framework's trained model into the pivot format, a float ``.tflite``."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, ModelFileError, from_os_error
from edgekit_convert.frontends import from_torch
from edgekit_convert.frontends.shapes import with_shapes
from edgekit_convert.frontends.source import Opening as Opening
from edgekit_convert.frontends.source import Source as Source
from edgekit_convert.graph.ends import own_outputs


def open_source(source: Any, opening: Opening | None = None) -> Source:
    """Recognise a trained model and open it with its frontend.

    Args:
        source: a path, a ``.tflite`` file's bytes, a Keras model, or a PyTorch module, program or
            state dict in memory.
        opening: how; ``None`` for the defaults.

    Raises:
        EdgekitError: it is missing, damaged, or of a kind that has no frontend.
    """
    opening = opening or Opening()
    opened = with_shapes(_open(source, opening), opening.shapes)
    return replace(opened, export=lambda shapes: own_outputs(opened.export(shapes)))


def _open(source: Any, opening: Opening) -> Source:
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source), opening)
    if isinstance(source, bytes | bytearray):
        from edgekit_convert.frontends import from_tflite

        return from_tflite.open_model(bytes(source), opening)
    family = {base.__module__.split(".")[0] for base in type(source).__mro__}
    if family & {"keras", "tf_keras"}:
        from edgekit_convert.frontends import from_keras

        return from_keras.open_model(source, opening)
    if "torch" in family or from_torch.is_state_dict(source):
        return from_torch.open_object(source, opening)
    raise ConversionError(
        f"cannot convert an object of type {type(source).__module__}.{type(source).__qualname__}: a Keras model, a PyTorch "
        "module, program or state dict, a path to .keras, .h5, .onnx, .pt2, .tflite or a SavedModel folder, or the bytes of a .tflite "
        "file was expected."
    )


def _open_path(path: Path, opening: Opening) -> Source:
    if path.is_dir():
        return _open_folder(path, opening)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise from_os_error(error, path, "read") from error
    if head[4:8] == b"TFL3":
        from edgekit_convert.frontends import from_tflite

        return from_tflite.open_model(path, opening)
    if head == b"\x89HDF\r\n\x1a\n":
        from edgekit_convert.frontends import from_keras

        return from_keras.open_h5(path, opening)
    if zipfile.is_zipfile(path) and _is_keras_archive(path):
        from edgekit_convert.frontends import from_keras

        return from_keras.open_archive(path, opening)
    if path.suffix.lower() == ".onnx" and head[:1] == b"\x08":  # the first field of a model is its format's version
        from edgekit_convert import quantize
        from edgekit_convert.frontends import from_onnx

        quantize.check_installed()  # before the user is sent for the other environment, which does not bring it
        return from_onnx.open_model(path, opening)
    kind = from_torch.kind_of(path)
    if kind is not None:
        return from_torch.open_file(path, kind, opening)
    from edgekit_convert.frontends import unknown

    raise ModelFileError(unknown.refused_file(path, head))


def _open_folder(path: Path, opening: Opening) -> Source:
    try:
        inside = {item.name for item in path.iterdir()}
    except OSError as error:
        raise from_os_error(error, path, "read") from error
    if inside & {"saved_model.pb", "saved_model.pbtxt", "saved_model.cpb"}:
        from edgekit_convert.frontends import from_saved_model

        return from_saved_model.open_model(path, opening)
    if {"config.json", "model.weights.h5"} <= inside:  # a .keras archive, unpacked
        from edgekit_convert.frontends import from_keras

        return from_keras.open_archive(path, opening)
    from edgekit_convert.frontends import unknown

    raise ModelFileError(unknown.refused_folder(path))


def _is_keras_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return False

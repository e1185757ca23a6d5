"""An image, in whatever form a program has it, as the array of pixels that calibration saw.

Arrays need numpy only; files, their bytes and Pillow's images need Pillow, which is loaded when the first of them comes.
Decoding is as for a folder of calibration images: 8 bits a channel, and a rotation that a camera wrote beside the pixels
(EXIF) is left alone, as by the usual training pipelines.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from edgekit.errors import DataError, EngineError, TensorError, from_os_error
from edgekit.tensors import Array

#: Pillow's names for images with so many channels.
_MODES: dict[int, str] = {1: "L", 3: "RGB", 4: "RGBA"}


def read_image(source: Any, channels: int = 3) -> Array:
    """Return an image's pixels.

    Args:
        source: the path of an image file, its bytes, a Pillow image, or an array ``[height, width, channels]``, RGB where it
            has colours; ``[height, width]`` where ``channels`` is 1.
        channels: how many the model takes; files and Pillow's images are converted to as many.

    Returns:
        ``[height, width, channels]``: uint8, or an array's own dtype.

    Raises:
        DataError: the file is missing, no image, or has more than 8 bits a channel.
        EngineError: Pillow is needed and not installed.
        TensorError: the array is not an image's.
    """
    if isinstance(source, str | bytes | bytearray | memoryview | os.PathLike):
        return _decoded(source, channels)
    pillow = sys.modules.get("PIL.Image")  # whoever has one of its images has loaded it
    if pillow is not None and isinstance(source, pillow.Image):
        return _pixels(source, channels, "the image")
    try:
        array = np.asarray(source)
    except (TypeError, ValueError) as error:
        raise TensorError(f"cannot read a {type(source).__name__} as an image: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise TensorError(
            f"cannot read a {type(source).__name__} of dtype {array.dtype} as an image: the path of a file, its bytes, a "
            "Pillow image or an array of numbers was expected."
        )
    if array.ndim == 2 and channels == 1:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise TensorError(
            f"cannot read shape {list(array.shape)} as an image: [height, width, {channels}] was expected. "
            "A batch is run image by image."
        )
    if array.shape[-1] != channels:
        raise TensorError(
            f"an image with {array.shape[-1]} channels, the model takes {channels}: [height, width, {channels}] was expected."
        )
    return array


def _decoded(source: Any, channels: int) -> Array:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise EngineError(
            f"reading images needs Pillow ({error}): `pip install pillow`, or give an array of pixels."
        ) from error
    in_memory = isinstance(source, bytes | bytearray | memoryview)
    name = "the image" if in_memory else f"the image {os.fspath(source)}"
    if in_memory:
        import io

        source = io.BytesIO(source)
    try:
        with Image.open(source) as image:
            return _pixels(image, channels, name)
    except (UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read {name}: {error}. Give another, or save it again as PNG.") from error
    except OSError as error:  # Pillow's own have no number
        if error.errno is not None and not in_memory:
            raise from_os_error(error, source, "read", DataError) from error
        raise DataError(f"cannot read {name}: {error}. Give another, or save it again as PNG.") from error


def _pixels(image: Any, channels: int, name: str) -> Array:
    mode = _MODES.get(channels)
    if mode is None:
        raise TensorError(
            f"cannot give {name} {channels} channels: files have 1, 3 or 4. Give an array [height, width, {channels}]."
        )
    if image.mode[0] in "IF":  # Pillow would cut such values off at 255
        raise DataError(f"{name} has more than 8 bits a channel (mode {image.mode}): save it with 8, or give an array.")
    pixels = np.asarray(image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels

"""``edgekit.images``: one image, in whatever form, as the pixels that calibration saw."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from processes import run_python

from edgekit.errors import DataError, EdgekitError, TensorError
from edgekit.images import read_image
from edgekit.tensors import Array

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)


def encoded(pixels: Array, form: str = "PNG", **options: Any) -> bytes:
    """An image file's bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


class TestSameImage:
    """Every form gives the same pixels."""

    def test_files_bytes_and_pillow(self, tmp_path: Path) -> None:
        """A path as text or ``Path``, bytes, a Pillow image and an array."""
        path = tmp_path / "image.png"
        path.write_bytes(encoded(PIXELS))
        for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), Image.open(path), PIXELS):
            result = read_image(source)
            assert "uint8" == str(result.dtype)
            np.testing.assert_array_equal(PIXELS, result)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_as_many_channels_as_the_model_takes(self, channels: int) -> None:
        """A file is converted to grey, to colour, or gets an alpha channel."""
        result = read_image(encoded(PIXELS), channels)
        assert (9, 7, channels) == result.shape
        grey = np.asarray(Image.fromarray(PIXELS).convert("L"))
        np.testing.assert_array_equal(
            grey if channels == 1 else PIXELS, result[..., 0] if channels == 1 else result[..., :3]
        )

    def test_grey_files_and_arrays(self) -> None:
        """A grey file becomes three equal channels, a grey array needs no third axis for a model of one."""
        np.testing.assert_array_equal(np.stack([PIXELS[..., 0]] * 3, axis=-1), read_image(encoded(PIXELS[..., 0])))
        np.testing.assert_array_equal(PIXELS[..., :1], read_image(PIXELS[..., 0], 1))

    @pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
    def test_arrays_keep_their_type(self, dtype: str) -> None:
        """An array is passed on as it is."""
        assert dtype == str(read_image(PIXELS.astype(dtype)).dtype)

    def test_rotation_of_a_camera_is_left_alone(self) -> None:
        """As for calibration images: the pixels count, not the note beside them."""
        exif = Image.Exif()
        exif[0x0112] = 6
        content = encoded(PIXELS, "JPEG", exif=exif)
        assert (9, 7, 3) == read_image(content).shape


class TestRefused:
    """What is no image."""

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.zeros((2, 9, 7, 3), np.uint8), r"cannot read shape \[2, 9, 7, 3\].*run image by image"),
            (np.zeros((9, 7), np.uint8), r"cannot read shape \[9, 7\]"),
            (np.zeros((0, 7, 3), np.uint8), r"cannot read shape \[0, 7, 3\]"),
            (np.zeros((9, 7, 4), np.uint8), "an image with 4 channels, the model takes 3"),
            (np.zeros((9, 7, 3), "U1"), "dtype <U1 as an image: the path of a file"),
            (None, "a NoneType of dtype object as an image"),
            ([[1, 2], [3]], "cannot read a list as an image"),
        ],
        ids=["batch", "two axes", "empty", "alpha", "text", "nothing", "ragged"],
    )
    def test_arrays(self, array: Any, words: str) -> None:
        """The message says what was seen and what was expected."""
        with pytest.raises(TensorError, match=words):
            read_image(array)

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("absent.png", None, r"no such file: .*absent\.png"),
            ("text.png", b"no image at all", r"cannot read the image .*text\.png"),
            ("cut.png", encoded(PIXELS)[:100], r"cannot read the image .*cut\.png"),
            ("deep.png", encoded(PIXELS[..., 0].astype(np.uint16)), r"more than 8 bits a channel \(mode I"),
        ],
        ids=["absent", "text", "cut", "16 bits"],
    )
    def test_files(self, tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
        """A missing file, one that is no image, one cut short, one that Pillow would clip."""
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_image(tmp_path / name)

    def test_a_folder(self, tmp_path: Path) -> None:
        """The message names it."""
        with pytest.raises(DataError, match="it is a folder"):
            read_image(tmp_path)

    def test_bytes(self) -> None:
        """Bytes that are no image have no name."""
        with pytest.raises(DataError, match="cannot read the image: cannot identify"):
            read_image(b"nonsense")

    def test_channels_that_no_file_has(self) -> None:
        """Only arrays have two or five channels."""
        with pytest.raises(EdgekitError, match="files have 1, 3 or 4"):
            read_image(encoded(PIXELS), 5)


def test_without_pillow(tmp_path: Path) -> None:
    """A file needs Pillow and says so; arrays need nothing and load nothing."""
    (tmp_path / "image.png").write_bytes(encoded(PIXELS))
    code = """
import sys
sys.modules["PIL"] = None
import numpy as np
from edgekit.errors import EngineError
from edgekit.images import read_image
print(read_image(np.zeros((2, 2, 3))).shape)
try:
    read_image(sys.argv[1])
except EngineError as error:
    print(error)
"""
    lines = run_python("-c", code, str(tmp_path / "image.png"), check=True).stdout.splitlines()
    assert "(2, 2, 3)" == lines[0]
    assert lines[1].startswith("reading images needs Pillow")
    assert lines[1].endswith("`pip install pillow`, or give an array of pixels.")

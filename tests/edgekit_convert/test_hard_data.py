"""Data that a caller got wrong: one message that names the cause, never a foreign exception."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import DataError
from edgekit.tensors import TensorSpec
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import load_function, open_data

VECTOR = (TensorSpec("v", (-1, 3), "float32"),)
TWO = (TensorSpec("a", (1, 2), "float32"), TensorSpec("b", (1, 2), "float32"))
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def read_all(data: Any, inputs: tuple[TensorSpec, ...] = VECTOR) -> list[tuple[Any, Any]]:
    """Each prepared sample of the first input with its label."""
    prepared = CalibrationSet(open_data(data, inputs, 100, "calibration"), inputs, {})
    return [(ready.inputs[inputs[0].name].ravel().tolist(), ready.label) for ready in prepared]


def failing() -> Iterator[Any]:
    """A caller's generator that breaks on the way."""
    yield ROWS[0]
    raise RuntimeError("the disk is on fire")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param({"v": [[1, 2], [1, 2, 3]]}, "not an array of numbers", id="ragged"),
        pytest.param(([[1, 2, 3]], [1]), "has shape", id="a tuple of lists"),
        pytest.param((ROWS, np.array(3)), "labels 1", id="one label for four samples"),
        pytest.param(lambda: [(ROWS, np.array([1, 2]))], "different numbers of samples", id="too few labels"),
        pytest.param(lambda: [(ROWS, 5)], "different numbers of samples", id="a number as a batch's labels"),
        pytest.param(failing, "raised RuntimeError: the disk is on fire", id="a generator that raises"),
        pytest.param(lambda: {}["absent"], "raised KeyError", id="a function that raises"),
        pytest.param(lambda needed: needed, "raised TypeError", id="a function with an argument"),
        pytest.param(ROWS.astype(np.float64) * 1e40, "cannot hold", id="beyond float32"),
    ],
)
def test_wrong_data_are_refused(data: Any, words: str) -> None:
    """Each is a DataError with the cause."""
    with pytest.raises(DataError, match=words):
        read_all(data)


def test_arrays_of_unequal_length_in_a_batch_are_refused() -> None:
    """Also between two inputs."""
    with pytest.raises(DataError, match="different numbers of samples"):
        read_all(lambda: [{"a": np.ones((4, 2)), "b": np.ones((3, 2))}], TWO)


def test_a_pair_of_arrays_for_two_inputs_is_refused() -> None:
    """A tuple says nothing of names."""
    with pytest.raises(DataError, match="for 2 inputs"):
        read_all((np.ones((4, 2)), np.ones((4, 2))), TWO)


def test_lists_of_data_and_labels_are_read_as_loaders_give_them() -> None:
    """``[x, y]``, as PyTorch's loaders give it, is a batch with its labels."""
    seen = read_all(lambda: [[ROWS[:2], np.array([7, 8])], [ROWS[2:], np.array([9, 6])]])
    assert [(values, int(label)) for values, label in seen] == list(zip(ROWS.tolist(), [7, 8, 9, 6], strict=True))


def test_dicts_in_an_iterator_may_be_called_x_and_y() -> None:
    """As in files and dicts of arrays."""
    seen = read_all(lambda: [{"x": ROWS, "y": np.arange(4)}])
    assert [(values, int(label)) for values, label in seen] == list(zip(ROWS.tolist(), range(4), strict=True))


def test_one_sample_with_its_label() -> None:
    """Neither has a batch axis."""
    assert read_all((ROWS[1], np.array(2))) == [(ROWS[1].tolist(), 2)]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        pytest.param([0.5, 1, 2], "int32", id="fractions"),
        pytest.param([0, 1, 1e12], "int32", id="too large"),
        pytest.param([-1, 1, 2], "uint8", id="negative"),
    ],
)
def test_values_that_an_integer_input_cannot_hold_are_refused(values: list[float], dtype: str) -> None:
    """They are neither cut off nor wrapped around."""
    with pytest.raises(DataError, match=f"of type {dtype} cannot hold"):
        read_all(np.array([values]), (TensorSpec("tokens", (1, 3), dtype),))


def test_an_input_of_strings_is_refused() -> None:
    """Only numbers can be converted."""
    with pytest.raises(DataError, match="only inputs of numbers"):
        read_all(ROWS, (TensorSpec("words", (1, 3), "string"),))


def test_a_fixed_batch_is_named() -> None:
    """The shapes of the samples agree, and the message says what does not."""
    with pytest.raises(DataError, match="batch is fixed at 4"):
        read_all(ROWS, (TensorSpec("v", (4, 3), "float32"),))


def test_an_archive_under_the_name_of_an_array(tmp_path: Path) -> None:
    """An .npz archive that is called .npy."""
    np.savez(tmp_path / "a.npz", a=ROWS)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"rename it to \.npz"):
        read_all(tmp_path / "a.npy")


def test_damaged_files(tmp_path: Path) -> None:
    """A header that is not Python, and compressed data that do not unpack."""
    np.save(tmp_path / "a.npy", ROWS)
    content = bytearray((tmp_path / "a.npy").read_bytes())
    content[20:30] = b"(" * 10
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match="cannot read"):
        read_all(tmp_path / "a.npy")
    np.savez_compressed(tmp_path / "b.npz", b=np.random.default_rng(0).normal(size=(400, 3)))
    content = bytearray((tmp_path / "b.npz").read_bytes())
    content[300:340] = b"\xff" * 40
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot read 'b'"):
        read_all(f"{tmp_path / 'b.npz'}:b")


def test_images_of_16_bits_are_refused(tmp_path: Path) -> None:
    """Pillow would cut every value off at 255."""
    Image.fromarray(np.full((4, 6), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read_all(tmp_path, (TensorSpec("image", (1, 4, 6, 1), "float32"),))


def test_huge_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's guard against decompression bombs is a message like others."""
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="cannot read the image"):
        read_all(tmp_path, (TensorSpec("image", (1, 4, 6, 3), "float32"),))


@pytest.mark.parametrize("code", ["def f(:\n", "1 / 0\n", "import sys; sys.exit(3)\n"])
def test_modules_that_fail_on_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A caller's module may raise anything, and its search path is put back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing_module.py").write_text(code)
    with pytest.raises(DataError, match="fails on import"):
        load_function("failing_module:f")

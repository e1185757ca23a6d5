"""Where data come from: every text form, every Python form, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import DataError
from edgekit.tensors import TensorSpec
from edgekit_convert.calibration.data import DataSource, open_data, spread

VECTOR = (TensorSpec("x", (-1, 3), "float32"),)
IMAGE = (TensorSpec("image", (1, 4, 6, 3), "float32"),)
TWO = (TensorSpec("a", (1, 2), "float32"), TensorSpec("b", (1, 2), "float32"))
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def values(source: DataSource, name: str = "x") -> list[list[float]]:
    """All samples of one input."""
    return [sample[name].tolist() for sample, _ in source.read()]


def labels(source: DataSource) -> list[Any]:
    """All labels."""
    return [label for _, label in source.read()]


def generator() -> Iterator[np.ndarray[Any, Any]]:
    """A generator function: each call is a new pass."""
    yield from ROWS


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(ROWS, id="array"),
        pytest.param({"x": ROWS}, id="dict"),
        pytest.param(list(ROWS), id="list of samples"),
        pytest.param([ROWS[:2], ROWS[2:]], id="list of batches"),
        pytest.param(generator, id="generator function"),
        pytest.param(lambda: [{"x": row} for row in ROWS], id="function giving dicts"),
        pytest.param(lambda: ROWS, id="function giving an array"),
    ],
)
def test_each_python_form_gives_the_same_samples_twice(data: Any) -> None:
    """Whatever the form, two passes give all samples."""
    source = open_data(data, VECTOR, 1000, "calibration")
    assert values(source) == ROWS.tolist()
    assert values(source) == ROWS.tolist()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param((ROWS, np.array([3, 2, 1, 0])), id="pair of arrays"),
        pytest.param({"x": ROWS, "y": np.array([3, 2, 1, 0])}, id="dict with y"),
        pytest.param(lambda: zip(ROWS, [3, 2, 1, 0], strict=True), id="function giving pairs"),
        pytest.param(lambda: [(ROWS, np.array([3, 2, 1, 0]))], id="function giving a labelled batch"),
    ],
)
def test_labels_come_along(data: Any) -> None:
    """Labels follow their samples."""
    assert [int(label) for label in labels(open_data(data, VECTOR, 1000, "verification"))] == [3, 2, 1, 0]


def test_one_shot_generators_are_refused_with_the_cause() -> None:
    """A generator that was called is refused, and the message says what to pass."""
    with pytest.raises(DataError, match=r"read once only.*generator function itself"):
        open_data(generator(), VECTOR, 1000, "calibration")


def test_a_function_that_returns_the_same_iterator_is_refused() -> None:
    """A function must start anew at each call."""
    kept = iter(ROWS)
    with pytest.raises(DataError, match="same iterator each time"):
        open_data(lambda: kept, VECTOR, 1000, "calibration")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(np.zeros((0, 3), np.float32), "is empty", id="empty"),
        pytest.param(3, "cannot read calibration data of type int", id="a number"),
        pytest.param({"z": ROWS}, "has z, the model's inputs are x", id="unknown name"),
        pytest.param({"x": ROWS, "y": np.zeros(3)}, "different numbers of samples", id="labels of another length"),
        pytest.param("nothing.bin", "no such calibration data", id="missing path"),
        pytest.param("nothing.npy", "no such file", id="missing npy"),
        pytest.param("nothing.npz:key", "no such file", id="missing npz"),
        pytest.param("no_such_module_here:samples", "cannot import", id="missing module"),
        pytest.param("math:no_such", "has no function", id="missing function"),
    ],
)
def test_unusable_data_is_named(data: Any, message: str) -> None:
    """Each unusable form gets one message."""
    with pytest.raises(DataError, match=message):
        open_data(data, VECTOR, 1000, "calibration")


def test_npy_and_npz_forms(tmp_path: Path) -> None:
    """The text forms read the same arrays."""
    np.save(tmp_path / "rows.npy", ROWS)
    np.savez(tmp_path / "rows.npz", train=ROWS, other=ROWS + 1, classes=np.array([1, 1, 0, 0]))
    assert values(open_data(str(tmp_path / "rows.npy"), VECTOR, 9, "calibration")) == ROWS.tolist()
    assert values(open_data(f"{tmp_path}/rows.npz:train", VECTOR, 9, "calibration")) == ROWS.tolist()
    labelled = open_data(f"{tmp_path}/rows.npz:x=other,y=classes", VECTOR, 9, "calibration")
    assert values(labelled) == (ROWS + 1).tolist()
    assert labels(labelled) == [1, 1, 0, 0]
    both = open_data(f"{tmp_path}/pairs.npz:a=p,b=q", TWO, 9, "calibration") if _pairs(tmp_path) else None
    assert both is not None
    assert values(both, "b") == [[2.0, 3.0]]


def _pairs(folder: Path) -> bool:
    np.savez(folder / "pairs.npz", p=np.array([[0.0, 1.0]]), q=np.array([[2.0, 3.0]]))
    return True


@pytest.mark.parametrize(
    ("suffix", "message"),
    [("", "say which"), (":absent", "no array 'absent': it has train, other"), (":x=train,z=other", "inputs are x")],
)
def test_npz_keys_are_checked(tmp_path: Path, suffix: str, message: str) -> None:
    """A missing or unknown key is answered with the keys that exist."""
    np.savez(tmp_path / "rows.npz", train=ROWS, other=ROWS)
    with pytest.raises(DataError, match=message):
        open_data(f"{tmp_path}/rows.npz{suffix}", VECTOR, 9, "calibration")


def test_damaged_and_pickled_files_are_refused(tmp_path: Path) -> None:
    """Neither garbage nor pickled objects get in."""
    (tmp_path / "garbage.npy").write_bytes(b"\x00" * 64)
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name in ("garbage.npy", "pickled.npy"):
        with pytest.raises(DataError, match="cannot read calibration data"):
            open_data(str(tmp_path / name), VECTOR, 9, "calibration")


def test_folder_of_images(tmp_path: Path) -> None:
    """Sub-folders are labels, in alphabetical order."""
    for folder, color in (("dog", 10), ("cat", 200)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (6, 4), (color, 0, 0)).save(tmp_path / folder / "one.png")
    source = open_data(tmp_path, IMAGE, 9, "calibration")
    samples = list(source.read())
    assert source.label_names == ("cat", "dog")
    assert [(int(sample["image"][0, 0, 0]), label) for sample, label in samples] == [(200, 0), (10, 1)]
    assert samples[0][0]["image"].shape == (4, 6, 3)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"cannot read the image .*bad\.png"):
        list(open_data(tmp_path, IMAGE, 9, "calibration").read())


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    """An empty folder is no data."""
    with pytest.raises(DataError, match="has no images"):
        open_data(tmp_path, IMAGE, 9, "calibration")


def test_module_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function in a module of the current folder is found."""
    (tmp_path / "edgekit_test_samples.py").write_text("def give():\n    return [[1.0, 2.0, 3.0]]\n")
    monkeypatch.chdir(tmp_path)
    assert values(open_data("edgekit_test_samples:give", VECTOR, 9, "calibration")) == [[1.0, 2.0, 3.0]]


def test_limits_spread_over_sorted_data() -> None:
    """A limit takes samples from the whole of the data."""
    assert spread(10, 5) == [0, 2, 4, 6, 8]
    assert spread(3, 5) == [0, 1, 2]
    assert values(open_data(ROWS, VECTOR, 2, "calibration")) == [ROWS[0].tolist(), ROWS[2].tolist()]
    assert len(values(open_data(generator, VECTOR, 2, "calibration"))) == 2

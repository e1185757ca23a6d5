"""``examples/convert_*.py``: each makes a model in its framework, converts it, and the int8 file is as good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from processes import run_python

FOLDER = Path(__file__).resolve().parents[2] / "examples"
#: Of the network that ``quarters.py`` trains, on the 300 pictures that it is tried on.
ACCURACY = 256 / 300


def figures(example: str) -> dict[str, Any]:
    """What an example prints: one line of JSON."""
    done = run_python(FOLDER / example)
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check(found: dict[str, Any], kind: str, accuracy: float) -> None:
    """The source's kind, the float model's accuracy on these pictures, and int8 within a point of it."""
    assert kind == found["source"]
    assert accuracy == pytest.approx(found["accuracy_float"], abs=0.004)
    assert abs(found["accuracy_int8"] - found["accuracy_float"]) <= 0.01
    assert found["sqnr_db"] >= 35
    assert 5_000 < found["bytes"] < 30_000
    assert found["first"]["is"] == found["first"]["seen"]


@pytest.mark.parametrize(
    ("example", "kind"), [("convert_keras.py", "keras"), ("convert_saved_model.py", "saved_model")]
)
def test_with_tensorflow(example: str, kind: str) -> None:
    """Keras and SavedModel: the same network, the same figures."""
    check(figures(example), kind, ACCURACY)


def test_tflite() -> None:
    """A float .tflite file, of another network for the same task."""
    check(figures("convert_tflite.py"), "tflite", 295 / 300)


def test_torch(torch: object) -> None:
    """PyTorch: the channels come first, and the figures are those of Keras."""
    check(figures("convert_torch.py"), "torch", ACCURACY)


def test_onnx(onnx_environment: Path) -> None:
    """ONNX likewise, from a file that was written without the ``onnx`` package."""
    check(figures("convert_onnx.py"), "onnx", ACCURACY)

"""``examples/resnet_cifar.py``, run as a reader would run it."""

from __future__ import annotations

import json
from pathlib import Path

from processes import run_python

FOLDER = Path(__file__).resolve().parents[2] / "examples"


def test_a_conversion(torch: object, tmp_path: Path) -> None:
    """The network becomes an int8 file that takes pictures with the channels last."""
    output = tmp_path / "model.tflite"
    done = run_python(FOLDER / "resnet_cifar.py", "--output", output)
    assert 0 == done.returncode, done.stderr
    result = json.loads(done.stdout)
    assert "image int8[1,32,32,3]" in result["input"]
    assert (True, output.stat().st_size) == (result["passed"], result["bytes"])

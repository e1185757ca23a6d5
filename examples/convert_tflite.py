"""A float ``.tflite`` file to int8: whoever wrote it, TensorFlow is not needed.

Needs ``pip install edgekit litert-quantizer``. From a shell it is
``edgekit convert quarters.tflite --calibration data.npy --recipe int8``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import demo_models
import quarters


def main() -> None:
    """Build, save, convert."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quarters.tflite"
        path.write_bytes(demo_models.brightest_quarter(quarters.SHAPE[0]))
        quarters.convert_and_print(path, Path(folder))


if __name__ == "__main__":
    main()

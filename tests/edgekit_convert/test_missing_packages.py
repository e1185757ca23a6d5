"""What is said where edgekit was installed without the extra that a command needs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit.errors import ConversionError
from edgekit_convert.environments.place import VARIABLE
from edgekit_convert.lint.source import lint_source

INSTALL = r"this needs litert-quantizer, which .* \(.*\): `pip install 'edgekit\[convert\]'`\."


@pytest.fixture(autouse=True)
def no_litert_quantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """litert-quantizer as where it is not installed."""
    for name in ("litert_quantizer", "litert_quantizer.quantizer"):
        monkeypatch.setitem(sys.modules, name, None)


def test_a_tflite_file_is_not_measured_first() -> None:
    """The extra is named before the work on the data."""
    steps: list[str] = []
    with pytest.raises(ConversionError, match=INSTALL):
        edgekit.convert(
            models.conv_float(),
            np.zeros((4, 12, 12, 3), np.float32),
            progress=lambda step, done, total: steps.append(step),
        )
    assert ["Reading the model", "Making the float .tflite"] == steps


def test_an_onnx_file_needs_the_extra_before_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for an environment that is not all that is missing."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(ConversionError, match=INSTALL):
        edgekit.convert(tmp_path / "m.onnx", np.zeros((4, 12, 12, 3), np.float32))


def test_lint() -> None:
    """The lint tells what has no int8 form."""
    with pytest.raises(ConversionError, match=INSTALL):
        lint_source(models.conv_float())


def test_verify() -> None:
    """So does the comparison of two files, for what was left in float."""
    with pytest.raises(ConversionError, match=INSTALL):
        edgekit.verify(models.conv_float(), models.conv_float(), np.zeros((4, 12, 12, 3), np.float32))

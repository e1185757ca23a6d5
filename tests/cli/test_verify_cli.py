"""``edgekit verify``: a pair of models, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models
from click.testing import CliRunner, Result

import edgekit
from edgekit.cli import cli

IMAGES = np.random.default_rng(2).uniform(-1, 1, (48, 12, 12, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def int8_model() -> bytes:
    """The int8 model, converted once."""
    return edgekit.convert(models.conv_float(), IMAGES).model.content


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8_model: bytes) -> Path:
    """A folder with a float model, its int8 model and data, as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "float.tflite").write_bytes(models.conv_float())
    (tmp_path / "int8.tflite").write_bytes(int8_model)
    np.savez(tmp_path / "data.npz", x=IMAGES, y=np.arange(48) % 5)
    return tmp_path


def verify(*arguments: str) -> Result:
    """Run ``edgekit verify`` in this process."""
    return CliRunner().invoke(cli, ["verify", *arguments])


def test_figures_are_shown(here: Path) -> None:
    """Checks and figures as a table, with the metric where there are labels."""
    result = verify("float.tflite", "int8.tflite", "--data", "data.npz:x=x,y=y")
    assert result.exit_code == 0, result.output
    for words in ("loads and runs", "agreement", "SQNR", "float accuracy", "int8 accuracy", "drop"):
        assert words in result.stdout


def test_json(here: Path) -> None:
    """One document with the figures."""
    document = json.loads(verify("float.tflite", "int8.tflite", "--data", "data.npz:x", "--json").stdout)
    assert document["on"]["data"]["count"] == 48
    assert document["on"]["data"]["metric"] is None


def test_a_model_that_does_not_run_fails(here: Path) -> None:
    """Exit code 1, and the check says why."""
    (here / "custom.tflite").write_bytes(models.custom_op("Mystery"))
    spec = edgekit.ModelFile.read(here / "custom.tflite").inputs[0]
    np.save(here / "rows.npy", np.zeros((3, *spec.shape[1:]), np.float32))
    result = verify("custom.tflite", "custom.tflite", "--data", "rows.npy")
    assert result.exit_code == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent.tflite", "int8.tflite", "--data", "data.npz:x"), "no such file: absent.tflite"),
        (("float.tflite", "absent.tflite", "--data", "data.npz:x"), "no such file: absent.tflite"),
        (("float.tflite", "int8.tflite", "--data", "data.npz:z"), "has no array 'z'"),
        (("float.tflite", "int8.tflite", "--data", "data.npz:x", "--device", "toaster"), "toaster"),
    ],
)
def test_bad_input(here: Path, arguments: tuple[str, ...], words: str) -> None:
    """One message, exit code 2."""
    result = verify(*arguments)
    assert (result.exit_code, "Traceback" in result.output) == (2, False)
    assert words in result.stderr

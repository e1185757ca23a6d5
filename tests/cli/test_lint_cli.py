"""``edgekit lint``: findings, exit codes, text and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner, Result

from edgekit.cli import cli


def run(*arguments: object) -> Result:
    """Run ``edgekit lint`` with these arguments."""
    return CliRunner().invoke(cli, ["lint", *(str(argument) for argument in arguments)])


def joined() -> bytes:
    """Boxes and scores in one output."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 8)), b.tensor("y", (1, 8))
    boxes, scores = b.tensor("boxes", (1, 4)), b.tensor("scores", (1, 4))
    for name, index, size in (("boxes", boxes, 300.0), ("scores", scores, 0.1)):
        weights = b.tensor(f"{name}_weights", (4, 8), data=np.full((4, 8), size, np.float32))
        b.op("FULLY_CONNECTED", [x, weights, -1], [index], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    options = schema.ConcatenationOptionsT()
    options.axis = 1
    b.op("CONCATENATION", [boxes, scores], [y], ("ConcatenationOptions", options))
    return b.build({"x": x}, {"y": y})


def constant() -> bytes:
    """An ADD of two constants, which the conversion mends."""
    b = models.Builder()
    x, total, y = b.tensor("x", (1, 8)), b.tensor("total", (8,)), b.tensor("y", (1, 8))
    one = b.tensor("one", (8,), data=np.full(8, 0.1, np.float32))
    b.op("ADD", [one, one], [total], ("AddOptions", schema.AddOptionsT()))
    b.op("ADD", [x, total], [y], ("AddOptions", schema.AddOptionsT()))
    return b.build({"x": x}, {"y": y})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Samples for eight inputs."""
    path = tmp_path / "data.npy"
    np.save(path, np.random.default_rng(0).uniform(-1, 1, (20, 8)).astype(np.float32))
    return path


def saved(folder: Path, content: bytes) -> Path:
    """A model as a file."""
    path = folder / "m.tflite"
    path.write_bytes(content)
    return path


def test_a_clean_model(dense_float_file: Path, data: Path) -> None:
    """Exit code 0, and one line that says what was looked at."""
    result = run(dense_float_file, "--calibration", data)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{dense_float_file}: no warnings, no notes; ranges from 20 samples.\n"


def test_a_warning(tmp_path: Path, data: Path) -> None:
    """Exit code 1; what was seen, and the fix."""
    result = run(saved(tmp_path, joined()), "--calibration", data)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("warning: CONCATENATION 'y' joins tensors of very different ranges")
    assert lines[0].endswith("[mixed-concat]")
    assert lines[1].startswith("    Its values leave the model: use float32 outputs")
    assert lines[2].endswith("m.tflite: 1 warning, no notes; ranges from 20 samples.")


def test_a_note(tmp_path: Path, data: Path) -> None:
    """What the conversion mends does not fail."""
    result = run(saved(tmp_path, constant()), "--calibration", data)
    assert (result.exit_code, result.stdout.splitlines()[-1].rpartition(": ")[2]) == (
        0,
        "no warnings, 1 note; ranges from 20 samples.",
    )


def test_without_data(tmp_path: Path) -> None:
    """It says that ranges are not known."""
    result = run(saved(tmp_path, joined()))
    assert result.exit_code == 0
    assert "no warnings, no notes; no data were given (--calibration): ranges are not known" in result.stdout


def test_json(tmp_path: Path, data: Path) -> None:
    """Everything in one document."""
    result = run(saved(tmp_path, joined()), "--calibration", data, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["source"], report["samples"], report["unmeasured"], report["passed"]) == (
        "m.tflite",
        20,
        None,
        False,
    )
    (finding,) = report["findings"]
    assert sorted(finding) == ["automatic", "code", "fix", "leave_out", "level", "tensors", "text"]
    assert (finding["code"], finding["tensors"], finding["leave_out"]) == ("mixed-concat", ["y", "scores"], ["y"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"nothing", "is damaged or not what its name says", id="no model"),
        pytest.param(models.dense_int8(), "is quantised already", id="quantised"),
    ],
)
def test_what_cannot_be_looked_at(content: bytes, words: str, tmp_path: Path) -> None:
    """Exit code 2 and one message."""
    result = run(saved(tmp_path, content))
    assert (result.exit_code, result.stdout, "Traceback" in result.output) == (2, "", False)
    assert words in result.stderr


def test_data_of_another_shape(dense_float_file: Path, tmp_path: Path) -> None:
    """Exit code 2: the data do not fit the model."""
    np.save(tmp_path / "bad.npy", np.zeros((4, 7), np.float32))
    result = run(dense_float_file, "--calibration", tmp_path / "bad.npy")
    assert (result.exit_code, "Traceback" in result.output) == (2, False)
    assert "sample 0 has shape [7]" in result.stderr

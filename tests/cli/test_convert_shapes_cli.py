"""``edgekit convert``: signatures, shapes and batches from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import packed_weights as packed
import pytest
import tiny_models as models
from click.testing import CliRunner, Result

import edgekit
from edgekit.cli import cli
from edgekit.modelfile import ModelFile

RANDOM = np.random.default_rng(4)


def _open(content: bytes) -> bytes:
    def leave_open(model: Any) -> None:
        main = model.subgraphs[0]
        main.tensors[main.inputs[0]].shapeSignature = [-1, -1, -1, 3]

    return models.edited(content, leave_open)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of open sizes, one of two signatures, and data, as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "open.tflite").write_bytes(_open(models.conv_float()))
    two = packed.with_entry(packed.named(models.dense_float(), "classify"), models.add_two_inputs(), "add")
    (tmp_path / "two.tflite").write_bytes(two)
    np.savez(
        tmp_path / "data.npz",
        images=RANDOM.normal(size=(30, 12, 12, 3)).astype(np.float32),
        rows=RANDOM.normal(size=(30, 8)).astype(np.float32),
    )
    return tmp_path


def convert(source: str, data: str, *arguments: str) -> Result:
    """Run ``edgekit convert`` in this process."""
    usual = ["--normalize", "none", "--effort", "fast", "-o", "out.tflite"]
    return CliRunner().invoke(cli, ["convert", source, "--calibration", data, *usual, *arguments])


@pytest.mark.parametrize("shape", ["1,12,12,3", "image=1,12,12,3"])
def test_a_shape_and_a_batch(here: Path, shape: str) -> None:
    """The file has both signatures with fixed sizes, and what was seen is printed."""
    result = convert("open.tflite", "data.npz:images", "--shape", shape, "--batch", "3")
    assert result.exit_code == 0, result.output
    assert "signature batch_3: 3 samples in one run give" in " ".join(result.stdout.split())
    model = ModelFile.read(here / "out.tflite")
    assert [(item.key, item.subgraph) for item in model.graph.signatures] == [("serving_default", 0), ("batch_3", 1)]
    assert model.inputs[0].shape == (1, 12, 12, 3)
    with edgekit.load(here / "out.tflite", signature="batch_3") as session:
        assert session.run(RANDOM.normal(size=(3, 12, 12, 3))).shape == (3, 5)


def test_a_signature(here: Path) -> None:
    """The one that was asked for is converted."""
    result = convert("two.tflite", "data.npz:rows", "--signature", "classify")
    assert result.exit_code == 0, result.output
    assert [item.key for item in ModelFile.read(here / "out.tflite").graph.signatures] == ["classify"]


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        pytest.param("open.tflite", ("--shape", "1,x,3"), "[NAME=] and whole numbers with commas", id="no numbers"),
        pytest.param("open.tflite", ("--shape", ""), "[NAME=] and whole numbers with commas", id="nothing"),
        pytest.param("open.tflite", ("--shape", "1,-1,-1,3"), "whole numbers above 0 were expected", id="open"),
        pytest.param("open.tflite", ("--shape", "1,12,12,3", "--shape", "1,9,9,3"), "was given twice", id="twice"),
        pytest.param("open.tflite", ("--shape", "picture=1,12,12,3"), "unknown input picture", id="name"),
        pytest.param("open.tflite", ("--shape", "2,12,12,3"), "add --batch 2", id="samples"),
        pytest.param("open.tflite", ("--shape", "1,16,16,3"), "Pass --resize 16x16", id="other than the data"),
        pytest.param("open.tflite", ("--batch", "1"), "a whole number from 2 to 4096 was expected", id="batch"),
        pytest.param("open.tflite", ("--signature", "add"), "no signature 'add'", id="signature"),
        pytest.param("two.tflite", (), "say which with --signature", id="none of two"),
        pytest.param("open.tflite", ("--trust-source",), "no use for trust_source (--trust-source)", id="no code"),
    ],
)
def test_what_makes_no_sense_is_one_message(here: Path, source: str, arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2, no file, and no traceback."""
    data = "data.npz:rows" if source == "two.tflite" else "data.npz:images"
    result = convert(source, data, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not (here / "out.tflite").exists()

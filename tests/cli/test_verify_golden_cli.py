"""``edgekit verify --golden``: a model checks itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models
from click.testing import CliRunner, Result

from edgekit.cli import cli
from edgekit.digest import sha256_hex
from edgekit.golden import Golden
from edgekit.manifest import Manifest, append
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.package import golden_data


def verify(*arguments: object) -> Result:
    """Run ``edgekit verify`` in this process."""
    return CliRunner().invoke(cli, ["verify", *(str(argument) for argument in arguments)])


def write(path: Path, content: bytes) -> Golden:
    """A model file with golden data."""
    flatbuffer = models.announced(content)
    samples = [{"x": row} for row in np.random.default_rng(1).uniform(-3, 3, (4, 1, 8)).astype(np.float32)]
    data = golden_data.make(flatbuffer, samples, DelegateSpec("xnnpack", 1))
    path.write_bytes(append(flatbuffer, Manifest(sha256_hex(flatbuffer), golden=data.to_json()), data.content))
    return data


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file that agrees with its golden data."""
    write(tmp_path / "model.tflite", models.dense_int8())
    return tmp_path / "model.tflite"


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A file whose golden outputs are those of another network of the same form."""

    def negate(model: object) -> None:
        data = model.buffers[model.subgraphs[0].tensors[1].buffer]  # type: ignore[attr-defined]
        data.data = (-np.asarray(data.data, np.uint8).view(np.int8)).view(np.uint8)

    other = write(tmp_path / "other.tflite", models.edited(models.dense_int8(), negate))
    flatbuffer = models.announced(models.dense_int8())
    digest = sha256_hex(flatbuffer)
    about = {**other.to_json(), "model_sha256": digest}
    (tmp_path / "wrong.tflite").write_bytes(append(flatbuffer, Manifest(digest, golden=about), other.content))
    return tmp_path / "wrong.tflite"


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_a_model_that_agrees(model: Path, delegate: str) -> None:
    """Exit code 0, with what ran and what was allowed."""
    result = verify("--golden", model, "--delegate", delegate)
    assert (result.exit_code, result.stderr) == (0, "")
    for words in ("logits", "0 steps", "no error", "at most 1 step", "pass", f"kernels: {delegate}", "ai-edge-litert"):
        assert words in result.stdout


def test_json(model: Path) -> None:
    """One document."""
    document = json.loads(verify("--golden", model, "--engine", "litert", "--json").stdout)
    assert (document["passed"], document["count"], document["strict"]) == (True, 4, True)
    assert [output["name"] for output in document["outputs"]] == ["logits"]


def test_a_model_that_does_not_agree(wrong: Path) -> None:
    """Exit code 1, and the table says which output."""
    result = verify("--golden", wrong)
    assert result.exit_code == 1
    assert "FAIL" in result.stdout
    assert not json.loads(verify("--golden", wrong, "--json").stdout)["passed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--golden", "m", "a.tflite"), "takes no FLOAT_MODEL"),
        (("--golden", "m", "--data", "x.npy", "--samples", "3"), "takes no --data, --samples"),
        (("a.tflite", "b.tflite"), "Missing --data: give FLOAT_MODEL INT8_MODEL --data DATA, or --golden MODEL."),
        (("a.tflite",), "Missing INT8_MODEL, --data"),
        ((), "Missing FLOAT_MODEL, INT8_MODEL, --data"),
        (("a", "b", "--data", "c", "--engine", "litert"), "--engine: only with --golden"),
        (("--golden", "absent.tflite"), "no such file: absent.tflite"),
    ],
    ids=["both", "options", "data", "one", "nothing", "engine", "absent"],
)
def test_wrong_usage(arguments: tuple[str, ...], words: str) -> None:
    """One message, exit code 2."""
    result = verify(*arguments)
    assert (result.exit_code, "Traceback" in result.output) == (2, False)
    assert words in result.stderr


def test_a_file_without_golden_data(dense_int8_file: Path) -> None:
    """Exit code 2: nothing could be compared."""
    result = verify("--golden", dense_int8_file)
    assert result.exit_code == 2
    assert "carries no golden data" in result.stderr


def test_inspect_shows_them(model: Path) -> None:
    """``edgekit inspect`` says how many there are."""
    result = CliRunner().invoke(cli, ["inspect", str(model)])
    assert "4 samples, kernels: xnnpack, none" in result.stdout

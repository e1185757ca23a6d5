"""``benchmarks/frontends.py``: the networks really are the same in each framework, and what is worse is told."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from processes import run_python

import edgekit
from edgekit.tensors import Array

FOLDER = Path(__file__).parents[1] / "benchmarks"
NETWORKS = ("residual", "mobile", "branches")


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    """The script as a module."""
    path = [*sys.path]
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_of_frontends", FOLDER / "frontends.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    sys.path[:] = path


@pytest.fixture(scope="module")
def image() -> Array:
    """One input, channels last."""
    return np.random.default_rng(5).normal(0, 1, (1, 64, 64, 3)).astype(np.float32)


def same(expected: Array, found: Array) -> None:
    """Equal but for rounding."""
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_first_in_tensorflow(benchmark: ModuleType, image: Array, name: str) -> None:
    """The file that is full of TRANSPOSEs computes what the Keras model does."""
    layers = benchmark.described.networks()[name]
    expected = np.asarray(benchmark.described.in_keras(layers)(image))
    with edgekit.load(benchmark.described.in_tensorflow_channels_first(layers), delegate="none") as model:
        assert sum(op.name == "TRANSPOSE" for op in model.model.graph.main.ops) > 10
        same(expected, model.run(image))


@pytest.mark.parametrize("name", NETWORKS)
def test_in_torch(benchmark: ModuleType, image: Array, torch: Any, name: str) -> None:
    """And so does the module."""
    layers = benchmark.described.networks()[name]
    with torch.no_grad():
        found = benchmark.described.in_torch(layers)(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    same(np.asarray(benchmark.described.in_keras(layers)(image)), found.numpy())


def test_a_run_of_the_script(tmp_path: Path) -> None:
    """The int8 file from the channels-first graph has the operators of the one from Keras, and the exit status says so."""
    done = run_python(
        FOLDER / "frontends.py", "--networks", "branches", "--sources", "tflite, channels first", "--rounds", 0,
        "--json", tmp_path / "rows.json",
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert ["keras", "tflite, channels first"] == [row["source"] for row in rows]
    first, second = (row["operators"] for row in rows)
    assert first == second
    assert "TRANSPOSE" not in second
    assert rows[1]["float_error"] < 1e-5
    assert abs(rows[0]["sqnr_db"] - rows[1]["sqnr_db"]) < 0.5
    assert done.stdout.count("| branches |") == 2


def test_what_is_worse_is_told(benchmark: ModuleType) -> None:
    """TRANSPOSEs, time and noise, each beyond what Keras's file has; what failed or is as good is not told."""
    keras = benchmark.Row("n", "keras", None, 0.0, {"CONV_2D": 3}, 1000, 40.0)
    good = replace(keras, source="onnx", ratio=(1.02, 0.99, 1.04), sqnr_db=39.5)
    failed = benchmark.Row("n", "torch", failure="not\ninstalled")
    assert [] == benchmark.worse([keras, good, failed])
    bad = replace(good, operators={"CONV_2D": 3, "TRANSPOSE": 2}, ratio=(1.2, 1.1, 1.3), sqnr_db=38.0)
    assert [
        "n from onnx: 2 TRANSPOSEs, from Keras 0", "n from onnx: 1.20 times as long", "n from onnx: 38.0 dB, from Keras 40.0 dB",
    ] == benchmark.worse([keras, bad])  # fmt: skip
    lines = benchmark.table([keras, bad, failed]).splitlines()
    assert "| n | onnx | 0e+00 | 5 | 2 | 1.0 kB | 38.0 dB | 1.20× (1.10 to 1.30) |" == lines[3]
    assert "| n | torch | not installed | | | | | |" == lines[4]

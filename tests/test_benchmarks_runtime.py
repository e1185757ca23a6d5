"""``benchmarks/runtime.py``: the ways to run a model really run it, and the table says what was measured."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tiny_models as models

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "runtime.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_of_the_runtime", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("make", [models.dense_float, models.dense_int8], ids=lambda make: make.__name__)
def test_all_ways_give_the_same(benchmark: ModuleType, make: object, tmp_path: Path) -> None:
    """What is timed is the same work: equal results of every way that takes the file's own type."""
    path = tmp_path / "model.tflite"
    path.write_bytes(make())  # type: ignore[operator]  # one of the two functions above
    x = np.random.default_rng(1).integers(-3, 4, (1, 8))
    ways = benchmark.ways(
        str(path), x.astype(np.float32 if make is models.dense_float else np.int8), tmp_path / "log.jsonl"
    )
    expected = np.ravel(ways.pop(benchmark.BARE)())
    assert len(ways) == 7
    for name, run in ways.items():
        result = run()
        result = next(iter(result.values())) if isinstance(result, dict) else result
        if "real numbers" not in name:
            np.testing.assert_allclose(expected, np.ravel(result), rtol=1e-6, err_msg=name)


def test_a_run_of_the_script(benchmark: ModuleType, tmp_path: Path) -> None:
    """One process of it gives times and percentiles for each way; the table has a row for each."""
    path = tmp_path / "model.tflite"
    path.write_bytes(models.dense_float())
    request = json.dumps({"path": str(path), "rounds": 2, "first": 1})
    done = subprocess.run([sys.executable, str(SCRIPT), "--child", request], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["means"].keys() == answer["p99"].keys()
    assert {2} == {len(times) for times in answer["means"].values()}
    rows = {
        name: {"median_ns": 1500.0, "p99_ns": 2e6, "more_ns": [500.0, 400.0, 600.0], "ratio": [1.25, 1.2, 1.3]}
        for name in answer["means"]
    }
    table = benchmark.markdown({"tiny": rows})
    assert "| tiny | edgekit | 1.50 µs | 2.000 ms | +0.50 µs (+0.40 to +0.60) | 1.250 (1.200 to 1.300) |" in table
    assert table.count("| tiny |") == len(answer["means"])


def test_a_file_that_is_not_there() -> None:
    """One line instead of a traceback."""
    done = subprocess.run([sys.executable, str(SCRIPT), "x=no.tflite"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "NAME=FILE with a .tflite file was expected" in done.stderr

"""``benchmarks/bench_fidelity.py``: its processes measure, and its tables say what was measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tiny_models as models

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bench_fidelity.py"


@pytest.fixture(scope="module")
def fidelity() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("fidelity_of_bench", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_ratio_is_within_rounds(fidelity: ModuleType) -> None:
    """A round in which everything was twice as slow does not count against anybody."""
    times = {fidelity.EDGEKIT: [101.0, 202.0, 101.0], fidelity.LITERT: [100.0, 200.0, 100.0]}
    found = fidelity.Beside("m", 1, times, {}, 0.0, 5)
    assert found.ratio(fidelity.EDGEKIT) == fidelity.Ratio(1.01, 1.01, 1.01)
    assert found.close
    assert not fidelity.Beside("m", 1, {**times, fidelity.EDGEKIT: [103.0, 206.0, 103.0]}, {}, 0.0, 5).close


def test_the_runs_at_full_pace_decide_where_the_processor_was_slowed(fidelity: ModuleType) -> None:
    """Medians of seconds in which it was slowed now and then do not count against edgekit, its figure at full pace does."""
    times = {fidelity.EDGEKIT: [101.0, 150.0, 150.0], fidelity.LITERT: [150.0, 100.0, 100.0]}
    paced = {fidelity.EDGEKIT: [101.0, None, 101.0, 101.0], fidelity.LITERT: [100.0, 100.0, 100.0, None]}
    assert fidelity.Beside("m", 1, times, paced, 0.4, 5).close
    assert not fidelity.Beside("m", 1, times, paced, 0.05, 5).close
    assert not fidelity.Beside("m", 1, times, {**paced, fidelity.EDGEKIT: [104.0, 104.0, 104.0]}, 0.4, 5).close


def test_litert_s_own_benchmark_is_paced_between_its_runs(fidelity: ModuleType, tmp_path: Path) -> None:
    """The work is timed before runs that count, and each of those is there."""
    pytest.importorskip("ai_edge_litert.tools.benchmark_litert_model")
    model = tmp_path / "m.tflite"
    model.write_bytes(models.dense_float())
    found = fidelity.child(fidelity.LITERT, model, 1, 3000)
    (runs,) = found.runs_ns.values()
    assert len(runs) == 3000
    assert len(found.pace_ns) == len(found.pace_runs) > 0
    assert sorted(found.pace_runs) == list(found.pace_runs)
    assert 0 <= found.pace_runs[0] <= found.pace_runs[-1] < 3000


def test_reruns_are_judged_by_the_interval_before_them(fidelity: ModuleType) -> None:
    """Three benchmarks are two reruns, of which the second is outside."""
    found = fidelity.Reruns(
        "m", 1, [{"median_ns": middle, "low_ns": middle - 2, "high_ns": middle + 2} for middle in (100.0, 101.0, 104.0)]
    )
    assert (found.inside, found.of, found.kept) == (1, 2, False)
    assert found.widths == pytest.approx([0.04, 4 / 101, 4 / 104])


def test_all_ways_are_measured(fidelity: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One round of a tiny model: a figure of every way in each, also in the file and the table."""
    pytest.importorskip("ai_edge_litert.tools.benchmark_litert_model")
    model, output = tmp_path / "m.tflite", tmp_path / "f.json"
    model.write_bytes(models.dense_float())
    assert (
        fidelity.main([f"tiny={model}", "--threads", "1", "--rounds", "1", "--reruns", "0", "--json", str(output)]) == 0
    )
    (part,) = json.loads(output.read_text())["beside"]
    ways = {fidelity.EDGEKIT, fidelity.INVOKE, fidelity.LITERT, fidelity.BARE}
    assert {way: len(times) for way, times in part["medians_ns"].items()} == dict.fromkeys(ways, 1)
    assert all(times[0] > 0 for times in part["medians_ns"].values())
    assert "| tiny | 1 |" in capsys.readouterr().out

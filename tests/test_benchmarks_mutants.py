"""The benchmark of damaged files, on a few of them: what it promises holds, and what it does can be repeated."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import tiny_models as models

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import mutants  # the benchmarks are scripts, not a package
from mutations import KINDS, Mutator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks a process for each file")
FILES = {"conv": models.conv_float, "dense": models.dense_int8, "two": models.add_two_inputs}
COUNT = 100


@pytest.fixture(params=sorted(FILES))
def healthy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A healthy file."""
    path = tmp_path / f"{request.param}.tflite"
    path.write_bytes(FILES[request.param]())
    return path


def test_mutants_can_be_repeated(healthy: Path) -> None:
    """A number gives the same damaged copy each time, another seed another; none is the healthy file."""
    content = healthy.read_bytes()
    first = [Mutator(content).mutant(number) for number in range(COUNT)]
    assert first == [Mutator(content).mutant(number) for number in range(COUNT)]
    assert first != [Mutator(content, seed=1).mutant(number) for number in range(COUNT)]
    assert content not in {mutant for _, mutant in first}
    assert dict.fromkeys(KINDS, COUNT // len(KINDS)) == Counter(kind for kind, _ in first)


def test_edgekit_never_crashes_on_litert(healthy: Path, tmp_path: Path) -> None:
    """Whatever is damaged: refused, or it runs."""
    rows = mutants.tried(sys.executable, "litert", "edgekit", healthy, COUNT, folder=str(tmp_path))
    counts = Counter(row.column for row in rows)
    assert COUNT == sum(counts.values())
    assert {"refused by edgekit", "refused by the runtime", "ran"} >= set(counts)
    assert counts["refused by edgekit"] > 0


def test_isolated_files_never_reach_the_program(tmp_path: Path) -> None:
    """In a process of its own a file is refused, runs, or ends that process."""
    path = tmp_path / "conv.tflite"
    path.write_bytes(models.conv_float())
    rows = mutants.tried(sys.executable, "litert", "isolate", path, 20, folder=str(tmp_path))
    assert {"refused by edgekit", "refused by the runtime", "ran", "child ended"} >= {row.column for row in rows}


def test_edgekit_on_tflite_runtime(healthy: Path, tmp_path: Path) -> None:
    """The old runtime tests nothing itself: what reaches it must not make it crash, and without edgekit much does."""
    python = os.environ.get("EDGEKIT_TFLITE_RUNTIME_PYTHON")
    if not python:
        pytest.skip("EDGEKIT_TFLITE_RUNTIME_PYTHON names no Python with tflite-runtime")
    counts = {
        way: Counter(
            row.column for row in mutants.tried(python, "tflite-runtime", way, healthy, COUNT, folder=str(tmp_path))
        )
        for way in ("bare", "edgekit")
    }
    assert counts["bare"]["crashed"] > COUNT // 10
    assert (0, 0) == (counts["edgekit"]["crashed"], counts["edgekit"]["hung"])


def test_a_manifest_shows_every_damage(healthy: Path, tmp_path: Path) -> None:
    """The same file with a manifest: each damaged copy is refused before native code sees it."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    copy = mutants.sealed(healthy, folder)
    rows = mutants.tried(sys.executable, "litert", "check", copy, COUNT, folder=str(tmp_path))
    assert {"refused by edgekit": COUNT} == Counter(row.column for row in rows)


def test_tables() -> None:
    """Counts by way and by kind, with the share of what must not be."""
    rows = [
        mutants.Tried("litert", "bare", "m", 0, "bytes", "ran"),
        mutants.Tried("litert", "bare", "m", 1, "sizes", "crashed SIGSEGV"),
        mutants.Tried("litert", "edgekit", "m", 0, "bytes", "refused by edgekit"),
    ]
    assert [
        "| litert | the interpreter alone | 2 | 0 | 0 | 1 | 0 | 1 (50.00 %) | 0 |",
        "| litert | `edgekit.load` | 1 | 1 | 0 | 0 | 0 | 0 | 0 |",
    ] == mutants.table(rows).splitlines()[2:]
    assert "| litert | the interpreter alone | 0 | 0 | 0 | 0 | 1 |" in mutants.kinds_table(rows).splitlines()

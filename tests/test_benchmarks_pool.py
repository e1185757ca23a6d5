"""``benchmarks/pool.py`` and ``benchmarks/threads.py`` on a tiny model: that they measure, not what."""

from __future__ import annotations

import json
from pathlib import Path

from processes import run_python

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def test_pool(dense_int8_file: Path, tmp_path: Path) -> None:
    """Every way has its rounds, and the table its rows; the exit status tells whether the marks were met."""
    done = run_python(
        FOLDER / "pool.py", dense_int8_file, "--workers", 2, "--rounds", 2, "--seconds", 0.05, "--json",
        tmp_path / "samples.json",
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads((tmp_path / "samples.json").read_text())
    assert [None] * 9 == [row["why_not"] for row in rows]
    assert [2] * 9 == [len(row["per_second"]) for row in rows]
    assert all(row["times_ns"] for row in rows)
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert ["way", *(row["name"] for row in rows)] == [line.split(" | ")[0].removeprefix("| ") for line in table]
    base = next(row["name"] for row in rows if row["name"] == "2 bare interpreters in 2 threads")
    assert " | 1 | " in next(line for line in table if base in line)


def test_threads(dense_int8_file: Path, tmp_path: Path) -> None:
    """All runs are counted and compared, on a Session, on a bare interpreter and on a Pool."""
    done = run_python(
        FOLDER / "threads.py", dense_int8_file, "--threads", 4, "--runs", 500, "--workers", 2, "--json",
        tmp_path / "figures.json",
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert ["one Session", "one bare interpreter, a lock", "Pool of 2"] == list(figures)
    assert [(2000, 0, [])] * 3 == [(row["runs"], row["wrong"], row["errors"]) for row in figures.values()]

"""A benchmark's file that was changed by hand is refused in a sentence that names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench_machines import board, offline_case, server_case, timed_case
from bench_reports import case, launch, report

from edgekit.bench import BenchmarkReport
from edgekit.bench.damage import check_whole
from edgekit.errors import DataError

LAUNCH = ("cases", 0, "launches", 0)
NUMBER = 3.5


def changed(path: tuple[Any, ...], value: Any) -> BenchmarkReport:
    """A benchmark whose file holds another value at one place."""
    energy = {"joules": 3.0, "seconds": 1.0, "inferences": 200, "idle_w": 2.0, "source": "the rails"}
    found = timed_case("m", 2.0, launches=2, runs=20)
    data = json.loads(json.dumps(board(found).to_json()))
    data["cases"][0]["launches"][0]["energy"] = energy
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return BenchmarkReport.from_json(data)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("host",), 5, "host is 5, which cannot be"),
        (("settings", "runs"), "x", "runs is 'x'"),
        (("started_unix_s",), 1e300, r"started_unix_s is 1e\+300"),
        (("cases", 0, "case", "model"), [1], r"case 1, model is \[1\]"),
        (("cases", 0, "case", "size_bytes"), -1, "case 1, size_bytes is -1"),
        (("cases", 0, "error"), 1, "case 1, error is 1"),
        ((*LAUNCH, "load_ns"), None, "case 1, launch 1, load_ns is None"),
        ((*LAUNCH, "load_ns"), True, "load_ns is True"),
        ((*LAUNCH, "load_ns"), 10**30, "load_ns is 10{20}"),
        ((*LAUNCH, "steady_started_unix_s"), float("nan"), "steady_started_unix_s is nan"),
        ((*LAUNCH, "peak_rss_bytes"), {}, "peak_rss_bytes is {}"),
        ((*LAUNCH, "asked"), {"threads": 1}, "asked, delegate is None"),
        ((*LAUNCH, "got"), 0, "got is 0"),
        ((*LAUNCH, "energy", "joules"), "1", "energy, joules is '1'"),
        ((*LAUNCH, "conditions", 0), 7, r"conditions is \(7, "),
        ((*LAUNCH, "conditions", 1, "thermal_c"), {"z": None}, "thermal_c is {'z': None}"),
        ((*LAUNCH, "conditions", 1, "busy_s"), "x" * 100, "busy_s is 'x{59}…, which"),
        ((*LAUNCH, "conditions", 0, "facts", "usb"), 4, "facts, usb is 4"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_wrong_value_is_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    """The place, what is there, and that the file is damaged."""
    with pytest.raises(DataError, match=f"^f.json is damaged: .*{message}"):
        check_whole(changed(path, value), "f.json")


@pytest.mark.parametrize(
    "found",
    [
        board(timed_case("m", 2.0)),
        board(server_case()),
        board(offline_case()),
        report(
            case("m", *(launch([1.0] * 9, None) for _ in range(2))),
            case("n", error="no"),
            interrupted=True,
            host={"a": None},
        ),
    ],
    ids=["single", "server", "offline", "old"],
)
def test_whole_ones_pass(found: BenchmarkReport, tmp_path: Path) -> None:
    """Whatever is measured can be read again."""
    found.save(tmp_path / "b.json")
    check_whole(BenchmarkReport.read(tmp_path / "b.json"), "b.json")


@pytest.mark.parametrize(
    ("path", "value"), [(("cases",), []), ((*LAUNCH, "total_ns", 0), 10**25)], ids=["no-case", "too-large"]
)
def test_file_that_cannot_be_read_at_all(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    """It is told as damaged, too."""
    data = json.loads(json.dumps(board(timed_case("m", 2.0, runs=20), timed_case("n", 1.0, runs=20)).to_json()))
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "b.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"b.json is damaged"):
        BenchmarkReport.read(tmp_path / "b.json")


def test_keys_that_are_not_known_are_left_alone() -> None:
    """A later edgekit may write more."""
    check_whole(changed((*LAUNCH, "conditions", 0, "later"), [NUMBER]), "f.json")

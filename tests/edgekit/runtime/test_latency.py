"""``edgekit.runtime.latency``: every run's time, in memory and in a file."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import run_python

from edgekit.errors import DataError, OptionError, OutputError
from edgekit.runtime.latency import LatencyLog, RunRecord
from edgekit.runtime.logfile import SCHEMA, TYPE, read_log
from edgekit.runtime.summary import LatencySummary


def nearest_rank(values: list[int], percent: int) -> int:
    """The smallest value that at least this share of all values does not exceed, in whole numbers."""
    return sorted(values)[max(0, -(-percent * len(values) // 100) - 1)]


def filled(values: list[int], capacity: int = 4096) -> LatencyLog:
    """A log whose runs took these times, split over the three phases."""
    log = LatencyLog(capacity)
    for number, value in enumerate(values):
        log.add_ns(number, value // 4, value // 2, value - value // 4 - value // 2)
    return log


def percentiles(summary: LatencySummary) -> list[int]:
    """The four percentiles of a summary."""
    return [summary.p50_ns, summary.p90_ns, summary.p95_ns, summary.p99_ns]


def until(condition: Callable[[], bool]) -> None:
    """Wait for the thread that writes; what it does is never late, only not there."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.03)
    pytest.fail("the log's thread did nothing")


class TestSummary:
    """Percentiles, exact and from the histogram."""

    @pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 11, 20, 99, 100, 101, 1000, 4096])
    def test_exact_percentiles(self, count: int) -> None:
        """While the ring holds all runs, each figure is that of the sorted list."""
        values = np.random.default_rng(count).integers(1, 10**7, count).tolist()
        summary = filled(values).summary()
        assert [nearest_rank(values, percent) for percent in (50, 90, 95, 99)] == percentiles(summary)
        assert (count, min(values), max(values), True) == (summary.count, summary.min_ns, summary.max_ns, summary.exact)
        assert math.isclose(sum(values) / count, summary.mean_ns, abs_tol=0.51)
        assert summary == LatencySummary.of(values)

    def test_every_count_has_the_right_rank(self) -> None:
        """Shares such as 0.95 are no binary fractions; no count must be one rank off for that."""
        for count in range(1, 3001):
            values = list(range(count))
            expected = [nearest_rank(values, percent) for percent in (50, 90, 95, 99)]
            assert expected == percentiles(LatencySummary.of(values)), count

    @pytest.mark.parametrize("spread", [10, 10_000, 10**9, 10**13], ids=lambda spread: f"to {spread:.0e} ns")
    def test_histogram_after_the_ring_overflows(self, spread: int) -> None:
        """Over all runs, those that the ring forgot among them, each percentile is at most 1 % off."""
        values = (np.random.default_rng(7).uniform(0, 1, 5000) ** 3 * spread).astype(int).tolist()
        summary = filled(values, capacity=64).summary()
        assert (5000, min(values), max(values), False) == (summary.count, summary.min_ns, summary.max_ns, summary.exact)
        assert math.isclose(sum(values) / 5000, summary.mean_ns, abs_tol=0.51)
        for percent, seen in zip((50, 90, 95, 99), percentiles(summary), strict=True):
            expected = nearest_rank(values, percent)
            assert abs(seen - expected) <= 0.01 * expected, (percent, expected, seen)

    def test_equal_times_after_the_overflow(self) -> None:
        """The histogram never leaves the range of what was seen."""
        summary = filled([1_000_003] * 100, capacity=10).summary()
        assert [1_000_003] * 4 == percentiles(summary)

    def test_no_runs(self) -> None:
        """Without a run every figure is 0."""
        assert LatencySummary(0, 0, 0, 0, 0, 0, 0, 0, True) == LatencyLog().summary()

    def test_json_form_carries_units(self) -> None:
        """Times have ``_ns`` in their names."""
        data = LatencySummary.of([5]).to_json()
        assert {"count": 1, "exact": True, **{key: 5 for key in data if key.endswith("_ns")}} == data
        assert {"p50_ns", "p90_ns", "p95_ns", "p99_ns", "min_ns", "max_ns", "mean_ns"} == set(data) - {"count", "exact"}


class TestRing:
    """What is kept of single runs."""

    def test_records_come_oldest_first(self) -> None:
        """While there is room, all of them."""
        log = LatencyLog(4)
        runs = [RunRecord(number, 1, 2, 3) for number in range(3)]
        for run in runs:
            log.add(run)
        assert (runs, 3, 6) == (log.records(), log.count, runs[0].total_ns)

    def test_the_oldest_are_forgotten(self) -> None:
        """The ring never grows; the newest runs are in it, in order."""
        log = LatencyLog(4)
        for number in range(11):
            log.add_ns(number, 1, 2, 3)
        assert ([7, 8, 9, 10], 11) == ([record.start_ns for record in log.records()], log.count)

    def test_memory_does_not_grow(self) -> None:
        """After the first run a hundred thousand more allocate nothing that stays."""
        code = (
            "import tracemalloc; from edgekit.runtime.latency import LatencyLog\n"
            "log = LatencyLog(); log.add_ns(1, 1, 1, 1); tracemalloc.start(); before = tracemalloc.take_snapshot()\n"
            "for n in range(100_000): log.add_ns(n, 10, n, 10)\n"
            "growth = sum(s.size_diff for s in tracemalloc.take_snapshot().compare_to(before, 'filename')"
            " if 'latency' in s.traceback[0].filename)\n"
            "print(growth)"
        )
        done = run_python("-c", code, check=True)
        assert int(done.stdout) < 2000

    @pytest.mark.parametrize("capacity", [0, -1])
    def test_a_ring_needs_room(self, capacity: int) -> None:
        """A capacity below 1 is refused at once, not at the first run."""
        with pytest.raises(OptionError, match=f"capacity {capacity}: at least 1 was expected"):
            LatencyLog(capacity)


class TestFile:
    """The JSON Lines file."""

    def test_round_trip(self, tmp_path: Path) -> None:
        """Header and runs come back as they were noted."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(2, path, {"model": "m.tflite", "got": {"delegate": "xnnpack"}})
        runs = [RunRecord(number, number + 1, number + 2, number + 3) for number in range(1000)]
        for run in runs:
            log.add(run)
        log.close()
        (part,) = read_log(path)
        assert (tuple(runs), 0) == (part.records, log.dropped)
        assert ("m.tflite", {"delegate": "xnnpack"}) == (part.header["model"], part.header["got"])
        assert (TYPE, SCHEMA, "perf_counter_ns") == (part.header["type"], part.header["schema"], part.header["clock"])
        assert ["start_ns", "copy_in_ns", "invoke_ns", "copy_out_ns"] == part.header["fields"]

    def test_every_line_is_json(self, tmp_path: Path) -> None:
        """Standard tools read the file line by line."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=path)
        log.add_ns(1, 2, 3, 4)
        log.close()
        header, record = (json.loads(line) for line in path.read_text().splitlines())
        assert (TYPE, [1, 2, 3, 4]) == (header["type"], record)

    def test_sessions_append(self, tmp_path: Path) -> None:
        """Each session adds a part of its own to the file."""
        path = tmp_path / "l.jsonl"
        for number in range(3):
            log = LatencyLog(path=path, header={"model": str(number)})
            for run in range(number):
                log.add_ns(run, 1, 1, 1)
            log.close()
        assert [("0", 0), ("1", 1), ("2", 2)] == [(p.header["model"], len(p.records)) for p in read_log(path)]

    def test_records_reach_the_file_while_the_session_runs(self, tmp_path: Path) -> None:
        """A crash loses what is not written yet only: the thread writes without being asked."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=path)
        log.add_ns(1, 2, 3, 4)
        until(lambda: len(read_log(path)[0].records) == 1)
        assert (RunRecord(1, 2, 3, 4),) == read_log(path)[0].records
        log.close()

    def test_records_of_a_program_that_forgets_to_close(self, tmp_path: Path) -> None:
        """What was noted until the end of the program is in the file."""
        path = tmp_path / "l.jsonl"
        code = (
            "import sys, pathlib; from edgekit.runtime.latency import LatencyLog\n"
            "log = LatencyLog(path=pathlib.Path(sys.argv[1]))\n"
            "for n in range(100): log.add_ns(n, 1, 1, 1)\n"
        )
        run_python("-c", code, path, check=True)
        assert 100 == len(read_log(path)[0].records)

    def test_closing_twice_is_harmless(self, tmp_path: Path) -> None:
        """The second time there is nothing left to do."""
        log = LatencyLog(path=tmp_path / "l.jsonl")
        log.close()
        log.close()
        LatencyLog().close()
        assert 0 == log.dropped

    def test_runs_after_closing_are_counted_as_dropped(self, tmp_path: Path) -> None:
        """They are in the ring, and are not waited for in the file."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=path)
        log.close()
        log.add_ns(1, 2, 3, 4)
        assert (1, 1, ()) == (log.count, log.dropped, read_log(path)[0].records)

    def test_unwritable_place(self, tmp_path: Path) -> None:
        """A path through a file is refused before the first run (the tests may run as root, who may write anywhere)."""
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="a part of that path is a file"):
            LatencyLog(path=tmp_path / "file" / "l.jsonl")

    def test_missing_folder(self, tmp_path: Path) -> None:
        """The folder must be there."""
        with pytest.raises(OutputError, match=r"the folder .* does not exist\. Create it first"):
            LatencyLog(path=tmp_path / "none" / "l.jsonl")


class TestFullDisk:
    """Runs go on when the file cannot be written."""

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_records_are_dropped_and_counted(self) -> None:
        """One warning, every record counted once, and the times in memory complete."""
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            log = LatencyLog(path=Path("/dev/full"))
            for number in range(300):
                log.add_ns(number, 1, 1, 1)
                if number == 150:
                    until(lambda: log.dropped > 0)
            log.close()
        assert [RuntimeWarning] == [item.category for item in seen]
        assert "latency log /dev/full: cannot write" in str(seen[0].message)
        assert (300, 300, 300) == (log.count, log.dropped, log.summary().count)

    def test_a_file_that_grows_again_stays_readable(self, tmp_path: Path) -> None:
        """A write that was cut in the middle of a line (here by a file size limit) spoils no other record."""
        path = tmp_path / "l.jsonl"
        code = (
            "import resource, sys, pathlib, warnings; from edgekit.runtime.latency import LatencyLog\n"
            "warnings.simplefilter('ignore')\n"
            "def noted(first):\n"
            "    written, dropped = len(path.read_bytes()), log.dropped\n"
            "    for n in range(first, first + 1000): log.add_ns(n, 1000, 1000, 1000)\n"
            "    while (log.dropped if first == 1000 else len(path.read_bytes())) == (dropped if first == 1000 else written):"
            " pass\n"
            "path = pathlib.Path(sys.argv[1])\n"
            "log = LatencyLog(path=path)\n"
            "noted(0)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (len(path.read_bytes()) + 5005, resource.RLIM_INFINITY))\n"
            "noted(1000)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
            "noted(2000)\n"
            "log.close()\n"
            "print(log.dropped)"
        )
        done = run_python("-c", code, path, check=True)
        starts = [record.start_ns for part in read_log(path) for record in part.records]
        assert {*range(1000), *range(2000, 3000)} <= set(starts)
        assert sorted(set(starts)) == starts
        assert 3000 == len(starts) + int(done.stdout)


HEADER = json.dumps({"type": TYPE, "schema": SCHEMA})


@dataclass(frozen=True)
class Torn:
    """A file that a kill or a power cut left, and how many records each of its parts still has."""

    id: str
    content: str
    records: list[int]


@pytest.mark.parametrize(
    "case",
    [
        Torn("whole", f"{HEADER}\n[1,2,3,4]\n[5,6,7,8]\n", [2]),
        Torn("last line torn", f"{HEADER}\n[1,2,3,4]\n[5,6,7", [1]),
        Torn("torn at the newline", f"{HEADER}\n[1,2,3,4]\n[5,6,7,8]", [2]),
        Torn("torn in a number list of the right length", f"{HEADER}\n[1,2,3,4]\n[5,6,7,8", [1]),
        Torn("zeros of a lost block", f"{HEADER}\n[1,2,3,4]\n\0\0\0\0", [1]),
        Torn("second header torn", f'{HEADER}\n[1,2,3,4]\n{{"type": "edgekit-la', [1]),
        Torn("torn, then a new session", f"{HEADER}\n[1,2,3,4]\n[5,6,\n{HEADER}\n[9,9,9,9]\n", [1, 1]),
        Torn("first header torn, then written again", f"{HEADER[:-5]}\n{HEADER}\n[1,2,3,4]\n", [1]),
        Torn("empty lines", f"{HEADER}\n\n[1,2,3,4]\n\n", [1]),
    ],
    ids=lambda case: case.id,
)
def test_torn_files_are_read(case: Torn, tmp_path: Path) -> None:
    """What was written whole is there; a torn line at the end of a session is ignored."""
    path = tmp_path / "l.jsonl"
    path.write_text(case.content)
    assert case.records == [len(part.records) for part in read_log(path)]


def test_a_session_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    """After a power cut the next session's runs are readable, and so are the first one's."""
    path = tmp_path / "l.jsonl"
    path.write_text(f"{HEADER}\n[1,2,3,4]\n[5,6,7")
    log = LatencyLog(path=path)
    log.add_ns(9, 9, 9, 9)
    log.close()
    assert [(RunRecord(1, 2, 3, 4),), (RunRecord(9, 9, 9, 9),)] == [part.records for part in read_log(path)]


@dataclass(frozen=True)
class Unreadable:
    """A file that is not a latency log, or a damaged one, and words of the message."""

    id: str
    content: bytes
    words: str


def _with(line: str) -> bytes:
    return f"{HEADER}\n[1,2,3,4]\n{line}\n[5,6,7,8]\n".encode()


NOT_A_LOG = "is not a latency log"
UNREADABLE = [
    Unreadable("empty", b"", NOT_A_LOG),
    Unreadable("text", b"hello\nworld\n", NOT_A_LOG),
    Unreadable("one line without an end", b"hello", NOT_A_LOG),
    Unreadable("random bytes", bytes(range(256)) * 20, NOT_A_LOG),
    Unreadable("records without a header", b"[1,2,3,4]\n", NOT_A_LOG),
    Unreadable("other JSON", b'{"type": "something"}\n[1,2,3,4]\n', NOT_A_LOG),
    Unreadable("a JSON document", b'{\n "cases": []\n}\n', NOT_A_LOG),
    Unreadable("header torn", HEADER[:-3].encode(), NOT_A_LOG),
    Unreadable(
        "newer schema",
        json.dumps({"type": TYPE, "schema": SCHEMA + 1}).encode() + b"\n[1]\n",
        f"has schema {SCHEMA + 1}, this edgekit reads up to {SCHEMA}. Update edgekit",
    ),
    Unreadable("schema as null", json.dumps({"type": TYPE, "schema": None}).encode() + b"\n", NOT_A_LOG),
    Unreadable("schema missing", json.dumps({"type": TYPE}).encode() + b"\n", NOT_A_LOG),
    *(
        Unreadable(f"a line in the middle: {line[:20]}", _with(line), "line 3 is damaged")
        for line in (
            "[1,2,3",
            "[1,2,3]",
            "[1,2,3,4,5]",
            "{}",
            '{"a": 1}',
            "17",
            "null",
            '"1234"',
            "[1,2,3,null]",
            "[1,2,3,NaN]",
            "[1,2,3,Infinity]",
            "[1,2,3,-4]",
            "[1,2,3,4.5]",
            "[1,2,3,99999999999999999999999]",
            "[" * 100_000,
            "\xff\xfe",
        )
    ),
]


@pytest.mark.parametrize("case", UNREADABLE, ids=lambda case: case.id)
def test_what_is_not_a_log(case: Unreadable, tmp_path: Path) -> None:
    """The message names the file, the line, and what was expected."""
    path = tmp_path / "l.jsonl"
    path.write_bytes(case.content)
    with pytest.raises(DataError, match=case.words) as caught:
        read_log(path)
    assert str(path) in str(caught.value)


def test_missing_log(tmp_path: Path) -> None:
    """A file that is not there is a question of spelling."""
    with pytest.raises(DataError, match=r"no such file: .*l\.jsonl"):
        read_log(str(tmp_path / "l.jsonl"))


def test_a_log_may_be_long(tmp_path: Path) -> None:
    """A file of many sessions and runs is read whole."""
    path = tmp_path / "l.jsonl"
    lines: list[Any] = [HEADER, *(f"[{n},1,2,3]" for n in range(20_000))] * 3
    path.write_text("\n".join(lines) + "\n")
    assert [20_000] * 3 == [len(part.records) for part in read_log(path)]

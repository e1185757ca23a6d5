"""``edgekit.runtime.logfile``: a latency log is read, whatever has become of it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.runtime.histogram import Histogram
from edgekit.runtime.latency import TIMES, LatencyLog, LogOptions, RunRecord
from edgekit.runtime.logfile import logs_of, read_log, rotated
from edgekit.runtime.logformat import FIELDS, SCHEMA, TYPE
from edgekit.runtime.summary import LatencySummary

OLD = json.dumps({"type": TYPE, "schema": 1})
NOT_A_LOG = "is not a latency log"


def head(session: str = "a", **more: Any) -> str:
    """A header of this schema."""
    return json.dumps({"type": TYPE, "schema": SCHEMA, "session": session, **more})


def run(number: int) -> str:
    """A record's line."""
    return json.dumps([number, 1, 2, 3, 4, 5], separators=(",", ":"))


HEADER = head()


@dataclass(frozen=True)
class Torn:
    """A file that a kill or a power cut left: the sequence numbers of each of its parts, and the lines that are no good."""

    id: str
    content: str
    records: list[list[int]]
    damaged: list[int]


TORN = [
    Torn("whole", f"{HEADER}\n{run(0)}\n{run(1)}\n", [[0, 1]], [0]),
    Torn("last line torn", f"{HEADER}\n{run(0)}\n[1,6,7", [[0]], [1]),
    Torn("torn at the newline", f"{HEADER}\n{run(0)}\n{run(1)}", [[0, 1]], [0]),
    Torn("torn in a number list of the right length", f"{HEADER}\n{run(0)}\n{run(1)[:-1]}", [[0]], [1]),
    Torn("torn behind a number", f"{HEADER}\n{run(0)}\n[1,1,2,3,4]\n{run(2)}\n", [[0, 2]], [1]),
    Torn("zeros of a lost block at the end", f"{HEADER}\n{run(0)}\n\0\0\0\0", [[0]], [0]),
    Torn("zeros of a lost block between", f"{HEADER}\n{run(0)}\n\0\0\0\0{run(1)}\n{run(2)}\n", [[0, 2]], [1]),
    Torn("second header torn", f'{HEADER}\n{run(0)}\n{{"type": "edgekit-la', [[0]], [1]),
    Torn("torn, then a new session", f"{HEADER}\n{run(0)}\n[1,6,\n{head('b')}\n{run(0)}\n", [[0], [0]], [1, 0]),
    Torn("torn, then the same session", f'{HEADER}\n{run(0)}\n[1,6,\n{{"session": "a"}}\n{run(2)}\n', [[0, 2]], [1]),
    Torn("first header torn, then written again", f"{HEADER[:-5]}\n{HEADER}\n{run(0)}\n", [[0]], [0]),
    Torn("first header lost", f"\0\0\0\0\n{run(7)}\n{HEADER}\n{run(0)}\n", [[0]], [0]),
    Torn("empty lines", f"{HEADER}\n\n{run(0)}\n\n", [[0]], [0]),
    Torn("two lines became one", f"{HEADER}\n{run(0)}{run(1)}\n{run(2)}\n", [[2]], [1]),
    Torn("one line became two", f"{HEADER}\n{run(0)}\n[1,1,2\n,3,4,5]\n{run(2)}\n", [[0, 2]], [2]),
    Torn("numbers that go back", f"{HEADER}\n{run(5)}\n{run(3)}\n{run(6)}\n", [[5, 6]], [1]),
    Torn("old: last line torn", f"{OLD}\n[1,2,3,4]\n[5,6,7", [[0]], [1]),
    Torn("old: then a new session", f"{OLD}\n[1,2,3,4]\n[5,6,\n{OLD}\n[9,9,9,9]\n", [[0], [0]], [1, 0]),
    Torn("old, then new", f"{OLD}\n[1,2,3,4]\n[2,2,3,4]\n{HEADER}\n{run(0)}\n", [[0, 1], [0]], [0, 0]),
]


@pytest.mark.parametrize("case", TORN, ids=lambda case: case.id)
def test_torn_files_are_read(case: Torn, tmp_path: Path) -> None:
    """What was written whole is there; what is torn is counted, and the numbers tell what is missing."""
    path = tmp_path / "l.jsonl"
    path.write_text(case.content)
    parts = read_log(path)
    assert (case.records, case.damaged) == ([p.rows[:, 0].tolist() for p in parts], [p.damaged for p in parts])


@pytest.mark.parametrize(
    "line",
    [
        "[1,2,3",
        "[1,2,3]",
        "[1,2,3,4,5,6,7]",
        '"1234"',
        "17",
        "null",
        "[1,2,3,4,5,null]",
        "[1,2,3,4,5,NaN]",
        "[1,2,3,4,5,Infinity]",
        "[1,2,3,4,5,-6]",
        "[1,2,3,4,5,6.5]",
        "[1,2,3,4,5,true]",
        "[1,2,3,4,5,06]",
        "[1,2,3,4,5,99999999999999999999999]",
        f"[1,2,3,4,5,{1 << 60}]",
        "[1,2,[3],4,5,6]",
        "[" * 100_000,
        "{" * 100_000,
        "\xff\xfe",
        '{"snapshot": 3}',
        '{"snapshot": 3, "times": {"total": 5}}',
        '{"dropped": -1}',
        '{"closed": 1.5}',
        '{"type": "edgekit-latency", "schema": null}\n{"session": "a"}',
    ],
    ids=lambda line: line[:30],
)
def test_a_damaged_line_spoils_no_other(line: str, tmp_path: Path) -> None:
    """It is counted, and the records before and behind it are there."""
    path = tmp_path / "l.jsonl"
    path.write_text(f"{HEADER}\n{run(0)}\n{line}\n{run(2)}\n{run(3)}\n", encoding="latin-1")
    (part,) = read_log(path)
    assert ([0, 2, 3], 1, ((1, 1),)) == (part.rows[:, 0].tolist(), part.damaged, part.gaps)


def test_lines_of_a_later_edgekit_are_left_alone(tmp_path: Path) -> None:
    """What it notes beside the runs does not make the file unreadable."""
    path = tmp_path / "l.jsonl"
    path.write_text(f'{HEADER}\n{run(0)}\n{{"weather": "fine"}}\n{run(1)}\n')
    assert ([0, 1], 0) == (read_log(path)[0].rows[:, 0].tolist(), read_log(path)[0].damaged)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", NOT_A_LOG),
        (b"hello\nworld\n", NOT_A_LOG),
        (b"hello", NOT_A_LOG),
        (bytes(range(256)) * 20, NOT_A_LOG),
        (b"[1,2,3,4]\n", NOT_A_LOG),
        (b'{"type": "something"}\n[1,2,3,4]\n', NOT_A_LOG),
        (b'{\n "cases": []\n}\n', NOT_A_LOG),
        (HEADER[:-3].encode(), NOT_A_LOG),
        (json.dumps({"type": TYPE, "schema": None}).encode() + b"\n", NOT_A_LOG),
        (json.dumps({"type": TYPE, "schema": True}).encode() + b"\n", NOT_A_LOG),
        (json.dumps({"type": TYPE}).encode() + b"\n", NOT_A_LOG),
        (
            json.dumps({"type": TYPE, "schema": SCHEMA + 1}).encode() + b"\n[1]\n",
            f"has schema {SCHEMA + 1}, this edgekit reads up to {SCHEMA}. Update edgekit",
        ),
    ],
    ids=lambda value: str(value[:40]),
)
def test_what_is_not_a_log(content: bytes, words: str, tmp_path: Path) -> None:
    """The message names the file and what was expected."""
    path = tmp_path / "l.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_log(path)
    assert str(path) in str(caught.value)


def test_missing_log(tmp_path: Path) -> None:
    """A file that is not there is a question of spelling."""
    with pytest.raises(DataError, match=r"no such file: .*l\.jsonl"):
        read_log(str(tmp_path / "l.jsonl"))
    with pytest.raises(DataError, match=r"no such file: .*l\.jsonl"):
        read_log(str(tmp_path / "none" / "l.jsonl"))


def test_schema_1(tmp_path: Path) -> None:
    """A log of an edgekit that knew no queue and no numbers."""
    path = tmp_path / "l.jsonl"
    path.write_text(f"{OLD}\n[10,2,3,4]\n[20,6,7,8]\n")
    (part,) = read_log(path)
    assert (RunRecord(10, 0, 2, 3, 4, 0), RunRecord(20, 0, 6, 7, 8, 1)) == part.records
    assert ([9, 21], LatencySummary.of([3, 7])) == (part.times().tolist(), part.summary("invoke"))


def test_a_session_goes_on_behind_a_log_of_schema_1(tmp_path: Path) -> None:
    """An update of edgekit does not part with the file."""
    path = tmp_path / "l.jsonl"
    path.write_text(f"{OLD}\n[1,2,3,4]\n[5,6,7")
    log = LatencyLog(path=path)
    log.add_ns(9, 9, 9, 9, 9)
    log.close()
    old, new = read_log(path)
    assert ((RunRecord(1, 0, 2, 3, 4, 0),), (RunRecord(9, 9, 9, 9, 9, 0),)) == (old.records, new.records)


def test_a_log_may_be_long(tmp_path: Path) -> None:
    """A file of many sessions and runs is read whole."""
    path = tmp_path / "l.jsonl"
    lines = [
        OLD,
        *(f"[{n},1,2,3]" for n in range(20_000)),
        *(head(str(n)) for n in range(50)),
        *map(run, range(20_000)),
    ]
    path.write_text("\n".join(lines) + "\n")
    assert [20_000, *[0] * 49, 20_000] == [len(part.rows) for part in read_log(path)]


def test_every_cut_reads(tmp_path: Path) -> None:
    """Wherever a log ends, all that is whole before is read, and nothing is made up."""
    path = tmp_path / "l.jsonl"
    log = LatencyLog(path=path, header={"model": "größe.tflite"})
    for number in range(30):
        log.add_ns(number, 1, 2, 3, 4)
    log.close()
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        (part,) = read_log(path)
        expected = sum(line.endswith(b"]") for line in whole[start:cut].split(b"\n") if line[:1] == b"[")
        assert list(range(expected)) == part.rows[:, 0].tolist(), cut


def test_every_flip_reads_or_is_refused(tmp_path: Path) -> None:
    """Single wrong bytes, anywhere: no error but ours, and no record lost beyond those next to it."""
    path = tmp_path / "l.jsonl"
    log = LatencyLog(path=path)
    for number in range(40):
        log.add_ns(10**12 + number, 1, 2, 3, 4)
    log.close()
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    random_ = random.Random(1)
    for _ in range(600):
        data = bytearray(whole)
        data[random_.randrange(start, len(data))] = random_.randrange(256)
        path.write_bytes(data)
        assert len(read_log(path)[0].rows) >= 20
    for _ in range(200):
        data = bytearray(whole)
        data[random_.randrange(start)] = random_.randrange(256)
        path.write_bytes(data)
        try:
            read_log(path)
        except DataError:
            continue


class TestGaps:
    """What is missing, by number."""

    @pytest.mark.parametrize(
        ("content", "first", "gaps"),
        [
            (f"{HEADER}\n", 0, ()),
            (f"{HEADER}\n{run(2)}\n{run(3)}\n{run(7)}\n", 0, ((0, 1), (4, 6))),
            (f"{head(first=2)}\n{run(2)}\n{run(4)}\n", 2, ((3, 3),)),
            (f'{head(first=2)}\n{run(2)}\n{{"closed": 5, "dropped": 2}}\n', 2, ((3, 4),)),
            (f'{HEADER}\n{{"closed": 3, "dropped": 3}}\n', 0, ((0, 2),)),
            (f'{head(first=9)}\n{{"closed": 9, "dropped": 0}}\n', 9, ()),
            (f"{head(first='x')}\n{run(0)}\n", 0, ()),
        ],
        ids=["nothing", "between", "later file", "at the end", "all", "later file, nothing", "no number"],
    )
    def test_gaps(self, content: str, first: int, gaps: tuple[tuple[int, int], ...], tmp_path: Path) -> None:
        """Before the first number nothing is missing; at the end, when the session said how many there were."""
        path = tmp_path / "l.jsonl"
        path.write_text(content)
        (part,) = read_log(path)
        assert (first, gaps) == (part.first, part.gaps)
        assert sum(b - a + 1 for a, b in gaps) == part.missing

    def test_a_lost_file_shows(self, tmp_path: Path) -> None:
        """When one of the numbered files is deleted by hand, its runs are a gap."""
        path = tmp_path / "l.jsonl"
        log = LatencyLog(path=LogOptions(path, max_bytes=20_000, keep=50))
        for number in range(4000):
            log.add_ns(number, 1, 2, 3, 4)
        log.close()
        files = rotated(path)
        assert len(files) >= 3
        (lost,) = read_log(files[1][1])
        Path(files[1][1]).unlink()
        (part,) = read_log(path)
        assert ((int(lost.rows[0, 0]), int(lost.rows[-1, 0])),) == part.gaps


class TestSnapshot:
    """Histograms in the file."""

    def content(self, runs: int) -> str:
        """A snapshot's line over runs that all took 100 ns per phase."""
        histograms = {name: Histogram() for name in TIMES}
        for name, histogram in histograms.items():
            histogram.add(np.full(runs, 400 if name == "total" else 100))
        return json.dumps({"snapshot": runs, "times": {name: item.to_json() for name, item in histograms.items()}})

    def test_the_newest_and_what_came_since(self, tmp_path: Path) -> None:
        """Runs that the snapshot has counted are not counted again; those behind it are."""
        path = tmp_path / "l.jsonl"
        path.write_text(
            f"{head(first=90)}\n{self.content(95)}\n{run(94)}\n{self.content(100)}\n{run(99)}\n{run(100)}\n"
        )
        (part,) = read_log(path)
        assert (101, False) == (part.summary().count, part.summary().exact)
        assert 100 * 100 + 4 == part.histogram("invoke").sum_ns

    def test_exact_while_all_runs_are_there(self, tmp_path: Path) -> None:
        """The samples are better than a histogram of them."""
        path = tmp_path / "l.jsonl"
        path.write_text(f"{HEADER}\n{run(0)}\n{run(1)}\n{self.content(2)}\n")
        assert LatencySummary.of([14, 14]) == read_log(path)[0].summary()


class TestFolder:
    """A folder of logs."""

    def test_all_logs_of_a_folder(self, tmp_path: Path) -> None:
        """Each with its numbered files; what is something else is left alone."""
        for name in ("b.jsonl", "a.jsonl"):
            log = LatencyLog(path=LogOptions(tmp_path / name, max_bytes=20_000), header={"model": name})
            for number in range(2000):
                log.add_ns(number, 1, 2, 3, 4)
            log.close()
        (tmp_path / "notes.txt").write_text("hello\n")
        (tmp_path / "empty").write_text("")
        (tmp_path / "folder").mkdir()
        assert [tmp_path / "a.jsonl", tmp_path / "b.jsonl"] == logs_of(tmp_path)
        assert [("a.jsonl", 2000), ("b.jsonl", 2000)] == [(p.header["model"], p.closed) for p in read_log(tmp_path)]

    def test_only_numbered_files_are_left(self, tmp_path: Path) -> None:
        """The newest file may have been moved away."""
        (tmp_path / "l.jsonl.000007").write_text(f"{HEADER}\n{run(0)}\n")
        assert [0] == read_log(tmp_path / "l.jsonl")[0].rows[:, 0].tolist()
        assert [0] == read_log(tmp_path)[0].rows[:, 0].tolist()

    def test_no_log_in_it(self, tmp_path: Path) -> None:
        """It is said what was expected."""
        with pytest.raises(DataError, match="holds no latency log"):
            read_log(tmp_path)


def test_fields_are_those_of_a_record() -> None:
    """The file, the ring and the record agree on what a run is."""
    assert set(FIELDS) == set(RunRecord._fields)

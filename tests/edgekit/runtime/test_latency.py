"""``edgekit.runtime.latency``: every run's time, in memory."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import run_python

from edgekit.errors import OptionError
from edgekit.runtime.latency import PHASES, TIMES, LatencyLog, LogOptions, RunRecord
from edgekit.runtime.summary import LatencySummary


def nearest_rank(values: list[int], percent: int) -> int:
    """The smallest value that at least this share of all values does not exceed, in whole numbers."""
    return sorted(values)[max(0, -(-percent * len(values) // 100) - 1)]


def split(value: int) -> tuple[int, int, int, int]:
    """A time over the four phases."""
    return value // 8, value // 8, value // 2, value - 2 * (value // 8) - value // 2


def filled(values: list[int], capacity: int = 4096) -> LatencyLog:
    """A log whose runs took these times, split over the phases."""
    log = LatencyLog(capacity)
    for number, value in enumerate(values):
        log.add_ns(number, *split(value))
    return log


def percentiles(summary: LatencySummary) -> list[int]:
    """The four percentiles of a summary."""
    return [summary.p50_ns, summary.p90_ns, summary.p95_ns, summary.p99_ns]


class TestSummary:
    """Percentiles, exact and from the histogram."""

    @pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 11, 20, 99, 100, 101, 511, 512, 513, 1000, 1025, 4096])
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

    @pytest.mark.parametrize("capacity", [3000, 100], ids=["from the ring", "from the histogram"])
    def test_each_phase(self, capacity: int) -> None:
        """Every phase has its own percentiles; the total is their sum, the queue included."""
        values = np.random.default_rng(3).integers(10**5, 10**7, 3000).tolist()
        log = filled(values, capacity)
        parts = np.array([split(value) for value in values])
        for name, column in zip(TIMES, (parts.sum(axis=1), *parts.T), strict=True):
            summary, exact = log.summary(name), LatencySummary.of(column)
            for seen, expected in zip(percentiles(summary), percentiles(exact), strict=True):
                assert abs(seen - expected) <= (0 if capacity == 3000 else 0.01 * expected), name
            assert (exact.min_ns, exact.max_ns, exact.mean_ns) == (summary.min_ns, summary.max_ns, summary.mean_ns)

    def test_an_unknown_phase(self) -> None:
        """The message lists those that exist."""
        with pytest.raises(OptionError, match="unknown time 'dinner': expected one of total, queue, copy_in, invoke"):
            LatencyLog().summary("dinner")

    def test_json_form_carries_units(self) -> None:
        """Times have ``_ns`` in their names."""
        data = LatencySummary.of([5]).to_json()
        assert {"count": 1, "exact": True, **{key: 5 for key in data if key.endswith("_ns")}} == data
        assert {"p50_ns", "p90_ns", "p95_ns", "p99_ns", "min_ns", "max_ns", "mean_ns"} == set(data) - {"count", "exact"}


class TestRing:
    """What is kept of single runs."""

    def test_records_come_oldest_first(self) -> None:
        """While there is room, all of them, numbered."""
        log = LatencyLog(4)
        runs = [RunRecord(number, 1, 2, 3, 4, number) for number in range(3)]
        for run in runs:
            log.add(run)
        assert (runs, 3, 10) == (log.records(), log.count, runs[0].total_ns)

    @pytest.mark.parametrize("runs", [4, 5, 11, 511, 512, 513, 4096, 4097, 10_000])
    @pytest.mark.parametrize("capacity", [1, 4, 1500])
    def test_the_oldest_are_forgotten(self, capacity: int, runs: int) -> None:
        """The ring never grows; the newest runs are in it, in order."""
        log = LatencyLog(capacity)
        for number in range(runs):
            log.add_ns(number, 0, 1, 2, 3)
        expected = list(range(max(0, runs - capacity), runs))
        assert (expected, runs) == ([record.start_ns for record in log.records()], log.count)
        assert expected == [record.sequence for record in log.records()]

    @pytest.mark.parametrize("step", [1, 7, 512, 1000, 3000])
    def test_reading_between_changes_nothing(self, step: int) -> None:
        """However often somebody looks, each run is counted once."""
        log, quiet = LatencyLog(100), LatencyLog(100)
        for number in range(5000):
            for item in (log, quiet):
                item.add_ns(number, 0, number, 2 * number, 3)
            if number % step == 0:
                assert number == log.records()[-1].start_ns
        assert (quiet.summary(), quiet.records()) == (log.summary(), log.records())
        assert quiet.histogram("invoke").to_json() == log.histogram("invoke").to_json()

    def test_memory_does_not_grow(self) -> None:
        """After the slots were filled once, a hundred thousand more runs allocate nothing that stays."""
        code = (
            "import tracemalloc; from edgekit.runtime.latency import LatencyLog\n"
            "log = LatencyLog()\n"
            "def run(count):\n"
            "    for n in range(10**9, 10**9 + count): log.add_ns(n, n, n, n, n)\n"
            "tracemalloc.start(); run(5000); before = tracemalloc.take_snapshot(); run(100_000)\n"
            "growth = sum(s.size_diff for s in tracemalloc.take_snapshot().compare_to(before, 'filename')"
            " if 'latency' in s.traceback[0].filename or 'histogram' in s.traceback[0].filename)\n"
            "print(growth)"
        )
        done = run_python("-c", code, check=True)
        assert int(done.stdout) < 2000

    @pytest.mark.parametrize("capacity", [0, -1])
    def test_a_ring_needs_room(self, capacity: int) -> None:
        """A capacity below 1 is refused at once, not at the first run."""
        with pytest.raises(OptionError, match=f"capacity {capacity}: at least 1 was expected"):
            LatencyLog(capacity)

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ((5, -3, 2, 2, 2), (5, 0, 2, 2, 2)),
            ((5, 1.5, 2, 2, 2), (5, 1, 2, 2, 2)),
            ((5, float("nan"), 2, 2, None), (5, 0, 2, 2, 0)),
            ((5, 10**30, 2, 2, 2), (5, 1 << 50, 2, 2, 2)),
            ((np.int64(5), np.float32(7), 2, 2, 2), (5, 7, 2, 2, 2)),
        ],
        ids=["negative", "no integer", "no number", "too large", "numpy's"],
    )
    def test_strange_numbers_do_not_stop_the_log(self, given: tuple[Any, ...], kept: tuple[int, ...]) -> None:
        """A caller's clock may be anything; the other runs must not suffer."""
        log = LatencyLog()
        log.add_ns(*given)
        log.add_ns(6, 1, 1, 1, 1)
        assert [RunRecord(*kept, 0), RunRecord(6, 1, 1, 1, 1, 1)] == log.records()


def test_an_interrupt_while_folding() -> None:
    """When Ctrl-C ends a run just then and the program goes on, more runs than usual wait; none is lost or doubled."""
    log = LatencyLog()
    for number in range(3000):
        log._fresh += (number, 1, 2, 3, 4)  # as add_ns does, without what was interrupted
    log.add_ns(3000, 1, 2, 3, 4)
    assert (list(range(3001)), 3001) == ([record.start_ns for record in log.records()], log.histogram().count)


def test_restart() -> None:
    """A benchmark begins anew between warm-up and measurement, with room for every run; who notes runs need not know."""
    log = LatencyLog(2)
    add = log.add_ns
    for number in range(1500):
        add(number, 1, 2, 3, 4)
    log.restart(3)
    assert (0, []) == (log.count, log.records())
    for number in range(7, 10):
        add(number, 1, 2, 3, 4)
    assert [RunRecord(number, 1, 2, 3, 4, number - 7) for number in range(7, 10)] == log.records()
    assert (3, True) == (log.summary().count, log.summary().exact)
    with pytest.raises(OptionError, match="capacity 0: at least 1 was expected"):
        log.restart(0)


def test_a_log_with_a_file_cannot_restart(tmp_path: Path) -> None:
    """Its numbers would come twice."""
    log = LatencyLog(path=tmp_path / "l.jsonl")
    with pytest.raises(OptionError, match="a latency log with a file cannot begin anew"):
        log.restart(5)
    log.close()


class TestThreads:
    """One thread notes runs, others look."""

    def test_readers_see_whole_runs(self) -> None:
        """Each snapshot is of one moment: numbered without a gap, no run half written, histograms that agree."""
        log = LatencyLog(700)
        done = threading.Event()
        wrong: list[Any] = []

        def look() -> None:
            while not done.is_set():
                records = log.records()
                numbers = [record.sequence for record in records]
                if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
                    wrong.append(numbers)
                wrong.extend(r for r in records if r != RunRecord(r.sequence, 1, 2, r.sequence, 3, r.sequence))
                runs, histograms = log.histograms()
                if {runs} != {item.count for item in histograms.values()}:
                    wrong.append(runs)
                if histograms["invoke"].sum_ns != runs * (runs - 1) // 2:
                    wrong.append(histograms["invoke"].sum_ns)

        readers = [threading.Thread(target=look) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(60_000):
            log.add_ns(number, 1, 2, number, 3)
        done.set()
        for reader in readers:
            reader.join()
        assert [] == wrong
        assert 60_000 == log.count == log.histogram().count


FORK = """
import os, sys, threading
from edgekit.runtime.latency import LatencyLog
log = LatencyLog()
for n in range(1500): log.add_ns(n, 1, 2, 3, 4)
held = log._lock.acquire()  # another thread is just looking
child = os.fork()
if child == 0:
    log.add_ns(7, 1, 2, 3, 4)
    good = (1, 1, [7]) == (log.count, log.summary().count, [r.start_ns for r in log.records()])
    os._exit(0 if good and log.dropped == 0 else 1)
log._lock.release()
print(os.waitpid(child, 0)[1], log.count, log.summary().count)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system does not fork")
def test_a_child_starts_anew() -> None:
    """After a fork the child's log is empty and usable, whatever the parent's threads were doing."""
    done = run_python("-W", "ignore::DeprecationWarning", "-c", FORK, check=True)
    assert "0 1500 1500" == done.stdout.strip()


def test_phases_are_in_the_order_of_a_record() -> None:
    """What is called a phase is a field of a record, in the same order."""
    assert ("start_ns", *(f"{phase}_ns" for phase in PHASES), "sequence") == RunRecord._fields


def test_the_load_path_spares_the_writer() -> None:
    """A log without a file loads neither the modules for files nor threading."""
    code = (
        "import sys; before = set(sys.modules); from edgekit.runtime.latency import LatencyLog; LatencyLog().add_ns(1, 2, 3, 4, 5)\n"
        "print(sorted(m for m in set(sys.modules) - before if m in ('threading', 'json', 'dataclasses') or 'log' in m))"
    )
    assert "[]" == run_python("-c", f"import numpy\n{code}", check=True).stdout.strip()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_bytes": 1000}, "files of 1000 bytes: at least 16384"),
        ({"keep": 1}, "of 1 files: at least 2"),
        ({"flush_s": 0}, "flush_s=0: a number of seconds above 0"),
        ({"max_age_s": -1.0}, "max_age_s=-1.0: a number of seconds above 0"),
        ({"sync_s": float("nan")}, "sync_s=nan: a number of seconds above 0"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    """They are refused before a file is touched."""
    with pytest.raises(OptionError, match=words):
        LogOptions(tmp_path / "l.jsonl", **options)
    assert [] == list(tmp_path.iterdir())

"""A processor that something slows now and then is noticed, and the runs at full pace are told from the others."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from bench_reports import FULL, RUN, case, report, slowed_case, steady

from edgekit.bench import BenchmarkReport, benchmark
from edgekit.bench.cases import ratio
from edgekit.bench.compare import compare
from edgekit.bench.pace import Pace, at_full_pace, full_pace_ns, processors, slowed
from edgekit.bench.validity import verdict_of


class TestPace:
    """The fixed piece of work, and what its times say."""

    def test_the_work_is_timed_and_due_again_later(self) -> None:
        """Each time is kept with how many runs had ended, and the next one is a while off."""
        pace = Pace()
        pace.take(0)
        first_due = pace.due_ns
        pace.take(7)
        assert [0, 7] == pace.runs
        assert len(pace.times_ns) == 2
        assert min(pace.times_ns) > 0
        assert pace.due_ns > first_due

    def test_runs_between_two_fast_times_are_counted(self) -> None:
        """Where the full pace is known, it is told how many runs were made at it."""
        fast, slow = Pace(1e12), Pace(1.0)
        for runs in (0, 7, 9):
            fast.take(runs)
            slow.take(runs)
        assert (9, 0, None) == (fast.full_runs, slow.full_runs, Pace().full_runs)

    def test_the_work_is_done_on_each_processor_where_all_are_used(self) -> None:
        """As many threads as processors: one thread on each, which is gone afterwards, and the caller's own place is free."""
        mine = os.sched_getaffinity(0)
        assert processors(len(mine)) == (tuple(sorted(mine)) if len(mine) > 1 else ())
        assert processors(1) == ()
        with Pace(on=sorted(mine)) as pace:
            workers = [thread for thread in threading.enumerate() if thread.name.startswith("edgekit-pace-")]
            pace.take(0)
            pace.take(5)
        for worker in workers:
            worker.join(5)
        assert len(workers) == len(mine)
        assert not any(worker.is_alive() for worker in workers)
        assert [0, 5] == pace.runs
        assert min(pace.times_ns) > 0
        assert pace.spent_ns >= sum(pace.times_ns)
        assert os.sched_getaffinity(0) == mine

    def test_one_fast_time_is_not_the_full_pace(self) -> None:
        """A single time that a clock's jump made short does not make all others slow."""
        times = [10, *[1000] * 99]
        assert not slowed(times, full_pace_ns(times))[1:].any()

    def test_a_run_counts_with_full_pace_on_both_sides(self) -> None:
        """Runs next to a slowed time are left out, and those at the ends have one neighbour."""
        slow = np.array([False, False, True, False])
        expected = [True, True, False, False, False, False, True]
        assert expected == at_full_pace(7, [0, 2, 4, 6], slow).tolist()

    def test_no_times_are_no_full_pace(self) -> None:
        """Without a measurement nothing is said to be at full pace."""
        assert [False, False] == at_full_pace(2, [], np.zeros(0, np.bool_)).tolist()


class TestCase:
    """Which of a case's runs count."""

    def test_the_runs_at_full_pace_count_when_the_processor_was_often_slowed(self) -> None:
        """Launches of which two thirds were slowed have the same figure as undisturbed ones."""
        result = slowed_case(0.6, 0.7, 0.65, 0.6, 0.7)
        assert result.slowed
        assert result.slowed_share == pytest.approx(0.65, abs=0.01)
        assert result.steady is not None
        assert result.interval is not None
        assert result.steady.value == pytest.approx(RUN, rel=0.005)
        assert result.interval.value == pytest.approx(1.8 * RUN, rel=0.02)

    def test_all_runs_count_when_it_was_hardly_slowed(self) -> None:
        """Below a tenth of the time the median is what it was."""
        result = slowed_case(0.05, 0.05, 0.05, 0.05, 0.05)
        assert not result.slowed
        assert result.steady_medians_ns == result.medians_ns

    def test_all_runs_count_when_too_few_launches_saw_full_pace(self) -> None:
        """Two launches with runs at full pace are too few to speak for the case."""
        result = slowed_case(0.5, 0.5, 1.0, 1.0, 1.0)
        assert not result.slowed
        assert result.steady_medians_ns == result.medians_ns

    def test_files_without_the_work_are_as_before(self) -> None:
        """Older benchmarks have no times of the work, and no figure that is made of them."""
        result = case("m.tflite", *steady(RUN))
        assert result.slowed_share is None
        assert result.steady == result.interval

    def test_a_ratio_is_of_the_runs_at_full_pace(self) -> None:
        """A model that takes twice as long does so however much of its launches was slowed, and its typical run tells the same."""
        first = slowed_case(0.6, 0.7, 1.0, 0.5, 0.6, 0.6)
        other = slowed_case(0.3, 1.0, 0.2, 0.5, 0.4, 0.3, run=2 * RUN)
        found = ratio(first, other)
        assert first.typical_ns is not None
        assert other.typical_ns is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
        assert found.value == other.typical_ns / first.typical_ns == pytest.approx(2, rel=0.01)

    def test_the_verdict_names_it(self) -> None:
        """A slowed processor makes a benchmark NOISY, and the reason says for how long and how much."""
        found = verdict_of(slowed_case(0.6, 0.6, 0.6, 0.6, 0.6))
        assert found.level == "NOISY"
        assert ("pace",) == found.codes
        assert "for 60 % of the time something slowed the processor" in found.reasons[0]
        assert "1.8 times as long" in found.reasons[0]


class TestCompare:
    """Benchmarks of a processor that was slowed now and then."""

    def test_the_same_engine_passes_however_the_processor_was_slowed(self) -> None:
        """One benchmark that was mostly slowed and one that was mostly not are equal at full pace."""
        before = report(slowed_case(0.8, 0.7, 0.8, 0.7, 0.8))
        after = report(slowed_case(0.2, 0.1, 0.2, 0.3, 0.2))
        found = compare([before, after], fail_over=0.05)
        assert found.passed
        assert found.against[0].changes[0].ratio == pytest.approx(1, rel=0.01)

    def test_a_benchmark_that_was_slowed_throughout_is_not_compared(self) -> None:
        """Without any time at full pace on one side there is no ratio, and the gate does not pass."""
        before = report(slowed_case(0.2, 0.2, 0.2, 0.2, 0.2))
        after = report(slowed_case(0.0, 0.0, 0.0, 0.0, 0.0, run=1.8 * RUN, full=round(1.8 * FULL)))
        found = compare([before, after], fail_over=0.05)
        (change,) = found.against[0].changes
        assert change.ratio is None
        assert change.error is not None
        assert "during all of the second of the two benchmarks" in change.error
        assert "1.80 times as long" in change.error
        assert not found.passed

    def test_too_few_runs_at_full_pace_are_not_compared_with_others(self) -> None:
        """A side of which hardly anything is left has no ratio to one that was not slowed."""
        before = report(slowed_case(0.0, 0.0, 0.0, 0.0, 0.0))
        after = report(slowed_case(0.75, 1.0, 1.0, 1.0, 1.0))
        found = compare([before, after], fail_over=0.05)
        (change,) = found.against[0].changes
        assert change.error is not None
        assert "slowed the processor for 95 % of the second of the two benchmarks" in change.error
        assert not found.passed


def test_a_benchmark_times_the_work_between_its_runs(dense_int8_file: Path) -> None:
    """Each launch of a single stream has times of the work, in the order of the runs, and its file holds them."""
    found = benchmark(dense_int8_file, launches=2, runs=200, warmup=5)
    for item in found.cases[0].launches:
        assert item.pace_runs[0] == 0
        assert list(item.pace_runs) == sorted(item.pace_runs)
        assert len(item.pace_ns) == len(item.pace_runs)
    again = BenchmarkReport.from_json(found.to_json())
    assert [item.pace_ns for item in found.cases[0].launches] == [item.pace_ns for item in again.cases[0].launches]

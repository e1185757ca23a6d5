"""What came from outside while a rate was tried."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine_trees
import numpy as np
import power_trees
import pytest
import tiny_models as models
from bench_reports import launch

import edgekit
from edgekit.bench.launch import Case, Trial
from edgekit.bench.scenarios import offline, search, trial
from edgekit.bench.tasks import Method, Task
from edgekit.bench.watch import EVERY_NS, Disturbance, Watch

MS = 1_000_000
INPUTS = [np.zeros((1, 8), np.float32)]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A recorded machine on which nothing else runs."""
    return machine_trees.plant(tmp_path, power_trees.PI5)


@pytest.fixture
def session() -> Iterator[edgekit.Session]:
    """A tiny model, loaded."""
    with edgekit.load(models.dense_float(open_batch=True), delegate="none") as found:
        yield found


def text_of(found: Disturbance | None) -> str:
    """What is told of it; nothing where there was none."""
    return "" if found is None else found.text


class Stolen(Watch):
    """On a recorded machine below which another one takes processor time during each trial.

    Args:
        root: where it was planted.
        seconds: of processor time.
    """

    def __init__(self, root: Path, seconds: float = 1.0) -> None:
        super().__init__(root=root)
        self.begun = 0
        self._recorded, self._seconds = root, seconds

    def begin(self) -> None:
        """Begin, and let the time be taken."""
        super().begin()
        self.begun += 1
        power_trees.spend(self._recorded, steal_s=self.begun * self._seconds)

    def disturbance(self, percentile: int) -> Disturbance | None:
        """What the recorded machine says; what slows this one is left out."""
        self.times_ns = []
        return super().disturbance(percentile)


class TestDisturbance:
    """What is found between the beginning and the end of a trial."""

    def test_nothing_on_a_calm_machine(self, machine: Path) -> None:
        """No time was taken, and the work took what it takes."""
        watch = Watch(full_ns=1e12, root=machine)
        watch.begin()
        time.sleep(0.02)
        assert watch.disturbance(99) is None

    def test_time_that_the_host_took(self, machine: Path) -> None:
        """A second within a trial is more than the one per cent of the queries that may be late."""
        watch = Stolen(machine)
        watch.begin()
        time.sleep(0.02)
        assert "the host of this virtual machine took" in text_of(watch.disturbance(99))

    def test_stolen_time_is_held_against_what_may_be_late(self, machine: Path) -> None:
        """Of a second that was watched 20 ms are too many for a p99, and few for a p50."""
        found = []
        for percentile in (99, 50):
            power_trees.spend(machine)
            watch = Watch(full_ns=1e12, root=machine)
            watch.begin()
            power_trees.spend(machine, steal_s=0.02)
            time.sleep(1)
            found.append(watch.disturbance(percentile) is None)
        assert [False, True] == found

    def test_other_processes(self) -> None:
        """Real ones, on every processor of this machine."""
        spin = [sys.executable, "-c", "while True: pass"]
        others = [subprocess.Popen(spin) for _ in range(len(os.sched_getaffinity(0)))]
        try:
            watch = Watch()
            watch.begin()
            time.sleep(0.5)
            found = watch.disturbance(50)
        finally:
            for other in others:
                other.kill()
                other.wait()
        assert "other processes used" in text_of(found)

    def test_a_processor_that_something_slowed(self, machine: Path) -> None:
        """The work was much faster in an earlier launch."""
        watch = Watch(full_ns=1.0, root=machine)
        watch.begin()
        for _ in range(20):
            watch.between(wait_ns=EVERY_NS)
            time.sleep(EVERY_NS / 1e9)
        assert len(watch.times_ns) >= 10
        found = watch.disturbance(99)
        assert text_of(found) == "for 100 % of the time something slowed the processor"
        assert found is not None
        assert found.left < 0.01

    def test_work_waits_for_room_but_not_for_ever(self, machine: Path) -> None:
        """With the next query due at once it is put off, until it is long overdue."""
        watch = Watch(root=machine)
        watch.begin()
        watch.between(wait_ns=EVERY_NS)
        time.sleep(1.2 * EVERY_NS / 1e9)
        watch.between(wait_ns=0)
        assert len(watch.times_ns) == 1
        time.sleep(6 * EVERY_NS / 1e9)
        watch.between(wait_ns=0)
        assert len(watch.times_ns) == 2


class TestTrials:
    """Trials and searches that are watched."""

    def test_a_rate_that_holds_is_not_asked_why(self, session: edgekit.Session, machine: Path) -> None:
        """Whatever was taken, the bound was kept."""
        found = trial(
            session, INPUTS, 400, bound_ns=50 * MS, percentile=50, least_s=0.3, watch=Stolen(machine)
        )  # fmt: skip
        assert found.valid
        assert found.disturbance is None
        assert len(found.pace_ns) > 5

    def test_a_model_that_is_too_slow_by_itself_was_not_disturbed(
        self, session: edgekit.Session, machine: Path
    ) -> None:
        """No run takes a nanosecond, and no quieter machine would help."""
        found = trial(session, INPUTS, 2000, bound_ns=1, percentile=99, least_s=0.2, watch=Stolen(machine))
        assert found.refutes

    def test_a_hopeless_rate_is_refuted_in_spite_of_a_small_disturbance(
        self, session: edgekit.Session, machine: Path
    ) -> None:
        """Two hundredths of a second are too much for a p99, and do not make up for 50,000 queries per second."""
        found = trial(session, INPUTS, 5e4, bound_ns=1000 * MS, percentile=99, watch=Stolen(machine, 0.02))
        assert not found.valid
        assert min(found.latency_ns) <= 1000 * MS
        assert found.refutes

    def test_a_disturbed_rate_is_tried_again_before_it_is_lowered(
        self, session: edgekit.Session, machine: Path
    ) -> None:
        """While time is taken from every trial, a rate that fails is tried up to three times more; the search still ends."""
        found = search(session, INPUTS, bound_ns=20 * MS, percentile=99, least_s=0.02, watch=Stolen(machine))
        rates = [item.rate_per_s for item in found]
        first = next(item.rate_per_s for item in found if item.disturbance is not None)
        assert 2 <= rates.count(first) <= 4
        assert len(found) <= 16 + 8

    def test_offline_runs_teach_the_pace_under_load(self, session: edgekit.Session, machine: Path) -> None:
        """What is as slow as with all the load that there can be is not slowed by somebody else."""
        watch = Watch(root=machine)
        offline(session, INPUTS, least_s=0.3, watch=watch)
        known = list(watch.times_ns)
        watch.begin()
        watch.times_ns = known
        assert len(known) > 3
        assert "something slowed" not in text_of(watch.disturbance(99))


class TestLearning:
    """What a task makes of launches that were disturbed."""

    @staticmethod
    def task(**case: Any) -> Task:
        """A server's case, none of it measured."""
        method = Method(None, None, None, 0.03, None, None, "random", None, 1.0)
        return Task(Case("m", "00", 1, scenario="server", latency_bound_ns=5, **case), method, Path("m.tflite"))

    def test_a_disturbed_replay_is_made_again(self) -> None:
        """Five launches that say something are wanted, and the disturbed ones besides."""
        task = self.task(rate_per_s=9.0)
        task.launches = [launch([], trials=(Trial(9.0, 0, "replay", 3, 2, False, (5,), disturbance="x"),))] * 2
        task.launches += [launch([], trials=(Trial(9.0, 0, "replay", 3, 0, True, (5,)),))] * 3
        assert task.needed() == 7
        assert task.wants_more(5)

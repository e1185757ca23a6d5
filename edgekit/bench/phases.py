"""The phases of a launch: warm-up until steady, then steady runs, or what a scenario does with several workers."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgekit.bench.energy import Meter
from edgekit.bench.launch import CONFIRM, OFFLINE, REPLAY, Case, Trial
from edgekit.bench.memory import peak_bytes
from edgekit.bench.pace import Pace, processors
from edgekit.bench.steady import WarmUp
from edgekit.runtime.latency import RunRecord
from edgekit.runtime.session import Session

if TYPE_CHECKING:
    from edgekit.bench.scenarios import Tell
    from edgekit.runtime.pool import Pool

#: Without a number of runs they go on for so long, if they are at least so many; runs of a slow model end after a longer time.
_STEADY_NS, _FEWEST_RUNS = 1_000_000_000, 30
_SLOW_NS, _FEWEST_SLOW_RUNS = 10_000_000_000, 5
_MOST_RUNS = 20_000
#: Where something slows the processor they go on for so long at most, until so many were made at full pace.
_PATIENT_NS = 3_000_000_000
FEWEST_FULL_RUNS = 30
#: So many warm-up runs are kept one by one.
_KEPT_WARMUP = 1_000
_clock = time.perf_counter_ns

#: What ``Session.run`` takes.
Inputs = Sequence[Any]


class Warm:
    """What warm-up was.

    Attributes:
        runs: how many.
        times_ns: of the first thousand.
        settled: whether it ended because there was no trend any more; ``None`` where its length was given.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.times_ns: list[int] = []
        self.settled: bool | None = None


def warm_up(session: Session, inputs: Inputs, runs: int | None) -> Warm:
    """Run until the times have no trend any more.

    Args:
        session: the loaded model.
        inputs: what to run, in turn.
        runs: a number of runs instead.
    """
    warm, rule, run = Warm(), WarmUp(), session.run
    if runs == 0:
        return warm
    for values in itertools.cycle(inputs):
        before = _clock()
        run(values)
        taken_ns = _clock() - before
        warm.runs += 1
        if warm.runs <= _KEPT_WARMUP:
            warm.times_ns.append(taken_ns)
        if warm.runs == runs if runs is not None else rule.add(taken_ns):
            break
    warm.settled = rule.settled if runs is None else None
    return warm


class Steady:
    """What the steady phase was.

    Args:
        meter: the machine's energy source, or ``None``.
        idle_w: what the machine took before anything was loaded, in watts.
        full_ns: what the fixed piece of work takes at full pace, as far as that is known; an attribute too.

    Attributes:
        started_unix_s: when it began.
        records: each run's times; empty with several workers.
        samples: how many samples were run, where that is not told by the records.
        inferences: how many samples were run.
        trials: of the server scenario.
        wall_ns: on the clock.
        cpu_ns: processor time over all threads.
        energy: what the energy source said, or ``None``.
        peak_rss_bytes: most resident memory of the process until the end of the runs: what is made of them afterwards is not the
            model's.
        pace: how fast the processor was between the runs of a single stream.
    """

    def __init__(self, meter: Meter | None = None, idle_w: float | None = None, full_ns: float | None = None) -> None:
        self.started_unix_s = 0.0
        self.records: list[RunRecord] = []
        self.samples: int | None = None
        self.inferences = 0
        self.trials: list[Trial] = []
        self.wall_ns = 0
        self.cpu_ns = 0
        self.energy: dict[str, Any] | None = None
        self.peak_rss_bytes: int | None = None
        self.full_ns = full_ns
        self.pace = Pace(full_ns)
        self._meter = meter
        self._idle_w = idle_w

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Note the clock, the processor time and the energy of what is done inside, which sets ``inferences``."""
        if self._meter is not None:
            self._meter.start()
        self.started_unix_s = time.time()
        cpu_start, wall_start = time.process_time_ns(), _clock()
        yield
        self.wall_ns, self.cpu_ns = _clock() - wall_start, time.process_time_ns() - cpu_start
        # What the work took is not the model's.
        self.wall_ns, self.cpu_ns = self.wall_ns - self.pace.spent_ns, max(0, self.cpu_ns - self.pace.spent_cpu_ns)
        self.peak_rss_bytes = peak_bytes()
        if self._meter is not None:
            self.energy = self._meter.reading(self.inferences, self._idle_w)


def single_stream(steady: Steady, session: Session, inputs: Inputs, runs: int | None, batch: int | None) -> None:
    """Run one after another.

    Args:
        steady: takes what was measured.
        session: the loaded model, warm.
        inputs: what to run, in turn.
        runs: how many; ``None`` for about a second.
        batch: samples in each run.
    """
    # A log of this many runs keeps the phases apart and every sample, however many there are.
    session.latency.restart(_MOST_RUNS if runs is None else runs)
    run, turns = session.run, itertools.cycle(inputs)
    steady.pace = Pace(steady.full_ns, processors(session.asked.spec.threads or 1))
    with steady.pace as pace, steady.timed():
        if runs is not None:
            for number, values in enumerate(itertools.islice(turns, runs)):
                if _clock() >= pace.due_ns:
                    pace.take(number)
                run(values)
            steady.inferences = runs * (batch or 1)
        else:
            start = _clock()
            pace.take(0)
            for number, values in enumerate(turns, 1):
                run(values)
                taken_ns = (now := _clock()) - start
                if now >= pace.due_ns:
                    pace.take(number)
                patient = pace.full_runs is not None and pace.full_runs < FEWEST_FULL_RUNS and taken_ns < _PATIENT_NS
                if (
                    (taken_ns >= _STEADY_NS and number >= _FEWEST_RUNS and not patient)
                    or (taken_ns >= _SLOW_NS and number >= _FEWEST_SLOW_RUNS)
                    or number >= _MOST_RUNS
                ):
                    break
            steady.inferences = number * (batch or 1)
    steady.records = session.latency.records()
    if batch is not None:
        steady.samples = steady.inferences


def worker_count(asked: int | None, threads: int | None) -> int:
    """How many sessions run beside each other.

    Args:
        asked: the number that was named, or ``None`` for as many as there are processors for.
        threads: CPU threads of each, ``None`` for one.
    """
    if asked is not None:
        return asked
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, processors // (threads or 1))


def several(
    steady: Steady,
    session: Session,
    open_session: Callable[[], Session],
    workers: int,
    inputs: Inputs,
    case: Case,
    *,
    seed: int,
    least_s: float,
    confirms: bool,
    tell: Tell,
) -> None:
    """The server or the offline scenario.

    Args:
        steady: takes what was measured.
        session: the loaded model, warm.
        open_session: loads another one.
        workers: sessions beside each other.
        inputs: what to run, in turn.
        case: the scenario, its bound and its rate.
        seed: of the arrivals.
        least_s: the least time of the offline runs or of a trial.
        confirms: whether the case's rate is one that a search found, and not the user's own.
        tell: called as ``tell(step, done, total)``.
    """
    # Streams and pools would count as memory of a single stream's process.
    from edgekit.bench import scenarios
    from edgekit.bench.watch import Watch
    from edgekit.runtime.pool import Pool

    with ExitStack() as stack:
        model: Session | Pool = session
        if workers > 1:
            model = stack.enter_context(Pool([session, *[open_session] * (workers - 1)]))
            scenarios.offline(model, inputs, least_s=0.3)  # every worker has run then
        if case.scenario == OFFLINE:
            with steady.timed():
                runs, _ = scenarios.offline(model, inputs, least_s=least_s, batched=case.batch is not None)
                steady.samples = steady.inferences = runs * (case.batch or 1)
            return
        bound_ns, percentile = case.latency_bound_ns or 0, case.percentile
        watch = Watch(steady.full_ns)
        with steady.timed():
            if case.rate_per_s is None:
                steady.trials = scenarios.search(
                    model, inputs, bound_ns=bound_ns, percentile=percentile, seed=seed, least_s=least_s, tell=tell,
                    watch=watch,
                )  # fmt: skip
            else:
                purpose = CONFIRM if confirms else REPLAY
                steady.trials = [
                    scenarios.trial(
                        model, inputs, case.rate_per_s, bound_ns=bound_ns, percentile=percentile, seed=seed,
                        purpose=purpose, least_s=least_s, watch=watch,
                    )
                ]  # fmt: skip
            steady.samples = steady.inferences = sum(len(trial.latency_ns) for trial in steady.trials) * (
                case.batch or 1
            )

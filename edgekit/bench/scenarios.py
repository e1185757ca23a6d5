"""The server and the offline scenario in the sense of MLPerf, through the streams and pools that an application uses.

- **Server**: queries arrive at random (a Poisson process), each by itself; a given percentile of them must be answered within a
  latency bound, counted from the moment when the query was due. The figure is the highest rate that is valid.
- **Offline**: all samples are there; the figure is samples per second.

(MLPerf Inference Rules, section "Scenarios" and appendix "Early Stopping Criterion".) These are the scenarios and not the suite:
models, data and durations are the user's, so that a result is no MLPerf result.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.bench.launch import OFFLINE, REPLAY, SEARCH, SERVER, Trial
from edgekit.bench.statistics import MLPERF_SAMPLES, fewest_queries, most_over
from edgekit.bench.watch import Watch
from edgekit.runtime.pool import Pool
from edgekit.runtime.stream import stream

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgekit.runtime.session import Session

#: A trial lasts at least so long, and at least so many latency bounds: a rate just above what the machine can do is found out
#: when the queue has had the time to grow.
TRIAL_S = 5.0
_BOUNDS = 20
#: A trial that is not decided goes on until it has so many times its queries.
_LONGER = 4
#: The search ends when the lowest rate that is not valid is this close above the highest that is.
_CLOSE = 1.04
_MOST_TRIALS = 16
#: A trial that did not hold while something disturbed the machine is made again so often, and so many of a search.
_AGAIN, _MOST_AGAIN = 3, 8
#: A rate is too high in spite of a disturbance that left so much of the machine, when it is so many times what the whole one would do.
_MOSTLY, _SURELY = 0.9, 1.1
#: Where the search begins, as a share of the throughput, and how it goes on until it has a rate on either side.
_FIRST, _UP, _DOWN = 0.7, 1.2, 0.5
_LOWEST = 0.02
_EXPECTED = 7
_LEAD_NS = 2_000_000
_clock = time.perf_counter_ns

Tell = Callable[[str, int, int], None]


def arrivals_ns(rate_per_s: float, count: int, seed: int) -> npt.NDArray[np.int64]:
    """When queries arrive: a Poisson process, the same one for the same seed, faster or slower with the rate.

    Args:
        rate_per_s: queries per second on average.
        count: how many.
        seed: of the random intervals.

    Returns:
        Nanoseconds from the start, rising.
    """
    gaps = np.random.default_rng(seed).standard_exponential(count)
    return np.asarray(np.cumsum(gaps) * (1e9 / rate_per_s), np.int64)


def trial(
    model: Session | Pool,
    inputs: Sequence[Any],
    rate_per_s: float,
    *,
    bound_ns: int,
    percentile: int = 99,
    seed: int = 0,
    purpose: str = REPLAY,
    least_s: float = TRIAL_S,
    watch: Watch | None = None,
) -> Trial:
    """Offer queries at one rate and see whether the latency bound holds.

    The queries go through ``edgekit.stream`` with nothing dropped. It ends as soon as it is decided: when there are enough
    queries and few enough of them are over the bound, or when too many are for any number of queries to make up for it.

    Args:
        model: a session, or a pool of them.
        inputs: what the queries hold, in turn.
        rate_per_s: queries per second on average.
        bound_ns: what a query may take, from when it was due to its answer.
        percentile: per cent of the queries that must be within the bound.
        seed: of the arrivals.
        purpose: to note in the trial.
        least_s: the least time; twenty bounds where these are longer.
        watch: tells whether something disturbed the machine; without one nobody looks.

    Returns:
        The trial, valid or not, with each latency.
    """
    least_s = max(least_s, _BOUNDS * bound_ns / 1e9)
    fewest = max(fewest_queries(1, percentile), math.ceil(rate_per_s * least_s))
    most = _LONGER * fewest
    hopeless = most_over(most, percentile) or 0
    due = arrivals_ns(rate_per_s, most, seed)
    start = _clock() + _LEAD_NS

    def source() -> Iterator[Any]:
        for at, values in zip(due.tolist(), itertools.cycle(inputs), strict=False):
            wait_ns = start + at - _clock()
            if watch is not None:
                watch.between(wait_ns)
                wait_ns = start + at - _clock()
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
            yield values

    latencies: list[int] = []
    over = waiting = 0
    elapsed_ns = 1
    valid = False
    if watch is not None:
        watch.begin()
    with stream(source(), model, policy="all", max_queue=most) as results:
        for result in results:
            taken_ns = result.finished_ns - start - int(due[result.sequence])
            latencies.append(taken_ns)
            over += taken_ns > bound_ns
            # Those that wait for longer than the bound already are over it whatever comes.
            elapsed_ns = result.finished_ns - start
            waiting = max(0, int(np.searchsorted(due, elapsed_ns - bound_ns)) - len(latencies))
            if over + waiting > hopeless:
                break
            seen = len(latencies) + waiting
            if seen >= fewest:
                allowed = most_over(seen, percentile)
                if allowed is not None and over + waiting <= allowed:
                    valid = True
                    break
    why = None
    # Where not even the fastest query kept the bound, it is the model that does not.
    if watch is not None and not valid and min(latencies, default=0) <= bound_ns:
        why = watch.disturbance(percentile)
        able = len(latencies) / (elapsed_ns / 1e9)
        if why is not None and why.left >= _MOSTLY and rate_per_s > _SURELY * able / why.left:
            why = None  # on the whole machine, too, queries would have come faster than they can be answered
    return Trial(
        rate_per_s, seed, purpose, len(latencies) + waiting, over + waiting, valid, tuple(latencies),
        () if watch is None else tuple(watch.times_ns), None if why is None else why.text,
    )  # fmt: skip


def search(
    model: Session | Pool,
    inputs: Sequence[Any],
    *,
    bound_ns: int,
    percentile: int = 99,
    seed: int = 0,
    least_s: float = TRIAL_S,
    tell: Tell | None = None,
    watch: Watch | None = None,
) -> list[Trial]:
    """Search the highest valid rate.

    It goes up or down from what the model can do at all until one rate is valid and one is not, and then halves what is between
    them, on a scale of ratios. A rate that did not hold while something disturbed the machine is tried again, up to three times.

    Args:
        model: a session, or a pool of them.
        inputs: what the queries hold, in turn.
        bound_ns: see ``trial``, as the next three.
        percentile: see ``trial``.
        seed: the same for all rates, so that they differ in nothing else.
        least_s: see ``trial``.
        tell: called as ``tell(step, done, total)`` before each trial.
        watch: see ``trial``.

    Returns:
        The trials, in the order in which they were made; the highest rate of those that are valid is the answer.
    """
    samples, wall_ns = offline(model, inputs, least_s=min(1.0, least_s), watch=watch)
    able = samples / (wall_ns / 1e9)
    rate = _FIRST * able
    low: float | None = None
    high: float | None = None
    found: list[Trial] = []
    again = together = 0
    while len(found) - together < _MOST_TRIALS and (low is None or high is None or high / low > _CLOSE):
        if tell is not None:
            tell("Searching the highest valid rate", len(found), max(_EXPECTED, len(found) + 1))
        found.append(
            trial(
                model,
                inputs,
                rate,
                bound_ns=bound_ns,
                percentile=percentile,
                seed=seed,
                purpose=SEARCH,
                least_s=least_s,
                watch=watch,
            )
        )
        if found[-1].disturbance is not None and again < _AGAIN and together < _MOST_AGAIN:
            again, together = again + 1, together + 1
            continue
        again = 0
        if found[-1].valid:
            low = rate
        else:
            high = rate
        if high is None:
            rate *= _UP
        elif low is None:
            rate *= _DOWN
            # The first query of a trial finds nobody before it: where even the fastest is too slow, no rate is low enough.
            if rate < _LOWEST * able or min(found[-1].latency_ns, default=bound_ns + 1) > bound_ns:
                break
        else:
            rate = math.sqrt(low * high)
    return found


def offline(
    model: Session | Pool,
    inputs: Sequence[Any],
    *,
    least_s: float = 2.0,
    fewest: int = 16,
    batched: bool = False,
    watch: Watch | None = None,
) -> tuple[int, int]:
    """Run all samples as fast as they go: along the model's batch axis on a session, on all workers of a pool.

    Args:
        model: a session, or a pool of them.
        inputs: samples, in turn.
        least_s: the least time.
        fewest: the least number of samples.
        batched: whether each input is a batch of its own already.
        watch: learns how fast the processor is under this load.

    Returns:
        How many inputs were run, and how many nanoseconds that took from the first to the last result.
    """
    start = _clock()
    end = start + int(least_s * 1e9)

    def source() -> Iterator[Any]:
        for number, values in enumerate(itertools.cycle(inputs)):
            if number >= fewest and _clock() >= end:
                return
            yield values

    values: Iterator[Any] = source()
    if watch is not None:
        watch.begin()
        values = watch.through(values)
    if isinstance(model, Pool):
        results: Any = model.map(values, ordered=False)
    elif batched:
        results = map(model.run, values)
    else:
        results = model.batch(values)
    count = sum(1 for _ in results)
    wall_ns = _clock() - start
    if watch is not None:
        watch.loaded()
    return count, wall_ns


def sample_rule(scenario: str, count: int, percentile: int = 99) -> str:
    """What MLPerf's rules say of the number of samples, in a sentence.

    Args:
        scenario: ``"single-stream"``, ``"server"`` or ``"offline"``.
        count: runs, queries or samples that were measured.
        percentile: of the server scenario.
    """
    if scenario == OFFLINE:
        return f"MLPerf's offline scenario has at least 24,576 samples and 600 s in one query; here {count:,} samples were run."
    if scenario == SERVER:
        large = MLPERF_SAMPLES.get(percentile)
        table = f", or {large[0]:,} for a margin of {large[1]}" if large else ""
        return (
            f"MLPerf's rule for {percentile} % within the bound at 99 % confidence: {fewest_queries(0, percentile):,} queries "
            f"when none is over it, {fewest_queries(1, percentile):,} when one is, {fewest_queries(10, percentile):,} when ten "
            f"are{table}. Its runs last 600 s."
        )
    needed, margin = MLPERF_SAMPLES[90]
    return (
        f"MLPerf's rule for the p90 at 99 % confidence: {needed:,} runs for a margin of {margin}, at least "
        f"{fewest_queries(1, 90)} for its early-stopping estimate, and 600 s; here {count:,} runs were timed."
    )

"""The server and the offline scenario, through real sessions, streams and pools."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit.bench.scenarios import arrivals_ns, offline, sample_rule, search, trial
from edgekit.bench.statistics import fewest_queries, most_over
from edgekit.bench.watch import Watch
from edgekit.tensors import Array

MS = 1_000_000
INPUTS: list[Array] = [np.full((1, 8), number, np.float32) for number in range(3)]


@pytest.fixture
def session() -> Iterator[edgekit.Session]:
    """A tiny model, loaded."""
    with edgekit.load(models.dense_float(open_batch=True), delegate="none") as found:
        yield found


@pytest.fixture
def pool() -> Iterator[edgekit.Pool]:
    """Two workers of a tiny model."""
    with edgekit.Pool.of(models.dense_float(), 2, delegate="none") as found:
        yield found


class TestArrivals:
    """A Poisson process that can be had again."""

    def test_gaps_are_exponential_with_the_rates_mean(self) -> None:
        """Mean and standard deviation of the gaps are both 1 / rate."""
        gaps = np.diff(arrivals_ns(200, 20_000, 3))
        assert gaps.min() >= 0
        assert gaps.mean() == pytest.approx(5 * MS, rel=0.03)
        assert gaps.std() == pytest.approx(5 * MS, rel=0.05)

    def test_seed_and_rate_give_them_again(self) -> None:
        """The same seed is the same row, faster at a higher rate; another seed is another row."""
        first = arrivals_ns(100, 500, 1)
        assert np.array_equal(first, arrivals_ns(100, 500, 1))
        assert np.abs(first - 2 * arrivals_ns(200, 500, 1)).max() <= 2
        assert not np.array_equal(first, arrivals_ns(100, 500, 2))


class TestTrial:
    """One rate."""

    def test_enough_queries_within_the_bound_are_valid(self, session: edgekit.Session) -> None:
        """With a generous bound half of the queries keep it; there are as many as the time and the rule take."""
        found = trial(session, INPUTS, 400, bound_ns=50 * MS, percentile=50, least_s=0.5)
        assert found.valid
        assert found.queries >= 400
        allowed = most_over(found.queries, 50)
        assert allowed is not None
        assert found.over <= allowed
        assert (found.rate_per_s, found.seed, found.purpose) == (400, 0, "replay")

    def test_a_bound_that_cannot_be_kept_ends_early(self, session: edgekit.Session) -> None:
        """No run takes a nanosecond: it is over as soon as no number of queries could make up for it."""
        found = trial(session, INPUTS, 2000, bound_ns=1, percentile=99, least_s=5)
        assert not found.valid
        assert found.over == found.queries
        assert found.queries < 10_000  # which five seconds have

    def test_latency_counts_from_when_a_query_was_due(self, session: edgekit.Session) -> None:
        """At a rate that nobody can offer, queries are late because others were before them."""
        found = trial(session, INPUTS, 1e7, bound_ns=2 * MS, percentile=50, least_s=0.001)
        assert not found.valid
        assert found.over > 0
        assert max(found.latency_ns) > 2 * MS

    def test_on_a_pool(self, pool: edgekit.Pool) -> None:
        """The queries of a pool are all answered too."""
        found = trial(pool, INPUTS, 400, bound_ns=50 * MS, percentile=50, least_s=0.3)
        assert found.valid
        assert len(found.latency_ns) <= found.queries


class TestSearch:
    """The highest valid rate."""

    def test_valid_rates_lie_below_the_others(self, session: edgekit.Session) -> None:
        """The search narrows an interval: what is valid is below what is not, and they meet unless the trials are used up."""
        steps: list[tuple[int, int]] = []
        found = search(
            session,
            INPUTS,
            bound_ns=5 * MS,
            percentile=50,
            least_s=0.05,
            tell=lambda step, done, total: steps.append((done, total)),
        )
        valid = [item.rate_per_s for item in found if item.valid]
        refuted = [item.rate_per_s for item in found if not item.valid]
        assert max(valid, default=0) < min(refuted, default=float("inf"))
        assert {item.purpose for item in found} == {"search"}
        assert {item.seed for item in found} == {0}
        assert [done for done, _ in steps] == list(range(len(found)))
        assert all(done < total for done, total in steps)

    def test_a_bound_that_cannot_be_kept_has_no_valid_rate(self, session: edgekit.Session) -> None:
        """A model that is too slow by itself is not tried at lower and lower rates."""
        (only,) = search(session, INPUTS, bound_ns=1, percentile=50, least_s=0.05)
        assert not only.valid


class SimulatedAccelerator:
    """Hardware that takes five milliseconds for a query, and no processor.

    It has a short queue of its own: what this machine comes late to fetch does not hold it up.
    """

    def __init__(self) -> None:
        self._free_s = 0.0

    def __call__(self, value: Array) -> Array:
        """One query."""
        now_s = time.monotonic()
        self._free_s = max(self._free_s, now_s - 0.010) + 0.005
        time.sleep(max(0.0, self._free_s - now_s))
        return value

    def batch(self, source: Iterable[Array]) -> Iterator[Array]:
        """As a session without a batch axis has it."""
        return map(self, source)


@pytest.mark.alone
def test_the_highest_rate_of_a_simulated_accelerator_holds_at_nine_tenths_and_not_at_twelve() -> None:
    """On other arrivals than the search's; this machine may stand still for a moment, and a trial is made again then.

    How far a rate is from what can be done at length depends on the arrivals: worked out for such a queue without a machine, the
    search's own have it valid up to 224 per second when a trial lasts for one second, 196 for three and 192 for five.
    """
    model: Any = SimulatedAccelerator()
    options: dict[str, Any] = {"bound_ns": 50 * MS, "percentile": 90, "least_s": 3.0, "watch": Watch()}
    best = max(item.rate_per_s for item in search(model, INPUTS, **options) if item.valid)
    assert 100 < best < 210  # the 200 that it can do, and less where this machine stood still
    assert any(trial(model, INPUTS, 0.9 * best, seed=seed, **options).valid for seed in range(1, 6))
    assert not any(trial(model, INPUTS, 1.2 * best, seed=seed, **options).valid for seed in range(1, 3))


class TestOffline:
    """As fast as it goes."""

    def test_session_pool_and_batches_run_what_they_count(self, session: edgekit.Session, pool: edgekit.Pool) -> None:
        """At least so many samples, whatever the time."""
        counts = [offline(model, INPUTS, least_s=0.001, fewest=40)[0] for model in (session, pool)]
        assert all(count >= 40 for count in counts)
        whole = [np.zeros((4, 8), np.float32)]
        before = session.latency.summary().count
        runs, wall_ns = offline(session, whole, least_s=0.001, fewest=5, batched=True)
        assert session.latency.summary().count - before == runs >= 5
        assert wall_ns > 0


def test_the_standards_rule_is_told() -> None:
    """Each scenario's numbers are MLPerf's."""
    assert "24,576 runs" in sample_rule("single-stream", 5000)
    assert "at least 64 " in sample_rule("single-stream", 5000)
    assert "here 5,000 runs" in sample_rule("single-stream", 5000)
    server = sample_rule("server", 0)
    assert all(text in server for text in ("99 %", f"{fewest_queries(0):,} queries", "662", "270,336"))
    assert "at least 24,576 samples and 600 s" in sample_rule("offline", 10)

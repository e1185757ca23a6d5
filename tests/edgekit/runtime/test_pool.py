"""``edgekit.runtime.pool``: one model on several workers.

These tests run under each interpreter (``--engine``).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from dying_delegates import SimulatedDyingDelegate

import edgekit
from edgekit import DataError, EngineError, OptionError, Session, TensorError
from edgekit.runtime.pool import Pool
from edgekit.runtime.workers import PoolStats
from edgekit.tensors import Array

FOR_EVER_S = 60.0


@pytest.fixture
def load(engine: str | None, request: pytest.FixtureRequest) -> Callable[..., Session]:
    """``edgekit.load`` with the interpreter under test, closed when the test ends."""

    def loaded(source: Any = None, **options: Any) -> Session:
        session = edgekit.load(source or models.dense_int8(), **{"delegate": "xnnpack", "engine": engine, **options})
        request.addfinalizer(session.close)
        return session

    return loaded


@pytest.fixture
def broken(load: Callable[..., Session], request: pytest.FixtureRequest) -> Callable[[], SimulatedDyingDelegate]:
    """Makes workers whose delegate can die; they are let go when the test ends."""

    def made() -> SimulatedDyingDelegate:
        one = SimulatedDyingDelegate(load())
        request.addfinalizer(one.go_on.set)
        return one

    return made


@pytest.fixture
def pool_of(request: pytest.FixtureRequest) -> Callable[..., Pool]:
    """Makes pools that are closed when the test ends, before their workers."""

    def made(*workers: Any, **options: Any) -> Pool:
        pool = Pool(workers, **{"probe_interval_s": FOR_EVER_S, **options})
        request.addfinalizer(lambda: pool.close(drain=False))
        return pool

    return made


def inputs(count: int) -> list[Array]:
    """Real numbers between -1 and 1."""
    return [*np.random.default_rng(count).uniform(-1, 1, (count, 1, 8)).astype(np.float32)]


def add_up(stats: PoolStats) -> bool:
    """Whether what was taken is what became of it."""
    return stats.taken == stats.done + stats.failed + stats.cancelled + stats.waiting + stats.running


def until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads do."""
    tick = threading.Event()
    while not condition():
        tick.wait(0.001)


ONE = np.ones((1, 8), np.float32)


class TestRunning:
    """Inputs in, results out, whichever worker it was."""

    def test_every_way_in_gives_what_a_session_gives(self, load: Any, pool_of: Any) -> None:
        """``run``, ``submit``, ``map`` and ``arun`` return the session's own bits."""
        values = inputs(50)
        single = load()
        expected = [single.run(value) for value in values]
        pool = pool_of(load(), load())

        async def together() -> list[Array]:
            return list(await asyncio.gather(*(pool.arun(value) for value in values)))

        for actual in (
            [pool.run(value) for value in values],
            [pool(value) for value in values],
            [pool.run(x=value) for value in values],
            [pool.run_queued({"x": value}, 0) for value in values],
            [future.result() for future in [pool.submit(value) for value in values]],
            [pool.submit(x=value).result() for value in values],
            list(pool.map(values)),
            list(pool.map({"x": value} for value in values)),
            asyncio.run(together()),
        ):
            np.testing.assert_array_equal(np.array(expected), np.array(actual))
        until(lambda: pool.stats().running == 0)  # a future has its result before its worker is free
        stats = pool.stats()
        assert (9 * 50, 9 * 50, 0) == (stats.taken, stats.done, stats.failed)
        assert 9 * 50 == sum(worker.runs for worker in stats.workers)

    def test_several_inputs_and_outputs(self, load: Any, pool_of: Any) -> None:
        """By name, as with a session."""
        pool = pool_of(load(models.add_two_inputs()))
        four = np.ones((1, 4), np.float32)
        assert [[3.0] * 4] == pool.run(a=four, b=2 * four)["sum"].tolist()
        assert [[3.0] * 4] == pool.run({"a": four}, b=2 * four)["sum"].tolist()

    def test_as_done(self, broken: Any, pool_of: Any) -> None:
        """Without order a result does not wait for the one before it; with order it does."""
        slow, fast = broken(), broken()
        slow.go_on.clear()
        pool = pool_of(slow, fast, ordered=False)
        values = inputs(4)
        results = pool.map(values)
        first = [next(results) for _ in range(3)]
        slow.go_on.set()
        last = next(results)
        expected = [fast.run(value) for value in values]
        assert {value.tobytes() for value in expected} == {value.tobytes() for value in [*first, last]}
        np.testing.assert_array_equal(fast.run(slow.calls[0]), last)
        assert [value.tobytes() for value in expected] == [value.tobytes() for value in pool.map(values, ordered=True)]

    def test_map_takes_items_as_they_are_needed(self, load: Any, pool_of: Any) -> None:
        """It reads no more than its queue and its workers hold."""
        taken: list[int] = []

        def source() -> Iterator[Array]:
            for number, value in enumerate(inputs(1000)):
                taken.append(number)
                yield value

        results = pool_of(load(), max_queue=4).map(source())
        assert [] == taken
        next(results)
        assert len(taken) <= 5
        results.close()  # type: ignore[attr-defined]  # it is a generator

    def test_a_queue_has_an_end(self, broken: Any, pool_of: Any) -> None:
        """``submit`` blocks while the queue is full, and goes on when a worker takes something."""
        worker = broken()
        worker.go_on.clear()
        pool = pool_of(worker, max_queue=2)
        futures = [pool.submit(value) for value in inputs(3)]
        thread = threading.Thread(target=lambda: futures.append(pool.submit(ONE)))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        assert (2, 1) == (pool.stats().waiting, pool.stats().running)
        worker.go_on.set()
        thread.join()
        assert 4 == len([future.result() for future in futures])

    def test_the_slow_worker_is_spared(self, broken: Any, pool_of: Any) -> None:
        """While the fast one is free, everything goes there."""
        slow, fast = broken(), broken()
        pool = pool_of(slow, fast)
        slow.go_on.clear()
        futures = [pool.submit(ONE), pool.submit(ONE)]
        slow.entered.wait()
        threading.Event().wait(0.02)
        slow.go_on.set()
        for future in futures:
            future.result()
        for value in inputs(30):
            pool.run(value)
        assert 1 == len(slow.calls)

    def test_what_was_held_back_goes_elsewhere_when_the_fast_worker_hangs(self, broken: Any, pool_of: Any) -> None:
        """An input that waits for the faster worker is given to the slower one when that takes too long."""
        slow, fast = broken(), broken()
        pool = pool_of(slow, fast)
        slow.go_on.clear()
        futures = [pool.submit(ONE), pool.submit(ONE)]
        slow.entered.wait()
        futures[1].result()
        threading.Event().wait(0.05)
        slow.go_on.set()
        futures[0].result()
        fast.go_on.clear()
        hanging, waiting = pool.submit(ONE), pool.submit(ONE)
        np.testing.assert_array_equal(futures[0].result(), waiting.result())
        assert 2 == len(slow.calls)
        fast.go_on.set()
        hanging.result()

    def test_the_queue_time_is_logged(self, load: Any, pool_of: Any) -> None:
        """What an input waited stands in the worker's latency log."""
        session = load()
        blocker = threading.Event()
        entered = threading.Event()

        class Gate(SimulatedDyingDelegate):
            def run_queued(self, value: Any, since_ns: int) -> Any:
                entered.set()
                blocker.wait()
                return self._session.run_queued(value, since_ns)

        pool = pool_of(Gate(session))
        futures = [pool.submit(ONE), pool.submit(ONE)]
        entered.wait()
        threading.Event().wait(0.02)
        blocker.set()
        for future in futures:
            future.result()
        assert [True, True] == [record.queue_ns > 20_000_000 for record in session.latency.records()]

    @pytest.mark.parametrize("way", ["run", "submit", "map"])
    def test_eight_threads(self, load: Any, pool_of: Any, way: str) -> None:
        """Each gets its own results, bit for bit."""
        values = inputs(200)
        single = load()
        expected = [single.run(value) for value in values]
        pool = pool_of(load(), load())
        wrong: list[int] = []
        start = threading.Barrier(8)

        def work() -> None:
            start.wait()
            if way == "map":
                actual = list(pool.map(values))
            elif way == "submit":
                actual = [pool.submit(value).result() for value in values]
            else:
                actual = [pool.run(value) for value in values]
            wrong.append(sum(not np.array_equal(*pair) for pair in zip(expected, actual, strict=True)))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [0] * 8 == wrong
        until(lambda: pool.stats().running == 0)
        assert 1600 == pool.stats().done


def test_interpreters_let_other_threads_run(load: Any) -> None:
    """What pools of threads stand on: an interpreter gives up Python's lock while it computes."""
    engine = load(models.conv_float(size=200))._engine
    engine.set_input(0, np.zeros((1, 200, 200, 3), np.float32))
    steps, stop, before = 0, False, sys.getswitchinterval()

    def step() -> None:
        nonlocal steps
        while not stop:
            steps += 1
            time.sleep(0)

    thread = threading.Thread(target=step)
    sys.setswitchinterval(1000)  # nobody takes the lock from a thread that does not give it up
    try:
        thread.start()
        seen = steps
        for _ in range(100):
            engine.invoke()
        during = steps - seen
    finally:
        stop = True
        sys.setswitchinterval(before)
        thread.join()
    assert during > 0


class TestErrors:
    """What the input is to blame for, and what a worker."""

    def test_a_bad_input_is_the_callers(self, load: Any, pool_of: Any) -> None:
        """It is not tried again, and no worker is taken out for it."""
        pool = pool_of(load(), load())
        bad = np.ones((1, 7), np.float32)
        with pytest.raises(TensorError, match="has shape"):
            pool.run(bad)
        with pytest.raises(TensorError, match="has shape"):
            pool.submit(bad).result()
        with pytest.raises(TensorError, match="has shape"):
            list(pool.map([ONE, bad, ONE]))
        with pytest.raises(TensorError, match="has shape"):
            asyncio.run(pool.arun(bad))
        with pytest.raises(TensorError, match="both by position and by name"):
            pool.run(ONE, x=ONE)
        with pytest.raises(TensorError, match="missing input x"):
            pool.run()
        until(lambda: pool.stats().running == pool.stats().waiting == 0)
        stats = pool.stats()
        assert (0, ["free", "free"]) == (stats.retried, [worker.state for worker in stats.workers])
        assert add_up(stats)
        assert 5 == stats.failed

    @pytest.mark.parametrize("way", ["run", "submit"])
    def test_a_dead_worker_loses_nothing(self, broken: Any, pool_of: Any, way: str) -> None:
        """Its input goes to the other one; it is out of service and gets nothing more."""
        bad, good = broken(), broken()
        bad.dead = True
        pool = pool_of(bad, good)
        values = inputs(20)
        expected = [good.run(value) for value in values]
        good.calls.clear()
        actual = [pool.run(value) if way == "run" else pool.submit(value).result() for value in values]
        np.testing.assert_array_equal(np.array(expected), np.array(actual))
        until(lambda: pool.stats().running == 0)
        stats = pool.stats()
        assert (1, 20) == (len(bad.calls), len(good.calls))
        assert (20, 20, 1) == (stats.taken, stats.done, stats.retried)
        assert ["out", "free"] == [worker.state for worker in stats.workers]
        assert "the delegate died (simulated by a test)." == stats.workers[0].error

    def test_what_was_running_when_it_died(self, broken: Any, pool_of: Any) -> None:
        """An input in the middle of a run is not lost either, nor is what waits behind it."""
        bad, good = broken(), broken()
        bad.go_on.clear()
        good.go_on.clear()
        pool = pool_of(bad, good)
        values = inputs(10)
        futures = [pool.submit(value) for value in values]
        bad.entered.wait()
        good.entered.wait()
        bad.dead = True
        bad.go_on.set()
        good.go_on.set()
        results = [future.result() for future in futures]
        np.testing.assert_array_equal(np.array([good.run(value) for value in values]), np.array(results))

    def test_it_comes_back(self, broken: Any, pool_of: Any) -> None:
        """A probe that goes well brings it back into service."""
        bad, good = broken(), broken()
        pool = pool_of(bad, good, probe_interval_s=0.005)
        bad.dead = True
        pool.run(ONE)
        until(lambda: len(bad.calls) >= 3)
        assert "out" == pool.stats().workers[0].state
        bad.dead = False
        until(lambda: pool.stats().workers[0].state == "free")
        assert pool.stats().workers[0].error is None
        good.dead = True
        before = len(bad.calls)
        pool.run(ONE)
        assert len(bad.calls) > before

    def test_it_is_opened_anew(self, load: Any, pool_of: Any) -> None:
        """A worker that the pool can open is opened again for the probe, and the broken one is closed."""
        opened: list[SimulatedDyingDelegate] = []

        def make() -> SimulatedDyingDelegate:
            opened.append(SimulatedDyingDelegate(load()))
            return opened[-1]

        pool = pool_of(make, load(), probe_interval_s=0.005)
        opened[0].dead = True
        pool.run(ONE)
        until(lambda: pool.stats().workers[0].state == "free")
        assert [True, False] == [session.closed for session in opened]
        assert 1 == len(opened[1].calls)

    def test_backing_off(self, broken: Any, pool_of: Any) -> None:
        """Each failed probe doubles the time to the next."""
        bad, good = broken(), broken()
        pool = pool_of(bad, good, probe_interval_s=0.001)
        bad.dead = True
        pool.run(ONE)
        waits = []
        for count in range(2, 6):
            until(lambda count=count: pool.stats().workers[0].faults >= count)  # type: ignore[misc]  # bound at once
            waits.append(pool._hands[0].wait_ns)
        assert all(wait % 1_000_000 == 0 and (wait // 1_000_000).bit_count() == 1 for wait in waits)
        assert waits == sorted(waits)
        assert waits[-1] >= 16_000_000

    def test_nobody_is_left(self, broken: Any, pool_of: Any) -> None:
        """After one probe of each the inputs fail, and so do later ones, at once and with the reason."""
        workers = [broken(), broken()]
        for worker in workers:
            worker.dead = True
        pool = pool_of(*workers)
        words = r"no worker of the pool is in service.*worker 0: the delegate died.*worker 1: the delegate died"
        with pytest.raises(EngineError, match=words):
            pool.run(ONE)
        for way in (pool.run, lambda value: pool.submit(value).result()):
            with pytest.raises(EngineError, match=words):
                way(ONE)
        assert [2, 2] == [len(worker.calls) for worker in workers]
        stats = pool.stats()
        assert (3, 3) == (stats.taken, stats.failed)
        assert add_up(stats)

    def test_all_of_them_come_back(self, broken: Any, pool_of: Any) -> None:
        """A pool without workers in service starts again with the first probe that goes well."""
        worker = broken()
        pool = pool_of(worker, probe_interval_s=0.005)
        worker.dead = True
        with pytest.raises(EngineError, match="no worker of the pool is in service"):
            pool.run(ONE)
        worker.dead = False
        until(lambda: pool.stats().workers[0].state == "free")
        np.testing.assert_array_equal(worker.run(ONE), pool.run(ONE))

    @pytest.mark.parametrize("way", ["run", "submit"])
    def test_an_input_that_kills_every_worker(self, load: Any, pool_of: Any, way: str) -> None:
        """It is given up after its retries with the worker's error; the workers come back for the others."""
        poison = 2 * ONE

        class Poisoned(SimulatedDyingDelegate):
            def run_queued(self, value: Any, since_ns: int) -> Any:
                if value is poison:
                    raise EngineError("killed by its input (simulated by a test).")
                return super().run_queued(value, since_ns)

        pool = pool_of(*(Poisoned(load()) for _ in range(3)), retries=1, probe_interval_s=0.005)
        expected = pool.run(ONE)
        with pytest.raises(EngineError, match="killed by its input"):
            pool.run(poison) if way == "run" else pool.submit(poison).result()
        assert 1 == pool.stats().retried
        until(lambda: all(worker.state == "free" for worker in pool.stats().workers))
        np.testing.assert_array_equal(expected, pool.run(ONE))

    @pytest.mark.parametrize("seed", range(5))
    def test_workers_that_die_and_come_back_at_random(self, broken: Any, pool_of: Any, seed: int) -> None:
        """No input is lost, none is run twice with two results, and the counts add up all the while."""
        dice = random.Random(seed)
        workers = [broken() for _ in range(3)]
        pool = pool_of(*workers, retries=50, probe_interval_s=0.001, max_queue=10)
        values = inputs(300)
        expected = [workers[0].run(value) for value in values]
        stop = threading.Event()
        wrong: list[PoolStats] = []

        def disturb() -> None:
            while not stop.wait(0.001):
                one = dice.choice(workers[1:])  # the first is always there
                one.dead = not one.dead
                stats = pool.stats()
                if not add_up(stats):
                    wrong.append(stats)

        thread = threading.Thread(target=disturb)
        thread.start()
        actual = [*pool.map(values[:150]), *(pool.run(value) for value in values[150:])]
        stop.set()
        thread.join()
        np.testing.assert_array_equal(np.array(expected), np.array(actual))
        until(lambda: pool.stats().running == 0)
        assert [] == wrong
        assert (300, 300) == (pool.stats().taken, pool.stats().done)

    @pytest.mark.parametrize("way", ["run", "submit"])
    @pytest.mark.parametrize("size", [8, 7], ids=["good", "bad"])
    def test_an_input_is_not_kept(self, load: Any, pool_of: Any, way: str, size: int) -> None:
        """Neither the pool nor an error keeps what is done, even before Python looks for circles."""
        pool = pool_of(load(), load())
        pool.run(ONE)  # which is kept, for probes
        gc.disable()
        try:
            value = np.ones((1, size), np.float32)
            gone = weakref.ref(value)
            if way == "submit":
                pool.submit(value).exception()
            else:
                with contextlib.suppress(TensorError):
                    pool.run(value)
            del value
            until(lambda: gone() is None)
        finally:
            gc.enable()

    def test_what_a_pool_cannot_be_made_of(self, load: Any) -> None:
        """Each refusal says what was expected; sessions that the caller opened stay open."""
        session = load()
        for workers, words in (
            ([], "a pool without workers"),
            ([session, 3], "worker 1 is a int: a session, or a function that opens one, was expected"),
            ([session, session], "worker 1 is a session that is in the pool already"),
            ([session, load(models.dense_float())], "all workers of a pool must run the same model"),
        ):
            with pytest.raises(OptionError, match=words):
                Pool(workers)
        for options, words in (
            ({"max_queue": 0}, "a queue of 0: at least 1"),
            ({"retries": -1}, "-1 retries: 0 or more"),
            ({"probe_interval_s": 0}, "a probe interval of 0 s"),
            ({"probe_interval_s": 61}, "a probe interval of 61 s"),
        ):
            with pytest.raises(OptionError, match=words):
                Pool([session], **options)
        session.run(ONE)
        with pytest.raises(DataError, match="a int was given to map"):
            Pool([session]).map(3)  # type: ignore[arg-type]  # which is the point


class TestTheEnd:
    """Closing, leaving, forking."""

    def test_closing_drains(self, broken: Any, pool_of: Any) -> None:
        """What waits is run, then the workers are closed, and nothing is taken any more."""
        worker = broken()
        worker.go_on.clear()
        pool = pool_of(worker)
        futures = [pool.submit(value) for value in inputs(5)]
        thread = threading.Thread(target=pool.close)
        thread.start()
        until(lambda: pool._balance._closing)
        with pytest.raises(EngineError, match="the pool is closed"):
            pool.submit(ONE)
        with pytest.raises(EngineError, match="the pool is closed"):
            pool.run(ONE)
        worker.go_on.set()
        thread.join()
        assert 5 == len([future.result() for future in futures])
        assert worker.closed
        assert add_up(pool.stats())
        assert pool.close()

    def test_closing_without_draining(self, broken: Any, pool_of: Any) -> None:
        """What runs is finished, what waits is called off: futures are cancelled, callers get the word."""
        worker = broken()
        worker.go_on.clear()
        pool = pool_of(worker)
        futures = [pool.submit(value) for value in inputs(4)]
        worker.entered.wait()
        said: list[str] = []

        def wait_for_a_turn() -> None:
            with pytest.raises(EngineError) as caught:
                pool.run(ONE)
            said.append(str(caught.value))

        waiting = threading.Thread(target=wait_for_a_turn)
        waiting.start()
        until(lambda: pool.stats().waiting == 4)
        closing = threading.Thread(target=pool.close, args=(False,))
        closing.start()
        waiting.join()
        assert ["the pool was closed before this input's turn came."] == said
        worker.go_on.set()
        closing.join()
        futures[0].result()
        for future in futures[1:]:
            with pytest.raises(CancelledError):
                future.result()
        stats = pool.stats()
        assert (5, 1, 4) == (stats.taken, stats.done, stats.cancelled)

    def test_closing_with_a_limit(self, broken: Any, pool_of: Any) -> None:
        """A run that does not end is left alone, and the caller is told so."""
        worker = broken()
        worker.go_on.clear()
        pool = pool_of(worker)
        running, waiting = pool.submit(ONE), pool.submit(ONE)
        worker.entered.wait()
        assert not pool.close(timeout_s=0.01)
        assert waiting.cancelled()
        assert not worker.closed
        worker.go_on.set()
        running.result()

    def test_closing_a_pool_whose_workers_are_all_dead(self, broken: Any, pool_of: Any) -> None:
        """It does not wait for workers that never come back."""
        worker = broken()
        worker.dead = True
        pool = pool_of(worker)
        future = pool.submit(ONE)
        assert pool.close()
        assert isinstance(future.exception(), EngineError)

    def test_leaving_a_block(self, load: Any) -> None:
        """A block that ends well drains; one that fails calls off what waits. Both close the workers."""
        with Pool([load()]) as pool:
            future = pool.submit(ONE)
        future.result()
        worker = SimulatedDyingDelegate(load())
        worker.go_on.clear()

        def fail() -> None:
            with Pool([worker]) as pool:
                futures.extend(pool.submit(value) for value in inputs(3))
                worker.entered.wait()
                threading.Timer(0.01, worker.go_on.set).start()
                raise KeyError("the block failed")

        futures: list[Future[Any]] = []
        with pytest.raises(KeyError):
            fail()
        assert [False, True, True] == [future.cancelled() for future in futures]
        assert worker.closed

    def test_cancelling_a_future(self, broken: Any, pool_of: Any) -> None:
        """An input that waits can be called off, one that runs cannot; so can a coroutine."""
        worker = broken()
        worker.go_on.clear()
        pool = pool_of(worker)
        futures = [pool.submit(value) for value in inputs(2)]
        worker.entered.wait()
        assert [False, True] == [future.cancel() for future in futures]

        async def impatient() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.arun(ONE), 0.01)

        asyncio.run(impatient())
        worker.go_on.set()
        futures[0].result()
        until(lambda: pool.stats().waiting == pool.stats().running == 0)
        assert (1, 2) == (pool.stats().done, pool.stats().cancelled)

    def test_a_callback_may_submit_but_not_wait(self, load: Any, pool_of: Any) -> None:
        """Waiting in a worker's thread for that worker is refused, not a deadlock."""
        pool = pool_of(load(), max_queue=1)
        said: list[Any] = []
        more: list[Future[Any]] = []
        done = threading.Event()

        def callback(future: Future[Any]) -> None:
            for what in (pool.run, lambda value: pool.close()):
                try:
                    what(ONE)
                except EngineError as error:
                    said.append(str(error).split(":")[0])
            more.extend(pool.submit(value) for value in inputs(5))
            done.set()

        pool.submit(ONE).add_done_callback(callback)
        done.wait()
        assert ["a callback of this pool called run()", "a callback of this pool called close()"] == said
        assert 5 == len([future.result() for future in more])

    def test_a_pool_that_nobody_holds(self, load: Any) -> None:
        """It finishes what it has, ends its threads and closes its workers."""
        worker = SimulatedDyingDelegate(load())
        worker.go_on.clear()
        pool = Pool([worker])
        futures = [pool.submit(value) for value in inputs(3)]
        gone = weakref.ref(pool)
        thread = pool._hands[0].thread
        assert thread is not None
        del pool
        gc.collect()
        worker.go_on.set()
        assert 3 == len([future.result() for future in futures])
        thread.join()
        assert worker.closed
        assert gone() is None

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
    def test_after_a_fork(self, load: Any, pool_of: Any) -> None:
        """The child is told to make its own; the parent's pool goes on."""
        pool = pool_of(load())
        expected = pool.run(ONE)
        pool.submit(ONE).result()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            words = []
            for way in (pool.run, pool.submit):
                try:
                    way(ONE)
                except BaseException as error:
                    words.append(f"{type(error).__name__} {error}"[:41])
            pool.close()
            os.write(writer, "|".join(words).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert "EngineError this pool was made in another|" * 2 == os.read(reader, 1000).decode() + "|"
        os.close(reader)
        os.close(writer)
        np.testing.assert_array_equal(expected, pool.run(ONE))


class TestMakingOne:
    """``Pool.of``."""

    @pytest.mark.parametrize("count", [1, 3])
    def test_equal_workers(self, engine: str | None, dense_int8_file: Any, load: Any, count: int) -> None:
        """From a path, so many sessions with the options of ``load``."""
        with Pool.of(dense_int8_file, count, delegate="none", engine=engine) as pool:
            assert count == len(pool)
            assert ("x", "logits") == (pool.inputs[0].name, pool.outputs[0].name)
            np.testing.assert_array_equal(load(delegate="none").run(ONE), pool.run(ONE))

    def test_one_for_each_processor(self, engine: str | None, dense_int8_file: Any) -> None:
        """Unless told otherwise."""
        with Pool.of(dense_int8_file, delegate="xnnpack", engine=engine) as pool:
            assert len(os.sched_getaffinity(0)) == len(pool)

    def test_impossible_ones(self, dense_int8_file: Any) -> None:
        """The message says what there is."""
        with pytest.raises(OptionError, match="unknown kind of worker 'gpu': expected one of thread, process"):
            Pool.of(dense_int8_file, 1, kind="gpu")
        with pytest.raises(OptionError, match="0 workers: from 1 to 1024 were expected"):
            Pool.of(dense_int8_file, 0)

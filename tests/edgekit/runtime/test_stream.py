"""``edgekit.runtime.stream``: a model on what a camera or sensor gives.

Sources here are paced by events, not by time. These tests run under each interpreter (``--engine``).
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from dying_delegates import SimulatedDyingDelegate

import edgekit
from edgekit import DataError, OptionError, Session, TensorError
from edgekit.runtime.feed import StreamCounts
from edgekit.runtime.pool import Pool
from edgekit.runtime.stream import Result, Stream, stream
from edgekit.tensors import Array

OPEN = models.dense_float(open_batch=True)
HOUR_MS = 3_600_000.0


@pytest.fixture
def load(engine: str | None, request: pytest.FixtureRequest) -> Callable[..., Session]:
    """``edgekit.load`` with the interpreter under test, closed when the test ends."""

    def loaded(source: Any = None, **options: Any) -> Session:
        session = edgekit.load(source or models.dense_int8(), **{"delegate": "xnnpack", "engine": engine, **options})
        request.addfinalizer(session.close)
        return session

    return loaded


@pytest.fixture
def pool_of(request: pytest.FixtureRequest) -> Callable[..., Pool]:
    """Makes pools that are closed when the test ends, before their workers."""

    def made(*workers: Any) -> Pool:
        pool = Pool(workers)
        request.addfinalizer(lambda: pool.close(drain=False))
        return pool

    return made


def inputs(count: int, *shape: int) -> list[Array]:
    """Real numbers between -1 and 1."""
    return [*np.random.default_rng(count).uniform(-1, 1, (count, *(shape or (1, 8)))).astype(np.float32)]


def add_up(counts: StreamCounts) -> bool:
    """Whether what was taken is what became of it."""
    sums = (counts.run, counts.dropped, counts.late, counts.failed, counts.waiting, counts.running, counts.closed)
    return counts.taken == sum(sums)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads do."""
    tick = threading.Event()
    while not condition():
        tick.wait(0.001)


class Camera:
    """A source that gives an item whenever the test says so, and is blocked otherwise."""

    def __init__(self, items: list[Any]) -> None:
        self._items = iter(items)
        self._steps = threading.Semaphore(0)
        self.ended = False

    def step(self, count: int = 1) -> None:
        """Let it give so many more items."""
        self._steps.release(count)

    def __iter__(self) -> Iterator[Any]:
        try:
            while True:
                self._steps.acquire()
                item = next(self._items, None)
                if item is None:
                    return
                yield item
        finally:
            self.ended = True


def test_everything_in_order(load: Any) -> None:
    """With policy ``all`` each item gets the result of a single run."""
    session = load()
    values = inputs(50)
    expected = [session.run(value) for value in values]
    with stream(values, session, policy="all", max_queue=3) as results:
        got = list(results)
    assert [*range(50)] == [result.sequence for result in got]
    assert all(result.value is value for result, value in zip(got, values, strict=True))
    np.testing.assert_array_equal(np.array(expected), np.array([result.output for result in got]))
    assert (50, 50) == (results.counts.taken, results.counts.run)
    assert add_up(results.counts)


def test_times(load: Any) -> None:
    """Captured, queued and finished, in that order; the log has the queue's time, without the preprocessing."""
    session = load()
    rest = threading.Event()

    def slowly(value: Array) -> Array:
        until(lambda: results.counts.taken == 2)
        rest.wait(0.2)
        return value

    with stream(inputs(2), session, policy="all", preprocess=slowly) as results:
        first, second = results
    assert first.captured_ns <= first.queued_ns < first.finished_ns <= second.finished_ns
    assert first.finished_ns - first.captured_ns == first.age_ns
    assert not first.late
    assert session.latency.records()[0].queue_ns < 200_000_000 <= session.latency.records()[1].queue_ns


class TestPolicies:
    """What happens while the model is busy."""

    def test_latest(self, load: Any) -> None:
        """Only the newest of what came meanwhile is run."""
        camera = Camera(inputs(10))
        with stream(camera, load()) as results:
            camera.step()
            assert 0 == next(results).sequence
            camera.step(4)
            until(lambda: results.counts.taken == 5)
            assert 4 == next(results).sequence
            camera.step()
            assert 5 == next(results).sequence
            assert (6, 3, 3) == (results.counts.taken, results.counts.run, results.counts.dropped)
            camera.step(10)

    def test_drop_oldest(self, load: Any) -> None:
        """The newest ``max_queue`` of them are run."""
        camera = Camera(inputs(10))
        with stream(camera, load(), policy="drop_oldest", max_queue=3) as results:
            camera.step()
            next(results)
            camera.step(9)
            until(lambda: results.counts.taken == 10)
            assert [7, 8, 9] == [next(results).sequence for _ in range(3)]
            assert 6 == results.counts.dropped
            camera.step()

    def test_all_holds_the_source_back(self, load: Any) -> None:
        """It is asked for nothing while the queue is full, and the time is counted."""
        taken: list[int] = []

        def source() -> Iterator[Array]:
            for number, value in enumerate(inputs(20)):
                taken.append(number)
                yield value

        with stream(source(), load(), policy="all", max_queue=2) as results:
            next(results)
            until(lambda: results.counts.waiting == 3)  # two in the queue, one in the source's hands
            threading.Event().wait(0.01)
            assert 4 == len(taken)
            assert [*range(1, 20)] == [result.sequence for result in results]
            assert results.counts.held_ns >= 10_000_000
            assert 0 == results.counts.dropped

    def test_late_items_are_not_run(self, load: Any) -> None:
        """What has waited longer than the deadline when its turn comes is dropped and counted as late."""
        camera = Camera(inputs(10))
        with stream(camera, load(), policy="all", deadline_ms=HOUR_MS) as results:
            camera.step()
            assert 0 == next(results).sequence
            camera.step(3)
            until(lambda: results.counts.taken == 4 and results.counts.waiting == 3)
            results._feed.deadline_ns = 1  # as if an hour had passed

            def go_on() -> None:
                until(lambda: results.counts.late == 3)
                results._feed.deadline_ns = 10**15
                camera.step()

            thread = threading.Thread(target=go_on)
            thread.start()
            assert 4 == next(results).sequence
            thread.join()
            assert add_up(results.counts)
            camera.step(10)

    def test_a_late_result_says_so(self) -> None:
        """An item that was begun in time and finished after its deadline is marked."""
        rest = threading.Event()
        with stream([0, 0.6], lambda seconds: rest.wait(seconds), policy="all", deadline_ms=500) as results:
            assert [False, True] == [result.late for result in results]
        assert (2, 0) == (results.counts.run, results.counts.late)


class TestHybrid:
    """Micro-batches."""

    def test_full_batches(self, load: Any) -> None:
        """As many as the batch axis takes; each item gets its own result."""
        session = load(OPEN)
        values = inputs(20)
        expected = [session.run(value) for value in values]
        before = session.latency.count
        with stream(values, session, policy="all", max_wait_ms=HOUR_MS, batch=4) as results:
            got = list(results)
        np.testing.assert_allclose(np.array(expected), np.array([result.output for result in got]), atol=1e-6)
        assert [*range(20)] == [result.sequence for result in got]
        assert 5 == session.latency.count - before

    def test_it_waits_at_most_so_long(self, load: Any) -> None:
        """What has come by then is run."""
        session = load(OPEN)
        camera = Camera(inputs(10))
        with stream(camera, session, policy="all", max_wait_ms=5) as results:
            camera.step(2)
            assert 0 == next(results).sequence
            assert 1 == next(results).sequence
            camera.step(20)

    def test_latest_keeps_a_batch(self, load: Any) -> None:
        """The newest items that fill one batch wait."""
        session = load(OPEN)
        camera = Camera(inputs(20))
        with stream(camera, session, max_wait_ms=HOUR_MS, batch=3) as results:
            camera.step(3)
            assert [0, 1, 2] == [next(results).sequence for _ in range(3)]
            camera.step(9)
            until(lambda: results.counts.taken == 12)
            assert [9, 10, 11] == [next(results).sequence for _ in range(3)]
            assert 6 == results.counts.dropped
            camera.step(20)

    def test_one_bad_item_in_a_batch(self, load: Any) -> None:
        """It fails alone, in its place; the others of its batch have their results."""
        session = load(OPEN)
        values = inputs(8)
        expected = [session.run(value) for value in values]
        values[2] = np.full((1, 8), np.nan, np.float32)
        with stream(values, session, policy="all", max_wait_ms=HOUR_MS, batch=4) as results:
            assert [0, 1] == [next(results).sequence for _ in range(2)]
            with pytest.raises(TensorError, match="NaN or infinite"):
                next(results)
            rest = list(results)
        assert [3, 4, 5, 6, 7] == [result.sequence for result in rest]
        np.testing.assert_allclose(np.array(expected[3:]), np.array([result.output for result in rest]), atol=1e-6)
        assert (7, 1) == (results.counts.run, results.counts.failed)

    def test_a_model_without_a_batch_axis(self, load: Any) -> None:
        """Its items run one by one, without waiting."""
        with stream(inputs(5), load(), policy="all", max_wait_ms=HOUR_MS) as results:
            assert 5 == len(list(results))


def a_generator() -> Iterator[Array]:
    """A generator function."""
    yield from inputs(5)


async def an_async_generator() -> AsyncIterator[Array]:
    """An async generator function."""
    for value in inputs(5):
        await asyncio.sleep(0)
        yield value


def a_reader() -> Any:
    """A function that returns the next item, and ``None`` at the end."""
    items = iter(inputs(5))
    return lambda: next(items, None)


def an_async_reader() -> Any:
    """A coroutine function that does."""
    items = iter(inputs(5))

    async def read() -> Array | None:
        await asyncio.sleep(0)
        return next(items, None)

    return read


class Indexed:
    """A sequence in the oldest sense."""

    def __getitem__(self, index: int) -> Array:
        return inputs(5)[index]


SOURCES: dict[str, Callable[[], Any]] = {
    "list": lambda: inputs(5),
    "array": lambda: np.array(inputs(5)),
    "iterator": lambda: iter(inputs(5)),
    "generator": a_generator,
    "generator function": lambda: a_generator,
    "indexed": Indexed,
    "function": a_reader,
    "async generator": an_async_generator,
    "async generator function": lambda: an_async_generator,
    "coroutine function": an_async_reader,
}


class TestSources:
    """Whatever gives items."""

    @pytest.mark.parametrize("kind", SOURCES)
    @pytest.mark.parametrize("mode", ["for", "async for"])
    def test_every_kind(self, load: Any, kind: str, mode: str) -> None:
        """Under ``for`` and under ``async for``."""
        session = load()
        expected = [session.run(value) for value in inputs(5)]
        results = stream(SOURCES[kind](), session, policy="all", max_queue=2)

        async def collect() -> list[Result]:
            async with results:
                return [result async for result in results]

        got = list(results) if mode == "for" else asyncio.run(collect())
        np.testing.assert_array_equal(np.array(expected), np.array([result.output for result in got]))
        assert (5, 5, 0) == (results.counts.taken, results.counts.run, results.counts.waiting)

    @pytest.mark.parametrize("source", ["video.mp4", b"bytes", {"x": [1.0]}, 7, None])
    def test_no_source(self, load: Any, source: Any) -> None:
        """A path is not a source, nor is one item."""
        with pytest.raises(DataError, match="was given as the source of a stream: an iterable"):
            stream(source, load())

    @pytest.mark.parametrize("mode", ["for", "async for"])
    @pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
    def test_a_source_that_fails(self, load: Any, mode: str, asynchronous: bool) -> None:
        """Its error reaches the consumer, after the results of what came before it, whatever ``on_error`` says."""

        def plain() -> Iterator[Array]:
            yield from inputs(3)
            raise OSError("the camera was unplugged")

        async def awaiting() -> AsyncIterator[Array]:
            for value in inputs(3):
                yield value
            raise OSError("the camera was unplugged")

        results = stream(awaiting() if asynchronous else plain(), load(), policy="all", on_error="skip")
        got: list[int] = []

        async def collect() -> None:
            keep = got.append  # one by one: what came before the error counts
            async for result in results:
                keep(result.sequence)

        def consume() -> None:
            if mode == "async for":
                asyncio.run(collect())
            got.extend(result.sequence for result in results)

        with pytest.raises(OSError, match="the camera was unplugged"):
            consume()
        assert [0, 1, 2] == got
        assert [] == list(results)


class TestErrors:
    """Items that fail, and values that make no sense."""

    @pytest.mark.parametrize("where", ["preprocess", "model"])
    def test_raised(self, load: Any, where: str) -> None:
        """The consumer gets the error in the item's place, and may go on."""
        values = inputs(4)

        def check(value: Array) -> Array:
            if value is values[1] and where == "preprocess":
                raise ValueError("no picture")
            return value

        if where == "model":
            values[1] = np.ones((1, 7), np.float32)
        with stream(values, load(), policy="all", preprocess=check) as results:
            next(results)
            with pytest.raises((ValueError, TensorError), match=r"no picture|has shape \[1, 7\]"):
                next(results)
            assert [2, 3] == [result.sequence for result in results]
        assert (4, 3, 1) == (results.counts.taken, results.counts.run, results.counts.failed)
        assert results.last_error is not None

    def test_skipped(self, load: Any) -> None:
        """It is counted and remembered, and the stream goes on by itself."""
        values = [*inputs(2), np.ones((1, 7), np.float32), *inputs(2)]
        with stream(values, load(), policy="all", on_error="skip") as results:
            assert [0, 1, 3, 4] == [result.sequence for result in results]
        assert 1 == results.counts.failed
        assert "has shape [1, 7]" in str(results.last_error)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"policy": "newest"}, "unknown policy 'newest': expected one of latest, all, drop_oldest"),
            ({"on_error": "ignore"}, "unknown on_error 'ignore': expected one of raise, skip"),
            ({"max_queue": 0}, "a queue of 0: at least 1"),
            ({"deadline_ms": 0}, "a deadline of 0 ms: more than 0"),
            ({"max_wait_ms": -1}, "micro-batches that wait -1 ms: 0 or more"),
            ({"batch": 4}, "batch is the size of micro-batches: give max_wait_ms as well"),
            ({"batch": 4, "max_wait_ms": 1}, "batches of 4 samples: this model takes 1 in a run"),
        ],
    )
    def test_impossible_options(self, load: Any, options: dict[str, Any], words: str) -> None:
        """The message says what was expected."""
        with pytest.raises(OptionError, match=words):
            stream([], load(), **options)

    def test_no_model(self) -> None:
        """Something that cannot be run is named."""
        with pytest.raises(OptionError, match="a str was given as the model of a stream"):
            stream([], "model.tflite")  # type: ignore[arg-type]  # which is the point
        with pytest.raises(OptionError, match="batch needs a model with a batch axis"):
            stream([], len, batch=2, max_wait_ms=1)


class TestTheEnd:
    """Closing, leaving, forgetting, forking."""

    def test_closing_while_the_source_waits_for_room(self, load: Any) -> None:
        """The thread ends at once, and what waited is counted."""
        with stream(inputs(100), load(), policy="all", max_queue=2) as results:
            next(results)
            until(lambda: results.counts.waiting == 3)
            assert results.close()
        assert (1, 3, 0) == (results.counts.run, results.counts.closed, results.counts.waiting)
        assert [] == list(results)

    def test_closing_while_the_source_is_blocked(self, load: Any) -> None:
        """Nobody waits for a blocked source; its thread ends when it returns, and the generator is finished."""
        camera = Camera(inputs(3))
        results = stream(camera, load())
        camera.step()
        next(results)
        thread = results._thread
        assert thread is not None
        assert not results.close(wait_s=0.01)
        assert thread.daemon
        camera.step()
        thread.join()
        assert camera.ended
        assert results.close()
        assert (2, 1, 1) == (results.counts.taken, results.counts.run, results.counts.closed)

    def test_closing_while_the_consumer_waits(self, load: Any) -> None:
        """The consumer's loop ends."""
        camera = Camera(inputs(3))
        results = stream(camera, load())
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(list(results)))
        thread.start()
        until(lambda: results._thread is not None)
        results.close(wait_s=0)
        thread.join()
        assert [[]] == got
        camera.step()

    def test_a_stream_that_nobody_holds(self, load: Any) -> None:
        """It closes itself, its source and its thread."""
        camera = Camera(inputs(10))
        results = stream(camera, load(), policy="all")
        camera.step()
        next(results)
        thread, gone = results._thread, weakref.ref(results)
        assert thread is not None
        del results
        gc.collect()
        assert gone() is None
        camera.step()
        thread.join()
        assert camera.ended

    @pytest.mark.parametrize("on_pool", [False, True], ids=["session", "pool"])
    @pytest.mark.parametrize("size", [8, 7], ids=["good", "bad"])
    def test_items_are_not_kept(self, load: Any, pool_of: Any, on_pool: bool, size: int) -> None:
        """An item is gone when its result is, or its failure was skipped, even before Python looks for circles."""
        gone: list[weakref.ref[Array]] = []

        def source() -> Iterator[Array]:
            for _ in range(5):
                value = np.ones((1, size), np.float32)
                gone.append(weakref.ref(value))
                yield value

        gc.disable()
        try:
            model = pool_of(load(), load()) if on_pool else load()
            model.run(inputs(1)[0])  # which a pool keeps, for probes
            with stream(source(), model, policy="all", on_error="skip") as results:
                for result in results:
                    del result
                until(lambda: all(item() is None for item in gone))
                assert 5 == len(gone)
        finally:
            gc.enable()

    def test_the_model_stays_open(self, load: Any) -> None:
        """It is the caller's."""
        session = load()
        with stream(inputs(3), session, policy="all") as results:
            next(results)
        session.run(inputs(1)[0])

    def test_nothing_is_read_before_it_is_asked_for(self, load: Any) -> None:
        """Making a stream starts nothing."""
        with stream(inputs(3), load(), policy="all") as results:
            assert results._thread is None
        assert 0 == results.counts.taken

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
    def test_after_a_fork(self, load: Any) -> None:
        """The child is told, instead of waiting for a thread that it does not have."""
        with stream(inputs(3), load(), policy="all") as results:
            next(results)
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    next(results)
                except BaseException as error:
                    os.write(writer, f"{type(error).__name__} {error}".encode())
                os._exit(0)
            os.waitpid(child, 0)
            assert os.read(reader, 1000).startswith(b"EngineError this stream was made in another process")
            os.close(reader)
            os.close(writer)
            assert [1, 2] == [result.sequence for result in results]


class TestAsync:
    """``async for``."""

    def test_the_loop_goes_on(self, load: Any) -> None:
        """While the source is blocked and while the model runs, other coroutines run."""
        camera = Camera(inputs(2))
        ticks: list[int] = []

        async def tick(done: asyncio.Event) -> None:
            while not done.is_set():
                ticks.append(1)
                camera.step()
                await asyncio.sleep(0.001)

        async def main() -> int:
            done = asyncio.Event()
            ticking = asyncio.create_task(tick(done))
            async with stream(camera, load(), policy="all") as results:
                first = await anext(results)
            done.set()
            await ticking
            return first.sequence

        assert 0 == asyncio.run(main())
        assert [] != ticks

    def test_a_cancelled_call_loses_nothing(self, load: Any) -> None:
        """Its item's result is the next call's."""
        go_on = threading.Event()
        session = load()

        def slow(value: Array) -> Any:
            go_on.wait()
            return session.run(value)

        async def main() -> list[int]:
            async with stream(inputs(2), slow, policy="all") as results:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(anext(results), 0.01)
                go_on.set()
                return [result.sequence async for result in results]

        assert [0, 1] == asyncio.run(main())

    def test_closing_ends_an_async_source(self, load: Any) -> None:
        """Even one that awaits what never comes; its cleaning up is done."""
        cleaned: list[int] = []

        async def source() -> AsyncIterator[Array]:
            try:
                yield inputs(1)[0]
                await asyncio.Event().wait()
            finally:
                cleaned.append(1)

        async def main() -> bool:
            results = stream(source(), load())
            await anext(results)
            return await results.aclose()

        assert asyncio.run(main())
        assert [1] == cleaned
        results = stream(source(), load())
        next(results)
        assert results.close()
        assert [1, 1] == cleaned

    def test_back_pressure_on_an_async_source(self, load: Any) -> None:
        """It is not asked for more than fits."""
        taken: list[int] = []

        async def source() -> AsyncIterator[Array]:
            for number, value in enumerate(inputs(20)):
                taken.append(number)
                yield value

        async def main() -> list[int]:
            async with stream(source(), load(), policy="all", max_queue=2) as results:
                await anext(results)
                for _ in range(10):
                    await asyncio.sleep(0)
                assert len(taken) <= 4
                return [result.sequence async for result in results]

        assert [*range(1, 20)] == asyncio.run(main())


class TestPool:
    """A pool as the model."""

    @pytest.mark.parametrize("mode", ["for", "async for", "async for, preprocessed"])
    def test_all_workers_in_order(self, load: Any, pool_of: Any, mode: str) -> None:
        """As many items as there are workers run at a time, and the results keep the items' order."""
        values = inputs(200)
        single = load()
        expected = [single.run(value) for value in values]
        pool = pool_of(load(), load())
        options = {"preprocess": np.ascontiguousarray} if mode.endswith("preprocessed") else {}
        results = stream(values, pool, policy="all", **options)

        async def collect() -> list[Result]:
            async with results:
                return [result async for result in results]

        got = list(results) if mode == "for" else asyncio.run(collect())
        assert [*range(200)] == [result.sequence for result in got]
        np.testing.assert_array_equal(np.array(expected), np.array([result.output for result in got]))
        assert (200, 200) == (results.counts.taken, results.counts.run)

    def test_both_are_busy(self, load: Any, pool_of: Any) -> None:
        """The second item does not wait for the first."""
        workers = [SimulatedDyingDelegate(load()) for _ in range(2)]
        for worker in workers:
            worker.go_on.clear()
        with stream(inputs(2), pool_of(*workers), policy="all") as results:
            got: list[Result] = []
            thread = threading.Thread(target=lambda: got.extend(results))
            thread.start()
            for worker in workers:
                worker.entered.wait()
            assert 2 == results.counts.running
            for worker in reversed(workers):
                worker.go_on.set()
            thread.join()
        assert [0, 1] == [result.sequence for result in got]

    def test_several_threads_iterate(self, load: Any, pool_of: Any) -> None:
        """Every item is run once, and each result goes to one of them."""
        values = inputs(200)
        single = load()
        expected = [single.run(value) for value in values]
        got: list[Result] = []
        with stream(values, pool_of(load(), load()), policy="all") as results:
            threads = [threading.Thread(target=lambda: got.extend(results)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        got.sort(key=lambda result: result.sequence)
        assert [*range(200)] == [result.sequence for result in got]
        np.testing.assert_array_equal(np.array(expected), np.array([result.output for result in got]))

    @pytest.mark.parametrize("on_error", ["raise", "skip"])
    def test_bad_items(self, load: Any, pool_of: Any, on_error: str) -> None:
        """Each fails in its place, or is skipped; the last ones of a source as well."""
        values: list[Array] = inputs(10)
        for bad in (3, 8, 9):
            values[bad] = np.ones((1, 7), np.float32)
        got: list[Any] = []
        with stream(values, pool_of(load(), load()), policy="all", on_error=on_error) as results:
            while True:
                try:
                    got.append(next(results).sequence)
                except TensorError:
                    got.append("bad")
                except StopIteration:
                    break
        expected = {"raise": [0, 1, 2, "bad", 4, 5, 6, 7, "bad", "bad"], "skip": [0, 1, 2, 4, 5, 6, 7]}
        assert expected[on_error] == got
        assert (7, 3) == (results.counts.run, results.counts.failed)

    def test_closing_calls_off(self, load: Any, pool_of: Any) -> None:
        """What is with the pool when the stream is closed is counted as closed, once it is over."""
        worker = SimulatedDyingDelegate(load())
        other = SimulatedDyingDelegate(load())
        other.go_on.clear()
        pool = pool_of(worker, other)
        results = stream(inputs(10), pool, policy="all", max_queue=2)
        assert 0 == next(results).sequence
        other.entered.wait()
        results.close()
        other.go_on.set()
        until(lambda: results.counts.running == 0)
        assert add_up(results.counts)
        assert 0 == results.counts.waiting


@pytest.mark.parametrize("policy", ["latest", "drop_oldest", "all"])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["session", "pool"])
def test_counts_under_random_schedules(load: Any, pool_of: Any, kind: str, policy: str, seed: int) -> None:
    """Sources, consumers and closing at random moments: the counts add up at every look and at the end."""
    dice = random.Random(seed)
    values = inputs(150)
    values[dice.randrange(150)] = np.ones((1, 7), np.float32)
    pause = threading.Event()

    def source() -> Iterator[Array]:
        for value in values:
            if dice.random() < 0.2:
                pause.wait(dice.random() / 1000)
            yield value

    results: Stream = stream(
        source(), load(OPEN) if kind == "session" else pool_of(load(OPEN), load(OPEN)), policy=policy, max_queue=dice.randint(1, 5), on_error="skip",
        deadline_ms=dice.choice([None, 0.5]), max_wait_ms=dice.choice([None, 0.3]),
    )  # fmt: skip
    wrong: list[StreamCounts] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.0005):
            counts = results.counts
            if not add_up(counts):
                wrong.append(counts)

    watcher = threading.Thread(target=look)
    watcher.start()
    ends_early = dice.random() < 0.5
    seen: list[int] = []
    with results:
        for result in results:
            seen.append(result.sequence)
            if ends_early and len(seen) == 5:
                break
    until(lambda: results.counts.running == 0)  # what a pool still had when the loop ended early
    stop.set()
    watcher.join()
    counts = results.counts
    assert [] == wrong
    assert add_up(counts)
    assert 0 == counts.waiting == counts.running
    assert seen == sorted(set(seen))
    assert ends_early or (150, len(seen)) == (counts.taken, counts.run)

"""What a stream gives to its model: in the thread that asks, or, when the model is a pool, to as many workers as it has."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.records import Record
from edgekit.runtime.batch import BatchAxis, Runs, Sample, Together, same_form
from edgekit.runtime.feed import Feed, Waiting


class Failed(Record):
    """Stands in the row of results where an item failed."""

    error: BaseException


class Output(Record):
    """What the model returned for one item."""

    value: Any


class Flights:
    """Prepares items and runs them.

    Args:
        feed: where the items come from.
        model: a session or a pool, or ``None`` for a function.
        axis: the model's batch axis, or ``None`` for a function.
        call: runs one item, given the time when it was queued.
        preprocess: called with each item.
        pool: whether to keep all of the model's workers busy.
    """

    def __init__(
        self,
        feed: Feed,
        model: Runs | None,
        axis: BatchAxis | None,
        call: Callable[[Any, int], Any],
        preprocess: Callable[[Any], Any] | None,
        *,
        pool: bool,
    ) -> None:
        self._feed = feed
        self._axis = axis
        self._together = Together(model, axis) if model is not None and axis is not None else None
        self._call = call
        self._preprocess = preprocess
        self._pool: Any = model if pool else None
        self._aloft: deque[tuple[Waiting, Sample | None, Future[Any]]] = deque()
        self._turn = threading.Lock()

    # ---- in this thread ----

    def outcomes(self, items: Sequence[Waiting]) -> list[tuple[Waiting, Output | Failed]]:
        """Run items that were taken together.

        Returns:
            The output of each, or its error.
        """
        start = time.perf_counter_ns()
        values = [self._prepared(item) for item in items]
        prepared_ns = time.perf_counter_ns() - start  # which is not the queue's time
        samples = [self._sample(value) for value in values]
        good = [sample for sample in samples if sample is not None]
        together = self._together
        if together is not None and len(items) > 1 and len(good) == len(items) and _alike(good):
            try:
                outputs = together.run(good, items[0].queued_ns + prepared_ns)
                return [(item, Output(output)) for item, output in zip(items, outputs, strict=True)]
            except EdgekitError:
                pass  # one of them may be bad: each by itself, and the others come through
        return [
            (item, self._single(value, sample, item.queued_ns + prepared_ns))
            for item, value, sample in zip(items, values, samples, strict=True)
        ]

    def _single(self, value: Output | Failed, sample: Sample | None, since_ns: int) -> Output | Failed:
        if isinstance(value, Failed):
            return value
        try:
            if sample is not None and self._together is not None:
                return Output(self._together.run([sample], since_ns)[0])
            return Output(self._call(value.value, since_ns))
        except Exception as error:
            return Failed(error)

    def _prepared(self, item: Waiting) -> Output | Failed:
        if self._preprocess is None:
            return Output(item.value)
        try:
            return Output(self._preprocess(item.value))
        except Exception as error:
            return Failed(error)

    def _sample(self, value: Output | Failed) -> Sample | None:
        return self._axis.sample(value.value) if self._axis is not None and isinstance(value, Output) else None

    # ---- on a pool ----

    def advance(self, land: Callable[[list[tuple[Waiting, Output | Failed]]], bool]) -> int | None:
        """Hand over, in order, what is done, and give the pool's workers what they can take; without waiting for anything.

        Args:
            land: called with the items that are done; returns whether the consumer has something now.

        Returns:
            When to ask again: nanoseconds of the clock, ``None`` for when the feed changes, 0 for never: all is done.
        """
        with self._turn:
            while True:
                landed = []
                while self._aloft and self._aloft[0][2].done():
                    item, sample, future = self._aloft.popleft()
                    landed.append((item, self._landed(sample, future)))
                enough = land(landed)
                again_ns = self._fill()
                if enough or not landed:  # items that failed and are skipped leave room for others
                    return None if self._aloft and again_ns == 0 else again_ns

    def _fill(self) -> int | None:
        while len(self._aloft) < len(self._pool):
            items, again_ns = self._feed.try_take()
            if not items:
                return again_ns
            self._aloft.extend(self._submitted(item) for item in items)
        return None

    def _submitted(self, item: Waiting) -> tuple[Waiting, Sample | None, Future[Any]]:
        start = time.perf_counter_ns()
        value = self._prepared(item)
        sample = self._sample(value)
        try:
            if isinstance(value, Failed):
                raise value.error
            whole = value.value if sample is None or self._axis is None else self._axis.join([sample])
            future = self._pool.submit_queued(whole, item.queued_ns + time.perf_counter_ns() - start)
        except Exception as error:
            future = Future()
            future.set_exception(error)
        future.add_done_callback(self._changed)
        return item, sample, future

    def _changed(self, future: Future[Any]) -> None:
        self._feed.touch()

    def _landed(self, sample: Sample | None, future: Future[Any]) -> Output | Failed:
        if future.cancelled():
            return Failed(CancelledError("the pool was closed before this item's turn came."))
        error = future.exception()  # raising it here would make a circle of error, frame and future
        if error is not None:
            return Failed(error)
        try:
            output = future.result()
            return Output(output if sample is None or self._axis is None else self._axis.split(output, 1)[0])
        except EdgekitError as strange:
            return Failed(strange)

    def abandon(self) -> None:
        """Nobody wants what is still with the pool: what waits there is called off, all of it is counted as closed."""
        if not self._aloft:
            return
        with self._turn:
            aloft = [*self._aloft]
            self._aloft.clear()
        for _, _, future in aloft:
            future.cancel()
            future.add_done_callback(self._called_off)

    def _called_off(self, future: Future[Any]) -> None:
        self._feed.called_off()


def _alike(samples: Sequence[Sample]) -> bool:
    return all(same_form(samples[0], sample) for sample in samples)

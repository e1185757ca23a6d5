"""``stream``: run a model on what a camera or sensor gives, with a rule for what happens when it gives too much."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgekit.errors import EngineError, OptionError, one_of
from edgekit.records import Record
from edgekit.runtime.batch import BatchAxis, Runs
from edgekit.runtime.feed import POLICIES, Feed, StreamCounts, Waiting
from edgekit.runtime.flights import Failed, Flights, Output
from edgekit.runtime.sources import pump, pump_async, pump_loop, values_of

if TYPE_CHECKING:
    import asyncio

ON_ERROR: tuple[str, ...] = ("raise", "skip")
#: How long closing waits for the source's thread.
_CLOSE_S = 1.0


class Result(Record):
    """What a stream gives for one item. Times are of ``time.perf_counter_ns()``.

    Attributes:
        sequence: the item's number among those that the source gave, from 0; gaps are items that were not run.
        value: the item as the source gave it.
        output: what the model returned for it.
        captured_ns: when the source gave it.
        queued_ns: when it went into the queue; later than that when the source was held back.
        finished_ns: when its result was there.
        late: whether that was after the deadline.
    """

    sequence: int
    value: Any
    output: Any
    captured_ns: int
    queued_ns: int
    finished_ns: int
    late: bool

    @property
    def age_ns(self) -> int:
        """From the moment when the source gave the item to its result, in nanoseconds."""
        return self.finished_ns - self.captured_ns


def stream(
    source: Any,
    model: Runs | Callable[[Any], Any],
    *,
    policy: str = "latest",
    max_queue: int = 8,
    deadline_ms: float | None = None,
    max_wait_ms: float | None = None,
    batch: int | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    on_error: str = "raise",
) -> Stream:
    """Run a model on what a source gives, as it comes.

    The source is read in a thread of its own, an async one in the event loop that iterates the stream. The model runs in the
    thread that asks for the next result (in one of the event loop's threads under ``async for``), so that what is run is chosen at the
    moment when somebody wants it.

    Args:
        source: an iterable, an async iterable, or a function that returns the next item, and ``None`` at the end.
        model: a session, a pool, or any function of one item.
        policy: what happens while the model is busy. ``"latest"``: the newest item waits, older ones are dropped. ``"drop_oldest"``:
            the newest ``max_queue`` items wait. ``"all"``: nothing is dropped, the source is held back when ``max_queue`` items wait.
        max_queue: how many items wait at most.
        deadline_ms: items older than this when their turn comes are not run and count as late; ``None`` for no limit.
        max_wait_ms: run micro-batches: as many items as the model's batch axis takes, waiting at most this long after
            the first one; ``None`` to run items one by one.
        batch: the size of a micro-batch where the model leaves it open.
        preprocess: called with each item that is going to be run; its result goes to the model.
        on_error: what to do with an item whose preprocessing or run fails: ``"raise"`` the error to the consumer, who may go on
            with the next item, or ``"skip"`` it. Both count it as failed. An error of the source itself ends the stream and is always
            raised, after the results of what came before it.

    Returns:
        The ``Stream``: iterate it with ``for`` or ``async for``, best inside ``with`` or ``async with``.

    Raises:
        OptionError: a value that makes no sense.
        DataError: the source is nothing that can be read.
    """
    return Stream(
        source, model, policy=policy, max_queue=max_queue, deadline_ms=deadline_ms, max_wait_ms=max_wait_ms, batch=batch,
        preprocess=preprocess, on_error=on_error,
    )  # fmt: skip


class Stream:
    """Results of a model on a source; made by ``stream``, whose arguments these are.

    It is an iterator, an async iterator and a context manager for both. Reading the source begins with the first result that is
    asked for. Several threads may iterate one stream; each result goes to one of them. A pool as the model gets as many items as
    it has workers, and results keep their order.

    Closing ends the source's thread as soon as the source returns: a call that is blocked inside the source cannot be interrupted from
    outside, its thread is left behind (it does not keep the program alive), and what it still gives is counted as closed. A stream
    that nobody holds any more closes itself. The model is the caller's and stays open.

    Attributes:
        last_error: the latest error of an item, or ``None``.

    Raises:
        OptionError: a value that makes no sense.
        DataError: the source is nothing that can be read.
    """

    def __init__(
        self,
        source: Any,
        model: Runs | Callable[[Any], Any],
        *,
        policy: str = "latest",
        max_queue: int = 8,
        deadline_ms: float | None = None,
        max_wait_ms: float | None = None,
        batch: int | None = None,
        preprocess: Callable[[Any], Any] | None = None,
        on_error: str = "raise",
    ) -> None:
        one_of(policy, POLICIES, "policy")
        one_of(on_error, ON_ERROR, "on_error")
        if max_queue < 1:
            raise OptionError(f"a queue of {max_queue}: at least 1 was expected.")
        if deadline_ms is not None and not deadline_ms > 0:
            raise OptionError(f"a deadline of {deadline_ms} ms: more than 0 was expected.")
        if max_wait_ms is not None and not max_wait_ms >= 0:
            raise OptionError(f"micro-batches that wait {max_wait_ms} ms: 0 or more was expected.")
        if batch is not None and max_wait_ms is None:
            raise OptionError("batch is the size of micro-batches: give max_wait_ms as well.")
        self._plain, self._awaiting = values_of(source)
        session, axis, call = _model_calls(model, batch)
        most = axis.size if axis is not None and max_wait_ms is not None else 1
        limit = most if policy == "latest" else max(max_queue, most)
        deadline_ns = None if deadline_ms is None else int(deadline_ms * 1e6)
        self._feed = Feed(policy, limit, most, deadline_ns, int((max_wait_ms or 0) * 1e6))
        self._deadline_ns = deadline_ns
        self._on_pool = most == 1 and hasattr(model, "submit_queued")
        self._flights = Flights(self._feed, session, axis, call, preprocess, pool=self._on_pool)
        self._heavy = preprocess is not None  # whether to spare the event loop what happens before a run
        self._skip = on_error == "skip"
        self._ready: deque[Result | Failed] = deque()
        self._pid = os.getpid()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._flying: asyncio.Future[Any] | None = None
        self._woken: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self.last_error: BaseException | None = None

    @property
    def counts(self) -> StreamCounts:
        """What became of the source's items so far; the numbers always add up."""
        return self._feed.counts()

    # ---- running ----

    def _run(self, items: Sequence[Waiting]) -> None:
        """Run what was taken from the feed, and put the results into the row."""
        done = 0
        try:
            done = self._land(self._flights.outcomes(items))
        finally:
            if done < len(items):  # interrupted
                self._feed.finished(0, len(items) - done)

    def _land(self, outcomes: Sequence[tuple[Waiting, Output | Failed]]) -> int:
        """Put results into the row.

        Returns:
            How many items they are.
        """
        for item, outcome in outcomes:
            if isinstance(outcome, Failed):
                self.last_error = outcome.error
                self._feed.finished(0, 1)
                if self._skip:
                    outcome.error.__traceback__ = None  # it would keep the item
                else:
                    self._ready.append(outcome)
                continue
            now = time.perf_counter_ns()
            late = self._deadline_ns is not None and now - item.captured_ns > self._deadline_ns
            self._feed.finished(1, 0)
            self._ready.append(
                Result(item.sequence, item.value, outcome.value, item.captured_ns, item.queued_ns, now, late)
            )
        return len(outcomes)

    def _advance(self) -> int | None:
        return self._flights.advance(lambda outcomes: self._land(outcomes) > 0 and bool(self._ready))

    # ---- for ----

    def _start(self) -> None:
        """Begin to read the source in a thread."""
        if os.getpid() != self._pid:
            raise EngineError("this stream was made in another process: after a fork its source's thread is not here.")
        if self._thread is not None or self._task is not None or self._feed.closed:
            return
        with self._start_lock:
            if self._thread is None:
                target, opened = (pump, self._plain) if self._plain is not None else (pump_loop, self._awaiting)
                thread = threading.Thread(target=target, args=(self._feed, opened), name="edgekit-stream", daemon=True)
                thread.start()
                self._thread = thread

    def _next_ready(self) -> Result | None:
        try:
            found = self._ready.popleft()
        except IndexError:
            return None
        if isinstance(found, Failed):
            raise found.error
        return found

    def _raise_the_sources(self) -> None:
        """The source's error, once."""
        error, self._feed.error = self._feed.error, None
        if error is not None and not self._feed.closed:
            raise error

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Result:
        self._start()
        while True:
            found = self._next_ready()
            if found is not None:
                return found
            if self._on_pool:
                changes = self._feed.changes
                again_ns = self._advance()
                if again_ns != 0:
                    if not self._ready:
                        self._feed.wait(changes, again_ns)
                    continue
            elif items := self._feed.take():
                self._run(items)
                continue
            if not self._ready:  # another thread may have put something there
                self._raise_the_sources()
                raise StopIteration

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, wait_s: float = _CLOSE_S) -> bool:
        """End the stream. Harmless when called twice, and from any thread.

        Args:
            wait_s: how long to wait for the source's thread.

        Returns:
            Whether that thread has ended; ``False`` when it is still blocked inside the source.
        """
        self._feed.close()
        self._flights.abandon()
        self._ready.clear()
        self._plain = self._awaiting = None  # a generator that nobody else holds ends with its thread
        with self._start_lock:
            thread = self._thread
        if thread is None or thread is threading.current_thread() or os.getpid() != self._pid:
            return True
        thread.join(wait_s)
        return not thread.is_alive()

    def __del__(self) -> None:
        # Not when an argument was refused, nor in another process.
        if getattr(self, "_pid", None) == os.getpid():
            self._feed.close()
            self._flights.abandon()

    # ---- async for ----

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Result:
        import asyncio

        loop = asyncio.get_running_loop()
        if self._awaiting is not None and self._thread is None and self._task is None and not self._feed.closed:
            self._task = loop.create_task(pump_async(self._feed, self._awaiting))
        self._start()
        woken = self._listen(loop)
        while True:
            flying = self._flying
            if flying is not None:
                # Shielded: when this call is cancelled the run goes on, and the next call gets its results.
                await asyncio.shield(flying)
                if self._flying is flying:
                    self._flying = None
            found = self._next_ready()
            if found is not None:
                return found
            woken.clear()
            items: list[Waiting] = []
            if not self._on_pool:
                items, again_ns = self._feed.try_take()
            elif self._heavy:
                self._flying = loop.run_in_executor(None, self._advance)
                again_ns = await asyncio.shield(self._flying)
                self._flying = None
            else:
                again_ns = self._advance()
            if items:
                self._flying = loop.run_in_executor(None, self._run, items)
            elif self._ready:
                continue
            elif again_ns == 0:
                self._raise_the_sources()
                raise StopAsyncIteration
            else:
                wait_s = None if again_ns is None else max(again_ns - time.perf_counter_ns(), 0) / 1e9
                try:
                    await asyncio.wait_for(woken.wait(), wait_s)
                except asyncio.TimeoutError:
                    continue

    def _listen(self, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
        """An event of this loop that is set whenever the feed changes."""
        import asyncio

        if self._woken is None or self._woken[0] is not loop:
            woken = asyncio.Event()

            def changed() -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(woken.set)

            self._woken = loop, woken
            self._feed.listen(changed)
        return self._woken[1]

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self, wait_s: float = _CLOSE_S) -> bool:
        """``close`` for coroutines.

        Args:
            wait_s: see ``close``.

        Returns:
            See ``close``.
        """
        import asyncio

        self._feed.close()
        if self._flying is not None:
            await asyncio.wait({self._flying})  # the model is not left running
            self._flying = None
        self._flights.abandon()
        self._ready.clear()
        self._plain = self._awaiting = None
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=wait_s)
            return self._task.done()
        return await asyncio.get_running_loop().run_in_executor(None, self.close, wait_s)


def _model_calls(
    model: Runs | Callable[[Any], Any], batch: int | None
) -> tuple[Runs | None, BatchAxis | None, Callable[[Any, int], Any]]:
    """The model and its batch axis where it is one, and how it is called with an item and the time when that was queued."""
    if hasattr(model, "run_queued"):
        session: Any = model
        return session, BatchAxis.of(session, batch), session.run_queued
    if not callable(model):
        raise OptionError(
            f"a {type(model).__name__} was given as the model of a stream: a session, a pool or a function was expected."
        )
    if batch is not None:
        raise OptionError("batch needs a model with a batch axis: a function was given. Give it a session.")
    function: Callable[[Any], Any] = model
    return None, None, lambda value, since_ns: function(value)

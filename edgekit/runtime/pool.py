"""``Pool``: one model on several workers, each input to the worker that is expected to finish it first.

A worker is a session: on a thread, on a delegate, in a process of its own, on one of several accelerators. A caller of ``run``
runs the model in its own thread when a worker is free, so that nothing is handed over. What has to wait, and what was submitted,
runs in the workers' own threads, which go on from one input to the next.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgekit.errors import DataError, EngineError, OptionError, TensorError, one_of
from edgekit.runtime.balance import Balance, close_quietly
from edgekit.runtime.batch import Runs
from edgekit.runtime.workers import FAULTS, MAX_PROBE_NS, Item, PoolStats, clock, closed_gate, open_hands

if TYPE_CHECKING:
    from edgekit.modelfile import ModelFile
    from edgekit.tensors import TensorSpec

KINDS: tuple[str, ...] = ("thread", "process")
#: How long the end of the program waits for runs that are under way.
_EXIT_S = 2.0


class Pool:
    """Several sessions of one model behind one face. Use it as a context manager, or call ``close()``.

    The pool owns its workers: closing it closes them. A worker that fails (``EngineError``, ``DelegateError``, an error of the
    operating system) is taken out of service, and its input goes to another; it is tried again after ``probe_interval_s``, then
    after twice that and so on, and is back once a run went well. A ``TensorError`` is the input's own and goes to its caller.
    While no worker is in service, inputs wait for one probe of each, and fail when none came back.

    Args:
        workers: sessions, or functions without arguments that open one; such a worker is opened anew after a failure.
        ordered: whether ``map`` gives results in the order of the inputs, or as they are done.
        max_queue: how many inputs of ``submit`` and ``map`` wait at most; ``submit`` blocks until there is room. A caller of
            ``run`` or ``arun`` waits itself and is not counted.
        retries: how often an input is tried again after a worker failed on it.
        probe_interval_s: how long a failed worker is left alone at first, in seconds.

    Attributes:
        inputs: what goes in.
        outputs: what comes out.

    Raises:
        OptionError: no worker, two different models, or a value that makes no sense.
        EdgekitError: a worker cannot be opened.
    """

    def __init__(
        self,
        workers: Iterable[Runs | Callable[[], Runs]],
        *,
        ordered: bool = True,
        max_queue: int = 64,
        retries: int = 2,
        probe_interval_s: float = 1.0,
    ) -> None:
        if max_queue < 1:
            raise OptionError(f"a queue of {max_queue}: at least 1 was expected.")
        if retries < 0:
            raise OptionError(f"{retries} retries: 0 or more were expected.")
        if not 0 < probe_interval_s <= MAX_PROBE_NS / 1e9:
            raise OptionError(f"a probe interval of {probe_interval_s} s: more than 0 and at most 60 were expected.")
        hands = open_hands(workers)
        self.inputs: tuple[TensorSpec, ...] = tuple(hands[0].session.inputs)
        self.outputs: tuple[TensorSpec, ...] = tuple(hands[0].session.outputs)
        self._hands = hands
        self._balance = Balance(hands, max_queue, retries, int(probe_interval_s * 1e9))
        self._ordered = ordered
        self._ahead = max_queue + len(hands)
        self._gates: list[
            Any
        ] = []  # of callers of run, for the next ones: a new one each time would wear the allocator
        self._pid = os.getpid()
        self._closed = False
        self._at_exit = functools.partial(_close_at_exit, weakref.ref(self))
        atexit.register(self._at_exit)

    @classmethod
    def of(
        cls,
        source: str | os.PathLike[str] | bytes | ModelFile,
        count: int | None = None,
        *,
        kind: str = "thread",
        ordered: bool = True,
        max_queue: int = 64,
        retries: int = 2,
        probe_interval_s: float = 1.0,
        **options: Any,
    ) -> Pool:
        """A pool of equal workers, each with one delegate thread unless ``threads`` says otherwise.

        Args:
            source: a ``.tflite`` file, its bytes, or a ``ModelFile``.
            count: workers; ``None`` for one on each processor that this process may use.
            kind: ``"thread"``: sessions in this process; ``"process"``: each in a process of its own (``isolate=True``).
            ordered: see ``Pool``, as the next three.
            max_queue: see ``Pool``.
            retries: see ``Pool``.
            probe_interval_s: see ``Pool``.
            options: what ``edgekit.load`` takes.

        Raises:
            EdgekitError: an option or the file is not usable.
        """
        one_of(kind, KINDS, "kind of worker")
        if count is None:
            count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if not 1 <= count <= 1024:
            raise OptionError(f"{count} workers: from 1 to 1024 were expected.")
        import edgekit  # its public face, which finds load; the runtime itself knows no device profiles

        options.setdefault("threads", 1)
        if kind == "process":
            options["isolate"] = True
        model = source if isinstance(source, edgekit.ModelFile) else edgekit.ModelFile.read(source)  # once for all
        make: Callable[[], Runs] = functools.partial(edgekit.load, model, **options)
        return cls(
            [make] * count, ordered=ordered, max_queue=max_queue, retries=retries, probe_interval_s=probe_interval_s
        )

    def __len__(self) -> int:
        """How many workers there are, in service or not."""
        return len(self._hands)

    def __call__(self, value: Any = None, /, **named: Any) -> Any:
        """Same as ``run``."""
        return self.run(value, **named)

    def run(self, value: Any = None, /, **named: Any) -> Any:
        """Run the model once, on the worker that is expected to finish first; in this thread when that worker is free.

        Args:
            value: the input of a one-input model, or a mapping from input names to arrays.
            named: inputs by name.

        Returns:
            What the session returns.

        Raises:
            TensorError: the input does not fit the model.
            EngineError: every worker that tried it failed, none is in service, or the pool is closed.
        """
        return self.run_queued(_merged(value, named), clock())

    def run_queued(self, value: Any, since_ns: int) -> Any:
        """``run`` for callers that keep a queue: the time since then goes into the worker's log as queue time.

        Args:
            value: an array, or a mapping from input names to arrays.
            since_ns: ``time.perf_counter_ns()`` when it was put into the queue.

        Raises:
            EdgekitError: see ``run``.
        """
        self._check_process()
        self._refuse_callback("run")
        balance = self._balance
        try:
            gate = self._gates.pop()
        except IndexError:
            gate = closed_gate()
        item = Item(value, since_ns, gate=gate)
        try:
            balance.add(item)
            while True:
                gate.acquire()  # and so it is closed again
                if item.error is not None:
                    raise item.error
                if item.served:
                    self._gates.append(gate)
                    return item.output
                hand: Any = item.hand
                began = clock()
                try:
                    output = hand.session.run_queued(value, since_ns)
                except FAULTS as error:
                    if not balance.fault(hand, item, error):
                        raise
                    continue
                balance.done(hand, item, began, clock())
                self._gates.append(gate)
                return output
        except BaseException:
            balance.give_up(item)
            raise
        finally:
            del item  # an error knows this frame, and the item its error: it would be a circle that keeps the input

    def submit(self, value: Any = None, /, **named: Any) -> Future[Any]:
        """Queue an input and return at once, or as soon as there is room in the queue.

        Callbacks of the future run in a worker's thread: keep them short. They may submit, and must not wait on the pool.

        Args:
            value: the input of a one-input model, or a mapping from input names to arrays. It must not be changed until it has run.
            named: inputs by name.

        Returns:
            A future with what the session returns, or its error.

        Raises:
            EngineError: the pool is closed, or no worker is in service.
        """
        # A worker that waited for room in its own queue would wait for ever.
        return self._submit(_merged(value, named), clock(), bounded=not self._balance.is_worker())

    def submit_queued(self, value: Any, since_ns: int) -> Future[Any]:
        """``submit`` for callers that keep a queue themselves and count what they have here: it never blocks.

        Args:
            value: see ``run_queued``.
            since_ns: see ``run_queued``.

        Returns:
            See ``submit``.

        Raises:
            EngineError: see ``submit``.
        """
        return self._submit(value, since_ns, bounded=False)

    def _submit(self, value: Any, since_ns: int, *, bounded: bool) -> Future[Any]:
        self._check_process()
        future: Future[Any] = Future()
        self._balance.add(Item(value, since_ns, future, self), bounded=bounded)
        return future

    async def arun(self, value: Any = None, /, **named: Any) -> Any:
        """``run`` for coroutines: the event loop goes on while the model runs in a worker's thread.

        Args:
            value: see ``run``.
            named: see ``run``.

        Raises:
            EdgekitError: see ``run``.
        """
        import asyncio

        return await asyncio.wrap_future(self._submit(_merged(value, named), clock(), bounded=False))

    def map(self, iterable: Iterable[Any], *, ordered: bool | None = None) -> Iterator[Any]:
        """Run every item of an iterable on all workers.

        Items are taken in the caller's thread while results are asked for, and at most ``max_queue`` ahead of the workers.

        Args:
            iterable: inputs, as ``submit`` takes them.
            ordered: whether results come in the order of the inputs, or as they are done; ``None`` for the pool's own setting.

        Returns:
            An iterator over the results. The first error ends it and calls off what still waits.

        Raises:
            DataError: what was given cannot be iterated.
            EdgekitError: see ``run``.
        """
        try:
            items = iter(iterable)
        except TypeError as error:
            raise DataError(
                f"a {type(iterable).__name__} was given to map: an iterable of inputs was expected."
            ) from error
        return self._in_order(items) if (self._ordered if ordered is None else ordered) else self._as_done(items)

    def _in_order(self, items: Iterator[Any]) -> Iterator[Any]:
        pending: deque[Future[Any]] = deque()
        try:
            for value in items:
                pending.append(self.submit(value))
                if len(pending) >= self._ahead or pending[0].done():
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _as_done(self, items: Iterator[Any]) -> Iterator[Any]:
        import queue

        pending: set[Future[Any]] = set()
        done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

        def next_result() -> Any:
            future = done.get()
            pending.discard(future)
            return future.result()

        try:
            for value in items:
                future = self.submit(value)
                pending.add(future)
                future.add_done_callback(done.put)
                if len(pending) >= self._ahead or not done.empty():
                    yield next_result()
            while pending:
                yield next_result()
        finally:
            for future in pending:
                future.cancel()

    def stats(self) -> PoolStats:
        """What was done so far, and how each worker is."""
        self._check_process()
        return self._balance.stats()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise EngineError(
                "this pool was made in another process: after a fork its workers' threads are not here. Make a new pool."
            )

    def _refuse_callback(self, what: str) -> None:
        if self._balance.is_worker():
            raise EngineError(
                f"a callback of this pool called {what}(): it would wait for the worker that it holds up. Use submit(), or "
                "do it in another thread."
            )

    def close(self, drain: bool = True, timeout_s: float | None = None) -> bool:
        """Take no more inputs, finish, and close the workers. Harmless when called twice.

        Args:
            drain: whether to run what waits; if not, its futures are cancelled, and callers of ``run`` get an ``EngineError``.
            timeout_s: wait at most so long, then call off what still waits; ``None`` to wait for everything.

        Returns:
            Whether every worker is at rest and closed. A run that is under way cannot be interrupted: after the timeout its
            worker is left to end it.

        Raises:
            EngineError: it was called in a callback of this pool.
        """
        if os.getpid() != self._pid:
            return True  # the workers are the other process's
        self._refuse_callback("close")
        resting = self._balance.finish(drain=drain, timeout_s=timeout_s)
        self._stop(wait=resting)
        return resting

    def _stop(self, *, wait: bool) -> None:
        self._closed = True
        atexit.unregister(self._at_exit)
        for hand in self._hands:
            hand.stop = True
            with contextlib.suppress(RuntimeError):  # it was woken already
                hand.wake.release()
        if not wait:
            return
        for hand in self._hands:
            if hand.thread is not None and hand.thread is not threading.current_thread():
                hand.thread.join()
            close_quietly(hand.session)

    def __del__(self) -> None:
        # What has work keeps its pool alive, so that here nothing runs and nothing waits.
        if not getattr(self, "_closed", True) and os.getpid() == self._pid:
            self._stop(wait=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(drain=kind is None)


def _merged(value: Any, named: dict[str, Any]) -> Any:
    if not named:
        return {} if value is None else value
    if value is None or isinstance(value, Mapping):
        return {**(value or {}), **named}
    raise TensorError("inputs were given both by position and by name: use one of them.")


def _close_at_exit(pool: weakref.ref[Pool]) -> None:
    found = pool()
    if found is not None:
        found.close(drain=False, timeout_s=_EXIT_S)

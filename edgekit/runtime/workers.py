"""The workers of a pool: what each is doing, how long it takes, whether it is in service; and the figures of both.

Everything here is read and changed under the pool's lock.
"""

from __future__ import annotations

import time
from _thread import LockType, allocate_lock
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from edgekit.errors import DelegateError, EngineError, OptionError
from edgekit.runtime.batch import Runs

if TYPE_CHECKING:
    from threading import Thread

    from edgekit.runtime.pool import Pool

#: Errors of a worker, not of its input: another worker may do better.
FAULTS = (EngineError, DelegateError, OSError, MemoryError)
#: A worker's service time is forgotten after so long without a run, so that a worker which was slow once is tried again.
_FORGET_NS = 60 * 10**9
#: How far into the queue a free worker is looked for: a worker that is that many times slower than the others gets nothing.
_LOOK_AHEAD = 64
#: Later than anything else.
_NEVER_NS = 1 << 62
#: The longest time between two probes.
MAX_PROBE_NS = 60 * 10**9


class Item:
    """One input on its way through a pool.

    Attributes:
        value: what the model is to run on.
        since_ns: when it was given to the pool.
        faulted: the workers that failed on it.
        hand: the worker that it was given to.
        gate: opened when there is something for the thread that waits there: a worker to run it on, or its result. ``None``
            for an input with a future.
        served: whether the worker's own thread runs it, and the waiting thread gets the result only.
        output: the result, for that thread.
        error: why there is none.
        future: where the result goes; ``None`` for an input with a gate.
        pool: what it was submitted to, which lives as long as it has work.
        running: whether the future was told that it runs.
        cancel: whether the future is to be cancelled rather than failed.
    """

    __slots__ = (
        "cancel", "error", "faulted", "future", "gate", "hand", "output", "pool", "running", "served", "since_ns", "value",
    )  # fmt: skip

    def __init__(
        self,
        value: Any,
        since_ns: int,
        future: Future[Any] | None = None,
        pool: Pool | None = None,
        gate: LockType | None = None,
    ) -> None:
        self.value = value
        self.since_ns = since_ns
        self.faulted: tuple[Hand, ...] = ()
        self.hand: Hand | None = None
        self.output: Any = None
        self.error: BaseException | None = None
        self.future = future
        self.pool = pool
        self.served = future is not None
        self.running = False
        self.cancel = False
        self.gate = gate

    def finish(self, output: Any, error: BaseException | None) -> None:
        """Hand over what the worker's thread got. Must not meet the pool's lock: a future has callbacks."""
        if self.future is None:
            self.output, self.error = output, error
            if self.gate is not None:  # where somebody waits for it
                self.gate.release()
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(output)


def closed_gate() -> LockType:
    """A lock that is taken: whoever takes it waits until it is released."""
    gate = allocate_lock()
    gate.acquire()
    return gate


class Hand:
    """One worker.

    Attributes:
        name: for messages and figures.
        session: what runs; replaced when the worker is opened again.
        make: opens a new session, or ``None`` for a worker that was given open.
        item: what it is running, or was just given.
        began_ns: when it was given that.
        service_ns: how long a run takes, a moving average; 0 while that is not known.
        ended_ns: when its last run ended.
        error: why it is out of service, or ``None``.
        probe_ns: when it is tried next, while it is out.
        wait_ns: how long it was left alone before that; doubles from fault to fault until a run goes well.
        wake: opened when its own thread has something to do.
        stop: whether its own thread is to end.
    """

    __slots__ = (
        "began_ns", "busy_ns", "ended_ns", "error", "faults", "item", "make", "name", "probe_ns", "runs", "service_ns",
        "session", "stop", "thread", "wait_ns", "wake",
    )  # fmt: skip

    def __init__(self, name: str, session: Runs, make: Callable[[], Runs] | None) -> None:
        self.name = name
        self.session = session
        self.make = make
        self.item: Item | None = None
        self.began_ns = 0
        self.service_ns = 0
        self.busy_ns = 0
        self.ended_ns = 0
        self.runs = 0
        self.faults = 0
        self.error: str | None = None
        self.probe_ns = 0
        self.wait_ns = 0
        self.thread: Thread | None = None
        self.stop = False
        self.wake = closed_gate()

    def note(self, elapsed_ns: int, now_ns: int) -> None:
        """Learn from a run that went well."""
        if self.service_ns == 0 or now_ns - self.ended_ns > _FORGET_NS:
            self.service_ns = elapsed_ns
        elif self.runs < 4:  # the first runs fill caches and allocate
            self.service_ns = min(self.service_ns, elapsed_ns)
        else:
            self.service_ns += (elapsed_ns - self.service_ns) >> 3
        self.runs += 1
        self.busy_ns += elapsed_ns
        self.ended_ns = now_ns
        self.wait_ns = 0

    def cost_ns(self, now_ns: int) -> int:
        """When it would have finished one more input, for comparing workers.

        A free worker counts half: waiting for a busy one must at least halve the time, or equal workers whose averages differ a
        little would be left idle. What was never measured, or not for long, is tried; but nobody waits for it.
        """
        if self.item is None:
            return 0 if now_ns - self.ended_ns > _FORGET_NS else self.service_ns >> 1
        if self.service_ns == 0:
            return _NEVER_NS
        # A run that lasts longer than expected is expected to last on for as long again.
        return self.service_ns + abs(self.service_ns - (now_ns - self.began_ns))


def choose(hands: Sequence[Hand], waiting: Iterable[Item], now_ns: int) -> tuple[int, Hand] | None:
    """Find the first item whose best worker is free.

    The items are given in thought, in their order, each to the worker that would finish it first with what that has before it.
    An item that is best off waiting for a busy worker stays in the queue, where a later fault or delay can still change its way.

    Args:
        hands: all workers.
        waiting: the items in their order.
        now_ns: the time.

    Returns:
        The item's position and the worker, or ``None`` when all that wait had better wait on.
    """
    hands = [hand for hand in hands if hand.error is None]
    first = next(iter(waiting), None)
    if first is None:
        return None
    if not first.faulted:  # nearly always; and nearly always its best worker is free
        best = min(hands, key=lambda hand: hand.cost_ns(now_ns), default=None)
        if best is not None and best.item is None:
            return 0, best
    costs = {hand: hand.cost_ns(now_ns) for hand in hands}
    if all(hand.item is not None for hand in costs):
        return None
    for position, item in enumerate(islice(waiting, _LOOK_AHEAD)):
        able = [hand for hand in costs if hand not in item.faulted] or list(costs)
        best = min(able, key=costs.__getitem__)
        if best.item is None:
            return position, best
        costs[best] += best.service_ns
    return None


@dataclass(frozen=True)
class WorkerStats:
    """What one worker of a pool has done.

    Attributes:
        name: its name.
        state: ``"free"``, ``"busy"`` or ``"out"`` of service.
        runs: runs that went well.
        faults: runs and probes that failed for a reason that is not the input's.
        service_ns: what a run takes, the moving average that items are given out by; 0 before the first.
        busy_ns: what all runs took together.
        error: why it is out of service, or ``None``.
    """

    name: str
    state: str
    runs: int
    faults: int
    service_ns: int
    busy_ns: int
    error: str | None


@dataclass(frozen=True)
class PoolStats:
    """What a pool has done; ``taken`` is the sum of the next five at any moment.

    Attributes:
        taken: inputs given to the pool.
        done: inputs with a result.
        failed: inputs with an error.
        cancelled: inputs whose caller, or closing, called them off before they ran.
        waiting: inputs in the queue.
        running: inputs that a worker has.
        retried: how often an input went back into the queue because its worker failed.
        workers: each worker.
    """

    taken: int
    done: int
    failed: int
    cancelled: int
    waiting: int
    running: int
    retried: int
    workers: tuple[WorkerStats, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def stats_of(hand: Hand) -> WorkerStats:
    """A worker's figures."""
    state = "out" if hand.error is not None else "free" if hand.item is None else "busy"
    return WorkerStats(hand.name, state, hand.runs, hand.faults, hand.service_ns, hand.busy_ns, hand.error)


def open_hands(workers: Iterable[Runs | Callable[[], Runs]]) -> list[Hand]:
    """Open the workers that are functions, and check that all run the same model.

    Raises:
        OptionError: there is none, one is neither a session nor a function, one is there twice, or two differ in inputs or outputs.
        EdgekitError: one cannot be opened.
    """
    hands: list[Hand] = []
    try:
        for number, worker in enumerate(workers):
            session: Any = worker
            make: Any = None
            if not hasattr(worker, "run_queued"):
                if not callable(worker):
                    raise OptionError(
                        f"worker {number} is a {type(worker).__name__}: a session, or a function that opens one, was expected."
                    )
                make, session = worker, worker()
            if any(hand.session is session for hand in hands):
                raise OptionError(
                    f"worker {number} is a session that is in the pool already: load the model once for each worker."
                )
            hands.append(Hand(f"worker {number}", session, make))
            if _form(session) != _form(hands[0].session):
                raise OptionError(
                    f"worker {number} takes and gives {_form_text(session)}, worker 0 {_form_text(hands[0].session)}: "
                    "all workers of a pool must run the same model."
                )
        if not hands:
            raise OptionError("a pool without workers: give it at least one session.")
    except BaseException:
        for hand in hands:
            if hand.make is not None:  # what the caller opened stays the caller's until there is a pool
                hand.session.close()
        raise
    return hands


def _form(session: Runs) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((spec.name, spec.shape) for spec in (*session.inputs, *session.outputs))


def _form_text(session: Runs) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in _form(session))


def clock() -> int:
    """The monotonic clock of the latency log, in nanoseconds."""
    return time.perf_counter_ns()

"""Who runs what in a pool: the queue, the workers' turns, and the keeper that probes those that failed.

``Balance`` is the pool's inside and knows nothing of how callers wait. One lock guards all of it; methods that end in
``_locked`` expect it to be held.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from edgekit.errors import EngineError, TensorError
from edgekit.runtime.batch import Runs
from edgekit.runtime.workers import FAULTS, MAX_PROBE_NS, Hand, Item, PoolStats, choose, clock, stats_of

#: How often the keeper looks whether an input that was held back for a busy worker had better go to a free one.
_RECHECK_S = 0.02
#: How many looks at nothing the keeper takes before it ends.
_LINGER = 50


class Balance:
    """The workers of a pool and what waits for them.

    Args:
        hands: the workers.
        max_queue: how many futures' inputs wait at most.
        retries: how often an input is tried again.
        probe_ns: how long a failed worker is left alone at first.
    """

    def __init__(self, hands: list[Hand], max_queue: int, retries: int, probe_ns: int) -> None:
        self.hands = hands
        self._threads = False  # whether the workers' own threads were started
        self._max_queue = max_queue
        self._retries = retries
        self._probe_ns = probe_ns
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._watch = threading.Condition(self._lock)
        self._waiting: deque[Item] = deque()
        self._queued = 0  # futures' inputs among them
        self._for_room = 0  # threads that wait for room
        self._free = len(hands)
        self._held = False  # whether an input waits although a worker is free
        self._dead = False  # whether a probe of all workers found none that works
        self._closing = self._closed = False
        self._taken = self._done = self._failed = self._cancelled = self._retried = 0
        self._sample: Any = None  # an input that went well, for probes
        self._keeper: threading.Thread | None = None
        self._soon = False  # whether the keeper will look again within _RECHECK_S

    # ---- an input's way ----

    def add(self, item: Item, *, bounded: bool = False) -> None:
        """Take an input in.

        Args:
            item: the input.
            bounded: whether to wait until there is room for it.

        Raises:
            EngineError: the pool is closed, or no worker is in service.
        """
        with self._lock:
            while bounded and self._queued >= self._max_queue and not self._closing:
                self._for_room += 1
                try:
                    self._room.wait()
                except BaseException:
                    self._room.notify()  # interrupted: the room, if it was told of any, is another's
                    raise
                finally:
                    self._for_room -= 1
            if self._closing:
                raise EngineError("the pool is closed. Make a new one.")
            self._taken += 1
            if self._dead:
                self._failed += 1
                raise self._nobody()
            if item.future is not None:
                self._queued += 1
                self._start_locked()
            self._waiting.append(item)
            self._dispatch_locked()
            if item.hand is None:
                self._to_be_served_locked(item)

    def _to_be_served_locked(self, item: Item) -> None:
        """What cannot run at once is run by a worker's own thread: that goes on with the next without waking anybody first."""
        item.served = True
        self._start_locked()

    def _start_locked(self) -> None:
        """Start the workers' own threads, once."""
        if self._threads:
            return
        self._threads = True
        for hand in self.hands:
            hand.thread = threading.Thread(
                target=_work, args=(self, hand), name=f"edgekit-pool {hand.name}", daemon=True
            )
            hand.thread.start()

    def is_worker(self) -> bool:
        """Whether this is a worker's own thread, as in a future's callback."""
        return self._threads and any(hand.thread is threading.current_thread() for hand in self.hands)

    def _dispatch_locked(self) -> None:
        """Give waiting inputs to free workers."""
        waiting, hands = self._waiting, self.hands
        while waiting and self._free:
            if self._free == len(hands) == 1:
                position, hand = 0, hands[0]
            else:
                chosen = choose(hands, waiting, clock())
                if chosen is None:
                    self._held = True
                    self._keep_locked()
                    return
                position, hand = chosen
            item = waiting[position]
            del waiting[position]
            self._free -= 1
            hand.item, item.hand = item, hand
            hand.began_ns = clock()
            if not item.served:
                gate: Any = item.gate
                gate.release()
                continue
            hand.wake.release()
            if item.future is not None:
                self._queued -= 1
                if self._for_room:
                    self._room.notify()
        self._held = False

    def _leave_locked(self, hand: Hand, item: Item) -> None:
        """A worker is free again."""
        hand.item = item.hand = None
        self._free += 1
        if self._closing:
            self._idle.notify_all()
        self._dispatch_locked()

    def done(self, hand: Hand, item: Item, began_ns: int, now_ns: int) -> None:
        """A run went well."""
        with self._lock:
            hand.note(now_ns - began_ns, now_ns)
            self._done += 1
            if self._sample is None:
                self._sample = item.value
            self._leave_locked(hand, item)

    def failed(self, hand: Hand, item: Item) -> None:
        """A run failed for a reason that is the input's own."""
        with self._lock:
            self._failed += 1
            self._leave_locked(hand, item)

    def cancelled(self, hand: Hand, item: Item) -> None:
        """An input was called off before its turn came."""
        with self._lock:
            self._cancelled += 1
            self._leave_locked(hand, item)

    def give_up(self, item: Item) -> None:
        """The thread that waited at an item's gate leaves, maybe interrupted, and maybe with its worker in hand."""
        with self._lock:
            if item.served and item.hand is not None:
                pass  # the worker's thread goes on and counts it
            elif item.hand is not None:
                self._failed += 1
                self._leave_locked(item.hand, item)
            elif item.error is None and item in self._waiting:
                self._waiting.remove(item)
                self._cancelled += 1
                self._idle.notify_all()

    def fault(self, hand: Hand, item: Item, error: BaseException) -> bool:
        """A worker failed: take it out of service and send its input back.

        Returns:
            Whether the input will be tried again; if not, its error is the caller's to pass on.
        """
        with self._lock:
            hand.error = str(error) or type(error).__name__
            hand.faults += 1
            hand.wait_ns = min(2 * hand.wait_ns, MAX_PROBE_NS) or self._probe_ns
            hand.probe_ns = clock() + hand.wait_ns
            hand.item = item.hand = None  # and yet it is not free
            item.faulted += (hand,)
            again = len(item.faulted) <= self._retries
            if again:
                self._retried += 1
                self._waiting.appendleft(item)
                if item.future is not None:
                    self._queued += 1
            else:
                self._failed += 1
            self._soon = False  # it sleeps until a probe is due, and this one may be the first
            self._keep_locked()
            self._dispatch_locked()
            if again and item.hand is None:
                self._to_be_served_locked(item)
            self._idle.notify_all()
            return again

    def serve(self, hand: Hand) -> None:
        """Run the input that a worker was given, in that worker's own thread."""
        item: Any = hand.item
        if item.future is not None and not item.running:
            if not item.future.set_running_or_notify_cancel():
                self.cancelled(hand, item)
                return
            item.running = True
        began = clock()
        try:
            output = hand.session.run_queued(item.value, item.since_ns)
        except FAULTS as error:
            if not self.fault(hand, item, error):
                item.finish(None, error)
        except BaseException as error:
            item.finish(None, error)
            self.failed(hand, item)
        else:
            now = clock()
            item.finish(output, None)
            self.done(hand, item, began, now)
        finally:
            item = None  # an error knows this frame, and the item its error: it would be a circle that keeps the input

    # ---- keeping ----

    def _keep_locked(self) -> None:
        """Have the keeper look soon: a thread that lives while a worker is out of service or an input is held back."""
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._watch_over, name="edgekit-pool keeper", daemon=True)
            self._keeper.start()
        elif not self._soon:
            self._watch.notify()
        self._soon = True

    def _watch_over(self) -> None:
        quiet = 0
        while True:
            with self._lock:
                out = [hand for hand in self.hands if hand.error is not None]
                quiet = 0 if out or self._held else quiet + 1
                if self._closed or quiet > _LINGER:
                    self._keeper = None
                    return
                now = clock()
                at_once = len(out) == len(self.hands) and not self._dead
                due = out if at_once else [hand for hand in out if hand.probe_ns <= now]
                if not due:
                    # With nothing held back it sleeps until the next probe.
                    self._soon = self._held or not out
                    next_s = min(((hand.probe_ns - now) / 1e9 for hand in out), default=_RECHECK_S)
                    self._watch.wait(min(next_s, _RECHECK_S) if self._soon else next_s)
                    self._dispatch_locked()
                    continue
            back = [hand for hand in due if self._probe(hand)]
            dropped: list[Item] = []
            with self._lock:
                # One that came back and failed again has its inputs' retries to decide.
                self._dead = not back and all(hand.error is not None for hand in self.hands)
                if self._dead:
                    dropped = self._clear_locked(self._nobody(), cancel=False)
            send_back(dropped)

    def _probe(self, hand: Hand) -> bool:
        """Whether a worker works again; nobody else uses it meanwhile."""
        error: str | None = None
        try:
            if hand.make is not None:
                close_quietly(hand.session)
                hand.session = hand.make()
            hand.session.run_queued(self._sample if self._sample is not None else self._zeros(), clock())
        except TensorError:
            pass  # the worker answered; that zeros are no input of this model is not its fault
        except Exception as caught:
            error = str(caught) or type(caught).__name__
        with self._lock:
            if error is not None:
                hand.error = error
                hand.faults += 1
                hand.wait_ns = min(2 * hand.wait_ns, MAX_PROBE_NS)
                hand.probe_ns = clock() + hand.wait_ns
                return False
            hand.error = None
            hand.service_ns = 0
            self._free += 1
            self._dead = False
            self._dispatch_locked()
            return True

    def _zeros(self) -> Any:
        """An input of zeros."""
        inputs = self.hands[0].session.inputs
        arrays = {spec.name: np.zeros([max(size, 1) for size in spec.shape], spec.dtype) for spec in inputs}
        return arrays if len(arrays) > 1 else next(iter(arrays.values()))

    def _nobody(self) -> EngineError:
        reasons = "; ".join(f"{hand.name}: {hand.error}" for hand in self.hands if hand.error is not None)
        return EngineError(f"no worker of the pool is in service, and a probe of each failed ({reasons})")

    # ---- figures and the end ----

    def stats(self) -> PoolStats:
        """What was done so far, and how each worker is."""
        with self._lock:
            return PoolStats(
                taken=self._taken,
                done=self._done,
                failed=self._failed,
                cancelled=self._cancelled,
                waiting=len(self._waiting),
                running=self._running_locked(),
                retried=self._retried,
                workers=tuple(stats_of(hand) for hand in self.hands),
            )

    def _running_locked(self) -> int:
        return sum(hand.item is not None for hand in self.hands)

    def _clear_locked(self, error: EngineError, *, cancel: bool) -> list[Item]:
        """Empty the queue.

        Returns:
            The futures' inputs, for ``send_back``, which must not meet the lock.
        """
        items, self._queued = [*self._waiting], 0
        self._waiting.clear()
        for item in items:
            item.error, item.cancel = EngineError(*error.args), cancel  # each thread that waits raises one of its own
            if cancel or (item.future is not None and item.future.cancelled()):
                self._cancelled += 1
            else:
                self._failed += 1
            if item.gate is not None:
                item.gate.release()
        self._room.notify_all()
        self._idle.notify_all()
        return [item for item in items if item.future is not None]

    def finish(self, *, drain: bool, timeout_s: float | None) -> bool:
        """Take no more inputs, run or call off what waits, and stop.

        Returns:
            Whether every worker is at rest.
        """
        called_off = EngineError("the pool was closed before this input's turn came.")
        dropped: list[Item] = []
        with self._lock:
            self._closing = True
            self._room.notify_all()
            if not drain:
                dropped = self._clear_locked(called_off, cancel=True)
        send_back(dropped)
        with self._lock:
            self._idle.wait_for(lambda: not self._waiting and not self._running_locked(), timeout_s)
            dropped = self._clear_locked(called_off, cancel=True)
            self._closed = True
            self._watch.notify()
            keeper = self._keeper
            resting = self._running_locked() == 0
        send_back(dropped)
        if keeper is not None:
            keeper.join(timeout_s)  # it may be in the middle of a probe
            resting = resting and not keeper.is_alive()
        return resting


def _work(balance: Balance, hand: Hand) -> None:
    """A worker's own thread. It does not keep the pool alive; what has been submitted does."""
    while True:
        hand.wake.acquire()
        if hand.item is not None:
            balance.serve(hand)
        elif hand.stop:
            return


def send_back(items: Iterable[Item]) -> None:
    """Tell the futures of inputs that will not run."""
    for item in items:
        future: Any = item.future
        if item.cancel and not item.running:
            future.cancel()
        if item.running or future.set_running_or_notify_cancel():
            future.set_exception(item.error)


def close_quietly(session: Runs) -> None:
    """Close what may be broken."""
    with contextlib.suppress(Exception):
        session.close()

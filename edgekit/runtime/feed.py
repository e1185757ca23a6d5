"""The waiting side of a stream: what a source gives goes in, what the model is to run next comes out, and all of it is counted.

A feed has no thread of its own. The source's side calls ``offer``, the consumer's side ``take``; both can also be tried without
waiting, which is what coroutines do, who are called when something has changed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from edgekit.records import Record

POLICIES: tuple[str, ...] = ("latest", "all", "drop_oldest")


class StreamCounts(Record):
    """What became of a source's items; ``taken`` is the sum of the next seven at any moment.

    Attributes:
        taken: items that the source gave.
        run: items with a result.
        dropped: items that made room for newer ones.
        late: items that were older than the deadline when their turn came, and were not run.
        failed: items whose preprocessing or run failed.
        waiting: items in the queue, and the one that the source is held with.
        running: items that were taken from the queue and are not done.
        closed: items that waited, or were with a pool, when the stream was closed.
        held_ns: how long the source was held because the queue was full (policy ``all``), in nanoseconds.
    """

    taken: int
    run: int
    dropped: int
    late: int
    failed: int
    waiting: int
    running: int
    closed: int
    held_ns: int


class Waiting:
    """One item of a source.

    Attributes:
        sequence: its number, from 0.
        value: the item.
        captured_ns: when the source gave it.
        queued_ns: when it went into the queue; later than that when the source was held.
    """

    __slots__ = ("captured_ns", "queued_ns", "sequence", "value")

    def __init__(self, sequence: int, value: Any, captured_ns: int) -> None:
        self.sequence = sequence
        self.value = value
        self.captured_ns = captured_ns
        self.queued_ns = captured_ns


class Feed:
    """The queue of a stream.

    Args:
        policy: one of ``POLICIES``.
        limit: the most items that wait.
        batch: the most items that are taken together.
        deadline_ns: items older than this are not taken; ``None`` for no limit.
        max_wait_ns: how long after the first item of a batch the others are waited for.

    Attributes:
        changes: how often something has changed.
        ended: whether the source gives nothing more.
        closed: whether the stream was closed.
        error: why the source ended, when that was not its end.
    """

    def __init__(self, policy: str, limit: int, batch: int, deadline_ns: int | None, max_wait_ns: int) -> None:
        self._policy = policy
        self._limit = limit
        self.batch = batch
        self.deadline_ns = deadline_ns
        self._max_wait_ns = max_wait_ns
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], object]] = []
        self._waiting: deque[Waiting] = deque()
        self.changes = 0
        self._turn = -1  # sequence number of the item that was found in time and waits for company
        self._held: Waiting | None = None
        self._taken = self._run = self._dropped = self._late = self._failed = self._closed_count = 0
        self._running = 0
        self._held_ns = 0
        self.ended = False
        self.closed = False
        self.error: BaseException | None = None

    def _tell(self) -> None:
        """Something changed. The lock is held."""
        self.changes += 1
        self._changed.notify_all()
        for listener in self._listeners:
            listener()

    def touch(self) -> None:
        """Tell those who wait that something outside the feed has changed."""
        with self._changed:
            self._tell()

    def wait(self, changes: int, until_ns: int | None) -> None:
        """Wait for the first change after so many, or until a time."""
        with self._changed:
            if self.changes == changes:
                self._changed.wait(None if until_ns is None else max(until_ns - time.perf_counter_ns(), 0) / 1e9)

    def listen(self, listener: Callable[[], object]) -> None:
        """Call a function, under the lock, whenever something changes; it must only leave word somewhere."""
        with self._changed:
            self._listeners.append(listener)

    # ---- the source's side ----

    def capture(self, value: Any) -> Waiting:
        """Count an item that the source gave."""
        with self._changed:
            item = Waiting(self._taken, value, time.perf_counter_ns())
            self._taken += 1
            if self.closed:
                self._closed_count += 1
            else:
                self._held = item
            return item

    def try_offer(self, item: Waiting) -> bool:
        """Put an item into the queue, unless it has to wait for room."""
        with self._changed:
            return self._offer(item)

    def _offer(self, item: Waiting) -> bool:
        if self._held is not item:
            return True  # closed meanwhile
        if len(self._waiting) >= self._limit:
            if self._policy == "all":
                return False
            self._waiting.popleft()
            self._dropped += 1
        self._held = None
        item.queued_ns = time.perf_counter_ns()
        if self._policy == "all":
            self._held_ns += item.queued_ns - item.captured_ns
        self._waiting.append(item)
        self._tell()
        return True

    def offer(self, item: Waiting) -> None:
        """Put an item into the queue, and wait for room where the policy says so."""
        with self._changed:
            while not self._offer(item):
                self._changed.wait()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes; ``error`` is why, when it is not the end."""
        with self._changed:
            self.ended = True
            self.error = error
            self._tell()

    # ---- the consumer's side ----

    def try_take(self) -> tuple[list[Waiting], int | None]:
        """Take what is to run next, when it is there.

        Returns:
            The items, and when to ask again (nanoseconds of the clock, ``None`` for when something changes) where there are
            none yet. No items and 0 mean that there will be none.
        """
        with self._changed:
            return self._take()

    def _take(self) -> tuple[list[Waiting], int | None]:
        waiting = self._waiting
        now = time.perf_counter_ns()
        self._drop_late(now)
        if not waiting:
            return [], 0 if self.ended or self.closed else None
        if self.batch > 1 and len(waiting) < self.batch and not self.ended:
            first = waiting[0]
            until = first.queued_ns + self._max_wait_ns
            if self.deadline_ns is not None:
                until = min(until, first.captured_ns + self.deadline_ns)
            if now < until:
                self._turn = first.sequence  # its turn has come: from here on it is not late any more
                return [], until
        items = [waiting.popleft() for _ in range(min(self.batch, len(waiting)))]
        self._running += len(items)
        self._tell()
        return items, None

    def _drop_late(self, now: int) -> None:
        """Drop the items that are too old. Those of a source stand in the order of their age."""
        if self.deadline_ns is None:
            return
        waiting, oldest = self._waiting, now - self.deadline_ns
        before = len(waiting)
        while waiting and waiting[0].captured_ns < oldest and waiting[0].sequence != self._turn:
            waiting.popleft()
        if len(waiting) != before:
            self._late += before - len(waiting)
            self._tell()

    def take(self) -> list[Waiting]:
        """Take what is to run next, and wait for it.

        Returns:
            The items; none when there will be none.
        """
        with self._changed:
            while True:
                items, again_ns = self._take()
                if items or again_ns == 0:
                    return items
                wait_s = None if again_ns is None else max(again_ns - time.perf_counter_ns(), 0) / 1e9
                self._changed.wait(wait_s)

    def finished(self, run: int, failed: int) -> None:
        """Count items that were taken and are done."""
        with self._changed:
            self._run += run
            self._failed += failed
            self._running -= run + failed

    def called_off(self) -> None:
        """Count an item that was taken, and whose result nobody wants any more."""
        with self._changed:
            self._closed_count += 1
            self._running -= 1

    # ---- both ----

    def close(self) -> None:
        """Let nobody wait any more; what is in the queue is counted as closed and forgotten."""
        with self._changed:
            self.closed = True
            self._closed_count += len(self._waiting) + (self._held is not None)
            self._waiting.clear()
            self._held = None
            self._tell()

    def counts(self) -> StreamCounts:
        """What became of the items so far."""
        with self._changed:
            waiting = len(self._waiting) + (self._held is not None)
            return StreamCounts(
                self._taken, self._run, self._dropped, self._late, self._failed, waiting, self._running, self._closed_count,
                self._held_ns,
            )  # fmt: skip

"""``Turns``: a lock whose waiters come in their order, and that costs hardly anything where nobody waits.

A lock's own methods take three times as long, which a model of a few microseconds feels, and they let a thread that runs the model
over and over take the lock again before a waiting one has woken up: that one would wait for ever.
"""

from __future__ import annotations

from _queue import Empty, SimpleQueue  # what queue has, without its import of threading
from _thread import LockType, allocate_lock
from collections import deque


class Turns:
    """Who has the one token has the turn; who waits is given it by the one before.

    ``take_now`` and ``put_back`` are for the caller that spares a call: ``take_now()`` raises ``Empty`` when there is somebody, and
    ``put_back(None)`` is right where ``waiting`` is empty before, and
    is looked at again after it (``remind``); ``leave()`` is always right.

    Attributes:
        waiting: a held lock for each thread that waits, first come first.
        take_now: takes the token, or raises ``Empty``.
        put_back: puts the token back.
    """

    def __init__(self) -> None:
        tokens: SimpleQueue[None] = SimpleQueue()
        tokens.put(None)
        self.waiting: deque[LockType] = deque()
        self.take_now = tokens.get_nowait
        self.put_back = tokens.put

    def enter(self) -> None:
        """Wait for the turn."""
        try:
            self.take_now()
        except Empty:
            pass
        else:
            return
        mine = allocate_lock()
        mine.acquire()
        self.waiting.append(mine)
        try:
            self.take_now()  # the one before may have left without seeing who waits
        except Empty:
            pass
        else:
            self.waiting.remove(mine)  # it is there: only who has the turn takes it away
            return
        try:
            mine.acquire()
        except BaseException:  # interrupted while it waited
            try:
                self.waiting.remove(mine)
            except ValueError:  # the turn was given all the same
                self.leave()
            raise

    def leave(self) -> None:
        """Give the turn to the first that waits, or put it back."""
        try:
            first = self.waiting.popleft()
        except IndexError:
            self.put_back(None)
            if self.waiting:
                self.remind()
        else:
            first.release()

    def remind(self) -> None:
        """Somebody came between looking and putting back: take the turn again for them, if it is there."""
        try:
            self.take_now()
        except Empty:
            return  # another has it, and will see who waits
        self.leave()

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()

"""Turns, where several processes run tests at once: what measures time has the machine for itself.

Each process takes its turn around each test. The locks are on files that lie here anyway (nothing is written, and the lock of a
process that ends is gone with it), so that a second run from the same checkout waits for its turn too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_GATE = Path(__file__).resolve()
_MACHINE = _GATE.parent / "processes.py"


@contextlib.contextmanager
def turn(*, alone: bool, gate: Path = _GATE, machine: Path = _MACHINE) -> Iterator[None]:
    """Wait until the machine is free for one test.

    Args:
        alone: whether no other test may run meanwhile; else those that may run beside others do.
        gate: a file whose lock is held while one waits, so that nobody overtakes it for ever.
        machine: a file whose lock stands for the machine.
    """
    import fcntl

    with _opened(gate) as waiting, _opened(machine) as running:
        fcntl.flock(waiting, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(waiting, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # Said, not left to the closing: a process that the test forked and left has the same open file.
            fcntl.flock(running, fcntl.LOCK_UN)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

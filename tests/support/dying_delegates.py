"""Sessions that stand for broken hardware: what they run is real, when they fail is chosen by the test."""

from __future__ import annotations

import threading
from typing import Any

from edgekit import EngineError, Session
from edgekit.tensors import TensorSpec


class SimulatedDyingDelegate:
    """A session whose delegate can be made to die, to come back, and to stop in the middle of a run.

    Attributes:
        dead: whether runs fail, as those of an accelerator that was unplugged.
        go_on: runs wait until this is set.
        entered: set when a run has begun.
        calls: runs that were tried, in order.
        closed: whether ``close`` was called.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.dead = False
        self.go_on = threading.Event()
        self.go_on.set()
        self.entered = threading.Event()
        self.calls: list[Any] = []
        self.closed = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What goes in."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What comes out."""
        return self._session.outputs

    def run(self, value: Any, /) -> Any:
        """Run, or fail."""
        return self.run_queued(value, 0)

    def run_queued(self, value: Any, since_ns: int) -> Any:
        """Run, or fail."""
        self.calls.append(value)
        self.entered.set()
        self.go_on.wait()
        if self.dead:
            raise EngineError("the delegate died (simulated by a test).")
        return self._session.run(value)

    def close(self) -> None:
        """Free the session."""
        self.closed = True
        self._session.close()

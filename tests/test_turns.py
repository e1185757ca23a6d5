"""``tests/support/turns.py``: what is alone really is, and nobody waits who need not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from turns import turn

#: Far above what a thread takes to get its turn.
SOON_S = 30


class Turn:
    """A turn that a thread of its own takes, until it is told to end; each opens the files itself, as processes do."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self.begun, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._take, args=(folder, alone))
        self._thread.start()

    def _take(self, folder: Path, alone: bool) -> None:
        with turn(alone=alone, gate=folder / "gate", machine=folder / "machine"):
            self.begun.set()
            self._end.wait(2 * SOON_S)

    def end(self) -> None:
        """Let it end."""
        self._end.set()
        self._thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files to lock: those of the tests themselves are in use."""
    for name in ("gate", "machine"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    """Whatever happens, no thread is left waiting."""
    with ExitStack() as stack:
        yield stack


def taken(ends: ExitStack, folder: Path, *, alone: bool) -> Turn:
    """A turn that ends with the test at the latest."""
    made = Turn(folder, alone=alone)
    ends.callback(made.end)
    return made


def test_turns_that_share_the_machine(folder: Path, ends: ExitStack) -> None:
    """The second begins while the first runs."""
    assert taken(ends, folder, alone=False).begun.wait(SOON_S)
    assert taken(ends, folder, alone=False).begun.wait(SOON_S)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_a_turn_alone(folder: Path, ends: ExitStack, first: bool, second: bool) -> None:
    """Whichever of two is alone, the second begins when the first has ended, and not before."""
    running = taken(ends, folder, alone=first)
    assert running.begun.wait(SOON_S)
    waiting = taken(ends, folder, alone=second)
    assert not waiting.begun.wait(0.2)
    running.end()
    assert waiting.begun.wait(SOON_S)


def test_who_waits_to_be_alone_is_not_overtaken(folder: Path, ends: ExitStack) -> None:
    """One that would share the machine comes behind one that waits for it."""
    running = taken(ends, folder, alone=False)
    assert running.begun.wait(SOON_S)
    waiting = taken(ends, folder, alone=True)
    assert not waiting.begun.wait(0.2)
    behind = taken(ends, folder, alone=False)
    assert not behind.begun.wait(0.2)
    running.end()
    assert waiting.begun.wait(SOON_S)
    waiting.end()
    assert behind.begun.wait(SOON_S)

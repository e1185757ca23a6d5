"""``edgekit.runtime.trial``: a process that may do anything, and the program that goes on."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from edgekit import EngineError
from edgekit.runtime.trial import Trial, run_trial

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals end these processes")


def trial(what: str, *, timeout_s: float = 30.0, body: bytes = b"", **about: str) -> Trial:
    """Run ``trial_children.main``."""
    return run_trial("trial_children", {"what": what, **about}, body, timeout_s=timeout_s)


def test_the_answer_comes_back() -> None:
    """Whatever is printed beside it, and however long the body."""
    body = bytes(3_000_000)
    found = trial("answer", body=body)
    assert {"length": 3_000_000, "seen": {"what": "answer"}} == found.result
    assert ("began", None, 0, False) == (found.stage, found.signal, found.code, found.timed_out)
    assert "printed, and no answer" in found.said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("SIGSEGV", "it read or wrote outside its memory"),
        ("SIGABRT", "native code gave up"),
        ("SIGKILL", "somebody killed it, perhaps the system for want of memory"),
        ("SIGUSR1", "a signal"),
    ],
)
def test_a_signal_ends_it(name: str, why: str) -> None:
    """The sentence names the signal and what was being done."""
    found = trial("dies", signal=name)
    assert found.result is None
    assert f"it was ended by {name} ({why}) while it began" == found.how_it_ended()


def test_an_exit_code() -> None:
    """And what it printed last."""
    found = trial("exits")
    assert ("it ended with exit code 7 while it began", "last words\n") == (found.how_it_ended(), found.said)


@pytest.mark.parametrize("what", ["hangs", "answers and hangs"])
def test_its_time_is_limited(what: str) -> None:
    """An answer of a process that then hangs is not used: whatever it waits for may hang the program as well."""
    found = trial(what, timeout_s=1.0)
    assert (None, True) == (found.result, found.timed_out)
    assert "it was not done in time while it began, and was ended" == found.how_it_ended()


def test_what_it_started_ends_too() -> None:
    """A helper process that holds its pipes open neither blocks nor stays."""
    found = trial("leaves a helper")
    assert found.result is not None
    pid = found.result["helper"]
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            break
        if state == "Z":  # dead, and nobody's child here to be waited for
            break
        time.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the helper process still runs")


def test_a_flood_is_cut() -> None:
    """The beginning and the end are kept, not all of it."""
    found = trial("floods")
    assert {} == found.result
    assert found.said.endswith("the end")
    assert len(found.said) <= 2 * (64 << 10)


def test_no_python_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded Python may have no program of its own."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(EngineError, match="a process for a try cannot be started: /nonexistent/python"):
        trial("answer")

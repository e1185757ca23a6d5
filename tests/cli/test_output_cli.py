"""Progress where nobody draws it."""

from __future__ import annotations

import pytest

from edgekit.cli.output import PipedProgress


def lines(capsys: pytest.CaptureFixture[str], calls: list[tuple[float, str, int, int]]) -> list[str]:
    """What is printed for calls at these seconds."""
    moments = iter([moment for moment, *_ in calls])
    progress = PipedProgress(lambda: next(moments))
    for _, step, done, total in calls:
        progress(step, done, total)
    captured = capsys.readouterr()
    assert "" == captured.out
    return captured.err.splitlines()


def test_each_step_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Short steps have a line each, however often they report."""
    calls = [(0.0, "Reading", 0, 2), (1.0, "Reading", 1, 2), (2.0, "Running", 0, 0), (9.0, "Running", 1, 0)]
    assert ["Reading …", "Running …"] == lines(capsys, calls)


def test_long_steps_tell_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    """Every ten seconds: what is done, and at this pace the rest."""
    calls = [(float(second), "Benchmarking", second // 2, 60) for second in range(0, 35)]
    assert [
        "Benchmarking …",
        "Benchmarking: 5 of 60, about 2 min left",
        "Benchmarking: 10 of 60, about 2 min left",
        "Benchmarking: 15 of 60, about 90 s left",
    ] == lines(capsys, calls)


def test_pace_is_that_of_what_was_done_here(capsys: pytest.CaptureFixture[str]) -> None:
    """A step that begins half-way is not twice as fast; without progress there is no time left to tell."""
    calls = [
        (0.0, "Resuming", 30, 60),
        (12.0, "Resuming", 30, 60),
        (24.0, "Resuming", 36, 60),
        (36.0, "Resuming", 60, 60),
    ]
    assert ["Resuming …", "Resuming: 30 of 60", "Resuming: 36 of 60, about 96 s left"] == lines(capsys, calls)


def test_hours_are_hours(capsys: pytest.CaptureFixture[str]) -> None:
    """A long wait is told in a unit that fits."""
    assert (
        "Searching: 1 of 1001, about 2.8 h left"
        == lines(capsys, [(0.0, "Searching", 0, 1001), (10.0, "Searching", 1, 1001)])[1]
    )

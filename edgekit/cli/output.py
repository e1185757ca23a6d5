"""Printing: tables and JSON on stdout, progress on stderr."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

#: Wide enough that nothing is cut when the output is a file or a pipe.
_PIPE_WIDTH = 120


def console() -> Console:
    """A rich console on stdout; plain text of a fixed width when stdout is not a terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # an arrow is no reason to end where the terminal knows ASCII alone
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def print_json(data: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the title and every cell are text, taken literally."""
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=False, justify="left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def print_pairs(title: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Print a two-column table without a header: a name and what is known of it."""
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(name), Text(value))
    console().print(table)


class PipedProgress:
    """Progress as lines on stderr: one when a step begins, and one every ten seconds with the time left.

    Args:
        clock: seconds on any clock that never goes back.
    """

    #: From one line to the next.
    PERIOD_S = 10.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, tuple[float, int]] = {}
        self._told_s = 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        """Take note of a step's progress; see ``progress_bar``."""
        now = self._clock()
        if step not in self._began:
            self._began[step] = now, done
            self._told_s = now
            click.echo(f"{step} …", err=True)
        elif now - self._told_s >= self.PERIOD_S and done < total:
            self._told_s = now
            start, first = self._began[step]
            left = f", about {_time_text((now - start) / (done - first) * (total - done))} left" if done > first else ""
            click.echo(f"{step}: {done} of {total}{left}", err=True)


def _time_text(seconds: float) -> str:
    """A time as people say it: ``40 s``, ``3 min``, ``1.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def progress_bar(enabled: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """Give a ``progress(step, done, total)`` function that draws bars with the time left on stderr.

    On a terminal it draws; in a pipe it prints a line for each step, and every ten seconds one with the time left. ``total`` 0 is a step of
    unknown length.
    """
    if not enabled:
        yield lambda step, done, total: None
        return
    if not sys.stderr.isatty():
        yield PipedProgress()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=Console(file=sys.stderr), transient=False,
    ) as bars:  # fmt: skip
        tasks: dict[str, Any] = {}

        def finish_unknown() -> None:
            for task in bars.tasks:
                if task.total is None:  # a step of unknown length ends when the next one begins
                    bars.update(task.id, completed=1, total=1)

        def draw(step: str, done: int, total: int) -> None:
            if step not in tasks:
                finish_unknown()
                tasks[step] = bars.add_task(step, total=total or None)
            bars.update(tasks[step], completed=done, total=total or None)

        yield draw
        finish_unknown()

"""``History``: a folder of benchmarks over time, and how each case went."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgekit.bench.cases import CaseResult
from edgekit.bench.compare import Comparison, case_key, case_name, compare
from edgekit.bench.results import BenchmarkReport
from edgekit.bench.validity import INVALID, verdict_of
from edgekit.errors import DataError, EdgekitError, OptionError, from_os_error
from edgekit.report.fields import NOTHING
from edgekit.report.html import Row, Section, Table, Text, page
from edgekit.report.trend import Point, Trend
from edgekit.report.units import milliseconds

_SUFFIX = ".json"
_LABEL_LIMIT = 60


@dataclass(frozen=True)
class Entry:
    """One benchmark of a history.

    Attributes:
        path: its file.
        label: what it was called when it was added, such as a commit; its day where it was not.
        report: the benchmark.
    """

    path: Path
    label: str
    report: BenchmarkReport


@dataclass(frozen=True)
class History:
    """What a folder holds.

    Attributes:
        entries: the benchmarks, oldest first.
        problems: files of that ending that could not be read, a sentence each.
    """

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()

    def compare_latest(self, *, fail_over: float | None = None) -> Comparison:
        """The last benchmark compared with the one before it.

        Args:
            fail_over: see ``compare``.

        Raises:
            OptionError: there are fewer than two.
        """
        last = self.entries[-2:]
        return compare([entry.report for entry in last], fail_over=fail_over, labels=[entry.label for entry in last])

    def series(self) -> dict[str, list[tuple[Entry, CaseResult]]]:
        """Each case's results over time, by the case's name; a case that was not measured in a benchmark is not in it there."""
        named: dict[object, str] = {}
        found: dict[str, list[tuple[Entry, CaseResult]]] = {}
        for entry in self.entries:
            for result in entry.report.cases:
                name = named.setdefault(case_key(result), case_name(result, entry.report))
                if result.interval is not None and result.error is None:
                    found.setdefault(name, []).append((entry, result))
        return found

    def html(self, title: str = "Benchmarks over time") -> str:
        """One page with a trend of each case, and all figures in tables.

        Args:
            title: of the page.

        Raises:
            DataError: there is nothing to show.
        """
        series = self.series()
        if not series:
            raise DataError("there is no benchmark with a timed case to show: at least one was expected.")
        parts = [Section(name, list(_shown(results))) for name, results in series.items()]
        notes = [Text(text, soft=True) for text in self.problems]
        count = f"{len(self.entries)} benchmark{'s' if len(self.entries) > 1 else ''}"
        lead = f"{count}. Each point is the median over launches with its 95 % interval; hollow points are INVALID."
        return page(title, lead, [*parts, *notes])


def _shown(results: list[tuple[Entry, CaseResult]]) -> Iterator[Row | Table]:
    points, rows = [], []
    for entry, result in results:
        interval, judged = result.interval, verdict_of(result)
        assert interval is not None
        low, high = (None if end is None else end / 1e6 for end in (interval.low, interval.high))
        points.append(Point(entry.label, interval.value / 1e6, low, high, judged.level != INVALID))
        ends = " to ".join(NOTHING if end is None else milliseconds(end) for end in (interval.low, interval.high))
        when = datetime.fromtimestamp(entry.report.started_unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M")
        rows.append([entry.label, when, milliseconds(interval.value), ends, judged.level])
    yield Row([Trend("Median run", "ms", points)])
    yield Table(rows, ["benchmark", "measured (UTC)", "median", "95 % interval", "verdict"])


def add_to_history(folder: str | os.PathLike[str], report: BenchmarkReport, label: str | None = None) -> Path:
    """Put a benchmark into a history; the folder is made when it is not there.

    Args:
        folder: where the history lies.
        report: the benchmark.
        label: what to call it, such as a commit; letters, digits and ``._-+``.

    Returns:
        Its file. One of the same moment and label is replaced.

    Raises:
        OptionError: the label has other characters, or is too long.
        OutputError: it cannot be written.
    """
    if label is not None and not re.fullmatch(rf"[\w.+-]{{1,{_LABEL_LIMIT}}}", label, re.ASCII):
        raise OptionError(
            f"the label {label!r} is not one: up to {_LABEL_LIMIT} letters, digits and . _ - + were expected."
        )
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, place, "write") from error
    moment = datetime.fromtimestamp(report.started_unix_s, timezone.utc).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
    path = place / f"{moment}{'' if label is None else f'_{label}'}{_SUFFIX}"
    report.save(path, overwrite=True)
    return path


def read_history(folder: str | os.PathLike[str]) -> History:
    """Read a folder of benchmarks.

    Args:
        folder: where they lie; files of other endings are left alone, those that are no benchmark are told.

    Raises:
        DataError: it is not a folder that can be read.
    """
    place = Path(folder)
    try:
        paths = sorted(path for path in place.iterdir() if path.suffix == _SUFFIX and path.is_file())
    except OSError as error:
        raise from_os_error(error, place, "read", DataError) from error
    entries, problems = [], []
    for path in paths:
        try:
            report = BenchmarkReport.read(path)
        except EdgekitError as error:
            problems.append(str(error))
            continue
        # Files that were not added by ``add_to_history`` are called by their names.
        moment, _, label = path.stem.partition("_")
        ours = re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z", moment)
        day = datetime.fromtimestamp(report.started_unix_s, timezone.utc).strftime("%Y-%m-%d")
        entries.append(Entry(path, (label or day) if ours else path.stem, report))
    entries.sort(key=lambda entry: (entry.report.started_unix_s, entry.path.name))
    return History(tuple(entries), tuple(problems))

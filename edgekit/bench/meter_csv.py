"""An external meter's CSV file: power over time, and what a benchmark's launches took of it."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.launch import Launch
from edgekit.bench.results import BenchmarkReport
from edgekit.errors import DataError, from_os_error
from edgekit.tensors import Array

#: Column headings, in lower case and without unit in brackets, for each of the quantities.
_TIME = ("time", "timestamp", "unix_s", "unix", "date", "datetime", "t")
_WATTS = ("watts", "w", "power", "power_w", "p")
_VOLTS = ("volts", "v", "voltage", "voltage_v", "u")
_AMPERES = ("amperes", "amps", "a", "current", "current_a", "i")
_UNITS = {"w": 1.0, "mw": 1e-3, "v": 1.0, "mv": 1e-3, "a": 1.0, "ma": 1e-3, "s": 1.0, "ms": 1e-3}
#: A meter that says nothing for longer leaves a hole over which nothing is assumed.
_LONGEST_GAP_S = 5.0
#: Idle is what the meter says for so long before the benchmark began, and at least a third of it.
_IDLE_S = 30.0


@dataclass(frozen=True)
class Power:
    """Power over time.

    Attributes:
        times_s: seconds, of the calendar's clock (since 1970) for a file; they do not fall.
        watts: the power at each.
    """

    times_s: Array
    watts: Array

    def joules(self) -> float:
        """The area below the readings joined by lines."""
        steps = np.diff(self.times_s)
        return float((steps * (self.watts[1:] + self.watts[:-1]) / 2).sum())

    def mean_w(self) -> float:
        """The mean over time."""
        seconds = float(self.times_s[-1] - self.times_s[0])
        return self.joules() / seconds if seconds > 0 else float(self.watts.mean())

    def between(self, begin_s: float, end_s: float) -> Power:
        """A part, with both ends put in between their neighbours.

        Args:
            begin_s: where it begins.
            end_s: where it ends.

        Raises:
            DataError: the readings do not reach from one end to the other, or have a hole in between.
        """
        if not len(self.times_s) or self.times_s[0] > begin_s or self.times_s[-1] < end_s:
            reach = "none at all"
            if len(self.times_s):
                reach = f"from {self.times_s[0]:.1f} to {self.times_s[-1]:.1f}"
            raise DataError(
                f"the meter's file has no readings for all of the time from {begin_s:.1f} to {end_s:.1f} (seconds since 1970): it has "
                f"{reach}. Let the meter run before, during and after the benchmark, with its clock set."
            )
        inside = (self.times_s > begin_s) & (self.times_s < end_s)
        ends = np.interp([begin_s, end_s], self.times_s, self.watts)
        times = np.concatenate([[begin_s], self.times_s[inside], [end_s]])
        around = slice(np.searchsorted(self.times_s, begin_s, "right") - 1, np.searchsorted(self.times_s, end_s) + 1)
        gap = float(np.diff(self.times_s[around]).max(initial=0))
        if gap > _LONGEST_GAP_S:
            raise DataError(
                f"the meter's file has a hole of {gap:.0f} s in the time that was measured: at most {_LONGEST_GAP_S:g} s can be bridged."
            )
        return Power(times, np.concatenate([[ends[0]], self.watts[inside], [ends[1]]]))


def read_power(path: str | os.PathLike[str]) -> Power:
    """Read a meter's CSV file.

    The first line that has a heading for the time (``time``, ``timestamp``, ``date``, …) and for the power (``power``, ``watts``, …) or
    for voltage and current is the head; a unit in brackets or behind an underscore counts (``Current (mA)``, ``voltage_mv``). Times are
    seconds since 1970, or dates in ISO 8601, local ones where they name no zone. Lines that are torn or empty are passed over.

    Args:
        path: the file, with commas, semicolons or tabs.

    Raises:
        DataError: it cannot be read, or has no such head or no readings below it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise from_os_error(error, path, "read", DataError) from error
    lines = text.splitlines()
    for number, line in enumerate(lines):
        separator = max(",;\t", key=line.count)
        columns = _columns(next(csv.reader([line], delimiter=separator), []))
        if columns is not None:
            rows = [found for row in csv.reader(lines[number + 1 :], delimiter=separator) if (found := columns(row))]
            rows.sort()
            if not rows:
                raise DataError(f"{path} has a head and no readings below it.")
            times, watts = (np.array(values, np.float64) for values in zip(*rows, strict=True))
            return Power(times, watts)
    raise DataError(
        f"{path} is not a meter's file: no line with headings for the time and for the power, or for voltage and current, was found. "
        "Expected such as: time,power"
    )


def _columns(heads: Sequence[str]) -> Callable[[Sequence[str]], tuple[float, float] | None] | None:
    """What reads a row of a file with these headings; ``None`` when they are not a meter's."""
    time_at = _find(heads, _TIME)
    power_at, volts_at, amperes_at = _find(heads, _WATTS), _find(heads, _VOLTS), _find(heads, _AMPERES)
    if time_at is None or (power_at is None and (volts_at is None or amperes_at is None)):
        return None

    def read(row: Sequence[str]) -> tuple[float, float] | None:
        try:
            when = _moment(row[time_at[0]], time_at[1])
            if power_at is not None:
                watts = float(row[power_at[0]]) * power_at[1]
            else:
                assert volts_at is not None
                assert amperes_at is not None
                watts = float(row[volts_at[0]]) * volts_at[1] * float(row[amperes_at[0]]) * amperes_at[1]
        except (ValueError, IndexError):
            return None
        return (when, watts) if math.isfinite(when) and math.isfinite(watts) else None

    return read


def _find(heads: Sequence[str], names: Sequence[str]) -> tuple[int, float] | None:
    """Where a quantity stands, and what its unit is worth."""
    for place, head in enumerate(heads):
        word = head.strip().strip("\"'").lower().replace(" ", "_").replace("[", "(").replace("]", ")")
        name, _, unit = word.partition("(")
        unit, name = unit.strip(")_"), name.strip("_")
        if not unit and name not in names and name.rpartition("_")[2] in _UNITS:
            name, _, unit = name.rpartition("_")
        if not unit and name in _UNITS and name.startswith("m") and name[1:] in names:
            name, unit = name[1:], name
        if name in names and (not unit or unit in _UNITS):
            return place, _UNITS.get(unit, 1.0)
    return None


def _moment(text: str, factor: float) -> float:
    """Seconds since 1970.

    Raises:
        ValueError: it is neither a number nor a date.
    """
    try:
        return float(text) * factor
    except ValueError:
        moment = text.strip()
        # Python 3.10 does not know the Z of ISO 8601.
        return datetime.fromisoformat(moment[:-1] + "+00:00" if moment.endswith(("Z", "z")) else moment).timestamp()


def _inferences(launch: Launch) -> int:
    if launch.samples is not None:
        return launch.samples
    return len(launch.total_ns) or sum(trial.queries for trial in launch.trials)


def with_meter(report: BenchmarkReport, path: str | os.PathLike[str], *, ahead_s: float = 0.0) -> BenchmarkReport:
    """Add what an external meter wrote to a benchmark that is done.

    Args:
        report: a benchmark whose launches know when their steady runs began.
        path: the meter's CSV file.
        ahead_s: how far the meter's clock is ahead of the machine's, in seconds.

    Returns:
        The benchmark with an energy reading in each launch. Idle is the power in the half minute before the benchmark began, where
        the file has it.

    Raises:
        DataError: the file does not cover the launches, or these do not know their times.
    """
    if any(launch.steady_started_unix_s is None for result in report.cases for launch in result.launches):
        raise DataError("the benchmark does not say when its steady runs began: measure it again with this edgekit.")
    power = read_power(path)
    power = Power(power.times_s - ahead_s, power.watts)
    began = report.started_unix_s
    first = max(began - _IDLE_S, float(power.times_s[0]))
    idle_w = power.between(first, began).mean_w() if began - first >= _IDLE_S / 3 else None
    source = f"the meter of {Path(path).name}"
    cases = []
    for result in report.cases:
        launches = []
        for launch in result.launches:
            start, seconds = launch.steady_started_unix_s, launch.steady_wall_ns / 1e9
            assert start is not None
            reading: dict[str, Any] = {
                "joules": power.between(start, start + seconds).joules(),
                "seconds": seconds,
                "inferences": _inferences(launch),
                "idle_w": idle_w,
                "source": source,
            }
            launches.append(dataclasses.replace(launch, energy=reading))
        cases.append(dataclasses.replace(result, launches=tuple(launches)))
    return dataclasses.replace(report, cases=tuple(cases))

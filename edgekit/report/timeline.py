"""What happened when: the runs of several launches side by side, with temperature, frequency and pace below, as inline SVG.

Each launch is a panel whose width is its time; between two panels is a gap of fixed width, whatever lay between them. Thousands of runs
are drawn as one line from the fastest to the slowest for each column of the picture, and a line through the columns' medians.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from edgekit.report.axes import Axis
from edgekit.report.html import figure
from edgekit.report.svg import WIDTH, picture
from edgekit.tensors import Array

_LEFT, _RIGHT, _TOP = 44, 6, 18
_HEIGHT, _STRIP = 130, 46
_BETWEEN = 22
#: Of all launches together; more than the picture has units would not be seen.
_COLUMNS = 300
#: Warm-up runs are shown up to so many times the steady runs' 99th percentile.
_ABOVE = 1.5
#: Least height of a band, in its unit or as a share of the highest value: noise is not to look like a fall.
_LEAST_SPAN, _LEAST_SHARE = 5.0, 0.08

#: Moments in seconds on any clock, and what was seen then: pairs, or an array of ``[n, 2]``.
Track = Sequence[tuple[float, float]] | Array


@dataclass(frozen=True)
class Stretch:
    """One launch.

    Attributes:
        label: what it was, for who points at it.
        begin_s: when it began, in seconds on any clock.
        end_s: when it was over.
        warm: moment and time of each warm-up run that was kept, in order.
        steady: moment and time of each steady run, in order.
        temperature: moment and degrees Celsius.
        frequency: moment and megahertz.
        pace: moment and how fast the processor was, in per cent of its full pace.
    """

    label: str
    begin_s: float
    end_s: float
    warm: Track = ()
    steady: Track = ()
    temperature: Track = ()
    frequency: Track = ()
    pace: Track = ()


@dataclass(frozen=True)
class Timeline:
    """A picture of launches over time; a part of a page.

    Attributes:
        title: above it.
        unit: of the runs' times.
        launches: in the order of time, at least one.
        caption: below it.
        columns: how finely the runs are drawn.
    """

    title: str
    unit: str
    launches: Sequence[Stretch]
    caption: str = ""
    columns: int = _COLUMNS

    def html(self) -> str:
        """The markup."""
        return figure(self.title, timeline(self.title, self.unit, self.launches, self.columns), self.caption)


def timeline(title: str, unit: str, launches: Sequence[Stretch], columns: int = _COLUMNS) -> str:
    """The picture alone.

    Args:
        title: for readers who cannot see it.
        unit: of the runs' times.
        launches: see ``Timeline``.
        columns: see ``Timeline``.
    """
    places = _Places(launches)
    parts, y = [], _TOP
    rows: list[tuple[str, Callable[[Stretch], Track]]] = [
        ("°C", lambda item: item.temperature),
        ("MHz", lambda item: item.frequency),
        ("pace %", lambda item: item.pace),
    ]
    if any(len(item.warm) or len(item.steady) for item in launches):
        parts += _runs(launches, places, unit, columns)
        y += _HEIGHT
    for what, track in rows:
        values = [value for item in launches for _, value in track(item)]
        if values:
            y += _BETWEEN if parts else 0
            parts += _strip(launches, places, y, what, track, values)
            y += _STRIP
    for number, item in enumerate(launches):
        left, right = places.panels[number]
        inner = f"<title>{escape(item.label)}</title>"
        parts.append(
            f'<rect class="seen" x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{y - _TOP}">{inner}</rect>'
        )
        every = max(1, -(-len(launches) // 12))
        if number % every == 0:
            middle = (left + right) / 2
            parts.append(f'<text class="tick" x="{middle:.1f}" y="{y + 16}" text-anchor="middle">{number + 1}</text>')
    parts.append(f'<text class="tick" x="{WIDTH - _RIGHT}" y="{y + 32}" text-anchor="end">launch</text>')
    return picture(title, y + 38, parts)


class _Places:
    """Where moments lie in the picture."""

    def __init__(self, launches: Sequence[Stretch]) -> None:
        self.gap = 4.0 if len(launches) <= 20 else 1.5
        spans = [max(item.end_s - item.begin_s, 1e-3) for item in launches]
        room = WIDTH - _LEFT - _RIGHT - self.gap * (len(launches) - 1)
        self.per_s = room / sum(spans)
        self.panels: list[tuple[float, float]] = []
        x = float(_LEFT)
        for seconds in spans:
            self.panels.append((x, x + seconds * self.per_s))
            x += seconds * self.per_s + self.gap

    def x(self, number: int, item: Stretch, at_s: float) -> float:
        left, right = self.panels[number]
        return min(max(left + (at_s - item.begin_s) * self.per_s, left), right)


def _runs(launches: Sequence[Stretch], places: _Places, unit: str, columns: int) -> list[str]:
    kinds = {"warm": [_pairs(item.warm) for item in launches], "run": [_pairs(item.steady) for item in launches]}
    warm, steady = (np.concatenate([pairs[:, 1] for pairs in kinds[kind]]) for kind in ("warm", "run"))
    shown = [float(steady.min()), float(np.percentile(steady, 99))] if len(steady) else []
    if len(warm):  # as far as it is of the steady runs' size: what is far above them is marked at the upper edge
        highest = float(warm.max())
        shown += [float(warm.min()), min(highest, _ABOVE * shown[1]) if shown else highest]
    axis = Axis.around(shown)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - axis.at(value))

    parts = _grid(axis, unit, y)
    for shade, tracks in kinds.items():
        above, spread, middle, single = [], "", "", []
        for number, (item, track) in enumerate(zip(launches, tracks, strict=True)):
            if not len(track):
                continue
            left, right = places.panels[number]
            share = max(8, round(columns * (right - left) / (WIDTH - _LEFT - _RIGHT)))
            xs = np.clip(left + (track[:, 0] - item.begin_s) * places.per_s, left, right)
            values = track[:, 1]
            if len(track) <= share // 2:
                single += [(x, y(value)) for x, value in zip(xs, values, strict=True)]
            else:
                line = []
                for x, low, mid, high in _binned(xs, values, max(2, share)):
                    spread += f"M{x:.1f},{y(high):.1f}V{y(low) + 0.5:.1f}"
                    line.append(f"{x:.1f},{y(mid):.1f}")
                middle += f"M{'L'.join(line)}"
            above += sorted({round(float(x)) for x in xs[values > axis.marks[-1] * (1 + 1e-9)]})
        parts += [f'<path class="{shade} spread" d="{spread}"/>'] * bool(spread)
        parts += [f'<path class="{shade}" d="{middle}"/>'] * bool(middle)
        parts += [f'<circle class="{shade} dot" cx="{x:.1f}" cy="{at:.1f}" r="1.6"/>' for x, at in single]
        if above:
            arrows = "".join(f"M{x - 2},{_TOP - 2}h4l-2,-5z" for x in above)
            parts.append(f'<path class="{shade} dot" d="{arrows}"/>')
    return parts


def _pairs(track: Track) -> Array:
    """A track as an array of ``[n, 2]``."""
    return np.asarray(track, dtype=float).reshape(-1, 2)


def _binned(xs: Array, values: Array, bins: int) -> list[tuple[float, float, float, float]]:
    """Place, smallest, median and largest of the values of each column that has any."""
    low, high = float(xs.min()), float(xs.max())
    if high <= low:
        return [(low, float(values.min()), float(np.median(values)), float(values.max()))]
    column = np.minimum(((xs - low) / (high - low) * bins).astype(int), bins - 1)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    groups = np.split(values, starts[1:])
    return [
        (
            low + (float(column[start]) + 0.5) / bins * (high - low),
            float(group.min()),
            float(np.median(group)),
            float(group.max()),
        )
        for start, group in zip(starts, groups, strict=True)
    ]


def _grid(axis: Axis, unit: str, y: Callable[[float], float]) -> list[str]:
    parts = []
    for number, mark in enumerate(axis.marks):
        at, last = y(mark), number == len(axis.marks) - 1
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{at:.1f}" x2="{WIDTH - _RIGHT}" y2="{at:.1f}"/>')
        text = axis.text(mark) + (f" {unit}" if last else "")
        where = f'x="{0 if last else _LEFT - 5}" text-anchor="{"start" if last else "end"}"'
        parts.append(f'<text class="tick" {where} y="{at + (-6 if last else 4):.1f}">{escape(text)}</text>')
    return parts


def _strip(
    launches: Sequence[Stretch],
    places: _Places,
    top: float,
    what: str,
    track: Callable[[Stretch], Track],
    values: Sequence[float],
) -> list[str]:
    """A band with a line in it, whose ends are named."""
    high = max(values)
    low = min(min(values), high - _LEAST_SPAN, high * (1 - _LEAST_SHARE))
    room = high - low

    def y(value: float) -> float:
        return top + _STRIP - 4 - (_STRIP - 8) * (value - low) / room

    line = ""
    for number, item in enumerate(launches):
        points = [f"{places.x(number, item, at):.1f},{y(value):.1f}" for at, value in track(item)]
        if len(points) == 1:  # a moment's value is one for the whole launch
            left, right = places.panels[number]
            points = [f"{left:.1f},{points[0].split(',')[1]}", f"{right:.1f},{points[0].split(',')[1]}"]
        line += f"M{'L'.join(points)}" if points else ""
    shade = "hot" if what == "°C" else "clock"
    texts = [(top + 2, f"{high:.0f}"), (top + _STRIP, f"{low:.0f}")]
    parts = [
        f'<text class="tick" x="{_LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{text}</text>' for at, text in texts
    ]
    parts.append(f'<text class="tick" x="0" y="{top + _STRIP / 2 + 4:.1f}">{what}</text>')
    parts += [
        f'<line class="grid" x1="{_LEFT}" y1="{at}" x2="{WIDTH - _RIGHT}" y2="{at}"/>' for at in (top, top + _STRIP)
    ]
    return [*parts, f'<path class="{shade}" d="{line}"/>']

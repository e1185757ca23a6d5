"""How a figure went over time, as inline SVG: points with intervals in the order in which they were measured.

Colours are the page's own classes, as in ``svg``. The axis does not begin at zero: what matters of a trend is a few per cent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edgekit.report.html import figure

_WIDTH, _LEFT, _RIGHT = 360, 52, 14
_TOP, _HEIGHT, _BELOW = 18, 150, 40


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        label: what it is of, for who points at it.
        value: the figure.
        low: lower end of its interval, or ``None``.
        high: upper end.
        sound: whether it may be believed; others are drawn hollow.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    sound: bool = True


@dataclass(frozen=True)
class Trend:
    """A picture of points in order, joined by a line; a part of a page.

    Attributes:
        title: above it.
        unit: of the axis.
        points: from left to right, at least one.
        caption: below it.
    """

    title: str
    unit: str
    points: Sequence[Point]
    caption: str = ""

    def html(self) -> str:
        """The markup."""
        return figure(self.title, trend(self.title, self.unit, self.points), self.caption)


def span(low: float, high: float) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``, three to seven of them.

    Args:
        low: the smallest value.
        high: the largest.
    """
    width = high - low or abs(high) * 0.1 or 1.0
    power = 10.0 ** math.floor(math.log10(width))
    step = next(factor * power / 10 for factor in (2, 5, 10, 20, 50) if factor * power / 10 * 5 >= width)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last - first < 2:
        first, last = first - 1, last + 1
    return [number * step for number in range(first, last + 1)]


def trend(title: str, unit: str, points: Sequence[Point]) -> str:
    """The picture alone.

    Args:
        title: for readers who cannot see it.
        unit: of the axis.
        points: from left to right, at least one.
    """
    lows = [point.value if point.low is None else min(point.low, point.value) for point in points]
    highs = [point.value if point.high is None else max(point.high, point.value) for point in points]
    marks = span(min(lows), max(highs))
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (marks[-1] - value) / (marks[-1] - marks[0])

    step = (_WIDTH - _LEFT - _RIGHT - 12) / max(1, len(points) - 1)
    places = [_LEFT + 6 + number * step for number in range(len(points))]
    parts = []
    for number, mark in enumerate(marks):
        last = number == len(marks) - 1
        text = f"{mark:.{digits}f}" + (f" {unit}" if last else "")
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y(mark):.1f}" x2="{_WIDTH - _RIGHT}" y2="{y(mark):.1f}"/>')
        # The unit stands with the uppermost number, above the line, where it has room.
        place = f'x="0" y="{y(mark) - 5:.1f}"' if last else f'x="{_LEFT - 5}" y="{y(mark) + 4:.1f}" text-anchor="end"'
        parts.append(f'<text class="tick" {place}>{escape(text)}</text>')
    line = "L".join(f"{x:.1f},{y(point.value):.1f}" for x, point in zip(places, points, strict=True))
    parts.append(f'<path class="whisker" stroke-opacity="0.3" d="M{line}"/>')
    for x, point in zip(places, points, strict=True):
        if point.low is not None and point.high is not None:
            low, high = y(point.low), y(point.high)
            parts.append(
                f'<path class="whisker" d="M{x - 3:.1f},{low:.1f}h6M{x:.1f},{low:.1f}V{high:.1f}M{x - 3:.1f},{high:.1f}h6"/>'
            )
        look = 'class="s1"' if point.sound else 'class="whisker"'
        told = f"{point.label}: {point.value:.{digits + 1}f} {unit}"
        parts.append(
            f'<circle {look} cx="{x:.1f}" cy="{y(point.value):.1f}" r="4"><title>{escape(told)}</title></circle>'
        )
    base = _TOP + _HEIGHT + 20
    parts.append(f'<text class="tick" x="{_LEFT}" y="{base}">{escape(points[0].label)}</text>')
    if len(points) > 1:
        parts.append(
            f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{base + 16}" text-anchor="end">{escape(points[-1].label)}</text>'
        )
    height = _TOP + _HEIGHT + _BELOW
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )

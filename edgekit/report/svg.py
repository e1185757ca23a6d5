"""Pictures as inline SVG: bars with intervals, and distributions. No script, no font, nothing from outside.

Colours are classes that the page's style sheet sets for light and dark. A picture is 360 units wide, the width
of a phone, so that its text is as large there as the page's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH = 360
_LEFT = 4
_RIGHT = 20
_BAR = 26
_STEP = 58
#: Of many bars below each other.
_THIN_BAR = 9
_THIN_STEP = 34


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: what it stands for.
        value: its length, at least 0.
        text: the value for people, with its unit.
        low: lower end of an interval, or ``None``.
        high: upper end.
        series: 0 or 1: which of the page's two colours.
    """

    label: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    series: int = 0


def ticks(top: float) -> list[float]:
    """Round numbers from 0 to at least ``top``, three to six of them.

    Args:
        top: the largest value, more than 0.
    """
    power = 10.0 ** math.floor(math.log10(top))
    step = next(factor * power / 10 for factor in (2, 5, 10, 20, 50) if factor * power / 10 * 5 >= top)
    count = math.ceil(top / step - 1e-9)
    return [number * step for number in range(count + 1)]


def bars(title: str, unit: str, items: Sequence[Bar], top: float | None = None, *, thin: bool = False) -> str:
    """Horizontal bars over an axis that begins at zero.

    Args:
        title: for readers who cannot see it.
        unit: of the axis.
        items: from top to bottom.
        top: where the axis ends; ``None`` for a round number above the largest value.
        thin: whether there are many, so that each has less room.
    """
    bar, step = (_THIN_BAR, _THIN_STEP) if thin else (_BAR, _STEP)
    largest = max([item.high or item.value for item in items] + [item.value for item in items])
    marks = ticks(top or largest or 1.0)
    end = top or marks[-1]
    marks = [mark for mark in marks if mark <= end * 1.0001]
    height = step * len(items) + 34
    parts = [_axis(marks, end, unit, step * len(items) + 4)]
    for number, item in enumerate(items):
        y = number * step + (20 if thin else 24)
        parts.append(f'<text class="name" x="{_LEFT}" y="{y - 7}">{escape(item.label)}</text>')
        parts.append(
            f'<text class="value" x="{WIDTH - _RIGHT}" y="{y - 7}" text-anchor="end">{escape(item.text)}</text>'
        )
        width = _x(item.value, end) - _LEFT
        parts.append(f'<rect class="s{item.series}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{bar}" rx="2"/>')
        if item.low is not None and item.high is not None:
            parts.append(_whisker(_x(item.low, end), _x(min(item.high, end), end), y + bar / 2))
    return picture(title, height, parts)


def distributions(title: str, unit: str, items: Sequence[tuple[str, Sequence[float]]], bins: int = 60) -> str:
    """One histogram for each series, over one axis that begins at zero; a line marks the median.

    The axis ends at the largest 99th percentile; what lies above is counted in a note, not drawn.

    Args:
        title: for readers who cannot see it.
        unit: of the values.
        items: name and values of each series.
        bins: how many columns.
    """
    end = ticks(max(float(np.percentile(values, 99)) for _, values in items) * 1.02)[-1]
    row = 84
    parts = [_axis(ticks(end), end, unit, row * len(items) + 4)]
    for number, (name, values) in enumerate(items):
        base = number * row + row - 2
        counts, edges = np.histogram(np.asarray(values, dtype=float), bins=bins, range=(0, end))
        tall = 52 / max(1, int(counts.max()))
        path = f"M{_x(edges[0], end):.1f},{base}"
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
            y = base - count * tall
            path += f"L{_x(left, end):.1f},{y:.1f}L{_x(right, end):.1f},{y:.1f}"
        parts.append(f'<path class="s{number % 2}" d="{path}L{_x(end, end):.1f},{base}Z"/>')
        middle = _x(float(np.median(values)), end)
        parts.append(f'<line class="mark" x1="{middle:.1f}" y1="{base - 58}" x2="{middle:.1f}" y2="{base}"/>')
        beyond = int(np.count_nonzero(np.asarray(values) > end))
        note = f"{len(values)} runs" + (f", {beyond} beyond the axis" if beyond else "")
        parts.append(f'<text class="name" x="{_LEFT}" y="{base - 66}">{escape(name)}</text>')
        parts.append(f'<text class="tick" x="{WIDTH - _RIGHT}" y="{base - 66}" text-anchor="end">{escape(note)}</text>')
    return picture(title, row * len(items) + 34, parts)


def _x(value: float, end: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(max(value / end, 0.0), 1.0)


def _axis(marks: Sequence[float], end: float, unit: str, y: float) -> str:
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]))) if len(marks) > 1 else 0
    parts = []
    for number, mark in enumerate(marks):
        x = _x(mark, end)
        text = f"{mark:.{digits}f}" + (f" {unit}" if number == len(marks) - 1 else "")
        anchor = "start" if number == 0 else "end" if number == len(marks) - 1 else "middle"
        shift = _RIGHT if number == len(marks) - 1 else 0
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x + shift:.1f}" y="{y + 18:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    return "".join(parts)


def _whisker(low: float, high: float, y: float) -> str:
    return f'<path class="whisker" d="M{low:.1f},{y - 5}v10M{low:.1f},{y}H{high:.1f}M{high:.1f},{y - 5}v10"/>'


def picture(title: str, height: float, parts: Sequence[str]) -> str:
    """A drawing with a name, ``WIDTH`` units wide.

    Args:
        title: for readers who cannot see it.
        height: in the same units.
        parts: what is drawn, as SVG.
    """
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )

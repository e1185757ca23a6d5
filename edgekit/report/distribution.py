"""How the times of one series are spread, as inline SVG: a histogram with its percentiles marked.

The axis does not begin at zero, since the runs of one case lie close together; it is logarithmic where they do not. However many
values there are, the picture holds its columns only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from edgekit.report.axes import Axis
from edgekit.report.html import figure
from edgekit.report.svg import WIDTH, picture
from edgekit.tensors import Array

_LEFT, _RIGHT = 6, 20
_LABEL = 15
_HEIGHT = 110
_MOST_BINS = 72


@dataclass(frozen=True)
class Histogram:
    """A picture of how values are spread; a part of a page.

    Attributes:
        title: above it.
        unit: of the values.
        values: one or more.
        marks: values that a line stands at, by what to call them, in ascending order.
        rug: values below the axis, such as each launch's median.
        caption: below it.
    """

    title: str
    unit: str
    values: Sequence[float]
    marks: Mapping[str, float]
    rug: Sequence[float] = ()
    caption: str = ""

    def html(self) -> str:
        """The markup."""
        return figure(self.title, histogram(self.title, self.unit, self.values, self.marks, self.rug), self.caption)


def histogram(
    title: str, unit: str, values: Sequence[float], marks: Mapping[str, float], rug: Sequence[float] = ()
) -> str:
    """The picture alone. It ends at the 99th percentile or the last mark; what lies above is counted in a note.

    Args:
        title: for readers who cannot see it.
        unit: of the values.
        values: one or more.
        marks: see ``Histogram``.
        rug: see ``Histogram``.
    """
    every = np.asarray(values, dtype=float)
    low, end = float(every.min()), max([float(np.percentile(every, 99)), *marks.values(), *rug])
    axis = Axis.around([low, end, *rug])
    top = _LABEL * len(marks) + 4
    base = top + _HEIGHT
    counts, places = _columns(every, axis)
    tall = _HEIGHT / max(1, int(counts.max()))
    path = f"M{_x(places[0]):.1f},{base}" + "".join(
        f"V{base - count * tall:.1f}H{_x(place):.1f}" for count, place in zip(counts, places[1:], strict=True)
    )
    parts = _scale(axis, unit, top, base)
    parts.append(f'<path class="s1" d="{path}V{base}Z"/>')
    for number, value in enumerate(marks.values()):
        x = _x(axis.at(value))
        parts.append(f'<line class="mark" x1="{x:.1f}" y1="{_LABEL * number + 2}" x2="{x:.1f}" y2="{base}"/>')
    for number, (name, value) in enumerate(marks.items()):  # behind the lines, which they cover
        x, y = _x(axis.at(value)), _LABEL * number + 11
        anchor, shift = ("end", -4) if x > WIDTH * 0.6 else ("start", 4)
        text = f"{name} {_figure(value)} {unit}"
        parts.append(
            f'<text class="tick told" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    for value in rug:
        x = _x(axis.at(value))
        parts.append(f'<line class="mark" x1="{x:.1f}" y1="{base + 2}" x2="{x:.1f}" y2="{base + 8}"/>')
    beyond = int(np.count_nonzero(every > axis.marks[-1]))
    note = f"{len(every):,} runs" + (f", {beyond:,} beyond the axis" if beyond else "")
    parts.append(f'<text class="tick" x="{_LEFT}" y="{base + 40}">{escape(note)}</text>')
    return picture(title, base + 46, parts)


def _columns(values: Array, axis: Axis) -> tuple[Array, list[float]]:
    """Counts of columns of one width in the picture, and where they begin and end, from 0 to 1."""
    bins = int(min(_MOST_BINS, max(12, round(2 * len(values) ** 0.5))))
    low, high = axis.marks[0], axis.marks[-1]
    edges = np.geomspace(low, high, bins + 1) if axis.log else np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(values, bins=edges)
    return counts, [number / bins for number in range(bins + 1)]


def _scale(axis: Axis, unit: str, top: float, base: float) -> list[str]:
    parts = []
    texts = axis.texts(unit, WIDTH - _LEFT - _RIGHT)
    for number, (mark, text) in enumerate(zip(axis.marks, texts, strict=True)):
        x, last = _x(axis.at(mark)), number == len(axis.marks) - 1
        anchor = "start" if number == 0 else "end" if last else "middle"
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{base}"/>')
        parts.append(
            f'<text class="tick" x="{x + (_RIGHT if last else 0):.1f}" y="{base + 22}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    return parts


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _x(place: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * place

"""Figures with their intervals below each other, each a point on a line, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edgekit.report.axes import Axis
from edgekit.report.html import figure
from edgekit.report.svg import WIDTH, picture

_LEFT, _RIGHT = 8, 22
_STEP = 40


@dataclass(frozen=True)
class Estimate:
    """One figure.

    Attributes:
        label: what it is of.
        value: the figure.
        text: the figure for people, with its interval.
        low: lower end of an interval, or ``None``.
        high: upper end.
        sound: whether it may be believed; others are drawn hollow.
    """

    label: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    sound: bool = True


@dataclass(frozen=True)
class Forest:
    """A picture of figures with intervals; a part of a page.

    Attributes:
        title: above it.
        unit: of the axis.
        items: from the top, one or more.
        caption: below it.
        reference: where a line stands that the figures are held against, such as 1 for ratios; ``None`` for none.
    """

    title: str
    unit: str
    items: Sequence[Estimate]
    caption: str = ""
    reference: float | None = None

    def html(self) -> str:
        """The markup."""
        return figure(self.title, forest(self.title, self.unit, self.items, self.reference), self.caption)


def forest(title: str, unit: str, items: Sequence[Estimate], reference: float | None = None) -> str:
    """The picture alone.

    Args:
        title: for readers who cannot see it.
        unit: of the axis.
        items: see ``Forest``.
        reference: see ``Forest``.
    """
    values = [end for item in items for end in (item.value, item.low, item.high) if end is not None]
    axis = Axis.around([*values, *(() if reference is None else (reference,))])
    base = _STEP * len(items) + 2

    def x(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * axis.at(value)

    parts = []
    texts = axis.texts(unit, WIDTH - _LEFT - _RIGHT)
    for number, (mark, text) in enumerate(zip(axis.marks, texts, strict=True)):
        last = number == len(axis.marks) - 1
        anchor = "start" if number == 0 else "end" if last else "middle"
        shift = -_LEFT if number == 0 else _RIGHT if last else 0
        parts.append(f'<line class="grid" x1="{x(mark):.1f}" y1="0" x2="{x(mark):.1f}" y2="{base}"/>')
        parts.append(
            f'<text class="tick" x="{x(mark) + shift:.1f}" y="{base + 17}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    if reference is not None:
        parts.append(f'<line class="bound" x1="{x(reference):.1f}" y1="0" x2="{x(reference):.1f}" y2="{base}"/>')
    for number, item in enumerate(items):
        y = _STEP * number + 28
        low, high = item.low, item.high
        parts.append(f'<text class="tick told" x="0" y="{y - 12}">{escape(_short(item.label, item.text))}</text>')
        parts.append(f'<text class="tick told" x="{WIDTH}" y="{y - 12}" text-anchor="end">{escape(item.text)}</text>')
        if low is not None and high is not None:
            parts.append(
                f'<path class="whisker" d="M{x(low):.1f},{y - 4}v8M{x(low):.1f},{y}H{x(high):.1f}M{x(high):.1f},{y - 4}v8"/>'
            )
        told = f"{item.label}: {item.text}"
        shade = "s1" if item.sound else "hollow"
        parts.append(
            f'<circle class="{shade}" cx="{x(item.value):.1f}" cy="{y}" r="4.5"><title>{escape(told)}</title></circle>'
        )
    return picture(title, base + 22, parts)


#: Units of the picture that a letter takes at most, about.
_LETTER = 7.2


def _short(label: str, beside: str) -> str:
    """A label as long as there is room beside the figure: its beginning and its end, which tell names apart."""
    room = max(12, int(WIDTH / _LETTER) - len(beside) - 2)
    if len(label) <= room:
        return label
    tail = room // 2
    return f"{label[: room - tail - 1]}…{label[-tail:]}"

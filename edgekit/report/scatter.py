"""Points over two axes, with lines that they are held against, as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from edgekit.report.axes import Axis
from edgekit.report.html import figure
from edgekit.report.svg import WIDTH, picture

_LEFT, _RIGHT, _TOP, _HEIGHT, _BELOW = 46, 14, 22, 200, 42


@dataclass(frozen=True)
class Dot:
    """One point.

    Attributes:
        x: its place.
        y: its place.
        told: what it is, for who points at it or hears it.
        name: what is written beside it; short, such as a number.
        filled: whether it is full; others are hollow.
        radius: in units of the picture.
        x_ends: lower and upper end of an interval, or ``None``.
        y_ends: the same of the other axis.
    """

    x: float
    y: float
    told: str
    name: str = ""
    filled: bool = True
    radius: float = 4.5
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """A line through points.

    Attributes:
        points: places, two or more.
        told: what it is.
        name: what is written at its end.
        bound: whether it is a limit, drawn dashed.
    """

    points: Sequence[tuple[float, float]]
    told: str
    name: str = ""
    bound: bool = False


@dataclass(frozen=True)
class Scatter:
    """A picture of points; a part of a page.

    Attributes:
        title: above it.
        x_unit: what stands at the end of the lower axis.
        y_unit: what stands at the end of the upright axis.
        dots: one or more.
        lines: what they are held against.
        caption: below it.
        log: whether the lower and the upright axis are logarithmic; ``None`` for what suits the values.
    """

    title: str
    x_unit: str
    y_unit: str
    dots: Sequence[Dot]
    lines: Sequence[Line] = ()
    caption: str = ""
    log: tuple[bool | None, bool | None] = (None, None)

    def html(self) -> str:
        """The markup."""
        return figure(self.title, scatter(self), self.caption)


def scatter(what: Scatter) -> str:
    """The picture alone.

    Args:
        what: see ``Scatter``.
    """
    xs, ys = _values(what, 0), _values(what, 1)
    across, up = Axis.around(xs, log=what.log[0]), Axis.around(ys, log=what.log[1])

    def x(value: float) -> float:
        return _LEFT + 6 + (WIDTH - _LEFT - _RIGHT - 12) * across.at(value)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - up.at(value))

    base = _TOP + _HEIGHT
    parts = []
    for number, mark in enumerate(up.marks):
        last = number == len(up.marks) - 1
        where = f'x="{0 if last else _LEFT - 5}" text-anchor="{"start" if last else "end"}"'
        text = up.text(mark) + (f" {what.y_unit}" if last else "")
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y(mark):.1f}" x2="{WIDTH - _RIGHT}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text class="tick" {where} y="{y(mark) + (-7 if last else 4):.1f}">{escape(text)}</text>')
    texts = across.texts("", WIDTH - _LEFT - _RIGHT)
    for number, (mark, text) in enumerate(zip(across.marks, texts, strict=True)):
        last = number == len(across.marks) - 1
        anchor = "end" if last else "middle"
        parts.append(f'<line class="grid" x1="{x(mark):.1f}" y1="{_TOP}" x2="{x(mark):.1f}" y2="{base}"/>')
        at = WIDTH if last else x(mark)
        parts.append(f'<text class="tick" x="{at:.1f}" y="{base + 18}" text-anchor="{anchor}">{escape(text)}</text>')
    parts.append(f'<text class="tick" x="{WIDTH}" y="{base + 35}" text-anchor="end">{escape(what.x_unit)}</text>')
    for line in what.lines:
        path = "L".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
        shade = "bound" if line.bound else "clock"
        parts.append(f'<path class="{shade}" d="M{path}"><title>{escape(line.told)}</title></path>')
        if line.name:
            at, value = line.points[-1]
            parts.append(
                f'<text class="tick told" x="{x(at):.1f}" y="{y(value) - 5:.1f}" text-anchor="end">{escape(line.name)}</text>'
            )
    for dot in what.dots:
        parts += _whiskers(dot, x, y)
        shade = "s1" if dot.filled else "hollow"
        parts.append(
            f'<circle class="{shade}" cx="{x(dot.x):.1f}" cy="{y(dot.y):.1f}" r="{dot.radius:g}"><title>{escape(dot.told)}</title></circle>'
        )
    for dot in what.dots:
        if dot.name:
            right = x(dot.x) > WIDTH - 40
            place = f'x="{x(dot.x) + (-8 if right else 8):.1f}" text-anchor="{"end" if right else "start"}"'
            parts.append(f'<text class="tick told" {place} y="{y(dot.y) - 6:.1f}">{escape(dot.name)}</text>')
    return picture(what.title, base + _BELOW, parts)


def _values(what: Scatter, side: int) -> list[float]:
    found = [(dot.x, dot.y)[side] for dot in what.dots]
    found += [end for dot in what.dots for end in ((dot.x_ends, dot.y_ends)[side] or ())]
    return found + [point[side] for line in what.lines for point in line.points]


def _whiskers(dot: Dot, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    parts = []
    if dot.x_ends is not None:
        low, high = (x(end) for end in dot.x_ends)
        parts.append(f'<path class="whisker" d="M{low:.1f},{y(dot.y):.1f}H{high:.1f}"/>')
    if dot.y_ends is not None:
        low, high = (y(end) for end in dot.y_ends)
        parts.append(f'<path class="whisker" d="M{x(dot.x):.1f},{low:.1f}V{high:.1f}"/>')
    return parts

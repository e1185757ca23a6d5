"""Pictures of figures along the depth of a network, as inline SVG; ``edgekit.report.svg`` says how such pictures are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edgekit.report.layer_fields import decibels
from edgekit.report.svg import ticks

Json = Mapping[str, Any]

_WIDTH = 360
_LEFT = 34
_RIGHT = 10
_TOP = 14
_HEIGHT = 190


def noise_along(rows: Sequence[Json]) -> str:
    """SQNR of each layer over its place in the network, as inline SVG; layers without error lie on the upper edge.

    Args:
        rows: layers, as ``LayerReport.to_json`` gives them.
    """
    finite: list[float] = [row["sqnr_db"] for row in rows if row["sqnr_db"] is not None] or [0.0]
    low, high = min(0.0, min(finite)), max(10.0, max(finite))
    step = next(size for size in (2, 5, 10, 20, 50, 100, 1000) if (high - low) / size <= 6)
    low, high = step * math.floor(low / step), step * math.ceil(high / step)
    marks = [low + number * step for number in range(round((high - low) / step) + 1)]

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - (value - low) / (high - low))

    points = []
    for number, row in enumerate(rows):
        value = row["sqnr_db"]
        if value is None:
            value = high if row["noise_share"] == 0 else low
        points.append((_x(number, len(rows)), y(value)))
    line = "M" + "L".join(f"{x:.1f},{at:.1f}" for x, at in points)
    radius = 3 if len(rows) <= 60 else 2
    parts = [
        *_grid([(y(mark), f"{mark:.0f}") for mark in marks], "dB"),
        f'<path d="{line}" style="fill:none;stroke:var(--s0);stroke-width:1.5"/>',
    ]
    for (x, at), row in zip(points, rows, strict=True):
        shade = ' style="fill:var(--bad)"' if row["worst"] else ""
        size = radius + 1.5 if row["worst"] else radius
        parts.append(f'<circle class="s1" cx="{x:.1f}" cy="{at:.1f}" r="{size}"{shade}>{_title(row)}</circle>')
    marked = [(x, at, str(row["number"])) for (x, at), row in zip(points, rows, strict=True) if row["worst"]]
    parts += _labels(marked, 18)  # below, where the line to the better neighbours is not
    return _svg("SQNR of each layer, in dB", [*parts, *_places(len(rows))])


def alone_along(rows: Sequence[Json]) -> str:
    """The share of the error that each layer adds alone, over its place in the network, as inline SVG.

    Args:
        rows: layers, as ``LayerReport.to_json`` gives them.
    """
    total = sum(row["alone_share"] or 0.0 for row in rows)
    shares = [100 * (row["alone_share"] or 0.0) / total if total else 0.0 for row in rows]
    marks = ticks(max(shares) or 1.0)
    end = marks[-1]
    digits = 0 if marks[1] >= 1 else 1
    width = max(1.5, min(16.0, 0.8 * (_WIDTH - _LEFT - _RIGHT) / len(rows)))
    parts = _grid([(_TOP + _HEIGHT * (1 - mark / end), f"{mark:.{digits}f}") for mark in marks], "%")
    labels = []
    for number, (share, row) in enumerate(zip(shares, rows, strict=True)):
        x, tall = _x(number, len(rows)), _HEIGHT * share / end
        shade = ' style="fill:var(--bad)"' if row["worst"] else ""
        parts.append(
            f'<rect class="s1" x="{x - width / 2:.1f}" y="{_TOP + _HEIGHT - tall:.1f}" width="{width:.1f}" '
            f'height="{tall:.1f}"{shade}>{_title(row)}</rect>'
        )
        if row["worst"]:
            labels.append((x, _TOP + _HEIGHT - tall, str(row["number"])))
    return _svg(
        "Error that each layer adds alone, in percent of the sum", [*parts, *_labels(labels, -6), *_places(len(rows))]
    )


def _x(number: int, count: int) -> float:
    inner = _WIDTH - _LEFT - _RIGHT - 16
    return _LEFT + 8 + inner * (number / (count - 1) if count > 1 else 0.5)


def _grid(marks: Sequence[tuple[float, str]], unit: str) -> list[str]:
    parts = []
    for number, (y, text) in enumerate(marks):
        words = f"{text} {unit}" if number == len(marks) - 1 else text
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        # The unit stands with the uppermost number, above the line, where it has room.
        at, anchor = (0, "start") if number == len(marks) - 1 else (_LEFT - 5, "end")
        lift = -4 if number == len(marks) - 1 else 4
        parts.append(f'<text class="tick" x="{at}" y="{y + lift:.1f}" text-anchor="{anchor}">{escape(words)}</text>')
    return parts


def _places(count: int) -> list[str]:
    """Numbers of layers below the axis, as in the table."""
    wanted = min(5, count)
    numbers = sorted({round(place * (count - 1) / max(1, wanted - 1)) for place in range(wanted)})
    y = _TOP + _HEIGHT + 17
    return [f'<text class="tick" x="{_x(n, count):.1f}" y="{y}" text-anchor="middle">{n}</text>' for n in numbers]


def _labels(points: Sequence[tuple[float, float, str]], shift: float) -> list[str]:
    """The numbers of the marked layers beside their marks; neighbours make room for each other.

    Args:
        points: where the marks are, and the numbers.
        shift: how far below a mark its number stands; negative for above.
    """
    parts = []
    points = sorted(points)
    for number, (x, y, text) in enumerate(points):
        near = [0 <= other < len(points) and abs(points[other][0] - x) < 22 for other in (number - 1, number + 1)]
        anchor = {(True, False): "start", (False, True): "end"}.get((near[0], near[1]), "middle")
        at = y + shift * (2 if all(near) else 1)
        parts.append(f'<text class="value" x="{x:.1f}" y="{at:.1f}" text-anchor="{anchor}">{escape(text)}</text>')
    return parts


def _title(row: Json) -> str:
    """What a pointer over a mark shows."""
    text = f"{row['number']} {row['operator']} {row['name']}: {decibels(row['noise_share'], row['sqnr_db'])}"
    if row["alone_db"] is not None:
        text += f", alone {row['alone_db']:.1f} dB"
    return f"<title>{escape(text)}</title>"


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_TOP + _HEIGHT + 24}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )

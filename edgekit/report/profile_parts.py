"""Times by operator as parts of a page: bars, the roofline with the operators below it, and the tables."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from edgekit.bench.damage import check_fields
from edgekit.bench.op_times import GROUP_FIELDS, OP_FIELDS, Group, OpProfile
from edgekit.bench.roofline import Roofline
from edgekit.errors import DataError, from_os_error
from edgekit.report import html
from edgekit.report.fields import table
from edgekit.report.scatter import Dot, Line, Scatter
from edgekit.report.svg import Bar
from edgekit.report.units import milliseconds, percent

#: More kinds of operators than this are one bar together.
_BARS = 10
#: The operators that take longest are named in the roofline's picture.
_NAMED = 3
_QUANTISED = ("int8", "int16")


def read_profile(path: str | os.PathLike[str]) -> OpProfile:
    """Read a profile's file.

    Args:
        path: what ``edgekit bench profile -o`` wrote.

    Raises:
        DataError: it is not one, or cannot be read.
    """
    expected = "A file that `edgekit bench profile -o` wrote was expected."
    try:
        data = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise from_os_error(error, path, "read", DataError) from error
    except ValueError as error:
        raise DataError(f"{path} is not a profile: {error}. {expected}") from error
    if not isinstance(data, dict) or data.get("type") != "edgekit-profile":
        raise DataError(f"{path} is not a profile. {expected}")
    if data.get("schema") != 1:
        raise DataError(f"{path} has schema {data.get('schema')}, this edgekit reads 1. Update edgekit.")
    try:
        found = OpProfile.from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error!r}): measure again.") from error
    check_fields([found, *found.ops, *([] if found.roofline is None else [found.roofline])], str(path))
    if not found.ops:
        raise DataError(f"{path} holds no operator: measure again.")
    return found


def profile_parts(profile: OpProfile) -> list[html.Part]:
    """Everything of a profile.

    Args:
        profile: of one model.
    """
    threads = f"{profile.threads} thread{'s' if profile.threads != 1 else ''}"
    text = (
        f"{milliseconds(profile.whole_ns)} a run on {profile.delegate}, {threads}, {profile.engine}. Each operator was run as a model "
        f"of its own; together they take {percent(profile.explained, 0)} of the whole model's time."
    )
    pictures: list[html.Part] = [_bars(profile.by_name())]
    ceiling = None if profile.roofline is None else _roofline(profile, profile.roofline)
    if ceiling is not None:
        pictures.append(ceiling)
    return [
        html.Text(text),
        html.Row(pictures),
        _table("Time by operator", *table(GROUP_FIELDS, profile.by_name())),
        _table("Time by partition", *table(GROUP_FIELDS, profile.by_partition())),
        html.Details("Each operator", [_table("Time of each operator", *table(OP_FIELDS, profile.ops))]),
    ]


def _table(label: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> html.Part:
    return html.Table(rows, titles, (), label)


def _bars(groups: Sequence[Group]) -> html.Part:
    shown = sorted(groups, key=lambda group: -group.total_ns)
    rest = shown[_BARS:]
    items = [
        Bar(
            f"{group.name} × {group.count}", group.total_ns / 1e6,
            f"{milliseconds(group.total_ns)}, {percent(group.share, 0)}", series=1,
        )
        for group in shown[:_BARS]
    ]  # fmt: skip
    if rest:
        total = sum(group.total_ns for group in rest)
        share = percent(sum(group.share for group in rest), 0)
        items.append(Bar(f"{len(rest)} other kinds", total / 1e6, f"{milliseconds(total)}, {share}", series=0))
    return html.Bars("Time by operator", "ms", items, "Each operator alone; the share is of their sum.", thin=True)


def _roofline(profile: OpProfile, ceiling: Roofline) -> html.Part | None:
    """Operators that multiply, under what the machine can do at most."""
    timed = [op for op in profile.ops if op.gmacs and op.size_bytes]
    if not timed or not ceiling.peak_gmacs or not ceiling.bandwidth_gbs:
        return None
    longest = sorted(timed, key=lambda op: -(op.median_ns or 0.0))[:_NAMED]
    dots = []
    for op in timed:
        share = (op.median_ns or 0.0) / profile.sum_ns if profile.sum_ns else 0.0
        reached = "" if op.of_ceiling is None else f", {percent(op.of_ceiling, 0)} of its ceiling"
        told = f"{op.index} {op.name} ({op.type}): {milliseconds(op.median_ns or 0.0)}, {op.gmacs:.3g} GMAC/s{reached}"
        name = str(op.index) if op in longest else ""
        dots.append(Dot(op.macs / op.size_bytes, op.gmacs or 0.0, told, name, radius=round(3 + 9 * share**0.5, 1)))
    used = {"int8" if op.type in _QUANTISED else "float32" for op in timed}
    peaks = {dtype: peak for dtype, peak in ceiling.peak_gmacs.items() if dtype in used} or dict(ceiling.peak_gmacs)
    fast, slow = max(ceiling.bandwidth_gbs.values()), min(ceiling.bandwidth_gbs.values())
    xs = [dot.x for dot in dots]
    lines = []
    for dtype, peak in peaks.items():
        low, high = min(*xs, peak / fast) / 1.5, max(*xs, peak / slow) * 1.5
        for bandwidth in dict.fromkeys((fast, slow)):
            roof = [(low, low * bandwidth), (peak / bandwidth, peak), (high, peak)]
            words = f"at most {peak:.3g} GMAC/s in {dtype}, {bandwidth:.3g} GB/s"
            lines.append(Line(roof, words, f"{dtype} {peak:.3g}" if bandwidth == fast else "", bound=bandwidth == slow))
    return Scatter(
        "Roofline", "MAC per byte", "GMAC/s", dots, lines,
        f"A point for each operator, the larger the longer it takes; those that take longest have their number. The ceiling was "
        f"measured: {slow:.3g} to {fast:.3g} GB/s, by size.",
        (True, True),
    )  # fmt: skip

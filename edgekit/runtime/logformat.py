"""The latency log's file format: what its lines are.

Each line is JSON. The first line is a header, an object with ``"type": "edgekit-latency"``; an array is one run, in the order
of the header's ``fields``; other objects say what else happened (``docs/latency-log.md`` lists them). Schema 1, which had no
queue time and no sequence numbers, is still read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.runtime.latency import PHASES

SCHEMA = 2
TYPE = "edgekit-latency"
#: What a run's line holds, in schema 2.
FIELDS: tuple[str, ...] = ("sequence", "start_ns", *(f"{phase}_ns" for phase in PHASES))
#: Schema 1: start_ns, copy_in_ns, invoke_ns, copy_out_ns.
_OLD_WIDTH = 4
#: A sum of four such times still fits 64 bits.
LIMIT = 1 << 60

Rows = npt.NDArray[np.int64]


def parse_line(line: bytes) -> Any:
    """What a line says; ``None`` when it is no JSON."""

    def refuse(text: str) -> float:
        raise ValueError(f"{text} is not JSON")

    def finite(text: str) -> float:
        return float(text) if abs(float(text)) < float("inf") else refuse(text)

    try:
        return json.loads(line, parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError):
        return None


def parse_rows(lines: list[bytes], schema: int, last: int) -> Rows | None:
    """Some lines as rows of numbers.

    Args:
        lines: lines that begin with a bracket, one or more.
        schema: that of the header before them.
        last: the sequence number before them; theirs must be greater, and rise.

    Returns:
        Columns as in ``FIELDS``; ``None`` when one of the lines is not a whole record.
    """
    width = _OLD_WIDTH if schema == 1 else len(FIELDS)
    joined = b",".join(lines)
    if joined.translate(None, b"0123456789,[] ") or joined.count(b"[") != len(lines) or joined[-1:] != b"]":
        return None
    if joined.count(b"]") != len(lines) or joined.count(b"],[") != len(lines) - 1:
        return None  # together with the above: every line begins with the only [ in it and ends with the only ]
    try:
        rows = np.array(json.loads(b"[" + joined + b"]"), np.int64)
    except (ValueError, OverflowError):
        return None
    if rows.shape != (len(lines), width) or int(rows.max()) >= LIMIT:
        return None
    if schema == 1:
        numbers = last + 1 + np.arange(len(rows))
        return np.stack([numbers, rows[:, 0], np.zeros_like(numbers), *rows[:, 1:].T], axis=1)
    if rows[0, 0] <= last or not (np.diff(rows[:, 0]) > 0).all():
        return None
    return rows


def is_beginning(data: bytes) -> bool:
    """Whether a file that begins like this may be a latency log, be it one whose first line was torn."""
    mark = f'{{"type": "{TYPE}"'.encode()
    text = data.strip(b"\0\n").replace(b'":"', b'": "')
    return text.startswith(mark) or mark.startswith(text)


def header_age_s(data: bytes) -> float:
    """How long ago, by the system's clock, the file with these first bytes was begun; 0 when that is not known."""
    header = parse_line(data.split(b"\n", 1)[0])
    begun = header.get("file_unix_s", header.get("started_unix_s")) if isinstance(header, dict) else None
    try:
        return max(0.0, time.time() - begun) if isinstance(begun, (int, float)) else 0.0
    except OverflowError:
        return 0.0


def unix_time_s(header: Mapping[str, Any], start_ns: int) -> float | None:
    """When a run began by the system's clock, as far as the header lets one tell: that clock may have been set since.

    Args:
        header: a session's header.
        start_ns: the run's ``start_ns``.

    Returns:
        Seconds since 1970, or ``None``.
    """
    unix, clock = header.get("started_unix_s"), header.get("started_clock_ns")
    if not isinstance(unix, (int, float)) or not isinstance(clock, int):
        return None
    try:
        return unix + (start_ns - clock) / 1e9
    except OverflowError:
        return None

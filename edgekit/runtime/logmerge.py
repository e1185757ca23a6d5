"""Several latency logs in one: of several devices, or of one device fetched at different times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from edgekit.runtime.logfile import LoggedRuns
from edgekit.runtime.logformat import FIELDS, SCHEMA, TYPE


def merge_sessions(parts: Iterable[LoggedRuns]) -> tuple[LoggedRuns, ...]:
    """Put what belongs to the same session together; each run is there once.

    Args:
        parts: what ``read_log`` gave, of any number of files.

    Returns:
        One part for each session, in the order in which they were first met.
    """
    sessions: dict[str, LoggedRuns] = {}
    for part in parts:
        name = session_of(part)
        sessions[name] = _join(sessions[name], part) if name in sessions else part
    return tuple(sessions.values())


def session_of(part: LoggedRuns) -> str:
    """A session's name: its header's, or for the older schema one made of what it holds."""
    name = part.header.get("session")
    if isinstance(name, str):
        return name
    text = json.dumps(dict(part.header), sort_keys=True).encode()
    return hashlib.sha256(text + part.rows[:3].tobytes()).hexdigest()[:16]


def _join(one: LoggedRuns, other: LoggedRuns) -> LoggedRuns:
    rows = np.concatenate([one.rows, other.rows])
    snapshots = [part.snapshot for part in (one, other) if part.snapshot is not None]
    return LoggedRuns(
        header=one.header if "type" in one.header else other.header,
        rows=rows[np.unique(rows[:, 0], return_index=True)[1]],
        dropped=max(one.dropped, other.dropped),
        damaged=one.damaged + other.damaged,
        first=min(one.first, other.first),
        closed=one.closed if one.closed is not None else other.closed,
        snapshot=max(snapshots, key=lambda item: item[0]) if snapshots else None,
    )


def log_bytes(parts: Iterable[LoggedRuns]) -> bytes:
    """A latency log of these sessions, one behind the other, as ``read_log`` reads it."""
    pieces: list[bytes] = []
    for part in parts:
        head = {"type": TYPE, "schema": SCHEMA}
        rest = {"session": session_of(part), "fields": list(FIELDS), "first": part.first}
        pieces.append(_line({**head, **{k: v for k, v in part.header.items() if k not in head}, **rest}))
        if part.snapshot is not None:
            runs, times = part.snapshot
            pieces.append(_line({"snapshot": runs, "times": {name: item.to_json() for name, item in times.items()}}))
        if part.dropped:
            pieces.append(_line({"dropped": part.dropped}))
        record = f"[{','.join(['%d'] * len(FIELDS))}]\n"
        pieces += [(record * len(some) % tuple(some.reshape(-1).tolist())).encode() for some in _slices(part)]
        if part.closed is not None:
            pieces.append(_line({"closed": part.closed, "dropped": part.dropped}))
    return b"".join(pieces)


def _slices(part: LoggedRuns, size: int = 4096) -> list[Any]:
    return [part.rows[start : start + size] for start in range(0, len(part.rows), size)]


def _line(item: dict[str, Any]) -> bytes:
    return f"{json.dumps(item, ensure_ascii=False, separators=(',', ':'))}\n".encode()

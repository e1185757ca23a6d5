"""What was learned of a runtime, kept on disk: one small JSON file for each runtime, architecture and delegate.

The file saves time and nothing else: one that is missing, damaged or cannot be written costs the time of learning again.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import cache
from edgekit.errors import OutputError
from edgekit.files import write_whole

SCHEMA = 1
#: So many answers are kept, about a megabyte; the ones that were not asked for longest go.
MOST = 8000
#: Far above what ``MOST`` answers take: a file that is larger is not ours.
_LIMIT_BYTES = 16_000_000
TAKEN, LEFT, REFUSED, CRASHED = "taken", "left", "refused", "crashed"
_OUTCOMES = (TAKEN, LEFT, REFUSED, CRASHED)


@dataclass(frozen=True)
class Answer:
    """What a runtime did with a model.

    Attributes:
        outcome: ``TAKEN`` when the delegate runs every operator, ``LEFT`` when the interpreter's own kernels run some,
            ``REFUSED`` when the model does not load, ``CRASHED`` when loading it ended the process.
        parts: operator indices of each part that the delegate runs.
        text: what the runtime said, of a model that did not load; else empty.
    """

    outcome: str
    parts: tuple[tuple[int, ...], ...] = ()
    text: str = ""

    @property
    def taken(self) -> bool:
        """Whether the delegate runs all of it."""
        return self.outcome == TAKEN


def cache_folder() -> Path | None:
    """The folder for what edgekit may forget, as a path; see ``edgekit.cache``."""
    found = cache.cache_folder()
    return None if found is None else Path(found)


def file_name(runtime: str, machine: str, kind: str) -> str:
    """Where the answers of a runtime lie, in the folder ``delegates``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{runtime}-{machine}-{kind}") + ".json"


def load(path: Path) -> dict[str, Answer]:
    """Answers by digest, the longest unused first; none of a file that is missing or damaged."""
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            return {}
        found = json.loads(path.read_bytes())
        if found["schema"] != SCHEMA:
            return {}
        return {str(digest): _answer(item) for digest, item in found["answers"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _answer(item: Any) -> Answer:
    outcome, parts, text = item
    if outcome not in _OUTCOMES or not isinstance(text, str):
        raise ValueError(f"{outcome!r} is no outcome")
    return Answer(outcome, tuple(tuple(int(index) for index in part) for part in parts), text)


def save(path: Path, runtime: str, machine: str, kind: str, answers: dict[str, Answer]) -> None:
    """Write answers, whole or not at all; those that another process has written since are kept.

    Args:
        path: the file; its folder is made.
        runtime: what answered, for people who look into the file.
        machine: its architecture.
        kind: the delegate.
        answers: by digest, the longest unused first.
    """
    merged = {digest: item for digest, item in load(path).items() if digest not in answers} | answers
    kept = dict(list(merged.items())[-MOST:])
    data = {
        "schema": SCHEMA,
        "runtime": runtime,
        "machine": machine,
        "delegate": kind,
        "answers": {digest: [item.outcome, item.parts, item.text] for digest, item in kept.items()},
    }
    with contextlib.suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(data, separators=(",", ":")) + "\n").encode(), overwrite=True)

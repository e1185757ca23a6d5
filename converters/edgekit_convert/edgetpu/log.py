"""What ``edgetpu_compiler`` prints, read into ``CompilerReport``; and its failures in words that help.

The form is that of compiler 14 to 16, as people showed it (google-coral/edgetpu issues 173, 342, 356, 512).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from edgekit.errors import ConversionError

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
#: The words of a status that say that the operator runs on the Edge TPU.
MAPPED = "Mapped to Edge TPU"


@dataclass(frozen=True)
class Row:
    """One line of the compiler's table.

    Attributes:
        name: the operator's name.
        count: how many.
        status: where they run, or why not there, in the compiler's words.
    """

    name: str
    count: int
    status: str

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class CompilerReport:
    """What the compiler says of a model that it compiled; ``None`` for what it did not say.

    Attributes:
        version: the compiler's.
        milliseconds: how long it took.
        cached_bytes: parameters that stay in the Edge TPU's memory between runs.
        spare_bytes: what is left of that memory.
        streamed_bytes: parameters that are sent to the Edge TPU anew for each run.
        parts: how many parts run on the Edge TPU.
        operators: how many operators the model has.
        rows: its table of operators.
    """

    version: str | None
    milliseconds: int | None
    cached_bytes: int | None
    spare_bytes: int | None
    streamed_bytes: int | None
    parts: int | None
    operators: int | None
    rows: tuple[Row, ...]

    @property
    def mapped(self) -> int:
        """How many operators run on the Edge TPU, by the table."""
        return sum(row.count for row in self.rows if row.status.startswith(MAPPED))

    @property
    def left(self) -> int:
        """How many stay on the CPU, by the table."""
        return sum(row.count for row in self.rows) - self.mapped

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        rows = [row.to_json() for row in self.rows]
        return {**vars(self), "rows": rows, "mapped": self.mapped, "left": self.left}


def read(text: str) -> CompilerReport:
    """Read what the compiler printed.

    Args:
        text: its standard output, with the table that ``-s`` adds.
    """
    return CompilerReport(
        version=_found(r"^Edge TPU Compiler version (\S+)", text),
        milliseconds=_number(r"^Models? compiled successfully in (\d+) ms", text),
        cached_bytes=_bytes("On-chip memory used for caching model parameters", text),
        spare_bytes=_bytes("On-chip memory remaining for caching model parameters", text),
        streamed_bytes=_bytes("Off-chip memory used for streaming uncached model parameters", text),
        parts=_number(r"^Number of Edge TPU subgraphs: (\d+)", text),
        operators=_number(r"^Total number of operations: (\d+)", text),
        rows=_rows(text),
    )


def _rows(text: str) -> tuple[Row, ...]:
    head = re.search(r"^Operator +Count +Status *$", text, re.MULTILINE)
    if head is None:
        return ()
    found = re.findall(r"^(\S+) +(\d+) +(\S.*?) *$", text[head.end() :], re.MULTILINE)
    return tuple(Row(name, int(count), status) for name, count, status in found)


def _found(pattern: str, text: str) -> str | None:
    seen = re.search(pattern, text, re.MULTILINE)
    return seen.group(1) if seen is not None else None


def _number(pattern: str, text: str) -> int | None:
    found = _found(pattern, text)
    return int(found) if found is not None else None


def _bytes(name: str, text: str) -> int | None:
    found = re.search(rf"^{name}: ([\d.]+)([KMG]?i?B)", text, re.MULTILINE)
    return round(float(found.group(1)) * _UNITS[found.group(2)]) if found is not None else None


#: What the compiler says when it gives up → what that means. The first that is found counts.
_FAILURES: tuple[tuple[str, str], ...] = (
    (
        r"Model not quantized",
        "it takes the model for one that is not quantised: all operators must compute on 8-bit integers",
    ),
    (
        r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'",
        "it is from 2021 and does not know operator {0} in version {1}: use an older converter, or do without that operator",
    ),
    (
        r"builtin_code out of range: (\d+)",
        "it is from 2021 and does not know the operator with code {0}: do without that operator",
    ),
    (
        r"dynamic-sized tensors",
        "a size in the model is computed while it runs, and the Edge TPU needs all sizes fixed",
    ),
    (
        r"large activation tensors",
        "a tensor between two operators does not fit into the Edge TPU's memory: use smaller inputs, or leave the last operators "
        "to the CPU (its option -d searches for where)",
    ),
    (
        r"Internal compiler error",
        "it gave up without a reason; most often a tensor is too large: use smaller inputs or fewer channels",
    ),
    (r"could not be parsed|Invalid model", "it cannot read the model"),
)


def failure(text: str, code: int | None) -> ConversionError:
    """The error for a run of the compiler that made no model.

    Args:
        text: everything that it printed.
        code: its exit code.
    """
    said = " ".join(_said(text).split())[-400:] or "nothing"
    for pattern, meaning in _FAILURES:
        seen = re.search(pattern, text)
        if seen is not None:
            return ConversionError(f"edgetpu_compiler made no model: {meaning.format(*seen.groups())}. It said: {said}")
    return ConversionError(f"edgetpu_compiler made no model (exit code {code}). It said: {said}")


def _said(text: str) -> str:
    """Its own words, without its version and the lines about its child process."""
    idle = ("Edge TPU Compiler version", "Started a compilation timeout", "Compilation child process", "Searching for")
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith(idle))

"""``LintFinding``: one thing in a graph that will hurt in int8, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit_convert.calibration import Finding


@dataclass(frozen=True)
class LintFinding:
    """Something in the graph that int8 does not take well.

    Attributes:
        level: ``"warning"`` for what probably costs accuracy or keeps operators out of int8 and nothing mends by itself,
            ``"note"`` for the rest.
        code: a short name that stays the same between versions.
        tensors: names of the tensors that it is about; an operator goes by the name of its first output.
        text: what was seen, with its numbers, and why it hurts.
        fix: what can be done about it.
        leave_out: operators, by the name of their first output, that are better left in float; empty where that would not
            help.
        automatic: the rewrite rule that mends it during conversion, or ``None``.
    """

    level: str
    code: str
    tensors: tuple[str, ...]
    text: str
    fix: str
    leave_out: tuple[str, ...] = ()
    automatic: str | None = None

    def as_finding(self) -> Finding:
        """The form that a conversion collects."""
        return Finding(self.level, self.code, f"{self.text} {self.fix}")

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {
            "level": self.level,
            "code": self.code,
            "tensors": list(self.tensors),
            "text": self.text,
            "fix": self.fix,
            "leave_out": list(self.leave_out),
            "automatic": self.automatic,
        }


def mended(rule: str) -> str:
    """The fix of a finding that a rewrite rule mends."""
    return f"The conversion mends this itself (rewrite {rule!r}), proven equal on the calibration data."


def listed(names: tuple[str, ...] | list[str], most: int = 4) -> str:
    """Names in quotes, the first few of many."""
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown

"""``EdgetpuReport``: which operators the Edge TPU would run, why not the others, and where the cut falls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: What it means that nothing is in an operator's way and it stays on the CPU all the same.
BEHIND = "behind-cut"
REFUSED = "refused"


@dataclass(frozen=True)
class EdgetpuOp:
    """One operator, and where it would run.

    Attributes:
        index: its place in the main subgraph.
        name: the operator's name.
        output: the name of its first output.
        mapped: whether the Edge TPU would run it.
        code: why not, in a word that stays the same between versions; ``None`` for an operator that is mapped.
        reason: why not, or what is doubtful, without a full stop; ``None`` when there is nothing to say.
        source: where that is known from.
        certain: whether it is: published, or seen of the compiler at this size.
        macs: its multiply-accumulates for one run.
    """

    index: int
    name: str
    output: str
    mapped: bool
    code: str | None
    reason: str | None
    source: str | None
    certain: bool
    macs: int

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class EdgetpuReport:
    """What the Edge TPU compiler would make of a model.

    Attributes:
        runtime: the oldest Edge TPU runtime that the model has to run on.
        multiple: whether more than one part was asked for.
        refused: why the compiler would not take the file at all; ``None`` when it would.
        parts: how many parts the Edge TPU would run.
        ops: the operators of the main subgraph.
    """

    runtime: int
    multiple: bool
    refused: str | None
    parts: int
    ops: tuple[EdgetpuOp, ...]

    @property
    def mapped(self) -> tuple[EdgetpuOp, ...]:
        """The operators that the Edge TPU would run."""
        return tuple(op for op in self.ops if op.mapped)

    @property
    def left(self) -> tuple[EdgetpuOp, ...]:
        """The operators that would stay on the CPU."""
        return tuple(op for op in self.ops if not op.mapped)

    @property
    def cut(self) -> tuple[EdgetpuOp, ...]:
        """The operators that end the mapped part: in the way themselves, with others behind them that are not."""
        return tuple(op for op in self.left if op.code not in (BEHIND, REFUSED))

    @property
    def doubtful(self) -> tuple[EdgetpuOp, ...]:
        """The operators of which the rules that are known do not say for certain where they run."""
        return tuple(op for op in self.ops if not op.certain)

    @property
    def share_ops(self) -> float | None:
        """Share of the operators that the Edge TPU would run, from 0 to 1; ``None`` for a model without operators."""
        return len(self.mapped) / len(self.ops) if self.ops else None

    @property
    def share_macs(self) -> float | None:
        """Share of the multiply-accumulates, from 0 to 1; ``None`` when none are counted."""
        total = sum(op.macs for op in self.ops)
        return sum(op.macs for op in self.mapped) / total if total else None

    def groups(self) -> tuple[tuple[str, int, str], ...]:
        """The operators on the CPU: name, how many, why; those with the same reason together, in the file's order."""
        counted: dict[tuple[str, str], int] = {}
        for op in self.left:
            key = (op.name, op.reason or "")
            counted[key] = counted.get(key, 0) + 1
        return tuple((name, count, reason) for (name, reason), count in counted.items())

    def summary(self) -> str:
        """One line, without a full stop."""
        if self.refused is not None:
            return f"the Edge TPU compiler would refuse this file: {self.refused}"
        text = f"the Edge TPU would run {len(self.mapped)} of {len(self.ops)} operators"
        share = self.share_macs
        if share is not None:
            text += f", {100 * share:.1f} % of the multiply-accumulates"
        if self.mapped and self.cut:
            first = self._first_cut()
            text += f"; cut at operator {first.index} ({first.name}): {first.reason}"
        return text

    def _first_cut(self) -> EdgetpuOp:
        """What ends the mapped part; where everything in the way lies before it, the first of that."""
        last = self.mapped[0].index
        return next((op for op in self.cut if op.index > last), self.cut[0])

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "runtime": self.runtime,
            "multiple_parts": self.multiple,
            "refused": self.refused,
            "parts": self.parts,
            "operators": len(self.ops),
            "mapped": len(self.mapped),
            "share_operators": self.share_ops,
            "share_macs": self.share_macs,
            "cut": [op.index for op in self.cut],
            "doubtful": [op.index for op in self.doubtful],
            "ops": [op.to_json() for op in self.ops],
        }


def in_words(groups: Iterable[tuple[str, int, str]]) -> list[str]:
    """One line for each group of operators on the CPU."""
    return [f"{name}{f' x{count}' if count > 1 else ''} on the CPU: {reason}." for name, count, reason in groups]

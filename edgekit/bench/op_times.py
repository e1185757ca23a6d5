"""What a profile knows of a model's operators: times, multiply-accumulates, bytes, and what they reach of the machine's ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.bench.roofline import Roofline
from edgekit.report.fields import Field
from edgekit.report.units import milliseconds, percent, size_text

#: What a group of the operators that no partition has is called.
OUTSIDE = "outside"


@dataclass(frozen=True)
class OpTime:
    """One operator, run alone on the values that it has in the model.

    Attributes:
        index: its place in the main subgraph.
        name: the operator's name.
        type: what it computes on: ``int8``, ``int16``, ``float``, ``hybrid`` or ``other``.
        output: the name of its first output.
        times_ns: each of its runs; empty when it cannot run alone.
        median_ns: their median, ``None`` without any.
        macs: multiply-accumulates of one run.
        size_bytes: what it reads and writes, constants and activations, each once.
        partition: the delegate's partition that it is in, ``None`` for the interpreter's own kernels.
        ceiling_ns: what this work takes at the machine's measured ceiling; ``None`` where that is not known.
        note: why it has no time, or ``None``.
    """

    index: int
    name: str
    type: str
    output: str
    times_ns: tuple[int, ...]
    median_ns: float | None
    macs: int
    size_bytes: int
    partition: int | None
    ceiling_ns: float | None
    note: str | None

    @property
    def gmacs(self) -> float | None:
        """10⁹ multiply-accumulates per second; ``None`` for operators that have none."""
        return _rate(self.macs, self.median_ns)

    @property
    def of_ceiling(self) -> float | None:
        """What it reaches of the ceiling, 1 being all; ``None`` where that is not known."""
        return None if self.ceiling_ns is None or not self.median_ns else self.ceiling_ns / self.median_ns


@dataclass(frozen=True)
class Group:
    """Operators together.

    Attributes:
        name: the operators' name, or the partition's.
        count: how many.
        total_ns: the sum of the times that each takes alone.
        share: of the sum over all operators, from 0 to 1.
        macs: multiply-accumulates.
        size_bytes: what they read and write.
        ceiling_ns: what the work takes at the ceiling; ``None`` where it is not known for each.
        together_ns: of a partition: the median of its operators run as one; ``None`` where it was not measured.
    """

    name: str
    count: int
    total_ns: float
    share: float
    macs: int
    size_bytes: int
    ceiling_ns: float | None
    together_ns: float | None = None

    @property
    def gmacs(self) -> float | None:
        """10⁹ multiply-accumulates per second, of the time together where that is known."""
        return _rate(self.macs, self.together_ns or self.total_ns)

    @property
    def of_ceiling(self) -> float | None:
        """What they reach of the ceiling, 1 being all."""
        spent = self.together_ns or self.total_ns
        return None if self.ceiling_ns is None or not spent else self.ceiling_ns / spent

    def to_json(self) -> dict[str, Any]:
        """The fields by name, and what is derived."""
        return {**vars(self), "gmacs": self.gmacs, "of_ceiling": self.of_ceiling}


@dataclass(frozen=True)
class OpProfile:
    """A model's time by operator.

    Attributes:
        model: what to call it.
        sha256: of its flatbuffer part.
        delegate: what the whole model, its partitions and its operators ran on.
        threads: CPU threads.
        engine: the interpreter's package and version.
        ops: one for each operator of the main subgraph, in order.
        whole_ns: the median run of the whole model, the interpreter's own time.
        whole_times_ns: each of these runs.
        partitions_ns: the median of each partition's operators run as one; ``None`` where they cannot.
        roofline: the machine's ceiling, or ``None``.
    """

    model: str
    sha256: str
    delegate: str
    threads: int
    engine: str
    ops: tuple[OpTime, ...]
    whole_ns: float
    whole_times_ns: tuple[int, ...]
    partitions_ns: tuple[float | None, ...]
    roofline: Roofline | None = None

    @property
    def sum_ns(self) -> float:
        """The times that each operator takes alone, together."""
        return sum(op.median_ns or 0.0 for op in self.ops)

    @property
    def explained(self) -> float:
        """What the operators take alone, over what the whole model takes.

        Above 1 the delegate gains by running them as one (no call and no change of layout between them); below 1 something is missing.
        """
        return self.sum_ns / self.whole_ns

    def by_name(self) -> list[Group]:
        """Groups of one operator each, the longest first."""
        names = dict.fromkeys(op.name for op in self.ops)
        groups = [self._group(name, [op for op in self.ops if op.name == name], None) for name in names]
        return sorted(groups, key=lambda group: -group.total_ns)

    def by_partition(self) -> list[Group]:
        """The delegate's partitions in order, then what is outside of them."""
        groups = []
        for number, together in enumerate(self.partitions_ns):
            ops = [op for op in self.ops if op.partition == number]
            groups.append(self._group(f"{self.delegate} {number + 1}", ops, together))
        outside = [op for op in self.ops if op.partition is None]
        return [*groups, *([self._group(OUTSIDE, outside, None)] if outside else [])]

    def _group(self, name: str, ops: Sequence[OpTime], together: float | None) -> Group:
        total = sum(op.median_ns or 0.0 for op in ops)
        ceilings = [op.ceiling_ns for op in ops]
        ceiling = None if any(value is None for value in ceilings) else sum(value or 0.0 for value in ceilings)
        share = total / self.sum_ns if self.sum_ns else 0.0
        macs, size = sum(op.macs for op in ops), sum(op.size_bytes for op in ops)
        return Group(name, len(ops), total, share, macs, size, ceiling, together)

    def to_json(self) -> dict[str, Any]:
        """All of it: raw times of each operator, and the groups."""
        return {
            "type": "edgekit-profile",
            "schema": 1,
            "model": self.model,
            "sha256": self.sha256,
            "delegate": self.delegate,
            "threads": self.threads,
            "engine": self.engine,
            "whole_ns": self.whole_ns,
            "sum_ns": self.sum_ns,
            "explained": self.explained,
            "whole_times_ns": list(self.whole_times_ns),
            "partitions_ns": list(self.partitions_ns),
            "roofline": None if self.roofline is None else self.roofline.to_json(),
            "by_name": [group.to_json() for group in self.by_name()],
            "by_partition": [group.to_json() for group in self.by_partition()],
            "operators": [
                {**vars(op), "times_ns": list(op.times_ns), "gmacs": op.gmacs, "of_ceiling": op.of_ceiling}
                for op in self.ops
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OpProfile:
        """Read what ``to_json`` gave.

        Raises:
            KeyError: a key is missing.
        """
        known = OpTime.__dataclass_fields__
        ops = tuple(
            OpTime(**{**{name: item[name] for name in known}, "times_ns": tuple(item["times_ns"])})
            for item in data["operators"]
        )
        roofline = None if data["roofline"] is None else Roofline.from_json(data["roofline"])
        return cls(
            data["model"], data["sha256"], data["delegate"], data["threads"], data["engine"], ops, data["whole_ns"],
            tuple(data["whole_times_ns"]), tuple(data["partitions_ns"]), roofline,
        )  # fmt: skip


def _rate(macs: float, nanoseconds: float | None) -> float | None:
    return macs / nanoseconds if macs and nanoseconds else None


def _gmacs(value: float) -> str:
    return f"{value:.3g}"


#: Of groups, for tables.
GROUP_FIELDS: tuple[Field[Group], ...] = (
    Field("name", "operators", lambda group: group.name),
    Field("count", "number", lambda group: group.count),
    Field("total_ns", "each alone", lambda group: group.total_ns, milliseconds),
    Field("share", "share", lambda group: group.share, lambda share: percent(share, 1)),
    Field("together_ns", "as one", lambda group: group.together_ns, milliseconds),
    Field("macs", "MMAC", lambda group: group.macs / 1e6 if group.macs else None, lambda value: f"{value:.2f}"),
    Field("size_bytes", "bytes moved", lambda group: group.size_bytes, size_text),
    Field("gmacs", "GMAC/s", lambda group: group.gmacs, _gmacs),
    Field("of_ceiling", "of ceiling", lambda group: group.of_ceiling, lambda share: percent(share, 0)),
)

#: Of single operators, for tables.
OP_FIELDS: tuple[Field[OpTime], ...] = (
    Field("index", "#", lambda op: op.index),
    Field("name", "operator", lambda op: op.name),
    Field("type", "type", lambda op: op.type),
    Field("partition", "partition", lambda op: None if op.partition is None else op.partition + 1),
    Field("median_ns", "alone", lambda op: op.median_ns, milliseconds),
    Field("macs", "MMAC", lambda op: op.macs / 1e6 if op.macs else None, lambda value: f"{value:.2f}"),
    Field("size_bytes", "bytes moved", lambda op: op.size_bytes, size_text),
    Field("gmacs", "GMAC/s", lambda op: op.gmacs, _gmacs),
    Field("of_ceiling", "of ceiling", lambda op: op.of_ceiling, lambda share: percent(share, 0)),
    Field("output", "output", lambda op: op.output, column=False),
    Field("note", "note", lambda op: op.note),
)

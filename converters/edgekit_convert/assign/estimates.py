"""What an assignment of types to operators probably gives: noise at the outputs, and time.

Two things are known of each operator: what it adds alone to the noise at the outputs (its rounded weights, and the grid of its
output), and what it takes in each type. A grid's noise goes only where the operator that writes the tensor and all that read it
leave int8 together, and a run of neighbours pays for its two edges once, so that runs are what is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.tensors import Array
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.matched import FLOAT as FLOAT
from edgekit_convert.assign.matched import INT8 as INT8
from edgekit_convert.assign.matched import INT16 as INT16
from edgekit_convert.assign.matched import TYPES as TYPES
from edgekit_convert.assign.matched import Flow, Matched
from edgekit_convert.assign.operator_times import OperatorTimes
from edgekit_convert.assign.sensitivity import Alone
from edgekit_convert.ranges import Ranges
from edgekit_convert.refine.ties import copied

Progress = Callable[[str, int, int], None]

#: The least share of the noise that a step towards a larger set has to remove.
_STEP = 0.02
_MOST_STEPS = 60
#: What leaving int8 counts for each operator at least, as a share of plain int8's time: where float is as fast, estimates are not
#: exact enough to give up more operators than the noise asks for.
_LEAST_TIME = 0.001
#: Runs of operators that are compared at each step at most; in larger graphs long runs begin at fewer places.
_MOST_RUNS = 6000


@dataclass(frozen=True)
class Run:
    """Neighbouring operators that got another type together.

    Attributes:
        kind: ``float`` or ``int16``.
        operators: each operator and the name of its first output, in the graph's order.
        noise_share: share of plain int8's noise at the outputs that goes with them, as estimated.
    """

    kind: str
    operators: tuple[tuple[str, str], ...]
    noise_share: float

    def __str__(self) -> str:
        first, last = self.operators[0], self.operators[-1]
        text = f"{first[0]} {short(first[1])!r}"
        if len(self.operators) > 1:
            text += f" to {last[0]} {short(last[1])!r} ({len(self.operators)} operators)"
        share = f"about {100 * self.noise_share:.0f} %" if self.noise_share >= 0.005 else "hardly any"
        return f"{text} in {self.kind}; {share} of the noise at the outputs was theirs"

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {
            "kind": self.kind,
            "operators": [{"operator": op, "output": name} for op, name in self.operators],
            "noise_share": round(self.noise_share, 4),
        }


class Network:
    """The operators of an int8 graph, what each adds to the noise, and what it takes in each type.

    An assignment is a row of type codes, one for each operator; estimates are made for many rows at once.

    Attributes:
        names: first output of each operator, changes of type left out.
        kinds: each operator's name.
        plain: the assignment of plain int8: float where an operator has no int8 form.
    """

    def __init__(self, quantised: bytes, float_model: bytes) -> None:
        matched = Matched(quantised, float_model)
        self._ops, self._flows, self._main = matched.ops, matched.flows, matched.whole.main
        self.names, self.kinds, self.plain = matched.names, matched.kinds, matched.plain
        self._times = OperatorTimes(matched)
        self._weights = np.zeros(len(self._ops))
        self._grids: list[tuple[float, list[int]]] = []
        self._fixed_noise = self.noise_of_plain = 0.0

    def everything(self, kind: int) -> Array:
        """The assignment with every operator that can in one type."""
        return np.where(self._times.able[kind], np.uint8(kind), self.plain).astype(np.uint8)

    def layers(self, row: Array) -> dict[str, str]:
        """An assignment as ``mixed.with_types`` takes it."""
        return {
            name: TYPES[code] for name, code, plain in zip(self.names, row, self.plain, strict=True) if code != plain
        }

    def learn_noise(self, alone: Sequence[Alone]) -> None:
        """Take what each layer alone adds."""
        number_of = {name: number for number, name in enumerate(self.names)}
        by_tensor = {self._main.tensors[flow.tensor].name: flow for flow in self._flows}
        fixed = 0.0
        for item in alone:
            if item.name in number_of:
                self._weights[number_of[item.name]] = item.weights
            flow = by_tensor.get(item.name)
            needed = self._needed(flow) if flow is not None else None
            if needed is None:
                fixed += item.grid
            elif item.grid > 0:
                self._grids.append((item.grid, needed))
        self._fixed_noise = fixed
        self.noise_of_plain = float(self.noise(self.plain[None])[0])

    def _needed(self, flow: Flow) -> list[int] | None:
        """The operators that must leave int8 together for a tensor's grid to go; ``None`` for the file's inputs and outputs."""
        needed: list[int] = []
        by_index = {item.tensor: item for item in self._flows}
        waiting = [flow]
        while waiting:
            item = waiting.pop()
            if item.edge == INT8:
                return None
            if item.maker is not None:
                needed.append(item.maker)
            needed += item.readers
            for reader in item.readers:
                op = self._ops[reader]
                result = by_index.get(op.outputs[0])
                if result is not None and item.tensor in copied(op):
                    waiting.append(result)
        return sorted(set(needed))

    def learn_times(self, costs: CostTable, ranges: Ranges, progress: Progress, *, int16: bool = True) -> None:
        """Measure, or look up, what each operator and each change of type takes.

        Args:
            costs: the table.
            ranges: lowest and highest value of each activation.
            progress: called as ``progress(step, done, total)``.
            int16: whether int16 forms count.
        """
        self._times.learn(costs, ranges, progress, int16=int16)

    def learn_lookups(self, costs: CostTable, ranges: Ranges) -> None:
        """Measure what one float operator between int8 neighbours takes, which a delegate may make a table of 256 values."""
        self._times.learn_lookups(costs, ranges)

    def cheapest(self, reluctance: float) -> Array:
        """The assignment of int8 and float that takes least time, by the times that were learned.

        Args:
            reluctance: what a time in float counts beside one in int8.
        """
        return self._times.cheapest(reluctance)

    def time_of(self, number: int, kind: int) -> float:
        """Nanoseconds of one operator alone; infinite where it has no such form."""
        return float(self._times.of(kind)[number])

    def int8_share(self, row: Array) -> float:
        """Share of the operators' time in float that stays in int8."""
        in_float = self._times.of(FLOAT)
        weight = np.where(np.isfinite(in_float), in_float, 0.0) + 1.0
        return float(weight[row == INT8].sum() / weight.sum())

    def noise(self, rows: Array) -> Array:
        """Estimated noise share at the outputs for each assignment."""
        wide = np.ascontiguousarray(rows.T != INT8)
        total = self._fixed_noise + (rows != FLOAT) @ self._weights
        for share, needed in self._grids:
            total = total + share * ~np.logical_and.reduce(wide[needed])
        return np.asarray(total)

    def time(self, rows: Array) -> Array:
        """Estimated nanoseconds for each assignment."""
        return self._times.total(rows)

    def ratio(self, row: Array) -> float:
        """Estimated latency of an assignment relative to plain int8's."""
        times = self.time(np.stack([self.plain, row]))
        return float(times[1] / max(1.0, times[0]))

    def path(self, prefer: Sequence[str]) -> list[Array]:
        """Assignments from plain int8 on, each with one more run of operators: the one that removes most noise for its time."""
        path = [self.plain]
        wished = np.array([name in set(prefer) for name in self.names], bool) & self._times.able[FLOAT]
        if wished.any():
            path.append(np.where(wished, np.uint8(FLOAT), self.plain).astype(np.uint8))
        base_time = float(self.time(self.plain[None])[0])
        least = max(1.0, _LEAST_TIME * base_time)
        spans = _spans(len(self._ops))
        while len(path) < _MOST_STEPS:
            current = path[-1]
            noise, time = float(self.noise(current[None])[0]), float(self.time(current[None])[0])
            rows = self._grown(current, spans)
            if not len(rows):
                break
            gains = noise - self.noise(rows)
            losses = np.maximum(self.time(rows) - time, least * (rows != current).sum(axis=1))
            worth = np.where((gains > _STEP * noise) & np.isfinite(losses), gains / losses, 0.0)
            best = int(np.argmax(worth))
            if worth[best] <= 0:
                break
            path.append(rows[best])
        return path

    def _grown(self, current: Array, spans: Array) -> Array:
        """Every assignment with one more run of operators in another type."""
        found = []
        places = np.arange(len(current))
        for kind in (FLOAT, INT16):
            able = self._times.able[kind] & (current == INT8)
            if not able.any():
                continue
            # Runs that differ only by operators that stay as they are are the same: their ends are moved to ones that change.
            following = np.minimum.accumulate(np.where(able, places, len(places))[::-1])[::-1]
            preceding = np.maximum.accumulate(np.where(able, places, -1))
            ends = np.stack([following[spans[:, 0]], preceding[spans[:, 1]]], axis=1)
            ends = np.unique(ends[ends[:, 0] <= ends[:, 1]], axis=0)
            inside = (places >= ends[:, :1]) & (places <= ends[:, 1:]) & able
            found.append(np.where(inside, np.uint8(kind), current).astype(np.uint8))
        return np.concatenate(found) if found else np.zeros((0, len(current)), np.uint8)

    def runs(self, row: Array) -> list[list[int]]:
        """The operators that left int8, as runs of neighbours in the graph's order with one type."""
        found: list[list[int]] = []
        for number in np.flatnonzero(row != self.plain).tolist():
            joined = bool(found) and found[-1][-1] == number - 1 and row[number - 1] == row[number]
            if joined:
                found[-1].append(number)
            else:
                found.append([number])
        return found

    def described(self, row: Array) -> tuple[Run, ...]:
        """The runs of an assignment, with what each removes of the noise."""
        found = []
        for run in self.runs(row):
            without = row.copy()
            without[run] = self.plain[run]
            removed = float(self.noise(without[None])[0] - self.noise(row[None])[0])
            operators = tuple((self.kinds[number], self.names[number]) for number in run)
            share = removed / self.noise_of_plain if self.noise_of_plain else 0.0
            found.append(Run(TYPES[row[run[0]]], operators, share))
        return tuple(found)


def _spans(count: int) -> Array:
    """Runs of operators as first and last number; all of them in small graphs."""
    step, found = 1, []
    while True:
        found = [
            (first, last)
            for first in range(count)
            for last in range(first, count)
            if last - first < 8
            or (first % step == 0 and (last + 1) % step == 0)
            or (last == count - 1 and first % step == 0)
        ]
        if len(found) <= _MOST_RUNS or step >= count:
            return np.array(found).reshape(-1, 2)
        step *= 2


def short(name: str) -> str:
    """A tensor's name in a sentence: converters join the names of all that they fused."""
    last = name.split(";")[0]
    return last if len(last) <= 48 else f"…{last[-47:]}"

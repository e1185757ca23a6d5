"""What an assignment of types to operators probably gives: noise at the outputs, and time.

Two things are known of each operator: what it adds alone to the noise at the outputs (its rounded weights, and the grid of its
output), and what it takes in each type. A grid's noise goes only where the operator that writes the tensor and all that read it
leave int8 together, and a run of neighbours pays for its two edges once, so that runs are what is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import OptionError
from edgekit.graph import Subgraph
from edgekit.inspection import EDGE_OPERATORS
from edgekit.tensors import Array
from edgekit_convert.assign.costs import CostTable, Form, change_ns, changes, form_of
from edgekit_convert.assign.cut import FIRST, SECOND, Link, cheapest
from edgekit_convert.assign.sensitivity import Alone
from edgekit_convert.graph.slices import Sliceable, producers
from edgekit_convert.quantize.mixed import INT16_OPERATORS, with_types
from edgekit_convert.ranges import Ranges
from edgekit_convert.refine.ties import copied

Progress = Callable[[str, int, int], None]

#: Operators that compute each value from one value alone: between a DEQUANTIZE and a QUANTIZE a delegate may tabulate them.
ELEMENTWISE: frozenset[str] = frozenset(
    {
        "ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU",
        "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE", "TANH",
    }
)  # fmt: skip

#: The types by their codes in an assignment.
TYPES: tuple[str, ...] = ("int8", "int16", "float")
INT8, INT16, FLOAT = range(3)
_TENSOR_TYPES = ("int8", "int16", "float32")
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
        text = f"{first[0]} {_short(first[1])!r}"
        if len(self.operators) > 1:
            text += f" to {last[0]} {_short(last[1])!r} ({len(self.operators)} operators)"
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
        self._quantised, self._float_model = quantised, float_model
        self._whole = Sliceable(quantised)
        main = self._whole.main
        self._main = main
        self._exact = Sliceable(float_model)
        originals = {self._exact.main.tensors[op.outputs[0]].name: op for op in self._exact.main.ops if op.outputs}
        self._ops = [
            op for op in main.ops if op.name not in EDGE_OPERATORS or main.tensors[op.inputs[0]].data is not None
        ]
        self.names = [main.tensors[op.outputs[0]].name for op in self._ops]
        self.kinds = [op.name for op in self._ops]
        self._originals = [originals.get(name) for name in self.names]
        integer = [
            any(main.tensors[i].dtype == "int8" for i in (*op.inputs, *op.outputs) if i >= 0) for op in self._ops
        ]
        self.plain = np.array([INT8 if item else FLOAT for item in integer], np.uint8)
        known = np.array([original is not None for original in self._originals])
        self._able = np.zeros((3, len(self._ops)), bool)
        self._able[FLOAT] = known & (self.plain == INT8)
        self._able[INT16] = self._able[FLOAT] & np.array([kind in INT16_OPERATORS for kind in self.kinds], bool)
        self._flows = _flows(main, {op.index: number for number, op in enumerate(self._ops)})
        self._weights = np.zeros(len(self._ops))
        self._grids: list[tuple[float, list[int]]] = []
        self._times = np.zeros((3, len(self._ops)))
        self._lookups = np.full(len(self._ops), np.inf)
        self._changes = np.zeros((3, 3, len(self._flows)))
        self._fixed_noise = self.noise_of_plain = 0.0

    def everything(self, kind: int) -> Array:
        """The assignment with every operator that can in one type."""
        return np.where(self._able[kind], np.uint8(kind), self.plain).astype(np.uint8)

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

    def _needed(self, flow: _Flow) -> list[int] | None:
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
        wide = self._int16_forms(ranges) if int16 else {}
        forms: list[dict[int, Form]] = []
        for number, (op, original) in enumerate(zip(self._ops, self._originals, strict=True)):
            found = {INT8 if self.plain[number] == INT8 else FLOAT: form_of(self._whole, op)}
            if self._able[FLOAT][number] and original is not None:
                found[FLOAT] = form_of(self._exact, original)
            if number in wide:
                found[INT16] = wide[number]
            forms.append(found)
        kinds = [INT8, FLOAT, *([INT16] if wide else [])]
        pairs = [(a, b) for a in kinds for b in kinds if a != b]
        wanted = [list(found.values()) for found in forms]
        wanted += [changes(_TENSOR_TYPES[a], _TENSOR_TYPES[b]) for a, b in pairs]
        costs.measure(wanted, lambda done, total: progress("Measuring what each operator takes", done, total))
        for number, found in enumerate(forms):
            for kind in range(3):
                time = costs.ns(found[kind].key) if kind in found else None
                self._times[kind][number] = np.inf if time is None else time
        for a, b in pairs:
            for place, flow in enumerate(self._flows):
                time = change_ns(costs, _TENSOR_TYPES[a], _TENSOR_TYPES[b], self._main.tensors[flow.tensor].elements)
                self._changes[a, b, place] = np.inf if time is None else time
        self._able &= np.isfinite(self._times)
        self._able[FLOAT] &= self.plain == INT8

    def _int16_forms(self, ranges: Ranges) -> dict[int, Form]:
        """The operators that have an int16 form here, each as a model of its own."""
        wanted = {self.names[number]: "int16" for number in self._numbers(self._able[INT16])}
        try:
            model = with_types(self._quantised, self._float_model, ranges, wanted)
        except OptionError:
            # One of them has none after all; the others are told by trying each.
            for name in list(wanted):
                try:
                    with_types(self._quantised, self._float_model, ranges, {name: "int16"})
                except OptionError:
                    del wanted[name]
            model = with_types(self._quantised, self._float_model, ranges, wanted)
        self._able[INT16] &= np.array([name in wanted for name in self.names], bool)
        whole = Sliceable(model)
        ops = [
            op for op in whole.main.ops
            if op.name not in EDGE_OPERATORS or whole.main.tensors[op.inputs[0]].data is not None
        ]  # fmt: skip
        return {number: form_of(whole, ops[number]) for number in self._numbers(self._able[INT16])}

    def learn_lookups(self, costs: CostTable, ranges: Ranges) -> None:
        """Measure what one float operator between int8 neighbours takes, which a delegate may make a table of 256 values."""
        forms = {}
        for number in self._numbers(self._able[FLOAT]):
            op, original = self._ops[number], self._originals[number]
            if original is None or op.name not in ELEMENTWISE:
                continue
            plain, exact = form_of(self._whole, op), form_of(self._exact, original)
            island = with_types(plain.content, exact.content, ranges, {self.names[number]: "float"})
            forms[number] = Form(f"float between int8 {plain.key}", island)
        costs.measure([list(forms.values())])
        for number, form in forms.items():
            time = costs.ns(form.key)
            self._lookups[number] = np.inf if time is None else time

    def cheapest(self, reluctance: float) -> Array:
        """The assignment of int8 and float that takes least time, by the times that were learned.

        Args:
            reluctance: what a time in float counts beside one in int8.
        """
        int8 = np.where(self.plain == INT8, np.minimum(self._times[INT8], reluctance * self._lookups), np.inf)
        float_ = np.where(self._able[FLOAT] | (self.plain == FLOAT), self._times[FLOAT] * reluctance, np.inf)
        fixed = {INT8: FIRST, FLOAT: SECOND}
        links = []
        for place, flow in enumerate(self._flows):
            ends = tuple(flow.readers)
            if flow.maker is not None and flow.edge is not None:
                ends += (fixed.get(flow.edge, FIRST),)
            maker = (
                flow.maker if flow.maker is not None else fixed.get(flow.edge if flow.edge is not None else INT8, FIRST)
            )
            links.append(Link(maker, ends, self._changes[INT8, FLOAT, place], self._changes[FLOAT, INT8, place]))
        in_float = np.array(cheapest(int8.tolist(), float_.tolist(), links), bool)
        alone = ~in_float & (reluctance * self._lookups < self._times[INT8]) & self._able[FLOAT]
        return np.where((in_float | alone) & self._able[FLOAT], np.uint8(FLOAT), self.plain).astype(np.uint8)

    @staticmethod
    def _numbers(chosen: Array) -> list[int]:
        return [int(number) for number in np.flatnonzero(chosen)]

    def time_of(self, number: int, kind: int) -> float:
        """Nanoseconds of one operator alone; infinite where it has no such form."""
        return float(self._times[kind][number])

    def int8_share(self, row: Array) -> float:
        """Share of the operators' time in float that stays in int8."""
        weight = np.where(np.isfinite(self._times[FLOAT]), self._times[FLOAT], 0.0) + 1.0
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
        by_op = np.ascontiguousarray(rows.T)
        total = np.zeros(len(rows))
        for number, codes in enumerate(by_op):
            total += self._times[:, number][codes]
        present = [kind for kind in range(3) if (by_op == kind).any()]
        for place, flow in enumerate(self._flows):
            made: Any = by_op[flow.maker] if flow.maker is not None else flow.edge
            for kind in present:
                outside = flow.maker is not None and flow.edge == kind
                if not flow.readers and not outside:
                    continue
                read = np.logical_or.reduce(by_op[flow.readers] == kind) if not outside else True
                total += np.where(read & (made != kind), self._changes[made, kind, place], 0.0)
        return total

    def ratio(self, row: Array) -> float:
        """Estimated latency of an assignment relative to plain int8's."""
        times = self.time(np.stack([self.plain, row]))
        return float(times[1] / max(1.0, times[0]))

    def path(self, prefer: Sequence[str]) -> list[Array]:
        """Assignments from plain int8 on, each with one more run of operators: the one that removes most noise for its time."""
        path = [self.plain]
        wished = np.array([name in set(prefer) for name in self.names], bool) & self._able[FLOAT]
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
            able = self._able[kind] & (current == INT8)
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
        for number in self._numbers(row != self.plain):
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


@dataclass(frozen=True)
class _Flow:
    """An activation: who computes it and who reads it, changes of type left out.

    Attributes:
        tensor: its index where it was computed.
        maker: the operator's number, or ``None`` for an input of the model.
        readers: numbers of the operators that read it in any form.
        edge: the type that it has as an input or output of the model; ``None`` for one inside.
    """

    tensor: int
    maker: int | None
    readers: list[int]
    edge: int | None


def _flows(main: Subgraph, numbers: Mapping[int, int]) -> list[_Flow]:
    made = producers(main)
    code = {"int8": INT8, "uint8": INT8, "int16": INT16, "float32": FLOAT}

    def source(index: int) -> int:
        while (op := made.get(index)) is not None and op.index not in numbers:
            index = op.inputs[0]
        return index

    # An operator's result goes by the name that it has in the int8 file; an input that is quantised first by its own.
    readers: dict[int, list[int]] = {}
    edges: dict[int, int] = {}
    for index in main.inputs:
        readers[index] = []
        edges[index] = code.get(main.tensors[index].dtype, FLOAT)
    for op in main.ops:
        if op.index in numbers:
            for index in op.outputs:
                readers.setdefault(index, [])
    for op in main.ops:
        if op.index in numbers:
            for index in dict.fromkeys(source(index) for index in op.inputs if index >= 0):
                if index in readers:
                    readers[index].append(numbers[op.index])
    for index in main.outputs:
        edges[source(index)] = code.get(main.tensors[index].dtype, FLOAT)
    return [
        _Flow(index, numbers[made[index].index] if index in made else None, found, edges.get(index))
        for index, found in readers.items()
        if main.tensors[index].dtype in code
    ]


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


def _short(name: str) -> str:
    """A tensor's name in a sentence: converters join the names of all that they fused."""
    last = name.split(";")[0]
    return last if len(last) <= 48 else f"…{last[-47:]}"

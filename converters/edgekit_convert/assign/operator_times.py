"""What each operator takes in each type, and what changing a tensor's type takes: learned from a cost table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.errors import OptionError
from edgekit.tensors import Array
from edgekit_convert.assign.costs import CostTable, Form, change_ns, changes, form_of
from edgekit_convert.assign.cut import FIRST, SECOND, Link, cheapest
from edgekit_convert.assign.matched import FLOAT, INT8, INT16, Matched, computing
from edgekit_convert.graph.slices import Sliceable
from edgekit_convert.quantize.mixed import with_types
from edgekit_convert.ranges import Ranges

Progress = Callable[[str, int, int], None]

#: Operators that compute each value from one value alone: between a DEQUANTIZE and a QUANTIZE a delegate may tabulate them.
ELEMENTWISE: frozenset[str] = frozenset(
    {
        "ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU",
        "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE", "TANH",
    }
)  # fmt: skip

_TENSOR_TYPES = ("int8", "int16", "float32")


class OperatorTimes:
    """What the operators of an int8 graph take in each type; nothing before it was learned.

    Args:
        matched: the operators.

    Attributes:
        able: which operator can be given which other type, by its code; fewer once its times were learned.
    """

    def __init__(self, matched: Matched) -> None:
        self._matched = matched
        self.able = matched.able()
        self._times = np.zeros((3, len(matched.ops)))
        self._lookups = np.full(len(matched.ops), np.inf)
        self._changes = np.zeros((3, 3, len(matched.flows)))

    def learn(self, costs: CostTable, ranges: Ranges, progress: Progress, *, int16: bool = True) -> None:
        """Measure, or look up, what each operator and each change of type takes.

        Args:
            costs: the table.
            ranges: lowest and highest value of each activation.
            progress: called as ``progress(step, done, total)``.
            int16: whether int16 forms count.
        """
        wide = self._int16_forms(ranges) if int16 else {}
        forms: list[dict[int, Form]] = []
        for number, (op, original) in enumerate(zip(self._matched.ops, self._matched.originals, strict=True)):
            found = {INT8 if self._matched.plain[number] == INT8 else FLOAT: form_of(self._matched.whole, op)}
            if self.able[FLOAT][number] and original is not None:
                found[FLOAT] = form_of(self._matched.exact, original)
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
        tensors = self._matched.whole.main.tensors
        for a, b in pairs:
            for place, flow in enumerate(self._matched.flows):
                time = change_ns(costs, _TENSOR_TYPES[a], _TENSOR_TYPES[b], tensors[flow.tensor].elements)
                self._changes[a, b, place] = np.inf if time is None else time
        self.able &= np.isfinite(self._times)
        self.able[FLOAT] &= self._matched.plain == INT8

    def _int16_forms(self, ranges: Ranges) -> dict[int, Form]:
        """The operators that have an int16 form here, each as a model of its own."""
        wanted = {self._matched.names[number]: "int16" for number in _numbers(self.able[INT16])}
        try:
            model = with_types(self._matched.quantised, self._matched.float_model, ranges, wanted)
        except OptionError:
            # One of them has none after all; the others are told by trying each.
            for name in list(wanted):
                try:
                    with_types(self._matched.quantised, self._matched.float_model, ranges, {name: "int16"})
                except OptionError:
                    del wanted[name]
            model = with_types(self._matched.quantised, self._matched.float_model, ranges, wanted)
        self.able[INT16] &= np.array([name in wanted for name in self._matched.names], bool)
        whole = Sliceable(model)
        ops = computing(whole.main)
        return {number: form_of(whole, ops[number]) for number in _numbers(self.able[INT16])}

    def learn_lookups(self, costs: CostTable, ranges: Ranges) -> None:
        """Measure what one float operator between int8 neighbours takes, which a delegate may make a table of 256 values."""
        forms = {}
        for number in _numbers(self.able[FLOAT]):
            op, original = self._matched.ops[number], self._matched.originals[number]
            if original is None or op.name not in ELEMENTWISE:
                continue
            plain, exact = form_of(self._matched.whole, op), form_of(self._matched.exact, original)
            island = with_types(plain.content, exact.content, ranges, {self._matched.names[number]: "float"})
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
        int8 = np.where(self._matched.plain == INT8, np.minimum(self._times[INT8], reluctance * self._lookups), np.inf)
        float_ = np.where(self.able[FLOAT] | (self._matched.plain == FLOAT), self._times[FLOAT] * reluctance, np.inf)
        fixed = {INT8: FIRST, FLOAT: SECOND}
        links = []
        for place, flow in enumerate(self._matched.flows):
            ends = tuple(flow.readers)
            if flow.maker is not None and flow.edge is not None:
                ends += (fixed.get(flow.edge, FIRST),)
            maker = (
                flow.maker if flow.maker is not None else fixed.get(flow.edge if flow.edge is not None else INT8, FIRST)
            )
            links.append(Link(maker, ends, self._changes[INT8, FLOAT, place], self._changes[FLOAT, INT8, place]))
        in_float = np.array(cheapest(int8.tolist(), float_.tolist(), links), bool)
        alone = ~in_float & (reluctance * self._lookups < self._times[INT8]) & self.able[FLOAT]
        return np.where((in_float | alone) & self.able[FLOAT], np.uint8(FLOAT), self._matched.plain).astype(np.uint8)

    def of(self, kind: int) -> Array:
        """Nanoseconds of each operator alone in one type; infinite where it has no such form."""
        return np.asarray(self._times[kind])

    def total(self, rows: Array) -> Array:
        """Estimated nanoseconds for each assignment."""
        by_op = np.ascontiguousarray(rows.T)
        total = np.zeros(len(rows))
        for number, codes in enumerate(by_op):
            total += self._times[:, number][codes]
        present = [kind for kind in range(3) if (by_op == kind).any()]
        for place, flow in enumerate(self._matched.flows):
            made: Any = by_op[flow.maker] if flow.maker is not None else flow.edge
            for kind in present:
                outside = flow.maker is not None and flow.edge == kind
                if not flow.readers and not outside:
                    continue
                read = np.logical_or.reduce(by_op[flow.readers] == kind) if not outside else True
                total += np.where(read & (made != kind), self._changes[made, kind, place], 0.0)
        return total


def _numbers(chosen: Array) -> list[int]:
    return [int(number) for number in np.flatnonzero(chosen)]

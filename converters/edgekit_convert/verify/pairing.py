"""Which tensor of a float graph is which of a quantised one, whoever made the two files.

Names do not settle it: converters rename, number tensors, fuse activations into layers and put type changes between
operators. So both graphs are walked together from the inputs: an operator of the quantised graph is an operator of
the float graph when its type, its shape and the tensors that it reads agree. Where several agree, weights that point the
same way and then the name decide. What cannot be reached so is taken by its name, by its weights, or as an output of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import ModelFileError
from edgekit.graph import Op, Subgraph
from edgekit.inspection import EDGE_OPERATORS
from edgekit.tensors import QUANTISED_TYPES, Array, dequantize
from edgekit_convert.graph.slices import consumers, producers

#: What a model's input is called where an operator's name is expected.
INPUT = "INPUT"
#: Types whose values are real numbers.
_REAL = frozenset({"float32", "int8", "uint8", "int16"})
#: Operators that give the same numbers another shape.
_VIEWS = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
#: Operators that do the same work where their shapes allow it.
_ALIKE = {**dict.fromkeys(_VIEWS, "view"), "AVERAGE_POOL_2D": "mean", "MEAN": "mean"}
_COMMUTATIVE = frozenset({"ADD", "MUL", "MAXIMUM", "MINIMUM"})
#: Field number of ``fused_activation_function`` in each operator's options (schema.fbs).
_FUSED_FIELD = {
    "ADD": 0, "SUB": 0, "MUL": 0, "DIV": 0, "FULLY_CONNECTED": 0, "CONCATENATION": 1, "CONV_2D": 3,
    "TRANSPOSE_CONV": 3, "DEPTHWISE_CONV_2D": 4, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5,
}  # fmt: skip
#: Lone activations that other converters fuse into the layer before (schema.fbs, ``enum ActivationFunctionType``).
_LONE = frozenset({"RELU", "RELU_N1_TO_1", "RELU6", "TANH"})
#: Cosine above which weights are certainly the same, and below which they say nothing.
_SAME_WEIGHTS = 0.95
_OTHER_WEIGHTS = 0.5
#: Fewer weights than this point anywhere.
_FEWEST = 8

Shapes = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class Pair:
    """One tensor in both graphs.

    Attributes:
        operator: the quantised graph's operator that computes it, or ``INPUT``.
        exact: its index in the float graph.
        rounded: its index in the quantised graph, where it is held as integers if it is anywhere.
        likeness: cosine of the angle between the weights of the two operators; ``None`` where they have none.
    """

    operator: str
    exact: int
    rounded: int
    likeness: float | None = None


@dataclass(frozen=True)
class Pairing:
    """What corresponds.

    Attributes:
        pairs: in the quantised graph's order.
        unmatched: indices of the quantised graph's operators that compute real numbers and have no counterpart; changes of
            shape are none of them.
    """

    pairs: tuple[Pair, ...]
    unmatched: tuple[int, ...]


def pair_tensors(
    exact: Subgraph,
    rounded: Subgraph,
    shapes: tuple[Shapes, Shapes],
    inputs: Sequence[tuple[int, int]],
    outputs: Sequence[tuple[int, int]],
) -> Pairing:
    """Find what corresponds.

    Args:
        exact: the float graph.
        rounded: the quantised graph.
        shapes: shape of each tensor when the graphs run, by index: the float graph's, the quantised graph's.
        inputs: tensor indices of the inputs that correspond: the float graph's, the quantised graph's.
        outputs: likewise of the outputs.
    """
    walk = _Walk(_Side(exact, shapes[0]), _Side(rounded, shapes[1]))
    walk.begin(inputs, outputs)
    return walk.run()


class _Side:
    """One graph, and how its tensors hang together."""

    def __init__(self, graph: Subgraph, shapes: Shapes) -> None:
        self.graph = graph
        self.shapes = shapes
        self.producers = producers(graph)
        self.consumers = consumers(graph)

    def source(self, index: int) -> int:
        """The tensor before all changes of type."""
        return self._back(index, EDGE_OPERATORS)

    def origin(self, index: int) -> int:
        """The tensor before all changes of type and shape."""
        return self._back(index, EDGE_OPERATORS | _VIEWS)

    def _back(self, index: int, through: frozenset[str]) -> int:
        while (op := self.producers.get(index)) is not None and op.name in through and op.inputs[0] >= 0:
            index = op.inputs[0]
        return index

    def held(self, index: int) -> int:
        """Where a float value that is only computed to be quantised is quantised."""
        users = self.consumers.get(index, [])
        lone = len(users) == 1 and users[0].name == "QUANTIZE" and index not in self.graph.outputs
        return users[0].outputs[0] if lone and self.graph.tensors[index].dtype == "float32" else index

    def is_real(self, index: int) -> bool:
        """Whether a tensor is an activation of real numbers."""
        tensor = self.graph.tensors[index]
        return tensor.data is None and tensor.dtype in _REAL and not tensor.is_variable

    def reads(self, op: Op) -> list[int]:
        """The activations that an operator reads; constants behind a change of type are constants still."""
        return [i for i in op.inputs if i >= 0 and self.is_real(i) and self.graph.tensors[self.source(i)].data is None]

    def makes(self, op: Op) -> bool:
        """Whether an operator computes real numbers."""
        return op.name not in EDGE_OPERATORS and any(self.is_real(index) for index in op.outputs)

    def count(self, index: int) -> int:
        """How many numbers a tensor has."""
        return int(np.prod(self.shapes[index], dtype=np.int64))

    def names(self, op: Op) -> set[str]:
        """What its first output is called, on either side of a change of type."""
        index = op.outputs[0]
        edges = [user for user in self.consumers.get(index, []) if user.name in EDGE_OPERATORS]
        return {self.graph.tensors[i].name for i in (index, *(user.outputs[0] for user in edges))}

    def fused(self, op: Op) -> int:
        """The activation that is fused into an operator, as schema.fbs numbers them; 0 for none."""
        field = _FUSED_FIELD.get(op.name)
        return 0 if field is None else int(op.option(field, "b", 0))

    def lone_activation(self, op: Op) -> Op | None:
        """An activation of its own behind an operator, and the only one to read it."""
        users = self.consumers.get(self.held(op.outputs[0]), [])
        return users[0] if len(users) == 1 and users[0].name in _LONE else None

    def weights(self, op: Op) -> Array | None:
        """An operator's largest constant as real numbers, flat."""
        found: Array | None = None
        for index in op.inputs:
            tensor = self.graph.tensors[self.source(index)] if index >= 0 else None
            if tensor is None or tensor.data is None or tensor.dtype not in (*_REAL, "float16"):
                continue
            try:
                values = tensor.array()
            except ModelFileError:  # sparse
                continue
            if tensor.dtype in QUANTISED_TYPES and tensor.quant is not None:
                values = dequantize(values, tensor.quant)
            if found is None or values.size > found.size:
                found = values.reshape(-1).astype(np.float32)
        return found


class _Walk:
    """Both graphs, walked together; ``known`` leads from the quantised graph's origins to the float graph's."""

    def __init__(self, exact: _Side, rounded: _Side) -> None:
        self.exact = exact
        self.rounded = rounded
        self.known: dict[int, int] = {}
        self.pairs: list[Pair] = []
        self.used: set[int] = set()
        self.done: set[int] = set()
        self.given: dict[int, Op] = {}

    def begin(self, inputs: Sequence[tuple[int, int]], outputs: Sequence[tuple[int, int]]) -> None:
        """Take the inputs and outputs as they are known to correspond."""
        for a, b in inputs:
            if self.rounded.is_real(b):
                self._pair(INPUT, a, b)
            self.known[b] = a
        for a, b in outputs:
            ours = self.exact.producers.get(self.exact.source(a))
            theirs = self.rounded.producers.get(self.rounded.source(b))
            if ours is not None and theirs is not None and theirs.index not in self.given:
                self.given[theirs.index] = ours
                self.used.add(ours.index)

    def run(self) -> Pairing:
        """Walk the quantised graph in its order, which is an order of execution."""
        missing = []
        for op in self.rounded.graph.ops:
            if not self.rounded.makes(op) or op.index in self.done:
                continue
            if op.index in self.given:
                self._take(op, self.given[op.index], outputs_are_given=True)
                continue
            match = self._match(op)
            if match is not None:
                self._take(op, match)
            elif op.name not in _VIEWS:  # another shape is not another value
                missing.append(op.index)
        return Pairing(tuple(self.pairs), tuple(missing))

    def _match(self, op: Op) -> Op | None:
        names = self.rounded.names(op)
        free = [other for other in self.exact.graph.ops if other.index not in self.used and self.exact.makes(other)]
        same_size = [other for other in free if self.exact.count(other.outputs[0]) == self.rounded.count(op.outputs[0])]
        alike = [other for other in same_size if self._alike(op, other)]
        reached = [other for other in alike if self._reads_the_same(op, other)]
        if reached:
            return self._best(op, reached, names)
        named = [other for other in same_size if names & self.exact.names(other)]
        named = [other for other in named if other in alike] or [
            other for other in named if self._same_shape(op, other)
        ]
        if named:
            return self._best(op, named, names)
        weighted = [other for other in alike if (self._likeness(op, other) or 0.0) > _SAME_WEIGHTS]
        return self._best(op, weighted, names) if weighted else None

    def _alike(self, op: Op, other: Op) -> bool:
        kind = _ALIKE.get(op.name, op.name)
        return kind == _ALIKE.get(other.name, other.name) and (kind == "mean" or self._same_shape(op, other))

    def _same_shape(self, op: Op, other: Op) -> bool:
        return self.exact.shapes[other.outputs[0]] == self.rounded.shapes[op.outputs[0]]

    def _reads_the_same(self, op: Op, other: Op) -> bool:
        theirs = [self.known.get(self.rounded.origin(index)) for index in self.rounded.reads(op)]
        ours = [self.exact.origin(index) for index in self.exact.reads(other)]
        if op.name in _COMMUTATIVE and None not in theirs:
            return sorted(ours) == sorted(index for index in theirs if index is not None)
        return ours == theirs

    def _best(self, op: Op, candidates: list[Op], names: set[str]) -> Op:
        if len(candidates) == 1:
            return candidates[0]

        def merit(other: Op) -> tuple[float, bool, int]:
            likeness = self._likeness(op, other) or 0.0
            # Rounded, so that equal weights leave the choice to the name.
            return (
                round(likeness, 1) if likeness > _OTHER_WEIGHTS else 0.0,
                bool(names & self.exact.names(other)),
                -other.index,
            )

        return max(candidates, key=merit)

    def _likeness(self, op: Op, other: Op) -> float | None:
        """The cosine of the angle between two operators' weights; ``None`` where they have none or of another size."""
        a, b = self.exact.weights(other), self.rounded.weights(op)
        if a is None or b is None or a.size != b.size or a.size < _FEWEST:
            return None
        length = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
        return float(a @ b) / length if length else None

    def _take(self, op: Op, other: Op, *, outputs_are_given: bool = False) -> None:
        """Pair what the two compute, behind an activation that only one of the graphs has as an operator of its own."""
        end, other_end = op, other
        if not outputs_are_given and op.name == other.name:
            ours, theirs = self.exact.fused(other), self.rounded.fused(op)
            if theirs and not ours:
                other_end = self.exact.lone_activation(other) or other
            elif ours and not theirs:  # or the clamp is in the range, and there is no operator for it at all
                end = self.rounded.lone_activation(op) or op
        self.used |= {other.index, other_end.index}
        self.done |= {op.index, end.index}
        for a, b in zip(other_end.outputs, end.outputs, strict=False):
            if self.rounded.is_real(b) and self.exact.is_real(a) and self.exact.count(a) == self.rounded.count(b):
                self._pair(op.name, a, b, self._likeness(op, other))

    def _pair(self, operator: str, exact: int, rounded: int, likeness: float | None = None) -> None:
        held = self.rounded.held(rounded)
        self.pairs.append(Pair(operator, exact, held, likeness))
        self.known[self.rounded.origin(rounded)] = self.exact.origin(exact)

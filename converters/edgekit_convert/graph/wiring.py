"""Which operator makes each tensor of a graph, and which ones read it."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.graph import Graph, Op, Tensor
from edgekit.tensors import NUMPY_TYPES, Array

#: Operators that only give the same values another shape or order.
SHAPE_ONLY: frozenset[str] = frozenset({"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "BROADCAST_TO"})


class Wiring:
    """The main subgraph, to be walked in both directions.

    Attributes:
        main: the subgraph.
        made_by: the operator that makes a tensor, by tensor index; inputs and constants have none.
        read_by: the operators that read a tensor, by tensor index.
    """

    def __init__(self, graph: Graph) -> None:
        self.main = graph.main
        self.made_by: dict[int, Op] = {index: op for op in self.main.ops for index in op.outputs}
        self.read_by: dict[int, list[Op]] = {}
        for op in self.main.ops:
            for index in dict.fromkeys(op.inputs):
                if index >= 0:
                    self.read_by.setdefault(index, []).append(op)

    def tensor(self, index: int) -> Tensor:
        """The tensor with this index."""
        return self.main.tensors[index]

    def name(self, op: Op) -> str:
        """What an operator is called in messages and recipes: the name of its first output."""
        return self.main.tensors[op.outputs[0]].name if op.outputs else f"operator {op.index}"

    def readers(self, indices: Iterable[int]) -> list[Op]:
        """The operators that read any of some tensors, each once."""
        found = {op.index: op for index in indices for op in self.read_by.get(index, ())}
        return list(found.values())

    def constant(self, index: int) -> Array | None:
        """A constant's values, or ``None`` for an activation, an absent input, and what numpy has no type for."""
        if index < 0:
            return None
        tensor = self.main.tensors[index]
        if tensor.data is None or tensor.sparse or tensor.dtype not in NUMPY_TYPES:
            return None
        return tensor.array()

    def is_activation(self, index: int) -> bool:
        """Whether a tensor holds float values that depend on the model's inputs."""
        return index >= 0 and self.main.tensors[index].data is None and self.main.tensors[index].dtype == "float32"

    def reaches_output(self, index: int, through: frozenset[str]) -> bool:
        """Whether a tensor goes into the model's outputs and nowhere else, by way of these operators only."""
        readers = self.read_by.get(index, ())
        if not readers:
            return index in self.main.outputs
        return all(
            op.name in through and all(self.reaches_output(output, through) for output in op.outputs) for op in readers
        )

    def before_shapes(self, index: int) -> int:
        """The tensor whose values this one holds, from before any operator that only changes the shape."""
        op = self.made_by.get(index)
        while op is not None and op.name in SHAPE_ONLY:
            index = op.inputs[0]
            op = self.made_by.get(index)
        return index

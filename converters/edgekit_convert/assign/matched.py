"""The operators of an int8 graph beside those of the float graph that it was made from, and the activations between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.graph import Op, Subgraph
from edgekit.inspection import EDGE_OPERATORS
from edgekit.tensors import Array
from edgekit_convert.graph.slices import Sliceable, producers
from edgekit_convert.quantize.mixed import INT16_OPERATORS

#: The types by their codes in an assignment.
TYPES: tuple[str, ...] = ("int8", "int16", "float")
INT8, INT16, FLOAT = range(3)


@dataclass(frozen=True)
class Flow:
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


class Matched:
    """The operators of an int8 graph, each with its original.

    Attributes:
        quantised: the int8 flatbuffer.
        float_model: the float flatbuffer that it was made from; tensors correspond by name.
        whole: the former's graph, which single operators can be cut from.
        exact: likewise the latter's.
        ops: the operators of ``whole``, changes of type left out; an operator's number is its place here.
        originals: each operator's counterpart in ``exact``; ``None`` where there is none.
        names: first output of each operator.
        kinds: each operator's name.
        plain: the assignment of plain int8: float where an operator has no int8 form.
        flows: the activations.
    """

    def __init__(self, quantised: bytes, float_model: bytes) -> None:
        self.quantised, self.float_model = quantised, float_model
        self.whole, self.exact = Sliceable(quantised), Sliceable(float_model)
        main, exact = self.whole.main, self.exact.main
        originals = {exact.tensors[op.outputs[0]].name: op for op in exact.ops if op.outputs}
        self.ops = computing(main)
        self.names = [main.tensors[op.outputs[0]].name for op in self.ops]
        self.kinds = [op.name for op in self.ops]
        self.originals = [originals.get(name) for name in self.names]
        integer = [any(main.tensors[i].dtype == "int8" for i in (*op.inputs, *op.outputs) if i >= 0) for op in self.ops]
        self.plain = np.array([INT8 if item else FLOAT for item in integer], np.uint8)
        self.flows = _flows(main, {op.index: number for number, op in enumerate(self.ops)})

    def able(self) -> Array:
        """Which operator can be given which other type, by its code, as far as the operators' names tell."""
        known = np.array([original is not None for original in self.originals])
        able = np.zeros((3, len(self.ops)), bool)
        able[FLOAT] = known & (self.plain == INT8)
        able[INT16] = able[FLOAT] & np.array([kind in INT16_OPERATORS for kind in self.kinds], bool)
        return able


def computing(main: Subgraph) -> list[Op]:
    """The operators of a graph without the changes of type between them."""
    return [op for op in main.ops if op.name not in EDGE_OPERATORS or main.tensors[op.inputs[0]].data is not None]


def _flows(main: Subgraph, numbers: Mapping[int, int]) -> list[Flow]:
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
        Flow(index, numbers[made[index].index] if index in made else None, found, edges.get(index))
        for index, found in readers.items()
        if main.tensors[index].dtype in code
    ]

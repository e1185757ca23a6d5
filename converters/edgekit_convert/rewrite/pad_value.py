"""PADV2 with a value below everything, before a MAX_POOL_2D → the lowest value that occurs.

A max-pool takes no notice of a padding that is below all else, so that -infinity, -1e9 and the lowest measured value
give the same result; but in int8 the padding sets the scale of the tensor. Where the tensor is never negative the lowest
value is 0 and the operator becomes a PAD, which XNNPACK takes in int8 and PADV2 it does not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.graph import Graph, Op
from edgekit_convert import graph as editing
from edgekit_convert.graph.wiring import Wiring
from edgekit_convert.ranges.extremes import Extremes
from edgekit_convert.rewrite.floats import float_constant


def value_of(wiring: Wiring, op: Op) -> float | None:
    """The constant that an operator pads a float tensor with; ``None`` for other operators and for what is not known."""
    if op.name not in ("PAD", "PADV2") or len(op.inputs) < 3 or not wiring.is_activation(op.inputs[0]):
        return None
    values = wiring.constant(op.inputs[2])
    return float(values.reshape(-1)[0]) if values is not None and values.size else None


def find(graph: Graph) -> tuple[Op, ...]:
    """Every operator that pads with a negative number what goes into max-pools and nowhere else."""
    wiring = Wiring(graph)
    found = []
    for op in graph.main.ops:
        value = value_of(wiring, op)
        readers = wiring.readers(op.outputs)
        only_pools = readers and all(reader.name == "MAX_POOL_2D" for reader in readers)
        if value is not None and value < 0 and only_pools and op.outputs[0] not in graph.main.outputs:
            found.append(op)
    return tuple(found)


def watch(graph: Graph) -> tuple[str, ...]:
    """What must be measured: the tensors that are padded."""
    return tuple(dict.fromkeys(graph.main.tensors[op.inputs[0]].name for op in find(graph)))


def apply(model: Any, graph: Graph, measured: Extremes) -> int:
    """Raise each padding to the lowest value that was measured, or 0; returns how many."""
    wiring = Wiring(graph)
    types = editing.schema()
    main = model.subgraphs[0]
    count = 0
    for op in find(graph):
        old = value_of(wiring, op)
        lowest = measured.get(graph.main.tensors[op.inputs[0]].name, (math.nan, math.nan))[0]
        new = min(lowest, 0.0)
        if old is None or not math.isfinite(lowest) or old >= new:
            continue
        edited = main.operators[op.index]
        if new == 0:
            edited.opcodeIndex = editing.operator_code(model, types.BuiltinOperator.PAD)
            edited.builtinOptionsType, edited.builtinOptions = types.BuiltinOptions.PadOptions, types.PadOptionsT()
            edited.inputs = [int(index) for index in op.inputs[:2]]
        else:
            edited.inputs = [*op.inputs[:2], float_constant(model, b"lowest", np.array(new, np.float32))]
        count += 1
    return count

"""Operators whose inputs are all constants → their result.

The interpreter computes it, so that it is the same to the last bit. A SHAPE of a tensor of fixed size counts as a
constant: a Keras export with an open batch leaves SHAPE → STRIDED_SLICE → PACK → RESHAPE behind, and XNNPACK takes a
RESHAPE only when its shape is a constant.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.graph import Graph, Op
from edgekit.modelfile import ModelFile
from edgekit.tensors import NUMPY_TYPES
from edgekit_convert import graph as editing
from edgekit_convert.graph.wiring import Wiring
from edgekit_convert.ranges import extremes as measuring
from edgekit_convert.ranges.extremes import Extremes

#: Results together may be this much larger than the constants that they come from: a model for a small device.
_GROWTH_BYTES = 1 << 20
_SIZES = frozenset({"SHAPE", "RANK", "ZEROS_LIKE"})
#: Other results at every run, or an effect beside the result.
NOT_FIXED = frozenset(
    {"RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR", "VAR_HANDLE", "READ_VARIABLE",
     "ASSIGN_VARIABLE", "CALL", "CALL_ONCE", "IF", "WHILE", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT",
     "HASHTABLE_SIZE", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE", "STABLEHLO_CASE", "STABLEHLO_CUSTOM_CALL", "DELEGATE"}
)  # fmt: skip
#: The size of the result depends on values: the sizes in the file say nothing.
_DYNAMIC = frozenset(
    {"WHERE", "UNIQUE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "WHILE", "IF", "CALL_ONCE"}
)


def find(graph: Graph) -> tuple[Op, ...]:
    """The operators whose results do not depend on the model's inputs, in order."""
    main = graph.main
    wiring = Wiring(graph)
    known = {tensor.index for tensor in main.tensors if wiring.constant(tensor.index) is not None}
    sizes_fixed = not any(op.custom or op.name in _DYNAMIC for op in main.ops)
    grown = 0
    found = []
    for op in main.ops:
        inputs = [index for index in op.inputs if index >= 0]
        outputs = [main.tensors[index] for index in op.outputs]
        fixed = bool(inputs) and all(index in known for index in inputs)
        if op.name in _SIZES and sizes_fixed:
            fixed = fixed or all(-1 not in main.tensors[index].shape_signature for index in inputs)
        plain = all(
            item.dtype in NUMPY_TYPES and not item.is_variable and item.index not in main.outputs for item in outputs
        )
        if not fixed or not plain or not outputs or op.custom or op.name in NOT_FIXED:
            continue
        size = sum(math.prod(item.shape) * np.dtype(item.dtype).itemsize for item in outputs)
        before = sum(len(main.tensors[index].data or b"") for index in inputs)
        if grown + size - before > _GROWTH_BYTES:
            continue
        grown += max(0, size - before)
        known |= set(op.outputs)
        found.append(op)
    return tuple(found)


def watch(graph: Graph) -> tuple[str, ...]:
    """Nothing needs to be measured."""
    return ()


def apply(model: Any, graph: Graph, measured: Extremes) -> int:
    """Put each result in place of its operator; returns how many operators are gone."""
    folded = find(graph)
    if not folded:
        return 0
    content = editing.write(model)
    made = measuring.interpreter(content)
    zeros = ((index, graph.main.tensors[index]) for index in ModelFile.read(content).graph.main.inputs)
    measuring.invoke(made, {index: np.zeros(tensor.shape, tensor.dtype) for index, tensor in zeros})
    main = model.subgraphs[0]
    gone = {op.index for op in folded}
    wiring = Wiring(graph)
    for op in folded:
        for index in op.outputs:
            if any(reader.index not in gone for reader in wiring.read_by.get(index, ())):
                values = made.get_tensor(index)
                buffer = editing.schema().BufferT()
                buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
                main.tensors[index].buffer = len(model.buffers)
                main.tensors[index].shape = list(values.shape)
                model.buffers.append(buffer)
    main.operators = [op for place, op in enumerate(main.operators) if place not in gone]
    return len(folded)

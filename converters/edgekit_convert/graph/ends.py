"""Outputs that are tensors of their own: a network may give one tensor out twice, or an input as it came in.

A file knows an output by its tensor: two names for one tensor are one name to whoever asks for the tensor's, and a tensor that is
both ends of the graph cannot have two types. A RESHAPE to the same sizes copies the values as they are, in every type.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert import graph as editing


def own_outputs(flatbuffer: bytes) -> bytes:
    """Give each output a tensor and a name of its own.

    Args:
        flatbuffer: a model with all sizes fixed and one signature of its main subgraph.

    Returns:
        The very object where each has them already.
    """
    model = ModelFile.read(flatbuffer)
    main = model.graph.main
    taken = set(main.inputs) | {tensor.index for tensor in main.tensors if tensor.data is not None}
    # Of a tensor that is given out twice all are copies: with real outputs and integers inside, the quantiser leaves a copy of what
    # is itself an output in float.
    taken |= {index for index in main.outputs if main.outputs.count(index) > 1}
    if not taken.intersection(main.outputs):
        return flatbuffer
    edited = editing.read(flatbuffer)
    graph = edited.subgraphs[0]
    signature = next((item for item in edited.signatureDefs or [] if item.subgraphIndex == 0), None)
    named = sorted(signature.outputs, key=lambda item: bytes(item.name)) if signature is not None else []
    names: set[bytes] = set()
    outputs = []
    for index in (int(index) for index in graph.outputs):
        item = next((item for item in named if int(item.tensorIndex) == index), None)
        place = _copied(edited, index) if index in taken else index
        if item is not None:
            named.remove(item)
            item.tensorIndex, item.name = place, _free(bytes(item.name), names)
        outputs.append(place)
    graph.outputs = outputs
    return editing.write(edited)


def _free(name: bytes, names: set[bytes]) -> bytes:
    """The name, with a number behind it where another output has it."""
    free, number = name, 1
    while free in names:
        free, number = name + b"_%d" % number, number + 1
    names.add(free)
    return free


def _copied(edited: Any, index: int) -> int:
    """A tensor with the values of another one, which an operator at the end of the graph copies."""
    types, graph = editing.schema(), edited.subgraphs[0]
    tensor = graph.tensors[index]
    sizes: Array = np.array(tensor.shape if tensor.shape is not None else (), np.int32)
    place = editing.constant(edited, bytes(tensor.name) + b"_sizes", sizes)
    made = copy.copy(tensor)
    made.name, made.buffer, made.sparsity = bytes(tensor.name) + b"_edgekit_%d" % len(graph.tensors), 0, None
    graph.tensors.append(made)
    op = types.OperatorT()
    op.opcodeIndex = editing.operator_code(edited, types.BuiltinOperator.RESHAPE)
    op.builtinOptionsType, op.builtinOptions = types.BuiltinOptions.ReshapeOptions, types.ReshapeOptionsT()
    op.builtinOptions.newShape = [int(size) for size in sizes]
    op.inputs, op.outputs = [index, place], [len(graph.tensors) - 1]
    graph.operators = [*graph.operators, op]
    return len(graph.tensors) - 1

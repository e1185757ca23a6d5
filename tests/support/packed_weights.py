"""Float models with their weights in other clothes: half floats behind DEQUANTIZE, sparse ones, by our own code."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema
from sparse_constants import encode

from edgekit.tensors import Array

FLOAT16, BFLOAT16 = 1, 18  # schema.fbs, enum TensorType


def bfloat16_bits(values: Array) -> Array:
    """The upper halves of float32 numbers."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def _buffer(model: Any, values: Array) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _constants(model: Any, *types: int) -> list[int]:
    tensors = model.subgraphs[0].tensors
    return [i for i, item in enumerate(tensors) if item.type in types and model.buffers[item.buffer].data is not None]


def _values(model: Any, tensor: Any) -> Array:
    kind = np.int8 if tensor.type == 9 else np.float32  # schema.fbs, TensorType.INT8
    return np.frombuffer(bytes(bytearray(model.buffers[tensor.buffer].data)), kind).reshape(tensor.shape)


def _before(model: Any, name: str, tensor: Any, packed: Any) -> None:
    """Compute a tensor from a packed constant, first of all."""
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 3 if name == "DEQUANTIZE" else 1
    model.operatorCodes.append(code)
    packed.name, tensor.buffer = tensor.name + b"_packed", 0
    graph.tensors.append(packed)
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs = len(model.operatorCodes) - 1, [len(graph.tensors) - 1]
    op.outputs = [graph.tensors.index(tensor)]
    graph.operators.insert(0, op)


def halved(content: bytes, kind: str = "float16") -> bytes:
    """A model whose float constants are stored as half floats, each behind a DEQUANTIZE, as TFLiteConverter stores them."""

    def change(model: Any) -> None:
        for index in _constants(model, 0):
            tensor = model.subgraphs[0].tensors[index]
            packed = copy.copy(tensor)
            values = _values(model, tensor)
            packed.type = FLOAT16 if kind == "float16" else BFLOAT16
            packed.buffer = _buffer(model, values.astype(np.float16) if kind == "float16" else bfloat16_bits(values))
            _before(model, "DEQUANTIZE", tensor, packed)

    return models.edited(content, change)


def half_throughout(content: bytes) -> bytes:
    """A model that is float16 everywhere: inputs, constants, activations and outputs."""

    def change(model: Any) -> None:
        for index in _constants(model, 0):
            tensor = model.subgraphs[0].tensors[index]
            tensor.buffer = _buffer(model, _values(model, tensor).astype(np.float16))
        for tensor in model.subgraphs[0].tensors:
            tensor.type = FLOAT16 if tensor.type == 0 else tensor.type

    return models.edited(content, change)


def thinned(content: bytes) -> bytes:
    """A model whose weights have zeros in four of five places."""

    def change(model: Any) -> None:
        random = np.random.default_rng(0)
        for index in _constants(model, 0):
            tensor = model.subgraphs[0].tensors[index]
            if len(tensor.shape) > 1:
                values = _values(model, tensor)
                tensor.buffer = _buffer(
                    model, np.where(random.uniform(size=values.shape) < 0.2, values, 0).astype(np.float32)
                )

    return models.edited(content, change)


def sparse(content: bytes, *, densify: bool, half: bool = False) -> bytes:
    """A model whose weights are stored sparsely.

    Args:
        content: a float model, see ``thinned``.
        densify: whether a DENSIFY fills them up at run time, or the kernels read them as they are.
        half: whether they are float16 as well, with a DEQUANTIZE behind the DENSIFY.
    """

    def change(model: Any) -> None:
        for index in _constants(model, 0, 9):
            tensor = model.subgraphs[0].tensors[index]
            if len(tensor.shape) < 2:
                continue
            values, params = encode(_values(model, tensor), {len(tensor.shape) - 1})
            if not densify:
                tensor.buffer, tensor.sparsity = _buffer(model, values), params
                continue
            dense = tensor
            if half:
                dense = copy.copy(tensor)
                dense.type = FLOAT16
                _before(model, "DEQUANTIZE", tensor, dense)
            packed = copy.copy(dense)
            packed.buffer, packed.sparsity = _buffer(model, values.astype(np.float16) if half else values), params
            _before(model, "DENSIFY", dense, packed)

    return models.edited(content, change)


def with_entry(content: bytes, other: bytes, key: str) -> bytes:
    """A model with another's graph behind its own, as a second signature."""
    second = models.unpacked(other)

    def change(model: Any) -> None:
        buffers, codes = len(model.buffers), len(model.operatorCodes)
        graph, signature = second.subgraphs[0], second.signatureDefs[0]
        for tensor in graph.tensors:
            tensor.buffer += buffers
        for op in graph.operators:
            op.opcodeIndex += codes
        signature.signatureKey, signature.subgraphIndex = key.encode(), len(model.subgraphs)
        model.buffers += second.buffers
        model.operatorCodes += second.operatorCodes
        model.subgraphs.append(graph)
        model.signatureDefs = [*(model.signatureDefs or []), signature]

    return models.edited(content, change)


def named(content: bytes, key: str) -> bytes:
    """A model whose only signature has another name."""

    def change(model: Any) -> None:
        model.signatureDefs[0].signatureKey = key.encode()

    return models.edited(content, change)

"""Weights that are only stored in a smaller type: a DEQUANTIZE turns them into floats, which the operators compute on.

The interpreter runs a DEQUANTIZE of a constant once, when it is loaded or first run, and XNNPACK unpacks it while it
takes the graph, so that a run costs what the float model's does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.graph import Op, Subgraph
from edgekit.inspection import weights_of
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert import graph as editing

_FLOAT16_TOP = float(np.finfo(np.float16).max)
#: The axis of the output channels in each operator's weights (TensorFlow Lite 8-bit quantization specification); 0 elsewhere.
_CHANNEL_AXIS = {"DEPTHWISE_CONV_2D": 3, "CONV_3D": 4, "CONV_3D_TRANSPOSE": 3}


def store_weights(float_model: bytes, dtype: str) -> bytes:
    """Store the weights of all layers in another type; biases and activations stay float.

    Args:
        float_model: the pivot.
        dtype: ``"float16"``, or ``"int8"`` for symmetric integers with a scale for each output channel.

    Returns:
        The flatbuffer. Weights that are not finite, or beyond float16's range, stay float32.
    """
    types = editing.schema()
    main = ModelFile.read(float_model).graph.main
    edited = editing.read(float_model)
    graph = edited.subgraphs[0]
    version = 3 if dtype == "float16" else 5  # the first DEQUANTIZE of float16, and of a scale for each channel
    code: int | None = None
    front: list[Any] = []
    for index, op in _stored(main):
        values = main.tensors[index].array()
        packed = _packed(values, op, dtype)
        if packed is None:
            continue
        stored, scales, axis = packed
        if code is None:
            code = editing.operator_code(edited, types.BuiltinOperator.DEQUANTIZE, version=version)
        tensor = graph.tensors[index]
        floats = types.TensorT()
        floats.name, floats.shape, floats.type = _name(tensor) + b"_float32", tensor.shape, types.TensorType.FLOAT32
        floats.hasRank = True
        graph.tensors.append(floats)
        number = len(graph.tensors) - 1
        for reader in graph.operators:
            reader.inputs = [number if item == index else item for item in reader.inputs]
        editing.set_constant(edited, index, stored)
        tensor.type = types.TensorType.FLOAT16 if dtype == "float16" else types.TensorType.INT8
        if scales is not None:
            tensor.quantization = types.QuantizationParametersT()
            tensor.quantization.scale = [float(scale) for scale in scales]
            tensor.quantization.zeroPoint = [0] * len(scales)
            tensor.quantization.quantizedDimension = axis
        front.append(_dequantize(types, code, index, number))
    graph.operators = [*front, *graph.operators]
    return editing.write(edited)


def _stored(main: Subgraph) -> list[tuple[int, Op]]:
    """The float weights to store, each with its first reader."""
    found: dict[int, Op] = {}
    for op in main.ops:
        for tensor in weights_of(main, op):
            if tensor.dtype == "float32" and not tensor.sparse and tensor.index not in main.outputs:
                found.setdefault(tensor.index, op)
    return list(found.items())


def _packed(values: Array, op: Op, dtype: str) -> tuple[Array, Array | None, int] | None:
    """The values in another type, with scales and their axis for integers; ``None`` for what it cannot hold."""
    if not np.isfinite(values).all() or (dtype == "float16" and np.abs(values).max(initial=0) > _FLOAT16_TOP):
        return None
    if dtype == "float16":
        return values.astype(np.float16), None, 0
    axis = _axis(op, values.ndim)
    top = np.abs(values).max(axis=tuple(item for item in range(values.ndim) if item != axis), keepdims=True)
    scales = (top.astype(np.float64) / 127).astype(np.float32)
    scales[scales == 0] = 1.0  # a channel without weights, or with ones that float32 can hardly hold
    rounded = np.clip(np.rint(values / scales), -127, 127).astype(np.int8)
    return rounded, scales.reshape(-1), axis


def _axis(op: Op, rank: int) -> int:
    if op.name == "BATCH_MATMUL":
        return rank - 2 if op.option(1, "b", 0) else rank - 1  # BatchMatMulOptions.adj_y
    axis = _CHANNEL_AXIS.get(op.name, 0)
    return axis if axis < rank else 0


def _name(tensor: Any) -> bytes:
    name = tensor.name
    return name.encode() if isinstance(name, str) else bytes(name or b"weights")


def _dequantize(types: Any, code: int, source: int, result: int) -> Any:
    op = types.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = code, [source], [result]
    op.builtinOptionsType = types.BuiltinOptions.DequantizeOptions
    op.builtinOptions = types.DequantizeOptionsT()
    return op

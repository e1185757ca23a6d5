"""Tiny models, built by our own code, that load in every interpreter."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.manifest import Manifest, append
from edgekit.tensors import Array, QuantParams, quantize

_OP = schema.BuiltinOperator
_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}


@dataclass
class Builder:
    """Assembles a one-subgraph model with the schema's object API."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    ops: list[Any] = field(default_factory=list)
    codes: list[Any] = field(default_factory=list)

    def tensor(
        self, name: str, shape: tuple[int, ...], dtype: str = "float32", *, data: Array | None = None,
        quant: QuantParams | None = None, open_batch: bool = False,
    ) -> int:  # fmt: skip
        """Add a tensor and return its index; ``open_batch`` leaves the first size open."""
        item = schema.TensorT()
        item.name, item.shape, item.type = name.encode(), list(shape), _TYPES[dtype]
        item.hasRank = True
        if open_batch:
            item.shapeSignature = [-1, *shape[1:]]
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            item.buffer = len(self.buffers)
            self.buffers.append(buffer)
        if quant is not None:
            params = schema.QuantizationParametersT()
            params.scale, params.zeroPoint = list(quant.scales), list(quant.zero_points)
            params.quantizedDimension = quant.axis
            item.quantization = params
        self.tensors.append(item)
        return len(self.tensors) - 1

    def op(
        self, name: str, inputs: list[int], outputs: list[int], options: tuple[str, Any] | None = None, version: int = 1
    ) -> None:
        """Add an operator; ``options`` is the name of the options union member and its object."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(_OP, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = version
        self.codes.append(code)
        item = schema.OperatorT()
        item.opcodeIndex = len(self.codes) - 1
        item.inputs, item.outputs = inputs, outputs
        if options is not None:
            item.builtinOptionsType = getattr(schema.BuiltinOptions, options[0])
            item.builtinOptions = options[1]
        self.ops.append(item)

    def build(self, inputs: dict[str, int], outputs: dict[str, int], *, signature: bool = True) -> bytes:
        """The finished file."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.name = self.tensors, self.ops, b"main"
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], self.buffers, self.codes
        model.description = b"made by edgekit's tests"
        if signature:
            model.signatureDefs = [_signature(inputs, outputs)]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _signature(inputs: dict[str, int], outputs: dict[str, int]) -> Any:
    def pairs(named: dict[str, int]) -> list[Any]:
        result = []
        for name, index in named.items():
            item = schema.TensorMapT()
            item.name, item.tensorIndex = name.encode(), index
            result.append(item)
        return result

    item = schema.SignatureDefT()
    item.signatureKey, item.subgraphIndex = b"serving_default", 0
    item.inputs, item.outputs = pairs(inputs), pairs(outputs)
    return item


def _random(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def dense_float(*, open_batch: bool = False, signature: bool = True) -> bytes:
    """Float 8 → 4: FULLY_CONNECTED, SOFTMAX. Input ``x``, output ``probabilities``."""
    b = Builder()
    x = b.tensor("x", (1, 8), open_batch=open_batch)
    w = b.tensor("weights", (4, 8), data=_random(1, 4, 8))
    bias = b.tensor("bias", (4,), data=_random(2, 4))
    logits = b.tensor("logits", (1, 4), open_batch=open_batch)
    y = b.tensor("probabilities", (1, 4), open_batch=open_batch)
    b.op("FULLY_CONNECTED", [x, w, bias], [logits], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    b.op("SOFTMAX", [logits], [y], ("SoftmaxOptions", softmax))
    return b.build({"x": x}, {"probabilities": y}, signature=signature)


#: The int8 model's maps: inputs from -4 to 4, outputs from -8 to 8.
DENSE_INPUT = QuantParams((8 / 255,), (0,))
DENSE_OUTPUT = QuantParams((16 / 255,), (0,))


def dense_int8() -> bytes:
    """Int8 8 → 4: FULLY_CONNECTED. Input ``x``, output ``logits``; the same weights as ``dense_float``."""
    b = Builder()
    weights, bias = _random(1, 4, 8), _random(2, 4)
    scale = float(np.abs(weights).max() / 127)
    x = b.tensor("x", (1, 8), "int8", quant=DENSE_INPUT)
    w = b.tensor(
        "weights",
        (4, 8),
        "int8",
        data=quantize(weights, QuantParams((scale,), (0,)), "int8"),
        quant=QuantParams((scale,), (0,)),
    )
    bias_quant = QuantParams((scale * DENSE_INPUT.scales[0],), (0,))
    c = b.tensor("bias", (4,), "int32", data=quantize(bias, bias_quant, "int32"), quant=bias_quant)
    y = b.tensor("logits", (1, 4), "int8", quant=DENSE_OUTPUT)
    b.op("FULLY_CONNECTED", [x, w, c], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()), version=4)
    return b.build({"x": x}, {"logits": y})


def dense_logits(x: Array) -> Array:
    """What ``dense_float`` computes before its softmax, with numpy."""
    return np.asarray(x @ _random(1, 4, 8).T + _random(2, 4), np.float32)


def conv_float(*, size: int = 12, channels: int = 3, classes: int = 5, seed: int = 3) -> bytes:
    """Float image classifier: CONV_2D with RELU, MEAN, FULLY_CONNECTED, SOFTMAX. Input ``image``."""
    b = Builder()
    x = b.tensor("image", (1, size, size, channels))
    w = b.tensor("kernel", (8, 3, 3, channels), data=_random(seed, 8, 3, 3, channels))
    c = b.tensor("kernel_bias", (8,), data=_random(seed + 1, 8))
    features = b.tensor("features", (1, size, size, 8))
    axes = b.tensor("axes", (2,), "int32", data=np.array([1, 2], np.int32))
    pooled = b.tensor("pooled", (1, 8))
    v = b.tensor("weights", (classes, 8), data=_random(seed + 2, classes, 8) * 4)
    d = b.tensor("bias", (classes,), data=_random(seed + 3, classes))
    logits = b.tensor("logits", (1, classes))
    y = b.tensor("probabilities", (1, classes))
    conv = schema.Conv2DOptionsT()
    conv.strideH = conv.strideW = conv.dilationHFactor = conv.dilationWFactor = 1
    conv.padding, conv.fusedActivationFunction = 0, 1
    b.op("CONV_2D", [x, w, c], [features], ("Conv2DOptions", conv))
    reducer = schema.ReducerOptionsT()
    reducer.keepDims = False
    b.op("MEAN", [features, axes], [pooled], ("ReducerOptions", reducer))
    b.op("FULLY_CONNECTED", [pooled, v, d], [logits], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    b.op("SOFTMAX", [logits], [y], ("SoftmaxOptions", softmax))
    return b.build({"image": x}, {"probabilities": y})


def add_two_inputs() -> bytes:
    """Float: outputs ``sum`` = a + b and ``difference`` = a - b, of shape ``[1, 4]``."""
    b = Builder()
    first, second = b.tensor("a", (1, 4)), b.tensor("b", (1, 4))
    total, difference = b.tensor("sum", (1, 4)), b.tensor("difference", (1, 4))
    b.op("ADD", [first, second], [total], ("AddOptions", schema.AddOptionsT()))
    b.op("SUB", [first, second], [difference], ("SubOptions", schema.SubOptionsT()))
    return b.build({"a": first, "b": second}, {"sum": total, "difference": difference})


def fixed_reshape() -> bytes:
    """Float ``[?, 8]`` → ``[2, 4]``: the batch is open, and a RESHAPE to a fixed size takes one sample only."""
    b = Builder()
    x = b.tensor("x", (1, 8), open_batch=True)
    shape = b.tensor("shape", (2,), "int32", data=np.array([2, 4], np.int32))
    y = b.tensor("y", (2, 4))
    b.op("RESHAPE", [x, shape], [y])
    return b.build({"x": x}, {"y": y})


def custom_op(name: str = "Mystery") -> bytes:
    """Float 4 → 4 through a custom operator that no interpreter has."""
    b = Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 4))
    b.op("CUSTOM", [x], [y])
    b.codes[-1].customCode = name.encode()
    return b.build({"x": x}, {"y": y})


def unpacked(content: bytes) -> Any:
    """A file as LiteRT's own schema package reads it: a ``ModelT``."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def edited(content: bytes, change: Callable[[Any], object]) -> bytes:
    """The same model after ``change`` was made to its ``ModelT``."""
    model = unpacked(content)
    change(model)
    builder = flatbuffers.Builder(1024)
    with warnings.catch_warnings():
        # The schema package compares arrays in a way that numpy announces to change.
        warnings.simplefilter("ignore", DeprecationWarning)
        builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def announced(content: bytes) -> bytes:
    """The flatbuffer with the entry that announces a manifest of edgekit behind it."""
    from edgekit_convert.graph import with_metadata

    return with_metadata(content, "made by edgekit's tests", {})


def with_manifest(content: bytes, **fields: Any) -> bytes:
    """A model file with a manifest of these fields behind the flatbuffer."""
    flatbuffer = announced(content)
    return append(flatbuffer, Manifest(hashlib.sha256(flatbuffer).hexdigest(), **fields))

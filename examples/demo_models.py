"""Tiny models for the examples' ``--demo``: made by hand, from constants that can be understood, with LiteRT's own schema.

A model of yours takes their place with ``--model``.
"""

from __future__ import annotations

import math
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FLOAT32, INT32 = 0, 2


class Network:
    """A model under construction: one input, one output, one operator behind the other."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self._tensors: list[Any] = []
        self._buffers = [schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: list[Any] = []
        self._last = self._tensor(name, shape)

    def _tensor(self, name: str, shape: tuple[int, ...], data: Any = None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.hasRank = name.encode(), [*shape], FLOAT32, True
        if data is not None:
            tensor.type = FLOAT32 if data.dtype == np.float32 else INT32
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def add(self, operator: str, name: str, shape: tuple[int, ...], constants: list[Any], options: Any = None) -> None:
        """Put an operator behind the last one; its output has this name and shape."""
        inputs = [self._last, *(self._tensor(f"{name}_{i}", item.shape, item) for i, item in enumerate(constants))]
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, operator)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self._codes.append(code)
        item = schema.OperatorT()
        item.opcodeIndex, item.inputs = len(self._codes) - 1, inputs
        self._last = self._tensor(name, shape)
        item.outputs = [self._last]
        if options is not None:
            item.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            item.builtinOptions = options
        self._operators.append(item)

    def softmax(self, classes: int) -> None:
        """End with probabilities."""
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        self.add("SOFTMAX", "probabilities", (1, classes), [], options)

    def build(self) -> bytes:
        """The finished file."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.name = self._tensors, self._operators, b"main"
        graph.inputs, graph.outputs = [0], [self._last]
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], self._buffers, self._codes
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


#: What the camera's model tells apart.
QUARTERS = ("top left", "top right", "bottom left", "bottom right")


def brightest_quarter(size: int = 32) -> bytes:
    """Which quarter of a picture ``[size, size, 3]``, values 0 to 1, is the brightest."""
    network = Network("image", (1, size, size, 3))
    pool = schema.Pool2DOptionsT()
    pool.strideW = pool.strideH = pool.filterWidth = pool.filterHeight = size // 2
    pool.padding = schema.Padding.VALID
    network.add("AVERAGE_POOL_2D", "quarters", (1, 2, 2, 3), [], pool)
    network.add("RESHAPE", "flat", (1, 12), [np.array([1, 12], np.int32)])
    weights = np.kron(np.eye(4), np.full((1, 3), 8.0)).astype(np.float32)
    network.add(
        "FULLY_CONNECTED", "logits", (1, 4), [weights, np.zeros(4, np.float32)], schema.FullyConnectedOptionsT()
    )
    network.softmax(4)
    return network.build()


#: What the microphone's model tells apart: quiet, and three tones by their frequency in Hz.
TONES = {"quiet": 0.0, "low": 440.0, "middle": 880.0, "high": 1760.0}


def loudest_tone(frames: int, centres_hz: Any) -> bytes:
    """Which tone is in a window of band energies ``[frames, bands]``, 0 for quiet and 1 for loud."""
    bands = len(centres_hz)
    network = Network("features", (1, frames, bands))
    reducer = schema.ReducerOptionsT()
    reducer.keepDims = False
    network.add("MEAN", "average", (1, bands), [np.array([1], np.int32)], reducer)
    weights = np.zeros((len(TONES), bands), np.float32)
    for row, frequency in enumerate(TONES.values()):
        if frequency:
            weights[row, int(np.argmin(np.abs(np.asarray(centres_hz) - frequency)))] = 20.0
    bias = np.array([4.0] + [0.0] * (len(TONES) - 1), np.float32)
    network.add("FULLY_CONNECTED", "logits", (1, len(TONES)), [weights, bias], schema.FullyConnectedOptionsT())
    network.softmax(len(TONES))
    return network.build()


def some_work(size: int = 64, channels: int = 16, layers: int = 4) -> bytes:
    """A few convolutions with random weights: about 10 million multiply-accumulates, for putting under load."""
    random = np.random.default_rng(0)
    network = Network("image", (1, size, size, channels))
    for number in range(layers):
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
        options.padding, options.fusedActivationFunction = schema.Padding.SAME, schema.ActivationFunctionType.RELU
        kernel = random.normal(0, 1 / math.sqrt(9 * channels), (channels, 3, 3, channels)).astype(np.float32)
        network.add(
            "CONV_2D", f"layer_{number}", (1, size, size, channels), [kernel, np.zeros(channels, np.float32)], options
        )
    return network.build()

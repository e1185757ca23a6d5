"""Float networks of a few layers, put together layer by layer, and what the refinements ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.graph import Subgraph
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.graph.slices import Runner
from edgekit_convert.quantize import quantize
from edgekit_convert.ranges import Statistics, measure

NONE, RELU, RELU6 = 0, 1, 3
SAME, VALID = 0, 1
Samples = list[list[Array]]


@dataclass
class Net(models.Builder):
    """Adds layers with random weights; each method returns the index of its output, which is named ``t<index>``."""

    seed: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def shape(self, index: int) -> tuple[int, ...]:
        """A tensor's shape."""
        return tuple(self.tensors[index].shape)

    def input(self, *shape: int, dtype: str = "float32", name: str = "x") -> int:
        """An input, batch axis included."""
        return self.tensor(name, shape, dtype)

    def constant(self, values: Any, dtype: str = "float32") -> int:
        """A constant."""
        values = np.asarray(values, dtype)
        return self.tensor(f"c{len(self.tensors)}", values.shape, dtype, data=values)

    def result(self, shape: Sequence[int], dtype: str = "float32") -> int:
        """A tensor that an operator is going to compute."""
        return self.tensor(f"t{len(self.tensors)}", tuple(shape), dtype)

    def normal(self, *shape: int) -> Array:
        """Weights for a layer: their number of inputs makes their size."""
        return (self.random.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def conv(self, x: int, out: int = 0, size: int = 3, *, stride: int = 1, padding: int = SAME, act: int = NONE,
             weights: Array | None = None, bias: Array | None = None, shared: tuple[int, int] | None = None,
             groups: int = 1) -> int:  # fmt: skip
        """CONV_2D; ``shared`` are the tensor indices of another layer's weights and bias."""
        _, height, width, channels = self.shape(x)
        if shared is None:
            weights = self.normal(out, size, size, channels // groups) if weights is None else weights
            bias = self.random.normal(0, 0.3, len(weights)) if bias is None else bias
            shared = self.constant(weights), self.constant(bias)
        out, size = self.shape(shared[0])[:2]
        options = schema.Conv2DOptionsT()
        return self._window(
            "CONV_2D", "Conv2DOptions", options, [x, *shared], (height, width, out), size, stride, padding, act
        )

    def depthwise(self, x: int, size: int = 3, *, stride: int = 1, padding: int = SAME, act: int = NONE,
                  weights: Array | None = None, bias: Array | None = None) -> int:  # fmt: skip
        """DEPTHWISE_CONV_2D, multiplier 1."""
        _, height, width, channels = self.shape(x)
        weights = self.random.normal(0, 1 / size, (1, size, size, channels)) if weights is None else weights
        bias = self.random.normal(0, 0.3, channels) if bias is None else bias
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = 1
        inputs = [x, self.constant(weights), self.constant(bias)]
        return self._window(
            "DEPTHWISE_CONV_2D",
            "DepthwiseConv2DOptions",
            options,
            inputs,
            (height, width, channels),
            size,
            stride,
            padding,
            act,
        )

    def pool(self, name: str, x: int, size: int = 2) -> int:
        """MAX_POOL_2D or AVERAGE_POOL_2D, as many places apart as it is wide."""
        options = schema.Pool2DOptionsT()
        options.filterHeight = options.filterWidth = size
        return self._window(name, "Pool2DOptions", options, [x], self.shape(x)[1:], size, size, VALID, NONE)

    def _window(self, name: str, kind: str, options: Any, inputs: list[int], whole: tuple[int, ...], size: int,
                stride: int, padding: int, act: int) -> int:  # fmt: skip
        height, width, channels = whole
        options.strideH = options.strideW = stride
        if "Conv" in kind:
            options.dilationHFactor = options.dilationWFactor = 1
        options.padding, options.fusedActivationFunction = padding, act
        shrink = size - 1 if padding == VALID else 0
        y = self.result((1, -(-(height - shrink) // stride), -(-(width - shrink) // stride), channels))
        self.op(name, inputs, [y], (kind, options))
        return y

    def dense(self, x: int, out: int = 0, *, act: int = NONE, weights: Array | None = None, bias: Array | None = None,
              shared: tuple[int, int] | None = None) -> int:  # fmt: skip
        """FULLY_CONNECTED."""
        if shared is None:
            weights = self.normal(out, self.shape(x)[-1]) if weights is None else weights
            bias = self.random.normal(0, 0.3, len(weights)) if bias is None else bias
            shared = self.constant(weights), self.constant(bias)
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = act
        y = self.result((1, self.shape(shared[0])[0]))
        self.op("FULLY_CONNECTED", [x, *shared], [y], ("FullyConnectedOptions", options))
        return y

    def add(self, a: int, b: int, *, act: int = NONE) -> int:
        """ADD; the first has the output's shape."""
        options = schema.AddOptionsT()
        options.fusedActivationFunction = act
        return self.simple("ADD", [a, b], self.shape(a), ("AddOptions", options))

    def concat(self, *inputs: int) -> int:
        """CONCATENATION along the last axis."""
        options = schema.ConcatenationOptionsT()
        options.axis = -1
        shape = (*self.shape(inputs[0])[:-1], sum(self.shape(index)[-1] for index in inputs))
        return self.simple("CONCATENATION", list(inputs), shape, ("ConcatenationOptions", options))

    def pad(self, x: int, size: int = 1) -> int:
        """PAD around an image with zeros."""
        _, height, width, channels = self.shape(x)
        sizes = self.constant([[0, 0], [size, size], [size, size], [0, 0]], "int32")
        return self.simple(
            "PAD", [x, sizes], (1, height + 2 * size, width + 2 * size, channels), ("PadOptions", schema.PadOptionsT())
        )

    def mean(self, x: int) -> int:
        """MEAN over an image."""
        options = schema.ReducerOptionsT()
        options.keepDims = False
        axes = self.constant([1, 2], "int32")
        return self.simple("MEAN", [x, axes], (1, self.shape(x)[-1]), ("ReducerOptions", options))

    def squeeze(self, x: int) -> int:
        """SQUEEZE of an image of one place."""
        options = schema.SqueezeOptionsT()
        options.squeezeDims = [1, 2]
        return self.simple("SQUEEZE", [x], (1, self.shape(x)[-1]), ("SqueezeOptions", options))

    def reshape(self, x: int, *shape: int) -> int:
        """RESHAPE, of floats or int32."""
        dtype = "int32" if self.tensors[x].type == 2 else "float32"
        y = self.result(shape, dtype)
        self.op("RESHAPE", [x, self.constant(shape, "int32")], [y])
        return y

    def softmax(self, x: int, *, name: str = "SOFTMAX") -> int:
        """SOFTMAX or LOG_SOFTMAX."""
        if name == "LOG_SOFTMAX":
            return self.simple(name, [x], self.shape(x), ("LogSoftmaxOptions", schema.LogSoftmaxOptionsT()))
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self.simple(name, [x], self.shape(x), ("SoftmaxOptions", options))

    def simple(self, name: str, inputs: list[int], shape: Sequence[int], options: tuple[str, Any] | None = None) -> int:
        """Any operator with one float output."""
        y = self.result(shape)
        self.op(name, inputs, [y], options)
        return y

    def finish(self, *outputs: int) -> bytes:
        """The model; its inputs are the tensors that nothing computes and that are no constants."""
        made = {int(index) for op in self.ops for index in op.outputs}
        free = [i for i, item in enumerate(self.tensors) if item.buffer == 0 and i not in made]
        names = {index: self.tensors[index].name.decode() for index in (*free, *outputs)}
        return self.build({names[i]: i for i in free}, {names[i]: i for i in outputs})


def samples(content: bytes, count: int, seed: int = 1, size: float = 1.0) -> Samples:
    """Normally distributed inputs of a model, one list for each sample."""
    random = np.random.default_rng(seed)
    shapes = [spec.shape for spec in ModelFile.read(content).inputs]
    return [[random.normal(0, size, shape).astype(np.float32) for shape in shapes] for _ in range(count)]


def statistics(content: bytes, inputs: Samples) -> Statistics:
    """What the converter measures on a model."""
    specs = ModelFile.read(content).inputs
    arrays = {spec.name: np.concatenate([sample[place] for sample in inputs]) for place, spec in enumerate(specs)}
    data = CalibrationSet(open_data(arrays, specs, len(inputs), "calibration"), specs, {})
    return measure(content, data, lambda done: None)


def quantised(content: bytes, inputs: Samples) -> bytes:
    """The model in int8 over its extremes."""
    return quantize(content, statistics(content, inputs).ranges, "int8")


def outputs(content: bytes, inputs: Samples) -> list[list[Array]]:
    """What the interpreter's own kernels compute."""
    runner = Runner(content, delegate=False)
    return [runner.run(sample) for sample in inputs]


def main_of(content: bytes) -> Subgraph:
    """The read-only view of the main subgraph."""
    return ModelFile.read(content).graph.main


def residual(seed: int = 0) -> bytes:
    """Image classifier: convolutions, a skip connection, a max-pool, flattened into a dense layer and a softmax."""
    net = Net(seed=seed)
    x = net.input(1, 8, 8, 3)
    a = net.conv(x, 6, act=RELU)
    b = net.conv(net.depthwise(a, act=RELU6), 6)
    c = net.pool("MAX_POOL_2D", net.add(a, b, act=RELU))
    return net.finish(net.softmax(net.dense(net.reshape(c, 1, 96), 5)))

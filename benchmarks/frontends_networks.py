"""Networks that are described once and built in each framework, with the same weights.

Padding is the same on all sides, as ONNX and PyTorch have it: Keras pads by a layer of its own where its SAME would pad otherwise.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.tensors import Array

sys.path.append(str(Path(__file__).resolve().parent.parent / "examples"))
from onnx_file import Onnx

#: The input: height, width, channels.
SHAPE = (64, 64, 3)
CLASSES = 10


@dataclass(frozen=True)
class Conv:
    """A convolution, and an activation: ``relu``, ``relu6``, ``hard_sigmoid``, ``sigmoid`` or none.

    Attributes:
        weights: [height, width, inputs, outputs]; depthwise with one input.
        bias: one for each output.
        stride: along both axes.
        depthwise: whether each channel has a kernel of its own.
        act: the activation.
    """

    weights: Array
    bias: Array
    stride: int = 1
    depthwise: bool = False
    act: str = ""


@dataclass(frozen=True)
class Norm:
    """Batch normalisation and ReLU: factor, summand, mean and variance of each channel."""

    factor: Array
    summand: Array
    mean: Array
    variance: Array


@dataclass(frozen=True)
class Residual:
    """What the layers make, and what they were given, added."""

    layers: tuple[Any, ...]


@dataclass(frozen=True)
class Gate:
    """A factor for each channel from the mean over the image, by two 1 × 1 convolutions."""

    layers: tuple[Any, ...]


@dataclass(frozen=True)
class Branches:
    """Several ways, put together along the channels."""

    ways: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class MaxPool:
    """The largest of 2 × 2."""


@dataclass(frozen=True)
class Mean:
    """The mean over the image: [channels]."""


@dataclass(frozen=True)
class Flatten:
    """All values of an image in one row: in the order of its framework."""


@dataclass(frozen=True)
class Dense:
    """A dense layer.

    Attributes:
        weights: [inputs, outputs].
        bias: one for each output.
        image: height, width, channels of the image that was flattened before it; ``None`` for none. The weights are in the order
            of channels last.
    """

    weights: Array
    bias: Array
    image: tuple[int, int, int] | None = None


class Maker:
    """Layers with random weights, each of a size that keeps values in bounds."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def conv(self, inputs: int, outputs: int, size: int = 3, stride: int = 1, act: str = "relu") -> Conv:
        """A convolution."""
        scale = np.sqrt(2 / (size * size * inputs))
        weights = self._random.normal(0, scale, (size, size, inputs, outputs)).astype(np.float32)
        return Conv(weights, self._bias(outputs), stride, False, act)

    def depthwise(self, channels: int, stride: int = 1, act: str = "relu6") -> Conv:
        """A depthwise convolution, 3 × 3."""
        weights = self._random.normal(0, 0.5, (3, 3, channels, 1)).astype(np.float32)
        return Conv(weights, self._bias(channels), stride, True, act)

    def norm(self, channels: int) -> Norm:
        """Batch normalisation."""
        spread = self._random.uniform(0.5, 1.5, (2, channels)).astype(np.float32)
        return Norm(spread[0], self._bias(channels), self._bias(channels), spread[1])

    def dense(self, inputs: int, outputs: int, image: tuple[int, int, int] | None = None) -> Dense:
        """A dense layer."""
        weights = self._random.normal(0, np.sqrt(1 / inputs), (inputs, outputs)).astype(np.float32)
        return Dense(weights, self._bias(outputs), image)

    def _bias(self, count: int) -> Array:
        return self._random.normal(0, 0.1, count).astype(np.float32)


def networks() -> dict[str, tuple[Any, ...]]:
    """The networks by name."""
    make = Maker(7)

    def inverted(inputs: int, wide: int, outputs: int, stride: int) -> tuple[Any, ...]:
        gate = Gate((make.conv(wide, 8, 1), make.conv(8, wide, 1, act="sigmoid")))
        layers = (
            make.conv(inputs, wide, 1, act="relu6"), make.depthwise(wide, stride), gate, make.conv(wide, outputs, 1, act=""),
        )  # fmt: skip
        return (Residual(layers),) if stride == 1 and inputs == outputs else layers

    def fire(inputs: int, few: int, many: int) -> tuple[Any, ...]:
        return (make.conv(inputs, few, 1), Branches(((make.conv(few, many, 1),), (make.conv(few, many),))))

    return {
        "residual": (
            make.conv(3, 16, act=""), make.norm(16),
            Residual((make.conv(16, 16), make.conv(16, 16, act=""))), make.norm(16),
            make.conv(16, 32, stride=2), Residual((make.conv(32, 32), make.conv(32, 32, act=""))), make.norm(32),
            make.conv(32, 64, stride=2), Residual((make.conv(64, 64), make.conv(64, 64, act=""))),
            Mean(), make.dense(64, CLASSES),
        ),
        "mobile": (
            make.conv(3, 16, stride=2), *inverted(16, 64, 24, 2), *inverted(24, 96, 24, 1), *inverted(24, 96, 40, 2),
            *inverted(40, 160, 40, 1), make.conv(40, 128, 1), Mean(), make.dense(128, CLASSES),
        ),
        "branches": (
            make.conv(3, 24, stride=2), MaxPool(), *fire(24, 12, 32), *fire(64, 16, 32), MaxPool(), *fire(64, 24, 48),
            make.conv(96, 16, 1), Flatten(), make.dense(8 * 8 * 16, 32, (8, 8, 16)), make.dense(32, CLASSES),
        ),
    }  # fmt: skip


def in_keras(layers: tuple[Any, ...]) -> Any:
    """As a Keras model, channels last."""
    import keras

    def run(x: Any, some: tuple[Any, ...]) -> Any:
        for layer in some:
            x = step(x, layer)
        return x

    def step(x: Any, layer: Any) -> Any:
        if isinstance(layer, Conv):
            size = layer.weights.shape[0]
            if layer.stride > 1 and size > 1:
                x = keras.layers.ZeroPadding2D(size // 2)(x)
            padding = "valid" if layer.stride > 1 else "same"
            if layer.depthwise:
                made = keras.layers.DepthwiseConv2D(size, strides=layer.stride, padding=padding)
            else:
                made = keras.layers.Conv2D(layer.weights.shape[3], size, strides=layer.stride, padding=padding)
            x = made(x)
            made.set_weights([layer.weights, layer.bias])
            return activation(x, layer.act)
        if isinstance(layer, Norm):
            made = keras.layers.BatchNormalization(epsilon=1e-5)
            x = made(x)
            made.set_weights([layer.factor, layer.summand, layer.mean, layer.variance])
            return keras.layers.ReLU()(x)
        if isinstance(layer, Residual):
            return keras.layers.Add()([run(x, layer.layers), x])
        if isinstance(layer, Gate):
            return keras.layers.Multiply()(
                [x, run(keras.layers.GlobalAveragePooling2D(keepdims=True)(x), layer.layers)]
            )
        if isinstance(layer, Branches):
            return keras.layers.Concatenate()([run(x, way) for way in layer.ways])
        if isinstance(layer, Dense):
            made = keras.layers.Dense(layer.weights.shape[1])
            x = made(x)
            made.set_weights([layer.weights, layer.bias])
            return x
        plain = {
            MaxPool: keras.layers.MaxPooling2D, Mean: keras.layers.GlobalAveragePooling2D, Flatten: keras.layers.Flatten,
        }  # fmt: skip
        return plain[type(layer)]()(x)

    def activation(x: Any, name: str) -> Any:
        if not name:
            return x
        return keras.layers.ReLU(6.0)(x) if name == "relu6" else keras.layers.Activation(name)(x)

    source = keras.Input(SHAPE, name="image")
    return keras.Model(source, run(source, layers))


def in_tensorflow_channels_first(layers: tuple[Any, ...]) -> bytes:
    """As a float ``.tflite`` with the channels first inside: what a converter writes that puts TRANSPOSEs around each layer."""
    import tensorflow as tf

    def last(x: Any) -> Any:
        return tf.transpose(x, (0, 2, 3, 1))

    def first(x: Any) -> Any:
        return tf.transpose(x, (0, 3, 1, 2))

    def run(x: Any, some: tuple[Any, ...]) -> Any:
        for layer in some:
            x = step(x, layer)
        return x

    def step(x: Any, layer: Any) -> Any:
        if isinstance(layer, Conv):
            edge = layer.weights.shape[0] // 2
            if edge and layer.stride > 1:
                x = tf.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
            padding = "VALID" if layer.stride > 1 else "SAME"
            if layer.depthwise:
                y = tf.nn.depthwise_conv2d(last(x), layer.weights, (1, layer.stride, layer.stride, 1), padding)
            else:
                y = tf.nn.conv2d(last(x), layer.weights, layer.stride, padding)
            y = first(y) + layer.bias.reshape(-1, 1, 1)
            acts = {"": lambda item: item, "relu": tf.nn.relu, "relu6": tf.nn.relu6, "sigmoid": tf.sigmoid}
            return acts[layer.act](y)
        if isinstance(layer, Norm):
            factor = layer.factor / np.sqrt(layer.variance + 1e-5)
            summand = layer.summand - layer.mean * factor
            return tf.nn.relu(x * factor.reshape(-1, 1, 1) + summand.reshape(-1, 1, 1))
        if isinstance(layer, Residual):
            return run(x, layer.layers) + x
        if isinstance(layer, Gate):
            return x * run(tf.reduce_mean(x, (2, 3), keepdims=True), layer.layers)
        if isinstance(layer, Branches):
            return tf.concat([run(x, way) for way in layer.ways], 1)
        if isinstance(layer, Dense):
            return tf.matmul(x, in_order(layer)) + layer.bias
        if isinstance(layer, MaxPool):
            return first(tf.nn.max_pool2d(last(x), 2, 2, "VALID"))
        return tf.reduce_mean(x, (2, 3)) if isinstance(layer, Mean) else tf.reshape(x, (1, -1))

    @tf.function(input_signature=[tf.TensorSpec((1, *SHAPE), tf.float32, "image")])
    def serve(image: Any) -> Any:
        return run(first(image), layers)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()])
    return bytes(converter.convert())


def in_onnx(layers: tuple[Any, ...]) -> bytes:
    """As an ONNX file."""
    model = Onnx()

    def run(x: str, some: tuple[Any, ...]) -> str:
        for layer in some:
            x = step(x, layer)
        return x

    def step(x: str, layer: Any) -> str:
        if isinstance(layer, Conv):
            order = (2, 3, 0, 1) if layer.depthwise else (3, 2, 0, 1)
            size = layer.weights.shape[0]
            y = model.node(
                "Conv", [x, model.weights(layer.weights.transpose(order)), model.weights(layer.bias)],
                kernel_shape=[size, size], strides=[layer.stride] * 2, pads=[size // 2] * 4,
                group=layer.weights.shape[2] if layer.depthwise else 1,
            )  # fmt: skip
            if layer.act == "relu6":
                return model.node("Clip", [y, model.weights(np.float32(0)), model.weights(np.float32(6))])
            return model.node({"relu": "Relu", "sigmoid": "Sigmoid"}[layer.act], [y]) if layer.act else y
        if isinstance(layer, Norm):
            values = [model.weights(item) for item in (layer.factor, layer.summand, layer.mean, layer.variance)]
            return model.node("Relu", [model.node("BatchNormalization", [x, *values], epsilon=1e-5)])
        if isinstance(layer, Residual):
            return model.node("Add", [run(x, layer.layers), x])
        if isinstance(layer, Gate):
            return model.node("Mul", [x, run(model.node("GlobalAveragePool", [x]), layer.layers)])
        if isinstance(layer, Branches):
            return model.node("Concat", [run(x, way) for way in layer.ways], axis=1)
        if isinstance(layer, Dense):
            return model.node("Gemm", [x, model.weights(in_order(layer)), model.weights(layer.bias)])
        if isinstance(layer, MaxPool):
            return model.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        y = model.node("GlobalAveragePool", [x]) if isinstance(layer, Mean) else x
        return model.node("Flatten", [y], axis=1)

    height, width, channels = SHAPE
    model.node("Identity", [run("image", layers)], ["scores"])
    return model.build({"image": [1, channels, height, width]}, {"scores": [1, CLASSES]})


def in_torch(layers: tuple[Any, ...]) -> Any:
    """As a PyTorch module, in eval mode."""
    import torch
    from torch import nn

    def tensor(values: Array) -> Any:
        return nn.Parameter(torch.from_numpy(np.ascontiguousarray(values)))

    class Together(nn.Module):  # type: ignore[misc]  # PyTorch is not always there to be looked at
        def __init__(self, kind: str, ways: list[Any]) -> None:
            super().__init__()
            self.kind, self.ways = kind, nn.ModuleList(ways)

        def forward(self, x: Any) -> Any:
            if self.kind == "add":
                return self.ways[0](x) + x
            if self.kind == "gate":
                return x * self.ways[0](x.mean((2, 3), keepdim=True))
            return torch.cat([way(x) for way in self.ways], 1)

    class MeanOfImage(nn.Module):  # type: ignore[misc]  # as above
        def forward(self, x: Any) -> Any:
            return x.mean((2, 3))

    def row(some: tuple[Any, ...]) -> Any:
        return nn.Sequential(*(module for layer in some for module in modules(layer)))

    def modules(layer: Any) -> list[Any]:
        if isinstance(layer, Conv):
            height, _, inputs, outputs = layer.weights.shape
            groups = inputs if layer.depthwise else 1
            made = nn.Conv2d(
                inputs, inputs if layer.depthwise else outputs, height, layer.stride, height // 2, groups=groups
            )
            made.weight = tensor(layer.weights.transpose((2, 3, 0, 1) if layer.depthwise else (3, 2, 0, 1)))
            made.bias = tensor(layer.bias)
            acts = {"relu": nn.ReLU, "relu6": nn.ReLU6, "sigmoid": nn.Sigmoid}
            return [made, *([acts[layer.act]()] if layer.act else [])]
        if isinstance(layer, Norm):
            made = nn.BatchNorm2d(len(layer.factor))
            made.weight, made.bias = tensor(layer.factor), tensor(layer.summand)
            made.running_mean.copy_(torch.from_numpy(layer.mean))
            made.running_var.copy_(torch.from_numpy(layer.variance))
            return [made, nn.ReLU()]
        if isinstance(layer, Residual | Gate):
            return [Together("add" if isinstance(layer, Residual) else "gate", [row(layer.layers)])]
        if isinstance(layer, Branches):
            return [Together("concat", [row(way) for way in layer.ways])]
        if isinstance(layer, Dense):
            made = nn.Linear(*layer.weights.shape)
            made.weight, made.bias = tensor(in_order(layer).T), tensor(layer.bias)
            return [made]
        return [{MaxPool: lambda: nn.MaxPool2d(2), Mean: MeanOfImage, Flatten: nn.Flatten}[type(layer)]()]

    return row(layers).eval()


def in_order(layer: Dense) -> Array:
    """A dense layer's weights for an image that was flattened with its channels first."""
    if layer.image is None:
        return layer.weights
    count = int(np.prod(layer.image))
    return layer.weights[np.arange(count).reshape(layer.image).transpose(2, 0, 1).reshape(-1)]

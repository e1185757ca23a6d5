"""Spellings that the rewrites for the delegate look for: each adds a few operators to a small float network.

A pattern takes an image of shape [1, height, width, channels] and gives one back; those in ``PATTERNS`` can follow each other in any
order, which is what random networks are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from small_nets import NONE, RELU, SAME, VALID, Net

Pattern = Callable[[Net, int], int]


def options(kind: str, **fields: Any) -> tuple[str, Any]:
    """An operator's options, as ``Builder.op`` takes them."""
    made = getattr(schema, f"{kind}T")()
    for name, value in fields.items():
        setattr(made, name, value)
    return kind, made


def binary(net: Net, name: str, a: int, b: int, act: int = NONE) -> int:
    """ADD, SUB, MUL or DIV; the first operand has the result's shape."""
    kind = f"{name.capitalize()}Options"
    return net.simple(name, [a, b], net.shape(a), options(kind, fusedActivationFunction=act))


def limit(net: Net, name: str, x: int, number: float, *, first: bool = False) -> int:
    """MAXIMUM or MINIMUM of a tensor and a number."""
    constant = net.constant(number)
    inputs = [constant, x] if first else [x, constant]
    return net.simple(name, inputs, net.shape(x), options("MaximumMinimumOptions"))


def transpose(net: Net, x: int, *order: int) -> int:
    """TRANSPOSE."""
    shape = [net.shape(x)[axis] for axis in order]
    return net.simple("TRANSPOSE", [x, net.constant(order, "int32")], shape, options("TransposeOptions"))


def mean(net: Net, x: int, *axes: int, keep: bool) -> int:
    """MEAN over some axes."""
    shape = [1 if axis in axes else size for axis, size in enumerate(net.shape(x)) if keep or axis not in axes]
    return net.simple("MEAN", [x, net.constant(axes, "int32")], shape, options("ReducerOptions", keepDims=keep))


def hard_swish(net: Net, x: int) -> int:
    """HARD_SWISH."""
    return net.simple("HARD_SWISH", [x], net.shape(x), options("HardSwishOptions"))


def lone_relu(net: Net, x: int) -> int:
    """RELU behind what cannot have it fused."""
    return net.simple("RELU", [net.pool("MAX_POOL_2D", x, 1)], net.shape(x))


def relu_behind_convolution(net: Net, x: int) -> int:
    """CONV_2D, RELU."""
    y = net.conv(x, net.shape(x)[-1])
    return net.simple("RELU", [y], net.shape(y))


def clamp(net: Net, x: int) -> int:
    """CONV_2D, MAXIMUM with 0, MINIMUM with 6."""
    y = net.conv(x, net.shape(x)[-1])
    return limit(net, "MINIMUM", limit(net, "MAXIMUM", y, 0.0), 6.0, first=True)


def clamp_between(net: Net, x: int) -> int:
    """ADD, MINIMUM with 1, MAXIMUM with -1."""
    y = net.add(x, x)
    return limit(net, "MAXIMUM", limit(net, "MINIMUM", y, 1.0), -1.0)


def clamp_alone(net: Net, x: int) -> int:
    """MAXIMUM with 0 behind what cannot have it fused."""
    return limit(net, "MAXIMUM", net.pool("MAX_POOL_2D", x, 1), 0.0)


def nearest(net: Net, x: int, *, height: int = 2, width: int = 2, half_pixel: bool = False) -> int:
    """RESIZE_NEAREST_NEIGHBOR by whole factors."""
    _, rows, columns, channels = net.shape(x)
    size = net.constant([rows * height, columns * width], "int32")
    shape = (1, rows * height, columns * width, channels)
    return net.simple(
        "RESIZE_NEAREST_NEIGHBOR",
        [x, size],
        shape,
        options("ResizeNearestNeighborOptions", halfPixelCenters=half_pixel),
    )


def tile(net: Net, x: int) -> int:
    """What Keras makes of UpSampling2D: RESHAPE, TILE, RESHAPE, along the width."""
    _, height, width, channels = net.shape(x)
    apart = net.reshape(x, 1, height, width, 1, channels)
    copies = net.constant([1, 1, 1, 2, 1], "int32")
    y = net.simple("TILE", [apart, copies], (1, height, width, 2, channels), options("TileOptions"))
    return net.reshape(y, 1, height, 2 * width, channels)


def split_many(net: Net, x: int) -> int:
    """SPLIT into 6 parts along the channels, put together the other way round."""
    x = net.conv(x, 6, 1)
    parts = [net.result((*net.shape(x)[:3], 1)) for _ in range(6)]
    net.op("SPLIT", [net.constant(3, "int32"), x], parts, options("SplitOptions", numSplits=6))
    return net.concat(*parts[::-1])


def split_sizes(net: Net, x: int) -> int:
    """SPLIT_V into 1 and the rest; the first part is read twice."""
    channels = net.shape(x)[-1] + 1
    x = net.conv(x, channels, 1)
    parts = [net.result((*net.shape(x)[:3], size)) for size in (1, channels - 1)]
    sizes, axis = net.constant([1, channels - 1], "int32"), net.constant(-1, "int32")
    net.op("SPLIT_V", [x, sizes, axis], parts, options("SplitVOptions", numSplits=2))
    return net.concat(parts[0], parts[1], parts[0])


def unpack_and_pack(net: Net, x: int) -> int:
    """UNPACK into rows, PACK them upside down."""
    _, height, width, channels = net.shape(x)
    rows = [net.result((1, width, channels)) for _ in range(height)]
    net.op("UNPACK", [x], rows, options("UnpackOptions", num=height, axis=1))
    return net.simple("PACK", rows[::-1], net.shape(x), options("PackOptions", valuesCount=height, axis=1))


def drop_axis(net: Net, x: int) -> int:
    """STRIDED_SLICE that takes the second row without its axis, added to the image."""
    _, _, width, channels = net.shape(x)
    numbers = [net.constant(values, "int32") for values in ([0, 1, 0, 0], [0, 2, 0, 0], [1, 1, 1, 1])]
    kind = options("StridedSliceOptions", beginMask=0b1101, endMask=0b1101, shrinkAxisMask=0b0010)
    row = net.simple("STRIDED_SLICE", [x, *numbers], (1, width, channels), kind)
    return binary(net, "ADD", x, row)


def gather(net: Net, x: int) -> int:
    """GATHER of two neighbouring columns."""
    places = net.constant([1, 2], "int32")
    shape = (*net.shape(x)[:2], 2, net.shape(x)[3])
    y = net.simple("GATHER", [x, places], shape, options("GatherOptions", axis=2))
    return net.concat(y, y)


def every_other(net: Net, x: int) -> int:
    """STRIDED_SLICE of every second row, beginning with the second, and every third column."""
    _, height, width, channels = net.shape(x)
    numbers = [net.constant(values, "int32") for values in ([0, 1, 0, 0], [0, height, 0, 0], [1, 2, 3, 1])]
    kind = options("StridedSliceOptions", beginMask=0b1001, endMask=0b1101)
    return net.simple("STRIDED_SLICE", [x, *numbers], (1, height // 2, -(-width // 3), channels), kind)


def depth_to_space(net: Net, x: int) -> int:
    """DEPTH_TO_SPACE in blocks of 2 × 2."""
    _, height, width, channels = net.shape(x)
    y = net.conv(x, 4 * channels, 1)
    shape = (1, 2 * height, 2 * width, channels)
    return net.simple("DEPTH_TO_SPACE", [y], shape, options("DepthToSpaceOptions", blockSize=2))


def largest(net: Net, x: int, *, keep: bool = True) -> int:
    """REDUCE_MAX over an image, taken off it."""
    channels = net.shape(x)[-1]
    axes = net.constant([1, 2], "int32")
    shape = (1, 1, 1, channels) if keep else (1, channels)
    return binary(net, "SUB", x, net.simple("REDUCE_MAX", [x, axes], shape, options("ReducerOptions", keepDims=keep)))


def matmul_right(net: Net, x: int, *, turned: bool = False) -> int:
    """BATCH_MATMUL of an image's rows by a constant."""
    channels = net.shape(x)[-1]
    weights = net.normal(5, channels)
    constant = net.constant((weights if turned else weights.T)[None, None])
    return net.simple("BATCH_MATMUL", [x, constant], (*net.shape(x)[:3], 5), options("BatchMatMulOptions", adjY=turned))


def matmul_left(net: Net, x: int, *, turned: bool = False, other_turned: bool = False) -> int:
    """BATCH_MATMUL of a constant by the places of an image."""
    _, height, width, channels = net.shape(x)
    flat = net.reshape(x, 1, height * width, channels)
    if other_turned:
        flat = transpose(net, flat, 0, 2, 1)
    weights = net.normal(height * width, height * width)
    constant = net.constant(weights.T[None] if turned else weights[None])
    kind = options("BatchMatMulOptions", adjX=turned, adjY=other_turned)
    y = net.simple("BATCH_MATMUL", [constant, flat], (1, height * width, channels), kind)
    return net.reshape(y, 1, height, width, channels)


def layer_norm(net: Net, x: int) -> int:
    """Layer normalisation with SQUARED_DIFFERENCE, SQRT and DIV."""
    middle = mean(net, x, 3, keep=True)
    squared = net.simple("SQUARED_DIFFERENCE", [x, middle], net.shape(x), options("SquaredDifferenceOptions"))
    spread = binary(net, "ADD", mean(net, squared, 3, keep=True), net.constant(0.01))
    return binary(net, "DIV", binary(net, "SUB", x, middle), net.simple("SQRT", [spread], net.shape(spread)))


def batch_norm(net: Net, x: int) -> int:
    """A convolution, and batch normalisation and an activation that the exporter left standing."""
    channels = net.shape(x)[-1]
    y = net.conv(x, channels)
    y = binary(net, "MUL", y, net.constant(1 + 0.3 * net.normal(channels)))
    y = binary(net, "DIV", y, net.constant(2.0))
    return binary(net, "ADD", y, net.constant(net.normal(1, 1, 1, channels)), act=RELU)


def batch_norm_depthwise(net: Net, x: int) -> int:
    """The same behind a depthwise convolution: a constant less the result."""
    y = net.depthwise(x)
    y = net.simple("SUB", [net.constant(net.normal(net.shape(x)[-1])), y], net.shape(y), options("SubOptions"))
    return binary(net, "MUL", y, net.constant(-0.5))


def batch_norm_behind_sum(net: Net, x: int) -> int:
    """A sum, and batch normalisation as PyTorch spells it, with an activation: no layer before or behind can take it."""
    channels = net.shape(x)[-1]
    y = binary(net, "SUB", net.add(x, x), net.constant(net.normal(channels)))
    y = binary(net, "MUL", y, net.constant(1 + 0.3 * net.normal(channels)))
    y = binary(net, "MUL", y, net.constant(1 + 0.3 * net.normal(1, 1, channels)))
    return binary(net, "ADD", y, net.constant(net.normal(channels)), act=RELU)


def opposite(net: Net, x: int) -> int:
    """A sum, and a constant less it, twice: only something added is left."""
    y = net.add(x, x)
    for number in (3.0, 1.0):
        y = net.simple("SUB", [net.constant(number), y], net.shape(y), options("SubOptions"))
    return net.simple("RELU", [y], net.shape(y))


def input_scaling(net: Net, x: int) -> int:
    """What a model does to its own input: a product, a difference and a quotient, before a layer that pads."""
    y = binary(net, "MUL", x, net.constant(1 / 127.5))
    y = binary(net, "SUB", y, net.constant(net.normal(net.shape(x)[-1])))
    return net.conv(binary(net, "DIV", y, net.constant(0.5)), 4)


def input_factor(net: Net, x: int) -> int:
    """A factor for each channel before a depthwise convolution."""
    return net.depthwise(binary(net, "MUL", x, net.constant(1 + 0.3 * net.normal(net.shape(x)[-1]))))


def average_pool(net: Net, x: int) -> int:
    """AVERAGE_POOL_2D, 2 × 2, one place apart, without padding."""
    _, height, width, channels = net.shape(x)
    kind = options("Pool2DOptions", filterHeight=2, filterWidth=2, strideH=1, strideW=1, padding=VALID)
    return net.simple("AVERAGE_POOL_2D", [x], (1, height - 1, width - 1, channels), kind)


def dilated(net: Net, x: int, *, depthwise: bool = False, step: int = 2, same: bool = True) -> int:
    """SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND."""
    _, height, width, channels = net.shape(x)
    before = step if same else 0
    ends = [-(size + 2 * before) % step for size in (height, width)]
    pads = net.constant([[before, before + end] for end in ends], "int32")
    crops = net.constant([[0, end] for end in ends], "int32")
    parts = [(size + 2 * before + end) // step for size, end in zip((height, width), ends, strict=True)]
    block = net.constant([step, step], "int32")
    apart = net.simple(
        "SPACE_TO_BATCH_ND", [x, block, pads], (step * step, *parts, channels), options("SpaceToBatchNDOptions")
    )
    y = net.depthwise(apart, padding=VALID) if depthwise else net.conv(apart, channels, padding=VALID)
    net.tensors[y].shape = [step * step, parts[0] - 2, parts[1] - 2, channels]
    shrunk = 0 if same else 2 * step
    return net.simple(
        "BATCH_TO_SPACE_ND",
        [y, block, crops],
        (1, height - shrunk, width - shrunk, channels),
        options("BatchToSpaceNDOptions"),
    )


def one_slope(net: Net, x: int) -> int:
    """PRELU with one slope for all channels."""
    return net.simple("PRELU", [x, net.constant(np.full((1, 1, net.shape(x)[-1]), 0.25))], net.shape(x))


def slopes(net: Net, x: int) -> int:
    """PRELU with a slope for each channel."""
    values = net.random.uniform(0.1, 0.9, (1, 1, net.shape(x)[-1]))
    return net.simple("PRELU", [x, net.constant(values)], net.shape(x))


def leaky_relu(net: Net, x: int) -> int:
    """LEAKY_RELU."""
    return net.simple("LEAKY_RELU", [x], net.shape(x), options("LeakyReluOptions", alpha=0.1))


def no_slope(net: Net, x: int) -> int:
    """A convolution and a PRELU with slopes of 0."""
    y = net.conv(x, net.shape(x)[-1])
    return net.simple("PRELU", [y, net.constant(np.zeros((1, 1, net.shape(y)[-1])))], net.shape(y))


def division(net: Net, x: int) -> int:
    """DIV by a constant, POW with 2 and 3, ADD_N."""
    y = binary(net, "DIV", x, net.constant(3.0))
    powers = [net.simple("POW", [y, net.constant(power)], net.shape(x), options("PowOptions")) for power in (2.0, 3.0)]
    return net.simple("ADD_N", [x, *powers], net.shape(x), options("AddNOptions"))


def channels_first(net: Net, x: int) -> int:
    """To channels first and back, by two TRANSPOSEs each, around a sum."""
    y = transpose(net, transpose(net, x, 0, 3, 1, 2), 0, 2, 3, 1)
    z = transpose(net, transpose(net, y, 0, 3, 1, 2), 0, 1, 3, 2)
    return transpose(net, binary(net, "ADD", z, z), 0, 3, 2, 1)


def twice(net: Net, x: int) -> int:
    """The same convolution computed twice, from equal constants."""
    channels = net.shape(x)[-1]
    weights, bias = net.normal(channels, 1, 1, channels), net.normal(channels)
    return net.add(net.conv(x, weights=weights, bias=bias), net.conv(x, weights=weights, bias=bias))


def reshapes(net: Net, x: int) -> int:
    """RESHAPE after RESHAPE and back, and a SLICE of everything."""
    _, height, width, channels = net.shape(x)
    y = net.reshape(net.reshape(x, height, width * channels), 1, height, width, channels)
    begin, size = net.constant([0, 0, 0, 0], "int32"), net.constant([1, -1, -1, -1], "int32")
    return net.simple("SLICE", [y, begin, size], net.shape(x), options("SliceOptions"))


def squeeze_excite(net: Net, x: int) -> int:
    """MEAN without its axes, FULLY_CONNECTED, LOGISTIC, RESHAPE for the broadcast, MUL."""
    channels = net.shape(x)[-1]
    gate = net.dense(mean(net, x, 1, 2, keep=False), channels)
    gate = net.simple("LOGISTIC", [gate], (1, channels))
    return binary(net, "MUL", x, net.reshape(gate, 1, 1, 1, channels))


def mean_and_reshape(net: Net, x: int) -> int:
    """MEAN without its axes, RESHAPE with them, subtracted."""
    return binary(net, "SUB", x, net.reshape(mean(net, x, 1, 2, keep=False), 1, 1, 1, net.shape(x)[-1]))


def padded(net: Net, x: int) -> int:
    """PAD by 1, a 3 × 3 convolution without padding."""
    return net.conv(net.pad(x), net.shape(x)[-1], padding=VALID)


def gelu(net: Net, x: int, cube: int | None = None) -> int:
    """GELU by its tanh approximation, spelled out; ``cube`` is what was made of x³."""
    cube = binary(net, "MUL", binary(net, "MUL", x, x), x) if cube is None else cube
    inner = binary(net, "ADD", x, binary(net, "MUL", cube, net.constant(0.044715)))
    bent = net.simple("TANH", [binary(net, "MUL", inner, net.constant(np.sqrt(2 / np.pi)))], net.shape(x))
    return binary(net, "MUL", binary(net, "MUL", x, net.constant(0.5)), binary(net, "ADD", bent, net.constant(1.0)))


def silu(net: Net, x: int) -> int:
    """SiLU as x / (1 + exp(-x))."""
    falling = net.simple(
        "EXP", [net.simple("NEG", [x], net.shape(x), options("NegOptions"))], net.shape(x), options("ExpOptions")
    )
    return binary(net, "DIV", x, binary(net, "ADD", falling, net.constant(1.0)))


#: By the name of the rule that is for them; the first of each is what random networks take.
PATTERNS: dict[str, list[Pattern]] = {
    "hard-swish": [hard_swish],
    "fused": [relu_behind_convolution, clamp, clamp_between, clamp_alone, no_slope],
    "lone": [lone_relu],
    "nearest": [nearest],
    "tile": [tile],
    "split": [split_many, split_sizes, unpack_and_pack],
    "join": [split_many, unpack_and_pack],
    "slices": [drop_axis, gather],
    "strides": [every_other],
    "depth-to-space": [depth_to_space],
    "reduce-max": [largest],
    "batch-matmul": [matmul_right, matmul_left],
    "squared-difference": [layer_norm],
    "affine": [batch_norm, batch_norm_depthwise],
    "scaled": [input_scaling, input_factor],
    "average-pool": [average_pool],
    "dilated": [dilated],
    "one-slope": [one_slope],
    "leaky": [leaky_relu, slopes],
    "division": [division],
    "steps": [batch_norm_behind_sum, opposite],
    "transposes": [channels_first],
    "common": [twice],
    "reshapes": [reshapes],
    "broadcast": [squeeze_excite, mean_and_reshape],
    "pad": [padded],
    "spelled-out": [gelu, silu],
}


def network(*patterns: Pattern, seed: int = 0, size: int = 6, channels: int = 4) -> bytes:
    """A small network of some patterns, one behind the other, between two convolutions."""
    net = Net(seed=seed)
    x = net.conv(net.input(1, size, size, channels), channels, padding=SAME)
    for pattern in patterns:
        x = pattern(net, x)
    return net.finish(net.conv(x, 3, 1))

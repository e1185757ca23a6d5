"""Float networks whose channels come first, as ONNX and PyTorch have them, with TRANSPOSEs around what TFLite has for channels last only.

A pattern takes a tensor of shape [1, channels, height, width] and gives one back, so that they can follow each other in any order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from delegate_patterns import binary, mean, options, transpose
from small_nets import NONE, RELU, SAME, VALID, Net

Pattern = Callable[[Net, int], int]
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def conv(
    net: Net, x: int, out: int = 0, size: int = 3, *, stride: int = 1, padding: int = SAME, act: int = NONE
) -> int:
    """CONV_2D between two TRANSPOSEs."""
    y = net.conv(transpose(net, x, *LAST), out or net.shape(x)[1], size, stride=stride, padding=padding, act=act)
    return transpose(net, y, *FIRST)


def relu(net: Net, x: int) -> int:
    """RELU."""
    return net.simple("RELU", [x], net.shape(x))


def batch_norm(net: Net, x: int) -> int:
    """A factor and a summand for each channel, in two shapes, and a RELU."""
    channels = net.shape(x)[1]
    y = binary(net, "MUL", x, net.constant(1 + 0.3 * net.normal(channels, 1, 1)))
    return binary(net, "ADD", y, net.constant(net.normal(1, channels, 1, 1)), act=RELU)


def prelu(net: Net, x: int) -> int:
    """PRELU with a slope for each channel."""
    slopes = net.random.uniform(0.1, 0.9, (net.shape(x)[1], 1, 1))
    return net.simple("PRELU", [x, net.constant(slopes)], net.shape(x))


def residual(net: Net, x: int) -> int:
    """Two convolutions and what came in, added."""
    return binary(net, "ADD", conv(net, relu(net, conv(net, x))), x, act=RELU)


def pool(net: Net, x: int) -> int:
    """MAX_POOL_2D of single places."""
    return transpose(net, net.pool("MAX_POOL_2D", transpose(net, x, *LAST), 1), *FIRST)


def padded(net: Net, x: int) -> int:
    """PAD, a convolution without padding."""
    _, channels, height, width = net.shape(x)
    frame = net.constant([[0, 0], [0, 0], [1, 1], [1, 1]], "int32")
    y = net.simple("PAD", [x, frame], (1, channels, height + 2, width + 2), options("PadOptions"))
    return conv(net, y, padding=VALID)


def concat(net: Net, x: int) -> int:
    """CONCATENATION along the channels."""
    y = conv(net, x, 3)
    _, channels, height, width = net.shape(x)
    kind = options("ConcatenationOptions", axis=-3)
    return conv(net, net.simple("CONCATENATION", [x, y], (1, channels + 3, height, width), kind), channels)


def concat_constant(net: Net, x: int) -> int:
    """CONCATENATION of a constant channel behind the others."""
    _, channels, height, width = net.shape(x)
    places = net.constant(net.normal(1, 1, height, width))
    kind = options("ConcatenationOptions", axis=1)
    return conv(net, net.simple("CONCATENATION", [x, places], (1, channels + 1, height, width), kind), channels)


def split(net: Net, x: int) -> int:
    """SPLIT in two along the channels, of which one is a gate."""
    _, channels, height, width = net.shape(x)
    y = conv(net, x, 2 * channels, 1)
    parts = [net.result((1, channels, height, width)) for _ in range(2)]
    net.op("SPLIT", [net.constant(1, "int32"), y], parts, options("SplitOptions", numSplits=2))
    return binary(net, "MUL", parts[0], net.simple("LOGISTIC", [parts[1]], net.shape(x)))


def split_sizes(net: Net, x: int) -> int:
    """SPLIT_V along the channels into 1 and the rest, put together the other way round."""
    _, channels, height, width = net.shape(x)
    y = conv(net, x, channels + 1, 1)
    parts = [net.result((1, size, height, width)) for size in (1, channels)]
    sizes, axis = net.constant([1, channels], "int32"), net.constant(-3, "int32")
    net.op("SPLIT_V", [y, sizes, axis], parts, options("SplitVOptions", numSplits=2))
    kind = options("ConcatenationOptions", axis=1)
    return conv(net, net.simple("CONCATENATION", parts[::-1], (1, channels + 1, height, width), kind), channels)


def slices(net: Net, x: int) -> int:
    """SLICE of some channels, STRIDED_SLICE of others by masks, added."""
    _, channels, height, width = net.shape(x)
    y = conv(net, x, channels + 2, 1)
    shape = (1, channels, height, width)
    begin, size = net.constant([0, 1, 0, 0], "int32"), net.constant([1, channels, -1, -1], "int32")
    first = net.simple("SLICE", [y, begin, size], shape, options("SliceOptions"))
    numbers = [net.constant(values, "int32") for values in ([0, 2], [0, 0], [1, 1])]
    kind = options("StridedSliceOptions", beginMask=0b01, endMask=0b11)
    return binary(net, "ADD", first, net.simple("STRIDED_SLICE", [y, *numbers], shape, kind))


def drop_row(net: Net, x: int) -> int:
    """STRIDED_SLICE of the second row without its axis, as a sum over the width a factor for each channel."""
    _, channels, _, width = net.shape(x)
    numbers = [net.constant(values, "int32") for values in ([0, 0, 1, 0], [0, 0, 2, 0], [1, 1, 1, 1])]
    kind = options("StridedSliceOptions", beginMask=0b1011, endMask=0b1011, shrinkAxisMask=0b0100)
    row = net.simple("STRIDED_SLICE", [x, *numbers], (1, channels, width), kind)
    factor = net.simple("LOGISTIC", [mean(net, row, 2, keep=False)], (1, channels))
    return binary(net, "MUL", x, net.reshape(factor, 1, channels, 1, 1))


def gate(net: Net, x: int) -> int:
    """MEAN that keeps its axes, a 1 × 1 convolution, LOGISTIC, MUL."""
    y = conv(net, mean(net, x, 2, 3, keep=True), 0, 1)
    return binary(net, "MUL", x, net.simple("LOGISTIC", [y], net.shape(y)))


def squeeze_excite(net: Net, x: int) -> int:
    """MEAN without its axes, FULLY_CONNECTED, LOGISTIC, RESHAPE for the broadcast, MUL."""
    channels = net.shape(x)[1]
    y = net.dense(mean(net, x, 2, 3, keep=False), channels)
    y = net.simple("LOGISTIC", [y], (1, channels))
    return binary(net, "MUL", x, net.reshape(y, 1, channels, 1, 1))


def channel_norm(net: Net, x: int) -> int:
    """Layer normalisation over the channels."""
    middle = mean(net, x, 1, keep=True)
    centred = binary(net, "SUB", x, middle)
    spread = mean(net, binary(net, "MUL", centred, centred), 1, keep=True)
    spread = binary(net, "ADD", spread, net.constant(0.01))
    return binary(net, "MUL", centred, net.simple("RSQRT", [spread], net.shape(spread)))


def softmax(net: Net, x: int) -> int:
    """SOFTMAX over the channels, which TFLite has for the last axis only."""
    return transpose(net, net.softmax(transpose(net, x, *LAST)), *FIRST)


def tile(net: Net, x: int) -> int:
    """TILE of what a mean left, and BROADCAST_TO, multiplied."""
    _, _, height, width = net.shape(x)
    y = mean(net, x, 2, 3, keep=True)
    copies, shape = net.constant([1, 1, height, width], "int32"), net.constant(net.shape(x), "int32")
    tiled = net.simple("TILE", [y, copies], net.shape(x), options("TileOptions"))
    spread = net.result(net.shape(x))
    kind = options("BroadcastToOptions")
    net.op("BROADCAST_TO", [mean(net, x, 3, keep=True), shape], [spread], kind, version=2)
    return binary(net, "ADD", binary(net, "MUL", tiled, spread), x)


def gather(net: Net, x: int) -> int:
    """GATHER of the channels in another order, REVERSE_V2 of the rows."""
    places = net.constant(np.arange(net.shape(x)[1])[::-1], "int32")
    y = net.simple("GATHER", [x, places], net.shape(x), options("GatherOptions", axis=1))
    return net.simple("REVERSE_V2", [y, net.constant([-2], "int32")], net.shape(x), options("ReverseV2Options"))


def running_sum(net: Net, x: int) -> int:
    """CUMSUM along the width, scaled down."""
    y = net.simple("CUMSUM", [x, net.constant(3, "int32")], net.shape(x), options("CumsumOptions"))
    return binary(net, "MUL", y, net.constant(0.2))


def rows_of_places(net: Net, x: int) -> int:
    """RESHAPE to [1, channels, places], LOGISTIC, RESHAPE back."""
    _, channels, height, width = net.shape(x)
    y = net.reshape(x, 1, channels, height * width)
    return net.reshape(net.simple("LOGISTIC", [y], net.shape(y)), 1, channels, height, width)


#: Of these nothing is left.
PATTERNS: list[Pattern] = [
    relu, batch_norm, prelu, residual, pool, padded, concat, concat_constant, split, split_sizes, slices, drop_row, gate,
    squeeze_excite, channel_norm, softmax, tile, gather, running_sum, rows_of_places,
]  # fmt: skip


def shuffle(net: Net, x: int) -> int:
    """A shuffle of the channels: RESHAPE into two groups, TRANSPOSE, RESHAPE."""
    _, channels, height, width = net.shape(x)
    y = net.reshape(x, 1, 2, channels // 2, height, width)
    return net.reshape(transpose(net, y, 0, 2, 1, 3, 4), 1, channels, height, width)


def pixel_shuffle(net: Net, x: int) -> int:
    """Channels become places: RESHAPE, TRANSPOSE, RESHAPE."""
    _, channels, height, width = net.shape(x)
    y = net.reshape(conv(net, x, 4 * channels, 1), 1, channels, 2, 2, height, width)
    y = net.reshape(transpose(net, y, 0, 1, 4, 2, 5, 3), 1, channels, 2 * height, 2 * width)
    return conv(net, y, stride=2)


def pixels_in_two_passes(net: Net, x: int) -> int:
    """The same as litert-torch 0.10 has it for one channel: rows and columns of pixels one after the other."""
    _, channels, height, width = net.shape(x)
    y = transpose(net, conv(net, x, 4, 1), *LAST)
    y = transpose(net, net.reshape(y, 1, height * width, 2, 2), 0, 2, 1, 3)
    y = transpose(net, net.reshape(y, 1, 2, height, 2 * width), 0, 2, 1, 3)
    return conv(net, net.reshape(y, 1, 1, 2 * height, 2 * width), channels, stride=2)


def windows(net: Net, x: int) -> int:
    """An image cut into four windows and put together again, by two TRANSPOSEs, with a softmax of each place in between."""
    _, channels, height, width = net.shape(x)
    y = net.reshape(transpose(net, x, *LAST), 1, 2, height // 2, 2, width // 2, channels)
    y = net.softmax(net.reshape(transpose(net, y, 0, 1, 3, 2, 4, 5), 4, height * width // 4, channels))
    y = net.reshape(y, 1, 2, 2, height // 2, width // 2, channels)
    return transpose(net, net.reshape(transpose(net, y, 0, 1, 3, 2, 4, 5), 1, height, width, channels), *FIRST)


def attention(net: Net, x: int) -> int:
    """The places of an image as rows of channels, each with what it is like: BATCH_MATMUL, SOFTMAX, BATCH_MATMUL."""
    _, channels, height, width = net.shape(x)
    count = height * width
    rows = transpose(net, net.reshape(x, 1, channels, count), 0, 2, 1)
    kind = options("BatchMatMulOptions", adjX=False, adjY=True)
    likeness = net.softmax(net.simple("BATCH_MATMUL", [rows, rows], (1, count, count), kind))
    kind = options("BatchMatMulOptions", adjX=False, adjY=False)
    y = net.simple("BATCH_MATMUL", [likeness, rows], (1, count, channels), kind)
    return net.reshape(transpose(net, y, 0, 2, 1), 1, channels, height, width)


def flattened(net: Net, x: int) -> int:
    """A RESHAPE to one row, something elementwise, and two dense layers that both read it."""
    count = int(np.prod(net.shape(x)))
    y = binary(net, "MUL", net.reshape(x, 1, count), net.constant(1 + 0.1 * net.normal(1, count)))
    y = net.simple("LOGISTIC", [y], (1, count))
    return binary(net, "ADD", net.dense(y, 5, act=RELU), net.dense(y, 5))


def flattened_and_normalised(net: Net, x: int) -> int:
    """Layer normalisation over a flattened image, as PyTorch has it for several axes, and a dense layer."""
    count = int(np.prod(net.shape(x)))
    y = net.reshape(x, 1, 1, count)
    middle = net.reshape(mean(net, y, 0, 2, keep=False), 1, 1, 1)
    centred = binary(net, "SUB", y, middle)
    spread = mean(net, binary(net, "MUL", centred, centred), 2, keep=True)
    spread = binary(net, "ADD", spread, net.constant(0.01))
    y = binary(net, "MUL", centred, net.simple("RSQRT", [spread], net.shape(spread)))
    y = binary(net, "ADD", y, net.constant(net.normal(count)))
    return net.dense(net.reshape(net.softmax(y), 1, count), 5)


def flattened_by_dense(net: Net, x: int) -> int:
    """A dense layer that flattens what it reads itself."""
    return net.dense(x, weights=net.normal(5, int(np.prod(net.shape(x)))))


def decoded(net: Net, x: int) -> int:
    """A dense layer, an activation, a RESHAPE to an image, a convolution."""
    y = net.dense(net.reshape(mean(net, x, 2, 3, keep=False), 1, net.shape(x)[1]), 4 * 4 * 3)
    y = binary(net, "MUL", net.simple("ELU", [y], net.shape(y)), net.constant(net.normal(48)))
    return conv(net, net.reshape(y, 1, 3, 4, 4), 3)


def network(*patterns: Pattern, seed: int = 0, size: int = 6, channels: int = 4, back: bool = True) -> bytes:
    """Patterns one behind the other, between two convolutions; the input has its channels last.

    Args:
        patterns: what the network does.
        seed: of its weights.
        size: height and width of the image.
        channels: how many it has.
        back: whether the last pattern gives an image, which the second convolution takes and gives with the channels last.
    """
    net = Net(seed=seed)
    x = conv(net, transpose(net, net.input(1, size, size, channels), *FIRST), channels)
    for pattern in patterns:
        x = pattern(net, x)
    return net.finish(transpose(net, conv(net, x, 3), *LAST) if back else x)

"""The zoo's networks that say something of every place: a detector and a segmentation network."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.tensors import Array
from zoo.data import COLORS
from zoo.layers import convolution, depthwise, inverted

_STRIDES = (8, 16, 32)
#: A box's edges are at most so many strides from its cell's middle.
_REACH = 5.0
_SILU = "silu"


def yolo(side: int) -> Any:
    """A detector as the YOLO family builds them: SiLU, split blocks, pooling at three sizes, a neck with nearest resizing, three heads.

    Its output is ``[n, cells, 5]``: left, top, right and bottom as shares of the side, and the score.
    """
    import keras
    from keras import layers

    image = keras.Input((side, side, 3), name="image")
    x = convolution(image, 16, 3, 2, _SILU)
    x = _split_block(convolution(x, 32, 3, 2, _SILU), 32)
    fine = _split_block(convolution(x, 48, 3, 2, _SILU), 48)
    middle = _split_block(convolution(fine, 96, 3, 2, _SILU), 96)
    coarse = _pooled(_split_block(convolution(middle, 128, 3, 2, _SILU), 128), 128)
    joined = _split_block(layers.Concatenate()([_doubled(coarse), middle]), 96)
    fine = _split_block(layers.Concatenate()([_doubled(joined), fine]), 48)
    middle = _split_block(layers.Concatenate()([convolution(fine, 48, 3, 2, _SILU), joined]), 96)
    coarse = _split_block(layers.Concatenate()([convolution(middle, 96, 3, 2, _SILU), coarse]), 128)
    parts = [_head(x, side, stride) for x, stride in zip((fine, middle, coarse), _STRIDES, strict=True)]
    return keras.Model(image, layers.Concatenate(axis=1)(parts), name="yolo")


def _doubled(x: Any) -> Any:
    """Every value twice along both sides: RESIZE_NEAREST_NEIGHBOR, where Keras makes TILE of its UpSampling2D.

    Its Resizing layer would do, but Keras 3.15 exports the batch normalisation behind it as in training.
    """
    from keras import ops

    return ops.image.resize(x, (2 * x.shape[1], 2 * x.shape[2]), interpolation="nearest")


def _split_block(x: Any, channels: int) -> Any:
    """Half of the channels go through two more convolutions, and everything is put together again."""
    from keras import layers, ops

    first, second = ops.split(convolution(x, channels, 1, 1, _SILU), 2, axis=-1)
    inner = convolution(convolution(second, channels // 2, 3, 1, _SILU), channels // 2, 3, 1, _SILU)
    inner = layers.Add()([second, inner])
    return convolution(layers.Concatenate()([first, second, inner]), channels, 1, 1, _SILU)


def _pooled(x: Any, channels: int) -> Any:
    """The same at three reaches: one small pooling, applied again and again."""
    from keras import layers

    found = [convolution(x, channels // 2, 1, 1, _SILU)]
    for _ in range(3):
        found.append(layers.MaxPooling2D(5, 1, padding="same")(found[-1]))
    return convolution(layers.Concatenate()(found), channels, 1, 1, _SILU)


def _head(x: Any, side: int, stride: int) -> Any:
    """Boxes and scores of one scale: the four edges' distances from each cell's middle."""
    import keras
    from keras import layers, ops

    cells = side // stride
    edges = convolution(convolution(x, 32, 3, 1, _SILU), 32, 3, 1, _SILU)
    edges = layers.Reshape((cells * cells, 4))(
        layers.Conv2D(4, 1, bias_initializer=keras.initializers.Constant(-1.0))(edges)
    )
    distance = layers.Activation("sigmoid")(edges) * np.array(_REACH * stride / side, np.float32)
    middles = _middles(cells)
    near, far = ops.subtract(middles, distance[:, :, :2]), ops.add(middles, distance[:, :, 2:])
    score = convolution(convolution(x, 32, 3, 1, _SILU), 32, 3, 1, _SILU)
    score = layers.Conv2D(1, 1, activation="sigmoid", bias_initializer=keras.initializers.Constant(-4.0))(score)
    return layers.Concatenate()([near, far, layers.Reshape((cells * cells, 1))(score)])


def _middles(cells: int) -> Array:
    """Each cell's middle as shares of the side, row by row: ``[1, cells², 2]``."""
    places = (np.arange(cells, dtype=np.float32) + 0.5) / cells
    return np.stack(np.meshgrid(places, places), axis=-1).reshape(1, -1, 2)


def box_targets(boxes: Array, side: int) -> Array:
    """``[n, cells, 5]``: the box and score 1 in the cell of its middle, at the scale that fits its size; zeros elsewhere.

    Args:
        boxes: ``[n, 4]``, as shares of the side.
        side: of the images, in pixels.
    """
    counts = [(side // stride) ** 2 for stride in _STRIDES]
    targets = np.zeros((len(boxes), sum(counts), 5), np.float32)
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) * side
    # A cell's box reaches _REACH strides to each side; half of that leaves room for a middle that is not the cell's.
    scale = (size[:, None] > np.array(_STRIDES[:-1]) * _REACH).sum(axis=1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    for number, (box, level) in enumerate(zip(boxes, scale, strict=True)):
        cells = side // _STRIDES[level]
        column, row = (middle[number] * cells).astype(int).clip(0, cells - 1)
        targets[number, sum(counts[:level]) + row * cells + column] = [*box, 1]
    return targets


def box_loss(wanted: Any, seen: Any) -> Any:
    """Cross entropy of the scores, and the edges' distance where a box is wanted."""
    from keras import ops

    score = ops.clip(seen[..., 4], 1e-6, 1 - 1e-6)
    here = wanted[..., 4]
    entropy = -(here * ops.log(score) + (1 - here) * ops.log(1 - score))
    distance = ops.sum(ops.abs(wanted[..., :4] - seen[..., :4]), axis=-1)
    return ops.sum(entropy + 5 * here * distance, axis=-1)


def deeplab(side: int) -> Any:
    """DeepLabV3+'s layers (Chen et al. 2018): dilated depthwise convolutions, pyramid of dilations, bilinear resizing.

    Its output is each pixel's classes, not normalised: ``[n, side, side, 11]``.
    """
    import keras
    from keras import layers

    image = keras.Input((side, side, 3), name="image")
    x = convolution(image, 16, 3, 2, "relu6")
    x = low = inverted(inverted(x, 48, 24, 2, "relu6"), 96, 24, 1, "relu6")
    x = inverted(inverted(x, 96, 32, 2, "relu6"), 128, 32, 1, "relu6")
    for channels, dilation in ((64, 1), (64, 2), (64, 2), (96, 2), (96, 4), (96, 4)):
        x = inverted(x, 4 * x.shape[-1], channels, 1, "relu6", dilation)
    parts = [convolution(x, 64, 1)]
    parts += [convolution(depthwise(x, 3, 1, "relu", rate), 64, 1) for rate in (3, 6, 9)]
    everything = convolution(layers.GlobalAveragePooling2D(keepdims=True)(x), 64, 1)
    parts.append(layers.UpSampling2D(x.shape[1], interpolation="bilinear")(everything))
    x = convolution(layers.Concatenate()(parts), 64, 1)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.Concatenate()([x, convolution(low, 16, 1)])
    x = convolution(depthwise(x, 3, 1, "relu"), 64, 1)
    x = layers.UpSampling2D(4, interpolation="bilinear")(layers.Conv2D(1 + COLORS, 1)(x))
    return keras.Model(image, x, name="deeplab")

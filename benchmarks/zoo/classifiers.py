"""The zoo's networks that tell what is in an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.tensors import Array
from zoo.data import COLORS
from zoo.layers import convolution, inverted, transformer


def application(name: str, side: int) -> Any:
    """One of keras.applications with its own head of 1000 classes, of which training uses ten.

    Args:
        name: the function's name.
        side: of the square input, in pixels.
    """
    import keras

    model = getattr(keras.applications, name)(input_shape=(side, side, 3), weights=None)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.9  # a minute of training has few steps
        if type(layer).__name__ == "Dropout":
            layer.rate = 0.0  # neither dropped values nor dropped blocks: it never sees an image twice too often
    return model


def resnet18(side: int) -> Any:
    """ResNet-18's layers (He et al. 2015)."""
    import keras
    from keras import layers

    image = keras.Input((side, side, 3), name="image")
    x = layers.MaxPooling2D(3, 2, padding="same")(convolution(image, 64, 7, 2))
    for channels, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            start = x
            x = convolution(convolution(x, channels, 3, stride), channels, 3, 1, None)
            if stride != 1 or start.shape[-1] != channels:
                start = convolution(start, channels, 1, stride, None)
            x = layers.ReLU()(layers.Add()([start, x]))
    return keras.Model(image, layers.Dense(COLORS)(layers.GlobalAveragePooling2D()(x)), name="resnet18")


def vit(side: int) -> Any:
    """A small vision transformer: 144 patches, 96 wide, 4 blocks.

    Positions are a fixed table and the tokens' mean is what is classified (Beyer et al. 2022, "Better plain ViT baselines for ImageNet-1k").
    """
    import keras
    from keras import layers

    width, grid = 96, 12
    image = keras.Input((side, side, 3), name="image")
    x = layers.Conv2D(width, side // grid, side // grid)(image)
    x = layers.Reshape((grid * grid, width))(x) + positions(grid, width)
    for _ in range(4):
        x = transformer(x, 3, "gelu")
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    return keras.Model(image, layers.Dense(COLORS)(layers.GlobalAveragePooling1D()(x)), name="vit")


def positions(grid: int, width: int) -> Array:
    """Sines and cosines of each token's row and column, ``[1, grid², width]``."""
    rates = 100.0 ** (-np.arange(width // 4) / (width // 4))
    y, x = np.mgrid[:grid, :grid].reshape(2, -1, 1) * rates
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=-1)[None].astype(np.float32)


def mobilevit(side: int) -> Any:
    """MobileViT's layers (Mehta and Rastegari 2021): inverted blocks, and transformers over the patches' pixels in between."""
    import keras
    from keras import layers

    image = keras.Input((side, side, 3), name="image")
    x = convolution(image, 16, 3, 2, "silu")
    x = inverted(x, 32, 16, 1, "silu")
    x = inverted(inverted(x, 32, 24, 2, "silu"), 48, 24, 1, "silu")
    for channels, width, depth in ((48, 64, 2), (64, 80, 2)):
        x = inverted(x, 2 * x.shape[-1], channels, 2, "silu")
        x = _mobilevit_block(x, width, depth)
    x = convolution(x, 256, 1, 1, "silu")
    return keras.Model(image, layers.Dense(COLORS)(layers.GlobalAveragePooling2D()(x)), name="mobilevit")


def _mobilevit_block(x: Any, width: int, depth: int) -> Any:
    """Pixels at the same place of every 2×2 patch attend to each other."""
    from keras import layers

    start, channels, (rows, columns) = x, x.shape[-1], x.shape[1:3]
    x = layers.Conv2D(width, 1, use_bias=False)(convolution(x, channels, 3, 1, "silu"))
    x = layers.Reshape((rows // 2, 2, columns // 2, 2, width))(x)
    x = layers.Reshape((4, rows * columns // 4, width))(layers.Permute((2, 4, 1, 3, 5))(x))
    for _ in range(depth):
        x = transformer(x, 4, "silu", (2,))
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Reshape((2, 2, rows // 2, columns // 2, width))(x)
    x = layers.Reshape((rows, columns, width))(layers.Permute((3, 1, 4, 2, 5))(x))
    x = layers.Concatenate()([start, convolution(x, channels, 1, 1, "silu")])
    return convolution(x, channels, 3, 1, "silu")

"""What several of the zoo's networks are put together from."""

from __future__ import annotations

from typing import Any

#: Of batch-norm statistics: a minute of training has few steps.
MOMENTUM = 0.9


def convolution(x: Any, channels: int, kernel: int, stride: int = 1, activation: str | None = "relu") -> Any:
    """A convolution with batch normalisation and an activation; ``None`` for none."""
    from keras import layers

    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=MOMENTUM)(x)
    return layers.Activation(activation)(x) if activation else x


def depthwise(x: Any, kernel: int, stride: int = 1, activation: str | None = "relu6", dilation: int = 1) -> Any:
    """A depthwise convolution, atrous where ``dilation`` is above 1, with batch normalisation and an activation."""
    from keras import layers

    x = layers.DepthwiseConv2D(kernel, stride, padding="same", dilation_rate=dilation, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=MOMENTUM)(x)
    return layers.Activation(activation)(x) if activation else x


def inverted(x: Any, wide: int, channels: int, stride: int, activation: str, dilation: int = 1) -> Any:
    """An inverted residual block (Sandler et al. 2018, MobileNetV2)."""
    from keras import layers

    start = x
    x = convolution(x, wide, 1, 1, activation)
    x = depthwise(x, 3, stride, activation, dilation)
    x = convolution(x, channels, 1, 1, None)
    return layers.Add()([start, x]) if stride == 1 and start.shape[-1] == channels else x


def transformer(x: Any, heads: int, activation: str, axes: tuple[int, ...] | None = None) -> Any:
    """An encoder block with normalisation first, its inner layer four times (twice for ``silu``) as wide.

    Args:
        x: tokens, ``[…, n, width]``.
        heads: of the attention.
        activation: ``gelu`` as in ViT, ``silu`` as in MobileViT.
        axes: along which tokens attend to each other; ``None`` for the last but one.
    """
    from keras import layers

    width = x.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Add()([x, layers.MultiHeadAttention(heads, width // heads, attention_axes=axes)(y, y)])
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.Dense((2 if activation == "silu" else 4) * width, activation=activation)(y)
    return layers.Add()([x, layers.Dense(width)(y)])

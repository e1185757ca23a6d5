"""The zoo's networks with a memory, which tell a spoken word.

Keras writes a recurrent layer as a loop (WHILE with its own subgraphs), whose inner ranges no converter here can measure; with
``unroll=True`` and a fixed length it becomes plain operators. The convolution before it halves the steps, as is usual for speech.
"""

from __future__ import annotations

from typing import Any

_WORDS, _UNITS = 12, 64


def keywords(kind: str) -> Any:
    """A keyword network.

    Args:
        kind: ``LSTM`` or ``GRU``.
    """
    import keras
    from keras import layers

    features = keras.Input((49, 10, 1), name="features")
    x = layers.Reshape((49, 10))(features)
    x = layers.Conv1D(48, 5, 2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = getattr(layers, kind)(_UNITS, unroll=True)(x)
    return keras.Model(features, layers.Dense(_WORDS, activation="softmax")(x), name=kind.lower())

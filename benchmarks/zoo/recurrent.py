"""The zoo's networks with a memory, which tell a spoken word.

In which form an LSTM arrives (tensorflow 2.21, Keras 3.15): with the batch fixed, Keras 3 becomes a loop, WHILE with subgraphs of its own,
whose inner ranges no converter here can measure; with the batch left open TFLiteConverter refuses it (TensorListReserve). Only tf-keras with a
fixed batch becomes one UNIDIRECTIONAL_SEQUENCE_LSTM, and only through TFLiteConverter itself. So the layers are built with ``unroll=True`` and
a fixed length, which gives plain operators. The convolution before them halves the steps, as is usual for speech.
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

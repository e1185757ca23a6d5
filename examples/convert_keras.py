"""A Keras model to int8: from a ``.keras`` file; a model in memory and an ``.h5`` file are converted alike.

Needs ``pip install 'edgekit[convert]'``. From a shell it is ``edgekit convert quarters.keras --calibration data.npy --recipe int8``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import quarters


def main() -> None:
    """Build, save, convert."""
    weights = quarters.trained()
    model = keras.Sequential(
        [
            keras.Input(quarters.SHAPE, name="image"),
            keras.layers.Conv2D(quarters.CHANNELS, quarters.SIZE, strides=quarters.STRIDE, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(len(quarters.NAMES)),
        ]
    )
    model.set_weights([weights.kernel, weights.bias, weights.dense, weights.dense_bias])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quarters.keras"
        model.save(path)
        quarters.convert_and_print(path, Path(folder))


if __name__ == "__main__":
    main()

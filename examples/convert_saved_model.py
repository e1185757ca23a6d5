"""A TensorFlow SavedModel with two signatures to int8: which one is meant is said with ``signature``.

Needs ``pip install 'edgekit[convert]'``. From a shell it is
``edgekit convert quarters/ --signature scores --calibration data.npy --recipe int8``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import quarters
import tensorflow as tf


class Quarters(tf.Module):
    """The network, and a second signature that only says how bright a picture is."""

    def __init__(self) -> None:
        super().__init__()
        weights = quarters.trained()
        self.kernel, self.bias = tf.Variable(weights.kernel), tf.Variable(weights.bias)
        self.dense, self.dense_bias = tf.Variable(weights.dense), tf.Variable(weights.dense_bias)

    @tf.function(input_signature=[tf.TensorSpec((None, *quarters.SHAPE), tf.float32, "image")])
    def scores(self, image: Any) -> dict[str, Any]:
        """A score for each quarter."""
        x = tf.nn.relu(tf.nn.conv2d(image, self.kernel, quarters.STRIDE, "VALID") + self.bias)
        return {"scores": tf.reshape(x, (-1, self.dense.shape[0])) @ self.dense + self.dense_bias}

    @tf.function(input_signature=[tf.TensorSpec((None, *quarters.SHAPE), tf.float32, "image")])
    def brightness(self, image: Any) -> dict[str, Any]:
        """The mean of all values."""
        return {"brightness": tf.reduce_mean(image, (1, 2, 3))}


def main() -> None:
    """Build, save, convert."""
    module = Quarters()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quarters"
        tf.saved_model.save(module, path, signatures={"scores": module.scores, "brightness": module.brightness})
        quarters.convert_and_print(path, Path(folder), signature="scores")


if __name__ == "__main__":
    main()

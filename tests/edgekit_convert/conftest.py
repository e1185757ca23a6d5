"""Models and data that the converter's tests share; TensorFlow is imported once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit_convert.frontends.freeze import import_tensorflow


@pytest.fixture(scope="session")
def keras_model() -> Any:
    """A small image classifier with batch normalisation, as a Keras 3 model in memory."""
    import_tensorflow()
    import keras

    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [
            keras.Input((16, 16, 1), name="image"),
            keras.layers.Conv2D(8, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )


@pytest.fixture(scope="session")
def image_data() -> Any:
    """Sixty images in 0..1 for ``keras_model``."""
    return np.random.default_rng(0).uniform(0, 1, (60, 16, 16, 1)).astype(np.float32)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory, keras_model: Any) -> dict[str, Any]:
    """The same model in every form that can be converted."""
    folder: Path = tmp_path_factory.mktemp("sources")
    tf = import_tensorflow()
    keras_model.save(folder / "model.keras")
    keras_model.save(folder / "model.h5")
    keras_model.export(folder / "saved_model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model"))
    (folder / "model.tflite").write_bytes(converter.convert())
    return {
        "memory": keras_model,
        "keras": folder / "model.keras",
        "h5": folder / "model.h5",
        "saved_model": folder / "saved_model",
        "tflite": folder / "model.tflite",
        "bytes": (folder / "model.tflite").read_bytes(),
    }

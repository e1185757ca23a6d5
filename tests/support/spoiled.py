"""A float image classifier with one activation that int8 cannot hold, quantised, with data to judge it by."""

from __future__ import annotations

from typing import Any

import numpy as np
import tiny_models as models

from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.quantize import quantize
from edgekit_convert.ranges import measure
from edgekit_convert.refine.scales import fit_biases

#: How much larger one channel of ``features`` is than the others; the layer that reads it has that much smaller weights.
FACTOR = 60.0


def float_model() -> bytes:
    """``tiny_models.conv_float`` with its first channel of ``features`` enlarged; what it computes stays the same."""
    places = {b"kernel": (0, FACTOR), b"kernel_bias": (0, FACTOR), b"weights": ((slice(None), 0), 1 / FACTOR)}
    shapes = {b"kernel": (8, -1), b"kernel_bias": (8,), b"weights": (-1, 8)}

    def spoil(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.name in places:
                buffer = model.buffers[tensor.buffer]
                values = np.frombuffer(bytes(buffer.data), np.float32).reshape(shapes[tensor.name]).copy()
                place, factor = places[tensor.name]
                values[place] *= factor
                buffer.data = np.frombuffer(values.tobytes(), np.uint8)

    return models.edited(models.conv_float(), spoil)


def images(count: int = 80, seed: int = 9) -> Array:
    """Images for it; each has a brightness of its own."""
    random = np.random.default_rng(seed)
    return (random.normal(0, 1, (count, 12, 12, 3)) + random.normal(0, 1, (count, 1, 1, 3))).astype(np.float32)


def calibration_set(model: bytes, data: Any) -> CalibrationSet:
    """Data for a model."""
    inputs = ModelFile.read(model).inputs
    return CalibrationSet(open_data(data, inputs, 1000, "test"), inputs, {})


def quantised(model: bytes, io: str = "int8") -> tuple[bytes, dict[str, tuple[float, float]]]:
    """The int8 file and the ranges that it was made with."""
    ranges = measure(model, calibration_set(model, images()), lambda done: None).ranges
    return fit_biases(quantize(model, ranges, io), model)[0], ranges

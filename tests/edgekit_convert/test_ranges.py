"""Ranges are the true extremes, zero inside, whatever the order; sums give the true means."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models as models

from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.data import open_data
from edgekit_convert.ranges import Statistics, measure, merge

DATA = np.random.default_rng(5).normal(0, 1, (50, 8)).astype(np.float32)


def measured(data: Array) -> Statistics:
    """Statistics of the tiny dense model on some rows."""
    content = models.dense_float()
    inputs = ModelFile.read(content).inputs
    calibration = CalibrationSet(open_data(data, inputs, 1000, "calibration"), inputs, {})
    return measure(content, calibration, lambda done: None)


def test_ranges_are_the_extremes_over_all_samples() -> None:
    """Compared with numpy on the whole data."""
    found = measured(DATA)
    logits = models.dense_logits(DATA)
    assert found.count == 50
    assert found.ranges["x"] == (float(DATA.min()), float(DATA.max()))
    assert found.ranges["logits"] == pytest.approx((logits.min(), logits.max()), rel=1e-5)
    assert set(found.ranges) == {"x", "logits", "probabilities"}


def test_zero_is_always_inside() -> None:
    """Data above zero still give a range from zero."""
    found = measured(np.abs(DATA) + 3)
    assert found.ranges["x"][0] == 0.0
    assert measured(-np.abs(DATA) - 3).ranges["x"][1] == 0.0


def test_order_and_partition_do_not_matter() -> None:
    """Reversed data, and data measured in two parts and merged, give the same."""
    whole, reversed_ = measured(DATA), measured(DATA[::-1])
    parts = merge([measured(DATA[:13]), measured(DATA[13:])])
    assert whole.ranges == reversed_.ranges == parts.ranges
    np.testing.assert_array_equal(whole.means()["x"], parts.means()["x"])
    np.testing.assert_allclose(whole.means()["x"][0], DATA.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_a_model_that_gives_nan_is_refused() -> None:
    """The logarithm of a negative number is the model's or the data's fault, and is named with the tensor."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 8)), b.tensor("logarithm", (1, 8))
    b.op("LOG", [x], [y])
    content = b.build({"x": x}, {"logarithm": y})
    inputs = ModelFile.read(content).inputs
    data = CalibrationSet(open_data(DATA, inputs, 1000, "calibration"), inputs, {})
    with pytest.raises(ConversionError, match=r"NaN or infinity at 'logarithm'"):
        measure(content, data, lambda done: None)

"""``edgekit_convert.package.golden_data``: what is recorded of a finished model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models as models
from golden_files import IMAGES, RANDOM, ROWS, SPEC, arrays_of, changed, checked, mixed, packed

import edgekit
from edgekit.errors import ConversionError, EngineError, TensorError
from edgekit.tensors import Array, quantize
from edgekit_convert.package import golden_data


def identity_map(*, size: int) -> bytes:
    """Float ``[1, size, size, 3]`` through a RELU."""
    b = models.Builder()
    x, y = b.tensor("x", (1, size, size, 3)), b.tensor("y", (1, size, size, 3))
    b.op("RELU", [x], [y])
    return b.build({"x": x}, {"y": y})


def test_inputs_are_the_files_own_integers() -> None:
    """Real numbers go in, the file's integers are stored, the first samples first."""
    arrays = arrays_of(golden_data.make(models.dense_int8(), ROWS, SPEC))
    expected = quantize(np.stack([row["x"] for row in ROWS[:8]]), models.DENSE_INPUT, "int8")
    assert arrays["input_0"].dtype == np.int8
    np.testing.assert_array_equal(expected, arrays["input_0"])


def test_outputs_are_those_of_a_session() -> None:
    """Each kernel set's expected outputs are what a session on it gives."""
    data = golden_data.make(models.dense_int8(), ROWS, SPEC)
    arrays = arrays_of(data)
    for name, delegate in (("xnnpack", "xnnpack"), ("none", "none")):
        with edgekit.load(models.dense_int8(), delegate=delegate, io="native") as session:
            expected = np.stack([session.run(x).reshape(-1) for x in arrays["input_0"]])
        np.testing.assert_array_equal(expected, arrays[f"{name}_0"])
    assert data.about["count"] == 8
    assert set(data.about["sets"]) == {"xnnpack", "none"}


def test_same_input_gives_the_same_bytes() -> None:
    """Two runs write the same file."""
    assert packed(models.conv_float(), IMAGES) == packed(models.conv_float(), IMAGES)


def test_a_large_image_is_recorded_in_blocks() -> None:
    """Noise of 128 x 128 pixels does not compress; blocks of it do, until a few samples fit the budget."""
    size = 128
    images = [{"image": image} for image in RANDOM.uniform(-1, 1, (4, 1, size, size, 3)).astype(np.float32)]
    content = models.announced(models.conv_float(size=size))
    data = golden_data.make(content, images, SPEC)
    added = len(packed(models.conv_float(size=size), images)) - len(content)
    assert data.about["block"] > 1
    assert data.about["count"] >= 3
    assert added < golden_data.MIN_BYTES + 4096  # the manifest is the rest


def test_of_a_large_output_a_part_is_kept() -> None:
    """A float map of 200 kB is thinned, and what is kept still fails when it differs."""
    content = identity_map(size=128)
    samples = [{"x": RANDOM.normal(size=(1, 128, 128, 3)).astype(np.float32)} for _ in range(3)]
    data = golden_data.make(content, samples, SPEC)
    assert 1000 < arrays_of(data)["none_0"].shape[1] <= 1024
    assert checked(packed(content, samples)).passed

    def negate(arrays: dict[str, Array], about: dict[str, Any]) -> None:
        for name in about["sets"]:
            arrays[f"{name}_0"] = -arrays[f"{name}_0"]

    assert not checked(packed(content, samples, lambda data: changed(data, negate))).passed


def test_a_graph_of_floats_and_integers_has_no_tolerance_in_steps() -> None:
    """QUANTIZE behind a float operator rounds as the last bit of a float says."""
    assert golden_data.make(models.dense_int8(), ROWS, SPEC).about["tolerance"]["steps"] == 1
    assert golden_data.make(models.conv_float(), IMAGES, SPEC).about["tolerance"]["steps"] == 1
    assert golden_data.make(mixed(), ROWS, SPEC).about["tolerance"]["steps"] is None


def test_what_cannot_be_recorded() -> None:
    """No sample, a sample that is not finite or lacks an input, and a model that does not run."""
    with pytest.raises(ConversionError, match="at least one sample"):
        golden_data.make(models.dense_int8(), [], SPEC)
    with pytest.raises(TensorError, match="'x' holds NaN"):
        golden_data.make(models.dense_int8(), [{"x": np.full((1, 8), np.nan, np.float32)}], SPEC)
    with pytest.raises(TensorError, match="has image, the model's input 'x' is missing"):
        golden_data.make(models.dense_int8(), IMAGES, SPEC)
    with pytest.raises(EngineError, match="Mystery"):
        golden_data.make(models.custom_op(), [{"x": np.zeros((1, 4), np.float32)}], SPEC)

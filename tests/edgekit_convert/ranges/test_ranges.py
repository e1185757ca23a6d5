"""Statistics are the true extremes, histograms and means, whatever the order, on XNNPACK and on the interpreter's own kernels."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet, Ready
from edgekit_convert.calibration.data import DataSource, open_data
from edgekit_convert.ranges import Statistics, measure, merge
from edgekit_convert.ranges.statistics_file import save

DATA = np.random.default_rng(5).normal(0, 1, (50, 8)).astype(np.float32)
IMAGES = np.random.default_rng(6).normal(0.5, 1, (40, 12, 12, 3)).astype(np.float32)


def measured(data: Array, content: bytes | None = None, apart: frozenset[int] = frozenset()) -> Statistics:
    """Statistics of a model, by default the tiny dense one, on some rows."""
    content = content or models.dense_float()
    inputs = ModelFile.read(content).inputs
    calibration = CalibrationSet(open_data(data, inputs, 1000, "calibration"), inputs, {})
    return measure(content, calibration, lambda done: None, apart=apart)


def saved(statistics: Statistics, folder: Any) -> bytes:
    """All that was measured, as the bytes of a file."""
    path = folder / "statistics.npz"
    save(path, statistics, fingerprint="0" * 64, model_sha256="1" * 64, overwrite=True)
    return bytes(path.read_bytes())


def test_extremes_are_over_all_samples() -> None:
    """Compared with numpy on the whole data."""
    found = measured(DATA)
    logits = models.dense_logits(DATA)
    assert (found.count, found.summed) == (50, 50)
    assert found.extremes["x"] == (float(DATA.min()), float(DATA.max()))
    assert found.extremes["logits"] == pytest.approx((logits.min(), logits.max()), rel=1e-5)
    assert set(found.ranges) == set(found.extremes) == set(found.histograms) == {"x", "logits", "probabilities"}


def test_zero_is_inside_the_ranges_and_not_added_to_the_extremes() -> None:
    """Data above zero still give a range from zero, and their extremes as they are."""
    above, below = measured(np.abs(DATA) + 3), measured(-np.abs(DATA) - 3)
    assert above.extremes["x"][0] == float((np.abs(DATA) + 3).min())
    assert (above.ranges["x"][0], below.ranges["x"][1]) == (0.0, 0.0)
    assert above.ranges["x"][1] == above.extremes["x"][1]


def test_order_and_partition_do_not_matter(tmp_path: Any) -> None:
    """Shuffled five times, and measured in two parts and merged: the same to the last bit, sums and histograms included."""
    content = models.conv_float(size=32)
    images = np.random.default_rng(7).normal(0.5, 1, (40, 32, 32, 3)).astype(np.float32)
    found = measured(images, content)
    assert (
        found.histograms["features"].total < images.shape[0] * 32 * 32 * 8
    )  # so that which values are counted matters
    whole = saved(found, tmp_path)
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(images)
        assert whole == saved(measured(shuffled, content), tmp_path)
    parts = merge([measured(images[:13], content), measured(images[13:], content)])
    assert whole == saved(parts, tmp_path)


def test_means_are_the_true_ones() -> None:
    """A whole image for a 3x3 convolution; for layers that look at one place at a time the mean over the places."""
    found = measured(IMAGES, models.conv_float()).means()
    assert found["image"].shape == (1, 12, 12, 3)
    np.testing.assert_allclose(found["image"][0], IMAGES.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert found["pooled"].shape == (1, 8)
    pointwise = measured(IMAGES, two_convolutions(1, 1)).means()["image"]
    assert pointwise.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(pointwise[0, 0, 0], IMAGES.mean(axis=(0, 1, 2)), rtol=1e-5)


def test_one_layer_that_looks_around_needs_the_whole_image() -> None:
    """Strides count as well: the places that a layer skips must not enter its mean."""
    assert measured(IMAGES, two_convolutions(3, 1)).means()["image"].shape == (1, 12, 12, 3)
    assert measured(IMAGES, two_convolutions(1, 2)).means()["image"].shape == (1, 12, 12, 3)


def two_convolutions(size: int, stride: int) -> bytes:
    """A 1x1 convolution, and one of this size and stride, of the same image."""
    b = models.Builder()
    x = b.tensor("image", (1, 12, 12, 3))
    results = {}
    for name, taps, step in (("a", 1, 1), ("b", size, stride)):
        w = b.tensor(f"kernel_{name}", (4, taps, taps, 3), data=np.ones((4, taps, taps, 3), np.float32))
        c = b.tensor(f"bias_{name}", (4,), data=np.zeros(4, np.float32))
        results[name] = b.tensor(name, (1, -(-12 // step), -(-12 // step), 4))
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = step
        options.dilationHFactor = options.dilationWFactor = 1
        b.op("CONV_2D", [x, w, c], [results[name]], ("Conv2DOptions", options))
    return b.build({"image": x}, results)


def test_samples_apart_are_not_in_the_means() -> None:
    """They count for extremes and histograms all the same."""
    apart = frozenset({0, 7, 49})
    found, whole = measured(DATA, apart=apart), measured(DATA)
    kept = [number for number in range(50) if number not in apart]
    assert (found.count, found.summed) == (50, 47)
    assert (found.extremes, found.histograms["x"].total) == (whole.extremes, 400)
    np.testing.assert_allclose(found.means()["x"][0], DATA[kept].mean(axis=0), rtol=1e-5, atol=1e-6)
    assert measured(DATA[:3], apart=frozenset({0, 1, 2})).means() == {}


def test_a_model_with_memory_is_run_by_the_own_kernels() -> None:
    """A variable tensor cannot be cut out for XNNPACK; the interpreter's own kernels keep all tensors instead."""
    b = models.Builder()
    x, state, y = b.tensor("x", (1, 8)), b.tensor("state", (1, 8)), b.tensor("y", (1, 8))
    b.tensors[state].isVariable = True
    b.op("SUB", [x, state], [y], ("SubOptions", schema.SubOptionsT()))
    found = measured(DATA, b.build({"x": x}, {"y": y}))
    assert found.extremes["y"] == found.extremes["x"] == (float(DATA.min()), float(DATA.max()))


def test_shapes_are_those_at_run_time() -> None:
    """A tensor whose shape is computed stands in the file with sizes that mean nothing."""
    b = models.Builder()
    x = b.tensor("x", (1, 8))
    shape, y = b.tensor("shape", (2,), "int32"), b.tensor("y", (1, 1))
    w, c = b.tensor("w", (4, 8), data=np.ones((4, 8), np.float32)), b.tensor("c", (4,), data=np.ones(4, np.float32))
    z = b.tensor("z", (1, 4))
    options = schema.ShapeOptionsT()
    options.outType = schema.TensorType.INT32
    b.op("SHAPE", [x], [shape], ("ShapeOptions", options))
    b.op("RESHAPE", [x, shape], [y])
    b.op("FULLY_CONNECTED", [y, w, c], [z], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    found = measured(DATA, b.build({"x": x}, {"z": z}))
    assert found.means()["y"].shape == (1, 8)
    assert found.extremes["y"] == found.extremes["x"]


def test_a_tensor_without_values_has_an_empty_range() -> None:
    """Zero is inside, and nothing else."""
    b = models.Builder()
    x, y, z = b.tensor("x", (1, 8)), b.tensor("y", (1, 0)), b.tensor("z", (1, 8))
    begin = b.tensor("begin", (2,), "int32", data=np.array([0, 0], np.int32))
    size = b.tensor("size", (2,), "int32", data=np.array([1, 0], np.int32))
    b.op("SLICE", [x, begin, size], [y])
    b.op("ABS", [x], [z])
    found = measured(DATA, b.build({"x": x}, {"z": z}))
    assert (found.ranges["y"], found.extremes["y"]) == ((0.0, 0.0), (np.inf, -np.inf))


def test_a_source_may_use_its_memory_again() -> None:
    """A generator that fills one array over and over, while a thread has yet to look at what it got."""
    content = models.dense_float()
    read_on = [threading.Event() for _ in range(len(DATA) + 1)]

    def read() -> Iterator[Any]:
        memory = np.zeros(8, np.float32)
        for row, event in zip(DATA, read_on, strict=False):
            memory[:] = row
            event.set()
            yield {"x": memory}, None
        read_on[-1].set()

    class Late(CalibrationSet):
        def prepare(self, number: int, raw: Mapping[str, Array], label: Any = None) -> Ready:
            if number:  # the first is read before the threads begin; one thread alone waits in vain
                read_on[number + 1].wait(0.05)
            return super().prepare(number, raw, label)

    data = Late(DataSource("rows", read, len(DATA)), ModelFile.read(content).inputs, {})
    found = measure(content, data, lambda done: None)
    np.testing.assert_array_equal(found.means()["x"], measured(DATA).means()["x"])


def test_a_model_that_gives_nan_is_refused() -> None:
    """The logarithm of a negative number is the model's or the data's fault, and is named with the tensor."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 8)), b.tensor("logarithm", (1, 8))
    b.op("LOG", [x], [y])
    with pytest.raises(ConversionError, match=r"NaN or infinity at 'logarithm'"):
        measured(DATA, b.build({"x": x}, {"logarithm": y}))


def test_nan_in_the_weights_is_refused() -> None:
    """The activation that is fused behind the convolution does not hide it."""

    def spoil(model: Any) -> None:
        buffer = model.buffers[model.subgraphs[0].tensors[1].buffer]
        kernel = np.frombuffer(bytes(buffer.data), np.float32).copy()
        kernel[0] = np.nan
        buffer.data = np.frombuffer(kernel.tobytes(), np.uint8)

    with pytest.raises(ConversionError, match=r"NaN or infinity at 'features'"):
        measured(IMAGES, models.edited(models.conv_float(), spoil))

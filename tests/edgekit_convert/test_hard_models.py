"""Models and options off the usual path, converted for real."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit.cli.proof import print_verification
from edgekit.errors import DataError, EdgekitError, OptionError
from edgekit.graph import Op
from edgekit.modelfile import ModelFile
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import DataSource
from edgekit_convert.frontends.freeze import import_tensorflow
from edgekit_convert.ranges import measure
from edgekit_convert.refine.bias import mean_patch

ROWS = np.random.default_rng(4).normal(0, 1, (40, 8)).astype(np.float32)
CLASSES = np.arange(40) % 4


def test_an_input_name_that_is_no_identifier_is_kept() -> None:
    """TensorFlow needs identifiers; the file has the source's own name."""
    import_tensorflow()
    import keras

    image = keras.Input((8,), name="my-input")
    model = keras.Model(image, keras.layers.Dense(3)(image))
    assert [spec.name for spec in edgekit.convert(model, ROWS).model.inputs] == ["my-input"]


def test_outputs_keep_their_order() -> None:
    """The first output is the source's first, with its own values, whatever order TensorFlow makes of it."""
    import_tensorflow()
    import keras

    x = keras.Input((8,), name="x")
    model = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.ReLU()(x)])
    done = edgekit.convert(model, ROWS)
    pivot = ModelFile.read(done.float_model)
    assert [spec.name for spec in pivot.outputs] == ["output_0", "output_1"]
    assert [spec.shape for spec in pivot.outputs] == [(1, 2), (1, 8)]
    assert [spec.shape for spec in done.model.outputs] == [(1, 2), (1, 8)]


@pytest.mark.parametrize(
    "labels",
    [pytest.param("abcd", id="text"), pytest.param([1, 2, 3, 4], id="numbers"), pytest.param(["a\nb"], id="lines")],
)
def test_labels_that_are_not_names_are_refused(labels: Any) -> None:
    """A list of single lines of text was expected."""
    with pytest.raises(OptionError, match="label"):
        edgekit.convert(models.dense_float(), ROWS, labels=labels)


def test_labels_may_be_an_array() -> None:
    """Of numpy's text."""
    names: Any = np.array(["a", "b", "c", "d"])
    manifest = edgekit.convert(models.dense_float(), ROWS, labels=names).model.manifest
    assert manifest is not None
    assert manifest.labels == ("a", "b", "c", "d")


def test_labels_of_different_shapes_are_refused() -> None:
    """They cannot be compared with class scores."""
    data = [(row, np.zeros(1 + number % 2)) for number, row in enumerate(ROWS)]
    with pytest.raises(DataError, match="labels are of different shapes"):
        edgekit.convert(models.dense_float(), data)


@pytest.mark.parametrize(
    "metric",
    [
        pytest.param(lambda outputs, labels: 1 / 0, id="raises"),
        pytest.param(lambda outputs, labels: outputs, id="gives an array"),
    ],
)
def test_a_metric_that_fails_is_named(metric: Any) -> None:
    """With what was expected of it."""
    with pytest.raises(OptionError, match="returns one number was expected"):
        edgekit.convert(models.dense_float(), (ROWS, CLASSES), metric=metric)


def test_a_metric_without_a_value_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """NaN, which JSON lacks, is a dash in the table."""
    report = edgekit.convert(models.dense_float(), (ROWS, CLASSES), metric=lambda outputs, labels: float("nan")).report
    print_verification(report.to_json())
    assert "(– to –)" in capsys.readouterr().out


def test_measuring_stops_at_the_first_error() -> None:
    """The other threads do not measure the rest of the data first."""
    taken: list[int] = []

    def read() -> Any:
        for number in range(2000):
            taken.append(number)
            yield {"x": ROWS[number % 40]}, None

    def progress(done: int) -> None:
        if done == 5:
            raise EdgekitError("enough")

    content = models.dense_float()
    data = CalibrationSet(DataSource("rows", read, 2000), ModelFile.read(content).inputs, {})
    with pytest.raises(EdgekitError, match="enough"):
        measure(content, data, progress)
    assert len(taken) < 2000


def test_the_mean_patch_is_over_all_images_of_a_batch() -> None:
    """A layer that is applied to each step of a sequence has a batch inside the graph."""
    mean = np.stack([np.zeros((4, 4, 1)), np.full((4, 4, 1), 2.0)])
    graph = ModelFile.read(models.conv_float()).graph.main
    convolution: Op = graph.ops[0]
    patch = mean_patch(convolution, 1, 1, mean)
    assert patch is not None
    assert patch.tolist() == [[[1.0]]]

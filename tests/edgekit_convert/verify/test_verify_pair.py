"""``edgekit.verify``: any float model against any quantised one."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models as models

import edgekit

DATA = np.random.default_rng(4).uniform(-2, 2, (50, 8)).astype(np.float32)


def float_logits() -> bytes:
    """The float original of ``dense_int8``: FULLY_CONNECTED without the softmax."""
    from ai_edge_litert import schema_py_generated as schema

    b = models.Builder()
    eye = np.eye(8, dtype=np.float32)
    bias = models.dense_logits(np.zeros((1, 8), np.float32))[0]
    weights = (models.dense_logits(eye) - bias).T
    x = b.tensor("some_input", (1, 8))
    w, c = b.tensor("w", (4, 8), data=weights), b.tensor("c", (4,), data=bias)
    y = b.tensor("some_output", (1, 4))
    b.op("FULLY_CONNECTED", [x, w, c], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    return b.build({"some_input": x}, {"some_output": y})


def test_a_foreign_int8_model_is_compared_by_place() -> None:
    """Names differ, so inputs and outputs correspond by place; the figures are what numpy finds."""
    report = edgekit.verify(float_logits(), models.dense_int8(), DATA)
    with edgekit.load(models.dense_int8(), delegate="xnnpack") as session:
        rounded = np.concatenate([session.run(row[None]) for row in DATA])
    exact = models.dense_logits(DATA)
    figures = report.on["data"]
    assert figures.count == 50
    assert figures.sqnr_db.value == pytest.approx(
        10 * np.log10((exact**2).sum() / ((exact - rounded) ** 2).sum()), abs=0.01
    )
    assert figures.agreement is not None
    assert figures.agreement.value == (exact.argmax(axis=1) == rounded.argmax(axis=1)).mean()
    assert report.passed


def test_labels_give_the_metric() -> None:
    """With labels, accuracy and its drop are measured."""
    labels = models.dense_logits(DATA).argmax(axis=1)
    metric = edgekit.verify(float_logits(), models.dense_int8(), (DATA, labels)).on["data"].metric
    assert metric is not None
    assert metric.float_model.value == 1.0
    assert 0.8 < metric.int8_model.value <= 1.0


def test_the_manifest_tells_the_preprocessing() -> None:
    """A model that edgekit converted with --normalize is compared on raw data without saying it again."""
    pixels = np.random.default_rng(1).integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
    converted = edgekit.convert(models.conv_float(), pixels, normalize=(127.5, 127.5))
    report = edgekit.verify(models.conv_float(), converted.model.content, pixels)
    assert report.on["data"].sqnr_db == converted.report.on["calibration"].sqnr_db


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        pytest.param(models.conv_float(), models.dense_int8(), "inputs are image .*not the same network", id="inputs"),
        pytest.param(models.add_two_inputs(), models.dense_int8(), "not the same network", id="number of inputs"),
        pytest.param(models.dense_int8(), models.dense_int8(), "quantised already", id="float is int8"),
    ],
)
def test_pairs_that_do_not_belong_together(first: bytes, second: bytes, message: str) -> None:
    """The message says what both have."""
    with pytest.raises(edgekit.EdgekitError, match=message):
        edgekit.verify(first, second, DATA)

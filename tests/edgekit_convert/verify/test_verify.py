"""The figures of the proof against independent computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models as models

from edgekit.errors import DataError, GateError, OptionError
from edgekit.modelfile import ModelFile
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.verify import (
    Check,
    Runs,
    VerifyReport,
    figures,
    looks_like_classes,
)


def data() -> CalibrationSet:
    """A set whose values are not looked at."""
    inputs = ModelFile.read(models.dense_float()).inputs
    return CalibrationSet(open_data(np.zeros((4, 8), np.float32), inputs, 9, "verification"), inputs, {})


SCORES = np.array([[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]], np.float32)
ROUNDED = np.array([[0.8, 0.2, 0.0], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.5, 0.3, 0.2]], np.float32)


def test_agreement_accuracy_and_drop() -> None:
    """Three of four agree; with labels 0 1 2 0 the float model is right four times, the other three."""
    found = figures(Runs([SCORES], [ROUNDED], np.array([0, 1, 2, 0])), data(), ["scores"], "accuracy")
    assert found.agreement is not None
    assert found.metric is not None
    assert found.agreement.value == 0.75
    assert (found.metric.float_model.value, found.metric.int8_model.value, found.metric.drop.value) == (1.0, 0.75, 0.25)
    assert found.outputs[0].max_abs_error == pytest.approx(0.4)


def test_one_hot_labels_are_understood() -> None:
    """One row of zeros and a one for each sample."""
    found = figures(Runs([SCORES], [ROUNDED], np.eye(3)[[0, 1, 2, 0]]), data(), ["scores"], "accuracy")
    assert found.metric is not None
    assert found.metric.float_model.value == 1.0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(np.array([0, 1, 2, 7]), "labels from 0 to 7, the model has 3 classes", id="other classes"),
        pytest.param(np.array([0.5, 1, 2, 0]), "one class number per sample", id="floats"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, message: str) -> None:
    """The message says what was seen and what the model has."""
    with pytest.raises(DataError, match=message):
        figures(Runs([SCORES], [ROUNDED], labels), data(), ["scores"], "accuracy")


def test_own_metric() -> None:
    """A function of outputs and labels, with bootstrap intervals around it."""

    def largest(outputs: Any, labels: Any) -> float:
        return float(outputs[:, 0].mean())

    found = figures(Runs([SCORES], [ROUNDED], np.zeros(4)), data(), ["scores"], largest).metric
    assert found is not None
    assert found.name == "largest"
    assert found.float_model.value == pytest.approx(float(SCORES[:, 0].mean()))
    assert found.float_model.low <= found.float_model.value <= found.float_model.high
    with pytest.raises(OptionError, match="unknown metric"):
        figures(Runs([SCORES], [ROUNDED], np.zeros(4)), data(), ["scores"], "f1")


def test_reconstructions_are_not_classes() -> None:
    """An output of the input's own shape has no top class; scores have."""
    assert looks_like_classes(SCORES, data())
    assert not looks_like_classes(np.zeros((4, 8), np.float32), data())
    assert not looks_like_classes(np.zeros((4, 2, 2), np.float32), data())


def test_failed_checks_are_a_gate() -> None:
    """``require`` names what failed, and exits 1."""
    report = VerifyReport((Check("operators left in float", False, "GELU"),), {}, "e", "xnnpack", 1, 1, 0.5, ())
    assert not report.passed
    with pytest.raises(GateError, match="operators left in float: GELU") as caught:
        report.require()
    assert caught.value.exit_code == 1

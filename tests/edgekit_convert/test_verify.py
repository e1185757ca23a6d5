"""The figures of the proof against independent computation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tiny_models as models

from edgekit.errors import DataError, GateError, OptionError
from edgekit.modelfile import ModelFile
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.data import open_data
from edgekit_convert.verify import (
    Check,
    Runs,
    VerifyReport,
    figures,
    looks_like_classes,
    paired_drop,
    sqnr_db,
    wilson,
)


def test_wilson_interval_of_a_known_case() -> None:
    """90 of 100: 0.826 to 0.945 (Wilson score, standard tables)."""
    found = wilson(90, 100)
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (0.9, 0.826, 0.945)


def test_wilson_stays_inside_at_the_ends() -> None:
    """All right and none right have honest intervals inside 0..1."""
    assert wilson(20, 20).high == 1.0
    assert 0.8 < wilson(20, 20).low < 0.9
    assert wilson(0, 20).low == 0.0


def test_sqnr_of_known_noise() -> None:
    """Noise at a hundredth of the signal's energy is 20 dB; no noise is infinite."""
    signal = np.full(50, 4.0)
    assert sqnr_db(signal, signal / 100).value == pytest.approx(20.0)
    assert math.isinf(sqnr_db(signal, signal * 0).value)


def test_paired_drop_uses_the_pairs() -> None:
    """Models that err on the same samples have no drop, with a narrow interval that still has a width."""
    right = np.array([1, 0] * 50)
    same = paired_drop(right, right)
    assert same.value == 0.0
    assert -0.03 < same.low < -0.01
    assert same.high == -same.low
    assert paired_drop(right, np.zeros(100)).value == 0.5


def test_paired_drop_of_a_known_table() -> None:
    """10 right only for the first, 4 only for the second, of 100: 0.06, about -0.02 to 0.13 (Agresti and Min 2005)."""
    first, second = np.array([1] * 10 + [0] * 4 + [1] * 86), np.array([0] * 10 + [1] * 4 + [1] * 86)
    found = paired_drop(first, second)
    middle, half = 6 / 102, 1.959964 * np.sqrt((15 - 36 / 102) / 102**2)
    assert found.value == pytest.approx(0.06)
    assert (found.low, found.high) == (pytest.approx(middle - half), pytest.approx(middle + half))


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

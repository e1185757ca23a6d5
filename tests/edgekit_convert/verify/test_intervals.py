"""Confidence intervals against known cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit_convert.verify.intervals import paired_drop, sqnr_db, wilson


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

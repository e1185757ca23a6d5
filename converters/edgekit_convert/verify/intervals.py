"""Figures with their 95 % confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.tensors import Array

#: Two-sided 95 % quantile of the normal distribution.
_Z95 = 1.959963984540054
_RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % confidence interval.

    Attributes:
        value: the figure.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """The three numbers; infinity, which JSON lacks, as ``null``."""
        return {key: value if math.isfinite(value) else None for key, value in vars(self).items()}


def wilson(successes: int, total: int) -> Interval:
    """A share with its 95 % interval.

    Args:
        successes: how many.
        total: of how many, at least 1.

    Returns:
        Wilson's score interval (Wilson 1927), which stays inside 0..1 and is right for shares near the ends.
    """
    share = successes / total
    z2 = _Z95 * _Z95
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return Interval(share, min(share, middle - half), max(share, middle + half))


def sqnr_db(signal: Array, noise: Array) -> Interval:
    """SQNR in dB from each sample's energies, interval by bootstrap over the samples.

    Args:
        signal: Σ float² of each sample.
        noise: Σ (float - int8)² of each sample.
    """

    def decibels(s: Any, n: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(n > 0, 10 * np.log10(np.maximum(s, 1e-300) / np.where(n > 0, n, 1)), np.inf)

    value = float(decibels(signal.sum(), noise.sum()))
    rows = np.random.default_rng(0).integers(0, len(signal), (_RESAMPLES, len(signal)))
    spread = decibels(signal[rows].sum(axis=1), noise[rows].sum(axis=1))
    if not np.isfinite(spread).all():
        return Interval(value, float(np.min(spread)), math.inf)
    low, high = np.percentile(spread, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def paired_drop(first: Array, second: Array) -> Interval:
    """Difference of two success rates on the same samples, with its 95 % interval.

    Args:
        first: success of each sample, 0 or 1.
        second: likewise.

    Returns:
        The interval of Agresti and Min (2005): half a sample is added to each cell of the 2x2 table, so that models that
        never differ do not claim to be certain.
    """
    count = len(first) + 2
    only_first, only_second = np.sum((first == 1) & (second == 0)) + 0.5, np.sum((first == 0) & (second == 1)) + 0.5
    middle = float(only_first - only_second) / count
    half = _Z95 * math.sqrt(float(only_first + only_second) - count * middle * middle) / count
    value = float(np.mean(first)) - float(np.mean(second))
    return Interval(value, min(value, middle - half), max(value, middle + half))

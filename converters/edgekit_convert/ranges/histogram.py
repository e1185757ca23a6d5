"""Histograms whose bins do not depend on the data, so that they merge exactly and in any order.

A bin holds the float32 values that share their sign, their exponent and the first five bits of their mantissa: 32 bins from
any power of two to the next, so that a bin is at most 1/32 as wide as its values are large, whatever the tensor's scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgekit.tensors import Array

#: Bits of a float32 that do not choose the bin: 23 of the mantissa less the five that do.
_SHIFT = 23 - 5
#: Bins for the magnitudes, infinity and NaN left out.
MAGNITUDES = 0x7F800000 >> _SHIFT
_SIGN = 0x80000000 >> _SHIFT
#: At most so many values of a tensor are counted in each sample.
COUNTED = 4096
#: Keys that are kept back until they are counted together.
_HELD = 32768


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often a tensor had which values, from a part of its values, and its extremes, from all.

    Attributes:
        low: lowest value; infinite where the tensor never held one.
        high: highest value; minus infinite where it never held one.
        bins: numbers of the bins that are not empty, ascending, as int16. Bin ``n`` from 0 on holds magnitudes from
            ``edge(n)`` up to ``edge(n + 1)``; bin ``-1 - n`` holds the negative values of these magnitudes.
        counts: values in each of them, as int64.
    """

    low: float
    high: float
    bins: Array
    counts: Array

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """The value that a share of all values does not exceed; inside a bin as if they were spread evenly there.

        Args:
            share: from 0, which gives the lowest value, to 1, which gives the highest.

        Returns:
            NaN where nothing was counted.
        """
        if self.total == 0:
            return float("nan")
        if share <= 0 or share >= 1:
            return self.low if share <= 0 else self.high
        lower, upper = self._edges()
        below = np.concatenate([[0], np.cumsum(self.counts)])
        place = int(np.searchsorted(below[1:], share * self.total))
        inside = (share * self.total - below[place]) / self.counts[place]
        return float(lower[place] + inside * (upper[place] - lower[place]))

    def share_outside(self, low: float, high: float) -> float:
        """The share of the values that a range leaves out; 0 where nothing was counted.

        Args:
            low: the range's lower end.
            high: its upper end.
        """
        if self.total == 0:
            return 0.0
        lower, upper = self._edges()
        width = np.maximum(upper - lower, 1e-50)  # below any difference of two float32
        below, above = np.clip((low - lower) / width, 0, 1), np.clip((upper - high) / width, 0, 1)
        return float((self.counts * np.minimum(below + above, 1)).sum() / self.total)

    def _edges(self) -> tuple[Array, Array]:
        """Each bin's lower and upper end, none beyond the extremes, as float64."""
        bins = self.bins.astype(np.int64)
        negative = bins < 0
        lower = np.where(negative, -edge(-bins), edge(bins))
        upper = np.where(negative, -edge(-1 - bins), edge(bins + 1))
        return np.clip(lower, self.low, self.high), np.clip(upper, self.low, self.high)


def edge(number: Array) -> Array:
    """The smallest magnitude of a bin, as float64; the first beyond the last bin is the highest float32."""
    bits = np.minimum(np.maximum(number, 0) << _SHIFT, 0x7F7FFFFF)
    return np.asarray(bits.astype(np.uint32).view(np.float32), np.float64)


def merge(parts: Iterable[Histogram]) -> Histogram:
    """One histogram of all that was counted in several."""
    low, high = np.inf, -np.inf
    dense = np.zeros(2 * MAGNITUDES, np.int64)
    for part in parts:
        low, high = min(low, part.low), max(high, part.high)
        dense[part.bins.astype(np.int64) + MAGNITUDES] += part.counts
    filled = np.flatnonzero(dense)
    return Histogram(low, high, (filled - MAGNITUDES).astype(np.int16), dense[filled])


class Counter:
    """Counts a tensor's values, sample by sample.

    Of a sample with more than ``COUNTED`` values every n-th is counted, n without a common factor with any size of the tensor,
    so that all channels and places take turns. With which one it begins is told from outside, sample by sample.
    """

    def __init__(self) -> None:
        self._held: list[Array] = []
        self._waiting = 0
        self._counted = Histogram(np.inf, -np.inf, np.zeros(0, np.int16), np.zeros(0, np.int64))
        self._steps: dict[int, int] = {}
        self._low, self._high = np.inf, -np.inf

    def add(self, values: Array, low: float, high: float, phase: int) -> None:
        """Count one sample's values, of which there is at least one and all finite.

        Args:
            values: contiguous float32.
            low: the lowest of them.
            high: the highest.
            phase: any number; decides where counting begins.
        """
        self._low, self._high = min(self._low, low), max(self._high, high)
        step = self._steps.setdefault(values.size, stride(values.size))
        keys = values.reshape(-1)[phase % step :: step].view(np.uint32) >> _SHIFT
        self._held.append(keys.astype(np.uint16))
        self._waiting += len(keys)
        if self._waiting >= _HELD:
            self._count()

    def _count(self) -> None:
        if not self._held:
            return
        dense = np.bincount(np.concatenate(self._held), minlength=_SIGN + MAGNITUDES)
        self._held, self._waiting = [], 0
        # From the file's order, negative values last and away from zero, to ascending order.
        ordered = np.concatenate([dense[_SIGN : _SIGN + MAGNITUDES][::-1], dense[:MAGNITUDES]])
        filled = np.flatnonzero(ordered)
        fresh = Histogram(np.inf, -np.inf, (filled - MAGNITUDES).astype(np.int16), ordered[filled])
        self._counted = merge([self._counted, fresh])

    def histogram(self) -> Histogram:
        """What was counted so far."""
        self._count()
        return Histogram(self._low, self._high, self._counted.bins, self._counted.counts)


def stride(size: int) -> int:
    """The smallest step that counts at most ``COUNTED`` of ``size`` values and has no common factor with ``size``."""
    step = max(1, -(-size // COUNTED))
    while math.gcd(step, size) != 1:
        step += 1
    return step

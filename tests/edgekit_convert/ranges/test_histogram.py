"""Histograms agree with the values within a bin's width, merge exactly, and count all places in turn."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.tensors import Array
from edgekit_convert.ranges.histogram import COUNTED, Counter, Histogram, edge, merge, stride

#: Positive, negative, zero, tiny and huge values; below ``COUNTED``, so that all are counted.
VALUES = np.random.default_rng(1).normal(0.3, 2, 4000).astype(np.float32)
VALUES[:4] = 0.0, 1e-42, 3e38, -1e30


def counted(*samples: Array) -> Histogram:
    """A histogram of some samples."""
    counter = Counter()
    for number, values in enumerate(samples):
        counter.add(values, float(values.min()), float(values.max()), number)
    return counter.histogram()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.44, 0.5, 0.9, 0.999, 1.0])
def test_quantiles_are_right_within_a_bin(share: float) -> None:
    """A bin is at most 1/32 as wide as its values are large."""
    expected = float(np.quantile(VALUES, share, method="inverted_cdf"))
    assert expected == pytest.approx(counted(VALUES).quantile(share), rel=1 / 32, abs=1e-12)


def test_share_outside_counts_both_sides() -> None:
    """The ends of the bins are exact; between them values count as spread evenly."""
    found = counted(VALUES)
    low, high = -float(edge(np.array(8200 // 2 - 20))), float(edge(np.array(8200 // 2)))
    expected = float(((VALUES < low) | (VALUES > high)).mean())
    assert expected == pytest.approx(found.share_outside(low, high), abs=1e-12)
    assert found.share_outside(found.low, found.high) == 0.0
    assert found.share_outside(3.1e38, 3.2e38) == 1.0
    assert found.share_outside(-1.003, 1.003) == pytest.approx(float((np.abs(VALUES) > 1.003).mean()), abs=0.01)


def test_a_single_value_is_a_bin_without_width() -> None:
    """A tensor that is 6 everywhere lies inside a range up to 6, and outside one below."""
    found = counted(np.full(10, 6, np.float32))
    assert (found.low, found.high, found.quantile(0.5), found.total) == (6.0, 6.0, 6.0, 10)
    assert (found.share_outside(0, 6), found.share_outside(0, 5.99), found.share_outside(6, 7)) == (0.0, 1.0, 0.0)


def test_bins_hold_the_values_between_their_edges() -> None:
    """One value after another is found in the bin whose edges enclose it."""
    for value in VALUES[:200]:
        [number] = counted(np.array([value])).bins.astype(np.int64)
        lower, upper = (edge(number), edge(number + 1)) if number >= 0 else (-edge(-number), -edge(-1 - number))
        assert lower <= value <= upper


def test_merging_parts_gives_the_whole() -> None:
    """In whatever order, to the last count; more samples than are held back at a time."""
    samples = np.random.default_rng(2).normal(0, 1, (30, 4000)).astype(np.float32)
    whole = counted(*samples)
    parts = merge([counted(*samples[20:]), counted(*samples[:20])])
    assert whole.total == 30 * 4000
    for actual in (parts, counted(*samples[::-1])):
        assert (whole.low, whole.high) == (actual.low, actual.high)
        np.testing.assert_array_equal(whole.bins, actual.bins)
        np.testing.assert_array_equal(whole.counts, actual.counts)


@pytest.mark.parametrize("shape", [(64, 64, 8), (112, 112, 96), (7, 7, 1280), (5,), (1, 1, 1), (8191,)])
def test_thinning_is_bounded_and_reaches_every_channel(shape: tuple[int, ...]) -> None:
    """At most ``COUNTED`` values of a sample, of all channels alike, and all places over the samples."""
    size = int(np.prod(shape))
    places = np.arange(size)[:: stride(size)]
    assert min(size, COUNTED // 2) <= len(places) <= COUNTED
    channels = np.bincount(places % shape[-1], minlength=shape[-1])
    assert channels.max() - channels.min() <= 1 + len(places) // shape[-1] // 8
    numbers = np.arange(size, dtype=np.float32)
    seen = counted(*[numbers] * stride(size))
    assert seen.total == size


def test_nothing_counted() -> None:
    """No value, no quantile, and nothing left out."""
    empty = Counter().histogram()
    assert (empty.low, empty.high, empty.total) == (np.inf, -np.inf, 0)
    assert np.isnan(empty.quantile(0.5))
    assert empty.share_outside(0, 1) == 0.0
    assert merge([empty, counted(VALUES)]).total == 4000

"""Sums do not depend on the order of the samples, where plain float64 sums do, and lose nothing that matters."""

from __future__ import annotations

import numpy as np

from edgekit.tensors import Array
from edgekit_convert.ranges.exact_sums import ExactSum, added

RANDOM = np.random.default_rng(3)
#: Magnitudes from 1e-12 to 1e3, whose float64 sums depend on the order.
SAMPLES = (RANDOM.normal(0, 1, (60, 1, 20, 20, 8)) * 10.0 ** RANDOM.uniform(-12, 3, (60, 1, 20, 20, 8))).astype(
    np.float32
)


def total(samples: Array, channels: int | None = None) -> Array:
    """The exact sum of some samples."""
    work = ExactSum(channels)
    for values in samples:
        work.add(values)
    found = work.total()
    assert found is not None
    return found


def plain(samples: Array) -> Array:
    """What adding in float64 gives."""
    return np.asarray(sum(values.astype(np.float64) for values in samples))


def test_the_order_does_not_matter() -> None:
    """It does for plain sums of the same values; in parts they come out the same too."""
    shuffled = RANDOM.permutation(SAMPLES)
    assert (plain(SAMPLES) != plain(shuffled)).any()
    for channels in (None, 8):
        whole = total(SAMPLES, channels)
        np.testing.assert_array_equal(whole, total(shuffled, channels))
        parts = added([{"x": total(part, channels)} for part in (SAMPLES[:9], SAMPLES[9:30], SAMPLES[30:])])["x"]
        np.testing.assert_array_equal(whole, parts)


def test_sums_are_right() -> None:
    """Within the step of 2**-34 for each sample, or a last bit of the largest values."""
    np.testing.assert_allclose(total(SAMPLES), plain(SAMPLES), rtol=3e-7, atol=60 * 2.0**-34)
    small = SAMPLES * np.float32(1e-3)
    np.testing.assert_allclose(total(small), plain(small), rtol=3e-7, atol=60 * 2.0**-34)


def test_means_over_the_places() -> None:
    """Where the channels are as told; a tensor of another form keeps its places."""
    assert total(SAMPLES, 8).shape == (1, 1, 1, 8)
    expected = SAMPLES.astype(np.float64).mean(axis=(1, 2, 3)).sum(axis=0)
    np.testing.assert_allclose(total(SAMPLES, 8)[0, 0, 0], expected, rtol=1e-5)
    assert total(SAMPLES, 20).shape == (1, 20, 20, 8)


def test_samples_of_different_shapes_have_no_sum() -> None:
    """Neither in one thread nor over several."""
    work = ExactSum(None)
    work.add(np.ones((1, 3), np.float32))
    work.add(np.ones((1, 4), np.float32))
    assert work.total() is None
    one, other = {"x": np.ones((1, 3)), "y": np.ones(2)}, {"x": np.ones((1, 4)), "y": np.ones(2)}
    assert list(added([one, other])) == ["y"]
    assert added([one, {"y": np.ones(2)}])["y"].tolist() == [2.0, 2.0]

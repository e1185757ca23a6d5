"""Warm-up ends when times have no trend any more, and not before."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from edgekit.bench.steady import BLOCK_NS, BLOCKS, WarmUp, drift, has_trend, trend

MS = 1_000_000


def runs_until_warm(times: Iterable[int], **options: int) -> WarmUp:
    """Feed runs until warm-up is over."""
    warm = WarmUp(**options)
    for taken in times:
        if warm.add(taken):
            break
    return warm


class TestTrend:
    """Mann and Kendall's test."""

    def test_statistic_of_a_known_row(self) -> None:
        """1 to 10 in order: S = 45, variance 125, z = 44 / sqrt(125)."""
        assert trend(range(1, 11)) == pytest.approx(44 / 125**0.5)
        assert trend(range(10, 0, -1)) == pytest.approx(-44 / 125**0.5)

    def test_ties_lower_the_variance(self) -> None:
        """1 1 2 2: S = 4, variance (4·3·13 - 2·2·1·9) / 18."""
        assert trend([1, 1, 2, 2]) == pytest.approx(3 / ((4 * 3 * 13 - 2 * 2 * 1 * 9) / 18) ** 0.5)

    def test_equal_values_have_none(self) -> None:
        """No pair differs."""
        assert trend([5] * 12) == 0.0

    def test_noise_has_one_in_twenty(self) -> None:
        """The test says so of independent values about as often as it should."""
        random = np.random.default_rng(2)
        found = sum(has_trend(random.normal(100, 5, BLOCKS)) for _ in range(2000))
        assert 60 <= found <= 150

    def test_trend_too_small_to_matter_is_none(self) -> None:
        """A rise of a thousandth from half to half is left alone; of a hundredth it is not."""
        assert not has_trend([1000 + 0.2 * number for number in range(10)])
        assert has_trend([1000 + 2 * number for number in range(10)])


class TestWarmUp:
    """Runs one by one."""

    def test_steady_from_the_start_takes_ten_blocks(self) -> None:
        """Equal runs settle with the first test that can be made."""
        warm = runs_until_warm([MS] * 10_000)
        assert (warm.settled, warm.runs) == (True, BLOCKS * BLOCK_NS // MS)

    def test_falling_times_are_warm_up(self) -> None:
        """Runs that get faster for 600 runs are not called steady among these."""
        random = np.random.default_rng(4)
        times = [int(MS * (1 + np.exp(-number / 150)) + random.normal(0, 2000)) for number in range(20_000)]
        warm = runs_until_warm(times)
        assert warm.settled
        assert warm.runs > 600
        assert times[warm.runs] < 1.02 * MS

    def test_one_slow_block_does_not_hold_it_up(self) -> None:
        """A pause in the first block is no trend."""
        warm = runs_until_warm([30 * MS, *[MS] * 10_000])
        assert (warm.settled, warm.runs) == (True, 1 + 9 * 20)

    def test_what_never_settles_is_given_up(self) -> None:
        """Times that rise for ever end at the limit, and are marked."""
        warm = runs_until_warm((MS + 1000 * number for number in range(100_000)), limit_ns=800 * MS)
        assert not warm.settled
        assert warm.runs < 800

    def test_slow_models_are_judged_by_what_there_is(self) -> None:
        """Five runs of 200 ms fill no ten blocks in a second."""
        warm = runs_until_warm([200 * MS] * 100, limit_ns=1000 * MS)
        assert (warm.settled, warm.runs) == (True, 5)


class TestDrift:
    """Steady runs that are not."""

    def test_slowing_down_is_measured(self) -> None:
        """From 1 to 1.2: the last quarter's middle is 15 % above the first's."""
        found = drift([int(MS * (1 + 0.2 * number / 999)) for number in range(1000)])
        assert found == pytest.approx((1 + 0.2 * 0.875) / (1 + 0.2 * 0.125) - 1, abs=0.01)

    def test_without_trend_it_is_nothing(self) -> None:
        """Noise is no drift, and few runs tell nothing."""
        random = np.random.default_rng(6)
        assert drift((MS + random.normal(0, 5000, 1000)).astype(int).tolist()) == 0.0
        assert drift([MS] * 10) is None

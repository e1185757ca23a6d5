"""Intervals over launches hold what they promise, and MLPerf's sample sizes are the published ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.bench.statistics import (
    BETWEEN_RERUNS,
    MLPERF_SAMPLES,
    beta_regularized,
    early_stopping_estimate,
    fewest_queries,
    launches_needed,
    most_over,
    over_launches,
    student_quantile,
)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)], ids=str
)
def test_students_quantiles_are_the_tables(freedom: int, expected: float) -> None:
    """The 97.5 % column of any table of Student's t."""
    assert student_quantile(0.975, freedom) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("x", "a", "b", "expected"),
    [(0.3, 1, 1, 0.3), (0.25, 2, 1, 0.0625), (0.5, 7, 7, 0.5), (0.9, 1, 3, 0.999), (0.0, 2, 2, 0.0), (1.0, 2, 2, 1.0)],
    ids=["uniform", "square", "symmetric", "cube", "zero", "one"],
)
def test_beta_function_where_it_is_known(x: float, a: float, b: float, expected: float) -> None:
    """Closed forms of the regularised incomplete beta function."""
    assert beta_regularized(x, a, b) == pytest.approx(expected, abs=1e-12)


def test_beta_function_sums_a_binomial() -> None:
    """I_p(n - k, k + 1) is the probability of at most k failures in n."""
    count, most, share = 60, 4, 0.93
    exact = sum(math.comb(count, k) * (1 - share) ** k * share ** (count - k) for k in range(most + 1))
    assert beta_regularized(share, count - most, most + 1) == pytest.approx(exact, rel=1e-12)


class TestInterval:
    """``over_launches``."""

    def test_holds_the_true_median_and_the_next_one(self) -> None:
        """Of 400 benchmarks of seven launches each, about 95 % of the intervals hold what they should."""
        random = np.random.default_rng(7)
        held = again = 0
        for _ in range(400):
            first, second = (over_launches(np.exp(random.normal(0, 0.02, 7)).tolist()) for _ in range(2))
            assert first.low is not None
            assert first.high is not None
            assert first.predicted_low is not None
            assert first.predicted_high is not None
            held += first.low <= 1 <= first.high
            again += first.predicted_low <= second.value <= first.predicted_high
        assert 360 <= held <= 396
        assert 360 <= again <= 396

    def test_two_launches_have_none(self) -> None:
        """The spread over launches is not known from two."""
        found = over_launches([100, 104])
        assert (found.low, found.width, found.predicted_width) == (None, None, None)
        assert found.value == pytest.approx(math.sqrt(100 * 104))

    def test_equal_launches_have_a_point(self) -> None:
        """Nothing differs, nothing is left open; a rerun may still meet another minute of the machine."""
        found = over_launches([50.0] * 5)
        assert found.width == pytest.approx(0, abs=1e-12)
        assert found.predicted_width == pytest.approx(2 * BETWEEN_RERUNS, rel=1e-3)

    def test_rerun_has_its_own_error_as_well(self) -> None:
        """Half the width: root two times this one's, and the change between reruns, at right angles."""
        found = over_launches([100, 101, 99, 102, 98])
        assert found.high is not None
        assert found.predicted_high is not None
        half = math.log(found.high / found.value)
        assert math.log(found.predicted_high / found.value) == pytest.approx(math.hypot(half * 2**0.5, BETWEEN_RERUNS))

    def test_launches_needed_grow_with_the_square(self) -> None:
        """An interval twice too wide takes about four times the launches; one narrow enough, none."""
        values = [100, 101, 99, 102, 98]
        width = over_launches(values).width
        assert width is not None
        assert launches_needed(values, width / 2) == 20
        assert launches_needed(values, 2 * width) == 5


class TestEarlyStopping:
    """MLPerf's rule for few queries."""

    @pytest.mark.parametrize(
        ("over", "percentile", "expected"), [(0, 99, 459), (1, 99, 662), (1, 90, 64), (0, 90, 44)], ids=str
    )
    def test_least_queries_are_the_published_ones(self, over: int, percentile: int, expected: int) -> None:
        """459 queries without one over the bound show the 99th percentile; 64 and 662 are the floors of single stream."""
        assert fewest_queries(over, percentile) == expected

    def test_rule_and_its_inverse_agree(self) -> None:
        """``most_over`` is the largest number for which there are queries enough."""
        for queries in (459, 661, 662, 5000):
            allowed = most_over(queries)
            assert allowed is not None
            assert fewest_queries(allowed) <= queries < fewest_queries(allowed + 1)
        assert most_over(458) is None

    def test_a_system_at_the_limit_is_rarely_passed(self) -> None:
        """Of systems that keep the bound in exactly 99 % of the queries, at most about 1 % pass with 2000 queries."""
        random = np.random.default_rng(1)
        allowed = most_over(2000)
        assert allowed is not None
        passed = int((random.binomial(2000, 0.01, 20_000) <= allowed).sum())
        assert 50 <= passed <= 240

    def test_estimate_is_at_least_the_sample_percentile(self) -> None:
        """Of 1 to 1000 the 90th percentile is 900; the estimate leaves out one less than the rule allows."""
        allowed = most_over(1000, 90)
        assert allowed is not None
        assert early_stopping_estimate(list(range(1, 1001)), 90) == 1001 - allowed
        assert 1001 - allowed > 900

    def test_too_few_queries_have_no_estimate(self) -> None:
        """63 are not enough for the 90th percentile, 64 give the slowest."""
        assert early_stopping_estimate(range(63), 90) is None
        assert early_stopping_estimate(range(64), 90) == 63

    def test_table_is_of_whole_multiples(self) -> None:
        """The rules round to multiples of 8192."""
        assert {count % 8192 for count, _ in MLPERF_SAMPLES.values()} == {0}

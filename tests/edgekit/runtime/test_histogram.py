"""``edgekit.runtime.histogram``: percentiles that need no samples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edgekit.runtime.histogram import BUCKETS, Histogram, _middle
from edgekit.runtime.summary import LatencySummary
from edgekit.tensors import Array


def nearest_rank(values: Array, percent: int) -> int:
    """The smallest value that at least this share of all values does not exceed, in whole numbers."""
    return int(np.sort(values)[max(0, -(-percent * len(values) // 100) - 1)])


def filled(values: Any) -> Histogram:
    """A histogram of these times."""
    histogram = Histogram()
    histogram.add(values)
    return histogram


def content(histogram: Histogram) -> str:
    """All that a histogram knows."""
    return json.dumps(histogram.to_json())


@dataclass(frozen=True)
class Times:
    """Times as some part of the world gives them."""

    id: str
    values: Array


RANDOM = np.random.default_rng(11)
TIMES = [
    Times("one", np.array([123_456_789])),
    Times("small", RANDOM.integers(0, 300, 4000)),
    Times("uniform", RANDOM.integers(1, 10**7, 5000)),
    Times("log-uniform over twelve powers of ten", np.exp(RANDOM.uniform(0, np.log(1e12), 20_000)).astype(np.int64)),
    Times("lognormal", RANDOM.lognormal(14, 0.7, 20_000).astype(np.int64)),
    Times("two modes", np.concatenate([RANDOM.normal(1e6, 1e3, 900), RANDOM.normal(9e7, 1e6, 101)]).astype(np.int64)),
    Times("a few very long", np.array([1_000_000] * 995 + [10**15] * 5)),
    Times("all the same", np.array([1_000_003] * 777)),
    Times("on the edges of buckets", np.array([b + d for p in range(1, 60) for b in [1 << p] for d in (-1, 0, 1)])),
]


@pytest.mark.parametrize("case", TIMES, ids=lambda case: case.id)
def test_percentiles_are_within_one_percent(case: Times) -> None:
    """Of the exact ones, for every whole percent; count, sum, least and greatest are exact."""
    histogram = filled(case.values)
    for percent in range(101):
        expected = nearest_rank(case.values, percent)
        assert abs(histogram.percentile(percent) - expected) <= 0.01 * expected, percent
    expected_figures = (len(case.values), sum(case.values.tolist()), case.values.min(), case.values.max())
    assert expected_figures == (histogram.count, histogram.sum_ns, histogram.min_ns, histogram.max_ns)
    assert round(sum(case.values.tolist()) / len(case.values)) == histogram.mean_ns


def test_every_time_is_near_the_middle_of_its_bucket() -> None:
    """Each bucket's times are at most 0.4 % from its middle, up to the greatest times."""
    values = np.unique(np.concatenate([np.arange(5000), np.exp(RANDOM.uniform(0, 42, 20_000)).astype(np.int64)]))
    for value in values.tolist():
        (bucket,) = np.flatnonzero(filled([value])._counts)
        assert abs(_middle(int(bucket)) - value) <= value / 256 + 0.5, value


@pytest.mark.parametrize("case", TIMES, ids=lambda case: case.id)
def test_merging_is_the_same_as_adding_all(case: Times) -> None:
    """In any order and any portions."""
    pieces = [filled(piece) for piece in np.array_split(case.values, 7)]
    forward, backward = Histogram(), Histogram()
    for piece in pieces:
        forward.merge(piece)
    for piece in reversed(pieces):
        backward.merge(piece)
    assert content(filled(case.values)) == content(forward) == content(backward)


def test_merging_with_nothing() -> None:
    """An empty histogram has no least time that could spoil the other's."""
    one = filled([5, 7])
    one.merge(Histogram())
    other = Histogram()
    other.merge(one)
    assert (5, 7, content(one)) == (other.min_ns, other.max_ns, content(other))


def test_a_copy_is_its_own() -> None:
    """What is added to the copy is not in the original."""
    one = filled([5, 7])
    before = content(one)
    one.copy().add([9])
    assert before == content(one)


@pytest.mark.parametrize("case", TIMES, ids=lambda case: case.id)
def test_json_round_trip(case: Times) -> None:
    """Through text and back, nothing is lost."""
    histogram = filled(case.values)
    assert content(histogram) == content(Histogram.from_json(json.loads(content(histogram))))


def test_what_is_below_zero_or_very_long() -> None:
    """A clock that went backwards counts as 0; years have a bucket too."""
    histogram = filled([-5, 0, 1 << 61, 1 << 61])
    assert (4, 1 << 62, 0, 1 << 61) == (histogram.count, histogram.sum_ns, histogram.min_ns, histogram.max_ns)
    assert 0 == histogram.percentile(50)


def test_nothing_added() -> None:
    """Every figure is 0."""
    histogram = filled([])
    assert (0, 0, 0, 0, 0, 0) == (
        histogram.count, histogram.sum_ns, histogram.min_ns, histogram.max_ns, histogram.mean_ns, histogram.percentile(99),
    )  # fmt: skip
    assert LatencySummary.of([]) == LatencySummary.of_histogram(histogram)


def test_at_most() -> None:
    """How many are below a bound, give or take those within 1 % of it."""
    values = np.arange(1, 100_001)
    histogram = filled(values)
    for bound in (0, 1, 99, 12_345, 99_999, 100_000, 10**9):
        seen = histogram.at_most(bound)
        assert np.count_nonzero(values <= 0.99 * bound) <= seen <= np.count_nonzero(values <= 1.01 * bound), bound
    assert 0 == histogram.at_most(-1)


GOOD = filled([1, 2, 3]).to_json()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {**GOOD, "count": 4},
        {**GOOD, "count": "3"},
        {**GOOD, "count": True},
        {**GOOD, "sum_ns": -1},
        {**GOOD, "sub_bits": 5},
        {**GOOD, "buckets": None},
        {**GOOD, "buckets": [1]},
        {**GOOD, "buckets": [1, 1.5, 2, 1.5]},
        {**GOOD, "buckets": [BUCKETS, 3]},
        {**GOOD, "buckets": [-1, 3]},
        {**GOOD, "buckets": [1, 1, 1, 2]},
        {**GOOD, "buckets": [1, 1 << 70]},
    ],
    ids=str,
)
def test_what_is_no_histogram(data: Any) -> None:
    """A file's content is not trusted."""
    with pytest.raises(ValueError, match="not a histogram"):
        Histogram.from_json(data)

"""How sure the ratio of two sides' launches is: an interval, and whether chance would do.

The interval is a percentile bootstrap (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993) that draws each side's launches
with replacement. Whether a difference is more than chance is asked with the rank-sum test (F. Wilcoxon, "Individual Comparisons by
Ranking Methods", Biometrics Bulletin 1, 1945), whose ranks a single launch that was disturbed hardly moves: how often the launches,
dealt to the two sides at random, differ as much. Both are repeatable: the seed is fixed, and few launches are dealt in every way that
there is.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from edgekit.tensors import Array

#: A difference counts as shown when chance gives one as large in fewer than this share of all deals.
SIGNIFICANT = 0.05
_RESAMPLES = 2000
_DEALS = 20_000
_SEED = 0


def ratio_interval(base: Array, other: Array) -> tuple[float | None, float | None]:
    """The 95 % interval of the ratio of two medians over launches.

    Args:
        base: one figure for each launch of the first side.
        other: the same of the other side.

    Returns:
        Both ends; ``None`` twice where a side has a single launch.
    """
    if min(len(base), len(other)) < 2:
        return None, None
    random = np.random.default_rng(_SEED)
    drawn = [np.median(side[random.integers(0, len(side), (_RESAMPLES, len(side)))], axis=1) for side in (other, base)]
    low, high = np.percentile(drawn[0] / drawn[1], [2.5, 97.5])
    return float(low), float(high)


def chance(base: Array, other: Array) -> float | None:
    """How often launches that are dealt to two sides at random differ as much as these, in either direction.

    What is compared is the sum of one side's ranks among all launches; equal ones share theirs.

    Args:
        base: one figure for each launch of the first side.
        other: the same of the other side.

    Returns:
        The share, counting the deal that was seen; ``None`` where a side has a single launch.
    """
    if min(len(base), len(other)) < 2:
        return None
    values, size = np.concatenate([base, other]), len(base)
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    if math.comb(len(values), size) <= _DEALS:
        sums = ranks[np.array(list(itertools.combinations(range(len(values)), size)))].sum(axis=1)
        extra = 0
    else:
        random = np.random.default_rng(_SEED)
        order = random.permuted(np.tile(np.arange(len(values)), (_DEALS, 1)), axis=1)
        sums = ranks[order[:, :size]].sum(axis=1)
        extra = 1
    expected = size * (len(values) + 1) / 2
    seen = abs(float(ranks[:size].sum()) - expected)
    as_much = int(np.count_nonzero(np.abs(sums - expected) >= seen - 1e-9))
    return (as_much + extra) / (len(sums) + extra)


def least_chance(first: int, second: int) -> float:
    """The smallest share that ``chance`` can give: with three launches a side it is 2 of 20, and says nothing.

    Args:
        first: launches of one side.
        second: launches of the other.
    """
    return 2 / math.comb(first + second, first)

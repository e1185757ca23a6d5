"""How far the float model is from the original."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit_convert.stages.preparing import difference

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("expected", "actual", "share"),
    [
        ([1, -4], [1, -3], 0.25),
        ([0, 0], [0, 0.5], 0.5),
        ([1, NAN, INF], [1, NAN, INF], 0.0),
        ([2, NAN], [1, NAN], 0.5),
        ([1, 2], [1, NAN], INF),
        ([1, INF], [1, 2], INF),
        ([1, INF], [1, -INF], INF),
        ([NAN, 2], [0, 2], INF),
        ([], [], 0.0),
    ],
)
def test_difference_of_outputs(expected: list[float], actual: list[float], share: float) -> None:
    """A share of the largest finite value; a number against none is as far off as can be, and the same one is not off."""
    assert share == difference(np.array(expected, np.float32), np.array(actual, np.float32))

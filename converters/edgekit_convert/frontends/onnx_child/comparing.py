"""How far two results lie apart, and on what inputs that is tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgekit_convert.frontends.onnx_child.layouts import channels_last, original

#: The float model may differ by rounding only: so much of the largest value.
TOLERANCE = 1e-3

#: Share of whole numbers that may differ: where two classes are as good as equal, rounding picks either.
_INTEGERS_APART = 0.01


def difference(expected: Any, actual: Any) -> float:
    """The largest difference as a share of the largest expected value.

    Args:
        expected: of the original.
        actual: of the float model, in the same layout.

    Returns:
        0 when equal; infinite for another shape, or where one has no finite number and the other has. Whole numbers count as
        equal when no more than 1 % of them differ.
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    if expected.dtype.kind in "iub":
        apart = float(np.mean(expected.astype(np.int64) != actual.astype(np.int64)))
        return 0.0 if apart <= _INTEGERS_APART else apart
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    if not finite.any():
        return 0.0
    size = float(np.abs(a[finite]).max()) or 1.0
    return float(np.abs(a[finite] - b[finite]).max()) / size


def best_layout(expected: Any, actual: Any) -> tuple[tuple[int, ...], float]:
    """The layout in which a result fits the original best.

    Args:
        expected: of the original, in its own layout.
        actual: the same with its axes in an order that is not known.

    Returns:
        The layout of ``actual``, and the difference with it; the original's layout where none fits.
    """
    rank = np.ndim(expected)
    if rank != np.ndim(actual):
        return original(rank), float("inf")
    usual = [original(rank)]
    if rank > 2:
        usual.append(channels_last(rank))
    tried: dict[tuple[int, ...], float] = {}
    for layout in itertools.chain(usual, itertools.permutations(range(rank)) if rank <= 5 else ()):
        if layout not in tried and np.transpose(expected, layout).shape == np.shape(actual):
            tried[layout] = difference(np.transpose(expected, layout), actual)
            if tried[layout] <= TOLERANCE:
                return layout, tried[layout]
    if not tried:
        return original(rank), float("inf")
    best = min(tried, key=lambda layout: tried[layout])
    return best, tried[best]


def random_inputs(inputs: list[dict[str, Any]], shapes: Mapping[str, list[int]]) -> Iterator[dict[str, Any]]:
    """Inputs of several kinds, the same at each call.

    Args:
        inputs: name and type of each.
        shapes: by name.

    Yields:
        Inputs by name: normally distributed and within 0..1, two of each; whole numbers are 0 or 1, as these are in the
        range of any table that they may index.
    """
    generator = np.random.default_rng(0)
    for kind in ("normal", "unit", "normal", "unit"):
        values: dict[str, Any] = {}
        for item in inputs:
            shape, dtype = shapes[item["name"]], np.dtype(item["dtype"])
            if dtype.kind != "f":
                values[item["name"]] = generator.integers(0, 2, shape).astype(dtype)
            elif kind == "normal":
                values[item["name"]] = generator.standard_normal(shape).astype(dtype)
            else:
                values[item["name"]] = generator.uniform(0, 1, shape).astype(dtype)
        yield values

"""Random inputs are valid for the type and range of each input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgekit.bench.inputs import random_inputs
from edgekit.tensors import QuantParams, TensorSpec

SCALE = QuantParams((0.5,), (0,))


@dataclass(frozen=True)
class Kind:
    """An input type, and the lowest and highest value that may come and that many draws reach."""

    dtype: str
    quant: QuantParams | None
    low: float
    high: float


KINDS = [
    Kind("int8", SCALE, -128, 127),
    Kind("uint8", SCALE, 0, 255),
    Kind("int16", SCALE, -32768, 32767),
    Kind("int32", None, 0, 1),
    Kind("int64", None, 0, 1),
    Kind("uint8", None, 0, 1),
    Kind("bool", None, 0, 1),
    Kind("float32", None, -1, 1),
    Kind("float16", None, -1, 1),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.dtype}-{'quant' if kind.quant else 'plain'}")
def test_values_fill_the_range_that_the_input_can_hold(kind: Kind) -> None:
    """Each type gets its own dtype and values over its whole valid range."""
    values = random_inputs([TensorSpec("x", (1, 40_000), kind.dtype, kind.quant)])["x"]
    span = kind.high - kind.low
    assert np.dtype(kind.dtype) == values.dtype
    assert kind.low <= values.min() <= kind.low + span / 50
    assert kind.high - span / 50 <= values.max() <= kind.high


def test_open_sizes_become_one() -> None:
    """A size that the file leaves open is 1."""
    assert random_inputs([TensorSpec("x", (-1, 3), "float32")])["x"].shape == (1, 3)


def test_the_same_seed_gives_the_same_values() -> None:
    """Two calls agree with one seed and differ with another."""
    specs = [TensorSpec("a", (1, 50), "int8", SCALE), TensorSpec("b", (1, 50), "float32")]
    first, again, other = random_inputs(specs, 1), random_inputs(specs, 1), random_inputs(specs, 2)
    assert list(first) == ["a", "b"]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)

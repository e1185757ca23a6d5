"""Sparse constants come out as they were before their zeros were left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest
from sparse_constants import encode

from edgekit.errors import ModelFileError
from edgekit.tensors import Array
from edgekit_convert.graph.sparse import dense_values


def _mostly_zero(*shape: int, seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    return np.where(random.uniform(size=shape) < 0.2, random.normal(size=shape), 0).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "sparse", "order", "blocks", "kind"),
    [
        pytest.param((6, 8), {1}, None, (), "int32", id="rows of a matrix"),
        pytest.param((6, 8), {0}, (1, 0), (), "uint8", id="columns of a matrix"),
        pytest.param((6, 8), {0, 1}, None, (), "uint16", id="both sizes listed"),
        pytest.param((6, 8), set(), None, (), "int32", id="nothing listed"),
        pytest.param((8, 12), {1}, None, ((1, 4),), "uint8", id="blocks in a row"),
        pytest.param((8, 12), {1}, None, ((0, 4), (1, 4)), "uint8", id="square blocks"),
        pytest.param((8, 12), {1}, (0, 1, 3, 2), ((0, 2), (1, 4)), "int32", id="square blocks by columns"),
        pytest.param((4, 3, 3, 8), {0, 3}, None, (), "uint8", id="a kernel"),
        pytest.param((4, 3, 3, 8), {3}, (0, 1, 2, 3, 4), ((3, 4),), "uint8", id="a kernel in blocks"),
    ],
)
def test_values_go_where_they_were(
    shape: tuple[int, ...],
    sparse: Collection[int],
    order: Sequence[int] | None,
    blocks: Sequence[tuple[int, int]],
    kind: str,
) -> None:
    """Whatever is listed and in whatever order, the same array comes back."""
    dense = _mostly_zero(*shape)
    values, params = encode(dense, sparse, order=order, blocks=blocks, kind=kind)
    np.testing.assert_array_equal(dense_values(values, shape, params, "w"), dense)


def test_nothing_but_zeros() -> None:
    """A constant that holds no value at all has its shape all the same."""
    values, params = encode(np.zeros((3, 4), np.float32), {1})
    assert values.size == 0
    np.testing.assert_array_equal(dense_values(values, (3, 4), params, "w"), np.zeros((3, 4), np.float32))


def _outside(params: Any) -> None:
    params.dimMetadata[1].arrayIndices.values = params.dimMetadata[1].arrayIndices.values + 8


def _short(params: Any) -> None:
    params.dimMetadata[1].arraySegments.values = params.dimMetadata[1].arraySegments.values[:-1]


def _falling(params: Any) -> None:
    params.dimMetadata[1].arraySegments.values = params.dimMetadata[1].arraySegments.values[::-1]


def _another_size(params: Any) -> None:
    params.dimMetadata[0].denseSize = 7


def _an_axis_twice(params: Any) -> None:
    params.traversalOrder = [0, 0]


@pytest.mark.parametrize("spoil", [_outside, _short, _falling, _another_size, _an_axis_twice])
def test_what_does_not_fit_is_refused(spoil: Any) -> None:
    """Indices and sizes that contradict each other are an error, and never a place outside of the array."""
    values, params = encode(_mostly_zero(6, 8), {1})
    spoil(params)
    with pytest.raises(ModelFileError, match="the sparse constant 'w' is not in order"):
        dense_values(values, (6, 8), params, "w")


def test_values_that_are_missing_are_noticed() -> None:
    """A constant that was cut short is an error."""
    values, params = encode(_mostly_zero(6, 8), {1})
    with pytest.raises(ModelFileError, match="places for"):
        dense_values(values[:-1], (6, 8), params, "w")

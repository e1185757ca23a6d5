"""Sparse constants, as the schema stores them, become dense ones.

The encoding is that of schema.fbs, ``table SparsityParameters``: the sizes of a tensor, and behind them those of its blocks, are
walked through in ``traversalOrder``. A dense size is counted out; of a sparse one the places that hold something are listed,
``arraySegments[i]`` to ``arraySegments[i + 1]`` of ``arrayIndices`` for the i-th place so far (a CSR matrix, level by level).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ModelFileError
from edgekit.tensors import Array


def dense_values(values: Array, shape: tuple[int, ...], sparsity: Any, name: str) -> Array:
    """Spread a sparse constant's values over its shape, zeros between.

    Args:
        values: what is stored, one after the other.
        shape: the tensor's.
        sparsity: its ``SparsityParametersT``.
        name: what to call it in messages.

    Returns:
        An array of the values' type and of ``shape``.

    Raises:
        ModelFileError: sizes, indices and values do not fit each other.
    """
    order = [int(axis) for axis in sparsity.traversalOrder]
    blocks = [int(axis) for axis in (sparsity.blockMap if sparsity.blockMap is not None else ())]
    rank = len(shape)
    if sorted(order) != list(range(rank + len(blocks))) or len(sparsity.dimMetadata) != len(order):
        raise _wrong(name, "its sizes are not all walked through once")
    sizes = _sizes(shape, order, blocks, sparsity.dimMetadata, name)
    # The places so far: where each lies in the level above, and its coordinate along each axis that was walked through.
    count = 1
    found: dict[int, Array] = {}
    for axis, level in zip(order, sparsity.dimMetadata, strict=True):
        if level.format == 0:  # DimensionType.DENSE
            above, here = np.repeat(np.arange(count), sizes[axis]), np.tile(np.arange(sizes[axis]), count)
        else:
            above, here = _listed(level, count, sizes[axis], name)
        found = {known: places[above] for known, places in found.items()}
        found[axis] = here
        count = len(here)
    if count != values.size:
        raise _wrong(name, f"{count} places for {values.size} values")
    result = np.zeros(shape, values.dtype)
    places = [found[axis] for axis in range(rank)]
    for number, axis in enumerate(blocks):
        places[axis] = places[axis] * sizes[rank + number] + found[rank + number]
    result[tuple(places)] = values
    return result


def _sizes(shape: tuple[int, ...], order: list[int], blocks: list[int], levels: Any, name: str) -> list[int]:
    """Each axis's size in blocks, and behind them the blocks' own sizes."""
    sizes = list(shape) + [0] * len(blocks)
    for axis, level in zip(order, levels, strict=True):
        if axis >= len(shape):
            if level.format != 0 or level.denseSize < 1:
                raise _wrong(name, "a block has no size")
            sizes[axis] = int(level.denseSize)
    for number, axis in enumerate(blocks):
        if not 0 <= axis < len(shape) or sizes[axis] % sizes[len(shape) + number]:
            raise _wrong(name, f"its blocks do not divide its shape {list(shape)}")
        sizes[axis] //= sizes[len(shape) + number]
    for axis, level in zip(order, levels, strict=True):
        if level.format == 0 and int(level.denseSize) != sizes[axis]:
            raise _wrong(name, f"it says {level.denseSize} along axis {axis}, {sizes[axis]} follow from its shape")
    return sizes


def _listed(level: Any, count: int, size: int, name: str) -> tuple[Array, Array]:
    """The places of a sparse level: which of the level above each belongs to, and its coordinate."""
    segments = np.asarray(level.arraySegments.values, np.int64)
    indices = np.asarray(level.arrayIndices.values, np.int64)
    lengths = np.diff(segments)
    if (
        len(lengths) != count
        or segments[0] != 0
        or (lengths < 0).any()
        or segments[-1] != len(indices)
        or (indices.size and not 0 <= indices.min() <= indices.max() < size)
    ):
        raise _wrong(name, "an index leads out of it")
    return np.repeat(np.arange(count), lengths), indices


def _wrong(name: str, why: str) -> ModelFileError:
    return ModelFileError(
        f"the sparse constant {name!r} is not in order: {why}. The file is damaged: copy it again, or convert the model again."
    )

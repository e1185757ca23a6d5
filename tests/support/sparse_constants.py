"""Sparse constants as the schema stores them, made from dense ones by our own code."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.tensors import Array

_VECTORS = {"int32": (1, schema.Int32VectorT), "uint16": (2, schema.Uint16VectorT), "uint8": (3, schema.Uint8VectorT)}


def encode(
    dense: Array,
    sparse: Collection[int],
    *,
    order: Sequence[int] | None = None,
    blocks: Sequence[tuple[int, int]] = (),
    kind: str = "int32",
) -> tuple[Array, Any]:
    """Leave the zeros of an array out.

    Args:
        dense: the array.
        sparse: axes of which only places that hold something are listed; those of blocks are counted on behind the array's own.
        order: in which axes are walked through; ``None`` for their own order, blocks last.
        blocks: axis and size of each block.
        kind: the type of the indices.

    Returns:
        The values that are left, and the ``SparsityParametersT`` that says where they belong.
    """
    rank = dense.ndim
    inner = dict(blocks)
    split = dense.reshape(
        [size for axis in range(rank) for size in (dense.shape[axis] // inner.get(axis, 1), inner.get(axis, 1))]
    )
    outer = [2 * axis for axis in range(rank)]
    split = split.transpose(
        [*outer, *(2 * axis + 1 for axis, _ in blocks), *(2 * a + 1 for a in range(rank) if a not in inner)]
    )
    split = split.reshape(split.shape[: rank + len(blocks)])
    order = list(order) if order is not None else list(range(split.ndim))
    parts = [split.transpose(order)]
    levels = []
    for axis in order:
        level = schema.DimensionMetadataT()
        level.format, level.denseSize = (1, 0) if axis in sparse else (0, split.shape[axis])
        kept = [[i for i in range(len(part)) if axis not in sparse or np.any(part[i])] for part in parts]
        if axis in sparse:
            number, vector = _VECTORS[kind]
            segments, indices = vector(), vector()
            segments.values = np.cumsum([0, *(len(item) for item in kept)]).astype(kind)
            indices.values = np.array([i for item in kept for i in item], kind)
            level.arraySegmentsType = level.arrayIndicesType = number
            level.arraySegments, level.arrayIndices = segments, indices
        parts = [part[i] for part, item in zip(parts, kept, strict=True) for i in item]
        levels.append(level)
    params = schema.SparsityParametersT()
    params.traversalOrder, params.dimMetadata = order, levels
    params.blockMap = [axis for axis, _ in blocks] or None
    return np.array(parts, dense.dtype), params

"""``edgekit.runtime.shared_arrays``: one copy of a large array for two processes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edgekit.runtime.shared_arrays import SharedArrays
from edgekit.tensors import TensorSpec

linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this memory is Linux's")
LARGE = (TensorSpec("x", (1, 100, 100), "float32"), TensorSpec("k", (3,), "int8"))
OUT = (TensorSpec("y", (7, 5), "int64"),)


@linux
def test_both_sides_see_the_same() -> None:
    """What one mapping writes the other reads, each array in its own place."""
    ours = SharedArrays.make(LARGE, OUT)
    assert ours is not None
    theirs = SharedArrays(os.dup(ours.descriptor), LARGE, OUT)
    for number, (spec, place) in enumerate(zip((*LARGE, *OUT), (*ours.inputs, *ours.outputs), strict=True), 1):
        assert (spec.shape, spec.dtype) == (place.shape, place.dtype.name)
        place[...] = number
    assert [1.0, 2.0, 3.0] == [float(place.mean()) for place in (*theirs.inputs, *theirs.outputs)]
    ours.close()
    ours.close()
    np.testing.assert_array_equal(1, ours.inputs[0])


@linux
def test_nobody_can_shrink_it() -> None:
    """The other side cannot take the memory away, which would end this process."""
    shared = SharedArrays.make(LARGE, OUT)
    assert shared is not None
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(shared.descriptor, size)


@pytest.mark.parametrize(
    "shape", [(2, 3), (-1, 1 << 20), (0, 1 << 20), (1 << 15, 1 << 15)], ids=["small", "open", "empty", "enormous"]
)
def test_not_for_everything(shape: tuple[int, ...]) -> None:
    """Small arrays, open sizes and those beyond measure go through the pipe."""
    assert SharedArrays.make((TensorSpec("x", shape, "float32"),), OUT) is None

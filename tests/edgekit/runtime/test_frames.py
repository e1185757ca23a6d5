"""``edgekit.runtime.frames``: arrays over a pipe, and nothing believed that was not tested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.runtime.frames import HEAD, RESULT, BadFrame, Frame, arrays_of, described, frame_of, lengths, packed
from edgekit.tensors import Array


def sent(arrays: list[Array]) -> Frame:
    """Arrays as they come out at the other end."""
    whole = b"".join(packed(RESULT, 7, {"arrays": described(arrays)}, arrays))
    kind, number, text, size = lengths(whole[: HEAD.size], 1 << 20)
    assert HEAD.size + text + size == len(whole)
    view = memoryview(bytearray(whole))[HEAD.size :]
    return frame_of(kind, number, view[:text], view[text:])


ARRAYS: list[Array] = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.zeros((0, 5), np.int8),
    np.array(3.5),
    np.arange(24, dtype=np.int16).reshape(2, 3, 4).transpose(2, 0, 1),
    np.array([True, False]),
    np.arange(10, dtype=np.uint8)[::-2],
]


def test_arrays_arrive() -> None:
    """Any shape, layout and type, an empty one and a single number among them."""
    frame = sent(ARRAYS)
    seen = arrays_of(frame, frame.about["arrays"])
    assert [(a.dtype, a.shape, a.tolist()) for a in ARRAYS] == [(a.dtype, a.shape, a.tolist()) for a in seen]
    assert (RESULT, 7) == (frame.kind, frame.number)


@pytest.mark.parametrize(
    ("forms", "words"),
    [
        (None, "no list of arrays"),
        ([["float32"]], "described wrongly"),
        ([["object", [1]]], "of no type of numbers"),
        ([["string", [1]]], "of no type of numbers"),
        ([[["float32"], [1]]], "described wrongly"),
        ([["float32", [-1, -3]]], "impossible sizes"),
        ([["float32", [3.0]]], "impossible sizes"),
        ([["float32", [True]]], "impossible sizes"),
        ([["float32", [1] * 40]], "impossible sizes"),
        ([["float32", [1 << 40]]], "impossible sizes"),
        ([["float32", [1 << 30] * 8]], "more than its 12 bytes"),
        ([["float32", [4]]], "more than its 12 bytes"),
        ([["float32", [2]]], "4 bytes behind its arrays"),
        ([], "12 bytes behind its arrays"),
    ],
)
def test_forms_that_do_not_fit(forms: Any, words: str) -> None:
    """Whatever the description says, nothing outside the body is read."""
    frame = sent([np.zeros(3, np.float32)])
    with pytest.raises(BadFrame, match=words):
        arrays_of(frame, forms)

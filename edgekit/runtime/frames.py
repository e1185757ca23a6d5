"""What goes over the pipes between a program and the process of an isolated model: frames with JSON and plain arrays.

A frame is a head of fixed size (magic, kind, number, the lengths of both parts), a JSON object, then the arrays' bytes one
after the other. Nothing in it is code, and every length is tested before it is believed: the other side may be broken.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from edgekit.records import Record
from edgekit.tensors import NUMPY_TYPES, Array

HEAD = struct.Struct("<4sBIIQ")
MAGIC = b"EKi1"
#: Kinds of frames, from the program and from the model's process.
LOAD, RUN, RESET = 1, 2, 3
READY, LOADED, RESULT, DONE, REFUSED = 10, 11, 12, 13, 14
#: The JSON part is names and numbers.
MAX_TEXT = 16 << 20
MAX_RANK = 32


class BadFrame(Exception):
    """The other side sent what is no frame; the text says what is wrong with it."""


class Frame(Record):
    """One message.

    Attributes:
        kind: one of the kinds above.
        number: of the request; an answer has its request's.
        about: the JSON part.
        body: the bytes behind it.
    """

    kind: int
    number: int
    about: dict[str, Any]
    body: memoryview


def packed(kind: int, number: int, about: dict[str, Any], bodies: Sequence[Array | bytes] = ()) -> list[memoryview]:
    """A frame as parts to write one after the other; arrays are not copied."""
    text = json.dumps(about).encode()
    parts = [memoryview(cast("bytes", body)).cast("B") if len(body) else memoryview(b"") for body in map(_flat, bodies)]
    size = sum(len(part) for part in parts)
    return [memoryview(HEAD.pack(MAGIC, kind, number, len(text), size) + text), *(part for part in parts if len(part))]


def _flat(body: Array | bytes) -> Array | bytes:
    return np.ascontiguousarray(body).reshape(-1) if isinstance(body, np.ndarray) else body


def lengths(head: bytes | bytearray | memoryview, limit: int) -> tuple[int, int, int, int]:
    """Kind, number and the lengths of both parts, from a frame's head.

    Args:
        head: ``HEAD.size`` bytes.
        limit: the most bytes that the arrays may have.

    Raises:
        BadFrame: it is no head, or announces too much.
    """
    magic, kind, number, text, size = HEAD.unpack(head)
    if magic != MAGIC:
        raise BadFrame(f"it begins with {magic!r}")
    if text > MAX_TEXT or size > limit:
        raise BadFrame(f"it announces {text} and {size} bytes, at most {MAX_TEXT} and {limit} were expected")
    return kind, number, text, size


def frame_of(kind: int, number: int, text: memoryview, body: memoryview) -> Frame:
    """A whole frame from its parts.

    Raises:
        BadFrame: the JSON part is none.
    """
    try:
        about = json.loads(bytes(text))
    except (ValueError, RecursionError) as error:
        raise BadFrame("its JSON part cannot be read") from error
    if not isinstance(about, dict):
        raise BadFrame("its JSON part is no object")
    return Frame(kind, number, about, body)


def described(arrays: Sequence[Array]) -> list[list[Any]]:
    """Type and sizes of each array, for the JSON part."""
    return [[array.dtype.name, list(array.shape)] for array in arrays]


def arrays_of(frame: Frame, forms: object) -> list[Array]:
    """The arrays in a frame's body.

    Args:
        frame: the frame.
        forms: what ``described`` made, as it came over the pipe.

    Returns:
        Arrays in the frame's own memory.

    Raises:
        BadFrame: the forms are none, or do not fit the body.
    """
    if not isinstance(forms, list):
        raise BadFrame("it has no list of arrays")
    found: list[Array] = []
    at = 0
    for form in forms:
        if not (isinstance(form, list) and len(form) == 2 and isinstance(form[0], str) and isinstance(form[1], list)):
            raise BadFrame("an array is described wrongly")
        if form[0] not in NUMPY_TYPES:
            raise BadFrame("an array is of no type of numbers")
        shape = form[1]
        if len(shape) > MAX_RANK or any(type(size) is not int or not 0 <= size < 1 << 31 for size in shape):
            raise BadFrame("an array has impossible sizes")
        count = math.prod(shape)
        size = count * np.dtype(form[0]).itemsize
        if size > len(frame.body) - at:
            raise BadFrame(f"arrays of more than its {len(frame.body)} bytes")
        found.append(np.frombuffer(frame.body, form[0], count, at).reshape(shape))
        at += size
    if at != len(frame.body):
        raise BadFrame(f"{len(frame.body) - at} bytes behind its arrays")
    return found

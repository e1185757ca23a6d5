"""Writes small ONNX models without the ``onnx`` package: the few messages of onnx.proto that a network of layers needs.

ONNX files are protocol buffers. A message is a row of fields, each with a number, and a type: a whole number, four bytes, or a length
with so many bytes behind it (https://protobuf.dev/programming-guides/encoding/). Which number means what stands in
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

#: ``TensorProto.DataType``.
FLOAT, INT64 = 1, 7
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_FLOATS, _ATTRIBUTE_INTS = 1, 2, 3, 6, 7


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are ten bytes long
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _whole(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _float(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + np.float32(value).tobytes()


def _tensor(name: str, values: Any) -> bytes:
    array = np.asarray(values)
    kind = INT64 if array.dtype.kind == "i" else FLOAT
    data = np.ascontiguousarray(array, "<i8" if kind == INT64 else "<f4").tobytes()
    return b"".join(_whole(1, size) for size in array.shape) + _whole(2, kind) + _bytes(8, name) + _bytes(9, data)


def _attribute(name: str, value: Any) -> bytes:
    field = _bytes(1, name)
    if isinstance(value, float):
        return field + _float(2, value) + _whole(20, _ATTRIBUTE_FLOAT)
    if isinstance(value, int):
        return field + _whole(3, value) + _whole(20, _ATTRIBUTE_INT)
    if isinstance(value, str):
        return field + _bytes(4, value) + _whole(20, _ATTRIBUTE_STRING)
    if all(isinstance(item, int) for item in value):
        return field + b"".join(_whole(8, item) for item in value) + _whole(20, _ATTRIBUTE_INTS)
    return field + b"".join(_float(7, item) for item in value) + _whole(20, _ATTRIBUTE_FLOATS)


def _value(name: str, shape: Iterable[int | str]) -> bytes:
    sizes = (_bytes(2, size) if isinstance(size, str) else _whole(1, size) for size in shape)
    tensor = _whole(1, FLOAT) + _bytes(2, b"".join(_bytes(1, size) for size in sizes))
    return _bytes(1, name) + _bytes(2, _bytes(1, tensor))


class Onnx:
    """An ONNX model under construction: float inputs and outputs, nodes in order."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._weights: list[bytes] = []
        self._count = 0

    def weights(self, values: Any) -> str:
        """Add a constant, float or whole numbers; returns its name."""
        self._count += 1
        name = f"constant_{self._count}"
        self._weights.append(_tensor(name, values))
        return name

    def node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Add an operator, with one output of a name of its own unless some are named; returns the first output's name."""
        self._count += 1
        made = list(outputs) or [f"{kind.lower()}_{self._count}"]
        fields = [*(_bytes(1, name) for name in inputs), *(_bytes(2, name) for name in made)]
        fields += [_bytes(3, f"node_{self._count}"), _bytes(4, kind)]
        fields += [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
        self._nodes.append(b"".join(fields))
        return made[0]

    def build(
        self,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, Sequence[int | str]],
        *,
        opset: int = 13,
    ) -> bytes:
        """The file.

        Args:
            inputs: shapes by name; a size may be a name where it is open.
            outputs: likewise.
            opset: the version of ONNX's operators.
        """
        graph = [_bytes(1, node) for node in self._nodes] + [_bytes(2, "graph")]
        graph += [_bytes(5, item) for item in self._weights]
        graph += [_bytes(11, _value(name, shape)) for name, shape in inputs.items()]
        graph += [_bytes(12, _value(name, shape)) for name, shape in outputs.items()]
        version = _bytes(1, "") + _whole(2, opset)
        return _whole(1, 7) + _bytes(2, "edgekit's examples") + _bytes(7, b"".join(graph)) + _bytes(8, version)

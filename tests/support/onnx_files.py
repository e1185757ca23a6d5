"""Small ONNX files, written without the onnx package, which edgekit's own environment does not have.

The field numbers are those of ``onnx/onnx.proto`` in ONNX 1.19 (IR version 10); the wire format is protobuf's: a key (number and
kind) before each value, integers seven bits at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: ``TensorProto.DataType``.
TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "string": 8, "bool": 9, "float16": 10, "float64": 11,
}  # fmt: skip


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        parts.append(low | (0x80 if value else 0))
        if not value:
            return bytes(parts)


def number(key: int, value: int) -> bytes:
    """An integer field."""
    return _varint(key << 3) + _varint(value)


def block(key: int, value: bytes | str) -> bytes:
    """A field of bytes, text or another message."""
    data = value.encode() if isinstance(value, str) else value
    return _varint(key << 3 | 2) + _varint(len(data)) + data


def tensor(name: str, values: Any, *, outside: Mapping[str, str] | None = None) -> bytes:
    """A ``TensorProto``; ``outside`` says in which file its values lie, and they are left out here."""
    array = np.ascontiguousarray(values)
    out = b"".join(number(1, size) for size in np.shape(values)) + number(2, TYPES[array.dtype.name]) + block(8, name)
    if outside is None:
        return out + block(9, array.tobytes())
    return out + b"".join(block(13, block(1, key) + block(2, value)) for key, value in outside.items()) + number(14, 1)


def attribute(name: str, value: Any) -> bytes:
    """An ``AttributeProto`` of the type that the value has; bytes are a graph."""
    head = block(1, name)
    if isinstance(value, bytes):
        return head + block(6, value) + number(20, 5)
    if isinstance(value, str):
        return head + block(4, value) + number(20, 3)
    if isinstance(value, np.ndarray):
        return head + block(5, tensor("", value)) + number(20, 4)
    if isinstance(value, float):
        return head + _varint(2 << 3 | 5) + struct.pack("<f", value) + number(20, 1)
    if isinstance(value, int):
        return head + number(3, value) + number(20, 2)
    return head + b"".join(number(8, item) for item in value) + number(20, 7)


def node(
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    name: str | None = None,
    domain: str = "",
    **attributes: Any,
) -> bytes:
    """A ``NodeProto``; without a name it is called as its operator and first output."""
    out = b"".join(block(1, item) for item in inputs) + b"".join(block(2, item) for item in outputs)
    out += block(3, f"{op.lower()}_{outputs[0]}" if name is None else name) + block(4, op)
    out += b"".join(block(5, attribute(key, value)) for key, value in attributes.items())
    return out + (block(7, domain) if domain else b"")


def value(name: str, shape: Sequence[int | str] | None, dtype: str = "float32", *, sequence: bool = False) -> bytes:
    """A ``ValueInfoProto``: texts in the shape are open sizes, ``None`` is a tensor of which not even their number is known."""
    kind = number(1, TYPES[dtype])
    if shape is not None:
        sizes = (block(2, size) if isinstance(size, str) else number(1, size) for size in shape)
        kind += block(2, b"".join(block(1, size) for size in sizes))
    typed = block(1, kind)
    return block(1, name) + block(2, block(4, block(1, typed)) if sequence else typed)


def graph(
    nodes: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes], constants: Sequence[bytes] = ()
) -> bytes:
    """A ``GraphProto``."""
    out = b"".join(block(1, item) for item in nodes) + block(2, "test") + b"".join(block(5, item) for item in constants)
    return out + b"".join(block(11, item) for item in inputs) + b"".join(block(12, item) for item in outputs)


def model(content: bytes, *, opset: int = 17, domains: Sequence[str] = ()) -> bytes:
    """A ``ModelProto``, whole, of a ``GraphProto``."""
    imports = b"".join(
        block(8, (block(1, name) if name else b"") + number(2, opset if not name else 1)) for name in ("", *domains)
    )
    return number(1, 8) + block(2, "edgekit's tests") + block(7, content) + imports


@dataclass
class Net:
    """A graph that grows operator by operator.

    Attributes:
        seed: of the weights.
    """

    seed: int = 0
    nodes: list[bytes] = field(default_factory=list)
    constants: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator with one output."""
        self.nodes.append(node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, values: Any) -> str:
        """Add a constant."""
        self.constants.append(tensor(name, values))
        return name

    def weights(self, name: str, *shape: int) -> str:
        """Add random weights of a size that keeps values near 1."""
        scale = 1 / np.sqrt(max(1, int(np.prod(shape[1:]))))
        return self.constant(name, (self._random.standard_normal(shape) * scale).astype(np.float32))

    def conv(self, source: str, output: str, channels: tuple[int, int], kernel: int = 3, **attributes: Any) -> str:
        """Add a convolution with weights and bias; channels are those in and out."""
        given = {"pads": [kernel // 2] * 4, "kernel_shape": [kernel, kernel], **attributes}
        inside = channels[0] // given.get("group", 1)
        weights = self.weights(f"{output}_w", channels[1], inside, kernel, kernel)
        bias = self.weights(f"{output}_b", channels[1])
        return self.op("Conv", [source, weights, bias], output, **given)

    def dense(self, source: str, output: str, sizes: tuple[int, int]) -> str:
        """Add a Gemm with weights and bias; sizes are those in and out."""
        return self.op(
            "Gemm", [source, self.weights(f"{output}_w", *sizes), self.weights(f"{output}_b", sizes[1])], output
        )

    def save(self, path: Path, inputs: Sequence[bytes], outputs: Sequence[bytes], **options: Any) -> Path:
        """Write the model."""
        path.write_bytes(model(graph(self.nodes, inputs, outputs, self.constants), **options))
        return path


def classifier(path: Path, *, size: int = 12, batch: int | str = 1, side: int | str | None = None) -> Path:
    """A small image classifier with its channels second: two convolutions, mean, dense, softmax; input ``image``, output ``classes``."""
    net = Net()
    net.conv("image", "c1", (3, 8))
    net.op("Relu", ["c1"], "r1")
    net.conv("r1", "c2", (8, 8), strides=[2, 2], group=8)
    net.op("Clip", ["c2", net.constant("low", np.float32(0)), net.constant("high", np.float32(6))], "r2")
    net.op("GlobalAveragePool", ["r2"], "mean")
    net.op("Flatten", ["mean"], "flat", axis=1)
    net.dense("flat", "scores", (8, 5))
    net.op("Softmax", ["scores"], "classes", axis=-1)
    side = size if side is None else side
    return net.save(path, [value("image", [batch, 3, side, side])], [value("classes", [batch, 5])])

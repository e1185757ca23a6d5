"""``TFLITE_METADATA``, read back with flatbuffers' own table reader and the schema's field numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table

from edgekit.preprocess import Preprocessing
from edgekit.tensors import TensorSpec
from edgekit_convert.package import standard_metadata


def _at(table: Any, field: int) -> int:
    offset = int(table.Offset(4 + 2 * field))
    assert offset, f"field {field} is absent"
    return int(table.Pos) + offset


def child(table: Any, field: int) -> Any:
    """The table (or union value) that a field points to."""
    return Table(table.Bytes, table.Indirect(_at(table, field)))


def children(table: Any, field: int) -> list[Any]:
    """A vector of tables."""
    offset = _at(table, field) - table.Pos
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * number)) for number in range(table.VectorLen(offset))]


def text(table: Any, field: int) -> str:
    """A string."""
    content: bytes = table.String(_at(table, field))
    return content.decode()


def small(table: Any, field: int) -> int:
    """A byte, such as an enum or a union's kind."""
    return int(encode.Get(packer.uint8, table.Bytes, _at(table, field)))


def number(table: Any, field: int) -> int:
    """A uint32."""
    return int(encode.Get(packer.uint32, table.Bytes, _at(table, field)))


def floats(table: Any, field: int) -> list[float]:
    """A vector of float32."""
    values = table.GetVectorAsNumpy(number_types.Float32Flags, _at(table, field) - table.Pos)
    return [float(value) for value in values]


def test_every_field_is_where_the_schema_has_it() -> None:
    """Normalisation of the input, its size and colours, and the labels of the first output."""
    content = standard_metadata(
        "größe",
        (TensorSpec("image", (1, 20, 30, 3), "int8"),),
        (TensorSpec("scores", (1, 4), "int8"), TensorSpec("other", (1, 2), "int8")),
        {"image": Preprocessing(None, "rgb", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))},
        ("a", "b", "c", "d"),
    )
    assert content[4:8] == b"M001"
    root = Table(bytearray(content), int(np.frombuffer(content, "<u4", 1)[0]))
    assert text(root, 0) == "größe"
    (graph,) = children(root, 3)
    (image,) = children(graph, 2)
    scores, other = children(graph, 3)
    assert [text(item, 0) for item in (image, scores, other)] == ["image", "scores", "other"]
    assert small(child(image, 3), 0) == 2  # ImageProperties
    properties = child(child(image, 3), 1)
    assert small(properties, 0) == 1  # RGB
    assert (number(child(properties, 1), 0), number(child(properties, 1), 1)) == (30, 20)
    (unit,) = children(image, 4)
    assert small(unit, 0) == 1  # NormalizationOptions
    assert floats(child(unit, 1), 0) == [1.0, 2.0, 3.0]
    assert floats(child(unit, 1), 1) == [4.0, 5.0, 6.0]
    (file,) = children(scores, 6)
    assert (text(file, 0), small(file, 2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    assert int(other.Offset(4 + 2 * 6)) == 0

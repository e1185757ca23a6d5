"""What a model that was compiled for the Edge TPU says of itself, read from the file without a device or its library.

The compiler puts one operator ``edgetpu-custom-op`` where it took a part of the graph. Its data are a FlexBuffers map (libedgetpu,
``tflite/custom_op_data.cc``) whose entry "4" is a FlatBuffers ``Package`` (``executable/executable.fbs``), which names the oldest
runtime that loads it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from edgekit.flatbuffer import Damaged, File, Table, table_at
from edgekit.records import Record
from edgekit.runtime.delegates import EDGETPU_OPERATOR

if TYPE_CHECKING:
    from edgekit.modelfile import ModelFile

#: The entry of the operator's data that holds the package.
_EXECUTABLE = b"4"
_MAP, _STRING, _BLOB = 9, 5, 25
_WIDTHS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}


class EdgetpuPackage(Record):
    """One part of a model that was compiled for the Edge TPU.

    Attributes:
        runtime_version: the oldest version of the Edge TPU runtime that loads it.
        size_bytes: program and parameters together.
    """

    runtime_version: int
    size_bytes: int


def is_compiled(model: ModelFile) -> bool:
    """Whether a model has a part that was compiled for the Edge TPU."""
    return any(op.custom and op.name == EDGETPU_OPERATOR for graph in model.graph.subgraphs for op in graph.ops)


def packages(model: ModelFile) -> tuple[EdgetpuPackage, ...]:
    """The parts of a model that were compiled for the Edge TPU, those that can be read, in the order of the file."""
    found = []
    try:
        for data in _custom_options(File(model.data)):
            try:
                found.append(_package(_executable(data)))
            except (Damaged, struct.error, IndexError):
                continue  # damaged, or of a compiler that writes otherwise: the library will say
    except (Damaged, struct.error):
        return ()
    return tuple(found)


def required_runtime(model: ModelFile) -> int | None:
    """The oldest Edge TPU runtime that loads all of a model; ``None`` where the file does not say."""
    return max((item.runtime_version for item in packages(model)), default=None)


def _custom_options(file: File) -> list[memoryview]:
    """The data of each operator of the Edge TPU; fields as in TFLite's schema.fbs."""
    model = table_at(file, int(struct.unpack_from("<I", file.content, 0)[0]))
    ours = [code.string(1) == EDGETPU_OPERATOR for code in model.tables(1)]
    data = []
    for graph in model.tables(2):
        for op in graph.tables(3):
            code = op.scalar(0, "I", 0)
            if code < len(ours) and ours[code]:
                data.append(_bytes_of(file, op))
    return data


def _bytes_of(file: File, op: Table) -> memoryview:
    start, count = op.vector(5, 1) or (0, 0)
    if not count:  # of files above 2 GB: large_custom_options_offset and _size
        start, count = op.scalar(9, "Q", 0), op.scalar(10, "Q", 0)
    if start + count > file.size:
        raise Damaged(f"an operator's data at byte {start} lie outside the file")
    return file.view[start : start + count]


def _executable(data: memoryview) -> memoryview:
    """The package in a FlexBuffers map (FlexBuffers' documentation, "Binary encoding")."""
    root_width, root_type = data[-1], data[-2]
    place = len(data) - 2 - root_width
    if root_type >> 2 != _MAP:
        raise Damaged("an operator's data are no map")
    width = 1 << (root_type & 3)
    values = place - _number(data, place, root_width)
    count = _number(data, values - width, width)
    keys_width = _number(data, values - 2 * width, width)
    keys = values - 3 * width - _number(data, values - 3 * width, width)
    if count > 1000:
        raise Damaged(f"a map of {count} entries")
    for index in range(count):
        place = keys + index * keys_width
        name = place - _number(data, place, keys_width)
        if name >= 0 and bytes(data[name : name + 2]) == _EXECUTABLE + b"\0":
            return _text(data, values + index * width, width, data[values + count * width + index])
    raise Damaged("an operator's data have no program")


def _text(data: memoryview, place: int, width: int, kind: int) -> memoryview:
    if kind >> 2 not in (_STRING, _BLOB):
        raise Damaged("an operator's program is no text of bytes")
    start = place - _number(data, place, width)
    own = 1 << (kind & 3)
    size = _number(data, start - own, own)
    if start + size > len(data):
        raise Damaged("an operator's program lies outside its data")
    return data[start : start + size]


def _number(data: memoryview, place: int, width: int) -> int:
    form = _WIDTHS.get(width)
    if form is None or place < 0:
        raise Damaged("an operator's data are damaged")
    return int(struct.unpack_from(form, data, place)[0])


def _package(content: memoryview) -> EdgetpuPackage:
    whole = bytes(content)
    table = table_at(File(whole), int(struct.unpack_from("<I", whole, 0)[0]))
    version = table.scalar(0, "i", 0)
    if not 0 < version < 10_000:
        raise Damaged(f"runtime version {version}")
    return EdgetpuPackage(version, len(whole))

"""Read-only view of a ``.tflite`` flatbuffer, and the structural check that every file passes.

Parsing is the check: each offset, vector length and index is tested before it is followed, so that
native code never sees a file whose own references leave it; ``soundness`` then asks whether what the graph says can be
run. Pure Python and numpy; the ``flatbuffers`` package is not needed on a device.

The field numbers are those of TensorFlow Lite's ``schema.fbs``, version 3.
"""

from __future__ import annotations

import math
import struct
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ModelFileError
from edgekit.flatbuffer import Damaged, File, Table, table_at
from edgekit.operators import OPERATORS as OPERATORS
from edgekit.operators import OPTION_VECTORS, OPTIONAL_FROM, PLACEHOLDER
from edgekit.records import Record
from edgekit.tensors import NUMPY_TYPES, TENSOR_TYPES, Array, QuantParams

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgekit.flatbuffer import Content

IDENTIFIER = b"TFL3"
#: Sane limits: far above any model for a small device, far below what would exhaust one.
MAX_RANK = 16


class Tensor(Record):
    """One tensor of a subgraph.

    Attributes:
        index: its place in the subgraph, the interpreter's tensor index.
        name: its name in the file.
        shape: sizes as stored.
        shape_signature: the same with -1 for sizes that are open; equals ``shape`` where the file has none.
        dtype: the type's name, such as ``"int8"``.
        quant: scales and zero points, or ``None``.
        data: the constant's bytes, or ``None`` for activations.
        is_variable: whether it keeps its value between runs.
        sparse: whether ``data`` is in a sparse encoding.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    quant: QuantParams | None
    data: memoryview | None
    is_variable: bool
    sparse: bool

    @property
    def elements(self) -> int:
        """How many values it holds, an open size counted as stored."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    def array(self) -> Array:
        """The constant as a read-only numpy array.

        Raises:
            ModelFileError: it is not a constant, or numpy has no such type.
        """
        if self.data is None or self.dtype not in NUMPY_TYPES or self.sparse:
            raise ModelFileError(f"tensor {self.name!r} has no plain constant data ({self.dtype}).")
        return np.frombuffer(self.data, dtype=self.dtype).reshape(self.shape)


class Op(Record):
    """One operator.

    Attributes:
        index: its place in the subgraph.
        name: the builtin operator's name, or the custom operator's own.
        custom: whether it is a custom operator.
        version: the version of the operator that the file asks for.
        inputs: tensor indices; -1 for an optional input that is absent.
        outputs: tensor indices.
        options: the builtin options' table; ``option`` reads it.
        options_kind: which member of ``BuiltinOptions`` (schema.fbs) that table is; 0 for none.
    """

    index: int
    name: str
    custom: bool
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    options_kind: int = 0

    def option(self, field: int, kind: str, default: Any) -> Any:
        """One scalar of the builtin options, by its field number in schema.fbs."""
        return default if self.options is None else self.options.scalar(field, kind, default)

    @property
    def is_flex(self) -> bool:
        """Whether it is a TensorFlow operator that needs the Flex delegate."""
        return self.custom and self.name.startswith("Flex")


class Subgraph(Record):
    """A list of operators over a list of tensors."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ops: tuple[Op, ...]


class Signature(Record):
    """A named entry point: argument names and the tensors they stand for."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


class Graph(Record):
    """A whole model as the file describes it.

    Attributes:
        version: schema version, 3 for all files of today.
        description: who wrote the file, in its own words.
        subgraphs: the first is the main one.
        signatures: named entry points; empty in old files.
        metadata: named byte blocks.
        old_operator_codes: whether any operator's code is only in the field that TensorFlow
            before 2.4 wrote; some tools read such a file as a row of ADDs.
    """

    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: dict[str, bytes]
    old_operator_codes: bool

    @property
    def main(self) -> Subgraph:
        """The subgraph that a plain ``invoke()`` runs."""
        return self.subgraphs[0]


def parse(content: Content, origin: str, on_metadata: Callable[[dict[str, bytes]], object] | None = None) -> Graph:
    """Check a ``.tflite`` file's structure and return what it describes.

    Args:
        content: the whole file, or its mapping; bytes after the flatbuffer are ignored unless a buffer refers to them.
        origin: what to call the file in messages.
        on_metadata: called with the metadata, which are read first.

    Raises:
        ModelFileError: the file is not a TFLite flatbuffer or is damaged.
    """
    if len(content) == 0:
        raise ModelFileError(f"{origin} is empty: a .tflite model was expected.")
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise ModelFileError(
            f"{origin} is not a .tflite model: bytes 4..8 are {content[4:8]!r}, expected {IDENTIFIER!r}. "
            "It may be another format (convert it with `edgekit convert`), or a failed download."
        )
    try:
        return _parse(content, on_metadata)
    except (Damaged, struct.error) as error:
        raise ModelFileError(
            f"{origin} is damaged or cut short ({len(content)} bytes): {error}. "
            "Copy or download the file again, or convert the model again."
        ) from error


def _parse(content: Content, on_metadata: Callable[[dict[str, bytes]], object] | None) -> Graph:
    file = File(content)
    model = table_at(file, int(struct.unpack_from("<I", content, 0)[0]))
    version = model.scalar(0, "I", 0)
    if version != 3:
        raise Damaged(f"schema version {version}, expected 3")
    codes, old = _operator_codes(model)
    buffers = [_buffer(file, table) for table in model.tables(4)]
    model.vector(5, 4)
    metadata = {}
    for table in model.tables(6):
        index = table.scalar(1, "I", 0)
        if index >= len(buffers):
            raise Damaged(f"metadata {table.string(0)!r} refers to buffer {index} of {len(buffers)}")
        data = buffers[index]
        model.file.spend(len(data or b""))
        metadata[table.string(0)] = b"" if data is None else bytes(data)
    if on_metadata is not None:
        on_metadata(metadata)
    subgraphs = tuple(_subgraph(table, codes, buffers) for table in model.tables(2))
    if not subgraphs:
        raise Damaged("there is no subgraph")
    signatures = tuple(_signature(table, subgraphs) for table in model.tables(7))
    return Graph(version, model.string(3), subgraphs, signatures, metadata, old)


def _operator_codes(model: Table) -> tuple[list[tuple[str, bool, int]], bool]:
    codes = []
    old = False
    for table in model.tables(1):
        deprecated = table.scalar(0, "b", 0)
        code = max(table.scalar(3, "i", 0), deprecated)
        old = old or (0 < deprecated < PLACEHOLDER and table.scalar(3, "i", 0) == 0)
        if not 0 <= code < len(OPERATORS):
            raise Damaged(f"unknown operator code {code}")
        custom = OPERATORS[code] == "CUSTOM"
        codes.append((table.string(1) if custom else OPERATORS[code], custom, table.scalar(2, "i", 1)))
    return codes, old


def _buffer(file: File, table: Table) -> memoryview | None:
    found = table.vector(0, 1)
    if found is not None:
        start, count = found
    else:
        start, count = table.scalar(1, "Q", 0), table.scalar(2, "Q", 0)
        if start <= 1:  # 0 and 1 are the schema's "no external buffer"
            return None
        if start + count > file.size:
            raise Damaged(f"a buffer of {count} bytes at byte {start} lies outside the file")
    return file.view[start : start + count] if count else None


def _quant(table: Table | None, shape: tuple[int, ...], name: str) -> QuantParams | None:
    if table is None:
        return None
    table.vector(0, 4)
    table.vector(1, 4)
    details = table.table(5)
    if details is not None and table.scalar(4, "B", 0) == 1:  # CustomQuantization
        details.vector(0, 1)
    scales = table.numbers(2, "f")
    if not scales:
        return None
    zero_points = table.numbers(3, "q")
    if not any(zero_points):
        zero_points = _zeros(len(zero_points) or len(scales))
    if len(zero_points) != len(scales):
        raise Damaged(f"tensor {name!r} has {len(scales)} scales and {len(zero_points)} zero points")
    if not (sum(scales) < math.inf and min(scales) >= 0):  # NaN fails the first comparison
        wrong = next(scale for scale in scales if not 0 <= scale < math.inf)
        raise Damaged(f"tensor {name!r} has scale {wrong:g}")
    axis = table.scalar(6, "i", 0)
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise Damaged(f"tensor {name!r} of shape {list(shape)} has {len(scales)} scales on axis {axis}")
    if len(scales) == 1:
        return QuantParams(scales, zero_points, axis)
    start, count = table.vector(2, 4) or (0, 0)
    read = partial(struct.unpack_from, f"<{count}f", table.file.content, start)
    return QuantParams.stored(read, zero_points, axis, any_scale=any(scales))


@cache
def _zeros(count: int) -> tuple[int, ...]:
    """Zero points of weights: one tuple for all that have as many channels."""
    return (0,) * count


def _tensor(index: int, table: Table, buffers: list[memoryview | None]) -> Tensor:
    name = table.string(3)
    shape = table.numbers(0, "i")
    if len(shape) > MAX_RANK or (shape and min(shape) < 0):  # LiteRT 2.3 crashes on a negative size
        raise Damaged(f"tensor {name!r} has shape {list(shape)[:MAX_RANK]}")
    code = table.scalar(1, "b", 0)
    if not 0 <= code < len(TENSOR_TYPES):
        raise Damaged(f"tensor {name!r} has unknown type {code}")
    dtype = TENSOR_TYPES[code]
    buffer = table.scalar(2, "I", 0)
    if buffer >= len(buffers) and buffer:
        raise Damaged(f"tensor {name!r} refers to buffer {buffer} of {len(buffers)}")
    data = buffers[buffer] if buffer else None  # buffer 0 means "no data" in every file
    signature = table.numbers(7, "i") or shape
    if len(signature) != len(shape) or (signature and min(signature) < -1):
        raise Damaged(f"tensor {name!r} has shape {list(shape)} and shape signature {list(signature)}")
    sparsity, stored = table.table(6), None
    if sparsity is not None:
        from edgekit.sparsity import check_sparsity  # few files have any

        stored = check_sparsity(sparsity, shape, name)
    for item in table.tables(9):  # of resource and variant tensors
        item.vector(0, 4)
    tensor = Tensor(
        index, name, shape, signature, dtype, _quant(table.table(4), shape, name), data,
        bool(table.scalar(5, "b", 0)), sparsity is not None,
    )  # fmt: skip
    if data is not None:
        expected = _constant_bytes(dtype, tensor.elements if stored is None else stored)
        if expected is not None and expected != len(data):
            if stored is not None:
                raise Damaged(f"the sparse constant {name!r} is not in order: {len(data)} bytes for {stored} values")
            raise Damaged(f"constant {name!r} of shape {list(shape)} {dtype} has {len(data)} bytes, not {expected}")
    elif stored:
        raise Damaged(f"the sparse tensor {name!r} has no values")
    return tensor


def _constant_bytes(dtype: str, values: int) -> int | None:
    """What so many values take; ``None`` for a type whose length is not known."""
    if dtype in NUMPY_TYPES:
        return values * np.dtype(dtype).itemsize
    if dtype in ("int4", "uint4"):
        return (values + 1) // 2
    if dtype == "bfloat16":
        return 2 * values
    return None


def _subgraph(table: Table, codes: list[tuple[str, bool, int]], buffers: list[memoryview | None]) -> Subgraph:
    tensors = tuple(_tensor(index, item, buffers) for index, item in enumerate(table.tables(0)))

    def indices(of: Table, field: int, what: str, lowest: int) -> tuple[int, ...]:
        found = of.numbers(field, "i")
        for index in found:
            if not lowest <= index < len(tensors):
                raise Damaged(f"{what} refers to tensor {index} of {len(tensors)}")
        return found

    ops = []
    for number, item in enumerate(table.tables(3)):
        code = item.scalar(0, "I", 0)
        if code >= len(codes):
            raise Damaged(f"operator {number} refers to operator code {code} of {len(codes)}")
        name, custom, version = codes[code]
        what = f"operator {number} ({name})"
        inputs = indices(item, 1, what, -1)
        if -1 in inputs and not custom and not name.startswith("STABLEHLO_"):
            absent = inputs.index(-1)
            if absent < OPTIONAL_FROM.get(name, len(inputs)):
                raise Damaged(f"{what} lacks its input {absent}")
        outputs = indices(item, 2, what, 0)
        indices(item, 8, what, -1)  # intermediate tensors, of LSTMs
        kind, options = _options(item)
        ops.append(Op(number, name, custom, version, inputs, outputs, options, kind))
    inputs = indices(table, 1, "the list of inputs", 0)
    outputs = indices(table, 2, "the list of outputs", 0)
    return Subgraph(table.string(4), tensors, inputs, outputs, tuple(ops))


def _options(item: Table) -> tuple[int, Table | None]:
    """An operator's options, and every further vector of it that native code reads."""
    item.vector(5, 1)
    item.vector(7, 1)
    item.table(12)
    options = item.table(4)
    if options is None:
        return 0, None
    kind = int(item.scalar(3, "B", 0))
    for field, size in OPTION_VECTORS.get(kind, {}).items():
        if size:
            options.vector(field, size)
        else:
            options.string(field)
    return kind, options


def _signature(table: Table, subgraphs: tuple[Subgraph, ...]) -> Signature:
    key = table.string(2)
    subgraph = table.scalar(4, "I", 0)
    if subgraph >= len(subgraphs):
        raise Damaged(f"signature {key!r} refers to subgraph {subgraph} of {len(subgraphs)}")
    count = len(subgraphs[subgraph].tensors)

    def names(field: int) -> tuple[tuple[str, int], ...]:
        pairs = tuple((item.string(0), item.scalar(1, "I", 0)) for item in table.tables(field))
        for name, index in pairs:
            if index >= count:
                raise Damaged(f"signature {key!r} maps {name!r} to tensor {index} of {count}")
        return pairs

    return Signature(key, subgraph, names(0), names(1))

"""Read-only view of a ``.tflite`` flatbuffer, and the structural check that every file passes.

Parsing is the check: each offset, vector length and index is tested before it is followed, so that
native code never sees a file whose own references leave it. Pure Python and numpy; the ``flatbuffers``
package is not needed on a device.

The layout is FlatBuffers' (binary format: root offset, table with vtable, vectors with a 32-bit
length); the field numbers are those of TensorFlow Lite's ``schema.fbs``, version 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit.errors import ModelFileError
from edgekit.records import Record
from edgekit.tensors import NUMPY_TYPES, TENSOR_TYPES, Array, QuantParams

IDENTIFIER = b"TFL3"
#: Sane limits: far above any model for a small device, far below what would exhaust one.
MAX_ITEMS = 200_000
MAX_RANK = 16

# fmt: off
#: ``BuiltinOperator`` names by code (schema.fbs, ``enum BuiltinOperator``).
OPERATORS: tuple[str, ...] = (
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE",
    "EMBEDDING_LOOKUP", "FLOOR", "FULLY_CONNECTED", "HASHTABLE_LOOKUP", "L2_NORMALIZATION", "L2_POOL_2D",
    "LOCAL_RESPONSE_NORMALIZATION", "LOGISTIC", "LSH_PROJECTION", "LSTM", "MAX_POOL_2D", "MUL", "RELU",
    "RELU_N1_TO_1", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RNN", "SOFTMAX", "SPACE_TO_DEPTH", "SVDF", "TANH",
    "CONCAT_EMBEDDINGS", "SKIP_GRAM", "CALL", "CUSTOM", "EMBEDDING_LOOKUP_SPARSE", "PAD",
    "UNIDIRECTIONAL_SEQUENCE_RNN", "GATHER", "BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND", "TRANSPOSE", "MEAN",
    "SUB", "DIV", "SQUEEZE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "STRIDED_SLICE", "BIDIRECTIONAL_SEQUENCE_RNN",
    "EXP", "TOPK_V2", "SPLIT", "LOG_SOFTMAX", "DELEGATE", "BIDIRECTIONAL_SEQUENCE_LSTM", "CAST", "PRELU",
    "MAXIMUM", "ARG_MAX", "MINIMUM", "LESS", "NEG", "PADV2", "GREATER", "GREATER_EQUAL", "LESS_EQUAL", "SELECT",
    "SLICE", "SIN", "TRANSPOSE_CONV", "SPARSE_TO_DENSE", "TILE", "EXPAND_DIMS", "EQUAL", "NOT_EQUAL", "LOG",
    "SUM", "SQRT", "RSQRT", "SHAPE", "POW", "ARG_MIN", "FAKE_QUANT", "REDUCE_PROD", "REDUCE_MAX", "PACK",
    "LOGICAL_OR", "ONE_HOT", "LOGICAL_AND", "LOGICAL_NOT", "UNPACK", "REDUCE_MIN", "FLOOR_DIV", "REDUCE_ANY",
    "SQUARE", "ZEROS_LIKE", "FILL", "FLOOR_MOD", "RANGE", "RESIZE_NEAREST_NEIGHBOR", "LEAKY_RELU",
    "SQUARED_DIFFERENCE", "MIRROR_PAD", "ABS", "SPLIT_V", "UNIQUE", "CEIL", "REVERSE_V2", "ADD_N", "GATHER_ND",
    "COS", "WHERE", "RANK", "ELU", "REVERSE_SEQUENCE", "MATRIX_DIAG", "QUANTIZE", "MATRIX_SET_DIAG", "ROUND",
    "HARD_SWISH", "IF", "WHILE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "SCATTER_ND", "SELECT_V2",
    "DENSIFY", "SEGMENT_SUM", "BATCH_MATMUL", "PLACEHOLDER_FOR_GREATER_OP_CODES", "CUMSUM", "CALL_ONCE",
    "BROADCAST_TO", "RFFT2D", "CONV_3D", "IMAG", "REAL", "COMPLEX_ABS", "HASHTABLE", "HASHTABLE_FIND",
    "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "REDUCE_ALL", "CONV_3D_TRANSPOSE", "VAR_HANDLE", "READ_VARIABLE",
    "ASSIGN_VARIABLE", "BROADCAST_ARGS", "RANDOM_STANDARD_NORMAL", "BUCKETIZE", "RANDOM_UNIFORM", "MULTINOMIAL",
    "GELU", "DYNAMIC_UPDATE_SLICE", "RELU_0_TO_1", "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_MAX",
    "UNSORTED_SEGMENT_SUM", "ATAN2", "UNSORTED_SEGMENT_MIN", "SIGN", "BITCAST", "BITWISE_XOR", "RIGHT_SHIFT",
    "STABLEHLO_LOGISTIC", "STABLEHLO_ADD", "STABLEHLO_DIVIDE", "STABLEHLO_MULTIPLY", "STABLEHLO_MAXIMUM",
    "STABLEHLO_RESHAPE", "STABLEHLO_CLAMP", "STABLEHLO_CONCATENATE", "STABLEHLO_BROADCAST_IN_DIM",
    "STABLEHLO_CONVOLUTION", "STABLEHLO_SLICE", "STABLEHLO_CUSTOM_CALL", "STABLEHLO_REDUCE", "STABLEHLO_ABS",
    "STABLEHLO_AND", "STABLEHLO_COSINE", "STABLEHLO_EXPONENTIAL", "STABLEHLO_FLOOR", "STABLEHLO_LOG",
    "STABLEHLO_MINIMUM", "STABLEHLO_NEGATE", "STABLEHLO_OR", "STABLEHLO_POWER", "STABLEHLO_REMAINDER",
    "STABLEHLO_RSQRT", "STABLEHLO_SELECT", "STABLEHLO_SUBTRACT", "STABLEHLO_TANH", "STABLEHLO_SCATTER",
    "STABLEHLO_COMPARE", "STABLEHLO_CONVERT", "STABLEHLO_DYNAMIC_SLICE", "STABLEHLO_DYNAMIC_UPDATE_SLICE",
    "STABLEHLO_PAD", "STABLEHLO_IOTA", "STABLEHLO_DOT_GENERAL", "STABLEHLO_REDUCE_WINDOW", "STABLEHLO_SORT",
    "STABLEHLO_WHILE", "STABLEHLO_GATHER", "STABLEHLO_TRANSPOSE", "DILATE", "STABLEHLO_RNG_BIT_GENERATOR",
    "REDUCE_WINDOW", "STABLEHLO_COMPOSITE", "STABLEHLO_SHIFT_LEFT", "STABLEHLO_CBRT", "STABLEHLO_CASE",
)
# fmt: on

_PLACEHOLDER = OPERATORS.index("PLACEHOLDER_FOR_GREATER_OP_CODES")

#: From which input on an operator may do without (tfl_ops.td, "OrNone", and the kernels' GetOptionalInputTensor); LiteRT
#: 2.3 crashes on an ADD that lacks one.
_OPTIONAL_FROM: dict[str, int] = {
    "BIDIRECTIONAL_SEQUENCE_LSTM": 1, "BIDIRECTIONAL_SEQUENCE_RNN": 1, "CONV_2D": 2, "CONV_3D": 2, "CONV_3D_TRANSPOSE": 3,
    "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "LSTM": 1, "PAD": 2, "PADV2": 2, "SVDF": 1, "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 1,
}  # fmt: skip


class _Damaged(Exception):
    """A reference inside the file leaves the file; the text names it."""


class _File:
    """A file's bytes, and how many items may still be read of it.

    Equal parts are shared (vtables, strings), so that a file may honestly mean a little more than it holds. A damaged
    or hostile one can name the same long part from everywhere, and reading it would take hours.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self._left = 4 * len(content) + 100_000

    def spend(self, items: int) -> None:
        self._left -= items
        if self._left < 0:
            raise _Damaged("it refers to the same bytes over and over")


# Bound once: on a device these few calls are most of the time that checking a file takes.
_read_u32 = struct.Struct("<I").unpack_from
_read_i32 = struct.Struct("<i").unpack_from
_read_u16_pair = struct.Struct("<HH").unpack_from
_SCALARS = {kind: struct.Struct(f"<{kind}") for kind in "bBiIqQf"}


class _Table:
    """A FlatBuffers table: where it starts and where each field lies."""

    __slots__ = ("fields", "file", "position")

    def __init__(self, file: _File, position: int, fields: tuple[int, ...]) -> None:
        self.file = file
        self.position = position
        self.fields = fields

    def scalar(self, field: int, kind: str, default: Any) -> Any:
        offset = self.fields[field] if field < len(self.fields) else 0
        if offset == 0:
            return default
        form = _SCALARS[kind]
        start = self.position + offset
        if start + form.size > self.file.size:
            raise _Damaged(f"a field at byte {start} lies outside the file")
        return form.unpack_from(self.file.content, start)[0]

    def _indirect(self, field: int) -> int:
        """Where the field's table or vector begins; 0 for a field that is absent."""
        offset = self.fields[field] if field < len(self.fields) else 0
        if offset == 0:
            return 0
        at = self.position + offset
        size = self.file.size
        if at + 4 > size:
            raise _Damaged(f"a field at byte {at} lies outside the file")
        target = at + int(_read_u32(self.file.content, at)[0])
        if target + 4 > size:
            raise _Damaged(f"an offset at byte {at} points outside the file")
        return target

    def table(self, field: int) -> _Table | None:
        at = self._indirect(field)
        return _table(self.file, at) if at else None

    def vector(self, field: int, size: int) -> tuple[int, int] | None:
        """Start and length of a vector with elements of ``size`` bytes."""
        at = self._indirect(field)
        if at == 0:
            return None
        count = int(_read_u32(self.file.content, at)[0])
        if at + 4 + count * size > self.file.size:
            raise _Damaged(f"a vector of {count} items at byte {at} is longer than the file")
        return at + 4, count

    def numbers(self, field: int, kind: str) -> tuple[Any, ...]:
        found = self.vector(field, _SCALARS[kind].size)
        if found is None:
            return ()
        start, count = found
        self.file.spend(count)
        return struct.unpack_from(f"<{count}{kind}", self.file.content, start)

    def string(self, field: int) -> str:
        found = self.vector(field, 1)
        if found is None:
            return ""
        start, count = found
        self.file.spend(count)
        return self.file.content[start : start + count].decode("utf-8", "replace")

    def tables(self, field: int) -> Iterator[_Table]:
        found = self.vector(field, 4)
        if found is None:
            return
        start, count = found
        if count > MAX_ITEMS:
            raise _Damaged(f"a list of {count} items at byte {start}, at most {MAX_ITEMS} are sane")
        for at in range(start, start + 4 * count, 4):
            yield _table(self.file, at + int(_read_u32(self.file.content, at)[0]))


def _table(file: _File, position: int) -> _Table:
    content, size = file.content, file.size
    if position + 4 > size:
        raise _Damaged(f"a table at byte {position} lies outside the file")
    vtable = position - int(_read_i32(content, position)[0])
    if vtable < 0 or vtable + 4 > size:
        raise _Damaged(f"the vtable of the table at byte {position} lies outside the file")
    vtable_bytes, table_bytes = _read_u16_pair(content, vtable)
    if vtable_bytes < 4 or vtable_bytes % 2 or vtable + vtable_bytes > size or position + table_bytes > size:
        raise _Damaged(f"the table at byte {position} is longer than the file")
    file.spend(vtable_bytes // 2)
    fields = struct.unpack_from(f"<{(vtable_bytes - 4) // 2}H", content, vtable + 4)
    if fields and max(fields) >= table_bytes:
        raise _Damaged(f"a field of the table at byte {position} lies outside the table")
    return _Table(file, position, fields)


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
    """

    index: int
    name: str
    custom: bool
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: _Table | None

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


def parse(content: bytes, origin: str) -> Graph:
    """Check a ``.tflite`` file's structure and return what it describes.

    Args:
        content: the whole file; bytes after the flatbuffer are ignored unless a buffer refers to them.
        origin: what to call the file in messages.

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
        return _parse(content)
    except (_Damaged, struct.error) as error:
        raise ModelFileError(
            f"{origin} is damaged or cut short ({len(content)} bytes): {error}. "
            "Copy or download the file again, or convert the model again."
        ) from error


def _parse(content: bytes) -> Graph:
    model = _table(_File(content), int(struct.unpack_from("<I", content, 0)[0]))
    version = model.scalar(0, "I", 0)
    if version != 3:
        raise _Damaged(f"schema version {version}, expected 3")
    codes, old = _operator_codes(model)
    buffers = [_buffer(content, table) for table in model.tables(4)]
    subgraphs = tuple(_subgraph(table, codes, buffers) for table in model.tables(2))
    if not subgraphs:
        raise _Damaged("there is no subgraph")
    metadata = {}
    for table in model.tables(6):
        index = table.scalar(1, "I", 0)
        if index >= len(buffers):
            raise _Damaged(f"metadata {table.string(0)!r} refers to buffer {index} of {len(buffers)}")
        data = buffers[index]
        model.file.spend(len(data or b""))
        metadata[table.string(0)] = b"" if data is None else bytes(data)
    signatures = tuple(_signature(table, subgraphs) for table in model.tables(7))
    return Graph(version, model.string(3), subgraphs, signatures, metadata, old)


def _operator_codes(model: _Table) -> tuple[list[tuple[str, bool, int]], bool]:
    codes = []
    old = False
    for table in model.tables(1):
        deprecated = table.scalar(0, "b", 0)
        code = max(table.scalar(3, "i", 0), deprecated)
        old = old or (0 < deprecated < _PLACEHOLDER and table.scalar(3, "i", 0) == 0)
        if not 0 <= code < len(OPERATORS):
            raise _Damaged(f"unknown operator code {code}")
        custom = OPERATORS[code] == "CUSTOM"
        codes.append((table.string(1) if custom else OPERATORS[code], custom, table.scalar(2, "i", 1)))
    return codes, old


def _buffer(content: bytes, table: _Table) -> memoryview | None:
    found = table.vector(0, 1)
    if found is not None:
        start, count = found
    else:
        start, count = table.scalar(1, "Q", 0), table.scalar(2, "Q", 0)
        if start <= 1:  # 0 and 1 are the schema's "no external buffer"
            return None
        if start + count > len(content):
            raise _Damaged(f"a buffer of {count} bytes at byte {start} lies outside the file")
    return memoryview(content)[start : start + count] if count else None


def _quant(table: _Table | None, shape: tuple[int, ...], name: str) -> QuantParams | None:
    if table is None:
        return None
    scales = table.numbers(2, "f")
    if not scales:
        return None
    zero_points = table.numbers(3, "q") or (0,) * len(scales)
    if len(zero_points) != len(scales):
        raise _Damaged(f"tensor {name!r} has {len(scales)} scales and {len(zero_points)} zero points")
    if not (sum(scales) < math.inf and min(scales) >= 0):  # NaN fails the first comparison
        wrong = next(scale for scale in scales if not 0 <= scale < math.inf)
        raise _Damaged(f"tensor {name!r} has scale {wrong:g}")
    axis = table.scalar(6, "i", 0)
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise _Damaged(f"tensor {name!r} of shape {list(shape)} has {len(scales)} scales on axis {axis}")
    return QuantParams(scales, zero_points, axis)


def _tensor(index: int, table: _Table, buffers: list[memoryview | None]) -> Tensor:
    name = table.string(3)
    shape = table.numbers(0, "i")
    if len(shape) > MAX_RANK or (shape and min(shape) < 0):  # LiteRT 2.3 crashes on a negative size
        raise _Damaged(f"tensor {name!r} has shape {list(shape)[:MAX_RANK]}")
    code = table.scalar(1, "b", 0)
    if not 0 <= code < len(TENSOR_TYPES):
        raise _Damaged(f"tensor {name!r} has unknown type {code}")
    dtype = TENSOR_TYPES[code]
    buffer = table.scalar(2, "I", 0)
    if buffer >= len(buffers) and buffer:
        raise _Damaged(f"tensor {name!r} refers to buffer {buffer} of {len(buffers)}")
    data = buffers[buffer] if buffer else None  # buffer 0 means "no data" in every file
    signature = table.numbers(7, "i") or shape
    if len(signature) != len(shape) or (signature and min(signature) < -1):
        raise _Damaged(f"tensor {name!r} has shape {list(shape)} and shape signature {list(signature)}")
    sparse = table.table(6) is not None
    tensor = Tensor(
        index, name, shape, signature, dtype, _quant(table.table(4), shape, name), data,
        bool(table.scalar(5, "b", 0)), sparse,
    )  # fmt: skip
    if data is not None and not sparse:
        expected = _constant_bytes(tensor)
        if expected is not None and expected != len(data):
            raise _Damaged(f"constant {name!r} of shape {list(shape)} {dtype} has {len(data)} bytes, not {expected}")
    return tensor


def _constant_bytes(tensor: Tensor) -> int | None:
    if tensor.dtype in NUMPY_TYPES:
        return tensor.elements * np.dtype(tensor.dtype).itemsize
    if tensor.dtype in ("int4", "uint4"):
        return (tensor.elements + 1) // 2
    return None


def _subgraph(table: _Table, codes: list[tuple[str, bool, int]], buffers: list[memoryview | None]) -> Subgraph:
    tensors = tuple(_tensor(index, item, buffers) for index, item in enumerate(table.tables(0)))

    def indices(of: _Table, field: int, what: str, lowest: int) -> tuple[int, ...]:
        found = of.numbers(field, "i")
        for index in found:
            if not lowest <= index < len(tensors):
                raise _Damaged(f"{what} refers to tensor {index} of {len(tensors)}")
        return found

    ops = []
    for number, item in enumerate(table.tables(3)):
        code = item.scalar(0, "I", 0)
        if code >= len(codes):
            raise _Damaged(f"operator {number} refers to operator code {code} of {len(codes)}")
        name, custom, version = codes[code]
        what = f"operator {number} ({name})"
        inputs = indices(item, 1, what, -1)
        if -1 in inputs and not custom and not name.startswith("STABLEHLO_"):
            absent = inputs.index(-1)
            if absent < _OPTIONAL_FROM.get(name, len(inputs)):
                raise _Damaged(f"{what} lacks its input {absent}")
        ops.append(Op(number, name, custom, version, inputs, indices(item, 2, what, 0), item.table(4)))
    inputs = indices(table, 1, "the list of inputs", 0)
    outputs = indices(table, 2, "the list of outputs", 0)
    return Subgraph(table.string(4), tensors, inputs, outputs, tuple(ops))


def _signature(table: _Table, subgraphs: tuple[Subgraph, ...]) -> Signature:
    key = table.string(2)
    subgraph = table.scalar(4, "I", 0)
    if subgraph >= len(subgraphs):
        raise _Damaged(f"signature {key!r} refers to subgraph {subgraph} of {len(subgraphs)}")
    count = len(subgraphs[subgraph].tensors)

    def names(field: int) -> tuple[tuple[str, int], ...]:
        pairs = tuple((item.string(0), item.scalar(1, "I", 0)) for item in table.tables(field))
        for name, index in pairs:
            if index >= count:
                raise _Damaged(f"signature {key!r} maps {name!r} to tensor {index} of {count}")
        return pairs

    return Signature(key, subgraph, names(0), names(1))

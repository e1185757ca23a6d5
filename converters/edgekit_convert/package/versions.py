"""Operator versions: which one each operator of a graph needs, and since when runtimes have it.

An operator's version in a file says which of its kernel's abilities are used, int8 for one, and a runtime that does not have
that version refuses the file. litert-quantizer leaves the versions of the float graph in place, so that a file of int8
kernels says that TensorFlow Lite 1.5 can run it. ``fix_versions`` raises them to what the graph needs.

The rules and the table are facts of ``tflite/tools/versioning/op_version.cc`` and ``runtime_version.cc`` (repository
google-ai-edge/LiteRT), for the operators and types that this package writes or keeps. As there, versions are only raised:
operators that share a code share its version.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit_convert import graph as editing

#: The entry in the flatbuffer's metadata, 16 bytes, filled up with zeros (``UpdateMinimumRuntimeVersionForModel``).
ENTRY = "min_runtime_version"
_ENTRY_BYTES = 16

#: Versions that operators need for int8 and for int16 activations; 1 where the table has no line.
_BY_TYPE: dict[str, tuple[int, int]] = {
    "ABS": (2, 3), "ADD": (2, 3), "ARG_MAX": (2, 1), "ARG_MIN": (2, 1), "AVERAGE_POOL_2D": (2, 3),
    "BATCH_MATMUL": (2, 3), "BATCH_TO_SPACE_ND": (2, 4), "BROADCAST_TO": (3, 3), "CONCATENATION": (2, 3),
    "CONV_2D": (3, 4), "DEPTHWISE_CONV_2D": (3, 5), "DEPTH_TO_SPACE": (2, 1), "DEQUANTIZE": (2, 3), "EQUAL": (2, 4),
    "EXP": (2, 2), "FILL": (3, 3), "FLOOR_DIV": (3, 3), "FULLY_CONNECTED": (4, 7), "GATHER": (2, 4), "GATHER_ND": (1, 3),
    "GELU": (2, 1), "GREATER": (2, 1), "GREATER_EQUAL": (2, 3), "L2_NORMALIZATION": (2, 1), "LEAKY_RELU": (1, 2),
    "LESS": (2, 3), "LESS_EQUAL": (2, 1), "LOG": (2, 2), "LOGISTIC": (2, 3), "LOG_SOFTMAX": (2, 1), "MAXIMUM": (2, 4),
    "MAX_POOL_2D": (2, 3), "MEAN": (2, 3), "MINIMUM": (2, 4), "MIRROR_PAD": (2, 3), "MUL": (2, 4), "NOT_EQUAL": (2, 1),
    "PACK": (2, 3), "PAD": (2, 3), "PADV2": (2, 3), "REDUCE_MAX": (2, 3), "REDUCE_MIN": (2, 3), "REDUCE_PROD": (2, 2),
    "RELU": (2, 3), "RELU6": (2, 3), "RESIZE_BILINEAR": (2, 4), "RESIZE_NEAREST_NEIGHBOR": (2, 4), "REVERSE_V2": (3, 1),
    "RSQRT": (2, 3), "SELECT": (2, 1), "SLICE": (2, 4), "SOFTMAX": (2, 3), "SPACE_TO_BATCH_ND": (2, 4),
    "SPACE_TO_DEPTH": (2, 1), "SPLIT": (2, 4), "SPLIT_V": (2, 1), "SQUARED_DIFFERENCE": (2, 1), "STRIDED_SLICE": (2, 1),
    "SUB": (2, 5), "SUM": (2, 1), "SVDF": (3, 1), "TANH": (2, 3), "TILE": (3, 1), "TOPK_V2": (2, 3), "TRANSPOSE": (2, 5),
    "TRANSPOSE_CONV": (2, 1), "UNPACK": (2, 4),
}  # fmt: skip
#: The input whose type counts, where it is not the first: the first is an axis, a condition or a shape.
_DATA_INPUT: dict[str, int] = {"SPLIT": 1, "TRANSPOSE_CONV": 2, "FILL": 1}

#: Since which TensorFlow Lite each version of an operator exists, from version 1 on; "-" where there is none.
_SINCE: dict[str, str] = {
    "ABS": "1.13.0 2.4.0 2.5.0 2.6.0 2.12.0",
    "ADD": "1.5.0 1.14.0 2.4.0 2.6.0 2.13.0",
    "ADD_N": "1.14.0",
    "ARG_MAX": "1.9.0 1.14.0 2.9.0",
    "ARG_MIN": "1.9.0 1.14.0 2.9.0",
    "ATAN2": "2.10.0",
    "AVERAGE_POOL_2D": "1.5.0 1.14.0 2.3.0",
    "BATCH_MATMUL": "2.3.0 2.3.0 2.4.0 2.5.0",
    "BATCH_TO_SPACE_ND": "1.6.0 1.14.0 2.3.0 2.12.0",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "1.14.0 1.14.0 1.14.0",
    "BIDIRECTIONAL_SEQUENCE_RNN": "1.14.0 1.14.0 2.3.0",
    "BROADCAST_ARGS": "2.6.0",
    "BROADCAST_TO": "- 2.5.0 2.5.0",
    "CALL_ONCE": "2.5.0",
    "CAST": "1.5.0 2.7.0 2.8.0 2.9.0 2.12.0 2.15.0 2.17.0",
    "CEIL": "1.14.0",
    "CONCATENATION": "1.5.0 1.14.0 2.3.0 2.14.0",
    "CONV_2D": "1.5.0 1.14.0 1.14.0 2.3.0 2.4.0 2.9.0 2.11.0 2.15.0",
    "CONV_3D": "2.5.0",
    "CONV_3D_TRANSPOSE": "2.6.0",
    "COS": "1.14.0",
    "CUMSUM": "2.4.0",
    "DENSIFY": "2.2.0",
    "DEPTHWISE_CONV_2D": "1.5.0 1.12.0 1.14.0 2.2.0 2.3.0 2.3.0 2.11.0",
    "DEPTH_TO_SPACE": "2.1.0 2.5.0",
    "DEQUANTIZE": "1.13.1 1.14.0 1.15.0 2.2.0 2.7.0 2.18.0",
    "DIV": "1.6.0 2.3.0",
    "DYNAMIC_UPDATE_SLICE": "2.9.0 2.17.0 2.19.0 2.20.0",
    "ELU": "1.14.0",
    "EMBEDDING_LOOKUP": "1.13.0 1.14.0 1.14.0 2.18.0",
    "EQUAL": "1.14.0 1.14.0 2.3.0 2.13.0",
    "EXP": "1.7.0 2.12.0",
    "EXPAND_DIMS": "1.10.0",
    "FILL": "1.13.0 2.3.0 2.5.0 2.12.0",
    "FLOOR": "1.9.0",
    "FLOOR_DIV": "1.14.0 1.14.0 2.13.0",
    "FLOOR_MOD": "1.13.0 2.13.0",
    "FULLY_CONNECTED": ("1.5.0 1.10.0 1.14.0 1.14.0 2.0.0 2.1.0 2.3.0 2.3.0 2.3.0 2.11.0 2.15.0 2.17.0 2.18.0"),
    "GATHER": "1.6.0 1.14.0 1.15.0 2.4.0 2.5.0 2.13.0 2.15.0",
    "GATHER_ND": "1.14.0 2.3.0 2.5.0 2.13.0 2.16.0",
    "GELU": "2.9.0 2.9.0",
    "GREATER": "1.14.0 1.14.0",
    "GREATER_EQUAL": "1.14.0 1.14.0 2.13.0",
    "HARD_SWISH": "1.15.0",
    "IF": "1.15.0",
    "L2_NORMALIZATION": "1.5.0 1.14.0",
    "L2_POOL_2D": "1.5.0",
    "LEAKY_RELU": "1.13.1 2.3.0",
    "LESS": "1.14.0 1.14.0 2.13.0",
    "LESS_EQUAL": "1.14.0 1.14.0",
    "LOCAL_RESPONSE_NORMALIZATION": "1.5.0",
    "LOG": "1.14.0 2.15.0",
    "LOGICAL_AND": "1.11.0",
    "LOGICAL_NOT": "1.11.0",
    "LOGICAL_OR": "1.11.0",
    "LOGISTIC": "1.14.0 1.14.0 2.3.0",
    "LOG_SOFTMAX": "1.14.0 1.14.0",
    "LSTM": "1.7.0 1.10.0 1.14.0 2.3.0",
    "MAXIMUM": "1.14.0 1.14.0 2.3.0 2.3.0",
    "MAX_POOL_2D": "1.5.0 1.14.0 2.3.0",
    "MEAN": "1.6.0 1.14.0 2.4.0",
    "MINIMUM": "1.14.0 1.14.0 2.3.0 2.3.0",
    "MIRROR_PAD": "1.13.1 2.3.0 2.12.0",
    "MUL": "1.5.0 1.14.0 1.15.0 2.3.0 2.6.0 2.11.0 2.13.0",
    "NEG": "1.9.0",
    "NON_MAX_SUPPRESSION_V4": "2.1.0",
    "NON_MAX_SUPPRESSION_V5": "2.1.0",
    "NOT_EQUAL": "1.14.0 1.14.0 2.3.0",
    "ONE_HOT": "1.11.0",
    "PACK": "1.11.0 1.14.0 2.3.0 2.13.0",
    "PAD": "1.5.0 1.14.0 2.4.0 2.6.0",
    "PADV2": "1.9.0 1.14.0 2.4.0 2.6.0",
    "POW": "1.10.0",
    "PRELU": "1.8.0",
    "QUANTIZE": "1.14.0 1.15.0 2.7.0",
    "RANGE": "1.13.0 2.14.0",
    "RANK": "1.14.0",
    "REDUCE_ALL": "2.6.0",
    "REDUCE_ANY": "1.11.0",
    "REDUCE_MAX": "1.11.0 1.14.0 2.5.0",
    "REDUCE_MIN": "1.11.0 1.14.0 2.5.0",
    "REDUCE_PROD": "1.11.0 2.6.0",
    "RELU": "1.5.0 2.1.0 2.5.0",
    "RELU6": "1.5.0 1.14.0 2.5.0",
    "RELU_0_TO_1": "2.10.0",
    "RELU_N1_TO_1": "1.5.0",
    "RESHAPE": "1.5.0",
    "RESIZE_BILINEAR": "1.7.0 1.14.0 2.2.0 2.5.0",
    "RESIZE_NEAREST_NEIGHBOR": "1.13.1 1.14.0 2.3.0 2.4.0",
    "REVERSE_SEQUENCE": "1.14.0",
    "REVERSE_V2": "1.14.0 2.2.0 2.5.0",
    "RNN": "1.5.0 1.14.0 2.3.0",
    "ROUND": "1.14.0",
    "RSQRT": "1.10.0 2.5.0 2.15.0",
    "SCATTER_ND": "2.1.0",
    "SEGMENT_SUM": "2.2.0",
    "SELECT": "1.14.0 1.14.0 2.12.0 2.12.0",
    "SELECT_V2": "2.2.0 2.12.0",
    "SHAPE": "1.10.0",
    "SIGN": "2.11.0 2.12.0",
    "SIN": "1.9.0",
    "SLICE": "1.14.0 1.14.0 1.14.0 2.4.0 2.5.0 2.14.0",
    "SOFTMAX": "1.5.0 1.14.0 2.3.0",
    "SPACE_TO_BATCH_ND": "1.6.0 1.14.0 2.3.0 2.12.0",
    "SPACE_TO_DEPTH": "1.5.0 1.14.0",
    "SPLIT": "1.5.0 1.14.0 1.14.0 2.3.0",
    "SPLIT_V": "1.13.1 2.3.0",
    "SQRT": "1.10.0",
    "SQUARE": "1.12.0",
    "SQUARED_DIFFERENCE": "1.13.1 2.5.0",
    "SQUEEZE": "1.6.0 2.5.0",
    "STRIDED_SLICE": "1.6.0 1.14.0 2.1.0 2.2.0 2.5.0 2.6.0 2.14.0 2.14.0",
    "SUB": "1.6.0 1.14.0 2.3.0 2.4.0 2.4.0",
    "SUM": "1.10.0 1.15.0",
    "SVDF": "1.5.0 1.14.0 2.2.0 2.3.0",
    "TANH": "1.14.0 1.14.0 2.3.0",
    "TILE": "1.10.1 2.2.0 2.8.0",
    "TOPK_V2": "1.7.0 1.14.0 2.13.0",
    "TRANSPOSE": "1.6.0 1.14.0 1.15.0 2.3.0 2.4.0 2.12.0 2.14.4",
    "TRANSPOSE_CONV": "1.9.0 2.2.0 2.3.0 2.13.0 2.15.0",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "1.13.1 1.14.0 2.3.0 2.12.0",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "1.14.0 1.14.0 2.3.0",
    "UNPACK": "1.11.0 1.14.0 2.2.0 2.3.0",
    "WHERE": "1.14.0 2.8.0",
    "WHILE": "1.15.0",
    "ZEROS_LIKE": "1.12.0",
}
#: Int8 weights of FULLY_CONNECTED with a scale for each row have no version of their own. The oldest runtime in which we saw
#: them give the right outputs is tflite-runtime 2.14.0; older ones may take them for weights with one scale.
_PER_CHANNEL_DENSE = "2.14.0"


def fix_versions(edited: Any) -> tuple[str, ...]:
    """Raise each operator code of a ``ModelT`` object to the version that its operators need.

    Returns:
        What was raised, such as ``"CONV_2D 1 to 3"``.
    """
    needed: dict[int, int] = {}
    for subgraph in edited.subgraphs:
        for op in subgraph.operators:
            name = _name(edited, op)
            needed[op.opcodeIndex] = max(needed.get(op.opcodeIndex, 1), needed_version(name, op, subgraph.tensors))
    raised = []
    for index, version in needed.items():
        code = edited.operatorCodes[index]
        if code.version < version:
            raised.append(f"{_code_name(code)} {code.version} to {version}")
            code.version = version
    return tuple(raised)


def with_versions(flatbuffer: bytes) -> bytes:
    """The same model with the operator versions that it needs, and the metadata entry that follows from them."""
    edited = editing.read(flatbuffer)
    fix_versions(edited)
    text = (_newest(_known(edited)) or "").encode()
    buffer = editing.schema().BufferT()
    buffer.data = np.frombuffer(text.ljust(_ENTRY_BYTES, b"\0"), np.uint8)
    for item in edited.metadata or []:
        if _text(item.name) == ENTRY:
            edited.buffers[item.buffer] = buffer
            break
    else:
        item = editing.schema().MetadataT()
        item.name, item.buffer = ENTRY.encode(), len(edited.buffers)
        edited.buffers.append(buffer)
        edited.metadata = [*(edited.metadata or []), item]
    return editing.write(edited)


def required_runtime(flatbuffer: bytes) -> str | None:
    """The oldest TensorFlow Lite that has every operator in the version that the graph needs, such as ``"2.3.0"``.

    The versions are those that the graph needs, not what stands in the file, which may be too low.

    Returns:
        ``None`` for a graph with an operator that the table does not have: a custom one, or one from after it.
    """
    edited = editing.read(flatbuffer)
    fix_versions(edited)
    known = _known(edited)
    return None if None in known else _newest(known)


def _known(edited: Any) -> list[str | None]:
    """For each operator, since when its version exists."""
    found: list[str | None] = []
    for subgraph in edited.subgraphs:
        for op in subgraph.operators:
            found.append(_since(_name(edited, op), edited.operatorCodes[op.opcodeIndex].version))
            if _dense_per_channel(_name(edited, op), op, subgraph.tensors):
                found.append(_PER_CHANNEL_DENSE)
    return found


def released_in(name: str, version: int) -> str | None:
    """The first TensorFlow Lite that has an operator in a version, such as ``"2.3.0"``.

    Args:
        name: the operator's name in the schema.
        version: its version, from 1 on.

    Returns:
        ``None`` where the table does not have it.
    """
    return _since(name, version)


def _since(name: str, version: int) -> str | None:
    steps = _SINCE.get(name, "").split()
    since = steps[version - 1] if 1 <= version <= len(steps) else "-"
    return None if since == "-" else since


def _newest(versions: list[str | None]) -> str | None:
    return max(
        (item for item in versions if item), key=lambda item: [int(part) for part in item.split(".")], default=None
    )


def _dense_per_channel(name: str, op: Any, tensors: Any) -> bool:
    if name != "FULLY_CONNECTED":
        return False
    return _type(tensors, op, 0) == "INT8" and _type(tensors, op, 1) == "INT8" and _per_channel(tensors, op, 1)


def needed_version(name: str, op: Any, tensors: Any) -> int:
    """The version that one operator needs.

    Args:
        name: the operator's name in the schema.
        op: its ``OperatorT``.
        tensors: the ``TensorT`` objects of its subgraph.
    """
    kind = _type(tensors, op, _DATA_INPUT.get(name, 0))
    int8, int16 = _BY_TYPE.get(name, (1, 1))
    version = int8 if kind == "INT8" else int16 if kind == "INT16" else 1
    return max(version, *_special(name, kind, op, tensors))


def _special(name: str, kind: str, op: Any, tensors: Any) -> list[int]:
    """What decides beside the type of the data; 1 for nothing."""
    options, weights = op.builtinOptions, _type(tensors, op, 1)
    found = [1]

    def need(version: int, when: Any) -> None:
        found.append(version if when else 1)

    def option(key: str) -> Any:
        return getattr(options, key, 0)

    rank = max((len(_shape(tensors, index)) for index in op.inputs if index >= 0), default=0)
    first = _shape(tensors, op.inputs[0]) if len(op.inputs) and op.inputs[0] >= 0 else ()
    hybrid = kind == "FLOAT32" and weights == "INT8"
    if name == "CONV_2D":
        need(7, weights == "INT4")
        need(5 if _per_channel(tensors, op, 1) else 2, hybrid)
        need(6, first[-1:] != _shape(tensors, op.inputs[1])[-1:])
        need(8, kind == "INT16" and option("quantizedBiasType"))
    elif name == "DEPTHWISE_CONV_2D":
        need(7, weights == "INT4")
        need(6 if _per_channel(tensors, op, 1) else 4, hybrid)
        need(2, option("dilationWFactor") > 1 or option("dilationHFactor") > 1)
    elif name == "FULLY_CONNECTED":
        need(13 if kind == "INT16" else 10, weights == "INT4")
        need(12 if _per_channel(tensors, op, 1) else 9 if option("asymmetricQuantizeInputs") else 3, hybrid)
        need(5, option("keepNumDims"))
        need(6, len(op.inputs) == 2)
        need(11, kind == "INT16" and option("quantizedBiasType"))
    elif name == "TRANSPOSE_CONV":
        need(3, len(op.inputs) == 4 and op.inputs[3] >= 0)
        need(4, option("fusedActivationFunction"))
        need(5, kind == "INT16" and option("quantizedBiasType"))
    elif name == "DEQUANTIZE":
        need(3, kind == "FLOAT16")
        need(5, kind == "INT8" and _per_channel(tensors, op, 0))
        need(6, kind == "INT4")
    elif name == "QUANTIZE":
        need(2, _type(tensors, op, 0, outputs=True) == "INT16")
    elif name == "MUL":
        need(3, kind == "INT8" and _rescale(op, tensors) >= 1)
    elif name == "RESIZE_BILINEAR":
        need(3, option("halfPixelCenters"))
    elif name == "RESIZE_NEAREST_NEIGHBOR":
        need(3, option("halfPixelCenters") or option("alignCorners"))
    elif name == "BATCH_MATMUL":
        need(4, hybrid and option("asymmetricQuantizeInputs"))
    elif name in ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"):
        base = 3 if name == "LSTM" else 2
        need(
            base + int(bool(option("asymmetricQuantizeInputs"))), kind == "FLOAT32" and _type(tensors, op, 2) == "INT8"
        )
        need(5, kind == "INT16")
    elif name == "BROADCAST_TO":
        need(2, True)
    elif name == "CAST":
        types = {kind, _type(tensors, op, 0, outputs=True)}
        need(3, "INT8" in types)
        need(5, types & {"FLOAT16", "FLOAT64"})
    elif name == "GATHER":
        need(5, option("batchDims"))
    elif name == "STRIDED_SLICE":
        need(4, rank > 4)
        need(6, option("ellipsisMask") or option("newAxisMask"))
        need(8, option("offset"))
    elif name == "TRANSPOSE":
        need(6 if rank > 5 else 4, rank > 4)
    elif name in ("PAD", "PADV2"):
        need(4, rank > 4)
    elif name == "SLICE":
        need(5, rank > 4)
    elif name in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"):
        need(3, len(first) != 4)
    elif name in ("SUB", "MAXIMUM", "MINIMUM", "DIV"):
        need(2 if name == "DIV" else 3, rank > 4 and len(op.inputs) > 1 and first != _shape(tensors, op.inputs[1]))
    elif name == "WHERE":
        need(2, kind != "BOOL")
    return found


def _name(edited: Any, op: Any) -> str:
    return _code_name(edited.operatorCodes[op.opcodeIndex])


def _code_name(code: Any) -> str:
    return _names(editing.schema().BuiltinOperator).get(max(code.builtinCode, code.deprecatedBuiltinCode), "?")


def _names(enum: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def _type(tensors: Any, op: Any, place: int, *, outputs: bool = False) -> str:
    """The schema's name of one input's type; empty where there is no such input."""
    indices = op.outputs if outputs else op.inputs
    if place >= len(indices) or indices[place] < 0:
        return ""
    return _names(editing.schema().TensorType).get(tensors[indices[place]].type, "?")


def _shape(tensors: Any, index: int) -> tuple[int, ...]:
    shape = tensors[index].shape
    return () if shape is None else tuple(int(size) for size in shape)


def _scales(tensors: Any, index: int) -> list[float]:
    quant = tensors[index].quantization
    return [] if quant is None or quant.scale is None else [float(scale) for scale in quant.scale]


def _per_channel(tensors: Any, op: Any, place: int) -> bool:
    return len(op.inputs) > place and op.inputs[place] >= 0 and len(_scales(tensors, op.inputs[place])) > 1


def _rescale(op: Any, tensors: Any) -> float:
    """What a MUL of integers multiplies by: the scales of its inputs over that of its output; 0 where one has none."""
    scales = [_scales(tensors, index) for index in (*op.inputs, *op.outputs)]
    if len(scales) != 3 or not all(scales) or scales[2][0] == 0:
        return 0.0
    return scales[0][0] * scales[1][0] / scales[2][0]


def _text(name: bytes | str | None) -> str:
    return name.decode() if isinstance(name, bytes) else name or ""

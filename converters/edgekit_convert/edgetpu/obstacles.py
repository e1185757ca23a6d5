"""What is in one operator's way, and what makes the compiler refuse a whole file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from edgekit.flatbuffer import File, table_at
from edgekit.graph import Graph, Op, Subgraph
from edgekit.operators import OPERATORS
from edgekit.runtime.delegates import EDGETPU_OPERATOR
from edgekit_convert.edgetpu.limits import Obstacle, rows
from edgekit_convert.edgetpu.operators import TAKEN
from edgekit_convert.edgetpu.sources import COMPILING, REQUIREMENTS, TABLE, TOOLCHAIN, issue
from edgekit_convert.edgetpu.tensors import BYTES, data_inputs, is_bytes, outer_sizes, outputs, parameters
from edgekit_convert.package.versions import released_in

if TYPE_CHECKING:
    from edgekit.flatbuffer import Content

#: What does the same and is taken.
_INSTEAD: dict[str, str] = {
    "PADV2": " (PAD is, where the padding stands for 0.0)",
    "LEAKY_RELU": " (PRELU is, and MAXIMUM of a value and its multiple)",
}
#: The newest TensorFlow Lite whose operators compiler 16.0 (2021) can know: QUANTIZE 3, which came with 2.7, it does not.
COMPILER_TFLITE = (2, 6)
#: Operators with this code and higher it does not know at all.
_UNKNOWN_FROM = OPERATORS.index("GELU")
#: Operators whose output's size is a number that another operator computes, by the inputs that hold it.
_SIZES: dict[str, tuple[int, ...]] = {
    "RESHAPE": (1,), "RESIZE_BILINEAR": (1,), "RESIZE_NEAREST_NEIGHBOR": (1,), "SLICE": (1, 2), "STRIDED_SLICE": (1, 2, 3),
    "TILE": (1,), "PAD": (1,), "PADV2": (1,), "TRANSPOSE_CONV": (0,), "EXPAND_DIMS": (1,), "FILL": (0,), "BROADCAST_TO": (1,),
    "RANGE": (0, 1, 2), "BATCH_TO_SPACE_ND": (1, 2), "SPACE_TO_BATCH_ND": (1, 2),
}  # fmt: skip


def obstacle(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """What keeps an operator from the Edge TPU.

    Args:
        op: the operator.
        main: its graph.
        runtime: the Edge TPU runtime that the model has to run on.

    Returns:
        ``None`` when nothing is known to be in the way; one that does not ``block`` is a doubt.
    """
    known = TAKEN.get(op.name)
    if known is None or op.custom:
        kind = "a custom operator" if op.custom else "not among the operators of the Edge TPU"
        return Obstacle("operator", kind + _INSTEAD.get(op.name, ""), TABLE)
    if runtime < known.since:
        return Obstacle("runtime", f"it needs Edge TPU runtime {known.since}, {runtime} was asked for", known.source)
    found = _types(op, main) or _ranks(op, main) or _constants(op, main)
    if found is not None:
        return found
    limit = known.limit(op, main, runtime) if known.limit is not None else None
    return limit or (rows(op, main) if known.rows else None)


def _types(op: Op, main: Subgraph) -> Obstacle | None:
    for tensor in (*data_inputs(op, main), *outputs(op, main)):
        if is_bytes(tensor):
            continue
        if tensor.dtype in BYTES and tensor.quant is not None:
            text = f"{tensor.name!r} has {len(tensor.quant.scales)} scales: one was expected outside of weights"
        elif tensor.dtype in BYTES:
            text = f"{tensor.name!r} is {tensor.dtype} without a scale"
        else:
            text = f"{tensor.name!r} is {tensor.dtype}: int8 or uint8 was expected"
        return Obstacle("type", text, REQUIREMENTS)
    weights = [tensor for tensor in parameters(op, main)[:1] if op.name in _WEIGHTED]
    for tensor in weights:
        if tensor.dtype not in BYTES or tensor.quant is None:
            return Obstacle("type", f"its weights are {tensor.dtype}: int8 or uint8 was expected", REQUIREMENTS)
    return None


#: Operators whose first parameter is a filter of 8-bit integers.
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def _ranks(op: Op, main: Subgraph) -> Obstacle | None:
    for tensor in (*data_inputs(op, main), *outputs(op, main)):
        if any(size != 1 for size in outer_sizes(tensor)):
            text = f"{tensor.name!r} is {list(tensor.shape)}: only the three innermost sizes may be greater than 1"
            return Obstacle("rank", text, f"{REQUIREMENTS}; {issue(30)}")
    return None


def _constants(op: Op, main: Subgraph) -> Obstacle | None:
    for tensor in parameters(op, main):
        if tensor.data is None:
            text = f"{tensor.name!r} is computed while the model runs: a constant was expected"
            return Obstacle("constant", text, f"{REQUIREMENTS}; {issue(25)}")
        if tensor.dtype == "int64":
            text = f"{tensor.name!r} is int64, which the compiler reads as int32: int32 was expected"
            return Obstacle("int64", text, TOOLCHAIN)
    return None


def refusal(graph: Graph, content: Content) -> Obstacle | None:
    """What keeps the compiler from taking the file at all; ``None`` when nothing that is known does.

    Args:
        graph: the model.
        content: its file.
    """
    main = graph.main
    if _outside(content):
        text = (
            "its constants lie behind the flatbuffer, where the compiler does not look: `edgekit convert`, or "
            "edgekit_convert.edgetpu.compile_model, brings them in"
        )
        return Obstacle("buffers", text, TOOLCHAIN)
    if any(op.name == EDGETPU_OPERATOR for op in main.ops):
        return Obstacle("compiled", "it was compiled for the Edge TPU already", COMPILING)
    for op in main.ops:
        if op.custom:
            continue
        if OPERATORS.index(op.name) >= _UNKNOWN_FROM or _too_new(op):
            text = (
                f"operator {op.index} ({op.name} version {op.version}) came after the TensorFlow Lite that compiler 16.0 "
                "was made with (2021): write the model with an older converter, or without that operator"
            )
            return Obstacle("version", text, f"{issue(631)}; {issue(845)}; {issue(879)}")
    for op in main.ops:
        for place in _SIZES.get(op.name, ()):
            if place < len(op.inputs) and op.inputs[place] >= 0 and _computed(main, op.inputs[place]):
                text = (
                    f"operator {op.index} ({op.name}) has a size that is computed while the model runs: fix all sizes"
                )
                return Obstacle("dynamic", text, f"{REQUIREMENTS}; {issue(829)}")
    if not any(is_bytes(tensor) for op in main.ops for tensor in (*data_inputs(op, main), *outputs(op, main))):
        return Obstacle(
            "float", "no operator computes on 8-bit integers: quantise it first", f"{REQUIREMENTS}; {issue(313)}"
        )
    return None


def _outside(content: Content) -> bool:
    """Whether a constant is stored by its place in the file, which readers from before 2023 do not know."""
    file = File(content)
    model = table_at(file, int(struct.unpack_from("<I", content, 0)[0]))
    return any(buffer.scalar(1, "Q", 0) > 1 for buffer in model.tables(4))


def _computed(main: Subgraph, index: int) -> bool:
    return main.tensors[index].data is None


def _too_new(op: Op) -> bool:
    known = released_in(op.name, op.version)
    if known is None:
        return False
    return tuple(int(part) for part in known.split(".")[:2]) > COMPILER_TFLITE

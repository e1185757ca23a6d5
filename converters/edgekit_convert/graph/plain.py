"""Weights that are stored as half floats or sparsely become plain float32, and what unpacked them at run time goes.

A float16 or bfloat16 number is exactly a float32 one, and so are zeros that were left out: nothing is rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ModelFileError
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.graph.sparse import dense_values


def plain_floats(edited: Any) -> tuple[str, ...]:
    """Unpack everything of a ``ModelT`` object that is float in other clothes.

    Sparse constants get their zeros, half floats become float32, constants and activations alike, and the DENSIFY, DEQUANTIZE
    and CAST operators that then do nothing are removed.

    Args:
        edited: the object, with names of their own for all tensors.

    Returns:
        What was done.

    Raises:
        ModelFileError: a sparse constant is not in order.
    """
    notes = []
    unpacked = _densify(edited)
    if unpacked:
        notes.append(f"{_counted(unpacked, 'sparse')} filled up with {'its' if unpacked == 1 else 'their'} zeros")
    constants, activations = _widen(edited)
    for kind, count in constants.items():
        notes.append(f"{_counted(count, kind)} read as float32, which holds the same values")
    for kind, count in activations.items():
        notes.append(f"{_counted(count, kind, 'activation')} computed in float32")
    if notes:
        for subgraph in edited.subgraphs:
            _drop_idle(edited, subgraph)
    return tuple(notes)


def _counted(count: int, kind: str, what: str = "constant") -> str:
    return f"{count} {kind} {what}{'' if count == 1 else 's'}"


def _half_types() -> dict[int, str]:
    kind = editing.schema().TensorType
    return {kind.FLOAT16: "float16", kind.BFLOAT16: "bfloat16"}


def _densify(edited: Any) -> int:
    """Give sparse constants their zeros; tensors that share bytes and encoding share the result."""
    types = editing.schema().TensorType
    known = {types.FLOAT32: np.float32, types.FLOAT16: np.float16, types.BFLOAT16: np.uint16, types.INT8: np.int8}
    count = 0
    for subgraph in edited.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.sparsity is None:
                continue
            name = _text(tensor.name)
            data = edited.buffers[tensor.buffer].data if tensor.buffer else None
            if data is None or tensor.type not in known:
                raise ModelFileError(f"the sparse tensor {name!r} has no values of a type that can be sparse.")
            element = np.dtype(known[tensor.type])
            stored = np.asarray(data, np.uint8)
            if stored.size % element.itemsize:
                raise ModelFileError(
                    f"the sparse constant {name!r} has {stored.size} bytes, no whole number of values."
                )
            shape = tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ()))
            _give(edited, tensor, dense_values(stored.view(element), shape, tensor.sparsity, name))
            tensor.sparsity = None
            count += 1
    return count


def _widen(edited: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Make half floats float32; of each type how many constants and how many activations there were."""
    halves, wide = _half_types(), editing.schema().TensorType.FLOAT32
    constants: dict[str, int] = {}
    activations: dict[str, int] = {}
    made: dict[tuple[int, int], int] = {}  # tensors that shared bytes go on sharing them
    densify = editing.schema().BuiltinOperator.DENSIFY
    for subgraph in edited.subgraphs:
        filled_up = {int(index) for op in subgraph.operators if _code(edited, op) == densify for index in op.outputs}
        for number, tensor in enumerate(subgraph.tensors):
            kind = halves.get(tensor.type)
            if kind is None:
                continue
            data = edited.buffers[tensor.buffer].data if tensor.buffer else None
            if data is not None and len(data):
                shared = (tensor.buffer, tensor.type)
                if shared in made:
                    tensor.buffer = made[shared]
                else:
                    _give(edited, tensor, _as_float32(np.asarray(data, np.uint8), kind))
                    made[shared] = tensor.buffer
                constants[kind] = constants.get(kind, 0) + 1
            elif number not in filled_up:
                activations[kind] = activations.get(kind, 0) + 1
            tensor.type = wide
        for op in subgraph.operators:
            options = op.builtinOptions
            for field in ("inDataType", "outDataType"):
                if getattr(options, field, None) in halves:
                    setattr(options, field, wide)
    return constants, activations


def _as_float32(data: Array, kind: str) -> Array:
    if kind == "float16":
        return np.asarray(data.view(np.float16), np.float32)
    # bfloat16 is the upper half of a float32.
    return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _give(edited: Any, tensor: Any, values: Array) -> None:
    """Put values into a buffer of their own."""
    buffer = editing.schema().BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    tensor.buffer = len(edited.buffers)
    edited.buffers.append(buffer)


def _drop_idle(edited: Any, subgraph: Any) -> None:
    """Remove the operators that hand on what they get: DENSIFY of a dense tensor, DEQUANTIZE and CAST of float32 to float32."""
    builtin, kind = editing.schema().BuiltinOperator, editing.schema().TensorType
    idle = {builtin.DENSIFY, builtin.DEQUANTIZE, builtin.CAST}
    given = {int(index) for index in subgraph.inputs}
    ends = {int(index) for index in subgraph.outputs}
    renumbered: dict[int, int] = {}
    kept = []
    for op in subgraph.operators:
        op.inputs = [renumbered.get(int(index), int(index)) for index in op.inputs]
        code = _code(edited, op)
        if code not in idle or len(op.inputs) != 1 or len(op.outputs) != 1:
            kept.append(op)
            continue
        source, result = int(op.inputs[0]), int(op.outputs[0])
        before, after = subgraph.tensors[source], subgraph.tensors[result]
        if before.type != after.type or (code != builtin.DENSIFY and after.type != kind.FLOAT32):
            kept.append(op)
            continue
        constant = bool(before.buffer) and edited.buffers[before.buffer].data is not None
        if result not in ends:
            renumbered[result] = source
        elif constant or source in given or source in ends:
            # An output has to be a tensor of its own; CAST exists from float32 to float32.
            if code != builtin.CAST:
                op.opcodeIndex = editing.operator_code(edited, builtin.CAST)
                op.builtinOptionsType, op.builtinOptions = 0, None
            kept.append(op)
        else:
            _rename(subgraph, kept, source, result)
            renumbered[source] = result
    subgraph.operators = kept


def _rename(subgraph: Any, ops: list[Any], source: int, result: int) -> None:
    """Let the operator that computes a tensor, and those that read it so far, name another one instead."""
    for op in ops:
        op.inputs = [result if int(index) == source else int(index) for index in op.inputs]
        op.outputs = [result if int(index) == source else int(index) for index in op.outputs]


def _code(edited: Any, op: Any) -> int:
    code = edited.operatorCodes[op.opcodeIndex]
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""

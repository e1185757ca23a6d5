"""The sizes that a graph's tensors have when its inputs have given ones, as the interpreter works them out.

A RESHAPE whose sizes were written down for one size of the inputs is loosened where its meaning is plain: rows of channels,
``[batch, places, channels]``, become ``[batch, -1, channels]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.operators import OPERATORS
from edgekit.tensors import Array
from edgekit_convert import graph as editing

#: How the interpreter names the operator that it gave up at (``Subgraph::PrepareOpsStartingAt`` in tflite/core/subgraph.cc).
_AT_NODE = re.compile(r"Node number (\d+) \((\w+)\) failed to prepare")


def fit_sizes(edited: Any, shapes: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """Give every tensor of the main subgraph of a ``ModelT`` object the sizes that follow from the inputs', none open.

    Args:
        edited: the object.
        shapes: the inputs' sizes by tensor index.

    Returns:
        The operators whose fixed sizes had to be loosened, by number.

    Raises:
        ConversionError: the graph does not work at these sizes; the operator is named.
    """
    main = edited.subgraphs[0]
    loosened: list[int] = []
    while True:
        try:
            known = _allocated(editing.write(edited), shapes)
            break
        except (ValueError, RuntimeError) as error:
            number = _operator(edited, str(error))
            if number is None or number in loosened or not _loosen(edited, number):
                raise ConversionError(_explained(edited, shapes, str(error), number)) from error
            loosened.append(number)
    for index, tensor in enumerate(main.tensors):
        if index in known and not _has_data(edited, tensor):
            tensor.shape = known[index]
        tensor.shapeSignature = None
    _check_rows(edited, shapes)
    return tuple(loosened)


def _check_rows(edited: Any, shapes: Mapping[int, Sequence[int]]) -> None:
    """Notice features of a dense layer that other sizes made several rows of: such a graph runs, and computes nonsense.

    ``[-1, 1568]`` is how a Flatten is written; of an image twice as large it makes four rows, and four results.
    """
    main = edited.subgraphs[0]
    dense = {int(op.inputs[0]) for op in main.operators if operator_name(edited, op) == "FULLY_CONNECTED"}
    for number, op in enumerate(main.operators):
        if operator_name(edited, op) != "RESHAPE" or int(op.outputs[0]) not in dense:
            continue
        given = [int(size) for size in main.tensors[int(op.inputs[0])].shape]
        made = [int(size) for size in main.tensors[int(op.outputs[0])].shape]
        # Rows of whole positions, such as the joined heads of an attention, are meant.
        positions = {prod(given[axis:]) for axis in range(1, len(given))}
        if len(given) > 2 and len(made) == 2 and made[1] not in positions:
            said = f"it makes {made[0]} rows of {made[1]} features out of {given}"
            if _one_row(edited, op):
                raise ConversionError(_explained(edited, shapes, said, number))


def _one_row(edited: Any, op: Any) -> bool:
    """Whether a RESHAPE has its number of features written down and leaves the rows open, as a Flatten does."""
    sizes = constant_integers(edited, edited.subgraphs[0], int(op.inputs[1])) if len(op.inputs) > 1 else None
    return sizes is not None and len(sizes) == 2 and int(sizes[0]) == -1


def _allocated(content: bytes, shapes: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    from ai_edge_litert import interpreter as litert

    interpreter = litert.Interpreter(
        model_content=content,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    for index, shape in shapes.items():
        interpreter.resize_tensor_input(index, [int(size) for size in shape])
    interpreter.allocate_tensors()
    return {item["index"]: [int(size) for size in item["shape"]] for item in interpreter.get_tensor_details()}


def _operator(edited: Any, text: str) -> int | None:
    """The operator that the interpreter complained of."""
    found = _AT_NODE.search(text)
    number = int(found.group(1)) if found is not None else -1
    return number if 0 <= number < len(edited.subgraphs[0].operators) else None


def _loosen(edited: Any, number: int) -> bool:
    """Leave the places of a RESHAPE to rows of channels open; whether that could be done."""
    main = edited.subgraphs[0]
    op = main.operators[number]
    if operator_name(edited, op) != "RESHAPE" or len(op.inputs) < 2:
        return False
    sizes = constant_integers(edited, main, int(op.inputs[1]))
    given = main.tensors[int(op.inputs[0])].shape
    if sizes is None or len(sizes) != 3 or (sizes < 1).any() or given is None or len(given) < 3:
        return False
    row, channels = int(sizes[2]), int(given[-1])
    if row % channels and channels % row:
        return False
    set_integers(edited, main, op, 1, np.array([sizes[0], -1, sizes[2]], sizes.dtype))
    return True


def _explained(edited: Any, shapes: Mapping[int, Sequence[int]], text: str, number: int | None) -> str:
    main = edited.subgraphs[0]
    names = {int(item.tensorIndex): item.name for signature in edited.signatureDefs or [] for item in signature.inputs}
    wanted = ", ".join(
        f"{_text(names.get(index, main.tensors[index].name))} {[int(size) for size in shape]}"
        for index, shape in shapes.items()
    )
    said = " ".join(text.split()).rstrip(".")
    message = f"the model does not work with {wanted}: {said}. "
    if number is None:
        return message + "It may hold a RESHAPE with fixed sizes; use the sizes that it was exported for."
    op = main.operators[number]
    what = f"{operator_name(edited, op)} {_text(main.tensors[int(op.outputs[0])].name)!r}" if len(op.outputs) else ""
    if operator_name(edited, op) == "RESHAPE" and len(op.inputs) > 1:
        sizes = constant_integers(edited, main, int(op.inputs[1]))
        if sizes is not None:
            message += f"The operator {what} has the fixed sizes {sizes.tolist()}. "
            return message + "Use the sizes that it was exported for, or export the model for these."
    return message + f"The operator is {what}. Use the sizes that it was exported for, or export the model for these."


def operator_name(edited: Any, op: Any) -> str:
    """An operator's name in the schema; of a custom one its own."""
    code = edited.operatorCodes[op.opcodeIndex]
    name = OPERATORS[max(int(code.builtinCode), int(code.deprecatedBuiltinCode))]
    return _text(code.customCode) if name == "CUSTOM" else name


def constant_integers(edited: Any, subgraph: Any, index: int) -> Array | None:
    """The values of a constant of int32 or int64; ``None`` for anything else."""
    types = editing.schema().TensorType
    if index < 0:
        return None
    tensor = subgraph.tensors[index]
    if tensor.type not in (types.INT32, types.INT64) or not _has_data(edited, tensor):
        return None
    data = np.asarray(edited.buffers[tensor.buffer].data, np.uint8)
    return data.view(np.int32 if tensor.type == types.INT32 else np.int64)


def set_integers(edited: Any, subgraph: Any, op: Any, position: int, values: Array) -> None:
    """Give an operator an integer constant of its own in place of one that others may read as well.

    Args:
        edited: a ``ModelT`` object.
        subgraph: the operator's.
        op: the operator.
        position: which of its inputs.
        values: of the old constant's type.
    """
    types = editing.schema()
    old = subgraph.tensors[int(op.inputs[position])]
    buffer = types.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    tensor = types.TensorT()
    tensor.name = _text(old.name).encode() + b"_edgekit_%d" % len(subgraph.tensors)
    tensor.shape, tensor.type, tensor.hasRank = list(values.shape), old.type, True
    tensor.buffer = len(edited.buffers)
    edited.buffers.append(buffer)
    subgraph.tensors.append(tensor)
    inputs = [int(index) for index in op.inputs]
    inputs[position] = len(subgraph.tensors) - 1
    op.inputs = inputs


def _has_data(edited: Any, tensor: Any) -> bool:
    data = edited.buffers[tensor.buffer].data if tensor.buffer else None
    return data is not None and len(data) > 0


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""

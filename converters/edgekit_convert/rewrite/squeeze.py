"""SQUEEZE → RESHAPE.

Both only give the same values another shape. litert-quantizer has no int8 form of SQUEEZE, and a SQUEEZE left in float
puts a DEQUANTIZE before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def apply(model: Any, schema: Any) -> int:
    """Turn each SQUEEZE of fixed shape into a RESHAPE; returns how many."""
    main = model.subgraphs[0]
    count = 0
    for op in main.operators:
        if model.operatorCodes[op.opcodeIndex].builtinCode != schema.BuiltinOperator.SQUEEZE:
            continue
        shape = [int(size) for size in main.tensors[op.outputs[0]].shape]
        if any(size < 0 for size in shape):
            continue
        op.opcodeIndex = operator_code(model, schema, schema.BuiltinOperator.RESHAPE)
        op.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        op.builtinOptions = schema.ReshapeOptionsT()
        op.builtinOptions.newShape = shape
        op.inputs = [int(op.inputs[0]), constant(model, schema, b"squeezed_shape", np.array(shape, np.int32))]
        count += 1
    return count


def operator_code(model: Any, schema: Any, builtin: int, version: int = 1) -> int:
    """The index of an operator code, added when the model has none."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin and code.version >= version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def constant(model: Any, schema: Any, name: bytes, values: Any) -> int:
    """Add an int32 constant to the main subgraph and return its tensor index."""
    main = model.subgraphs[0]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name = name + b"_edgekit_%d" % len(main.tensors)
    tensor.shape, tensor.type = list(values.shape), schema.TensorType.INT32
    tensor.buffer, tensor.hasRank = len(model.buffers) - 1, True
    main.tensors.append(tensor)
    return len(main.tensors) - 1

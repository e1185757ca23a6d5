"""SQUEEZE and EXPAND_DIMS → RESHAPE.

All three only give the same values another shape. litert-quantizer has an int8 form of RESHAPE alone, and one of the
others left in float puts a DEQUANTIZE before it. Convolutions over time (Conv1D) come with both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit_convert import graph as editing


def apply(model: Any, schema: Any) -> int:
    """Turn each SQUEEZE and EXPAND_DIMS of fixed shape into a RESHAPE; returns how many."""
    main = model.subgraphs[0]
    matched = (schema.BuiltinOperator.SQUEEZE, schema.BuiltinOperator.EXPAND_DIMS)
    count = 0
    for op in main.operators:
        if model.operatorCodes[op.opcodeIndex].builtinCode not in matched:
            continue
        shape = [int(size) for size in main.tensors[op.outputs[0]].shape]
        if any(size < 0 for size in shape):
            continue
        op.opcodeIndex = editing.operator_code(model, schema.BuiltinOperator.RESHAPE)
        op.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        op.builtinOptions = schema.ReshapeOptionsT()
        op.builtinOptions.newShape = shape
        op.inputs = [int(op.inputs[0]), editing.constant(model, b"new_shape", np.array(shape, np.int32))]
        count += 1
    return count

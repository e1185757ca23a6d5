"""NEG → MUL by -1, and SQUARE → MUL of a tensor by itself.

litert-quantizer has an int8 form of MUL and of neither of the others, and XNNPACK takes an int8 MUL. Keras writes layer
normalisation with a NEG.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit_convert import graph as editing
from edgekit_convert.rewrite.floats import float_constant


def apply(model: Any, schema: Any) -> int:
    """Turn each NEG and SQUARE of floats into a MUL; returns how many."""
    main = model.subgraphs[0]
    count = 0
    minus_one: int | None = None
    for op in main.operators:
        builtin = model.operatorCodes[op.opcodeIndex].builtinCode
        if builtin not in (schema.BuiltinOperator.NEG, schema.BuiltinOperator.SQUARE):
            continue
        source = int(op.inputs[0])
        if main.tensors[source].type != schema.TensorType.FLOAT32:
            continue
        other = source
        if builtin == schema.BuiltinOperator.NEG:
            if minus_one is None:
                minus_one = float_constant(model, b"minus_one", np.array(-1, np.float32))
            other = minus_one
        op.opcodeIndex = editing.operator_code(model, schema.BuiltinOperator.MUL)
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()
        op.inputs = [source, other]
        count += 1
    return count

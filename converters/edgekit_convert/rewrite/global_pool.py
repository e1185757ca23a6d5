"""AVERAGE_POOL_2D over the whole image → MEAN over height and width.

In int8 an average pool must keep its input's scale (TensorFlow Lite 8-bit quantization specification, AVERAGE_POOL_2D), though the
average of an image is much smaller than its largest value: most of the 256 steps stay unused. MEAN may have a
scale of its own. And XNNPACK takes an int8 MEAN, not an int8 AVERAGE_POOL_2D.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit_convert import graph as editing


def apply(model: Any, schema: Any) -> int:
    """Turn each global, unpadded average pool without a fused activation into a MEAN; returns how many."""
    main = model.subgraphs[0]
    count = 0
    for op in main.operators:
        if model.operatorCodes[op.opcodeIndex].builtinCode != schema.BuiltinOperator.AVERAGE_POOL_2D:
            continue
        options = op.builtinOptions
        source, result = main.tensors[op.inputs[0]].shape, main.tensors[op.outputs[0]].shape
        whole = (int(options.filterHeight), int(options.filterWidth)) == (int(source[1]), int(source[2]))
        if not whole or [int(size) for size in result[1:3]] != [1, 1]:
            continue
        # SAME padding of a whole-image filter at one output position pads nothing when the filter is the image.
        if options.fusedActivationFunction != schema.ActivationFunctionType.NONE:
            continue
        op.opcodeIndex = editing.operator_code(model, schema.BuiltinOperator.MEAN, version=2)
        op.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
        op.builtinOptions = schema.ReducerOptionsT()
        op.builtinOptions.keepDims = True
        op.inputs = [int(op.inputs[0]), editing.constant(model, b"height_and_width", np.array([1, 2], np.int32))]
        count += 1
    return count

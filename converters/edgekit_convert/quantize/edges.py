"""Inputs and outputs in the type that was asked for, where litert-quantizer, which types what operators read, leaves them otherwise."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing
from edgekit_convert.ranges import Ranges


def has_read_outputs(float_model: bytes) -> bool:
    """Whether operators inside of a model read what it gives out as well.

    litert-quantizer has one type for such a tensor: as a float one it makes the operators behind it ones that no kernel exists for
    (a FULLY_CONNECTED of floats to integers).
    """
    main = ModelFile.read(float_model).graph.main
    return not {index for op in main.ops for index in op.inputs}.isdisjoint(main.outputs)


def integer_outputs(edited: Any) -> None:
    """Let a model give an output as integers that is turned to floats for an operator inside it as well."""
    main = edited.subgraphs[0]
    computed = {int(index) for op in main.operators for index in op.outputs} | {int(index) for index in main.inputs}
    sources = {made: given for given, made in _dequantised(edited) if given in computed}
    _renumber_outputs(edited, sources)


def float_outputs(edited: Any) -> None:
    """Give a model real outputs: a DEQUANTIZE behind each that is integers with a scale."""
    types, main = editing.schema(), edited.subgraphs[0]
    there = dict(_dequantised(edited))
    kinds = (types.TensorType.INT8, types.TensorType.INT16)
    found: dict[int, int] = {}
    for index in dict.fromkeys(int(index) for index in main.outputs):
        inner = main.tensors[index]
        if inner.type not in kinds or inner.quantization is None or inner.quantization.scale is None:
            continue
        if index not in there:
            outer = copy.copy(inner)
            outer.type, outer.quantization = types.TensorType.FLOAT32, None
            outer.name = bytes(inner.name) + b"_dequant"  # as litert-quantizer names it
            main.tensors.append(outer)
            there[index] = len(main.tensors) - 1
            op = types.OperatorT()
            # Version 2 of DEQUANTIZE is the first of int8, version 3 of int16 (tools/versioning/op_version.cc).
            version = 3 if inner.type == types.TensorType.INT16 else 2
            op.opcodeIndex = editing.operator_code(edited, types.BuiltinOperator.DEQUANTIZE, version=version)
            op.builtinOptionsType = types.BuiltinOptions.DequantizeOptions
            op.builtinOptions = types.DequantizeOptionsT()
            op.inputs, op.outputs = [index], [there[index]]
            main.operators = [*main.operators, op]
        found[index] = there[index]
    _renumber_outputs(edited, found)


def integer_inputs(edited: Any, ranges: Ranges, io_type: str) -> None:
    """Give inputs that nothing reads the type of the others.

    The scales are those of the TensorFlow Lite 8-bit quantization specification: asymmetric, zero among the values; int16 symmetric.

    Args:
        edited: a ``ModelT`` object.
        ranges: lowest and highest value by tensor name.
        io_type: ``int16``, or ``int8`` and what becomes of it.
    """
    types, main = editing.schema(), edited.subgraphs[0]
    read = {int(index) for op in main.operators for index in op.inputs} | {int(index) for index in main.outputs}
    for index in (int(index) for index in main.inputs):
        tensor = main.tensors[index]
        name = tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name
        if index in read or tensor.type != types.TensorType.FLOAT32 or name not in ranges:
            continue
        low, high = min(ranges[name][0], 0.0), max(ranges[name][1], 0.0)
        high = high if high > low else 1.0  # zeros throughout
        wide = io_type == "int16"
        scale = np.float32(max(-low, high) / 32767 if wide else (high - low) / 255)
        tensor.type = types.TensorType.INT16 if wide else types.TensorType.INT8
        tensor.quantization = types.QuantizationParametersT()
        tensor.quantization.scale = [float(scale)]
        tensor.quantization.zeroPoint = [0 if wide else int(np.clip(np.rint(-128 - low / scale), -128, 127))]


def _dequantised(edited: Any) -> list[tuple[int, int]]:
    """What each DEQUANTIZE reads and makes."""
    dequantize = editing.schema().BuiltinOperator.DEQUANTIZE
    return [
        (int(op.inputs[0]), int(op.outputs[0]))
        for op in edited.subgraphs[0].operators
        if edited.operatorCodes[op.opcodeIndex].builtinCode == dequantize
    ]


def _renumber_outputs(edited: Any, numbers: dict[int, int]) -> None:
    main = edited.subgraphs[0]
    main.outputs = [numbers.get(int(index), int(index)) for index in main.outputs]
    for signature in edited.signatureDefs or []:
        for item in signature.outputs or []:
            item.tensorIndex = numbers.get(item.tensorIndex, item.tensorIndex)

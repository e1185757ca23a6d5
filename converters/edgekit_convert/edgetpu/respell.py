"""Activations that would cut the graph on an Edge TPU → operators that it has.

HARD_SWISH and LEAKY_RELU are not among its operators (Coral documentation, "Supported operations"; google-coral/edgetpu issue 272).
PRELU, and RELU6 and RELU_N1_TO_1 that are not fused into another operator, are; litert-quantizer has no int8 form of them and
leaves them in float, which cuts the graph as well.

    HARD_SWISH(x)  = x · (RELU6(x + 3) · 1/6)
    LEAKY_RELU(x)  = α·x + (1 − α)·RELU(x), and PRELU with an α for each channel
    RELU6(x)       = MUL(x, 1) with RELU6 fused into it
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.tensors import NUMPY_TYPES, TENSOR_TYPES, Array
from edgekit_convert import graph as editing
from edgekit_convert.rewrite import Rule
from edgekit_convert.rewrite.floats import float_constant


class _Writer:
    """Adds operators to a ``ModelT`` object, in the place of another one."""

    def __init__(self, model: Any, op: Any) -> None:
        self._model, self._types = model, editing.schema()
        self._main = model.subgraphs[0]
        self._like = self._main.tensors[op.outputs[0]]
        self.made: list[Any] = []

    def tensor(self, suffix: bytes) -> int:
        """An activation of the replaced output's shape."""
        tensor = self._types.TensorT()
        name = self._like.name
        tensor.name = (name.encode() if isinstance(name, str) else name or b"") + b"_" + suffix
        tensor.shape, tensor.type, tensor.hasRank = list(self._like.shape), self._like.type, True
        self._main.tensors.append(tensor)
        return len(self._main.tensors) - 1

    def constant(self, values: Array | float) -> int:
        """A float constant."""
        return float_constant(self._model, b"activation", np.asarray(values, np.float32))

    def op(self, name: str, inputs: list[int], output: int, fused: str = "NONE") -> int:
        """An operator; returns its output."""
        op = self._types.OperatorT()
        op.opcodeIndex = editing.operator_code(self._model, getattr(self._types.BuiltinOperator, name))
        if name in ("ADD", "MUL"):
            options = getattr(self._types, f"{name.capitalize()}OptionsT")()
            options.fusedActivationFunction = getattr(self._types.ActivationFunctionType, fused)
            op.builtinOptionsType = getattr(self._types.BuiltinOptions, f"{name.capitalize()}Options")
            op.builtinOptions = options
        op.inputs, op.outputs = inputs, [output]
        self.made.append(op)
        return output


def _hard_swish(write: _Writer, model: Any, op: Any) -> None:
    x, y = int(op.inputs[0]), int(op.outputs[0])
    gate = write.op("ADD", [x, write.constant(3)], write.tensor(b"gate"), "RELU6")
    share = write.op("MUL", [gate, write.constant(1 / 6)], write.tensor(b"share"))
    write.op("MUL", [x, share], y)


def _leaky_relu(write: _Writer, model: Any, op: Any) -> None:
    _two_slopes(write, op, np.asarray(op.builtinOptions.alpha, np.float32))


def _prelu(write: _Writer, model: Any, op: Any) -> None:
    alpha = _constant(model, int(op.inputs[1]))
    if alpha is not None:
        _two_slopes(write, op, alpha)


def _two_slopes(write: _Writer, op: Any, alpha: Array) -> None:
    x, y = int(op.inputs[0]), int(op.outputs[0])
    slope = write.op("MUL", [x, write.constant(alpha)], write.tensor(b"slope"))
    above = write.op("RELU", [x], write.tensor(b"above"))
    rest = write.op("MUL", [above, write.constant(1 - alpha)], write.tensor(b"rest"))
    write.op("ADD", [slope, rest], y)


def _relu6(write: _Writer, model: Any, op: Any) -> None:
    write.op("MUL", [int(op.inputs[0]), write.constant(1)], int(op.outputs[0]), "RELU6")


def _relu_n1_to_1(write: _Writer, model: Any, op: Any) -> None:
    write.op("MUL", [int(op.inputs[0]), write.constant(1)], int(op.outputs[0]), "RELU_N1_TO_1")


_SPELLINGS = {
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _prelu,
    "RELU6": _relu6,
    "RELU_N1_TO_1": _relu_n1_to_1,
}


def apply(model: Any, schema: Any) -> int:
    """Respell each activation of floats that the Edge TPU would not run; returns how many."""
    main = model.subgraphs[0]
    names = {getattr(schema.BuiltinOperator, name): name for name in _SPELLINGS}
    operators, count = [], 0
    for op in main.operators:
        name = names.get(model.operatorCodes[op.opcodeIndex].builtinCode)
        made: list[Any] = []
        if name is not None and main.tensors[op.inputs[0]].type == schema.TensorType.FLOAT32:
            write = _Writer(model, op)
            _SPELLINGS[name](write, model, op)
            made = write.made
        operators += made or [op]
        count += bool(made)
    main.operators = operators
    return count


def _constant(model: Any, index: int) -> Array | None:
    tensor = model.subgraphs[0].tensors[index]
    data, kind = model.buffers[tensor.buffer].data, TENSOR_TYPES[tensor.type]
    if data is None or len(data) == 0 or kind not in NUMPY_TYPES:
        return None
    return np.frombuffer(bytes(bytearray(data)), kind).reshape([int(size) for size in tensor.shape])


RULES: tuple[Rule, ...] = (
    Rule(
        "edgetpu-activations",
        "activations that the Edge TPU has no operator or litert-quantizer no int8 form for become ADD, MUL and RELU",
        apply,
    ),
)

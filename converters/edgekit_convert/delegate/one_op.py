"""One operator as a model of its own, to be looked at, changed and packed again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph import OPERATORS
from edgekit.tensors import Array
from edgekit_convert import graph as editing

#: Operators that work value by value on two operands, whose shapes may differ.
BINARY = frozenset(
    {"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD", "POW", "PRELU",
     "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "LOGICAL_AND", "LOGICAL_OR"}
)  # fmt: skip
#: Operators whose result is a sum of products: the scales of both sides multiply.
PRODUCTS = frozenset({"MUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"})
#: Operators whose output scale the specification of TensorFlow Lite fixes.
FIXED_OUTPUT = frozenset({"LOGISTIC", "TANH", "SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"})
_NUMPY = {"float32": np.float32, "int8": np.int8, "int32": np.int32, "int64": np.int64, "bool": np.bool_}


class OneOp:
    """A model of one operator; changes are made to the object, and ``pack`` makes a flatbuffer of them.

    Args:
        content: the flatbuffer.

    Attributes:
        model: the ``ModelT`` object.
        main: its subgraph.
        op: the operator.
        name: the operator's name.
        options: its builtin options, or ``None``.
    """

    def __init__(self, content: bytes) -> None:
        self.types = editing.schema()
        self._hold(editing.read(content))
        self.name = OPERATORS[max(self.code.builtinCode, self.code.deprecatedBuiltinCode)]
        self._type_names: dict[int, str] = {
            value: key.lower() for key, value in vars(self.types.TensorType).items() if isinstance(value, int)
        }

    def _hold(self, model: Any) -> None:
        self.model = model
        self.main = model.subgraphs[0]
        self.op = self.main.operators[0]
        self.code = model.operatorCodes[self.op.opcodeIndex]
        self.options: Any = self.op.builtinOptions

    def pack(self) -> bytes:
        """The changed model."""
        return editing.write(self.model)

    @property
    def inputs(self) -> list[int]:
        """Tensor indices of the operator's inputs, absent ones left out."""
        return [int(index) for index in self.op.inputs if index >= 0]

    @property
    def outputs(self) -> list[int]:
        """Tensor indices of the operator's outputs."""
        return [int(index) for index in self.op.outputs]

    @property
    def used(self) -> list[int]:
        """Both, each once."""
        return list(dict.fromkeys([*self.inputs, *self.outputs]))

    def is_constant(self, index: int) -> bool:
        """Whether a tensor's values are in the file."""
        data = self.model.buffers[self.main.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def dtype(self, index: int) -> str:
        """A tensor's type."""
        return self._type_names[int(self.main.tensors[index].type)]

    def shape(self, index: int) -> list[int]:
        """A tensor's sizes."""
        found = self.main.tensors[index].shape
        return [] if found is None else [int(size) for size in found]

    def scales(self, index: int) -> list[float]:
        """A tensor's scales; empty where it has none."""
        quant = self.main.tensors[index].quantization
        return [] if quant is None or quant.scale is None else [float(value) for value in quant.scale]

    def zero_points(self, index: int) -> list[int]:
        """A tensor's zero points; empty where it has none."""
        quant = self.main.tensors[index].quantization
        return [] if quant is None or quant.zeroPoint is None else [int(value) for value in quant.zeroPoint]

    def quantised(self, *, constants: bool = False) -> list[int]:
        """The activations with one scale, and on request such constants, biases left out."""
        return [
            index
            for index in self.used
            if len(self.scales(index)) == 1
            and self.dtype(index) != "int32"
            and (constants or not self.is_constant(index))
        ]

    def set_quant(self, index: int, *, scale: float | None = None, zero_point: int | None = None) -> None:
        """Give a tensor with one scale another one, another zero point, or both."""
        old = self.main.tensors[index].quantization
        new = self.types.QuantizationParametersT()
        new.scale = [scale if scale is not None else float(old.scale[0])]
        new.zeroPoint = [zero_point if zero_point is not None else (self.zero_points(index) or [0])[0]]
        new.quantizedDimension = old.quantizedDimension
        self.main.tensors[index].quantization = new

    def set_shape(self, index: int, shape: Sequence[int]) -> None:
        """Give a tensor other sizes; a constant's values become zeros."""
        tensor = self.main.tensors[index]
        tensor.shape = [int(size) for size in shape]
        tensor.shapeSignature = None
        if self.is_constant(index):
            self.set_constant(index, np.zeros([int(size) for size in shape], self._numpy(index)))

    def set_constant(self, index: int, values: Array) -> None:
        """Make a tensor a constant of these values; its type stays."""
        tensor = self.main.tensors[index]
        buffer = self.types.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values, self._numpy(index)).tobytes(), np.uint8)
        tensor.shape = list(np.shape(values))
        tensor.buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        self.main.inputs = [item for item in self.main.inputs if int(item) != index]

    def set_type(self, index: int, dtype: str) -> None:
        """Give a tensor another type; float has no scale, and a constant's values become zeros."""
        tensor = self.main.tensors[index]
        constant = self.is_constant(index)
        tensor.type = getattr(self.types.TensorType, dtype.upper())
        if dtype == "float32":
            tensor.quantization = None
        if constant:
            self.set_constant(index, np.zeros(self.shape(index), self._numpy(index)))

    def values(self, index: int) -> Array | None:
        """A small constant's values, or ``None``."""
        dtype = self.dtype(index)
        if not self.is_constant(index) or dtype not in _NUMPY:
            return None
        data = bytes(bytearray(self.model.buffers[self.main.tensors[index].buffer].data))
        return np.frombuffer(data, _NUMPY[dtype]).reshape(self.shape(index))

    def _numpy(self, index: int) -> Any:
        return {"uint8": np.uint8, "int16": np.int16, "float16": np.float16, **_NUMPY}[self.dtype(index)]

    def option(self, name: str, default: Any = None) -> Any:
        """One of the builtin options; ``default`` where the operator has no such option."""
        return getattr(self.options, name, default)

    def changed(self, change: Callable[[OneOp], object]) -> OneOp:
        """The operator with a change, this object left as it is."""
        model, main, op = copy.copy(self.model), copy.copy(self.main), copy.copy(self.op)
        # Everything that a change may touch is copied but the constants' bytes, which are replaced and never written to.
        main.tensors = [copy.copy(tensor) for tensor in main.tensors]
        op.builtinOptions = copy.copy(op.builtinOptions)
        main.operators = [op]
        model.subgraphs, model.buffers = [main], list(model.buffers)
        model.operatorCodes = [copy.copy(code) for code in model.operatorCodes]
        other = copy.copy(self)
        other._hold(model)
        change(other)
        return other


@dataclass(frozen=True)
class Change:
    """One operator with something otherwise.

    Attributes:
        kind: what was changed, as in ``reasons.KINDS``.
        seen: how it is in the model, as a part of a sentence.
        taken: how it is after the change, as a part of a sentence that ends with ``it is taken``.
        one: the changed operator.
    """

    kind: str
    seen: str
    taken: str
    one: OneOp

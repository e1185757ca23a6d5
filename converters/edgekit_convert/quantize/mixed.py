"""Single operators of an int8 graph back in float, or with int16 activations, while all others stay as they are.

Each tensor that an operator reads or writes can exist in more than one form (int8, int16, float). The graph is walked once: an
operator that was given another type writes its own form, and a QUANTIZE or DEQUANTIZE is put in where a reader needs a form that does
not exist yet. Between two neighbours of the same type there is none, and the int8 tensors keep their scales, so that
operators whose kernels demand equal scales stay legal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.errors import OptionError
from edgekit.graph import Op, Subgraph, Tensor
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array, QuantParams, quantize
from edgekit_convert import graph as editing
from edgekit_convert.ranges import Ranges

#: The types that an operator can be given.
TYPES: tuple[str, ...] = ("float", "int16")
_CHANGES = ("QUANTIZE", "DEQUANTIZE")
#: Where an operator's int8 weights and its bias are; both keep their meaning with int16 activations.
_WEIGHTS_AND_BIAS = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
}
#: Operators with an int16 kernel for which input and output have scales of their own.
_FREE = frozenset({*_WEIGHTS_AND_BIAS, "ADD", "SUB", "MUL", "MEAN", "SUM"})
#: Operators with an int16 kernel whose output scale the kernel fixes (tensorflow/lite/kernels/activations.cc).
_FIXED = frozenset({"SOFTMAX", "LOGISTIC", "TANH"})
#: Operators with an int16 kernel that only move or compare values: one scale for what goes in and comes out.
_TIED = frozenset(
    {
        "RESHAPE", "TRANSPOSE", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "SLICE", "STRIDED_SLICE", "SPLIT",
        "CONCATENATION", "PACK", "UNPACK", "GATHER", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
    }
)  # fmt: skip
#: Operators with an int16 form here.
INT16_OPERATORS: frozenset[str] = _FREE | _FIXED | _TIED
#: Operators whose several inputs share a scale with the output in int8.
_JOINS = frozenset({"CONCATENATION", "PACK"})
#: Operators that hand a tensor's values on at the same int8 scale.
_PASSES = frozenset({"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"})
_INT16_TOP = 32767


def with_types(quantised: bytes, float_model: bytes, ranges: Ranges, layers: Mapping[str, str]) -> bytes:
    """Give some operators of an int8 graph another type.

    A lone operator gains what its own weights and its own rounding lose; what its neighbours lose in int8 stays lost. The
    error between two operators goes when both are given the type. With ``"int16"`` the weights stay int8.

    Args:
        quantised: the int8 flatbuffer, refined or not, with int8 or float32 inputs and outputs; biases and scales are kept.
        float_model: the float flatbuffer that it was made from; tensors correspond by name.
        ranges: lowest and highest value of each activation.
        layers: ``"float"`` or ``"int16"`` by the name of an operator's first output tensor.

    Returns:
        The flatbuffer.

    Raises:
        OptionError: there is no such operator, type, or int16 form.
    """
    if not layers:
        return quantised
    exact = ModelFile.read(float_model).graph.main
    originals = {exact.tensors[op.outputs[0]].name: op for op in exact.ops if op.outputs}
    graph = ModelFile.read(quantised).graph.main
    known = {graph.tensors[op.outputs[0]].name for op in graph.ops if op.outputs and op.name not in _CHANGES}
    for name, kind in layers.items():
        if name not in originals or name not in known:
            raise OptionError(f"no operator of the model has the first output {name!r}: see the per-layer report.")
        if kind not in TYPES:
            raise OptionError(f"unknown type {kind!r} for the operator {name!r}: expected one of {', '.join(TYPES)}.")
        if kind == "int16" and originals[name].name not in INT16_OPERATORS:
            raise OptionError(f"{originals[name].name} ({name!r}) has no int16 form: leave it int8, or choose 'float'.")
    return _Rebuild(quantised, graph, exact, originals, ranges, layers).run()


class _Rebuild:
    """One walk over the int8 graph."""

    def __init__(
        self,
        quantised: bytes,
        graph: Subgraph,
        exact: Subgraph,
        originals: Mapping[str, Op],
        ranges: Ranges,
        layers: Mapping[str, str],
    ) -> None:
        self._types = editing.schema()
        self._edited = editing.read(quantised)
        self._main = self._edited.subgraphs[0]
        self._graph = graph
        self._exact = exact
        self._originals = originals
        self._ranges = ranges
        self._layers = layers
        self._ops: list[Any] = []
        #: The tensor that holds a tensor's values as they were computed; itself where nothing is noted.
        self._source: dict[int, int] = {}
        #: What has been made of a source: by source, type and scale.
        self._made: dict[tuple[int, str, float], int] = {}
        self._constants: dict[tuple[int, str, float], int] = {}
        self._names = {tensor.name for tensor in graph.tensors}

    def run(self) -> bytes:
        self._free_joined_inputs()
        for op, edited in zip(self._graph.ops, self._main.operators, strict=True):
            name = self._graph.tensors[op.outputs[0]].name if op.outputs else ""
            if op.name in _CHANGES and self._graph.tensors[op.inputs[0]].data is None:
                self._source[op.outputs[0]] = self._source.get(op.inputs[0], op.inputs[0])
                continue
            if name not in self._layers:
                edited.inputs = [self._own_form(index) if index >= 0 else index for index in op.inputs]
            elif self._layers[name] == "float":
                self._make_float(op, edited, self._originals[name])
            else:
                self._make_int16(op, edited, self._originals[name])
            self._ops.append(edited)
        moved = {index: self._own_form(index) for index in self._main.outputs}
        for index, number in moved.items():
            if (
                number != index and number not in self._main.inputs
            ):  # a float output that is read directly now: it keeps the file's name for it
                self._main.tensors[number].name = self._main.tensors[index].name
        self._main.outputs = [moved[index] for index in self._main.outputs]
        for signature in self._edited.signatureDefs or []:
            for item in signature.outputs:
                item.tensorIndex = moved.get(item.tensorIndex, item.tensorIndex)
        self._main.operators = self._ops
        editing.drop_unused(self._edited)
        return editing.write(self._edited)

    def _free_joined_inputs(self) -> None:
        """Give what was tied to a join's coarse scale its own again where the join leaves int8."""
        producers = {index: op for op in self._graph.ops for index in op.outputs}
        readers: dict[int, int] = {}
        for op in self._graph.ops:
            for index in op.inputs:
                readers[index] = readers.get(index, 0) + 1
        for op in self._graph.ops:
            if op.name not in _JOINS or self._graph.tensors[op.outputs[0]].name not in self._layers:
                continue
            for index in op.inputs:
                path = [index]
                while (maker := producers.get(path[-1])) is not None and maker.name in _PASSES:
                    path.append(maker.inputs[0])
                alone = all(readers.get(item) == 1 and item not in self._graph.outputs for item in path)
                free = maker is not None and maker.name in _FREE | {"RELU", "HARD_SWISH", "DIV"}
                head = self._graph.tensors[path[-1]]
                if alone and free and head.dtype == "int8" and head.name in self._ranges:
                    self._set_int8_scale(path, *self._ranges[head.name])

    def _set_int8_scale(self, path: list[int], low: float, high: float) -> None:
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32((high - low) / 255))
        if scale <= 0:
            return
        for index in path:
            quantization = self._main.tensors[index].quantization
            quantization.scale = [scale]
            quantization.zeroPoint = [int(np.clip(np.rint(-128 - low / scale), -128, 127))]

    def _make_float(self, op: Op, edited: Any, original: Op) -> None:
        inputs = []
        for place, index in enumerate(op.inputs):
            wanted = self._exact.tensors[original.inputs[place]] if index >= 0 else None
            if wanted is None or wanted.dtype != "float32" or self._is("float32", index):
                inputs.append(self._own_form(index) if index >= 0 else index)
            elif wanted.data is not None:
                inputs.append(self._constant(wanted, "float32", None))
            else:
                inputs.append(self._form(index, "float32"))
        edited.inputs = inputs
        for place, index in enumerate(op.outputs):
            if self._exact.tensors[original.outputs[place]].dtype == "float32" and not self._is("float32", index):
                number = self._activation(index, "float32", None)
                self._source[index] = number
                edited.outputs[place] = number

    def _make_int16(self, op: Op, edited: Any, original: Op) -> None:
        weights, bias = _WEIGHTS_AND_BIAS.get(op.name, (-1, -1))
        if weights >= 0 and self._graph.tensors[op.inputs[weights]].data is None:
            raise OptionError(f"{op.name} with computed weights has no int16 form: leave it int8, or choose 'float'.")
        shared = self._shared_scale(op, original) if op.name in _TIED else None
        inputs = list(op.inputs)
        step = 0.0
        for place, index in enumerate(op.inputs):
            wanted = self._exact.tensors[original.inputs[place]] if index >= 0 else None
            if wanted is None or wanted.dtype != "float32" or place in (weights, bias):
                inputs[place] = self._own_form(index) if index >= 0 else index
            elif wanted.data is not None:
                scale = shared or _int16_scale(*_ends(wanted.array()))
                inputs[place] = self._constant(wanted, "int16", scale)
            else:
                inputs[place] = self._form(index, "int16", shared or self._int16_scale_of(index, wanted.name))
                step = float(self._main.tensors[inputs[place]].quantization.scale[0])
        if bias >= 0 and len(inputs) > bias and inputs[bias] >= 0:
            inputs[bias] = self._wide_bias(op.inputs[bias], op.inputs[weights], step)
        edited.inputs = inputs
        for place, index in enumerate(op.outputs):
            wanted = self._exact.tensors[original.outputs[place]]
            if wanted.dtype != "float32":
                continue
            scale = 1 / 32768 if op.name in _FIXED else shared or self._int16_scale_of(index, wanted.name)
            number = self._activation(index, "int16", scale)
            self._source[index] = number
            edited.outputs[place] = number

    def _shared_scale(self, op: Op, original: Op) -> float:
        """The one int16 scale of an operator that only moves values: its input's where that is int16 already."""
        scales = []
        for place, index in enumerate(op.inputs):
            wanted = self._exact.tensors[original.inputs[place]] if index >= 0 else None
            if wanted is not None and wanted.dtype == "float32":
                constant = wanted.data is not None
                scales.append(
                    _int16_scale(*_ends(wanted.array())) if constant else self._int16_scale_of(index, wanted.name)
                )
        return max(scales)

    def _int16_scale_of(self, index: int, name: str) -> float:
        source = self._main.tensors[self._source.get(index, index)]
        if source.type == self._types.TensorType.INT16:
            return float(source.quantization.scale[0])
        if name in self._ranges:
            return _int16_scale(*self._ranges[name])
        quant = self._graph.tensors[index].quant
        if quant is None:
            raise OptionError(f"the range of {name!r} is not known, which its int16 form needs: choose 'float'.")
        return _int16_scale(*((end - quant.zero_points[0]) * quant.scales[0] for end in (-128, 127)))

    def _is(self, dtype: str, index: int) -> bool:
        return bool(self._main.tensors[index].type == getattr(self._types.TensorType, dtype.upper()))

    def _own_form(self, index: int) -> int:
        """A tensor as the int8 graph has it, made when it does not exist yet; a float one's source where that is float."""
        source = self._source.get(index, index)
        tensor = self._main.tensors[index]
        if source == index or (self._is("float32", source) and self._is("float32", index)):
            return source
        key = (source, f"tensor {index}", 0.0)
        if key not in self._made:
            dtype = "float32" if tensor.type == self._types.TensorType.FLOAT32 else "integer"
            self._convert(source, index, "DEQUANTIZE" if dtype == "float32" else "QUANTIZE")
            self._made[key] = index
        return self._made[key]

    def _form(self, index: int, dtype: str, scale: float | None = None) -> int:
        """A tensor's values as float, or as int16 with this scale."""
        source = self._source.get(index, index)
        if self._is(dtype, source):
            held = self._main.tensors[source].quantization
            if scale is None or np.float32(scale) == np.float32(held.scale[0]):
                return source
        key = (source, dtype, float(np.float32(scale or 0)))
        if key not in self._made:
            number = self._activation(index, dtype, scale)
            self._convert(source, number, "DEQUANTIZE" if dtype == "float32" else "QUANTIZE")
            self._made[key] = number
        return self._made[key]

    def _activation(self, like: int, dtype: str, scale: float | None) -> int:
        tensor = self._types.TensorT()
        model = self._main.tensors[like]
        tensor.name = self._name(f"{self._graph.tensors[like].name}_{dtype}")
        tensor.shape, tensor.shapeSignature, tensor.hasRank = model.shape, model.shapeSignature, model.hasRank
        tensor.type = getattr(self._types.TensorType, dtype.upper())
        tensor.quantization = self._quantization(scale)
        self._main.tensors.append(tensor)
        return len(self._main.tensors) - 1

    def _constant(self, wanted: Tensor, dtype: str, scale: float | None) -> int:
        key = (wanted.index, dtype, scale or 0.0)
        if key not in self._constants:
            values = wanted.array()
            if scale is not None:
                values = quantize(values, QuantParams((scale,), (0,)), dtype)
            self._constants[key] = self._add(f"{wanted.name}_{dtype}", values, dtype, self._quantization(scale))
        return self._constants[key]

    def _wide_bias(self, bias: int, weights: int, step: float) -> int:
        """An int32 bias as int64 for another input scale; what bias correction did to it is kept."""
        held, scales = self._graph.tensors[bias], self._graph.tensors[weights].quant
        assert held.quant is not None  # an int8 layer's bias has its scales
        assert scales is not None
        fine = step * np.asarray(scales.scales, np.float64)
        real = held.array().astype(np.float64) * np.asarray(held.quant.scales, np.float64)
        quantization = self._quantization(None) or self._types.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [float(item) for item in fine], [0] * len(fine)
        return self._add(f"{held.name}_int64", np.rint(real / fine).astype(np.int64), "int64", quantization)

    def _add(self, name: str, values: Array, dtype: str, quantization: Any) -> int:
        buffer = self._types.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._edited.buffers.append(buffer)
        tensor = self._types.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = self._name(name), list(values.shape), True
        tensor.type = getattr(self._types.TensorType, dtype.upper())
        tensor.buffer, tensor.quantization = len(self._edited.buffers) - 1, quantization
        self._main.tensors.append(tensor)
        return len(self._main.tensors) - 1

    def _quantization(self, scale: float | None) -> Any:
        if scale is None:
            return None
        quantization = self._types.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [scale], [0]
        return quantization

    def _name(self, wanted: str) -> bytes:
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name.encode()

    def _convert(self, source: int, result: int, name: str) -> None:
        # Versions as TensorFlow Lite counts them (tensorflow/lite/tools/versioning/op_version.cc): int16 came later.
        kinds = [self._main.tensors[index].type for index in (source, result)]
        wide = self._types.TensorType.INT16 in kinds
        if name == "QUANTIZE":
            version = 2 if self._types.TensorType.FLOAT32 not in kinds or wide else 1
        else:
            version = 3 if wide else 2
        op = self._types.OperatorT()
        op.opcodeIndex = editing.operator_code(
            self._edited, getattr(self._types.BuiltinOperator, name), version=version
        )
        op.inputs, op.outputs = [source], [result]
        options = f"{name.capitalize()}Options"
        op.builtinOptionsType = getattr(self._types.BuiltinOptions, options)
        op.builtinOptions = getattr(self._types, f"{options}T")()
        self._ops.append(op)


def _ends(values: Array) -> tuple[float, float]:
    return float(values.min(initial=0)), float(values.max(initial=0))


def _int16_scale(low: float, high: float) -> float:
    """The scale of a symmetric int16 range; int16 activations have zero point 0 (the 8-bit specification's 16x8 part)."""
    top = max(abs(low), abs(high))
    return float(np.float32(top / _INT16_TOP)) or 1.0

"""Weight scales under which every int32 bias fits.

A channel whose weights are (nearly) zero gets a tiny weight scale, and its bias, in units of input scale times weight scale, leaves
int32: it saturates or becomes garbage, and older runtimes refuse the file. Enlarging the weight scale of that channel
costs nothing: its weights are nearly zero on any grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.graph import Op, Subgraph, Tensor
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array, quantize
from edgekit_convert import graph as editing

#: A bias may take half of int32, so that the products that are added to it have room.
_BIAS_LIMIT = float(2**30)
#: input scale · weight scale / output scale must not be below this; XNNPACK's fixed-point multipliers end at 2^-32.
_SMALLEST_MULTIPLIER = float(2.0**-31)
_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def fit_biases(quantised: bytes, float_model: bytes) -> tuple[bytes, int]:
    """Enlarge weight scales until every bias fits into int32, and quantise those weights and biases anew.

    Args:
        quantised: the int8 flatbuffer.
        float_model: the float flatbuffer that it was made from; tensors correspond by name.

    Returns:
        The flatbuffer, and how many channels were given another scale.
    """
    graph, exact = ModelFile.read(quantised).graph.main, ModelFile.read(float_model).graph.main
    edited = editing.read(quantised)
    channels = 0
    for weights, users in _layers(graph, exact).items():
        needed = np.max([_needed_scales(graph, exact, op, original) for op, original in users], axis=0)
        tensor = graph.tensors[weights]
        assert tensor.quant is not None  # _layers has looked
        current = np.asarray(tensor.quant.scales, np.float64)
        usable = np.isfinite(current) & (current > 0)
        scales = np.where(usable & (current >= needed), current, needed).astype(np.float32)
        changed = int(np.count_nonzero(scales != current.astype(np.float32)))
        if changed == 0:
            continue
        channels += changed
        quant = tensor.quant._replace(scales=tuple(float(scale) for scale in scales))
        values = quantize(exact.tensors[users[0][1].inputs[1]].array(), quant, "int8")
        # The int8 weights of convolutions keep off -128 (TensorFlow Lite 8-bit quantization specification).
        editing.set_constant(edited, weights, np.maximum(values, np.int8(-127)))
        edited.subgraphs[0].tensors[weights].quantization.scale = [float(scale) for scale in scales]
        for op, original in users:
            _write_bias(edited, graph, exact, op, original, scales)
    return (editing.write(edited) if channels else quantised), channels


def _source_at(op: Op) -> int:
    return 2 if op.name == "TRANSPOSE_CONV" else 0


def _bias_at(op: Op) -> int:
    return 3 if op.name == "TRANSPOSE_CONV" else 2


def _layers(graph: Subgraph, exact: Subgraph) -> dict[int, list[tuple[Op, Op]]]:
    """Layers with int8 weights and an int32 or int64 bias, by their weights, each with its float original."""
    originals = {exact.tensors[op.outputs[0]].name: op for op in exact.ops if op.outputs}
    found: dict[int, list[tuple[Op, Op]]] = {}
    for op in graph.ops:
        at = _bias_at(op)
        if op.name not in _OPERATORS or len(op.inputs) <= at or op.inputs[at] < 0:
            continue
        original = originals.get(graph.tensors[op.outputs[0]].name)
        if original is None or original.name != op.name or len(original.inputs) <= at:
            continue
        weights, bias, source = (
            graph.tensors[op.inputs[1]],
            graph.tensors[op.inputs[at]],
            graph.tensors[op.inputs[_source_at(op)]],
        )
        plain = (
            weights.dtype == "int8"
            and bias.dtype in ("int32", "int64")
            and weights.data is not None
            and bias.data is not None
        )
        if (
            plain
            and weights.quant is not None
            and _scale(source) is not None
            and _scale(graph.tensors[op.outputs[0]]) is not None
        ):
            found.setdefault(op.inputs[1], []).append((op, original))
    return found


def _scale(tensor: Tensor) -> float | None:
    return tensor.quant.scales[0] if tensor.quant is not None and tensor.quant.per_tensor else None


def _needed_scales(graph: Subgraph, exact: Subgraph, op: Op, original: Op) -> Array:
    """The smallest weight scale of each channel (or of the tensor) under which a layer's bias and multiplier fit."""
    source, result = _scale(graph.tensors[op.inputs[_source_at(op)]]), _scale(graph.tensors[op.outputs[0]])
    quant = graph.tensors[op.inputs[1]].quant
    assert source is not None  # _layers has looked
    assert result is not None
    assert quant is not None
    bias = np.abs(exact.tensors[original.inputs[_bias_at(op)]].array().astype(np.float64))
    needed = np.maximum(bias / (source * _BIAS_LIMIT), _SMALLEST_MULTIPLIER * result / source)
    return np.asarray(needed.max(keepdims=True) if quant.per_tensor else needed)


def _write_bias(edited: Any, graph: Subgraph, exact: Subgraph, op: Op, original: Op, scales: Array) -> None:
    source = _scale(graph.tensors[op.inputs[_source_at(op)]])
    assert source is not None  # _layers has looked
    index = op.inputs[_bias_at(op)]
    steps = np.float64(source) * scales.astype(np.float64)
    bias = exact.tensors[original.inputs[_bias_at(op)]].array().astype(np.float64)
    # Behind int16 activations a bias is int64, which litert-quantizer fills as if it were int32.
    editing.set_constant(edited, index, np.rint(bias / steps).astype(graph.tensors[index].dtype))
    edited.subgraphs[0].tensors[index].quantization.scale = [float(step) for step in steps]

"""Streaming refinement: the int8 graph is walked once, operator by operator, and each layer is mended on what it really gets.

A layer's error comes from its own rounded weights and from everything before it. When each layer is corrected with the
int8 values that reach it, before the walk goes on, later layers see corrected values, and nothing is run twice.
The target of a layer's mean is the float output clipped to the range of its int8 grid: where a range was shrunk on purpose,
the clipped part is given up and must not be pushed back into the bias (Nagel et al. 2019, section 4.2, treats the unclipped case).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph import Op, Tensor
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.graph.slices import Runner, Sliceable, activations, workers
from edgekit_convert.refine.judge import as_input

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_ROUNDS = 3
#: Fewer samples than this are not worth a thread.
_FEW_ROWS = 16
#: Channels that are active less often than this react too little to their bias to be corrected by it.
_SELDOM = 0.02


@dataclass(frozen=True)
class Layer:
    """A layer with int8 weights and an int32 bias, as the walk meets it.

    Attributes:
        op: the int8 operator.
        weights: tensor index of the weights.
        bias: tensor index of the bias.
        source: tensor index of the activation that it reads.
        result: tensor index of its output.
        name: the output's name, by which the float model knows it.
    """

    op: Op
    weights: int
    bias: int
    source: int
    result: int
    name: str


def layer_of(op: Op, tensors: Sequence[Tensor]) -> Layer | None:
    """An operator as a layer, or ``None`` when it has no int8 weights with an int32 bias."""
    if op.name not in LAYERS:
        return None
    bias_at, source_at = (3, 2) if op.name == "TRANSPOSE_CONV" else (2, 0)
    if len(op.inputs) <= bias_at or op.inputs[bias_at] < 0:
        return None
    layer = Layer(
        op, op.inputs[1], op.inputs[bias_at], op.inputs[source_at], op.outputs[0], tensors[op.outputs[0]].name
    )
    weights, bias, result = tensors[layer.weights], tensors[layer.bias], tensors[layer.result]
    plain = weights.dtype == "int8" and bias.dtype == "int32" and result.dtype == "int8"
    if not plain or weights.data is None or bias.data is None or tensors[layer.source].dtype != "int8":
        return None
    return layer if bias.quant is not None and result.quant is not None and weights.quant is not None else None


def walk(
    quantised: bytes,
    float_model: bytes,
    samples: Sequence[Sequence[Array]],
    *,
    reweigh: Callable[[Layer, Sliceable, Sequence[Array]], Array | None] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[bytes, int]:
    """Walk the int8 graph and correct each layer on the way.

    Args:
        quantised: the int8 flatbuffer.
        float_model: the float flatbuffer that it was made from; tensors correspond by name.
        samples: float inputs in the graph's order.
        reweigh: may give a layer new int8 weights, from its int8 inputs; called before its bias is corrected.
        progress: called with operators done and in all.

    Returns:
        The flatbuffer, and how many layers were corrected.
    """
    whole = Sliceable(quantised)
    tensors = whole.main.tensors
    uses = Counter(index for op in whole.main.ops for index in op.inputs)
    # What mends one layer would spoil another that has the same bias.
    found = [layer_of(op, tensors) for op in whole.main.ops]
    layers = [layer if layer is not None and uses[layer.bias] == 1 else None for layer in found]
    wanted = {layer.name: tensors[layer.result] for layer in layers if layer is not None}
    means = clipped_means(float_model, wanted, samples)
    edited = editing.read(quantised)
    last = {index: number for number, op in enumerate(whole.main.ops) for index in op.inputs}
    values: dict[int, list[Array]] = {
        index: [as_input(tensors[index], sample[place]) for sample in samples]
        for place, index in enumerate(whole.main.inputs)
    }
    corrected = 0
    for number, op in enumerate(whole.main.ops):
        layer = layers[number]
        given = [index for index in dict.fromkeys(op.inputs) if index in values]
        rows = [[values[index][k] for index in given] for k in range(len(samples))]
        if layer is not None and reweigh is not None and uses[layer.weights] == 1:
            weights = reweigh(layer, whole, values[layer.source])
            if weights is not None:
                editing.set_constant(edited, layer.weights, weights)
                whole.set_constant(layer.weights, weights)
        outputs = _run(whole, number, given, rows)
        if layer is not None and layer.name in means:
            bias = _fit_bias(whole, number, layer, given, rows, outputs, means[layer.name])
            if bias is not None:
                editing.set_constant(edited, layer.bias, bias)
                whole.set_constant(layer.bias, bias)
                outputs = _run(whole, number, given, rows)
                corrected += 1
        for position, index in enumerate(op.outputs):
            values[index] = [row[position] for row in outputs]
        for index in given:
            if last[index] == number and index not in whole.main.outputs:
                del values[index]
        progress(number + 1, len(whole.main.ops))
    return editing.write(edited), corrected


def _run(whole: Sliceable, number: int, given: Sequence[int], rows: Sequence[Sequence[Array]]) -> list[list[Array]]:
    content = whole.cut([number], whole.main.ops[number].outputs, given).content
    count = workers() if len(rows) > _FEW_ROWS else 1
    parts = [rows[len(rows) * k // count : len(rows) * (k + 1) // count] for k in range(count)]

    def run(part: Sequence[Sequence[Array]]) -> list[list[Array]]:
        runner = Runner(content)
        return [runner.run(row) for row in part]

    if count == 1:
        return run(rows)
    with ThreadPoolExecutor(count) as pool:
        return [row for part in pool.map(run, parts) for row in part]


def clipped_means(
    float_model: bytes, grids: Mapping[str, Tensor], samples: Sequence[Sequence[Array]]
) -> dict[str, Array]:
    """Mean of float outputs over samples and places, by channel, after clipping to an int8 grid's range.

    Args:
        float_model: the float flatbuffer.
        grids: the int8 tensor by the float tensor's name.
        samples: float inputs in the graph's order.
    """
    whole = Sliceable(float_model)
    main = whole.main
    shown = [index for index in activations(main) if main.tensors[index].name in grids and index not in main.inputs]
    runner = Runner(whole.cut(whole.leading(shown), shown, main.inputs).content)
    sums: dict[str, Array] = {}
    for sample in samples:
        for index, value in zip(shown, runner.run(sample), strict=True):
            name = main.tensors[index].name
            low, high = grid_ends(grids[name])
            clipped = np.clip(value, low, high).reshape(-1, value.shape[-1])
            flat = (np.ones(len(clipped), np.float32) @ clipped).astype(np.float64) / len(clipped)
            sums[name] = sums[name] + flat if name in sums else flat
    return {name: total / len(samples) for name, total in sums.items()}


def grid_ends(tensor: Tensor) -> tuple[float, float]:
    """Lowest and highest real value of an int8 tensor's grid."""
    assert tensor.quant is not None  # the caller has looked
    scale, zero = tensor.quant.scales[0], tensor.quant.zero_points[0]
    return (-128 - zero) * scale, (127 - zero) * scale


def _fit_bias(
    whole: Sliceable,
    number: int,
    layer: Layer,
    given: Sequence[int],
    rows: Sequence[Sequence[Array]],
    outputs: Sequence[Sequence[Array]],
    target: Array,
) -> Array | None:
    """The int32 bias under which the layer's mean output comes nearest to its target.

    ``None`` stands for the bias that it has.
    """
    tensors = whole.main.tensors
    grid, steps = tensors[layer.result].quant, tensors[layer.bias].quant
    assert grid is not None  # layer_of has looked
    assert steps is not None
    limits = np.iinfo(np.int32)
    first = current = whole.constant(layer.bias).astype(np.float64)
    best, smallest = current, np.full(len(current), np.inf)
    for round_ in range(_ROUNDS + 1):
        mean, active = _channel_means(outputs, grid.scales[0], grid.zero_points[0])
        if mean.shape != target.shape or mean.shape != current.shape:
            return None
        miss = target - mean
        better = np.abs(miss) < smallest
        best, smallest = np.where(better, current, best), np.where(better, np.abs(miss), smallest)
        if round_ == _ROUNDS:
            break
        usable = (active > _SELDOM) & (current > limits.min) & (current < limits.max)
        move = np.where(usable, miss / np.maximum(active, 0.25), 0.0) / np.asarray(steps.scales, np.float64)
        moved = np.clip(np.rint(current + move), limits.min, limits.max)
        if np.array_equal(moved, current):
            break
        current = moved
        whole.set_constant(layer.bias, current.astype(np.int32))
        outputs = _run(whole, number, given, rows)
    return best.astype(np.int32) if not np.array_equal(best, first) or not np.array_equal(current, first) else None


def _channel_means(outputs: Sequence[Sequence[Array]], scale: float, zero: int) -> tuple[Array, Array]:
    """Mean real output of each channel, and the share of its values that lie inside the grid's ends."""
    total: Any = 0.0
    inside: Any = 0.0
    for row in outputs:
        flat = row[0].reshape(-1, row[0].shape[-1])
        # A product with ones adds up columns many times faster than a reduction does; int8 sums are exact in float32.
        ones = np.ones(len(flat), np.float32)
        total = total + (ones @ flat.astype(np.float32)).astype(np.float64) / len(flat)
        inside = inside + (ones @ ((flat > -128) & (flat < 127)).astype(np.float32)).astype(np.float64) / len(flat)
    return (total / len(outputs) - zero) * scale, inside / len(outputs)

"""Bias correction in closed form.

Rounding a layer's weights shifts the mean of its output by ``(W_float - W_int8) · E[input patch]`` (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, there with the expectation
from batch-norm statistics). A convolution is linear, so that the expectation is the convolution of the mean input image, measured here on the
calibration data, and the shift can be taken out of the int32 bias without running the int8 graph.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from edgekit.graph import Op, Subgraph, Tensor
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array, dequantize
from edgekit_convert import graph as editing

Means = dict[str, Array]
_PADDING_SAME = 0  # schema.fbs, enum Padding


def correct_biases(quantised: bytes, float_model: bytes, means: Means) -> tuple[bytes, int]:
    """Take the mean shift of each convolution and fully connected layer out of its bias.

    Args:
        quantised: the int8 flatbuffer.
        float_model: the float flatbuffer that it was made from; tensors correspond by name.
        means: mean over the calibration data of each layer's float input, by tensor name.

    Returns:
        The flatbuffer, and how many layers were corrected.
    """
    graph = ModelFile.read(quantised).graph.main
    exact = ModelFile.read(float_model).graph.main
    float_ops = {exact.tensors[op.outputs[0]].name: op for op in exact.ops if op.outputs}
    edited = editing.read(quantised)
    stored = {op.outputs[0]: op.inputs[0] for op in graph.ops if op.name == "DEQUANTIZE"}
    uses = Counter(index for op in graph.ops for index in op.inputs)
    count = 0
    for op in graph.ops:
        if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") or len(op.inputs) < 3 or op.inputs[2] < 0:
            continue
        original = float_ops.get(graph.tensors[op.outputs[0]].name)
        if original is None or original.name != op.name:
            continue
        source = exact.tensors[original.inputs[0]].name
        weights = graph.tensors[stored.get(op.inputs[1], op.inputs[1])]
        bias = graph.tensors[op.inputs[2]]
        if uses[op.inputs[2]] > 1:  # what mends one layer would spoil the other
            continue
        if source not in means or weights.dtype != "int8" or bias.dtype not in ("int32", "int64", "float32"):
            continue
        shift = mean_shift(op, exact.tensors[original.inputs[1]], weights, means[source])
        if shift is None:
            continue
        _add_to_bias(edited, op, bias, shift)
        count += 1
    return editing.write(edited), count


def mean_shift(op: Op, exact: Tensor, rounded: Tensor, mean: Array) -> Array | None:
    """``(W_float - W_int8) · E[input patch]`` for each output channel; ``None`` for forms that are not handled.

    Args:
        op: the operator, for its strides and padding.
        exact: float weights.
        rounded: int8 weights.
        mean: mean input, ``[n, height, width, channels]`` or ``[…, channels]``.
    """
    if exact.data is None or rounded.data is None or rounded.quant is None or exact.shape != rounded.shape:
        return None
    error: Array = exact.array() - dequantize(rounded.array(), rounded.quant)
    if op.name == "FULLY_CONNECTED":
        inner = error.shape[1]
        if mean.size % inner:
            return None
        return np.asarray(error @ mean.reshape(-1, inner).mean(axis=0))
    patch = mean_patch(op, error.shape[1], error.shape[2], mean)
    if patch is None:
        return None
    if op.name == "CONV_2D":
        groups = mean.shape[-1] // error.shape[3]
        if groups == 1:
            return np.asarray(np.einsum("ohwc,hwc->o", error, patch))
        split = patch.reshape(*patch.shape[:2], groups, -1)
        return np.asarray(np.einsum("gohwc,hwgc->go", error.reshape(groups, -1, *error.shape[1:]), split).reshape(-1))
    multiplier = error.shape[3] // mean.shape[-1]
    return np.asarray((error[0] * np.repeat(patch, multiplier, axis=2)).sum(axis=(0, 1)))


def mean_patch(op: Op, height: int, width: int, mean: Array) -> Array | None:
    """The mean input under each tap of a kernel over all positions, zero padding included: ``[height, width, channels]``."""
    if mean.ndim != 4:
        return None
    # More than one image where a layer is applied to each step of a sequence.
    padded = padded_image(op, mean.mean(axis=0), height, width)
    if padded is None:
        return None
    image, (stride_h, stride_w), (dilation_h, dilation_w) = padded
    rows, columns = image.shape[0] - (height - 1) * dilation_h, image.shape[1] - (width - 1) * dilation_w
    patch = np.empty((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            y, x = i * dilation_h, j * dilation_w
            patch[i, j] = image[y : y + rows : stride_h, x : x + columns : stride_w].mean(axis=(0, 1))
    return patch


def padded_image(
    op: Op, image: Array, height: int, width: int
) -> tuple[Array, tuple[int, int], tuple[int, int]] | None:
    """An input image with a convolution's zero padding, and its strides and dilations, vertical first.

    Args:
        op: CONV_2D or DEPTHWISE_CONV_2D.
        image: ``[height, width, channels]``.
        height: the kernel's.
        width: the kernel's.

    Returns:
        ``None`` when the image is smaller than the kernel.
    """
    padding, stride_w, stride_h = op.option(0, "b", 0), op.option(1, "i", 1), op.option(2, "i", 1)
    # Conv2DOptions and DepthwiseConv2DOptions differ by one field before the dilations.
    first = 4 if op.name == "CONV_2D" else 5
    dilation_w, dilation_h = op.option(first, "i", 1), op.option(first + 1, "i", 1)
    taps_h, taps_w = (height - 1) * dilation_h + 1, (width - 1) * dilation_w + 1
    if padding == _PADDING_SAME:
        image = np.pad(
            image, (_same(image.shape[0], taps_h, stride_h), _same(image.shape[1], taps_w, stride_w), (0, 0))
        )
    if image.shape[0] < taps_h or image.shape[1] < taps_w:
        return None
    return image, (stride_h, stride_w), (dilation_h, dilation_w)


def _same(size: int, taps: int, stride: int) -> tuple[int, int]:
    """Zeros before and after for SAME padding, as TensorFlow Lite computes them."""
    total = max(0, (-(-size // stride) - 1) * stride + taps - size)
    return total // 2, total - total // 2


def _add_to_bias(edited: Any, op: Op, bias: Tensor, shift: Array) -> None:
    if bias.dtype == "float32":
        editing.set_constant(edited, op.inputs[2], (bias.array() + shift).astype(np.float32))
        return
    assert bias.quant is not None  # an integer bias has scales
    limits = np.iinfo(bias.dtype)
    current = bias.array().astype(np.float64)
    # A saturated bias belongs to a channel with nearly no weights: its value means nothing, and is left alone.
    usable = (current > limits.min) & (current < limits.max)
    steps = np.rint(shift / np.asarray(bias.quant.scales, np.float64))
    changed = np.where(usable, np.clip(current + steps, limits.min, limits.max), current).astype(bias.dtype)
    editing.set_constant(edited, op.inputs[2], changed)


def layer_inputs(main: Subgraph) -> list[int]:
    """Tensor indices of the float inputs whose means ``correct_biases`` needs."""
    wanted = {
        op.inputs[0]
        for op in main.ops
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and len(op.inputs) > 2
    }
    return sorted(index for index in wanted if main.tensors[index].dtype == "float32")

"""Weight rounding by what the layer's inputs are, not to the nearest step.

The error that rounding leaves in a layer's output is ``e H e`` for each output channel, with ``e`` the rounding errors of its
weights and ``H`` the covariance of the input patches (the mean goes into the bias). Where inputs are correlated, errors
can cancel. The first solution is that of Frantar et al. 2022, "GPTQ", which rounds one input at a time and lets the others make up for
it; coordinate descent then moves single weights by whole steps while that lowers the error. The nine taps of a depthwise channel are few
enough to try every choice of down and up.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from edgekit.graph import Op
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.graph.slices import Sliceable
from edgekit_convert.refine.bias import padded_image
from edgekit_convert.refine.streaming import Layer

#: Ridge on the covariance, relative to its mean diagonal: a few hundred patches do not know every direction.
_RIDGE = 0.01
_SWEEPS = 3
#: Patches used for each weight of an output channel, and at least.
_PATCHES_PER_WEIGHT, _FEWEST_PATCHES = 4, 8192
#: Larger layers keep their nearest steps: the covariance alone would take minutes.
_MOST_WEIGHTS = 4608
_MOST_TAPS = 10


class Rounding:
    """Chooses int8 weights for the layers of a walk.

    Args:
        float_model: the float flatbuffer; layers correspond by the name of their output.

    Attributes:
        layers: how many layers were given weights.
    """

    def __init__(self, float_model: bytes) -> None:
        self._main = ModelFile.read(float_model).graph.main
        self._ops = {self._main.tensors[op.outputs[0]].name: op for op in self._main.ops if op.outputs}
        self.layers = 0

    def __call__(self, layer: Layer, whole: Sliceable, inputs: Sequence[Array]) -> Array | None:
        """New int8 weights for a layer from its int8 inputs, or ``None`` to leave them.

        Args:
            layer: the layer.
            whole: the int8 graph.
            inputs: what reaches the layer, one array for each sample.
        """
        chosen = self._choose(layer, whole, inputs)
        self.layers += chosen is not None
        return chosen

    def _choose(self, layer: Layer, whole: Sliceable, inputs: Sequence[Array]) -> Array | None:
        original = self._ops.get(layer.name)
        tensors = whole.main.tensors
        weights, source = tensors[layer.weights], tensors[layer.source]
        if original is None or original.name != layer.op.name or weights.quant is None or source.quant is None:
            return None
        exact = self._main.tensors[original.inputs[1]]
        if exact.data is None or exact.dtype != "float32" or exact.shape != weights.shape:
            return None
        scales = np.asarray(weights.quant.scales, np.float64)
        if len(weights.quant.scales) == 1 or not np.all(scales > 0):
            return None
        wanted = exact.array().astype(np.float64)
        current = whole.constant(layer.weights)
        zero, step = source.quant.zero_points[0], source.quant.scales[0]
        real = [(value.astype(np.float32) - zero) * np.float32(step) for value in inputs]
        if layer.op.name == "DEPTHWISE_CONV_2D":
            return _depthwise(layer.op, wanted, scales, current, real)
        if layer.op.name in ("CONV_2D", "FULLY_CONNECTED"):
            return _dense(layer.op, wanted, scales, current, real)
        return None


def _dense(op: Op, wanted: Array, scales: Array, current: Array, real: Sequence[Array]) -> Array | None:
    flat = wanted.reshape(len(wanted), -1)
    if flat.shape[1] > _MOST_WEIGHTS:
        return None
    if op.name == "CONV_2D":
        if real[0].ndim != 4 or real[0].shape[-1] != wanted.shape[3]:
            return None
        rows = _patches(op, real, wanted.shape[1], wanted.shape[2], flat.shape[1])
    else:
        if real[0].size % flat.shape[1]:
            return None
        rows = np.concatenate([value.reshape(-1, flat.shape[1]) for value in real])
    if rows is None or len(rows) < 2:
        return None
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = (centred.T @ centred).astype(np.float64) / len(rows)
    diagonal = np.diagonal(covariance)
    if not diagonal.any():
        return None
    covariance[np.diag_indices_from(covariance)] += _RIDGE * diagonal.mean()
    steps = flat / scales[:, None]
    nearest = current.reshape(len(wanted), -1).astype(np.float64)
    first = descend(nearest.copy(), steps, covariance)
    second = descend(_compensated(steps, covariance), steps, covariance)
    better = _error(second, steps, covariance) < _error(first, steps, covariance)
    chosen = np.where(better[:, None], second, first)
    return chosen.astype(np.int8).reshape(wanted.shape)


def _error(chosen: Array, steps: Array, covariance: Array) -> Array:
    error = chosen - steps
    return np.asarray(np.einsum("ok,ok->o", error @ covariance, error))


def _compensated(steps: Array, covariance: Array) -> Array:
    """GPTQ: round one input of all channels at a time, the rest makes up for the error as the inverse covariance says."""
    count = len(covariance)
    order = np.argsort(
        -np.diagonal(covariance), kind="stable"
    )  # the inputs that matter most are rounded while all others can help
    inverse = np.linalg.inv(covariance[np.ix_(order, order)])
    upper = np.linalg.cholesky(inverse).T  # inverse = upper.T @ upper
    work = steps[:, order].copy()
    result = np.empty_like(work)
    block = 64
    for start in range(0, count, block):
        end = min(start + block, count)
        errors = np.empty((len(work), end - start))
        for j in range(start, end):
            result[:, j] = np.clip(np.rint(work[:, j]), -127, 127)
            error = (work[:, j] - result[:, j]) / upper[j, j]
            work[:, j:end] -= np.outer(error, upper[j, j:end])
            errors[:, j - start] = error
        work[:, end:] -= errors @ upper[start:end, end:]
    back: Array = np.empty_like(result)
    back[:, order] = result
    return back


def descend(chosen: Array, steps: Array, covariance: Array) -> Array:
    """Move single weights by whole steps while that lowers ``e H e``.

    Args:
        chosen: whole numbers to start from, ``[outputs, inputs]``; changed in place.
        steps: the exact weights in steps, likewise.
        covariance: ``[inputs, inputs]``.
    """
    gradient = (chosen - steps) @ covariance
    diagonal = np.maximum(np.diagonal(covariance), 1e-30)
    for _ in range(_SWEEPS):
        moved = 0
        for j in range(len(covariance)):
            move = np.clip(chosen[:, j] - np.rint(gradient[:, j] / diagonal[j]), -127, 127) - chosen[:, j]
            rows = np.flatnonzero(move)
            if len(rows):
                moved += len(rows)
                chosen[rows, j] += move[rows]
                gradient[rows] += np.outer(move[rows], covariance[j])
        if not moved:
            break
    return chosen


def _depthwise(op: Op, wanted: Array, scales: Array, current: Array, real: Sequence[Array]) -> Array | None:
    height, width, channels = wanted.shape[1:]
    taps = height * width
    if real[0].ndim != 4 or channels != real[0].shape[-1]:
        return None
    rows = _patches(op, real, height, width, taps)
    if rows is None or len(rows) < 2:
        return None
    patches = rows.reshape(len(rows), taps, channels)
    patches = patches - patches.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = np.einsum("ntc,nuc->ctu", patches, patches, optimize=True).astype(np.float64) / len(rows)
    ridge = _RIDGE * np.einsum("ctt->c", covariance) / taps
    covariance[:, range(taps), range(taps)] += np.maximum(ridge, 1e-12)[:, None]
    steps = (wanted[0] / scales).reshape(taps, channels).T
    nearest = current[0].reshape(taps, channels).T.astype(np.float64)
    if taps > _MOST_TAPS:
        chosen = np.stack(
            [descend(nearest[c : c + 1].copy(), steps[c : c + 1], covariance[c])[0] for c in range(channels)]
        )
    else:
        ups = np.array(list(itertools.product((0.0, 1.0), repeat=taps)))
        down = np.floor(steps)
        choices = np.clip(down[:, None] + ups[None], -127, 127)
        errors = choices - steps[:, None]
        cost = np.einsum("cnt,cnt->cn", errors @ covariance, errors)
        chosen = choices[np.arange(channels), cost.argmin(axis=1)]
    return np.asarray(chosen.T.reshape(height, width, channels)[None], np.int8)


def _patches(op: Op, real: Sequence[Array], height: int, width: int, weights: int) -> Array | None:
    """Input patches under the kernel, ``[n, height · width · channels]``, evenly thinned over places and samples."""
    wanted = max(_FEWEST_PATCHES, _PATCHES_PER_WEIGHT * weights)
    found = []
    for value in real:
        padded = padded_image(op, value[0], height, width)
        if padded is None:
            return None
        image, (stride_h, stride_w), (dilation_h, dilation_w) = padded
        windows = np.lib.stride_tricks.sliding_window_view(
            image, ((height - 1) * dilation_h + 1, (width - 1) * dilation_w + 1), axis=(0, 1)
        )[::stride_h, ::stride_w, :, ::dilation_h, ::dilation_w]
        places = windows.shape[0] * windows.shape[1]
        # An odd stride does not fall in step with the width of the image.
        thin = max(1, places * len(real) // wanted) | 1 if places * len(real) > 2 * wanted else 1
        chosen = np.arange(0, places, thin)
        taken = windows[chosen // windows.shape[1], chosen % windows.shape[1]]  # [n, channels, height, width]
        found.append(taken.transpose(0, 2, 3, 1).reshape(len(chosen), -1))
    return np.concatenate(found)

"""Weight rounding: never worse than the nearest steps by its own measure, the optimum where that can be tried out."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import small_nets as nets
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.tensors import Array, quantize
from edgekit_convert.graph.slices import Sliceable
from edgekit_convert.refine import rounding
from edgekit_convert.refine.judge import as_input
from edgekit_convert.refine.rounding import Rounding, descend
from edgekit_convert.refine.streaming import layer_of

RANDOM = np.random.default_rng(6)


def correlated(count: int, *shape: int) -> nets.Samples:
    """Inputs whose values move together, as those of real images do."""
    common = RANDOM.normal(0, 1, (count, 1, *[1] * len(shape)))
    base = RANDOM.normal(1, 0.3, (1, 1, *shape))
    own = RANDOM.normal(0, 0.2, (count, 1, *shape))
    return [[item.astype(np.float32)] for item in common * base + own]


def chosen(content: bytes, inputs: nets.Samples, *, finer: float = 1.0) -> tuple[Array | None, Array, Array, Array]:
    """New weights of a one-layer model, its nearest ones, both in steps beside the exact ones, and the real inputs.

    ``finer`` makes the weights' steps smaller, so that the largest weights have no place on the grid.
    """

    def refine(model: Any) -> None:
        for op in model.subgraphs[0].operators:
            quantization = model.subgraphs[0].tensors[op.inputs[1]].quantization
            quantization.scale = [scale * finer for scale in quantization.scale]

    whole = Sliceable(models.edited(nets.quantised(content, inputs), refine))
    main = whole.main
    layer = layer_of(main.ops[0], main.tensors)
    assert layer is not None
    given = [as_input(main.tensors[layer.source], sample[0]) for sample in inputs]
    round_ = Rounding(content)
    new = round_(layer, whole, given)
    assert int(new is not None) == round_.layers
    exact = nets.main_of(content).tensors[nets.main_of(content).ops[0].inputs[1]].array().astype(np.float64)
    quant, grid = main.tensors[layer.weights].quant, main.tensors[layer.source].quant
    assert quant is not None
    assert grid is not None
    axis = 3 if layer.op.name == "DEPTHWISE_CONV_2D" else 0
    scales = np.asarray(quant.scales).reshape([-1 if place == axis else 1 for place in range(exact.ndim)])
    real = np.concatenate([(value.astype(np.float64) - grid.zero_points[0]) * grid.scales[0] for value in given])
    return new, whole.constant(layer.weights).astype(np.float64), exact / scales, real


def covariance(rows: Array) -> Array:
    """With the ridge that the module adds."""
    centred = rows - rows.mean(axis=0)
    result = centred.T @ centred / len(rows)
    return np.asarray(result + rounding._RIDGE * np.diagonal(result).mean() * np.eye(len(result)))


def energy(weights: Array, steps: Array, matrix: Array) -> Array:
    """``e H e`` for each output channel."""
    error = weights - steps
    return np.einsum("ok,kl,ol->o", error, matrix, error)


def dense_model(outputs: int = 12, inputs: int = 24) -> bytes:
    """One dense layer."""
    net = nets.Net(seed=3)
    return net.finish(net.dense(net.input(1, inputs), outputs))


def test_a_dense_layer_is_never_worse_than_nearest_and_mostly_far_better() -> None:
    """For every output channel ``e H e`` is at most that of the nearest steps; altogether less than half."""
    new, nearest, steps, real = chosen(dense_model(), correlated(60, 24))
    assert new is not None
    matrix = covariance(real)
    before, after = energy(nearest, steps, matrix), energy(new.astype(np.float64), steps, matrix)
    assert np.all(after <= before * 1.0001)
    assert after.sum() < before.sum() / 2


def test_the_layers_outputs_come_nearer_on_other_data() -> None:
    """What counts is the error of the outputs, mean apart, on inputs that were not looked at."""
    inputs = correlated(90, 24)
    new, nearest, steps, _ = chosen(dense_model(), inputs[:60])
    assert new is not None
    fresh = np.concatenate([row[0] for row in inputs[60:]])
    before, after = (np.square((item - steps) @ (fresh - fresh.mean(axis=0)).T).sum() for item in (nearest, new))
    assert after < before


@pytest.mark.parametrize(("stride", "padding"), [(1, nets.SAME), (2, nets.VALID)], ids=["same", "stride 2 valid"])
def test_a_convolution_is_never_worse_than_nearest(stride: int, padding: int) -> None:
    """The covariance is that of all patches under the kernel, zero padding included."""
    net = nets.Net(seed=4)
    content = net.finish(net.conv(net.input(1, 7, 7, 3), 8, stride=stride, padding=padding))
    new, nearest, steps, real = chosen(content, correlated(40, 7, 7, 3))
    assert new is not None
    image = np.pad(real, ((0, 0), (1, 1), (1, 1), (0, 0))) if padding == nets.SAME else real
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    matrix = covariance(windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 27))
    flat = [item.reshape(8, -1).astype(np.float64) for item in (nearest, new, steps)]
    before, after = energy(flat[0], flat[2], matrix), energy(flat[1], flat[2], matrix)
    assert np.all(after <= before * 1.001)
    assert after.sum() < 0.8 * before.sum()


def test_a_depthwise_channel_gets_the_best_of_all_choices() -> None:
    """The nine taps are tried down and up, which a plain search over the same choices confirms."""
    net = nets.Net(seed=5)
    content = net.finish(net.depthwise(net.input(1, 6, 6, 4), padding=nets.VALID))
    new, _, steps, real = chosen(content, correlated(40, 6, 6, 4))
    assert new is not None
    windows = np.lib.stride_tricks.sliding_window_view(real, (3, 3), axis=(1, 2))
    for channel in range(4):
        rows = windows[:, :, :, channel].reshape(-1, 9)
        exact = steps[0, :, :, channel].reshape(-1)
        matrix = covariance(rows)
        candidates = np.floor(exact) + np.array(list(itertools.product((0, 1), repeat=9)))
        costs = energy(np.clip(candidates, -127, 127), exact, matrix)
        actual = energy(new[0, :, :, channel].reshape(1, -1).astype(np.float64), exact, matrix)
        assert actual[0] == pytest.approx(costs.min(), rel=1e-3)


def test_large_depthwise_kernels_are_never_worse_than_nearest() -> None:
    """Twenty-five taps are too many to try, and are moved one by one."""
    net = nets.Net(seed=5)
    content = net.finish(net.depthwise(net.input(1, 9, 9, 3), 5, padding=nets.VALID))
    new, nearest, steps, real = chosen(content, correlated(40, 9, 9, 3))
    assert new is not None
    windows = np.lib.stride_tricks.sliding_window_view(real, (5, 5), axis=(1, 2))
    for channel in range(3):
        matrix = covariance(windows[:, :, :, channel].reshape(-1, 25))
        pair = [item[0, :, :, channel].reshape(1, -1).astype(np.float64) for item in (nearest, new, steps)]
        assert energy(pair[1], pair[2], matrix) <= energy(pair[0], pair[2], matrix) * 1.0001


@pytest.mark.parametrize("kind", ["dense", "conv", "depthwise"])
def test_weights_stay_within_127(kind: str) -> None:
    """-128 is no weight of a convolution, however large the gain would be; the largest weights are at the ends."""
    net = nets.Net(seed=7)
    x = net.input(1, 24) if kind == "dense" else net.input(1, 6, 6, 3)
    signs = np.sign(RANDOM.normal(0, 1, (6, 24)))  # every weight is the largest of its channel
    layers = {
        "dense": lambda: net.dense(x, weights=signs),
        "conv": lambda: net.conv(x, weights=np.sign(RANDOM.normal(0, 1, (6, 3, 3, 3)))),
        "depthwise": lambda: net.depthwise(x, weights=np.sign(RANDOM.normal(0, 1, (1, 3, 3, 3)))),
    }
    content = net.finish(layers[kind]())
    new, _, steps, _ = chosen(content, correlated(20, *net.shape(x)[1:]), finer=0.98)
    assert new is not None
    assert np.dtype(np.int8) == new.dtype
    assert np.abs(steps).max() > 129
    assert (-127, 127) == (int(new.min()), int(new.max()))


def test_descent_never_climbs_and_ends_where_no_single_step_helps() -> None:
    """From any start, each channel's error falls or stays; afterwards no weight can be moved by one for the better."""
    rows = RANDOM.normal(0, 1, (200, 6)) @ RANDOM.normal(0, 1, (6, 6))
    matrix = rows.T @ rows / 200
    steps = RANDOM.uniform(-50, 50, (5, 6))
    start = np.rint(steps) + RANDOM.integers(-2, 3, (5, 6))
    end = start
    for _ in range(10):
        end = descend(end.copy(), steps, matrix)
    assert np.all(energy(end, steps, matrix) <= energy(start, steps, matrix))
    for place, move in itertools.product(range(6), (-1, 1)):
        moved = end + move * np.eye(6)[place]
        assert np.all(energy(moved, steps, matrix) >= energy(end, steps, matrix) - 1e-9)


def test_descent_does_not_leave_127() -> None:
    """A weight at the end of the grid stays there although one step further would make up for others."""
    start, steps = np.array([[-127.0, 1.0, 1.0]]), np.array([[-127.0, 0.6, 0.6]])
    end = descend(start.copy(), steps, np.ones((3, 3)) + 0.01 * np.eye(3))
    assert end.min() >= -127
    assert energy(end, steps, np.ones((3, 3)))[0] < energy(start, steps, np.ones((3, 3)))[0]


def test_constant_inputs_leave_the_nearest_weights() -> None:
    """Without any spread there is nothing to go by: the mean is the bias's business."""
    content = dense_model()
    same = [[np.full((1, 24), 0.5, np.float32)] for _ in range(20)]
    assert chosen(content, same)[0] is None


@pytest.mark.parametrize("kind", ["grouped", "transpose", "multiplier"])
def test_layers_that_it_cannot_handle_are_left(kind: str) -> None:
    """Grouped and transposed convolutions and depthwise multipliers keep their weights."""
    net = nets.Net(seed=8)
    x = net.input(1, 6, 6, 4)
    options: Any
    if kind == "grouped":
        y = net.conv(x, 4, groups=2)
    elif kind == "transpose":
        options = schema.TransposeConvOptionsT()
        options.strideH = options.strideW = 2
        inputs = [
            net.constant([1, 12, 12, 3], "int32"),
            net.constant(net.normal(3, 3, 3, 4)),
            x,
            net.constant(np.ones(3)),
        ]
        y = net.simple("TRANSPOSE_CONV", inputs, (1, 12, 12, 3), ("TransposeConvOptions", options))
        net.codes[-1].version = 3
    else:
        options = schema.DepthwiseConv2DOptionsT()
        options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
        options.depthMultiplier = 2
        inputs = [x, net.constant(RANDOM.normal(0, 1, (1, 3, 3, 8))), net.constant(np.ones(8))]
        y = net.simple("DEPTHWISE_CONV_2D", inputs, (1, 6, 6, 8), ("DepthwiseConv2DOptions", options))
    content = net.finish(y)
    small = nets.quantised(content, nets.samples(content, 10))
    whole = Sliceable(small)
    layer = layer_of(whole.main.ops[0], whole.main.tensors)
    assert layer is not None
    source = whole.main.tensors[layer.source]
    assert source.quant is not None
    given = [quantize(sample[0], source.quant, "int8") for sample in nets.samples(content, 10)]
    round_ = Rounding(content)
    assert round_(layer, whole, given) is None
    assert 0 == round_.layers


def test_layers_of_another_model_are_left() -> None:
    """A layer whose output the float model does not know, or knows as something else, is not touched."""
    inputs = correlated(20, 24)
    whole = Sliceable(nets.quantised(dense_model(), inputs))
    layer = layer_of(whole.main.ops[0], whole.main.tensors)
    assert layer is not None
    given = [as_input(whole.main.tensors[layer.source], sample[0]) for sample in inputs]
    assert Rounding(nets.residual())(layer, whole, given) is None
    assert Rounding(dense_model(outputs=11))(layer, whole, given) is None
    assert Rounding(dense_model())(layer, whole, given) is not None


def test_large_layers_are_left() -> None:
    """A layer with more inputs than the covariance is computed for keeps its nearest weights."""
    content = dense_model(outputs=2, inputs=rounding._MOST_WEIGHTS + 1)
    assert chosen(content, correlated(4, rounding._MOST_WEIGHTS + 1))[0] is None

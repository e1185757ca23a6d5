"""Channel equalisation: the float model computes the same, and quiet channels use more of their tensor's range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import small_nets as nets

from edgekit_convert.refine.equalize import channel_ranges, equalize

#: Factors on the channels of a layer: all but one are quiet.
QUIET = np.float32([1, 0.05, 0.2, 0.01, 0.5, 0.3])


def layer(net: nets.Net, x: int, *, act: int = nets.NONE, quiet: np.ndarray = QUIET) -> int:
    """A convolution whose channels are of very different size."""
    weights = net.normal(len(quiet), 3, 3, net.shape(x)[-1]) * quiet[:, None, None, None]
    return net.conv(x, act=act, weights=weights, bias=net.random.normal(0, 0.3, len(quiet)) * quiet)


def conv_relu_conv() -> bytes:
    """The plain case."""
    net = nets.Net(seed=1)
    return net.finish(net.conv(layer(net, net.input(1, 6, 6, 3), act=nets.RELU), 4))


def depthwise() -> bytes:
    """A depthwise layer reads scaled channels and makes others."""
    net = nets.Net(seed=2)
    a = layer(net, net.input(1, 6, 6, 3), act=nets.RELU)
    b = net.depthwise(a, act=nets.RELU, weights=net.random.normal(0, 1, (1, 3, 3, 6)) * QUIET[::-1])
    return net.finish(net.conv(b, 4, 1))


def residual_add() -> bytes:
    """Two layers into a sum, whose result feeds on twice."""
    net = nets.Net(seed=3)
    x = net.input(1, 6, 6, 3)
    a = layer(net, x, act=nets.RELU)
    b = net.add(a, layer(net, a), act=nets.RELU)
    return net.finish(net.conv(net.add(b, layer(net, b)), 4))


def pools_and_flatten() -> bytes:
    """Pools, padding and a flattened image before a dense layer."""
    net = nets.Net(seed=4)
    a = layer(net, net.input(1, 8, 8, 3), act=nets.RELU)
    b = net.pool("AVERAGE_POOL_2D", net.pad(net.pool("MAX_POOL_2D", a)), 2)
    return net.finish(net.dense(net.reshape(b, 1, 54), 5))


def mean_and_dense() -> bytes:
    """The mean over the image, then dense layers."""
    net = nets.Net(seed=5)
    a = net.mean(layer(net, net.input(1, 6, 6, 3), act=nets.RELU))
    b = net.dense(a, weights=net.normal(6, 6) * QUIET[:, None], bias=0.1 * QUIET, act=nets.RELU)
    return net.finish(net.softmax(net.dense(b, 5)))


def constant_add() -> bytes:
    """A constant for each channel that is added apart from the layer."""
    net = nets.Net(seed=6)
    a = net.add(layer(net, net.input(1, 6, 6, 3)), net.constant(QUIET.reshape(1, 1, 1, 6)), act=nets.RELU)
    return net.finish(net.conv(a, 4))


def prelu() -> bytes:
    """A learned slope for each channel."""
    net = nets.Net(seed=7)
    a = layer(net, net.input(1, 6, 6, 3))
    b = net.simple("PRELU", [a, net.constant(np.linspace(0.1, 0.6, 6).reshape(1, 1, 6))], net.shape(a))
    return net.finish(net.conv(b, 4))


def squeeze() -> bytes:
    """SQUEEZE and RESHAPE between a 1 by 1 image and a dense layer."""
    net = nets.Net(seed=8)
    a = net.pool("AVERAGE_POOL_2D", layer(net, net.input(1, 6, 6, 3), act=nets.RELU), 6)
    b = net.reshape(net.squeeze(a), 1, 1, 1, 6)
    return net.finish(net.dense(net.reshape(b, 1, 6), 5))


SAME: dict[str, Callable[[], bytes]] = {
    item.__name__: item
    for item in (conv_relu_conv, depthwise, residual_add, pools_and_flatten, mean_and_dense, constant_add, prelu, squeeze)
}  # fmt: skip


def equalized(content: bytes, strength: float = 1.0) -> tuple[bytes, int]:
    """Equalised on forty samples."""
    return equalize(content, channel_ranges(content, nets.samples(content, 40, 1)), strength)


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("build", SAME.values(), ids=SAME)
def test_the_float_model_computes_the_same(build: Callable[[], bytes], strength: float) -> None:
    """On new data every output stays, while channels were scaled."""
    content = build()
    scaled, count = equalized(content, strength)
    assert count >= 4
    fresh = nets.samples(content, 10, 2)
    for expected, actual in zip(nets.outputs(content, fresh), nets.outputs(scaled, fresh), strict=True):
        size = np.abs(expected[0]).max()
        np.testing.assert_allclose(actual[0], expected[0], atol=2e-5 * size)


def spread(content: bytes, tensor: int) -> np.ndarray:
    """How far each channel reaches, by what the whole tensor does."""
    low, high = channel_ranges(content, nets.samples(content, 40, 1))[nets.main_of(content).tensors[tensor].name]
    return np.maximum(high / max(high.max(), 1e-9), low / min(low.min(), -1e-9))


@pytest.mark.parametrize("build", SAME.values(), ids=SAME)
def test_quiet_channels_come_to_use_the_range(build: Callable[[], bytes]) -> None:
    """The quietest channels of the first layer reach further, and no tensor's own range grows."""
    content = build()
    scaled, _ = equalized(content)
    main = nets.main_of(content)
    before, after = (channel_ranges(item, nets.samples(content, 40, 1)) for item in (content, scaled))
    for name, (low, high) in before.items():
        assert after[name][0].min() >= low.min() * 1.0001 - 1e-6
        assert after[name][1].max() <= high.max() * 1.0001 + 1e-6
    first = main.ops[0].outputs[0]
    assert np.sort(spread(scaled, first))[:3].mean() > 2 * np.sort(spread(content, first))[:3].mean()


def test_half_the_strength_is_the_root_of_the_factors() -> None:
    """Weights grow by the square root of what they grow by at full strength."""
    content = conv_relu_conv()
    weights = [nets.main_of(item).tensors[nets.main_of(item).ops[0].inputs[1]].array()
               for item in (content, equalized(content)[0], equalized(content, 0.5)[0])]  # fmt: skip
    whole, half = (np.abs(item).max(axis=(1, 2, 3)) / np.abs(weights[0]).max(axis=(1, 2, 3)) for item in weights[1:])
    assert whole.max() > 3
    np.testing.assert_allclose(half, np.sqrt(whole), rtol=1e-5)
    assert whole.max() <= 16.001


def test_relu6_is_respected() -> None:
    """What a fused ReLU6 clips on the calibration data is clipped at the same place afterwards."""
    net = nets.Net(seed=9)
    weights = net.normal(6, 3, 3, 3) * (8 * QUIET[:, None, None, None])
    a = net.conv(net.input(1, 6, 6, 3), act=nets.RELU6, weights=weights, bias=QUIET)
    content = net.finish(net.conv(a, 4))
    scaled, count = equalized(content)
    assert count >= 3
    assert spread(content, a).max() == 1.0
    seen = nets.samples(content, 40, 1)
    for expected, actual in zip(nets.outputs(content, seen), nets.outputs(scaled, seen), strict=True):
        np.testing.assert_allclose(actual[0], expected[0], atol=1e-4)


def untouched_after(net: nets.Net, *outputs: int) -> None:
    """Nothing could be scaled: the file is the same to the byte."""
    content = net.finish(*outputs)
    assert (content, 0) == equalized(content)


def test_the_models_input_and_output_keep_their_scale() -> None:
    """A layer between them has no channels of its own."""
    net = nets.Net(seed=10)
    untouched_after(net, layer(net, net.input(1, 6, 6, 3), act=nets.RELU))


def test_an_output_that_feeds_on_is_not_scaled() -> None:
    """A tensor that the caller reads keeps its values although layers stand on both sides."""
    net = nets.Net(seed=11)
    a = layer(net, net.input(1, 6, 6, 3), act=nets.RELU)
    untouched_after(net, a, net.conv(a, 4))


@pytest.mark.parametrize("stop", ["LOGISTIC", "TANH", "HARD_SWISH", "RELU6"])
def test_what_is_not_homogeneous_stops_it(stop: str) -> None:
    """A factor would not pass through these."""
    net = nets.Net(seed=12)
    a = layer(net, net.input(1, 6, 6, 3))
    untouched_after(net, net.conv(net.simple(stop, [a], net.shape(a)), 4))


def test_one_reader_that_cannot_be_scaled_stops_it() -> None:
    """A layer and a sigmoid read the same tensor."""
    net = nets.Net(seed=13)
    a = layer(net, net.input(1, 6, 6, 3), act=nets.RELU)
    untouched_after(net, net.conv(a, 4), net.simple("LOGISTIC", [a], net.shape(a)))


def test_shared_weights_stay() -> None:
    """Two layers with the same constants: scaling one would change the other."""
    net = nets.Net(seed=14)
    x, y = net.input(1, 6, 6, 3), net.input(1, 6, 6, 3, name="y")
    weights = net.normal(6, 3, 3, 3) * QUIET[:, None, None, None]
    shared = net.constant(weights), net.constant(QUIET)
    a, b = (net.conv(item, shared=shared, act=nets.RELU) for item in (x, y))
    untouched_after(net, net.conv(a, 4), net.conv(b, 4))


def test_shared_readers_stay() -> None:
    """Two tensors are read by the same constants."""
    net = nets.Net(seed=15)
    x = net.input(1, 6, 6, 3)
    shared = net.constant(net.normal(4, 3, 3, 6)), net.constant(np.zeros(4))
    untouched_after(net, *(net.conv(layer(net, x, act=nets.RELU), shared=shared) for _ in range(2)))


def test_grouped_convolutions_are_left_out() -> None:
    """Their channels are not all read by all outputs."""
    net = nets.Net(seed=16)
    a = layer(net, net.input(1, 6, 6, 3), act=nets.RELU)
    untouched_after(net, net.conv(a, 4, groups=2))


def test_a_constant_for_each_place_stops_it() -> None:
    """A factor for each channel fits no constant that two sums share, nor one of another size."""
    net = nets.Net(seed=17)
    a = layer(net, net.input(1, 6, 6, 3))
    untouched_after(net, net.conv(net.add(a, net.constant(np.ones((1, 6, 6, 6)))), 4))


def test_a_computed_slope_is_not_scaled() -> None:
    """PRELU's slope may come from a layer: its channels have nothing to do with the values'."""
    net = nets.Net(seed=18)
    x = net.input(1, 6, 6, 3)
    a, slope = layer(net, x), layer(net, x)
    b = net.simple("PRELU", [a, slope], net.shape(a))
    content = net.finish(net.conv(b, 4), net.conv(slope, 4))
    scaled, _ = equalized(content)
    fresh = nets.samples(content, 5, 2)
    for expected, actual in zip(nets.outputs(content, fresh), nets.outputs(scaled, fresh), strict=True):
        np.testing.assert_allclose(actual[0], expected[0], atol=1e-4)


def test_integers_scalars_and_constants_are_passed_by() -> None:
    """Reshaped token numbers, a scalar sum with a scalar constant, and a copied constant stop nothing else."""
    net = nets.Net(seed=19)
    tokens = net.reshape(net.input(1, 6, dtype="int32", name="tokens"), 2, 3)
    a = layer(net, net.input(1, 6, 6, 3), act=nets.RELU)
    b = net.dense(net.mean(a), 4)
    total = net.add(net.simple("SUM", [b, net.constant([0, 1], "int32")], ()), net.constant(np.ones(())))
    copied = net.reshape(net.constant(np.ones((1, 4))), 1, 2, 2)
    content = net.finish(tokens, total, copied, b)
    samples = [[np.ones((1, 6), np.int32), *sample] for sample in nets.samples(_image_only(), 20)]
    scaled, count = equalize(content, channel_ranges(content, samples), 1.0)
    assert count >= 3
    for expected, actual in zip(nets.outputs(content, samples), nets.outputs(scaled, samples), strict=True):
        for one, other in zip(expected, actual, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-4)


def _image_only() -> bytes:
    net = nets.Net()
    return net.finish(net.pad(net.input(1, 6, 6, 3)))


def test_flattened_images_of_other_shape_are_no_trouble() -> None:
    """Two images of 6 and of 4 channels flattened into one sum have no factor in common."""
    net = nets.Net(seed=20)
    x, y = net.input(1, 2, 2, 3), net.input(1, 2, 3, 3, name="y")
    a = net.reshape(layer(net, x, act=nets.RELU), 1, 24)
    b = net.reshape(layer(net, y, act=nets.RELU, quiet=QUIET[:4]), 1, 24)
    content = net.finish(net.dense(net.add(a, b), 4))
    scaled, _ = equalized(content)
    fresh = nets.samples(content, 5, 2)
    for expected, actual in zip(nets.outputs(content, fresh), nets.outputs(scaled, fresh), strict=True):
        np.testing.assert_allclose(actual[0], expected[0], atol=1e-4)


def test_channel_ranges_hold_zero_and_every_channel() -> None:
    """Each activation but the inputs, over all samples and places, by channel; zero inside."""
    content = conv_relu_conv()
    inputs = nets.samples(content, 7, 3)
    main = nets.main_of(content)
    found = channel_ranges(content, inputs)
    assert {main.tensors[op.outputs[0]].name for op in main.ops} == set(found)
    values = np.concatenate([row[0] for row in nets.outputs(content, inputs)]).reshape(-1, 4)
    low, high = found[main.tensors[main.outputs[0]].name]
    np.testing.assert_allclose(low, np.minimum(values.min(axis=0), 0), rtol=1e-5)
    np.testing.assert_allclose(high, np.maximum(values.max(axis=0), 0), rtol=1e-5)

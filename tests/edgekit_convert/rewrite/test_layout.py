"""TRANSPOSEs of a model whose channels came first: none is left that need not be, and the values stay the same."""

from __future__ import annotations

import channels_first as patterns
import numpy as np
import pytest
from channels_first import FIRST, LAST, PATTERNS, Pattern, conv, network
from delegate_patterns import binary, transpose
from small_nets import RELU, VALID, Net, main_of, outputs, samples

from edgekit.modelfile import ModelFile
from edgekit_convert.rewrite.comparing import difference
from edgekit_convert.rewrite.layout import moved, straightened

#: Float sums in another order.
ROUNDING = 2e-6


def names(content: bytes) -> list[str]:
    """The operators of a model."""
    return [op.name for op in main_of(content).ops]


def changed(before: bytes, after: bytes) -> float:
    """The largest difference of an output; inputs and outputs keep their names and shapes."""
    first, second = ModelFile.read(before), ModelFile.read(after)
    assert (first.inputs, first.outputs) == (second.inputs, second.outputs)
    return apart(before, after)


def apart(before: bytes, after: bytes) -> float:
    """The largest difference of an output."""
    inputs = samples(before, 3)
    flat = [[array for sample in outputs(item, inputs) for array in sample] for item in (before, after)]
    return difference(*flat)


@pytest.mark.parametrize("pattern", [pytest.param(item, id=item.__name__) for item in PATTERNS])
def test_nothing_is_left(pattern: Pattern) -> None:
    """Every operator that can work in either order lets the TRANSPOSEs past it, and they cancel."""
    content = network(pattern)
    result = straightened(content)
    assert "TRANSPOSE" in names(content)
    assert "TRANSPOSE" not in names(result)
    assert changed(content, result) <= ROUNDING


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(item, id=item.__name__)
        for item in (patterns.flattened, patterns.flattened_and_normalised, patterns.flattened_by_dense)
    ],
)
def test_in_front_of_a_dense_layer(pattern: Pattern) -> None:
    """The order goes into the weights, of each layer that reads the flattened image."""
    content = network(pattern, back=False)
    result = straightened(content)
    assert "TRANSPOSE" not in names(result)
    assert changed(content, result) <= ROUNDING


def test_behind_a_dense_layer() -> None:
    """The order goes into its weights, its bias, and constants on the way."""
    content = network(patterns.decoded)
    result = straightened(content)
    assert "TRANSPOSE" not in names(result)
    assert changed(content, result) <= ROUNDING


@pytest.mark.parametrize(
    "pattern",
    [patterns.shuffle, patterns.pixel_shuffle, patterns.pixels_in_two_passes],
    ids=lambda item: item.__name__,
)
def test_what_the_network_needs_stays(pattern: Pattern) -> None:
    """Of a shuffle one TRANSPOSE is left, with all around it gone."""
    content = network(pattern)
    result = straightened(content)
    assert names(result).count("TRANSPOSE") == 1
    assert changed(content, result) <= ROUNDING


def test_windows() -> None:
    """An image is cut into windows and put together with one TRANSPOSE each."""
    content = network(patterns.windows)
    result = straightened(content)
    assert names(result).count("TRANSPOSE") == 2
    assert changed(content, result) <= ROUNDING


def test_attention_behind_convolutions() -> None:
    """Places of an image as rows of channels need no TRANSPOSE where the channels are last."""
    content = network(patterns.attention)
    result = straightened(content)
    assert "TRANSPOSE" not in names(result)
    assert changed(content, result) <= ROUNDING


@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed: int) -> None:
    """Five patterns in random order: none of their TRANSPOSEs is left but what the shuffles need."""
    random = np.random.default_rng(seed)
    found = [*PATTERNS, patterns.shuffle, patterns.pixel_shuffle]
    chosen = [found[place] for place in random.choice(len(found), 5)]
    content = network(*chosen, seed=seed, size=int(random.integers(5, 8)), channels=2 * int(random.integers(1, 4)))
    result = straightened(content)
    needed = sum(item in (patterns.shuffle, patterns.pixel_shuffle) for item in chosen)
    assert needed >= names(result).count("TRANSPOSE")
    assert changed(content, result) <= 1e-5
    main = main_of(result)
    assert len({tensor.name for tensor in main.tensors}) == len(main.tensors)
    read = {index for op in main.ops for index in op.inputs}
    assert {tensor.index for tensor in main.tensors if tensor.data is not None} <= read


def test_the_same_as_with_the_channels_last() -> None:
    """What is left are the operators of the same network written with the channels last, in the same order."""

    def build(*, first: bool) -> bytes:
        net = Net(seed=3)
        x = net.input(1, 8, 8, 3)

        def layer(y: int, out: int, *, stride: int = 1, padding: int = 0) -> int:
            return (conv if first else net_conv)(net, y, out, stride=stride, padding=padding)

        def net_conv(net: Net, y: int, out: int, *, stride: int, padding: int) -> int:
            return net.conv(y, out, stride=stride, padding=padding)

        y = layer(transpose(net, x, *FIRST) if first else x, 8)
        y = net.simple("RELU", [y], net.shape(y))
        shape = (1, 8, 10, 10) if first else (1, 10, 10, 8)
        frame = [[0, 0], [0, 0], [1, 1], [1, 1]] if first else [[0, 0], [1, 1], [1, 1], [0, 0]]
        y = net.simple("PAD", [y, net.constant(frame, "int32")], shape)
        z = layer(y, 8, stride=2, padding=VALID)
        scale = net.normal(8, 1, 1)
        z = binary(net, "MUL", z, net.constant(scale if first else scale.reshape(8)))
        z = binary(net, "ADD", layer(z, 8), z, act=RELU)
        pooled = patterns.mean(net, z, *((2, 3) if first else (1, 2)), keep=False)
        return net.finish(net.softmax(net.dense(pooled, 5)))

    result = straightened(build(first=True))
    assert names(build(first=False)) == names(result)
    assert apart(build(first=False), result) <= ROUNDING


def test_a_model_without_transposes_is_left_alone() -> None:
    """It comes back as the same object."""
    net = Net()
    content = net.finish(net.conv(net.reshape(net.input(1, 36, 4), 1, 6, 6, 4), 4))
    assert straightened(content) is content


def test_transposes_that_are_needed_are_left_alone() -> None:
    """An input with the channels first has to be turned once; what can be done before or after is not moved about."""
    net = Net()
    content = net.finish(net.conv(transpose(net, net.input(1, 4, 6, 6), *LAST), 4))
    assert straightened(content) is content


def test_inputs_and_outputs_with_the_channels_first() -> None:
    """They stay as they are, each with one TRANSPOSE, wherever operators stand in between."""
    net = Net()
    x = net.input(1, 4, 6, 6)
    y = conv(net, patterns.relu(net, conv(net, x, 8)), 4)
    content = net.finish(patterns.relu(net, y))
    result = straightened(content)
    assert (2 * 4 * 6 * 6, 2, 0) == moved(result)
    assert changed(content, result) <= ROUNDING


def test_the_smaller_side_is_turned() -> None:
    """Where two orders have to meet, they meet where the tensor is smallest."""
    net = Net()
    x = net.conv(net.input(1, 8, 8, 4), 4)
    y = patterns.relu(net, transpose(net, x, *FIRST))
    y = patterns.mean(net, y, 3, keep=True)  # an eighth of the size
    y = binary(net, "ADD", y, net.constant(net.normal(1, 4, 8, 1)))
    content = net.finish(net.simple("LOGISTIC", [y], net.shape(y)))
    result = straightened(content)
    assert ((256, 1, 0), (32, 1, 0)) == (moved(content), moved(result))
    assert changed(content, result) <= ROUNDING


def test_a_tensor_that_is_wanted_in_both_orders() -> None:
    """An output in the old order, and a layer behind it in the new: it is turned for the output alone."""
    net = Net()
    x = net.conv(net.input(1, 6, 6, 4), 4)
    y = patterns.relu(net, transpose(net, x, *FIRST))
    content = net.finish(y, conv(net, y, 3))
    result = straightened(content)
    assert (4 * 36 + 3 * 36, 2, 0) == moved(result)
    assert changed(content, result) <= ROUNDING


def test_weights_that_layers_share() -> None:
    """A dense layer that reads something else keeps the shared weights as they are."""
    net = Net()
    x = net.conv(net.input(1, 4, 4, 3), 3)
    shared = net.constant(net.normal(5, 48)), net.constant(net.normal(5))
    flat = net.reshape(transpose(net, x, *FIRST), 1, 48)
    content = net.finish(net.dense(flat, shared=shared), net.dense(net.reshape(x, 1, 48), shared=shared))
    result = straightened(content)
    assert "TRANSPOSE" not in names(result)
    assert changed(content, result) <= ROUNDING


def test_a_flattened_image_that_something_else_reads() -> None:
    """Its values are an output in their order, so the TRANSPOSE stays."""
    net = Net()
    x = net.conv(net.input(1, 4, 4, 3), 3)
    flat = net.reshape(transpose(net, x, *FIRST), 1, 48)
    content = net.finish(net.dense(flat, 5), flat)
    assert straightened(content) is content

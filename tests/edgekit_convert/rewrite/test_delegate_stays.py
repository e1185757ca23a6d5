"""What looks like a pattern of the rewrites for the delegate, and must stay as it is."""

from __future__ import annotations

from collections.abc import Callable

import delegate_patterns as patterns
import numpy as np
import pytest
from delegate_patterns import binary, limit, options, transpose
from small_nets import RELU, SAME, VALID, Net, outputs, samples

from edgekit_convert.rewrite.delegate.draft import applied
from edgekit_convert.rewrite.delegate.rules import RULES

RULE_NAMED = {rule.name: rule for rule in RULES}


def read_twice(net: Net, x: int) -> tuple[int, ...]:
    """An activation whose input something else reads."""
    y = net.conv(x, 4)
    return net.add(net.simple("RELU", [y], net.shape(y)), y), y


def is_output(net: Net, x: int) -> tuple[int, ...]:
    """An activation whose input is an output of the model."""
    y = net.conv(x, 4)
    return net.simple("RELU", [y], net.shape(y)), y


def other_clamp(net: Net, x: int) -> tuple[int, ...]:
    """A clamp that no fused activation is."""
    return (limit(net, "MINIMUM", limit(net, "MAXIMUM", net.conv(x, 4), -2.0), 5.0),)


def maximum_of_two(net: Net, x: int) -> tuple[int, ...]:
    """A MAXIMUM of two activations."""
    y = net.conv(x, 4)
    return (net.simple("MAXIMUM", [y, net.conv(x, 4)], net.shape(y), options("MaximumMinimumOptions")),)


def odd_resize(net: Net, x: int) -> tuple[int, ...]:
    """A resize by one and a half."""
    y = net.simple(
        "RESIZE_NEAREST_NEIGHBOR",
        [x, net.constant([9, 9], "int32")],
        (1, 9, 9, 4),
        options("ResizeNearestNeighborOptions"),
    )
    return (y,)


def aligned_resize(net: Net, x: int) -> tuple[int, ...]:
    """A resize whose corners are aligned: pixels are not all repeated alike."""
    y = net.simple(
        "RESIZE_NEAREST_NEIGHBOR",
        [x, net.constant([12, 12], "int32")],
        (1, 12, 12, 4),
        options("ResizeNearestNeighborOptions", alignCorners=True),
    )
    return (y,)


def backwards(net: Net, x: int) -> tuple[int, ...]:
    """A STRIDED_SLICE of the rows from the last one on."""
    numbers = [net.constant(values, "int32") for values in ([0, -1, 0, 0], [1, -7, 6, 4], [1, -1, 1, 1])]
    return (net.simple("STRIDED_SLICE", [x, *numbers], (1, 6, 6, 4), options("StridedSliceOptions")),)


def beyond_the_end(net: Net, x: int) -> tuple[int, ...]:
    """A STRIDED_SLICE of rows 0 and 5: two blocks of 5 rows are more than there are."""
    numbers = [net.constant(values, "int32") for values in ([0, 0, 0, 0], [1, 6, 6, 4], [1, 5, 1, 1])]
    return (net.simple("STRIDED_SLICE", [x, *numbers], (1, 2, 6, 4), options("StridedSliceOptions")),)


def apart(net: Net, x: int) -> tuple[int, ...]:
    """A GATHER of rows that are not neighbours."""
    return (net.simple("GATHER", [x, net.constant([0, 2], "int32")], (1, 2, 6, 4), options("GatherOptions", axis=1)),)


def two_activations(net: Net, x: int) -> tuple[int, ...]:
    """A BATCH_MATMUL without a constant."""
    return (net.simple("BATCH_MATMUL", [x, x], (1, 6, 6, 6), options("BatchMatMulOptions", adjY=True)),)


def padded_pool(net: Net, x: int) -> tuple[int, ...]:
    """An average pool that divides by fewer values at the edge."""
    kind = options("Pool2DOptions", filterHeight=3, filterWidth=3, strideH=1, strideW=1, padding=SAME)
    return (net.simple("AVERAGE_POOL_2D", [x], (1, 6, 6, 4), kind),)


def pad_before_stride(net: Net, x: int) -> tuple[int, ...]:
    """A frame of 1 before a convolution with stride 2 over an even size: SAME pads at the end only."""
    return (net.conv(net.pad(x), 4, stride=2, padding=VALID),)


def behind_activation(net: Net, x: int) -> tuple[int, ...]:
    """A product behind an activation."""
    return (binary(net, "MUL", net.conv(x, 4, act=RELU), net.constant(2.0)),)


def each_place(net: Net, x: int) -> tuple[int, ...]:
    """A constant with a number for each place."""
    return (binary(net, "ADD", net.conv(x, 4), net.constant(net.normal(1, 6, 6, 4))),)


def one_transpose(net: Net, x: int) -> tuple[int, ...]:
    """A TRANSPOSE that moves values."""
    return (transpose(net, x, 0, 2, 1, 3),)


def other_constants(net: Net, x: int) -> tuple[int, ...]:
    """Two convolutions of the same input by other weights."""
    return (net.add(net.conv(x, 4), net.conv(x, 4)),)


def wanted_reshape(net: Net, x: int) -> tuple[int, ...]:
    """A RESHAPE that a broadcast needs: a number for each row, not for each channel."""
    rows = net.reshape(net.dense(net.mean(x), 6), 1, 6, 1, 1)
    return (binary(net, "MUL", x, rows),)


def spelled_other(net: Net, x: int) -> tuple[int, ...]:
    """A chain that is no known function."""
    y = binary(net, "MUL", net.simple("TANH", [x], net.shape(x)), net.constant(1.3))
    return (binary(net, "ADD", y, net.constant(0.2)),)


def seen_gate(net: Net, x: int) -> tuple[int, ...]:
    """SiLU whose exponential is an output."""
    y = patterns.silu(net, x)
    exponential = next(i for i, item in enumerate(net.tensors) if any(i in op.outputs for op in net.ops[1:2]))
    return y, exponential


def steep(net: Net, x: int) -> tuple[int, ...]:
    """PRELU with slopes above 1."""
    return (net.simple("PRELU", [x, net.constant(np.array([0.5, 2.0, 0.1, 0.2]).reshape(1, 1, 4))], net.shape(x)),)


@pytest.mark.parametrize(
    ("rule", "build"),
    [
        ("fused", read_twice),
        ("fused", is_output),
        ("fused", other_clamp),
        ("fused", maximum_of_two),
        ("nearest", odd_resize),
        ("nearest", aligned_resize),
        ("slices", backwards),
        ("reshapes", backwards),
        ("strides", backwards),
        ("strides", beyond_the_end),
        ("slices", apart),
        ("batch-matmul", two_activations),
        ("average-pool", padded_pool),
        ("pad", pad_before_stride),
        ("affine", behind_activation),
        ("affine", each_place),
        ("transposes", one_transpose),
        ("common", other_constants),
        ("broadcast", wanted_reshape),
        ("spelled-out", spelled_other),
        ("spelled-out", seen_gate),
        ("leaky", steep),
    ],
)
def test_patterns_that_stay(rule: str, build: Callable[[Net, int], tuple[int, ...]]) -> None:
    """The same bytes come back, and the model is a sound one."""
    net = Net()
    content = net.finish(*build(net, net.input(1, 6, 6, 4)))
    assert len(outputs(content, samples(content, 1))[0]) > 0
    assert applied(content, RULE_NAMED[rule].find) == (content, 0)

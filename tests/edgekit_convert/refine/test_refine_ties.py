"""Tensors that share a scale: the groups, where values enter them, and that the quantizer ties the same ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import small_nets as nets
from ai_edge_litert import schema_py_generated as schema

from edgekit_convert.quantize import quantize
from edgekit_convert.refine.ties import copied, origins, tied


def groups_of(content: bytes) -> set[tuple[int, ...]]:
    """Groups of more than one tensor."""
    return {tuple(group) for group in tied(nets.main_of(content)) if len(group) > 1}


def test_concat_ties_its_inputs_and_its_output() -> None:
    """Two layers into a concat share one range, and both are where values enter it."""
    net = nets.Net()
    x = net.input(1, 4, 4, 2)
    a, b = net.conv(x, 3), net.conv(x, 2)
    c = net.concat(a, b)
    content = net.finish(c)
    assert {(a, b, c)} == groups_of(content)
    assert [a, b] == origins(nets.main_of(content), [a, b, c])


def test_a_chain_of_copies_is_one_group_with_one_origin() -> None:
    """Pad, max-pool and reshapes hand values on; the layer before them is the only origin."""
    net = nets.Net()
    a = net.conv(net.input(1, 4, 4, 2), 3)
    b = net.pad(a)
    c = net.pool("MAX_POOL_2D", b, 2)
    d = net.reshape(c, 1, 27)
    e = net.reshape(d, 1, 3, 9)
    content = net.finish(e)
    assert {(a, b, c, d, e)} == groups_of(content)
    assert [a] == origins(nets.main_of(content), [a, b, c, d, e])


def test_a_split_ties_all_parts_and_not_its_axis() -> None:
    """The axis of a SPLIT is its first input and no value."""
    net = nets.Net()
    x = net.input(1, 6)
    y, axis = net.dense(x, 6), net.constant(1, "int32")
    a, b = net.result((1, 3)), net.result((1, 3))
    options = schema.SplitOptionsT()
    options.numSplits = 2
    net.op("SPLIT", [axis, y], [a, b], ("SplitOptions", options))
    content = net.finish(a, b)
    assert {(y, a, b)} == groups_of(content)
    assert [y] == origins(nets.main_of(content), [y, a, b])


def test_layers_and_sums_are_free() -> None:
    """What computes values gives its output a range of its own, and every float activation is in exactly one group."""
    content = nets.residual()
    main = nets.main_of(content)
    groups = tied(main)
    flat = [index for group in groups for index in group]
    assert sorted(flat) == sorted(set(flat))
    assert {*main.inputs, *(index for op in main.ops for index in op.outputs)} == set(flat)
    by_name = {op.name: op.outputs[0] for op in main.ops}
    pooled = next(group for group in groups if by_name["MAX_POOL_2D"] in group)
    assert [by_name["ADD"], by_name["MAX_POOL_2D"], by_name["RESHAPE"]] == pooled


def test_copies_of_integers_are_no_group() -> None:
    """A RESHAPE of token numbers has no range."""
    net = nets.Net()
    x = net.input(1, 6, dtype="int32")
    y = net.reshape(x, 2, 3)
    assert [] == tied(nets.main_of(net.build({"x": x}, {"y": y})))


def _maximum(net: nets.Net, a: int) -> int:
    options = ("MaximumMinimumOptions", schema.MaximumMinimumOptionsT())
    return net.simple("MAXIMUM", [a, net.conv(a, 3)], net.shape(a), options)


def _transpose(net: nets.Net, a: int) -> int:
    options = ("TransposeOptions", schema.TransposeOptionsT())
    return net.simple("TRANSPOSE", [a, net.constant([0, 2, 1, 3], "int32")], (1, 4, 4, 3), options)


def _gather(net: nets.Net, a: int) -> int:
    options = schema.GatherOptionsT()
    options.axis = 1
    return net.simple("GATHER", [a, net.constant([0, 2], "int32")], (1, 2, 4, 3), ("GatherOptions", options))


def _strided(net: nets.Net, a: int) -> int:
    ends = [net.constant(values, "int32") for values in ([0, 0, 0, 0], [1, 2, 4, 3], [1, 1, 1, 1])]
    options = ("StridedSliceOptions", schema.StridedSliceOptionsT())
    return net.simple("STRIDED_SLICE", [a, *ends], (1, 2, 4, 3), options)


COPIES: dict[str, Callable[[nets.Net, int], int]] = {
    "CONCATENATION": lambda net, a: net.concat(a, net.conv(a, 2)),
    "PAD": lambda net, a: net.pad(a),
    "MAX_POOL_2D": lambda net, a: net.pool("MAX_POOL_2D", a),
    "AVERAGE_POOL_2D": lambda net, a: net.pool("AVERAGE_POOL_2D", a),
    "RESHAPE": lambda net, a: net.reshape(a, 1, 48),
    "MAXIMUM": _maximum,
    "TRANSPOSE": _transpose,
    "GATHER": _gather,
    "STRIDED_SLICE": _strided,
}


@pytest.mark.parametrize("name", COPIES)
def test_the_quantizer_ties_the_same_tensors(name: str) -> None:
    """The int8 kernel gets one scale whatever ranges were given; with one range for each group nothing is converted between."""
    net = nets.Net()
    x = net.input(1, 4, 4, 2)
    a = net.conv(x, 3)
    content = net.finish(net.add(*[COPIES[name](net, a)] * 2))
    main = nets.main_of(content)
    apart = {main.tensors[index].name: (-1.0 - index / 50, 1.0) for group in tied(main) for index in group}
    alike = {main.tensors[index].name: (-1.0 - group[0] / 50, 1.0) for group in tied(main) for index in group}
    for ranges in (apart, alike):
        result = nets.main_of(quantize(content, ranges, "int8"))
        operator = next(op for op in result.ops if op.name == name)
        assert copied(operator)
        quants = {result.tensors[index].quant for index in (*copied(operator), *operator.outputs)}
        assert len(quants) == 1
    assert [op.name for op in main.ops] == [op.name for op in result.ops]
    quants = {tensor.name: tensor.quant for tensor in result.tensors}
    seen = [{quants[main.tensors[index].name] for index in group} for group in tied(main)]
    assert [1] * len(seen) == [len(group) for group in seen]
    assert len(seen) == len(set.union(*seen))  # what is not tied may have a scale of its own


def test_operators_that_compute_are_not_in_the_table() -> None:
    """Sums, means and layers take any output scale in int8, and are not said to copy."""
    net = nets.Net()
    x = net.input(1, 4, 4, 2)
    content = net.finish(net.dense(net.mean(net.add(net.conv(x, 3), net.depthwise(net.conv(x, 3)))), 4))
    main = nets.main_of(content)
    assert [()] * len(main.ops) == [copied(op) for op in main.ops]
    ranges = {main.tensors[index].name: (-1.0 - index / 50, 1.0) for group in tied(main) for index in group}
    result = nets.main_of(quantize(content, ranges, "int8"))
    assert len(result.ops) == len({result.tensors[op.outputs[0]].quant for op in result.ops})

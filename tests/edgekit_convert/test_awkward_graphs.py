"""Graphs of unusual form go through the whole conversion, refinements included, and come out right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import small_nets as nets
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array

BOOL = 6  # schema.fbs, enum TensorType


def _integer(net: nets.Net, name: str, inputs: list[int], shape: tuple[int, ...], kind: str, options: Any) -> int:
    y = net.result(shape, "int32")
    net.op(name, inputs, [y], (kind, options))
    return y


def dense_only() -> bytes:
    """Nothing but dense layers, no softmax."""
    net = nets.Net(seed=1)
    return net.finish(net.dense(net.dense(net.input(1, 10), 8, act=nets.RELU), 3))


def sequence() -> bytes:
    """A convolution over time: a sequence made an image of one row, and back."""
    net = nets.Net(seed=2)
    x = net.input(1, 16, 4)
    a = net.conv(net.reshape(x, 1, 1, 16, 4), act=nets.RELU, weights=net.normal(6, 1, 3, 4))
    return net.finish(net.dense(net.reshape(net.reshape(a, 1, 16, 6), 1, 96), 3))


def class_and_scores() -> bytes:
    """Scores, and the number of the best."""
    net = nets.Net(seed=3)
    scores = net.dense(net.dense(net.input(1, 10), 8, act=nets.RELU), 4)
    options = schema.ArgMaxOptionsT()
    options.outputType = 2
    best = _integer(net, "ARG_MAX", [scores, net.constant(-1, "int32")], (1,), "ArgMaxOptions", options)
    return net.finish(scores, best)


def class_alone() -> bytes:
    """Only the number of the best."""
    net = nets.Net(seed=4)
    scores = net.dense(net.dense(net.input(1, 10), 8, act=nets.RELU), 4)
    options = schema.ArgMaxOptionsT()
    options.outputType = 2
    return net.finish(_integer(net, "ARG_MAX", [scores, net.constant(-1, "int32")], (1,), "ArgMaxOptions", options))


def embedding() -> bytes:
    """Token numbers, reshaped, then looked up in a table."""
    net = nets.Net(seed=5)
    tokens = net.reshape(net.input(1, 6, dtype="int32"), 2, 3)
    vectors = net.simple(
        "GATHER", [net.constant(net.normal(20, 8)), tokens], (2, 3, 8), ("GatherOptions", schema.GatherOptionsT())
    )
    return net.finish(net.dense(net.reshape(vectors, 1, 48), 3))


def constant_output() -> bytes:
    """One output is a constant of the file."""
    net = nets.Net(seed=6)
    return net.finish(net.dense(net.input(1, 8), 4), net.constant([[1, 2, 3]]))


def input_as_output() -> bytes:
    """The input is handed through."""
    net = nets.Net(seed=7)
    x = net.input(1, 8)
    y = net.dense(x, 4)
    return net.build({"x": x}, {"y": y, "same": x})


def one_output_twice() -> bytes:
    """Two names for one tensor."""
    net = nets.Net(seed=8)
    x = net.input(1, 8)
    y = net.dense(x, 4)
    return net.build({"x": x}, {"y": y, "again": y})


def scalar() -> bytes:
    """The only output is a scalar."""
    net = nets.Net(seed=9)
    options = schema.ReducerOptionsT()
    options.keepDims = False
    y = net.dense(net.input(1, 8), 4, act=nets.RELU)
    return net.finish(net.simple("SUM", [y, net.constant([0, 1], "int32")], (), ("ReducerOptions", options)))


def unread_part() -> bytes:
    """Only two of three parts of a SPLIT are read, as in the first step of a recurrent layer."""
    net = nets.Net(seed=10)
    whole = net.dense(net.input(1, 8), 6)
    parts = [net.result((1, 2)) for _ in range(3)]
    options = schema.SplitOptionsT()
    options.numSplits = 3
    net.op("SPLIT", [net.constant(1, "int32"), whole], parts, ("SplitOptions", options))
    return net.finish(net.dense(net.add(parts[0], parts[2]), 4))


def dead_layer() -> bytes:
    """A layer that never fires on the data, and a live one beside it."""
    net = nets.Net(seed=11)
    x = net.input(1, 8)
    dead = net.dense(x, act=nets.RELU, weights=net.normal(6, 8) / 100, bias=-np.ones(6) * 9)
    return net.finish(net.add(net.dense(dead, 4), net.dense(x, 4)))


def compared_output() -> bytes:
    """An output is read by an operator that has no int8 form as well."""
    net = nets.Net(seed=12)
    y = net.dense(net.input(1, 8), 4)
    return net.finish(net.dense(net.simple("ELU", [y], (1, 4)), 3), y)


def transposed() -> bytes:
    """A transposed convolution."""
    net = nets.Net(seed=13)
    a = net.conv(net.input(1, 6, 6, 3), 4, stride=2, act=nets.RELU)
    options = schema.TransposeConvOptionsT()
    options.strideH = options.strideW = 2
    inputs = [net.constant([1, 6, 6, 3], "int32"), net.constant(net.normal(3, 3, 3, 4)), a, net.constant(net.normal(3))]
    y = net.simple("TRANSPOSE_CONV", inputs, (1, 6, 6, 3), ("TransposeConvOptions", options))
    net.codes[-1].version = 3
    return net.finish(y)


def product() -> bytes:
    """A product of two activations, as in attention."""
    net = nets.Net(seed=14)
    x = net.input(1, 12)
    a, b = net.reshape(net.dense(x, 12), 1, 3, 4), net.reshape(net.dense(x, 12), 1, 4, 3)
    options = schema.BatchMatMulOptionsT()
    y = net.simple("BATCH_MATMUL", [a, b], (1, 3, 3), ("BatchMatMulOptions", options))
    return net.finish(net.softmax(y))


def shared_layer() -> bytes:
    """One layer for two inputs."""
    net = nets.Net(seed=15)
    x, y = net.input(1, 8), net.input(1, 8, name="y")
    layer = net.constant(net.normal(6, 8)), net.constant(net.random.normal(0, 1, 6))
    return net.finish(net.dense(net.add(net.dense(x, shared=layer), net.dense(y, shared=layer)), 4))


def chosen_inside(net: nets.Net, x: int) -> int:
    """Sum over the values above one; how many they are depends on them."""
    condition = net.result((1, 6), "int32")
    net.tensors[condition].type = BOOL
    net.op("GREATER", [x, net.constant([[0.5]])], [condition], ("GreaterOptions", schema.GreaterOptionsT()))
    places = net.result((1, 2), "int64")
    net.op("WHERE", [condition], [places], ("WhereOptions", schema.WhereOptionsT()))
    return net.simple("GATHER_ND", [x, places], (1,), ("GatherNdOptions", schema.GatherNdOptionsT()))


def changing_size() -> bytes:
    """Sizes inside depend on the values; the output's does not."""
    net = nets.Net(seed=16)
    y = net.dense(net.input(1, 8), 6)
    options = schema.ReducerOptionsT()
    options.keepDims = False
    axes = net.constant([0], "int32")
    total = net.simple("SUM", [chosen_inside(net, y), axes], (), ("ReducerOptions", options))
    return net.finish(net.dense(net.add(y, total), 4))


GRAPHS: dict[str, Callable[[], bytes]] = {
    item.__name__: item
    for item in (
        dense_only, sequence, class_and_scores, class_alone, embedding, constant_output, input_as_output, one_output_twice,
        scalar, unread_part, dead_layer, compared_output, transposed, product, shared_layer, changing_size,
        models.add_two_inputs,
    )
}  # fmt: skip


def data_for(content: bytes, count: int) -> dict[str, Array]:
    """Normally distributed values, or token numbers."""
    random = np.random.default_rng(2)
    return {
        spec.name: random.integers(0, 20, (count, *spec.shape[1:])).astype(np.int32)
        if spec.dtype == "int32"
        else random.normal(0.3, 1, (count, *spec.shape[1:])).astype(np.float32)
        for spec in ModelFile.read(content).inputs
    }


@pytest.mark.parametrize("build", GRAPHS.values(), ids=GRAPHS)
def test_awkward_graphs_convert(build: Callable[[], bytes]) -> None:
    """At the highest effort, with few samples, the file passes its own proof and is near to the float model."""
    content = build()
    result = edgekit.convert(content, data_for(content, 30), effort="high")
    assert result.report.passed
    sqnr = result.report.on["calibration"].sqnr_db
    scores = [spec for spec in ModelFile.read(content).outputs if spec.dtype == "float32"]
    assert not scores or sqnr is None or sqnr.value > 25  # the energy of class numbers means nothing
    assert {"int8", "int32"} >= {spec.dtype for spec in result.model.inputs}


@pytest.mark.parametrize("effort", ["default", "high"])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_few_samples_convert(count: int, effort: str) -> None:
    """One sample is enough for every refinement to run."""
    content = nets.residual()
    result = edgekit.convert(content, data_for(content, count), effort=effort)
    assert result.report.passed


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_data_convert(value: float) -> None:
    """Data that never change leave activations without any spread; the file runs all the same."""
    content = nets.residual()
    shape = ModelFile.read(content).inputs[0].shape
    result = edgekit.convert(content, np.full((20, *shape[1:]), value, np.float32), effort="high")
    assert result.report.passed


def test_a_dead_tensor_has_a_usable_scale() -> None:
    """Its range would give a scale that XNNPACK refuses; the zero stands for zero."""
    content = dead_layer()
    result = edgekit.convert(content, data_for(content, 30), effort="fast")
    main = result.model.graph.main
    name = nets.main_of(content).tensors[nets.main_of(content).ops[0].outputs[0]].name
    quant = next(tensor.quant for tensor in main.tensors if tensor.name == name)
    assert quant is not None
    assert 1e-4 < quant.scales[0] < 1


def test_outputs_are_integers_although_a_float_operator_reads_them() -> None:
    """The caller gets int8, the operator inside its floats."""
    content = compared_output()
    result = edgekit.convert(content, data_for(content, 30), effort="fast")
    assert ["int8", "int8"] == [spec.dtype for spec in result.model.outputs]
    assert "DEQUANTIZE" in {op.name for op in result.model.graph.main.ops}
    wide = edgekit.convert(content, data_for(content, 30), effort="fast", io="float32")
    assert ["float32", "float32"] == [spec.dtype for spec in wide.model.outputs]

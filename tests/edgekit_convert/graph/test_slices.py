"""Parts of a graph compute what the whole graph computes there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import small_nets as nets
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import ConversionError
from edgekit_convert.graph.slices import Runner, Sliceable, activations, consumers, producers


def two_outputs() -> bytes:
    """Two inputs, a shared layer, a computed constant, and two outputs of which one feeds on."""
    net = nets.Net(seed=2)
    x, y = net.input(1, 8), net.input(1, 8, name="y")
    weights = net.constant(net.normal(6, 8)), net.constant(net.random.normal(0, 1, 6))
    a, b = net.dense(x, shared=weights), net.dense(y, shared=weights)
    total = net.add(a, b)
    plain = net.dense(total, weights=net.normal(4, 6), bias=np.zeros(4))
    net.ops[-1].inputs[2] = -1  # no bias
    return net.finish(total, plain)


def branches() -> bytes:
    """An image model with a concat of three branches, a skip connection and a MEAN with constant axes."""
    net = nets.Net(seed=3)
    x = net.input(1, 6, 6, 3)
    a = net.conv(x, 4, act=nets.RELU)
    joined = net.concat(a, net.conv(a, 2), net.pool("MAX_POOL_2D", net.pad(a, 3), 2))
    return net.finish(net.softmax(net.dense(net.mean(net.add(net.conv(joined, 10, 1), joined)), 5)))


MODELS: dict[str, Callable[[], bytes]] = {
    "residual": nets.residual, "two outputs": two_outputs, "branches": branches, "dense": models.dense_float,
}  # fmt: skip


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_what_leads_and_what_follows_make_the_whole(build: Callable[[], bytes]) -> None:
    """Cut at any activation, the first part's values put into the second give the whole model's outputs."""
    content = build()
    whole = Sliceable(content)
    main = whole.main
    sample = nets.samples(content, 1)[0]
    expected = dict(zip(main.outputs, Runner(content, delegate=False).run(sample), strict=True))
    for root in activations(main):
        suffix = whole.suffix([root], list(main.outputs))
        assert suffix is not None
        assert suffix.inputs[0] == root
        computed = [index for index in suffix.inputs if index not in main.inputs]
        prefix = whole.cut(whole.leading(suffix.inputs), computed, main.inputs)
        values = dict(zip(main.inputs, sample, strict=True))
        values.update(zip(prefix.outputs, Runner(prefix.content, delegate=False).run(sample), strict=True))
        actual = Runner(suffix.content, delegate=False).run([values[index] for index in suffix.inputs])
        for index, value in zip(suffix.outputs, actual, strict=True):
            np.testing.assert_array_equal(value, expected[index])


def test_a_given_value_is_used_and_not_computed_again() -> None:
    """With two roots of which one follows from the other, both are inputs, and what computes a root is left out."""
    content = nets.residual()
    whole = Sliceable(content)
    first, second = whole.main.ops[0].outputs[0], whole.main.ops[2].outputs[0]
    suffix = whole.suffix([second, first], list(whole.main.outputs))
    assert suffix is not None
    assert (second, first) == suffix.inputs
    zeros = [np.zeros(whole.main.tensors[index].shape, np.float32) for index in suffix.inputs]
    [given] = Runner(suffix.content, delegate=False).run(zeros)
    dense = whole.main.ops[-2]
    logits = whole.main.tensors[dense.inputs[2]].array()  # nothing but the last bias is left of zeros
    np.testing.assert_allclose(given[0], np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)


def test_results_that_do_not_follow_are_left_out() -> None:
    """What does not depend on the roots is no output, and a cut without any result is none."""
    content = two_outputs()
    whole = Sliceable(content)
    total, plain = whole.main.outputs
    suffix = whole.suffix([plain], [total, plain])
    assert suffix is not None
    assert (plain,) == suffix.outputs
    assert whole.suffix([plain], [total]) is None


def test_changed_constants_are_in_later_cuts_only() -> None:
    """A cut made before a change keeps its values; one made afterwards, and ``constant``, have the new ones."""
    content = models.dense_float()
    whole = Sliceable(content)
    dense = whole.main.ops[0]
    before = whole.cut([0], dense.outputs).content
    whole.set_constant(dense.inputs[2], np.full(4, 7, np.float32))
    zeros = [[np.zeros((1, 8), np.float32)]]
    np.testing.assert_array_equal(np.full((1, 4), 7), nets.outputs(whole.cut([0], dense.outputs).content, zeros)[0][0])
    np.testing.assert_array_equal(whole.main.tensors[dense.inputs[2]].array(), nets.outputs(before, zeros)[0][0][0])
    np.testing.assert_array_equal(np.full(4, 7), whole.constant(dense.inputs[2]))


def test_a_shared_constant_changes_for_one_tensor_alone() -> None:
    """Two tensors with the same bytes: giving one other values leaves the other as it is."""
    net = nets.Net()
    x = net.input(1, 4)
    a, b = net.constant([1, 2, 3, 4]), net.constant([5, 6, 7, 8])
    net.tensors[b].buffer = net.tensors[a].buffer
    content = net.finish(net.add(net.add(x, a), b))
    whole = Sliceable(content)
    whole.set_constant(a, np.zeros(4, np.float32))
    cut = whole.cut([0, 1], whole.main.outputs)
    [[actual]] = nets.outputs(cut.content, [[np.zeros((1, 4), np.float32)]])
    np.testing.assert_array_equal([[1, 2, 3, 4]], actual)


def test_a_state_is_refused_with_a_reason() -> None:
    """An operator that keeps a value between runs cannot be run alone, and the message says why."""
    net = nets.Net()
    x = net.input(1, 4)
    features, time = net.constant(net.normal(6, 4)), net.constant(net.normal(6, 5))
    bias, state = net.constant(np.ones(3)), net.tensor("state", (1, 30))
    net.tensors[state].isVariable = True
    options = schema.SVDFOptionsT()
    options.rank = 2
    y = net.simple("SVDF", [x, features, time, bias, state], (1, 3), ("SVDFOptions", options))
    content = net.build({"x": x}, {"y": y})
    cut = Sliceable(content).cut([0], [y], [x])
    with pytest.raises(ConversionError, match="keeps values between runs"):
        Runner(cut.content).run([np.zeros((1, 4), np.float32)])


def test_runner_gives_arrays_for_scalars_and_copies() -> None:
    """A scalar output is an array of rank 0; results do not change with the next run."""
    net = nets.Net()
    x = net.input(1, 4)
    options = schema.ReducerOptionsT()
    options.keepDims = False
    content = net.finish(net.simple("SUM", [x, net.constant([0, 1], "int32")], (), ("ReducerOptions", options)))
    runner = Runner(content)
    [first] = runner.run([np.ones((1, 4), np.float32)])
    runner.run([np.zeros((1, 4), np.float32)])
    assert isinstance(first, np.ndarray)
    assert ((), 4.0) == (first.shape, float(first))


def test_unknown_operators_are_refused_as_this_packages_error() -> None:
    """The interpreter's own exception does not get out."""
    with pytest.raises(ConversionError, match="cannot run the float model"):
        Runner(models.custom_op())


def test_producers_consumers_activations() -> None:
    """Who computes and who reads a tensor; an operator that reads it twice is one reader; integers are no activations."""
    net = nets.Net()
    x = net.input(1, 4)
    y = net.add(x, x)
    z = net.result((1, 4), "int32")
    net.op("CAST", [y], [z])
    main = nets.main_of(net.finish(y, z))
    assert {y: "ADD", z: "CAST"} == {index: op.name for index, op in producers(main).items()}
    assert {x: ["ADD"], y: ["CAST"]} == {index: [op.name for op in ops] for index, ops in consumers(main).items()}
    assert [x, y] == activations(main)
    assert [y] == activations(main, {y, z})


def test_constants_may_lie_behind_the_flatbuffer() -> None:
    """The same values come out, large constants are not in the flatbuffer, and small ones are."""
    net = nets.Net(seed=5)
    content = net.finish(net.dense(net.dense(net.dense(net.input(1, 64), 64), 48), 3))
    whole = Sliceable(content)
    ops = range(len(whole.main.ops))
    inside, behind = (whole.cut(ops, whole.main.outputs, whole.main.inputs, behind=item) for item in (False, True))
    sample = nets.samples(content, 1)[0]
    np.testing.assert_array_equal(Runner(inside.content).run(sample), Runner(behind.content).run(sample))
    buffers = schema.ModelT.InitFromPackedBuf(behind.content, 0).buffers
    assert [(64 * 64 * 4, False), (64 * 48 * 4, False)] == [
        (int(item.size), item.data is not None) for item in buffers if item.size
    ]
    again = Sliceable(behind.content)  # and it can be read and cut again
    np.testing.assert_array_equal(
        Runner(again.cut(ops, again.main.outputs, again.main.inputs).content).run(sample),
        Runner(inside.content).run(sample),
    )

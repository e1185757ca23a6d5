"""Changing a graph: order, names, outputs of the model, and what is left over."""

from __future__ import annotations

import numpy as np
from delegate_patterns import binary, transpose
from small_nets import Net, main_of, outputs, samples

from edgekit_convert.rewrite.delegate import affine, repeated, reshapes, transposes
from edgekit_convert.rewrite.delegate.draft import Draft, Match, applied


def test_new_operators_stand_behind_what_they_read() -> None:
    """In whatever order they were added."""
    net = Net()
    content = net.finish(net.conv(net.conv(net.input(1, 6, 6, 4), 4), 3))
    draft = Draft(content)
    op = draft.ops[0]
    draft.begin(Match((op,), lambda draft: None))
    half, double = draft.activation(op.outputs[0], "half"), draft.activation(op.outputs[0], "double")
    source, two = op.inputs[0], draft.constant(op.inputs[0], "two", np.array(2, np.float32))
    draft.rewire(op, inputs=[double, *op.inputs[1:]])
    draft.add("MUL", [half, two], double)
    draft.add("DIV", [source, two], half)
    result = draft.finish()
    assert [item.name for item in main_of(result).ops] == ["DIV", "MUL", "CONV_2D", "CONV_2D"]
    inputs = samples(content, 2)
    np.testing.assert_array_equal(outputs(content, inputs), outputs(result, inputs))


def test_an_output_keeps_its_name() -> None:
    """Where the last operator goes, the one before it gives the output."""
    net = Net()
    y = net.conv(net.input(1, 6, 6, 4), 4)
    content = net.finish(net.reshape(y, 1, 6, 6, 4))
    result, count = applied(content, reshapes.find)
    before, after = main_of(content), main_of(result)
    assert count == 1
    assert [op.name for op in after.ops] == ["CONV_2D"]
    assert after.tensors[after.outputs[0]].name == before.tensors[before.outputs[0]].name


def test_what_only_passes_an_input_on_stays() -> None:
    """An input of the model cannot be its output under another name."""
    net = Net()
    x = net.input(1, 6, 6, 4)
    content = net.finish(net.reshape(x, 1, 6, 6, 4))
    assert applied(content, reshapes.find) == (content, 0)


def test_two_outputs_that_are_the_same() -> None:
    """Of two operators that only pass a tensor on to an output each, one stays."""
    net = Net()
    y = net.conv(net.input(1, 6, 6, 4), 4)
    content = net.finish(net.reshape(y, 1, 6, 6, 4), net.reshape(y, 1, 6, 6, 4))
    result, _ = applied(content, reshapes.find)
    assert [op.name for op in main_of(result).ops] == ["CONV_2D", "RESHAPE"]
    inputs = samples(content, 2)
    np.testing.assert_array_equal(outputs(content, inputs), outputs(result, inputs))


def test_a_tensor_that_others_read_is_left_to_them() -> None:
    """Two TRANSPOSEs go, and the one between stays for its other reader."""
    net = Net()
    x = net.conv(net.input(1, 6, 6, 4), 4)
    y = transpose(net, x, 0, 3, 1, 2)
    z = binary(net, "ADD", transpose(net, y, 0, 2, 3, 1), net.constant(1.0))
    content = net.finish(y, z)
    result, count = applied(content, transposes.find)
    assert count == 1
    assert [op.name for op in main_of(result).ops] == ["CONV_2D", "TRANSPOSE", "ADD"]
    inputs = samples(content, 2)
    for before, after in zip(outputs(content, inputs), outputs(result, inputs), strict=True):
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)


def test_weights_that_two_layers_share() -> None:
    """Folding into one of them leaves the other's."""
    net = Net()
    x = net.input(1, 6, 6, 4)
    shared = net.constant(net.normal(4, 3, 3, 4)), net.constant(net.normal(4))
    content = net.finish(binary(net, "MUL", net.conv(x, shared=shared), net.constant(3.0)), net.conv(x, shared=shared))
    result, count = applied(content, affine.find)
    assert count == 1
    assert [op.name for op in main_of(result).ops] == ["CONV_2D", "CONV_2D"]
    inputs = samples(content, 2)
    np.testing.assert_allclose(outputs(content, inputs), outputs(result, inputs), atol=1e-5)


def test_constants_that_nothing_reads_go() -> None:
    """The weights of the layer that was computed twice are in the file once."""
    net = Net()
    x = net.input(1, 6, 6, 4)
    weights, bias = net.normal(64, 3, 3, 4), net.normal(64)
    content = net.finish(net.add(net.conv(x, weights=weights, bias=bias), net.conv(x, weights=weights, bias=bias)))
    result, _ = applied(content, repeated.find)
    assert len(content) - len(result) > weights.nbytes

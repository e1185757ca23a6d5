"""The walk over the int8 graph: each layer's mean comes nearer to the float layer's, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import small_nets as nets
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import ConversionError
from edgekit.graph import Subgraph
from edgekit.tensors import Array, dequantize
from edgekit_convert.graph.slices import Runner, Sliceable
from edgekit_convert.quantize import quantize
from edgekit_convert.refine.judge import as_input
from edgekit_convert.refine.streaming import Layer, clipped_means, grid_ends, layer_of, walk


def layers(content: bytes) -> list[Layer]:
    """The layers that a walk meets."""
    main = nets.main_of(content)
    return [layer for layer in (layer_of(op, main.tensors) for op in main.ops) if layer is not None]


def means(content: bytes, inputs: nets.Samples) -> dict[str, Array]:
    """Real mean of each layer's output by channel, as the whole int8 graph computes it."""
    main, whole = nets.main_of(content), Sliceable(content)
    shown = [layer.result for layer in layers(content)]
    runner = Runner(whole.cut(range(len(main.ops)), shown, main.inputs).content)
    rows = [
        runner.run(as_input(main.tensors[index], value) for index, value in zip(main.inputs, sample, strict=True))
        for sample in inputs
    ]
    found = {}
    for place, index in enumerate(shown):
        quant = main.tensors[index].quant
        assert quant is not None
        real = np.stack([dequantize(row[place], quant) for row in rows])
        found[main.tensors[index].name] = real.reshape(-1, real.shape[-1]).mean(axis=0)
    return found


def errors(content: bytes, float_model: bytes, inputs: nets.Samples) -> dict[str, Array]:
    """Absolute difference of each layer's mean to the clipped float mean, by output name."""
    main = nets.main_of(content)
    grids = {layer.name: main.tensors[layer.result] for layer in layers(content)}
    targets = clipped_means(float_model, grids, inputs)
    return {name: np.abs(mean - targets[name]) for name, mean in means(content, inputs).items()}


def plain() -> bytes:
    """Dense layers with inputs far from zero, so that rounding shifts means."""
    net = nets.Net(seed=1)
    a = net.dense(net.input(1, 16), 12, act=nets.RELU)
    return net.finish(net.dense(net.dense(a, 12, act=nets.RELU), 4))


def two_sided() -> bytes:
    """Two inputs and three outputs, one of them also read by a layer."""
    net = nets.Net(seed=2)
    x, y = net.input(1, 8), net.input(1, 6, name="y")
    a, b = net.dense(x, 6), net.dense(y, 6, act=nets.RELU)
    c = net.add(a, b)
    return net.finish(c, net.dense(c, 4), net.softmax(net.dense(b, 3)))


def tap_model() -> bytes:
    """A transposed convolution between convolutions."""
    net = nets.Net(seed=3)
    a = net.conv(net.input(1, 6, 6, 3), 4, stride=2, act=nets.RELU)
    options = schema.TransposeConvOptionsT()
    options.strideH = options.strideW = 2
    inputs = [net.constant([1, 6, 6, 3], "int32"), net.constant(net.normal(3, 3, 3, 4)), a, net.constant(net.normal(3))]
    b = net.simple("TRANSPOSE_CONV", inputs, (1, 6, 6, 3), ("TransposeConvOptions", options))
    net.codes[-1].version = 3
    return net.finish(net.conv(b, 2))


MODELS: dict[str, Callable[[], bytes]] = {
    "plain": plain, "residual": nets.residual, "two sided": two_sided, "transposed": tap_model,
}  # fmt: skip


def shifted(content: bytes, count: int, seed: int = 1) -> nets.Samples:
    """Inputs with a mean far from zero."""
    return [[value * np.float32(0.3) + 1 for value in sample] for sample in nets.samples(content, count, seed)]


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_each_layers_mean_error_is_smaller_afterwards(build: Callable[[], bytes]) -> None:
    """No layer's mean is further off than before, and altogether they come at least twice as near."""
    content = build()
    inputs = shifted(content, 30)
    small = nets.quantised(content, inputs)
    corrected, count = walk(small, content, inputs)
    assert 1 <= count <= len(layers(small))
    before, after = errors(small, content, inputs), errors(corrected, content, inputs)
    for name, error in before.items():
        step = grid_ends(next(t for t in nets.main_of(small).tensors if t.name == name))
        tolerance = (step[1] - step[0]) / 255 / 20
        assert after[name].mean() <= error.mean() + tolerance, name
    assert sum(item.mean() for item in after.values()) < sum(item.mean() for item in before.values()) / 2


def constants(main: Subgraph) -> dict[str, Array]:
    """All constants by name."""
    return {tensor.name: tensor.array() for tensor in main.tensors if tensor.data is not None}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_nothing_but_biases_changes(build: Callable[[], bytes]) -> None:
    """Operators, scales, types, and all constants that are no bias are as before; the size is."""
    content = build()
    inputs = shifted(content, 20)
    small = nets.quantised(content, inputs)
    corrected, _ = walk(small, content, inputs)
    first, second = nets.main_of(small), nets.main_of(corrected)
    assert [(op.name, op.inputs, op.outputs) for op in first.ops] == [
        (op.name, op.inputs, op.outputs) for op in second.ops
    ]
    assert [(t.name, t.quant, t.dtype) for t in first.tensors] == [(t.name, t.quant, t.dtype) for t in second.tensors]
    biases = {first.tensors[layer.bias].name for layer in layers(small)}
    before, after = constants(first), constants(second)
    changed = {name for name, values in before.items() if not np.array_equal(values, after[name])}
    assert changed
    assert changed <= biases
    assert abs(len(corrected) - len(small)) < 64


def test_a_clipped_range_is_respected() -> None:
    """What a narrowed range cuts off is not pushed back into the bias: the target is the clipped mean."""
    net = nets.Net(seed=4)
    t = net.dense(net.input(1, 8), 8, weights=np.eye(8), bias=np.zeros(8), act=nets.RELU)
    content = net.finish(net.dense(t, 4))
    random = np.random.default_rng(0)
    inputs = [[(random.exponential(1, (1, 8)) * random.choice([1, 6], (1, 8))).astype(np.float32)] for _ in range(60)]
    ranges = nets.statistics(content, inputs).ranges
    name = net.tensors[t].name.decode()
    corrected, _ = walk(quantize(content, {**ranges, name: (0.0, 2.0)}, "int8"), content, inputs)
    values = np.concatenate([sample[0] for sample in inputs])
    clipped, exact = np.clip(values, 0, 2).mean(axis=0), values.mean(axis=0)
    assert np.all(exact - clipped > 0.2)
    np.testing.assert_allclose(means(corrected, inputs)[name], clipped, atol=0.02)


def test_clipped_means_are_those_of_the_float_values() -> None:
    """Over samples and places, by channel, each value clipped to the grid's ends first."""
    content = nets.residual()
    inputs = nets.samples(content, 9)
    small = nets.main_of(nets.quantised(content, nets.samples(content, 30, 2, size=0.4)))
    main = nets.main_of(content)
    index = main.ops[0].outputs[0]
    tensor = next(t for t in small.tensors if t.name == main.tensors[index].name)
    whole = Sliceable(content)
    rows = nets.outputs(whole.cut([0], [index], main.inputs).content, inputs)
    low, high = grid_ends(tensor)
    values = np.stack([row[0] for row in rows])
    assert values.max() > high
    expected = np.clip(values, low, high).reshape(-1, values.shape[-1]).mean(axis=0)
    [(name, actual)] = clipped_means(content, {tensor.name: tensor}, inputs).items()
    assert tensor.name == name
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_dead_channels_are_left_alone() -> None:
    """A channel that never fires says nothing about its bias, and keeps it."""
    net = nets.Net(seed=5)
    bias = np.array([-50, 0.1, 0.2, -50, 0.3, 0.4])
    t = net.dense(net.input(1, 12), act=nets.RELU, weights=net.normal(6, 12), bias=bias)
    content = net.finish(net.dense(t, 4))
    inputs = shifted(content, 30)
    small = nets.quantised(content, inputs)
    corrected, count = walk(small, content, inputs)
    assert count >= 1
    index = layers(small)[0].bias
    before, after = (nets.main_of(item).tensors[index].array() for item in (small, corrected))
    np.testing.assert_array_equal(before[[0, 3]], after[[0, 3]])


def test_channels_below_half_a_step_are_left_alone() -> None:
    """A channel whose values are all rounded to zero does not react to its bias, which would grow until it did."""
    net = nets.Net(seed=5)
    weights = net.normal(4, 12)
    weights[0], weights[1:] = weights[0] / 200, np.abs(weights[1:]) * 10
    t = net.dense(net.input(1, 12), act=nets.RELU, weights=weights, bias=np.array([0.02, 0, 0, 0]))
    content = net.finish(net.dense(t, 4))
    inputs = shifted(content, 30)
    small = nets.quantised(content, inputs)
    corrected, _ = walk(small, content, inputs)
    name, index = layers(small)[0].name, layers(small)[0].bias
    grids = {layer.name: nets.main_of(small).tensors[layer.result] for layer in layers(small)}
    assert clipped_means(content, grids, inputs)[name][0] > 0.01
    assert means(small, inputs)[name][0] == 0
    before, after = (nets.main_of(item).tensors[index].array() for item in (small, corrected))
    assert before[0] == after[0]


def test_saturated_biases_are_left_alone() -> None:
    """A bias at the end of int32 means nothing, and adding to it would turn its sign."""
    content = plain()
    inputs = shifted(content, 20)
    small = nets.quantised(content, inputs)
    index = layers(small)[1].bias
    limit = np.iinfo(np.int32).max

    def saturate(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[index]
        values = nets.main_of(small).tensors[index].array().copy()
        values[2] = limit
        model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)  # type: ignore[attr-defined]

    corrected, _ = walk(models.edited(small, saturate), content, inputs)
    assert limit == nets.main_of(corrected).tensors[index].array()[2]


def test_float_edges_and_unknown_operators_pass_through() -> None:
    """QUANTIZE at the input, DEQUANTIZE at the output and an operator that stayed float are run as they are."""
    net = nets.Net(seed=6)
    a = net.dense(net.input(1, 16), 12)
    b = net.simple("ELU", [a], (1, 12))
    content = net.finish(net.dense(b, 4))
    inputs = shifted(content, 30)
    small = quantize(content, nets.statistics(content, inputs).ranges, "float32")
    names = [op.name for op in nets.main_of(small).ops]
    assert {"QUANTIZE", "DEQUANTIZE", "ELU"} <= set(names)
    corrected, count = walk(small, content, inputs)
    assert count >= 1
    before, after = errors(small, content, inputs), errors(corrected, content, inputs)
    assert sum(item.mean() for item in after.values()) < sum(item.mean() for item in before.values())


def test_a_shared_bias_is_not_mended_for_one_of_its_layers() -> None:
    """Two layers with one bias would undo each other; they are left, the third is corrected."""
    net = nets.Net(seed=7)
    x = net.input(1, 8)
    bias = net.constant(net.random.normal(0, 0.3, 8))
    first = net.dense(x, shared=(net.constant(net.normal(8, 8)), bias))
    content = net.finish(net.dense(net.dense(first, shared=(net.constant(net.normal(8, 8)), bias)), 8))
    inputs = shifted(content, 20)
    small = nets.quantised(content, inputs)
    one, two, _ = (layer.bias for layer in layers(small))

    def share(model: Any) -> None:
        op = model.subgraphs[0].operators[1]
        op.inputs = [*op.inputs[:2], one]

    shared = models.edited(small, share)
    assert one != two
    corrected, _ = walk(shared, content, inputs)
    before, after = (nets.main_of(item).tensors[one].array() for item in (shared, corrected))
    np.testing.assert_array_equal(before, after)


def test_shared_weights_are_not_rounded_for_one_of_their_layers() -> None:
    """Layers that share weights are corrected by their biases, but asked for no new weights."""
    net = nets.Net(seed=8)
    x, y = net.input(1, 8), net.input(1, 8, name="y")
    shared = net.constant(net.normal(6, 8)), net.constant(net.random.normal(0, 0.3, 6))
    content = net.finish(net.dense(net.add(net.dense(x, shared=shared), net.dense(y, shared=shared)), 4))
    inputs = shifted(content, 20)
    asked: list[str] = []

    def reweigh(layer: Layer, whole: Sliceable, values: object) -> None:
        asked.append(layer.name)

    small = nets.quantised(content, inputs)
    walk(small, content, inputs, reweigh=reweigh)
    main = nets.main_of(content)
    assert [main.tensors[main.outputs[0]].name] == asked


def test_new_weights_are_used_by_what_follows() -> None:
    """``reweigh`` sees what reaches each layer, after the layers before it were given their weights."""
    content = plain()
    inputs = shifted(content, 20)
    small = nets.quantised(content, inputs)
    seen: list[tuple[str, float]] = []

    def reweigh(layer: Layer, whole: Sliceable, values: list[Array]) -> Array | None:
        seen.append((layer.name, float(np.mean([value.mean() for value in values]))))
        return np.zeros_like(whole.constant(layer.weights)) if len(seen) == 1 else None

    corrected, _ = walk(small, content, inputs, reweigh=reweigh)
    assert [layer.name for layer in layers(small)] == [name for name, _ in seen]
    assert not nets.main_of(corrected).tensors[layers(small)[0].weights].array().any()
    assert nets.main_of(corrected).tensors[layers(small)[1].weights].array().any()
    untouched: list[float] = []

    def look(layer: Layer, whole: Sliceable, values: list[Array]) -> None:
        untouched.append(float(np.mean([value.mean() for value in values])))

    walk(small, content, inputs, reweigh=look)
    assert untouched[0] == seen[0][1]
    assert untouched[1] != seen[1][1]


def test_progress_counts_operators_and_the_result_repeats() -> None:
    """The last call says that all is done; a second walk gives the same bytes."""
    content = nets.residual()
    inputs = nets.samples(content, 40)
    small = nets.quantised(content, inputs)
    calls: list[tuple[int, int]] = []
    first, _ = walk(small, content, inputs, progress=lambda done, total: calls.append((done, total)))
    total = len(nets.main_of(small).ops)
    assert [(number + 1, total) for number in range(total)] == calls
    assert first == walk(small, content, inputs)[0]


def test_models_with_a_state_are_refused() -> None:
    """An operator that keeps a value between runs cannot be walked."""
    net = nets.Net(seed=9)
    state = net.tensor("state", (1, 30))
    net.tensors[state].isVariable = True
    x = net.input(1, 4)
    options = schema.SVDFOptionsT()
    options.rank = 2
    constants_ = [net.constant(net.normal(6, 4)), net.constant(net.normal(6, 5)), net.constant(np.ones(3))]
    y = net.simple("SVDF", [x, *constants_, state], (1, 3), ("SVDFOptions", options))
    z = net.dense(y, 4)
    content = net.build({"x": x}, {"z": z})
    inputs = [[np.ones((1, 4), np.float32) * k] for k in range(6)]
    ranges = {net.tensors[index].name.decode(): (-3.0, 3.0) for index in (x, y, z)}
    with pytest.raises(ConversionError, match="keeps values between runs"):
        walk(quantize(content, ranges, "int8"), content, inputs)

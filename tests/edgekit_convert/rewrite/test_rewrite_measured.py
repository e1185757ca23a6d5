"""The rules that look at values: folding, paddings before max-pools, masks before softmaxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.graph import Graph
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.ranges.extremes import extremes
from edgekit_convert.rewrite import Rewritten, rewrite
from edgekit_convert.rewrite.mask import MARGIN


def data_for(content: bytes, low: float = -1, high: float = 1, **given: Array) -> CalibrationSet:
    """Random samples, or those given, for each input."""
    inputs = ModelFile.read(content).inputs
    random = np.random.default_rng(1)
    arrays = {
        spec.name: given.get(spec.name, random.uniform(low, high, (20, *spec.shape[1:])).astype(np.float32))
        for spec in inputs
    }
    return CalibrationSet(open_data(arrays, inputs, 99, "calibration"), inputs, {})


def view(content: bytes) -> Graph:
    """The read-only view."""
    return ModelFile.read(content).graph


def names(content: bytes) -> list[str]:
    """The operators of a model."""
    return [op.name for op in view(content).main.ops]


def said(done: tuple[Rewritten, ...]) -> list[tuple[str, int, bool]]:
    """What each rule did."""
    return [(item.rule.name, item.count, item.kept) for item in done]


def padded(value: float, *, relu: bool = False, read_twice: bool = False) -> bytes:
    """An image, RELU where asked, PADV2, MAX_POOL_2D."""
    b = models.Builder()
    x = image = b.tensor("image", (1, 4, 4, 2))
    if relu:
        x = b.tensor("positive", (1, 4, 4, 2))
        b.op("RELU", [image], [x])
    frame = b.tensor("frame", (4, 2), "int32", data=np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    number = b.tensor("number", (), data=np.array(value, np.float32))
    framed, y = b.tensor("framed", (1, 6, 6, 2)), b.tensor("y", (1, 4, 4, 2))
    b.op("PADV2", [x, frame, number], [framed], ("PadV2Options", schema.PadV2OptionsT()))
    pool = schema.Pool2DOptionsT()
    pool.filterHeight = pool.filterWidth = 3
    pool.strideH = pool.strideW = pool.padding = 1
    b.op("MAX_POOL_2D", [framed], [y], ("Pool2DOptions", pool))
    if not read_twice:
        return b.build({"image": image}, {"y": y})
    z = b.tensor("z", (1, 6, 6, 2))
    b.op("ADD", [framed, framed], [z], ("AddOptions", schema.AddOptionsT()))
    return b.build({"image": image}, {"y": y, "z": z})


@pytest.mark.parametrize("value", [-1e9, -np.inf, -5.0])
def test_padding_becomes_the_lowest_value(value: float) -> None:
    """The tensor's range is then that of the data."""
    content = padded(value)
    data = data_for(content)
    result, done = rewrite(content, data)
    assert said(done) == [("pad-value", 1, True)]
    assert done[0].difference == 0
    before, after = extremes(content, data), extremes(result, data)
    assert (before["framed"][0], after["framed"]) == (value, after["image"])


def test_padding_behind_relu_becomes_zero() -> None:
    """Then it is a plain PAD."""
    content = padded(-1e9, relu=True)
    result, done = rewrite(content, data_for(content))
    assert said(done) == [("pad-value", 1, True)]
    assert names(result) == ["RELU", "PAD", "MAX_POOL_2D"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(padded(-1e9, read_twice=True), id="something else reads it"),
        pytest.param(padded(3.0), id="above the values"),
        pytest.param(padded(-0.25), id="within the values"),
    ],
)
def test_paddings_that_stay(content: bytes) -> None:
    """A padding that is seen in the result, or lies within the range, is left alone."""
    result, done = rewrite(content, data_for(content))
    assert (result, said(done)) == (content, [])


def attention(
    *, size: float = -1e9, subtract: bool = False, layers: int = 1, leak: bool = False, whole: bool = False
) -> bytes:
    """Softmaxes over 6 entries of one input each, all masked by the same constant.

    ``leak`` makes the constant an output of its own accord; ``whole`` hides all entries of the first row.
    """
    b = models.Builder()
    hidden = np.triu(np.full((6, 6), size, np.float32), 1)
    hidden[0] = size if whole else hidden[0]
    constant = b.tensor("mask", (6, 6), data=hidden)
    inputs, outputs = {}, {}
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    for layer in range(layers):
        x, total, y = (b.tensor(f"{name}{layer}", (1, 6, 6)) for name in ("x", "sum", "y"))
        if subtract:
            b.op("SUB", [x, constant], [total], ("SubOptions", schema.SubOptionsT()))
        else:
            b.op("ADD", [constant, x], [total], ("AddOptions", schema.AddOptionsT()))
        b.op("SOFTMAX", [total], [y], ("SoftmaxOptions", softmax))
        inputs[f"x{layer}"], outputs[f"y{layer}"] = x, y
    if leak:
        z = b.tensor("z", (1, 6, 6))
        b.op("MUL", [inputs["x0"], constant], [z], ("MulOptions", schema.MulOptionsT()))
        outputs["z"] = z
    return b.build(inputs, outputs)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(attention(), id="added"),
        pytest.param(attention(size=-np.inf), id="infinite"),
        pytest.param(attention(size=1e9, subtract=True), id="subtracted"),
        pytest.param(attention(layers=3), id="shared by three layers"),
    ],
)
def test_mask_becomes_as_large_as_needed(content: bytes) -> None:
    """It hides all the same, and lies just below what was measured."""
    data = data_for(content, -3, 3)
    result, done = rewrite(content, data)
    assert said(done) == [("softmax-mask", 1, True)]
    assert done[0].difference < 1e-6
    mask = next(tensor.array() for tensor in view(result).main.tensors if tensor.name == "mask")
    measured = extremes(content, data)
    width = max(high - low for name, (low, high) in measured.items() if name.startswith("x"))
    assert float(np.abs(mask).max()) == pytest.approx(width + MARGIN, rel=1e-6)
    assert np.count_nonzero(mask) == 15  # what is not hidden stays so


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(attention(leak=True), id="the constant is used elsewhere"),
        pytest.param(attention(size=-20.0), id="just large enough"),
    ],
)
def test_masks_that_stay(content: bytes) -> None:
    """A constant that something else lives on, and one that is small, are left alone."""
    result, done = rewrite(content, data_for(content, -3, 3))
    assert (result, said(done)) == (content, [])


def test_a_row_that_is_hidden_as_a_whole_is_found_out() -> None:
    """Adding -1e9 to all of a row makes it uniform, a small mask does not: the rule is taken back."""
    content = attention(whole=True)
    result, done = rewrite(content, data_for(content, -3, 3))
    assert (result, said(done)) == (content, [("softmax-mask", 1, False)])


def gated(high: float) -> tuple[bytes, CalibrationSet]:
    """Softmax of x + gate · -1e9, the gate 0 or ``high``."""
    b = models.Builder()
    x, gate, product, total, y = (b.tensor(name, (1, 6)) for name in ("x", "gate", "product", "total", "y"))
    number = b.tensor("number", (), data=np.array(-1e9, np.float32))
    b.op("MUL", [gate, number], [product], ("MulOptions", schema.MulOptionsT()))
    b.op("ADD", [x, product], [total], ("AddOptions", schema.AddOptionsT()))
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    b.op("SOFTMAX", [total], [y], ("SoftmaxOptions", softmax))
    content = b.build({"x": x, "gate": gate}, {"y": y})
    gates = (np.arange(120).reshape(20, 6) % 5 == 0).astype(np.float32) * np.float32(high)
    return content, data_for(content, -3, 3, gate=gates)


def test_mask_that_the_data_switch() -> None:
    """The factor shrinks when the gate is 0 or 1, and not when it is anything else."""
    result, done = rewrite(*gated(1.0))
    assert said(done) == [("softmax-mask", 1, True)]
    number = next(float(item.array()) for item in view(result).main.tensors if item.name == "number")
    assert -30 < number < -20
    assert said(rewrite(*gated(0.25))[1]) == []


def constants(kind: str = "ADD", size: int = 4, dtype: str = "float32") -> bytes:
    """An operator on two constants, and its result added to the input."""
    b = models.Builder()
    x, y = b.tensor("x", (1, size)), b.tensor("y", (1, size))
    if kind == "BROADCAST_TO":
        one = b.tensor("one", (1,), data=np.ones(1, np.float32))
        two = b.tensor("two", (2,), "int32", data=np.array([1, size], np.int32))
    else:
        one, two = (b.tensor(name, (size,), dtype, data=np.full(size, 0.1, dtype)) for name in ("one", "two"))
    total = b.tensor("total", (1, size) if kind == "BROADCAST_TO" else (size,), dtype)
    if kind == "ADD":
        b.op(kind, [one, two], [total], ("AddOptions", schema.AddOptionsT()))
    else:
        b.op(kind, [one, two], [total], version=2)
    b.op("ADD", [x, total], [y], ("AddOptions", schema.AddOptionsT()))
    return b.build({"x": x}, {"y": y})


def test_operators_on_constants_are_folded() -> None:
    """The interpreter's own result takes their place."""
    content = constants()
    result, done = rewrite(content, data_for(content))
    assert said(done) == [("fold", 1, True)]
    assert done[0].difference == 0
    assert names(result) == ["ADD"]
    total = next(tensor for tensor in view(result).main.tensors if tensor.name == "total")
    assert total.array().tolist() == [np.float32(0.1) + np.float32(0.1)] * 4


def test_large_results_are_not_folded() -> None:
    """A megabyte that is made of one number at each run stays so."""
    small, large = constants("BROADCAST_TO", 100), constants("BROADCAST_TO", 300_000)
    assert names(rewrite(small, data_for(small))[0]) == ["ADD"]
    assert names(rewrite(large, data_for(large))[0]) == ["BROADCAST_TO", "ADD"]


def test_random_numbers_are_not_folded() -> None:
    """They are others at every run."""
    b = models.Builder()
    x, y, noise = b.tensor("x", (1, 4)), b.tensor("y", (1, 4)), b.tensor("noise", (1, 4))
    shape = b.tensor("shape", (2,), "int32", data=np.array([1, 4], np.int32))
    b.op("RANDOM_UNIFORM", [shape], [noise], ("RandomOptions", schema.RandomOptionsT()))
    b.op("MUL", [noise, noise], [y], ("MulOptions", schema.MulOptionsT()))
    b.op("ADD", [x, x], [b.tensor("unused", (1, 4))], ("AddOptions", schema.AddOptionsT()))
    content = b.build({"x": x}, {"y": y})
    assert rewrite(content, data_for(content))[0] == content


def sized(*, open_size: bool) -> bytes:
    """RESHAPE to the input's own SHAPE."""
    b = models.Builder()
    x = b.tensor("x", (1, 4), open_batch=open_size)
    shape: Any = schema.ShapeOptionsT()
    shape.outType = schema.TensorType.INT32
    sizes, double, y = b.tensor("sizes", (2,), "int32"), b.tensor("double", (1, 4)), b.tensor("y", (1, 4))
    b.op("SHAPE", [x], [sizes], ("ShapeOptions", shape))
    b.op("ADD", [x, x], [double], ("AddOptions", schema.AddOptionsT()))
    b.op("RESHAPE", [double, sizes], [y])
    return b.build({"x": x}, {"y": y})


def test_sizes_are_constants_where_they_are_fixed() -> None:
    """A SHAPE of a fixed tensor is folded, one of an open size is not."""
    fixed, loose = sized(open_size=False), sized(open_size=True)
    assert names(rewrite(fixed, data_for(fixed))[0]) == ["ADD", "RESHAPE"]
    assert names(rewrite(loose, data_for(loose))[0]) == ["SHAPE", "ADD", "RESHAPE"]

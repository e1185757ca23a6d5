"""ONNX models that say the same as others in another way: old operators, dilated kernels, values as attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_files as onnx
import pytest

import edgekit
from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit_convert.frontends import Source, open_source


def converted(path: Path, **shapes: tuple[int, ...]) -> tuple[Source, Any, Any]:
    """The opened model, onnxruntime's result for random inputs, and the float model's, for a model with one output."""
    source = open_source(path)
    content = source.export(shapes)
    generator = np.random.default_rng(3)
    values = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    assert source.reference is not None
    (expected,) = source.reference(values)
    with Session(ModelFile.read(content), DelegateChoice(DelegateSpec("none", 1), "tests")) as session:
        return source, expected, session.run(values)


@pytest.mark.parametrize(
    ("kind", "shape", "axis", "added", "wide"),
    [
        pytest.param("Add", (1, 3, 4), 1, (3,), (3, 1), id="channels of a row"),
        pytest.param("Mul", (1, 3, 5, 4), 1, (3,), (3, 1, 1), id="channels of an image"),
        pytest.param("Add", (1, 3, 5, 4), -2, (5,), (5, 1), id="counted from the end"),
        pytest.param("Add", (1, 3, 5, 4), 1, (3, 5), (3, 5, 1), id="two axes"),
        pytest.param("Add", (1, 3, 5, 4), None, (5, 4), (5, 4), id="the last ones"),
    ],
)
def test_operators_older_than_onnxruntime_s_are_brought_up(
    onnx_environment: Path,
    tmp_path: Path,
    kind: str,
    shape: tuple[int, ...],
    axis: int | None,
    added: tuple[int, ...],
    wide: tuple[int, ...],
) -> None:
    """Before version 7 an operator had to say along which axis it repeats; onnxruntime has none of these."""
    net = onnx.Net()
    other = np.arange(1, np.prod(added) + 1, dtype=np.float32).reshape(added)
    where = {} if axis is None else {"axis": axis}
    net.op(kind, ["x", net.constant("other", other)], "y", broadcast=1, **where)
    path = net.save(tmp_path / "m.onnx", [onnx.value("x", list(shape))], [onnx.value("y", list(shape))], opset=6)
    source, expected, actual = converted(path, x=shape)
    assert ("it is written for ONNX's operators of version 6, and was brought to version 7.",) == source.notes
    np.testing.assert_allclose(expected, actual, atol=1e-6)
    x = np.random.default_rng(3).standard_normal(shape)  # what the helper draws
    np.testing.assert_allclose(x + other.reshape(wide) if kind == "Add" else x * other.reshape(wide), actual, atol=1e-5)


def test_slopes_of_channels_in_an_old_model(onnx_environment: Path, tmp_path: Path) -> None:
    """Before version 7 PRelu took one slope for each channel as it is; since then it is repeated along the last axis."""
    net = onnx.Net()
    net.conv("x", "c", (2, 4))
    net.op("PRelu", ["c", net.constant("slopes", np.array([0.1, 0.5, -1, 2], np.float32))], "y")
    path = net.save(tmp_path / "m.onnx", [onnx.value("x", [1, 2, 6, 4])], [onnx.value("y", [1, 4, 6, 4])], opset=6)
    _, expected, actual = converted(path, x=(1, 6, 4, 2))
    assert expected[..., 2].min() >= 0 > expected[..., 3].min()  # a slope of -1 leaves nothing below zero
    np.testing.assert_allclose(expected, actual, atol=1e-5)


def test_a_padding_value_may_be_an_attribute(onnx_environment: Path, tmp_path: Path) -> None:
    """Before version 11 it was one; the edge has that value, not zeros."""
    net = onnx.Net()
    net.op("Pad", ["x"], "padded", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=3.5)
    net.conv("padded", "y", (2, 4))
    path = net.save(tmp_path / "m.onnx", [onnx.value("x", [1, 2, 5, 5])], [onnx.value("y", [1, 4, 7, 7])], opset=10)
    _, expected, actual = converted(path, x=(1, 5, 5, 2))
    np.testing.assert_allclose(expected, actual, atol=1e-5)


def test_dilation_beside_steps(onnx_environment: Path, tmp_path: Path) -> None:
    """TensorFlow has no convolution with both: the kernel is written out with zeros, of each channel by itself too."""
    net = onnx.Net()
    net.conv("x", "c", (4, 4), strides=[2, 2], dilations=[2, 2], pads=[2, 2, 2, 2])
    net.conv("c", "y", (4, 4), strides=[2, 1], dilations=[1, 3], pads=[1, 3, 1, 3], group=4)
    path = net.save(tmp_path / "m.onnx", [onnx.value("x", [1, 4, 16, 16])], [onnx.value("y", None)])
    _, expected, actual = converted(path, x=(1, 16, 16, 4))
    assert (1, 4, 8, 4) == expected.shape
    np.testing.assert_allclose(expected, actual, atol=1e-5)


def test_dilation_alone_stays(onnx_environment: Path, tmp_path: Path) -> None:
    """The kernels have it: nothing is written out."""
    net = onnx.Net()
    net.conv("x", "y", (4, 4), dilations=[2, 2], pads=[2, 2, 2, 2])
    path = net.save(tmp_path / "m.onnx", [onnx.value("x", [1, 4, 8, 8])], [onnx.value("y", None)])
    graph = ModelFile.read(open_source(path).export({"x": (1, 8, 8, 4)})).graph.main
    (conv,) = (op for op in graph.ops if op.name == "CONV_2D")
    assert (4, 3, 3, 4) == graph.tensors[conv.inputs[1]].shape


def test_dilation_in_a_volume(onnx_environment: Path, tmp_path: Path) -> None:
    """TFLite has none there."""
    net = onnx.Net()
    kernel = {"kernel_shape": [3, 2, 3], "dilations": [1, 2, 2], "pads": [1, 1, 2, 1, 1, 2]}
    net.op("Conv", ["x", net.weights("w", 4, 2, 3, 2, 3), net.weights("b", 4)], "y", **kernel)
    path = net.save(tmp_path / "m.onnx", [onnx.value("x", [1, 2, 4, 6, 5])], [onnx.value("y", None)])
    _, expected, actual = converted(path, x=(1, 4, 6, 5, 2))
    np.testing.assert_allclose(expected, actual, atol=1e-5)


@pytest.mark.parametrize("first", ["twice the source", "half the sum", "half the source"])
def test_an_exact_gelu_is_one_operator(onnx_environment: Path, tmp_path: Path, first: str) -> None:
    """Exporters write it with the error function, which TFLite does not have, and multiply in any order."""
    net = onnx.Net()
    net.dense("x", "h", (8, 8))
    half, one = net.constant("half", np.float32(0.5)), net.constant("one", np.float32(1))
    if first == "half the source":
        net.op("Mul", [net.constant("root", np.float32(np.sqrt(0.5))), "h"], "small")
    else:
        net.op("Div", ["h", net.constant("root", np.float32(np.sqrt(2)))], "small")
    net.op("Add", [net.op("Erf", ["small"], "erf"), one], "sum")
    if first == "twice the source":
        net.op("Mul", [net.op("Mul", ["h", "sum"], "product"), half], "gelu")
    elif first == "half the sum":
        net.op("Mul", [net.op("Mul", ["sum", half], "product"), "h"], "gelu")
    else:
        net.op("Mul", ["sum", net.op("Mul", [half, "h"], "product")], "gelu")
    net.dense("gelu", "y", (8, 3))
    path = net.save(tmp_path / "m.onnx", [onnx.value("x", [1, 8])], [onnx.value("y", [1, 3])])
    source, expected, actual = converted(path, x=(1, 8))
    np.testing.assert_allclose(expected, actual, atol=1e-5)
    operators = [op.name for op in ModelFile.read(source.export({"x": (1, 8)})).graph.main.ops]
    assert ["FULLY_CONNECTED", "GELU", "FULLY_CONNECTED"] == operators


def test_an_error_function_that_is_no_gelu_is_named(onnx_environment: Path, tmp_path: Path) -> None:
    """Of another sum it stays what it is, and TFLite has no form for it."""
    net = onnx.Net()
    net.op("Div", ["x", net.constant("root", np.float32(np.sqrt(2)))], "small")
    net.op("Add", [net.op("Erf", ["small"], "erf"), net.constant("two", np.float32(2))], "sum")
    net.op("Mul", [net.op("Mul", ["x", "sum"], "product"), net.constant("half", np.float32(0.5))], "y")
    source = open_source(net.save(tmp_path / "m.onnx", [onnx.value("x", [1, 8])], [onnx.value("y", [1, 8])]))
    with pytest.raises(ConversionError, match=r"m\.onnx cannot become a \.tflite: .*would need Erf"):
        source.export({"x": (1, 8)})


def test_random_inputs_that_the_model_does_not_take_are_told_in_the_log(onnx_environment: Path, tmp_path: Path) -> None:
    """A table that is read at places that the input says: numbers above 1 are outside of it, and are no part of the comparison."""
    net = onnx.Net()
    net.op("Mul", ["x", net.constant("two", np.float32(2))], "places")
    net.op("Cast", ["places"], "whole", to=6)
    net.op("Gather", [net.weights("table", 2, 6), "whole"], "rows", axis=0)
    net.op("ReduceMean", ["rows"], "mean", axes=[1], keepdims=0)
    net.dense("mean", "y", (6, 3))
    path = net.save(tmp_path / "m.onnx", [onnx.value("x", [1, 16])], [onnx.value("y", [1, 3])])
    data = np.random.default_rng(0).uniform(0, 0.99, (8, 16)).astype(np.float32)
    made = edgekit.convert(path, data, effort="fast", normalize="none")
    (told,) = (item.text for item in made.findings if "random inputs" in item.text)
    assert told.startswith("the float model was compared on 2 of 4 random inputs: onnxruntime cannot run m.onnx: ")


def test_what_no_output_depends_on_is_left_out(onnx_environment: Path, tmp_path: Path) -> None:
    """With the input that only it reads."""
    net = onnx.Net()
    net.dense("idle", "nothing", (3, 2))
    net.dense("x", "y", (4, 2))
    inputs = [onnx.value("idle", [1, 3]), onnx.value("x", [1, 4])]
    path = net.save(tmp_path / "m.onnx", inputs, [onnx.value("y", [1, 2])])
    source, expected, actual = converted(path, x=(1, 4))
    assert ("nothing reads the input idle, which is left out.",) == source.notes
    np.testing.assert_allclose(expected, actual, atol=1e-5)

"""What of ONNX is refused, with the operator or input named, and without running anything of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_files as onnx
import pytest

from edgekit.errors import AlreadyQuantisedError, ConversionError, EdgekitError, ModelFileError
from edgekit_convert.frontends import open_source

Build = Callable[[onnx.Net], tuple[list[bytes], list[bytes]]]
X, Y = onnx.value("x", [1, 4]), onnx.value("y", None)


def one_op(kind: str, **options: object) -> Build:
    """A model of one operator from x to y."""

    def build(net: onnx.Net) -> tuple[list[bytes], list[bytes]]:
        net.op(kind, ["x"], "y", **options)
        return [X], [Y]

    return build


def qdq(net: onnx.Net) -> tuple[list[bytes], list[bytes]]:
    """Static quantisation as pairs of operators."""
    scale, zero = net.constant("scale", np.float32(0.1)), net.constant("zero", np.int8(0))
    net.op("QuantizeLinear", ["x", scale, zero], "q")
    net.op("DequantizeLinear", ["q", scale, zero], "y")
    return [X], [Y]


def weights_only(net: onnx.Net) -> tuple[list[bytes], list[bytes]]:
    """A weight in int8 that is brought back to float."""
    weights = net.constant("weights", np.ones((4, 2), np.int8))
    net.op("DequantizeLinear", [weights, net.constant("scale", np.float32(0.1))], "w")
    net.op("MatMul", ["x", "w"], "y")
    return [X], [Y]


def dynamic(net: onnx.Net) -> tuple[list[bytes], list[bytes]]:
    """Activations quantised at run time."""
    net.nodes.append(onnx.node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    net.op("MatMulInteger", ["q", net.constant("w", np.ones((4, 2), np.int8)), "z"], "y")
    return [X], [Y]


def qlinear(net: onnx.Net) -> tuple[list[bytes], list[bytes]]:
    """Operators on integers."""
    scale, zero = net.constant("scale", np.float32(0.1)), net.constant("zero", np.uint8(0))
    weights = net.constant("weights", np.ones((4, 2), np.uint8))
    net.op("QLinearMatMul", ["x", scale, zero, weights, scale, zero, scale, zero], "y")
    return [onnx.value("x", [1, 4], "uint8")], [Y]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        pytest.param(qdq, "static or by training, 1 QuantizeLinear and 1 DequantizeLinear", id="pairs"),
        pytest.param(weights_only, r"weights only \(1 constants\)", id="weights"),
        pytest.param(dynamic, r"dynamic range \(1 DynamicQuantizeLinear, 1 MatMulInteger\)", id="dynamic"),
        pytest.param(qlinear, r"static, QLinear operators \(1\)", id="integers"),
    ],
)
def test_quantised_models_are_refused_with_what_they_are(
    onnx_environment: Path, tmp_path: Path, build: Build, message: str
) -> None:
    """As other files are: convert the original."""
    net = onnx.Net()
    path = net.save(tmp_path / "m.onnx", *build(net))
    with pytest.raises(AlreadyQuantisedError, match=rf"m\.onnx is quantised already: {message}.*convert the original"):
        open_source(path)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        pytest.param(
            one_op("Fold", domain="my.company", name="fold/1"),
            r"my\.company\.Fold 'fold/1': operators of a domain of their own",
            id="custom domain",
        ),
        pytest.param(
            one_op("TreeEnsemble", domain="ai.onnx.ml"), r"ai\.onnx\.ml\.TreeEnsemble .*domain of their own", id="trees"
        ),
        pytest.param(one_op("ImageScaler"), "ImageScaler 'imagescaler_y': operators that the converter does not have", id="unknown"),
        pytest.param(one_op("RandomUniformLike"), "RandomUniformLike .*: random numbers", id="random"),
        pytest.param(one_op("SplitToSequence"), "SplitToSequence .*: sequences", id="sequence"),
    ],
)  # fmt: skip
def test_operators_are_refused_by_name(onnx_environment: Path, tmp_path: Path, build: Build, message: str) -> None:
    """The operator, where it lies, and why."""
    net = onnx.Net()
    path = net.save(tmp_path / "m.onnx", *build(net), domains=["my.company", "ai.onnx.ml"])
    with pytest.raises(ConversionError, match=rf"m\.onnx cannot become a \.tflite: {message}"):
        open_source(path)


def branches(net: onnx.Net) -> tuple[list[bytes], list[bytes]]:
    """A branch that the values of the input decide."""
    then = onnx.graph([onnx.node("Add", ["x", "x"], ["t"])], [], [onnx.value("t", None)])
    other = onnx.graph([onnx.node("Mul", ["x", "x"], ["o"])], [], [onnx.value("o", None)])
    net.op("ReduceSum", ["x"], "sum", keepdims=0)
    net.op("Greater", ["sum", net.constant("zero", np.float32(0))], "positive")
    net.op("If", ["positive"], "y", then_branch=then, else_branch=other)
    return [X], [Y]


def non_zero(net: onnx.Net) -> tuple[list[bytes], list[bytes]]:
    """As many values as there are numbers other than 0."""
    net.op("NonZero", ["x"], "y")
    return [X], [onnx.value("y", None, "int64")]


def determinant(net: onnx.Net) -> tuple[list[bytes], list[bytes]]:
    """What TensorFlow has and TFLite has not."""
    net.op("Det", ["x"], "y", name="block/det:0")
    return [onnx.value("x", [1, 3, 3])], [Y]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        pytest.param(branches, "If 'if_y': control flow that depends on values", id="branch"),
        pytest.param(non_zero, "NonZero 'nonzero_y': .* as many values as the data say", id="open-ended"),
        pytest.param(
            determinant, "Det 'block/det:0' would need MatrixDeterminant, which TFLite does not have", id="flex"
        ),
    ],
)
def test_what_is_known_only_when_sizes_are_fixed(
    onnx_environment: Path, tmp_path: Path, build: Build, message: str
) -> None:
    """Refused by the export, with the original's name of the operator."""
    net = onnx.Net()
    source = open_source(net.save(tmp_path / "m.onnx", *build(net)))
    with pytest.raises(ConversionError, match=rf"m\.onnx cannot become a \.tflite: {message}"):
        source.export({spec.name: spec.shape for spec in source.inputs})


def test_a_branch_that_is_decided_is_taken(onnx_environment: Path, tmp_path: Path) -> None:
    """A condition that is a constant is no control flow."""
    net = onnx.Net()
    then = onnx.graph([onnx.node("Add", ["x", "x"], ["t"])], [], [onnx.value("t", None)])
    other = onnx.graph([onnx.node("Mul", ["x", "x"], ["o"])], [], [onnx.value("o", None)])
    net.op("If", [net.constant("yes", np.array(True))], "y", then_branch=then, else_branch=other)
    source = open_source(net.save(tmp_path / "m.onnx", [X], [Y]))
    assert len(source.export({"x": (1, 4)})) > 100


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(onnx.value("x", [1, 4], "string"), "the input 'x' is of type string", id="text"),
        pytest.param(onnx.value("x", [1, 4], sequence=True), "the input 'x' is a sequence", id="sequence"),
        pytest.param(onnx.value("x", None), "the input 'x' has no known number of sizes", id="open rank"),
    ],
)
def test_inputs_are_refused_by_name(onnx_environment: Path, tmp_path: Path, value: bytes, message: str) -> None:
    """Only tensors of numbers, with a number of sizes."""
    net = onnx.Net()
    net.op("Identity", ["x"], "y")
    with pytest.raises(ConversionError, match=message):
        open_source(net.save(tmp_path / "m.onnx", [value], [Y]))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        pytest.param(
            ["y", "x"], "the output 'x' is one of the inputs, handed through: export the model without", id="input"
        ),
        pytest.param(["y", "w"], "the output 'w' is a constant, the same for all inputs: export", id="constant"),
        pytest.param(["y", "y"], "the output 'y' is listed twice: export", id="twice"),
        pytest.param(["r"], "no output depends on an input: there is nothing to convert", id="nothing"),
    ],
)
def test_outputs_that_nothing_is_computed_for(
    onnx_environment: Path, tmp_path: Path, outputs: list[str], message: str
) -> None:
    """Each is named; a file with such an output would not run."""
    net = onnx.Net()
    net.op("MatMul", ["x", net.weights("w", 4, 2)], "y")
    net.op("Relu", ["w"], "r")
    with pytest.raises(ConversionError, match=rf"m\.onnx: {message}"):
        open_source(net.save(tmp_path / "m.onnx", [X], [onnx.value(name, None) for name in outputs]))


def test_operators_newer_than_onnxruntime_s(onnx_environment: Path, tmp_path: Path) -> None:
    """The message says up to which version it has them."""
    net = onnx.Net()
    net.op("Relu", ["x"], "y")
    message = (
        r"m\.onnx is written for ONNX's operators of version 99, and onnxruntime [\d.]+ has those up to \d+: export it"
    )
    with pytest.raises(ConversionError, match=message):
        open_source(net.save(tmp_path / "m.onnx", [X], [Y], opset=99))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "damaged or not what its name says", id="empty"),
        pytest.param(b"PK\x03\x04 a zip", "damaged or not what its name says", id="zip"),
        pytest.param(b"\x80\x04\x95", "damaged or not what its name says", id="pickle"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, message: str) -> None:
    """Said without the environment."""
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        open_source(tmp_path / "m.onnx")


def test_damaged_files(onnx_environment: Path, tmp_path: Path) -> None:
    """Cut at any byte, a file is refused with one message, or what is left of it is a model that says what it lacks."""
    whole = onnx.classifier(tmp_path / "whole.onnx").read_bytes()
    for length in (2, 40, len(whole) // 2, len(whole) - 40):
        path = tmp_path / "cut.onnx"
        path.write_bytes(whole[:length])
        with pytest.raises(EdgekitError, match=r"cut\.onnx"):
            open_source(path)


def test_a_graph_that_onnxruntime_does_not_take(onnx_environment: Path, tmp_path: Path) -> None:
    """An operator that reads what nothing makes is said in onnxruntime's words."""
    net = onnx.Net()
    net.op("Add", ["x", "nowhere"], "y")
    with pytest.raises(ConversionError, match=r"onnxruntime cannot load m\.onnx: .*nowhere"):
        open_source(net.save(tmp_path / "m.onnx", [X], [Y]))

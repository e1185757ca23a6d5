"""Every recipe on small models: types, shares, what runs, and how close it stays to the float model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from tiny_models import schema

from edgekit.errors import OptionError
from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.quantize import RECIPES, int8_operators, io_for, operators_of, quantize
from edgekit_convert.quantize.stored import store_weights
from edgekit_convert.ranges import Ranges, measure


def samples(model: bytes, count: int = 20) -> dict[str, Array]:
    """Random inputs for a model."""
    random = np.random.default_rng(1)
    return {
        spec.name: random.normal(0, 1, (count, *spec.shape[1:])).astype(np.float32)
        for spec in ModelFile.read(model).inputs
    }


def ranges(model: bytes) -> Ranges:
    """The model's ranges on its random inputs."""
    inputs = ModelFile.read(model).inputs
    data = CalibrationSet(open_data(samples(model), inputs, 100, "calibration"), inputs, {})
    return measure(model, data, lambda done: None).ranges


def outputs(model: bytes, delegate: str, given: dict[str, Array]) -> Array:
    """All outputs on all samples, as real numbers in one array."""
    choice = DelegateChoice(DelegateSpec(delegate, 1), "testing")
    rows = []
    with Session(ModelFile.read(model), choice) as session:
        for number in range(len(next(iter(given.values())))):
            result = session.run({name: values[number : number + 1] for name, values in given.items()})
            parts = [result[spec.name] for spec in session.outputs] if isinstance(result, dict) else [result]
            rows.append(np.concatenate([np.ravel(part) for part in parts]))
    return np.array(rows)


def sqnr(exact: Array, rounded: Array) -> float:
    """Signal to noise in dB."""
    return float(10 * np.log10(np.square(exact).sum() / np.square(exact - rounded).sum()))


def layered() -> bytes:
    """Float: CONV_2D, DEPTHWISE_CONV_2D, RESHAPE, BATCH_MATMUL with constant weights, MEAN, FULLY_CONNECTED."""
    random = np.random.default_rng(3)

    def weights(*shape: int, axis: int) -> Array:
        """Channels of very different size: a scale that is read for the wrong one shows."""
        sizes = np.geomspace(0.2, 5, shape[axis]).reshape([-1 if place == axis else 1 for place in range(len(shape))])
        return np.asarray(random.normal(0, 0.3, shape) * sizes, np.float32)

    b = models.Builder()
    x = b.tensor("image", (1, 6, 6, 4))
    k = b.tensor("kernel", (8, 3, 3, 4), data=weights(8, 3, 3, 4, axis=0))
    kb = b.tensor("kernel_bias", (8,), data=random.normal(0, 0.3, 8).astype(np.float32))
    features = b.tensor("features", (1, 6, 6, 8))
    conv = schema.Conv2DOptionsT()
    conv.strideH = conv.strideW = conv.dilationHFactor = conv.dilationWFactor = 1
    b.op("CONV_2D", [x, k, kb], [features], ("Conv2DOptions", conv))
    d = b.tensor("depthwise_kernel", (1, 3, 3, 8), data=weights(1, 3, 3, 8, axis=3))
    db = b.tensor("depthwise_bias", (8,), data=np.zeros(8, np.float32))
    filtered = b.tensor("filtered", (1, 6, 6, 8))
    depthwise = schema.DepthwiseConv2DOptionsT()
    depthwise.strideH = depthwise.strideW = depthwise.dilationHFactor = depthwise.dilationWFactor = 1
    depthwise.depthMultiplier = 1
    b.op("DEPTHWISE_CONV_2D", [features, d, db], [filtered], ("DepthwiseConv2DOptions", depthwise))
    shape = b.tensor("shape", (3,), "int32", data=np.array([1, 36, 8], np.int32))
    rows = b.tensor("rows", (1, 36, 8))
    b.op("RESHAPE", [filtered, shape], [rows])
    m = b.tensor("matrix", (1, 8, 5), data=weights(1, 8, 5, axis=2))
    mixed = b.tensor("mixed", (1, 36, 5))
    b.op("BATCH_MATMUL", [rows, m], [mixed], ("BatchMatMulOptions", schema.BatchMatMulOptionsT()))
    axes = b.tensor("axes", (1,), "int32", data=np.array([1], np.int32))
    pooled = b.tensor("pooled", (1, 5))
    reducer = schema.ReducerOptionsT()
    reducer.keepDims = False
    b.op("MEAN", [mixed, axes], [pooled], ("ReducerOptions", reducer))
    v = b.tensor("weights", (4, 5), data=weights(4, 5, axis=0))
    y = b.tensor("scores", (1, 4))
    b.op("FULLY_CONNECTED", [pooled, v, -1], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    return b.build({"image": x}, {"scores": y})


@dataclass(frozen=True)
class Expected:
    """What a recipe makes of ``layered``.

    Attributes:
        recipe: its name.
        io: the natural type of its inputs and outputs.
        schemes: how the four layers are held.
        decibels: what its output reaches at least.
    """

    recipe: str
    io: str
    schemes: dict[str, int]
    decibels: float


EXPECTED = [
    Expected("auto", "int8", {"int8": 4}, 30),
    Expected("int8", "int8", {"int8": 4}, 30),
    Expected("int16x8", "int16", {"int16x8": 4}, 37),
    Expected("dynamic", "float32", {"dynamic": 2, "weights": 2}, 37),
    Expected("float16", "float32", {"float16": 4}, 60),
    Expected("weights", "float32", {"weights": 4}, 42),
]


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case.recipe)
def test_recipes(case: Expected, delegate: str) -> None:
    """Each holds its layers as it says, runs with and without XNNPACK, and stays close to the float model."""
    model = layered()
    io = io_for(case.recipe, None)
    made = quantize(model, ranges(model), io, recipe=case.recipe)
    seen = inspect(made, partitions=False)
    assert (case.io, case.schemes) == (io, seen.schemes())
    assert {io} == {spec.dtype for spec in (*seen.inputs, *seen.outputs)}
    given = samples(model)
    assert sqnr(outputs(model, delegate, given), outputs(made, delegate, given)) > case.decibels


def test_int16_is_symmetric_with_wide_biases() -> None:
    """int16 activations have zero point 0, biases are int64 (TensorFlow Lite's 16x8 specification)."""
    model = layered()
    main = ModelFile.read(quantize(model, ranges(model), "int16", recipe="int16x8")).graph.main
    activations = [tensor for tensor in main.tensors if tensor.dtype == "int16"]
    assert len(activations) == 7
    assert {(0,)} == {tensor.quant.zero_points for tensor in activations if tensor.quant is not None}
    assert {"int64"} == {tensor.dtype for tensor in main.tensors if tensor.name.endswith("_bias")}


@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
def test_float_edges(recipe: str) -> None:
    """Static recipes take floats where that is asked for, and compute on integers all the same."""
    model = layered()
    seen = inspect(quantize(model, ranges(model), "float32", recipe=recipe), partitions=False)
    assert ["float32", "float32"] == [spec.dtype for spec in (*seen.inputs, *seen.outputs)]
    assert ((), 1.0) == (seen.float_ops, seen.int8_mac_share if recipe == "int8" else seen.int16_mac_share)


@dataclass(frozen=True)
class Impossible:
    """A recipe and a type that do not go together, and words of the message."""

    recipe: str
    io: str
    words: str


@pytest.mark.parametrize(
    "case",
    [
        Impossible(
            "int16x8", "int8", "recipe 'int16x8' cannot have int8 inputs and outputs: expected int16 or float32"
        ),
        Impossible("dynamic", "uint8", r"expected float32, or another recipe \(auto, int8\)"),
        Impossible("int8", "int16", r"expected int8 or uint8 or float32, or another recipe \(int16x8\)"),
        Impossible("int8", "int4", "unknown io 'int4'"),
        Impossible("int4", "int8", "unknown recipe 'int4'"),
    ],
    ids=lambda case: f"{case.recipe} {case.io}",
)
def test_impossible_types(case: Impossible) -> None:
    """The message names what is possible, and so does quantising."""
    with pytest.raises(OptionError, match=case.words):
        io_for(case.recipe, case.io)
    with pytest.raises(OptionError, match=case.words):
        quantize(models.dense_float(), {}, case.io, recipe=case.recipe)


def test_every_type_that_is_asked_for() -> None:
    """What a recipe allows is what comes out of ``io_for``; the natural type needs no asking."""
    assert ["int8", "int8", "int16", "float32", "float32", "float32"] == [io_for(name, None) for name in RECIPES]
    assert ["uint8", "float32", "float32"] == [
        io_for("auto", "uint8"),
        io_for("int16x8", "float32"),
        io_for("weights", "float32"),
    ]


def test_static_recipes_need_ranges() -> None:
    """Without ranges there is one message, not a guess."""
    with pytest.raises(OptionError, match="the recipe 'int16x8' needs ranges"):
        quantize(models.dense_float(), None, "int16", recipe="int16x8")


def test_layers_belong_to_int8() -> None:
    """Single layers get another type in an int8 graph only."""
    with pytest.raises(OptionError, match="not under 'dynamic'"):
        quantize(models.dense_float(), None, "float32", recipe="dynamic", layers={"logits": "float"})


def test_a_model_without_weights() -> None:
    """Recipes that only touch weights leave it as it is."""
    for recipe in ("dynamic", "float16", "weights"):
        seen = inspect(quantize(models.add_two_inputs(), None, "float32", recipe=recipe))
        assert ({"ADD": 1, "SUB": 1}, None) == (seen.op_counts(), seen.load_error)


def test_quantising_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """litert-quantizer's bars and reports are not the user's business; a long graph has them."""
    b = models.Builder()
    x = first = b.tensor("t0", (1, 4))
    for number in range(1, 121):
        y = b.tensor(f"t{number}", (1, 4))
        b.op("ADD", [x, x], [y], ("AddOptions", schema.AddOptionsT()))
        x = y
    quantize(b.build({"t0": first}, {"t120": x}), {f"t{number}": (-1.0, 1.0) for number in range(121)}, "int8")
    written = capfd.readouterr()
    assert ("", False) == (written.out, "Transformations" in written.err)


@pytest.mark.parametrize("recipe", ["int8", "int16x8", "dynamic"])
def test_constants_are_inside_the_flatbuffer(recipe: str) -> None:
    """litert-quantizer puts those of larger models behind it, and each later edit would take seconds."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 600)), b.tensor("y", (1, 600))
    w = b.tensor("w", (600, 600), data=np.random.default_rng(6).normal(0, 1, (600, 600)).astype(np.float32))
    b.op("FULLY_CONNECTED", [x, w, -1], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    limits = {"x": (-3.0, 3.0), "y": (-90.0, 90.0)}
    made = models.unpacked(quantize(b.build({"x": x}, {"y": y}), limits, io_for(recipe, None), recipe=recipe))
    assert {0} == {buffer.offset for buffer in made.buffers}
    assert 360_000 == max(len(buffer.data) for buffer in made.buffers if buffer.data is not None)


def test_operators_by_recipe() -> None:
    """What has a form under each recipe; int16 lacks some that int8 has."""
    assert {"HARD_SWISH", "SQUARED_DIFFERENCE", "SPACE_TO_DEPTH"} == operators_of("int8") - operators_of("int16x8")
    assert {"CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"} < operators_of("dynamic")
    assert operators_of("int8") < int8_operators()


class TestStoredWeights:
    """Weights that only take less room in the file."""

    def test_values_beyond_float16_stay(self) -> None:
        """A layer with a weight that float16 cannot hold keeps float32, and the others do not."""
        huge = models.edited(models.conv_float(), self._enlarge)
        assert {"float": 1, "float16": 1} == inspect(store_weights(huge, "float16"), partitions=False).schemes()

    @staticmethod
    def _enlarge(model: Any) -> None:
        tensor = next(item for item in model.subgraphs[0].tensors if item.name == b"weights")
        values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).copy()
        values[3] = 70000
        model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)

    def test_a_channel_of_zeros(self) -> None:
        """It gets a scale that means nothing, not one that divides by zero."""
        b = models.Builder()
        x, y = b.tensor("x", (1, 3)), b.tensor("y", (1, 2))
        w = b.tensor("w", (2, 3), data=np.array([[0, 0, 0], [1, -2, 0.5]], np.float32))
        b.op("FULLY_CONNECTED", [x, w, -1], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
        made = store_weights(b.build({"x": x}, {"y": y}), "int8")
        stored = next(tensor for tensor in ModelFile.read(made).graph.main.tensors if tensor.name == "w")
        assert stored.quant is not None
        assert (1.0, float(np.float32(2 / 127))) == stored.quant.scales
        assert [[0, 0, 0], [64, -127, 32]] == stored.array().tolist()

    def test_weights_that_two_layers_share(self) -> None:
        """They are stored once, and both layers read the same floats."""
        b = models.Builder()
        x, y, z = b.tensor("x", (1, 3)), b.tensor("y", (1, 3)), b.tensor("z", (1, 3))
        w = b.tensor("w", (3, 3), data=np.random.default_rng(2).normal(0, 1, (3, 3)).astype(np.float32))
        for source, result in ((x, y), (y, z)):
            b.op(
                "FULLY_CONNECTED", [source, w, -1], [result], ("FullyConnectedOptions", schema.FullyConnectedOptionsT())
            )
        model = b.build({"x": x}, {"z": z})
        made = store_weights(model, "float16")
        assert {"DEQUANTIZE": 1, "FULLY_CONNECTED": 2} == inspect(made, partitions=False).op_counts()
        given = samples(model)
        assert sqnr(outputs(model, "none", given), outputs(made, "none", given)) > 55

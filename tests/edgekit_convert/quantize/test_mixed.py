"""Single operators of an int8 graph in float or int16: nothing else changes, and every file runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from tiny_models import schema

from edgekit.errors import OptionError
from edgekit.graph import Subgraph
from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.frontends import open_source
from edgekit_convert.quantize import operators_of, quantize
from edgekit_convert.quantize.mixed import INT16_OPERATORS, with_types
from edgekit_convert.ranges import Ranges, measure
from edgekit_convert.rewrite import rewrite


def branched() -> bytes:
    """A float graph with what is hard about mixed types.

    ``features`` is an output and has two readers, ``boxes`` is far larger than ``scores`` and joined with it, PAD,
    MAX_POOL_2D and CONCATENATION share scales, and the first and last operators touch the model's ends.
    """
    random = np.random.default_rng(4)

    def weights(*shape: int, size: float = 0.4) -> Array:
        return random.normal(0, size, shape).astype(np.float32)

    def conv(source: int, name: str, filters: int, channels: int, side: int, size: float = 0.4) -> int:
        kernel = b.tensor(f"{name}_kernel", (filters, 1, 1, channels), data=weights(filters, 1, 1, channels, size=size))
        bias = b.tensor(f"{name}_bias", (filters,), data=weights(filters))
        result = b.tensor(name, (1, side, side, filters))
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
        b.op("CONV_2D", [source, kernel, bias], [result], ("Conv2DOptions", options))
        return result

    b = models.Builder()
    x = b.tensor("image", (1, 4, 4, 3))
    features = conv(x, "features", 4, 3, 4)
    amounts = b.tensor("amounts", (4, 2), "int32", data=np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    padded = b.tensor("padded", (1, 6, 6, 4))
    b.op("PAD", [features, amounts], [padded], ("PadOptions", schema.PadOptionsT()))
    largest = b.tensor("largest", (1, 3, 3, 4))
    pool = schema.Pool2DOptionsT()
    pool.strideH = pool.strideW = pool.filterHeight = pool.filterWidth = 2
    pool.padding = 1
    b.op("MAX_POOL_2D", [padded], [largest], ("Pool2DOptions", pool))
    boxes = conv(largest, "boxes", 2, 4, 3, size=20)
    raw = conv(largest, "raw_scores", 2, 4, 3)
    scores = b.tensor("scores", (1, 3, 3, 2))
    b.op("LOGISTIC", [raw], [scores])
    joined = b.tensor("joined", (1, 3, 3, 4))
    join = schema.ConcatenationOptionsT()
    join.axis = 3
    b.op("CONCATENATION", [boxes, scores], [joined], ("ConcatenationOptions", join))
    gate = conv(features, "gate", 4, 4, 4)
    product = b.tensor("product", (1, 4, 4, 4))
    b.op("MUL", [features, gate], [product], ("MulOptions", schema.MulOptionsT()))
    axes = b.tensor("axes", (2,), "int32", data=np.array([1, 2], np.int32))
    pooled = b.tensor("pooled", (1, 4))
    reducer = schema.ReducerOptionsT()
    reducer.keepDims = False
    b.op("MEAN", [product, axes], [pooled], ("ReducerOptions", reducer))
    matrix, bias = b.tensor("matrix", (5, 4), data=weights(5, 4)), b.tensor("bias", (5,), data=weights(5))
    logits = b.tensor("logits", (1, 5))
    b.op(
        "FULLY_CONNECTED", [pooled, matrix, bias], [logits], ("FullyConnectedOptions", schema.FullyConnectedOptionsT())
    )
    y = b.tensor("probabilities", (1, 5))
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    b.op("SOFTMAX", [logits], [y], ("SoftmaxOptions", softmax))
    return b.build({"image": x}, {"features": features, "joined": joined, "probabilities": y})


FLOAT = branched()
MAIN = ModelFile.read(FLOAT).graph.main
OPERATORS = [op.name for op in MAIN.ops]
NAMES = [MAIN.tensors[op.outputs[0]].name for op in MAIN.ops]
DATA = np.random.default_rng(5).normal(0, 1, (24, 4, 4, 3)).astype(np.float32)


def measured() -> Ranges:
    """Ranges of the branched graph on its data."""
    inputs = ModelFile.read(FLOAT).inputs
    data = CalibrationSet(open_data(DATA, inputs, 100, "calibration"), inputs, {})
    return measure(FLOAT, data, lambda done: None).ranges


RANGES = measured()


def run(model: bytes, delegate: str = "none") -> dict[str, Array]:
    """Each output on all data, as real numbers."""
    with Session(ModelFile.read(model), DelegateChoice(DelegateSpec(delegate, 1), "testing")) as session:
        rows: list[Any] = [session.run({"image": sample[None]}) for sample in DATA]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def sqnr(exact: Array, rounded: Array) -> float:
    """Signal to noise in dB."""
    return float(10 * np.log10(np.square(exact).sum() / max(1e-30, float(np.square(exact - rounded).sum()))))


EXACT = run(FLOAT)
PLAIN = {io: quantize(FLOAT, RANGES, io) for io in ("int8", "float32")}


def types(model: bytes) -> dict[str, str]:
    """What each operator computes on, by the name of its first output without a suffix for the type."""
    return {
        op.output.split("_float32")[0].split("_int16")[0].split("_dequant")[0]: op.type
        for op in inspect(model, partitions=False).ops
        if op.name not in ("QUANTIZE", "DEQUANTIZE")
    }


def main(model: bytes) -> Subgraph:
    """The main subgraph."""
    return ModelFile.read(model).graph.main


@pytest.mark.parametrize("io", ["int8", "float32"])
@pytest.mark.parametrize("kind", ["float", "int16"])
@pytest.mark.parametrize("name", NAMES)
def test_one_operator(name: str, kind: str, io: str) -> None:
    """It and no other changes; the file runs with and without XNNPACK, and no output gets worse."""
    made = with_types(PLAIN[io], FLOAT, RANGES, {name: kind})
    assert {other: kind if other == name else "int8" for other in NAMES} == types(made)
    for delegate in ("xnnpack", "none"):
        before, after = run(PLAIN[io], delegate), run(made, delegate)
        for output, exact in EXACT.items():
            assert sqnr(exact, after[output]) > sqnr(exact, before[output]) - 1


def test_ends_keep_types_and_names() -> None:
    """The file's inputs and outputs are what they were, whichever operator changes."""
    for io in ("int8", "float32"):
        expected = ModelFile.read(PLAIN[io])
        for kind in ("float", "int16"):
            found = ModelFile.read(with_types(PLAIN[io], FLOAT, RANGES, dict.fromkeys(NAMES, kind)))
            for side in ("inputs", "outputs"):
                ours, theirs = getattr(expected, side), getattr(found, side)
                assert [(spec.name, spec.dtype) for spec in ours] == [(spec.name, spec.dtype) for spec in theirs]


def test_all_in_float_is_the_float_model() -> None:
    """With float edges nothing is left of the quantisation."""
    made = with_types(PLAIN["float32"], FLOAT, RANGES, dict.fromkeys(NAMES, "float"))
    assert {name: OPERATORS.count(name) for name in OPERATORS} == inspect(made, partitions=False).op_counts()
    after = run(made)
    for output, exact in EXACT.items():
        assert sqnr(exact, after[output]) > 120


def test_all_in_int16() -> None:
    """Between int16 neighbours there is no change of type, and the error is that of int16."""
    made = with_types(PLAIN["float32"], FLOAT, RANGES, dict.fromkeys(NAMES, "int16"))
    counts = inspect(made, partitions=False).op_counts()
    # One QUANTIZE for the input, one to the joined tensors' common scale, one DEQUANTIZE for each output.
    assert (2, 3) == (counts["QUANTIZE"], counts["DEQUANTIZE"])
    before, after = run(PLAIN["float32"]), run(made)
    for output, exact in EXACT.items():
        assert sqnr(exact, after[output]) > sqnr(exact, before[output]) + 4


def test_neighbours_share_a_form() -> None:
    """Two operators in a row need one change in and one out."""
    made = with_types(PLAIN["int8"], FLOAT, RANGES, {"pooled": "float", "logits": "float"})
    counts = inspect(made, partitions=False).op_counts()
    assert (1, 1) == (counts["DEQUANTIZE"], counts["QUANTIZE"] - inspect(PLAIN["int8"]).op_counts().get("QUANTIZE", 0))


def test_float_beside_int16() -> None:
    """A tensor between both types goes from one to the other directly."""
    made = with_types(PLAIN["int8"], FLOAT, RANGES, {"pooled": "int16", "logits": "float"})
    graph = main(made)
    changes = [
        (op.name, graph.tensors[op.inputs[0]].dtype, graph.tensors[op.outputs[0]].dtype)
        for op in graph.ops
        if op.name in ("QUANTIZE", "DEQUANTIZE") and graph.tensors[op.inputs[0]].name.startswith("pooled")
    ]
    assert [("DEQUANTIZE", "int16", "float32")] == changes
    assert all(np.isfinite(values).all() for values in run(made).values())


def test_a_joined_tensor_gets_its_own_scale_again() -> None:
    """In int8 the scores share the boxes' coarse scale; out of the join they do not."""

    def scores(model: bytes) -> float:
        return sqnr(EXACT["joined"][..., 2:], run(model)["joined"][..., 2:])

    plain, freed = scores(PLAIN["float32"]), scores(with_types(PLAIN["float32"], FLOAT, RANGES, {"joined": "float"}))
    assert plain < 15
    assert freed > plain + 20


@pytest.mark.parametrize("name", ["padded", "largest", "joined"])
def test_tied_scales_are_tied_in_int16(name: str) -> None:
    """Kernels that only move values demand equal scales, in int16 as well."""
    graph = main(with_types(PLAIN["int8"], FLOAT, RANGES, {name: "int16"}))
    op = next(op for op in graph.ops if graph.tensors[op.outputs[0]].name == f"{name}_int16")
    quants = {
        graph.tensors[index].quant for index in (*op.inputs, *op.outputs) if graph.tensors[index].dtype == "int16"
    }
    assert len(quants) == 1


def test_refined_biases_are_kept() -> None:
    """What bias correction did to an int32 bias holds for the int64 one, whose unit is finer."""
    corrected = editing.read(PLAIN["int8"])
    graph = main(PLAIN["int8"])
    op = next(op for op in graph.ops if graph.tensors[op.outputs[0]].name == "logits")
    bias = graph.tensors[op.inputs[2]]
    assert bias.quant is not None
    editing.set_constant(corrected, bias.index, bias.array() + np.int32(100))
    made = main(with_types(editing.write(corrected), FLOAT, RANGES, {"logits": "int16"}))
    wide = next(tensor for tensor in made.tensors if tensor.dtype == "int64")
    assert wide.quant is not None
    real = (bias.array() + 100) * np.asarray(bias.quant.scales)
    assert np.abs(wide.array() * np.asarray(wide.quant.scales) - real).max() <= max(wide.quant.scales)


def test_weights_that_nothing_reads_are_dropped() -> None:
    """A layer that went to float leaves no int8 weights behind."""
    made = main(with_types(PLAIN["int8"], FLOAT, RANGES, {"logits": "float"}))
    read = {index for op in made.ops for index in (*op.inputs, *op.outputs)} | {*made.inputs, *made.outputs}
    assert {tensor.index for tensor in made.tensors} == read
    assert [("matrix_float32", "float32")] == [(t.name, t.dtype) for t in made.tensors if t.name.startswith("matrix")]


def test_uint8_edges_after_it() -> None:
    """The edges can be made uint8 afterwards."""
    made = with_types(PLAIN["int8"], FLOAT, RANGES, {"features": "float", "probabilities": "float"})
    edged = ModelFile.read(editing.uint8_edges(made))
    assert {"uint8"} == {spec.dtype for spec in (*edged.inputs, *edged.outputs)}
    expected, found = run(made), run(edged.content)
    for output, values in expected.items():
        assert np.allclose(values, found[output], rtol=0, atol=1e-6 * float(np.abs(values).max()))


def test_quantize_takes_layers() -> None:
    """``quantize`` does the same in one step."""
    layers = {"logits": "float", "gate": "int16"}
    assert with_types(PLAIN["int8"], FLOAT, RANGES, layers) == quantize(FLOAT, RANGES, "int8", layers=layers)


def test_nothing_to_do() -> None:
    """Without layers the file stays as it is."""
    assert PLAIN["int8"] == with_types(PLAIN["int8"], FLOAT, RANGES, {})


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"logit": "float"}, "no operator of the model has the first output 'logit'"),
        ({"image": "float"}, "no operator of the model has the first output 'image'"),
        ({"logits": "int4"}, "unknown type 'int4' for the operator 'logits': expected one of float, int16"),
    ],
    ids=["unknown", "an input", "unknown type"],
)
def test_wrong_layers(layers: dict[str, str], words: str) -> None:
    """One message that says what is wrong."""
    with pytest.raises(OptionError, match=words):
        with_types(PLAIN["int8"], FLOAT, RANGES, layers)


def test_an_operator_without_int16_form() -> None:
    """HARD_SWISH can stay or go to float."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 4))
    b.op("HARD_SWISH", [x], [y], ("HardSwishOptions", schema.HardSwishOptionsT()))
    model, ranges = b.build({"x": x}, {"y": y}), {"x": (-4.0, 4.0), "y": (-0.375, 4.0)}
    with pytest.raises(OptionError, match=r"HARD_SWISH \('y'\) has no int16 form"):
        quantize(model, ranges, "int8", layers={"y": "int16"})
    assert {"y": "float"} == types(quantize(model, ranges, "int8", layers={"y": "float"}))


def test_every_int16_operator_is_one_of_the_recipe() -> None:
    """No form is promised here that a whole int16x8 graph would not have."""
    assert operators_of("int16x8") >= INT16_OPERATORS


def test_a_real_model(assets: Path) -> None:
    """MobileNetV1: an operator of each kind and place, in both types, with and without XNNPACK."""
    opened = open_source(assets / "mobilenet_v1_0.25_224" / "float.tflite")
    images = np.load(assets / "data" / "flowers_224.npz")["calibration"][:3].astype(np.float32) / 127.5 - 1
    data = CalibrationSet(open_data(images, opened.inputs, 3, "calibration"), opened.inputs, {})
    model, _ = rewrite(opened.export(data.pinned()), data)
    ranges = measure(model, data, lambda done: None).ranges
    plain = quantize(model, ranges, "int8")
    ops = {op.name: main(model).tensors[op.outputs[0]].name for op in main(model).ops}
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "RESHAPE", "SOFTMAX"} == set(ops)
    name = ModelFile.read(plain).inputs[0].name
    for kind in ("float", "int16"):
        for chosen in [*([item] for item in ops.values()), list(ops.values())]:
            made = with_types(plain, model, ranges, dict.fromkeys(chosen, kind))
            changed = [op for op in inspect(made).ops if op.type == kind]
            assert len(chosen) == len(changed)
            for delegate in ("xnnpack", "none"):
                with Session(ModelFile.read(made), DelegateChoice(DelegateSpec(delegate, 1), "testing")) as session:
                    result = session.run({name: images[:1]})
                assert isinstance(result, np.ndarray)
                assert 0.8 < float(result.sum()) < 1.2  # probabilities

"""Float ``.tflite`` files of every making: half floats, sparse weights, several entry points, old and odd ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import packed_weights as packed
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.errors import AlreadyQuantisedError, ConversionError, ModelFileError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.frontends import Opening, Source, open_source


def exported(source: Source) -> ModelFile:
    """The pivot at the source's own sizes."""
    return ModelFile.read(source.export({spec.name: spec.shape for spec in source.inputs}))


def ran(content: bytes, value: Array) -> Array:
    """What the interpreter's own kernels compute."""
    with edgekit.load(content, delegate="none") as session:
        return np.asarray(session.run(value))


def image(seed: int = 0) -> Array:
    """An input of ``conv_float``."""
    return np.random.default_rng(seed).normal(size=(1, 12, 12, 3)).astype(np.float32)


def old_file() -> bytes:
    """The tiny model as TensorFlow before 2.4 wrote it: codes in the old field only, no signature."""
    edited = editing.read(models.dense_float(signature=False))
    for code in edited.operatorCodes:
        code.builtinCode = 0
    return editing.write(edited)


def test_old_files_are_repaired() -> None:
    """Operator codes are upgraded and a signature added; the values stay."""
    source = open_source(old_file())
    repaired = ModelFile.read(source.export({"x": (1, 8)}))
    assert ModelFile.read(old_file()).graph.old_operator_codes
    assert not repaired.graph.old_operator_codes
    assert [op.name for op in repaired.graph.main.ops] == ["FULLY_CONNECTED", "SOFTMAX"]
    assert [signature.key for signature in repaired.graph.signatures] == ["serving_default"]
    assert len(source.notes) == 2


def test_unnamed_tensors_get_names() -> None:
    """Ranges are kept by name, so that each tensor needs its own."""
    edited = editing.read(models.dense_float())
    for tensor in edited.subgraphs[0].tensors:
        tensor.name = b"same"
    names = [
        tensor.name
        for tensor in ModelFile.read(open_source(editing.write(edited)).export({"x": (1, 8)})).graph.main.tensors
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_float_weights_become_float32(kind: str) -> None:
    """The DEQUANTIZE before each layer goes, its constants are float32 ones of the same values, and nothing else changes."""
    source = open_source(packed.halved(models.conv_float(), kind))
    pivot = exported(source)
    plain = ModelFile.read(models.conv_float()).graph.main
    assert [op.name for op in pivot.graph.main.ops] == [op.name for op in plain.ops]
    assert {tensor.dtype for tensor in pivot.graph.main.tensors} == {"float32", "int32"}
    before = {
        tensor.name: tensor.array() for tensor in plain.tensors if tensor.data is not None and tensor.dtype == "float32"
    }
    after = {
        tensor.name.removesuffix("_packed"): tensor.array()
        for tensor in pivot.graph.main.tensors
        if tensor.data is not None and tensor.dtype == "float32"
    }
    for name, values in before.items():
        if kind == "float16":
            expected = values.astype(np.float16).astype(np.float32)
        else:
            expected = (packed.bfloat16_bits(values).astype(np.uint32) << 16).view(np.float32).reshape(values.shape)
        np.testing.assert_array_equal(after[name], expected)
    assert source.notes == (f"4 {kind} constants read as float32, which holds the same values",)


def test_half_float_weights_are_compared_with_the_file_as_it_was() -> None:
    """The interpreter runs the file with its DEQUANTIZE operators, and the pivot computes the same."""
    source = open_source(packed.halved(models.conv_float()))
    assert source.reference is not None
    (expected,) = source.reference({"image": image()})
    np.testing.assert_array_equal(ran(exported(source).content, image()), expected)


def test_a_model_that_is_half_float_throughout() -> None:
    """Inputs, activations and outputs become float32 as well; no interpreter runs the original, so nothing is compared."""
    source = open_source(packed.half_throughout(models.conv_float()))
    assert [str(spec) for spec in source.inputs] == ["image float32[1,12,12,3]"]
    pivot = exported(source)
    assert [spec.dtype for spec in pivot.outputs] == ["float32"]
    assert source.reference is None
    np.testing.assert_allclose(ran(pivot.content, image()), ran(models.conv_float(), image()), atol=0.01)
    assert "5 float16 activations computed in float32" in source.notes


@pytest.mark.parametrize(("densify", "half"), [(False, False), (True, False), (True, True)])
def test_sparse_weights_get_their_zeros(densify: bool, half: bool) -> None:
    """Whether a DENSIFY or the kernels unpack them, the pivot is dense and computes the same."""
    dense = packed.thinned(models.conv_float())
    source = open_source(packed.sparse(dense, densify=densify, half=half))
    pivot = exported(source)
    assert [op.name for op in pivot.graph.main.ops] == [op.name for op in ModelFile.read(dense).graph.main.ops]
    assert not any(tensor.sparse for tensor in pivot.graph.main.tensors)
    np.testing.assert_allclose(ran(pivot.content, image()), ran(dense, image()), atol=1e-2 if half else 0)
    assert source.notes[0] == "2 sparse constants filled up with their zeros"


def test_kernels_that_do_not_know_of_sparse_weights_are_no_reference() -> None:
    """A convolution would read on behind the values that are left; DENSIFY and dense layers know."""
    convolution = packed.sparse(packed.thinned(models.conv_float()), densify=False)
    dense = packed.sparse(packed.thinned(models.dense_float()), densify=False)
    assert open_source(convolution).reference is None
    assert open_source(dense).reference is not None


def test_no_bytes_of_packed_weights_stay() -> None:
    """The pivot is as large as the model was before its weights were packed."""
    pivot = exported(open_source(packed.halved(models.conv_float())))
    assert abs(pivot.size_bytes - len(models.conv_float())) < 500


def test_a_half_float_edge_that_is_an_output() -> None:
    """A CAST between an input and an output stays, as an output is no input."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 4), "float16"), b.tensor("y", (1, 4))
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = 1, 0
    b.op("CAST", [x], [y], ("CastOptions", options))
    pivot = exported(open_source(b.build({"x": x}, {"y": y})))
    assert [op.name for op in pivot.graph.main.ops] == ["CAST"]
    values = np.array([[1, -2, 3, 0.5]], np.float32)
    np.testing.assert_array_equal(ran(pivot.content, values), values)


def test_a_result_that_is_cast_to_an_output_keeps_the_output() -> None:
    """The layer before the CAST computes the output itself."""
    b = models.Builder()
    x, half = b.tensor("x", (1, 4)), b.tensor("half", (1, 4), "float16")
    inner, y = b.tensor("inner", (1, 4), "float16"), b.tensor("y", (1, 4))
    down, up = schema.CastOptionsT(), schema.CastOptionsT()
    down.inDataType, down.outDataType, up.inDataType, up.outDataType = 0, 1, 1, 0
    b.op("CAST", [x], [half], ("CastOptions", down))
    b.op("ABS", [half], [inner])
    b.op("CAST", [inner], [y], ("CastOptions", up))
    pivot = exported(open_source(b.build({"x": x}, {"y": y})))
    assert [op.name for op in pivot.graph.main.ops] == ["ABS"]
    assert [spec.name for spec in pivot.outputs] == ["y"]
    np.testing.assert_array_equal(ran(pivot.content, np.array([[1, -2, 3, -4]], np.float32)), [[1, 2, 3, 4]])


def _two() -> bytes:
    """Two networks in one file: ``classify`` and ``add``."""
    return packed.with_entry(packed.named(models.dense_float(), "classify"), models.add_two_inputs(), "add")


def test_a_signature_is_chosen() -> None:
    """Its graph alone is in the pivot, with its own names."""
    source = open_source(_two(), Opening(signature="add"))
    assert [str(spec) for spec in source.inputs] == ["a float32[1,4]", "b float32[1,4]"]
    pivot = exported(source)
    assert len(pivot.graph.subgraphs) == 1
    assert [signature.key for signature in pivot.graph.signatures] == ["add"]
    with edgekit.load(pivot.content, delegate="none") as session:
        result = session.run({"a": np.full((1, 4), 3.0), "b": np.ones((1, 4))})
    np.testing.assert_array_equal(result["difference"], np.full((1, 4), 2.0))
    assert source.notes == ("of the signatures classify, add the conversion is of add",)


def test_several_signatures_and_none_chosen() -> None:
    """The default one is taken where there is one; else the choice is asked for."""
    with pytest.raises(
        OptionError, match=r"has the signatures classify, add and no 'serving_default': say which with --sig"
    ):
        open_source(_two())
    source = open_source(packed.with_entry(models.dense_float(), models.add_two_inputs(), "add"))
    assert [spec.name for spec in source.inputs] == ["x"]


def test_a_signature_that_is_not_there() -> None:
    """Those that are there are named."""
    with pytest.raises(OptionError, match="has no signature 'predict': it has serving_default"):
        open_source(models.dense_float(), Opening(signature="predict"))
    with pytest.raises(OptionError, match="has no signature 'predict': it has none"):
        open_source(models.dense_float(signature=False), Opening(signature="predict"))


def test_subgraphs_that_nothing_runs_are_dropped() -> None:
    """A file without signatures is its main subgraph."""

    def forget(model: Any) -> None:
        model.signatureDefs = None

    source = open_source(models.edited(_two(), forget))
    assert [spec.name for spec in source.inputs] == ["x"]
    assert len(exported(source).graph.subgraphs) == 1


def test_a_weight_that_two_entries_share_is_there_once() -> None:
    """What the other entry alone needed is gone."""
    assert len(exported(open_source(_two(), Opening(signature="add"))).content) < len(models.dense_float()) + 300


def test_an_input_that_is_no_number_is_refused() -> None:
    """It is named with its type."""
    b = models.Builder()
    x, y = b.tensor("text", (1,)), b.tensor("y", (1,))
    b.tensors[x].type = b.tensors[y].type = 5  # schema.fbs, TensorType.STRING
    b.op("RESHAPE", [x, b.tensor("shape", (1,), "int32", data=np.array([1], np.int32))], [y])
    with pytest.raises(ConversionError, match="the input 'text' is of type string, only tensors of numbers"):
        open_source(b.build({"text": x}, {"y": y}))


@pytest.mark.parametrize(
    ("opening", "option"),
    [
        (Opening(trust_source=True), "--trust-source"),
        (Opening(model="nets:make"), "--model"),
        (Opening(channels_last=True), "--channels-last"),
        (Opening(channels_last=False), "--channels-first"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(opening: Opening, option: str) -> None:
    """Nobody is left to believe that they did something."""
    with pytest.raises(OptionError, match=option):
        open_source(models.dense_float(), opening)


def _constant(kind: str, *, unpacked: bool) -> bytes:
    b = models.Builder()
    x, y = b.tensor("x", (1, 8)), b.tensor("y", (1, 4))
    w = b.tensor("w", (4, 8), "int8", data=np.ones((4, 8), np.int8), quant=models.QuantParams((0.01,), (0,)))
    if kind == "int4":
        b.tensors[w].type = 17  # schema.fbs, TensorType.INT4: two values a byte
        b.buffers[b.tensors[w].buffer].data = np.ones(16, np.uint8)
    if unpacked:
        packed_weights, w = w, b.tensor("floats", (4, 8))
        b.op("DEQUANTIZE", [packed_weights], [w], ("DequantizeOptions", schema.DequantizeOptionsT()))
    b.op("FULLY_CONNECTED", [x, w, -1], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    return b.build({"x": x}, {"y": y})


def _activations(dtype: str) -> bytes:
    b = models.Builder()
    quant = models.QuantParams((0.05,), (0,))
    x, y = b.tensor("x", (1, 8), dtype, quant=quant), b.tensor("y", (1, 4), dtype, quant=quant)
    weights = "uint8" if dtype == "uint8" else "int8"
    w = b.tensor("w", (4, 8), weights, data=np.ones((4, 8), weights), quant=models.QuantParams((0.01,), (0,)))
    b.op("FULLY_CONNECTED", [x, w, -1], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()), version=7)
    return b.build({"x": x}, {"y": y})


def _simulated() -> bytes:
    b = models.Builder()
    x, y = b.tensor("x", (1, 8)), b.tensor("y", (1, 8))
    b.op("FAKE_QUANT", [x], [y], ("FakeQuantOptions", schema.FakeQuantOptionsT()))
    return b.build({"x": x}, {"y": y})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(models.dense_int8(), r"static, int8 activations \(2 tensors\)", id="int8"),
        pytest.param(_activations("uint8"), r"static, uint8 activations .* TensorFlow 1", id="uint8"),
        pytest.param(_activations("int16"), r"static, int16 activations .* int8 weights \(int16x8\)", id="int16x8"),
        pytest.param(_constant("int8", unpacked=False), r"dynamic range \(1 int8 constant", id="dynamic range"),
        pytest.param(_constant("int8", unpacked=True), r"weights only \(1 int8 constant", id="weights only"),
        pytest.param(_constant("int4", unpacked=False), r"dynamic range \(1 int4 constant", id="4 bits"),
        pytest.param(
            packed.sparse(_constant("int8", unpacked=False), densify=True),
            r"dynamic range \(1 int8 constant,",
            id="sparse dynamic range",
        ),
        pytest.param(_simulated(), "quantisation-aware.*1 FAKE_QUANT operators", id="simulated"),
        pytest.param(models.custom_op("edgetpu-custom-op"), "compiled for the Edge TPU", id="Edge TPU"),
        pytest.param(
            models.with_manifest(models.dense_int8(), recipe={"name": "auto"}),
            r"by edgekit \(recipe auto\)",
            id="our own",
        ),
    ],
)
def test_quantised_files_are_refused_with_what_they_are(content: bytes, said: str) -> None:
    """The message says how, and to convert the original."""
    with pytest.raises(AlreadyQuantisedError, match=rf"is quantised already: .*{said}.*convert the original"):
        open_source(content)


def test_raw_pixels_are_not_quantised_values() -> None:
    """An input of integers without a scale, turned to floats by a CAST, is a float model's."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 8), "uint8"), b.tensor("y", (1, 8))
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = 3, 0
    b.op("CAST", [x], [y], ("CastOptions", options))
    assert [str(spec) for spec in open_source(b.build({"x": x}, {"y": y})).inputs] == ["x uint8[1,8]"]


def test_a_sparse_constant_that_is_damaged_is_refused() -> None:
    """Its indices say more than there are values for."""

    def cut(model: Any) -> None:
        tensor = next(item for item in model.subgraphs[0].tensors if item.sparsity is not None)
        model.buffers[tensor.buffer].data = model.buffers[tensor.buffer].data[:-4]

    content = models.edited(packed.sparse(packed.thinned(models.dense_float()), densify=True), cut)
    with pytest.raises(ModelFileError, match=r"the sparse constant .* is not in order"):
        open_source(content)


@pytest.mark.parametrize("effort", ["fast", "default"])
@pytest.mark.parametrize("pack", [packed.halved, lambda content: packed.sparse(packed.thinned(content), densify=True)])
def test_packed_files_convert_from_end_to_end(pack: Any, effort: str) -> None:
    """The int8 file of a packed model agrees with it, and the float stage is the model itself."""
    data = np.random.default_rng(1).normal(size=(40, 12, 12, 3)).astype(np.float32)
    result = edgekit.convert(pack(models.conv_float()), data, normalize="none", effort=effort)
    float_stage = next(finding for finding in result.findings if finding.code == "float-stage")
    assert "at most 0.0e+00" in float_stage.text
    assert result.report.passed


def test_whatever_byte_is_spoiled_the_error_is_one_of_ours() -> None:
    """Each byte of a file in turn: it opens all the same, or is refused, and never ends in an exception of Python's."""
    content = bytearray(models.dense_float())
    spoiled = 0
    for place in range(8, len(content)):
        damaged = bytes(content[:place]) + bytes([content[place] ^ 0x7F]) + bytes(content[place + 1 :])
        try:
            open_source(damaged)
        except edgekit.EdgekitError:
            spoiled += 1
    assert spoiled > 100

"""The whole conversion, from every source, and what the result carries."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array

RANDOM = np.random.default_rng(11)
PIXELS = RANDOM.integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)


def convert_tiny(**options: Any) -> Any:
    """Convert the tiny classifier with normalised pixels."""
    return edgekit.convert(models.conv_float(), PIXELS, **{"normalize": (127.5, 127.5), **options})


@pytest.mark.parametrize("kind", ["memory", "keras", "h5", "saved_model", "tflite", "bytes"])
def test_every_source_becomes_the_same_int8_model(kind: str, sources: dict[str, Any], image_data: Array) -> None:
    """All forms of one network give fully int8 models that agree with the original network."""
    result = edgekit.convert(sources[kind], image_data, recipe="int8")
    seen = inspect(result.model)
    assert seen.fully_int8
    assert seen.int8_mac_share == 1.0
    assert [spec.dtype for spec in (*seen.inputs, *seen.outputs)] == ["int8", "int8"]
    assert all(-1 not in spec.shape for spec in seen.inputs)
    assert result.report.on["calibration"].sqnr_db.value > 30
    with edgekit.load(result.model, delegate="xnnpack") as session:
        actual = np.concatenate([session.run(image[None]) for image in image_data[:10]])
    expected = np.asarray(sources["memory"](image_data[:10], training=False))
    np.testing.assert_allclose(actual, expected, atol=0.02)


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_input_and_output_types(io: str) -> None:
    """Each --io gives a file of that type with the same values."""
    result = convert_tiny(io=io)
    assert [spec.dtype for spec in (*result.model.inputs, *result.model.outputs)] == [io, io]
    reference = convert_tiny(io="int8")
    image = (PIXELS[:1].astype(np.float32) - 127.5) / 127.5
    with edgekit.load(result.model, delegate="none") as a, edgekit.load(reference.model, delegate="none") as b:
        np.testing.assert_allclose(a.run(image), b.run(image), atol=1e-6)


def test_the_manifest_says_what_was_done(tmp_path: Path) -> None:
    """The file carries recipe, preprocessing, labels, calibration and proof, readable with zipfile."""
    path = tmp_path / "model.tflite"
    names = ["a", "b", "c", "d", "e"]
    result = convert_tiny(output=path, labels=names, color="rgb", verify=(PIXELS[:20], np.arange(20) % 5))
    manifest = ModelFile.read(path).manifest
    assert manifest is not None
    assert manifest == result.model.manifest
    assert manifest.labels == tuple(names)
    assert manifest.recipe["name"] == "auto"
    assert manifest.calibration["count"] == 60
    assert manifest.preprocessing["image"] == edgekit.Preprocessing(color="rgb", mean=(127.5,), std=(127.5,))
    assert manifest.verification["on"]["verify"]["metric"]["name"] == "accuracy"
    assert manifest.runtime["proven"].startswith("ai-edge-litert ")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["edgekit.json", "labels.txt", "golden.npz"]
        assert archive.read("labels.txt").decode().split() == names


def test_preprocessing_travels_to_the_device(tmp_path: Path) -> None:
    """Loading with preprocess=True takes raw pixels and gives what preprocessing by hand gives."""
    path = tmp_path / "model.tflite"
    convert_tiny(output=path)
    with edgekit.load(path, delegate="none", preprocess=True) as raw, edgekit.load(path, delegate="none") as ready:
        by_hand = ready.run((PIXELS[:1].astype(np.float32) - 127.5) / 127.5)
        np.testing.assert_array_equal(raw.run(PIXELS[0]), by_hand)


def test_conversion_is_repeatable() -> None:
    """The same input gives the same bytes."""
    assert convert_tiny().model.content == convert_tiny().model.content


def test_standard_metadata_is_written() -> None:
    """Other tools find normalisation and labels where TFLite metadata has them."""
    block = convert_tiny(labels=["a", "b", "c", "d", "e"]).model.graph.metadata["TFLITE_METADATA"]
    assert block[4:8] == b"M001"
    assert np.float32(127.5).tobytes() * 1 in block
    assert b"labels.txt" in block


def test_recipe_int8_fails_where_an_operator_has_no_int8_form() -> None:
    """``int8`` is a gate: exit code 1, the operator named; ``auto`` converts and names it in the report."""
    content = with_exp()
    data = RANDOM.uniform(-1, 1, (40, 8)).astype(np.float32)
    with pytest.raises(edgekit.GateError, match=r"operators left in float: EXP .*no int8 form") as caught:
        edgekit.convert(content, data, recipe="int8")
    assert caught.value.exit_code == 1
    result = edgekit.convert(content, data, recipe="auto")
    assert [name for name, _ in result.report.float_ops] == ["EXP"]


def with_exp() -> bytes:
    """FULLY_CONNECTED and EXP, which has no int8 form."""
    from ai_edge_litert import schema_py_generated as schema

    b = models.Builder()
    x = b.tensor("x", (1, 8))
    w = b.tensor("weights", (4, 8), data=RANDOM.normal(0, 0.3, (4, 8)).astype(np.float32))
    c = b.tensor("bias", (4,), data=np.zeros(4, np.float32))
    y, z = b.tensor("logits", (1, 4)), b.tensor("grown", (1, 4))
    b.op("FULLY_CONNECTED", [x, w, c], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    b.op("EXP", [y], [z], ("ExpOptions", schema.ExpOptionsT()))
    return b.build({"x": x}, {"grown": z})


def test_a_gate_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """Nothing is written when a check fails."""
    with pytest.raises(edgekit.GateError):
        edgekit.convert(with_exp(), RANDOM.uniform(-1, 1, (40, 8)), recipe="int8", output=tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_float_model_that_guesses_is_noticed() -> None:
    """Labels that have nothing to do with the outputs: about chance, and a finding that says why."""
    result = convert_tiny(verify=(PIXELS, RANDOM.integers(0, 5, 60)))
    assert "float-at-chance" in {finding.code for finding in result.findings}


def test_progress_counts_to_its_total() -> None:
    """Long steps report done and total, ending at the total."""
    seen: dict[str, list[tuple[int, int]]] = {}
    convert_tiny(progress=lambda step, done, total: seen.setdefault(step, []).append((done, total)))
    assert seen["Measuring ranges"][-1] == (60, 60)
    assert [done for done, _ in seen["Measuring ranges"]] == list(range(1, 61))
    assert seen["Auditing the calibration data"][-1] == (60, 60)


def test_open_sizes_are_pinned() -> None:
    """A source with an open batch gives a file without one."""
    data = RANDOM.normal(0, 1, (40, 8)).astype(np.float32)
    result = edgekit.convert(models.dense_float(open_batch=True), data)
    shapes = [tensor.shape_signature for tensor in result.model.graph.main.tensors]
    assert result.model.inputs[0].shape == (1, 8)
    assert all(-1 not in shape for shape in shapes)


def test_two_inputs_and_outputs() -> None:
    """Models with several inputs take a dict, and give a figure for each output."""
    data = {name: RANDOM.normal(0, 1, (40, 4)).astype(np.float32) for name in ("a", "b")}
    result = edgekit.convert(models.add_two_inputs(), data)
    assert [output.name for output in result.report.on["calibration"].outputs] == ["sum", "difference"]
    assert all(output.sqnr_db.value > 30 for output in result.report.on["calibration"].outputs)


def test_save_keeps_an_existing_file(tmp_path: Path) -> None:
    """An existing file stays unless overwriting was asked for."""
    path = tmp_path / "model.tflite"
    path.write_bytes(b"precious")
    result = convert_tiny()
    with pytest.raises(edgekit.OutputError, match="exists already"):
        result.save(path)
    assert path.read_bytes() == b"precious"
    result.save(path, overwrite=True)
    assert path.read_bytes() == result.model.content
    assert [item.name for item in tmp_path.iterdir()] == ["model.tflite"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"recipe": "int4"}, "unknown recipe 'int4': expected one of auto, int8", id="recipe"),
        pytest.param({"io": "int4"}, "unknown io 'int4'", id="io"),
        pytest.param({"device": "toaster"}, "toaster", id="device"),
        pytest.param({"normalize": "1,2,3"}, "--normalize has 3 numbers", id="normalize"),
        pytest.param(
            {"preprocessing": {"other": edgekit.Preprocessing()}, "normalize": None}, "unknown input other", id="name"
        ),
        pytest.param({"labels": ["a\nb"]}, "not one line of text", id="label"),
        pytest.param({"samples": 0}, "at least 1 was expected", id="samples"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    """Each wrong option gets one error."""
    with pytest.raises(edgekit.EdgekitError, match=message):
        convert_tiny(**options)


def test_activations_with_gradients_of_their_own() -> None:
    """Swish carries a custom gradient, which must not keep a model from being converted."""
    from edgekit_convert.frontends.freeze import import_tensorflow

    import_tensorflow()
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="swish"), keras.layers.Flatten()]
    )
    result = edgekit.convert(model, RANDOM.uniform(-1, 1, (40, 8, 8, 3)).astype(np.float32), recipe="int8")
    assert result.report.on["calibration"].sqnr_db.value > 30


def test_open_height_and_width_are_pinned_by_the_data() -> None:
    """A network for images of any size becomes one for the size of the calibration images."""
    from edgekit_convert.frontends.freeze import import_tensorflow

    import_tensorflow()
    import keras

    keras.utils.set_random_seed(3)
    layers = [keras.layers.Conv2D(4, 3, strides=2), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((None, None, 3), name="image"), *layers])
    data = RANDOM.uniform(-1, 1, (40, 20, 30, 3)).astype(np.float32)
    assert edgekit.convert(model, data).model.inputs[0].shape == (1, 20, 30, 3)


def test_an_unrolled_lstm_converts_and_one_that_the_delegate_refuses_fails_its_check(tmp_path: Path) -> None:
    """XNNPACK refuses a SPLIT that changes the scale, without falling back: a failed check with its words, not a crash."""
    from edgekit_convert import graph as editing
    from edgekit_convert.frontends.freeze import import_tensorflow

    import_tensorflow()
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((10, 8)), keras.layers.LSTM(6, unroll=True), keras.layers.Dense(3)])
    data = RANDOM.normal(0, 1, (40, 10, 8)).astype(np.float32)
    result = edgekit.convert(model, data)
    assert result.report.passed
    assert result.report.int8_mac_share == 1
    edited = editing.read(result.model.content)
    edited.metadata = []
    split = next(op for op in edited.subgraphs[0].operators if len(op.outputs) == 4)
    edited.subgraphs[0].tensors[split.outputs[0]].quantization.scale = [1.0]
    source = tmp_path / "float.tflite"
    source.write_bytes(result.float_model)
    report = edgekit.verify(source, editing.write(edited), data)
    failed = {check.name: check.text for check in report.checks if check.passed is False}
    assert list(failed) == ["loads and runs"]
    assert "cannot run the model" in failed["loads and runs"]


def test_a_rescaling_layer_is_known_though_it_is_folded_away() -> None:
    """The converter folds Rescaling into the first weights; raw pixels are right all the same, and scaled ones are not."""
    from edgekit_convert.frontends.freeze import import_tensorflow

    import_tensorflow()
    import keras

    keras.utils.set_random_seed(3)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(5)]
    model = keras.Sequential([keras.Input((12, 12, 3)), *layers])
    assert not {finding.code for finding in edgekit.convert(model, PIXELS).findings} & {"raw-pixels", "scaled-twice"}
    scaled = edgekit.convert(model, (PIXELS / 255).astype(np.float32))
    assert "scaled-twice" in {finding.code for finding in scaled.findings}


def test_labels_of_another_model_are_noticed() -> None:
    """Five classes and three labels: a warning with both numbers; five labels: none."""
    found = {finding.code: finding.text for finding in convert_tiny(labels=["a", "b", "c"]).findings}
    assert "3 labels, and no output has as many values" in found["label-count"]
    assert "label-count" not in {finding.code for finding in convert_tiny(labels=["a", "b", "c", "d", "e"]).findings}


def test_of_several_signatures_the_default_one_is_converted() -> None:
    """Two entry points, each a subgraph of its own: a finding names them, and the file has one."""
    from edgekit_convert import graph as editing

    edited = editing.read(models.dense_float())
    other = editing.read(models.dense_float())
    shift = len(edited.buffers)
    for tensor in other.subgraphs[0].tensors:
        tensor.buffer += shift if tensor.buffer else 0
    edited.buffers += other.buffers
    edited.subgraphs += other.subgraphs
    other.signatureDefs[0].signatureKey, other.signatureDefs[0].subgraphIndex = b"second", 1
    edited.signatureDefs += other.signatureDefs
    result = edgekit.convert(editing.write(edited), RANDOM.normal(0, 1, (40, 8)).astype(np.float32), effort="fast")
    assert "of the signatures serving_default, second the conversion is of serving_default" in [
        finding.text for finding in result.findings
    ]
    assert [signature.key for signature in result.model.graph.signatures] == ["serving_default"]
    assert len(result.model.graph.subgraphs) == 1

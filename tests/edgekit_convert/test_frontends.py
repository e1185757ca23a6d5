"""What each frontend recognises, mends and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import AlreadyQuantisedError, ConversionError, ModelFileError
from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing
from edgekit_convert.frontends import open_source
from edgekit_convert.frontends.freeze import import_tensorflow


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


@pytest.mark.parametrize(
    ("kind", "message"),
    [("static", "static, int8 activations"), ("weights", "weights only or dynamic range"), ("half", "float16 weights")],
)
def test_quantised_sources_are_refused_with_what_they_are(kind: str, message: str) -> None:
    """The message says how the file is quantised, and to convert the original."""
    content = models.dense_int8() if kind == "static" else _dynamic(kind)
    with pytest.raises(AlreadyQuantisedError, match=f"{message}.*convert the original"):
        open_source(content)


def _dynamic(kind: str) -> bytes:
    b = models.Builder()
    x = b.tensor("x", (1, 8))
    y = b.tensor("y", (1, 4))
    if kind == "weights":
        quant = models.QuantParams((0.01,), (0,))
        w = b.tensor("w", (4, 8), "int8", data=np.ones((4, 8), np.int8), quant=quant)
    else:
        half = b.tensor("half", (4, 8), "float16", data=np.ones((4, 8), np.float16))
        w = b.tensor("w", (4, 8))
        b.op("DEQUANTIZE", [half], [w], ("DequantizeOptions", schema.DequantizeOptionsT()))
    b.op("FULLY_CONNECTED", [x, w, -1], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    return b.build({"x": x}, {"y": y})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("model.tflite", b"\x00" * 100, "damaged or not what its name says", id="garbage tflite"),
        pytest.param("model.keras", b"PK nothing", "damaged or not what its name says", id="garbage keras"),
        pytest.param("model.h5", b"\x89HDF\r\n\x1a\n" + b"\x00" * 50, "damaged or cut short", id="cut h5"),
        pytest.param("model.onnx", b"\x08\x07", "no frontend for .onnx", id="onnx"),
        pytest.param("model.bin", b"abc", "of no kind that can be converted", id="unknown"),
        pytest.param("empty.tflite", b"", "damaged or not what its name says", id="empty"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Each gets one message."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        open_source(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    """A missing file and a folder without a model."""
    with pytest.raises(ModelFileError, match="no such file"):
        open_source(tmp_path / "absent.keras")
    with pytest.raises(ModelFileError, match=r"not a SavedModel: it has no saved_model\.pb"):
        open_source(tmp_path)


def test_other_objects_are_refused() -> None:
    """Only Keras models are taken from memory."""
    with pytest.raises(ConversionError, match=r"cannot convert an object of type builtins\.int"):
        open_source(3)


def test_a_damaged_saved_model_is_refused(tmp_path: Path) -> None:
    """TensorFlow's complaint becomes one line."""
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 40)
    with pytest.raises(ConversionError, match="TensorFlow cannot load the SavedModel"):
        open_source(tmp_path)


def test_lambda_layers_are_not_run(tmp_path: Path) -> None:
    """Code in an .h5 or .keras file is refused."""
    import_tensorflow()
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)])
    for name in ("model.h5", "model.keras"):
        model.save(tmp_path / name)
        with pytest.raises(ConversionError, match="own program if you trust it"):
            open_source(tmp_path / name)


def test_weights_without_a_model_are_refused(tmp_path: Path, keras_model: Any) -> None:
    """An .h5 of weights says so."""
    keras_model.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(ModelFileError, match="weights without a model"):
        open_source(tmp_path / "only.weights.h5")


def test_old_h5_files_are_read_with_tf_keras(tmp_path: Path) -> None:
    """A file that Keras 3 refuses (a layer name with a slash) is read, and that is said."""
    import_tensorflow()
    import tf_keras

    inner = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(3, name="block/dense")])
    inner.save(tmp_path / "old.h5")
    source = open_source(tmp_path / "old.h5")
    assert "it was read with tf-keras" in source.notes[0]
    model = ModelFile.read(source.export({source.inputs[0].name: (1, 4)}))
    assert model.outputs[0].shape == (1, 3)


def test_several_inputs_and_named_outputs_survive() -> None:
    """A functional model with two inputs and a dict of outputs keeps their names."""
    import_tensorflow()
    import keras

    a, b = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    joined = keras.layers.Concatenate()([a, b])
    outputs = {"score": keras.layers.Dense(1)(joined), "classes": keras.layers.Dense(4)(joined)}
    source = open_source(keras.Model([a, b], outputs))
    model = ModelFile.read(source.export({"left": (1, 3), "right": (1, 2)}))
    assert sorted(spec.name for spec in model.inputs) == ["left", "right"]
    assert sorted(spec.name for spec in model.outputs) == ["classes", "score"]


def test_a_saved_model_with_strings_is_refused(tmp_path: Path) -> None:
    """The input is named."""
    tf = import_tensorflow()
    module = tf.Module()
    module.read = tf.function(lambda text: {"length": tf.strings.length(text)}, autograph=False)
    signature = module.read.get_concrete_function(tf.TensorSpec([None], tf.string, name="text"))
    tf.saved_model.save(module, str(tmp_path), signatures=signature)
    with pytest.raises(ConversionError, match="'text' is of type string"):
        open_source(tmp_path)


def test_operators_without_a_tflite_form_are_named() -> None:
    """A model that would need Flex is refused with the operator's name."""
    import_tensorflow()
    import keras
    import tensorflow as tf

    @keras.saving.register_keras_serializable("edgekit-tests")
    class Digest(keras.layers.Layer):  # type: ignore[misc]  # Keras is untyped
        def call(self, x: Any) -> Any:
            return x + tf.linalg.det(x[:, None, None, 0] * tf.eye(2))[:, None]

    source = open_source(keras.Sequential([keras.Input((1,)), Digest()]))
    with pytest.raises(ConversionError, match="MatrixDeterminant"):
        source.export({source.inputs[0].name: (1, 1)})

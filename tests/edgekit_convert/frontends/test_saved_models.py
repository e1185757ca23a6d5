"""SavedModels of TensorFlow 2 and 1: which signature, what goes in, what is refused by name."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ConversionError, ModelFileError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit_convert.frontends import Opening, open_source
from edgekit_convert.frontends.freeze import import_tensorflow


def saved(folder: Path, *, variables: bool = True, **signatures: Any) -> Path:
    """A SavedModel; each signature is a function with the ``tf.TensorSpec`` of its inputs as ``specs``."""
    tf = import_tensorflow()
    module = tf.Module()
    if variables:
        module.w = tf.Variable(tf.reshape(tf.range(12.0), [4, 3]))
    concrete = {}
    for key, (function, specs) in signatures.items():
        wrapped = tf.function(_bound(function, module), autograph=False)
        setattr(module, f"call_{key}", wrapped)
        concrete[key] = wrapped.get_concrete_function(
            **{name: tf.TensorSpec(*spec, name=name) for name, spec in specs.items()}
        )
    tf.saved_model.save(module, str(folder), signatures=concrete)
    return folder


def _bound(function: Any, module: Any) -> Any:
    return lambda **inputs: function(module, **inputs)


def dense(module: Any, x: Any) -> dict[str, Any]:
    """One matrix product."""
    return {"y": x @ module.w}


def agrees(source: Any, values: dict[str, Any]) -> ModelFile:
    """Export for the values' shapes, and see that LiteRT computes what TensorFlow does."""
    pivot = ModelFile.read(source.export({name: value.shape for name, value in values.items()}))
    with Session(pivot, DelegateChoice(DelegateSpec("none", 1), "comparing")) as session:
        result = session.run(values)
    actual = [result[name] for name in sorted(result)] if isinstance(result, dict) else [result]
    for a, b in zip(source.reference(values), actual, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    return pivot


def test_the_default_signature_is_taken_and_said(tmp_path: Path) -> None:
    """Of several; the others are named."""
    specs = {"x": ([None, 4],)}
    folder = saved(tmp_path, serving_default=(dense, specs), twice=(lambda module, x: {"z": 2 * x @ module.w}, specs))
    source = open_source(folder)
    assert ("the signature 'serving_default' was taken; the others are twice (--signature).",) == source.notes
    assert ["y"] == [spec.name for spec in agrees(source, {"x": np.ones((1, 4), np.float32)}).outputs]


def test_a_signature_is_chosen_by_name(tmp_path: Path) -> None:
    """Any that it has; one that it has not is an error that lists them."""
    specs = {"x": ([None, 4],)}
    folder = saved(tmp_path, first=(dense, specs), second=(lambda module, x: {"z": 2 * x @ module.w}, specs))
    assert ["z"] == [
        spec.name
        for spec in agrees(open_source(folder, Opening(signature="second")), {"x": np.ones((1, 4), np.float32)}).outputs
    ]
    with pytest.raises(
        OptionError, match=r"has the signatures first, second and no 'serving_default': choose one \(--signature\)"
    ):
        open_source(folder)
    with pytest.raises(OptionError, match="has no signature 'third': it has first, second"):
        open_source(folder, Opening(signature="third"))


def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path) -> None:
    """Of several types and ranks; open sizes are -1."""

    def call(module: Any, image: Any, count: Any) -> dict[str, Any]:
        import tensorflow as tf

        total = tf.reduce_sum(image, [1, 2])
        return {"mean": total @ module.w, "count": count + 1, "b/c": total}

    folder = saved(tmp_path, serving_default=(call, {"image": ([None, None, 8, 4],), "count": ([None, 2], "int32")}))
    source = open_source(folder)
    assert {"image": (-1, -1, 8, 4), "count": (-1, 2)} == {spec.name: spec.shape for spec in source.inputs}
    assert {"image": "float32", "count": "int32"} == {spec.name: spec.dtype for spec in source.inputs}
    random = np.random.default_rng(0)
    values = {"image": random.normal(size=(1, 6, 8, 4)).astype(np.float32), "count": np.int32([[3, 4]])}
    pivot = agrees(source, values)
    assert {"mean": (1, 3), "count": (1, 2), "b/c": (1, 4)} == {spec.name: spec.shape for spec in pivot.outputs}
    assert {"image", "count"} == {spec.name for spec in pivot.inputs}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(([None], "string"), "the input 'x' of 'serving_default' is of type string", id="text"),
        pytest.param(([None, 4], "complex64"), "the input 'x' of 'serving_default' is of type complex64", id="complex"),
    ],
)
def test_inputs_that_are_no_numbers(tmp_path: Path, spec: Any, message: str) -> None:
    """By name and type, with the signature that would do."""

    def shape(module: Any, x: Any) -> dict[str, Any]:
        import tensorflow as tf

        return {"n": tf.shape(x)}

    folder = saved(tmp_path, serving_default=(shape, {"x": spec}), numbers=(dense, {"x": ([None, 4],)}))
    with pytest.raises(ConversionError, match=rf"{message}, only .*of its signatures numbers would do \(--signature\)"):
        open_source(folder)


def test_outputs_that_are_no_numbers(tmp_path: Path) -> None:
    """Class names beside the scores, as estimators have them."""

    def call(module: Any, x: Any) -> dict[str, Any]:
        import tensorflow as tf

        return {"scores": x @ module.w, "classes": tf.constant(["cat", "dog", "owl"])}

    with pytest.raises(ConversionError, match="the output 'classes' of 'serving_default' is of type string"):
        open_source(saved(tmp_path, serving_default=(call, {"x": ([None, 4],)})))


def test_an_input_without_rank_needs_a_shape(tmp_path: Path) -> None:
    """The error says which option; with it the model is converted."""
    folder = saved(tmp_path, serving_default=(lambda module, x: {"y": x * 2.0 + module.w[0, 1]}, {"x": (None,)}))
    with pytest.raises(ConversionError, match=r"'x' has no known number of sizes: say which \(--shape x=1,224,224,3\)"):
        open_source(folder)
    source = open_source(folder, Opening(shapes={"x": (1, 5)}))
    assert (1, 5) == source.inputs[0].shape
    agrees(source, {"x": np.ones((1, 5), np.float32)})


def test_switches_among_the_inputs_are_refused(tmp_path: Path) -> None:
    """Data have one of it for each sample, and the model one for all."""

    def call(module: Any, x: Any, keep: Any) -> dict[str, Any]:
        return {"y": x @ module.w * keep}

    folder = saved(tmp_path, serving_default=(call, {"x": ([None, 4],), "keep": ([],)}))
    with pytest.raises(ConversionError, match="the input 'keep' is a single number, not a batch of samples"):
        open_source(folder)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_other_floats_become_float32(tmp_path: Path, kind: str) -> None:
    """Inputs, constants, variables and everything between."""
    tf = import_tensorflow()
    module = tf.Module()
    module.w = tf.Variable(tf.cast(tf.reshape(tf.range(12.0), [4, 3]), kind))
    module.call = tf.function(lambda x: {"y": tf.nn.relu(x @ module.w - tf.constant(0.5, kind))}, autograph=False)
    signature = module.call.get_concrete_function(tf.TensorSpec([None, 4], kind, name="x"))
    tf.saved_model.save(module, str(tmp_path), signatures=signature)
    source = open_source(tmp_path)
    assert (f"the model computes in {kind} in places: these were made float32.",) == source.notes
    assert "float32" == source.inputs[0].dtype
    pivot = agrees(source, {"x": np.float32([[0.5, -1, 2, 0.25]])})
    assert {"float32"} == {
        tensor.dtype for tensor in pivot.graph.main.tensors if tensor.dtype.startswith(("float", "bf"))
    }


def test_branches_and_loops_are_named(tmp_path: Path) -> None:
    """With the operator of TensorFlow and the scope that it is in."""

    def call(module: Any, x: Any) -> dict[str, Any]:
        import tensorflow as tf

        with tf.name_scope("growing"):
            y = tf.while_loop(lambda a: tf.reduce_sum(a) < 100.0, lambda a: (a * 2.0,), [tf.abs(x) + 1.0])[0]
        return {"y": y @ module.w}

    source = open_source(saved(tmp_path, serving_default=(call, {"x": ([None, 4],)})))
    with pytest.raises(
        ConversionError, match=r"has control flow, which has no form in int8: (Stateless)?While in growing"
    ):
        source.export({"x": (1, 4)})


def test_operators_without_a_form_in_tflite_are_named(tmp_path: Path) -> None:
    """Each with its scopes."""

    def call(module: Any, x: Any) -> dict[str, Any]:
        import tensorflow as tf

        with tf.name_scope("head"):
            return {"y": tf.linalg.det(tf.reshape(x, [1, 2, 2])), "z": tf.linalg.inv(tf.reshape(x, [1, 2, 2]))}

    source = open_source(saved(tmp_path, variables=False, serving_default=(call, {"x": ([None, 4],)})))
    with pytest.raises(
        ConversionError,
        match=r"operators that TFLite does not have: MatrixDeterminant in head; MatrixInverse in head\.",
    ):
        source.export({"x": (1, 4)})


def test_variables_that_a_run_changes_are_refused(tmp_path: Path) -> None:
    """A counter has no form in int8."""

    def call(module: Any, x: Any) -> dict[str, Any]:
        return {"y": x @ module.w.assign_add(module.w)}

    source = open_source(saved(tmp_path, serving_default=(call, {"x": ([None, 4],)})))
    with pytest.raises(ConversionError, match="keeps state from one run to the next: AssignAddVariableOp"):
        source.export({"x": (1, 4)})


def test_a_model_without_signatures(tmp_path: Path) -> None:
    """The message says how to give it one."""
    tf = import_tensorflow()
    module = tf.Module()
    module.w = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path))
    with pytest.raises(ConversionError, match=r"has no signature: export it with one \(`model\.export`"):
        open_source(tmp_path)


@pytest.mark.parametrize("content", [b"\xff" * 40, b"", b"\x08\x01"], ids=["garbage", "empty", "no graph"])
def test_damaged_folders(tmp_path: Path, content: bytes) -> None:
    """One line, and to copy it again."""
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"is damaged: saved_model\.pb .*[Cc]opy it again"):
        open_source(tmp_path)


def test_variables_left_behind(tmp_path: Path) -> None:
    """A folder that was copied in part."""
    folder = saved(tmp_path, serving_default=(dense, {"x": ([None, 4],)}))
    for file in (folder / "variables").iterdir():
        file.unlink()
    with pytest.raises(ConversionError, match=r"cannot load the SavedModel .*the whole folder, `variables` included"):
        open_source(folder)


def test_the_text_form(tmp_path: Path) -> None:
    """A ``saved_model.pbtxt`` is one as well."""
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    folder = saved(tmp_path, serving_default=(dense, {"x": ([None, 4],)}))
    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (folder / "saved_model.pbtxt").write_text(text_format.MessageToString(message))
    (folder / "saved_model.pb").unlink()
    agrees(open_source(folder), {"x": np.ones((1, 4), np.float32)})


@pytest.mark.parametrize("option", ["model", "channels_last"])
def test_options_without_a_meaning_are_errors(tmp_path: Path, option: str) -> None:
    """Nobody is to believe that they did something."""
    folder = saved(tmp_path, serving_default=(dense, {"x": ([None, 4],)}))
    opening = Opening(model="m:f") if option == "model" else Opening(channels_last=False)
    with pytest.raises(OptionError, match=f"a SavedModel has no use for {option}"):
        open_source(folder, opening)


def frozen_1(folder: Path, tags: list[list[str]]) -> Path:
    """A SavedModel as TensorFlow 1 wrote it, a graph for each set of tags."""
    tf = import_tensorflow()
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(folder))
    for number, names in enumerate(tags):
        with v1.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, 4], "x")
            y = x * v1.get_variable("w", initializer=tf.constant([1.0, 2.0, 3.0, 4.0]))
            session.run(v1.global_variables_initializer())
            signatures = {"serving_default": v1.saved_model.predict_signature_def({"x": x}, {"y": y})}
            if number == 0:
                builder.add_meta_graph_and_variables(session, names, signatures)
            else:
                builder.add_meta_graph(names, signatures)
    builder.save()
    return folder


def test_models_of_tensorflow_1(tmp_path: Path) -> None:
    """Session, placeholder, variable; of several graphs the one that is for serving."""
    source = open_source(frozen_1(tmp_path / "model", [["serve"], ["train"]]))
    agrees(source, {"x": np.ones((1, 4), np.float32)})


def test_several_graphs_and_none_for_serving(tmp_path: Path) -> None:
    """Their tags are named."""
    with pytest.raises(
        ConversionError, match=r"has 2 graphs \(train; eval\), and one with the tag 'serve' was expected"
    ):
        open_source(frozen_1(tmp_path / "model", [["train"], ["eval"]]))


def test_the_loader_for_version_1_reads_what_the_current_one_refuses(assets: Path) -> None:
    """TensorFlow 2.3 stored its optimizer; without tf-keras the current loader fails on that ('add_slot')."""
    program = """
        import sys
        sys.modules["tf_keras"] = None  # as where it is not installed
        from edgekit_convert.frontends import open_source
        source = open_source(sys.argv[1])
        print(source.notes[0])
        print(len(source.export({"input_1": (1, 49, 10, 1)})))
    """
    folder = assets / "mlperf_tiny" / "kws" / "kws_ref_model_tf23_saved_model"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(folder)], capture_output=True, text=True, check=True
    )
    note, size = done.stdout.splitlines()
    assert "written by TensorFlow 2.3" in note
    assert "add_slot" in note
    assert 50_000 < int(size)

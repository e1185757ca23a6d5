"""Models that carry code are refused, and a canary that the code would write shows that none of it ran."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ConversionError, EdgekitError, ModelFileError
from edgekit.modelfile import ModelFile
from edgekit_convert.frontends import Opening, open_source
from edgekit_convert.frontends.freeze import import_tensorflow


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that the code in a model would make."""
    return tmp_path / "canary"


def refused(source: Path, canary: Path, message: str, opening: Opening | None = None) -> None:
    """See that opening and exporting a file ends in one error and has run nothing."""
    canary.unlink(missing_ok=True)  # making the model ran its code
    with pytest.raises(EdgekitError, match=message):
        open_source(source, opening).export({})
    assert not canary.exists()


def with_lambda(keras: Any, canary: Path) -> Any:
    """A model with a Lambda layer that writes the canary and doubles its input."""

    def doubled(write: str) -> Callable[[Any], Any]:
        return lambda x: (open(write, "w").close(), x * 2)[1]

    return keras.Sequential([keras.Input((4,), name="x"), keras.layers.Lambda(doubled(str(canary)), name="doubling")])


@pytest.mark.parametrize("family", ["keras", "tf_keras"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_lambda_layers(tmp_path: Path, canary: Path, family: str, suffix: str) -> None:
    """Files of both Keras in both forms; the layer is named."""
    import_tensorflow()
    keras = pytest.importorskip(family)
    path = tmp_path / f"model{suffix}"
    with_lambda(keras, canary).save(path)
    refused(path, canary, r"has code in it.*the Lambda layer doubling.*nothing of it was run.*--trust-source")


@pytest.mark.parametrize("family", ["keras", "tf_keras"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_trusted_code_runs(tmp_path: Path, canary: Path, family: str, suffix: str) -> None:
    """With the user's word the layer does what it did, which is also how the canary is known to sing."""
    import_tensorflow()
    keras = pytest.importorskip(family)
    path = tmp_path / f"model{suffix}"
    with_lambda(keras, canary).save(path)
    canary.unlink()
    source = open_source(path, Opening(trust_source=True))
    model = ModelFile.read(source.export({source.inputs[0].name: (1, 4)}))
    assert canary.exists()
    assert (1, 4) == model.outputs[0].shape
    assert "code from the file was run, as --trust-source says: the Lambda layer doubling." in source.notes
    assert source.reference is not None
    assert [2.0, 4.0, 6.0, 8.0] == source.reference({source.inputs[0].name: np.float32([[1, 2, 3, 4]])})[0][0].tolist()


def test_code_in_a_nested_layer(tmp_path: Path, canary: Path) -> None:
    """A Lambda in a model in a wrapper is found as well."""
    import_tensorflow()
    import keras

    inner = with_lambda(keras, canary)
    model = keras.Sequential([keras.Input((3, 4)), keras.layers.TimeDistributed(inner)])
    model.save(tmp_path / "model.keras")
    refused(tmp_path / "model.keras", canary, "Lambda layer doubling")


def in_archive(path: Path, layer: dict[str, Any], version: str) -> Path:
    """A ``.keras`` file without weights whose only layer is as given."""
    config = {
        "name": "m",
        "layers": [{"module": "keras.layers", "class_name": "InputLayer", "config": {"shape": [4]}}, layer],
    }
    text = json.dumps({"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", text)
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
    return path


def activation(module: str, name: str) -> dict[str, Any]:
    """A layer that calls a function that the configuration names."""
    function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    return {"module": "keras.layers", "class_name": "Activation", "config": {"name": "act", "activation": function}}


@pytest.mark.parametrize("version", ["3.5.0", "2.15.0", ""])
def test_modules_are_not_imported(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """A configuration that names a module with code of its own; tf-keras would import it (CVE-2025-1550 was this in Keras)."""
    (tmp_path / "nest_of_the_canary.py").write_text(f"open({str(canary)!r}, 'w').close()\ndef sing(x):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = in_archive(tmp_path / "model.keras", activation("nest_of_the_canary", "sing"), version)
    refused(path, canary, r"uses sing \(of nest_of_the_canary\), whose code is not in the file")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param("keras.utils", "get_file", id="downloads"),
        pytest.param("keras.src.utils.generic_utils", "func_load", id="unmarshals"),
        pytest.param("keras.src.utils.data_utils", "os.remove", id="another module's"),
    ],
)
def test_functions_of_keras_that_are_no_layers(tmp_path: Path, canary: Path, module: str, name: str) -> None:
    """What tf-keras would look up in its own modules, and call."""
    path = in_archive(tmp_path / "model.keras", activation(module, name), "2.15.0")
    refused(path, canary, rf"names {module}\.{name}, which is no part of a network.*Nothing of it was run")


def test_operators_of_tensorflow_that_write(tmp_path: Path, canary: Path) -> None:
    """An old .h5 whose layer is a function of TensorFlow's: the file says which one."""
    import h5py

    tf = import_tensorflow()
    import tf_keras

    x = tf_keras.Input((4,))
    tf_keras.Model(x, tf.abs(x)).save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        text = file.attrs["model_config"]
        assert '"function": "math.abs"' in text
        file.attrs["model_config"] = text.replace('"function": "math.abs"', '"function": "io.write_file"')
    refused(tmp_path / "model.h5", canary, r"names tf\.io\.write_file, which is no part of a network")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("TorchModuleWrapper", "a pickled PyTorch module"),
        ("TFSMLayer", "a SavedModel from a folder that the file names"),
    ],
)
def test_programs_in_layers(tmp_path: Path, canary: Path, kind: str, what: str) -> None:
    """Layers that unpickle or load something else."""
    layer = {"module": "keras.layers", "class_name": kind, "config": {"name": "inner"}}
    refused(
        in_archive(tmp_path / "model.keras", layer, "3.5.0"),
        canary,
        f"the layer inner is {what}.*nothing of it was run",
    )


class Sings:
    """Pickled, a call that makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "model.h5", "model.keras", "model"])
def test_pickles_are_not_read(tmp_path: Path, canary: Path, protocol: int, name: str) -> None:
    """Whatever they are called; what they would import is said."""
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Sings(canary), protocol))
    refused(path, canary, r"is a pickle of (posix|nt)\.mkdir\. .*nothing of it was run")


def test_arrays_of_objects_in_an_archive(tmp_path: Path, canary: Path) -> None:
    """Weights that are pickled inside a .keras file."""
    import_tensorflow()
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "model.keras")
    pickled = np.empty(1, object)
    pickled[0] = Sings(canary)
    np.savez(tmp_path / "weights.npz", **{"layers/dense/vars/0": pickled})
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        kept = {name: archive.read(name) for name in ("config.json", "metadata.json")}
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
        archive.write(tmp_path / "weights.npz", "model.weights.npz")
    refused(tmp_path / "model.keras", canary, "Keras cannot load")


def saved(folder: Path, module: Any, call: Any) -> Path:
    """A SavedModel with one signature."""
    tf = import_tensorflow()
    module.call = tf.function(call, autograph=False)
    signature = module.call.get_concrete_function(tf.TensorSpec([1, 4], tf.float32, name="x"))
    tf.saved_model.save(module, str(folder), signatures=signature)
    return folder


def test_saved_models_that_write(tmp_path: Path, canary: Path) -> None:
    """The operator and the layer around it are named."""
    tf = import_tensorflow()

    def call(x: Any) -> dict[str, Any]:
        with tf.name_scope("logging"), tf.control_dependencies([tf.io.write_file(str(canary), "tweet")]):
            return {"y": x * 2}

    folder = saved(tmp_path / "model", tf.Module(), call)
    refused(folder, canary, r"has the operator WriteFile in .*logging.*Nothing of it was run.*--trust-source")


def test_saved_models_that_write_on_loading(tmp_path: Path, canary: Path) -> None:
    """What initialises a resource runs as soon as the folder is loaded."""
    tf = import_tensorflow()

    class Nest(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]  # TensorFlow is untyped
        def _create_resource(self) -> Any:
            with tf.control_dependencies([tf.io.write_file(str(canary), "tweet")]):
                return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.float32)

        def _destroy_resource(self) -> None:
            pass

    module = tf.Module()
    module.nest = Nest()

    def call(x: Any) -> dict[str, Any]:
        size = tf.raw_ops.LookupTableSizeV2(table_handle=module.nest.resource_handle)
        return {"y": x + tf.cast(size, tf.float32)}

    folder = saved(tmp_path / "model", module, call)
    canary.unlink(missing_ok=True)
    tf.saved_model.load(str(folder))
    assert canary.exists()  # so that the test can fail
    refused(folder, canary, "has the operator WriteFile")


def test_saved_models_that_call_python(tmp_path: Path, canary: Path) -> None:
    """A registered function of this very process would be called."""
    tf = import_tensorflow()

    def call(x: Any) -> dict[str, Any]:
        y = tf.numpy_function(lambda value: (canary.touch(), value)[1], [x], tf.float32)
        return {"y": tf.ensure_shape(y, [1, 4])}

    refused(saved(tmp_path / "model", tf.Module(), call), canary, "has the operator PyFunc in .*, which runs Python")


def test_saved_models_of_tensorflow_1_that_write_on_loading(tmp_path: Path, canary: Path) -> None:
    """Its initialiser is in the main graph."""
    tf = import_tensorflow()
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [1, 4], "x")
        y = x * v1.get_variable("w", [4])
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(tmp_path / "model"))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        write = v1.group(tf.io.write_file(str(canary), "tweet"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=write)
        builder.save()
    refused(tmp_path / "model", canary, "has the operator WriteFile")


def test_what_only_saving_does_is_no_reason(tmp_path: Path) -> None:
    """Every SavedModel of TensorFlow 1 can write itself; loading it does not."""
    tf = import_tensorflow()
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        y = x * v1.get_variable("w", initializer=tf.constant([1.0, 2.0, 3.0, 4.0]))
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "model"), {"x": x}, {"y": y})
    source = open_source(tmp_path / "model")
    assert source.reference is not None
    assert [1.0, 2.0, 3.0, 4.0] == source.reference({"x": np.ones((1, 4), np.float32)})[0][0].tolist()
    assert ["y"] == [spec.name for spec in ModelFile.read(source.export({"x": (1, 4)})).outputs]


def test_an_archive_of_a_pickle(tmp_path: Path, canary: Path) -> None:
    """A ZIP of another kind says what it holds."""
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("estimator.pkl", pickle.dumps(Sings(canary)))
    refused(tmp_path / "model.zip", canary, "is a ZIP archive: it holds a pickle.*nothing of it was run")


def test_refusals_are_errors_of_their_kind(tmp_path: Path, canary: Path) -> None:
    """A pickle is the wrong file, a Lambda a model that cannot be converted."""
    import_tensorflow()
    import keras

    with_lambda(keras, canary).save(tmp_path / "model.keras")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Sings(canary)))
    with pytest.raises(ConversionError):
        open_source(tmp_path / "model.keras")
    with pytest.raises(ModelFileError):
        open_source(tmp_path / "model.pkl")

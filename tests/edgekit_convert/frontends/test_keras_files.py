"""Keras's files: old and new, whole models and weights alone, with classes of one's own, damaged ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import AlreadyQuantisedError, ConversionError, ModelFileError, OptionError
from edgekit.modelfile import ModelFile
from edgekit_convert.frontends import Opening, open_source
from edgekit_convert.frontends.freeze import import_tensorflow

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> Any:
    """Keras 3, and Keras 2 as tf-keras."""
    import_tensorflow()
    return pytest.importorskip(request.param)


def network(keras: Any) -> Any:
    """Two layers with random weights."""
    return keras.Sequential(
        [keras.layers.Input((8,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3, name="head")]
    )


def computed(source: Any) -> Any:
    """What an opened model makes of ``X``."""
    (spec,) = source.inputs
    assert (1, 3) == ModelFile.read(source.export({spec.name: (1, 8)})).outputs[0].shape
    return source.reference({spec.name: X})[0]


def same(model: Any, source: Any) -> None:
    """See that a source computes what a model does."""
    np.testing.assert_allclose(np.asarray(model(X)), computed(source), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "model.keras",
        "model.h5",
        "model.hdf5",
        "model.zip",  # a .keras archive under another name
        "MODEL.KERAS",
        "model.KERAS_h5",  # HDF5 under a name that says nothing
        "old.keras",  # TensorFlow before 2.12 wrote HDF5 under this name
    ],
)
def test_the_content_decides_and_not_the_name(tmp_path: Path, keras: Any, name: str) -> None:
    """Both forms of both Keras."""
    model = network(keras)
    archive = name in ("model.keras", "model.zip", "MODEL.KERAS")
    saved = tmp_path / ("saved.keras" if archive else "saved.h5")
    model.save(saved)
    shutil.move(saved, tmp_path / name)
    source = open_source(tmp_path / name)
    assert ("keras" if archive else "h5") == source.kind
    same(model, source)


def test_an_archive_that_was_unpacked(tmp_path: Path) -> None:
    """The folder with its three files."""
    import_tensorflow()
    import keras

    model = network(keras)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        archive.extractall(tmp_path / "folder")
    same(model, open_source(tmp_path / "folder"))


@pytest.mark.parametrize("kind", ["slash", "groups", "axis", "dots"])
def test_old_files_that_keras_3_refuses(tmp_path: Path, kind: str) -> None:
    """They are read with tf-keras, which is said with the reason."""
    import h5py

    tf = import_tensorflow()
    import tf_keras

    x = tf_keras.Input((6, 6, 2))
    y = tf_keras.layers.DepthwiseConv2D(3, name="block/conv" if kind == "slash" else "conv")(x)
    y = tf_keras.layers.BatchNormalization(name="norm")(y)
    if kind == "dots":
        y = tf.nn.relu6(y) + 1.0  # layers of a single operation, as TensorFlow 2.4 and later store them
    model = tf_keras.Model(x, y)
    path = tmp_path / "old.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if kind == "groups" and layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
            if kind == "axis" and layer["class_name"] == "BatchNormalization":
                layer["config"]["axis"] = [3]
        file.attrs["model_config"] = json.dumps(config)
    source = open_source(path)
    (spec,) = source.inputs
    image = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype(np.float32)
    assert source.reference is not None
    np.testing.assert_allclose(np.asarray(model(image)), source.reference({spec.name: image})[0], atol=1e-5)
    assert (1, 4, 4, 2) == ModelFile.read(source.export({spec.name: (1, 6, 6, 2)})).outputs[0].shape
    if kind != "axis":  # which Keras 3 has learnt to take
        assert "Keras 3 refused it" in source.notes[0]
        assert "it was read with tf-keras" in source.notes[0]


@pytest.mark.parametrize("form", ["weights", "whole"])
def test_weights_of_a_model_that_a_function_makes(tmp_path: Path, keras: Any, form: str) -> None:
    """Alone in a file, or in that of a whole model."""
    model = network(keras)
    for name in ("w.weights.h5", "w.h5") if form == "weights" and keras.__name__ == "tf_keras" else ("w.weights.h5",):
        path = tmp_path / name
        if form == "weights":
            model.save_weights(path)
        else:
            path = tmp_path / "whole.h5"
            model.save(path)
        source = open_source(path, Opening(model=lambda: network(keras)))
        same(model, source)
        assert "its weights were read from the file" in source.notes[0]


def test_weights_alone_need_a_function(tmp_path: Path, keras: Any) -> None:
    """The option is named."""
    network(keras).save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(ModelFileError, match=r"weights without a model: .*\(--model module:function\)"):
        open_source(tmp_path / "only.weights.h5")


def test_weights_of_another_model(tmp_path: Path, keras: Any) -> None:
    """They are not put into places that they do not fit."""
    network(keras).save_weights(tmp_path / "w.weights.h5")

    def other() -> Any:
        return keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(7), keras.layers.Dense(3)])

    with pytest.raises(ConversionError, match="are not those of the model that other makes"):
        open_source(tmp_path / "w.weights.h5", Opening(model=other))


def test_functions_that_make_no_model(tmp_path: Path, keras: Any) -> None:
    """Missing, raising, or returning something else."""
    network(keras).save_weights(tmp_path / "w.weights.h5")

    def raises() -> Any:
        raise RuntimeError("no data here")

    for model, message in (
        ("no_such_module_here:make", "--model no_such_module_here:make: cannot import 'no_such_module_here'"),
        (raises, "--model raises raised RuntimeError: no data here"),
        (dict, "--model dict returned a dict: a Keras model was expected"),
    ):
        with pytest.raises(OptionError, match=message):
            open_source(tmp_path / "w.weights.h5", Opening(model=model))


MODULE = """
    import keras

    class Double(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    class Whole(keras.Model):
        def __init__(self):
            super().__init__()
            self.double, self.head = Double(), keras.layers.Dense(3)

        def call(self, x):
            return self.head(self.double(x))

    def functional():
        x = keras.Input((8,))
        return keras.Model(x, keras.layers.Dense(3)(Double(name="twice")(x)))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The user's own module, with a layer and a model that are no part of Keras."""
    import_tensorflow()
    (tmp_path / "my_layers.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_layers", raising=False)
    import importlib

    return importlib.import_module("my_layers")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_classes_of_ones_own(tmp_path: Path, module: Any, suffix: str) -> None:
    """The class is named, and a function that makes the model is enough."""
    model = module.functional()
    path = tmp_path / f"model{suffix}"
    model.save(path)
    with pytest.raises(
        ConversionError, match=r"uses Double.*, whose code is not in the file\. .*--model module:function"
    ):
        open_source(path)
    same(model, open_source(path, Opening(model="my_layers:functional")))


def test_classes_that_the_program_registered(tmp_path: Path, module: Any) -> None:
    """Then the code is the program's own, and the file is read."""
    import keras

    model = module.functional()
    model.save(tmp_path / "model.keras")
    with keras.saving.custom_object_scope({"Double": module.Double}):
        same(model, open_source(tmp_path / "model.keras"))


def test_subclassed_models_from_their_weights(tmp_path: Path, module: Any) -> None:
    """They have no variables before they are called, for which the shape is needed."""
    model = module.Whole()
    model(X)
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ConversionError, match="--shape x=1,224,224,3"):
        open_source(tmp_path / "w.weights.h5", Opening(model="my_layers:Whole"))
    same(model, open_source(tmp_path / "w.weights.h5", Opening(model="my_layers:Whole", shapes={"x": (1, 8)})))


def test_damaged_archives(tmp_path: Path) -> None:
    """Each kind of damage is one message."""
    import_tensorflow()
    import keras

    path = tmp_path / "model.keras"
    network(keras).save(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="damaged or not what its name says"):
        open_source(path)
    for spoiled, message in (
        ({**parts, "config.json": b"{"}, r"is damaged: its config\.json is not JSON"),
        ({**parts, "config.json": b"[]"}, r"is no Keras model: its config\.json describes none"),
        ({**parts, "model.weights.h5": parts["model.weights.h5"][:600]}, "is damaged or cut short"),
        ({name: parts[name] for name in parts if "weights" not in name}, "Keras cannot load"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in spoiled.items():
                archive.writestr(name, content)
        with pytest.raises((ModelFileError, ConversionError), match=message):
            open_source(path)


def test_other_hdf5_files(tmp_path: Path) -> None:
    """Data in the same form as models."""
    import h5py

    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(ModelFileError, match=r"is an HDF5 file and not one of Keras's: it holds images\."):
        open_source(tmp_path / "data.h5")


def test_weights_whose_checksum_is_another_are_damage(tmp_path: Path, keras: Any) -> None:
    """A number that was changed makes another network, which Keras itself loads without a word."""
    path = tmp_path / "model.keras"
    model = network(keras)
    model.save(path)
    content = path.read_bytes()
    weights = np.asarray(model.layers[-1].kernel).tobytes()
    at = content.index(weights)
    path.write_bytes(content[:at] + bytes(byte ^ 0xFF for byte in weights[:8]) + content[at + 8 :])
    with pytest.raises(ModelFileError, match=r"is damaged: the checksum of model\.weights\.h5 in it is another"):
        open_source(path)


def test_cut_h5_files(tmp_path: Path, keras: Any) -> None:
    """A download that stopped."""
    path = tmp_path / "model.h5"
    network(keras).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ModelFileError, match="is damaged or cut short"):
        open_source(path)


def test_quantised_files_are_refused(tmp_path: Path) -> None:
    """Before they are loaded."""
    import_tensorflow()
    import keras

    model = network(keras)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an Input has nothing to quantise
        model.quantize("int8")
    model.save(tmp_path / "model.keras")
    with pytest.raises(AlreadyQuantisedError, match=r"Keras made dense.*head int8 or float8"):
        open_source(tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("option", "opening"),
    [("signature", Opening(signature="serve")), ("channels_last", Opening(channels_last=False))],
)
def test_options_without_a_meaning_are_errors(tmp_path: Path, option: str, opening: Opening) -> None:
    """Nobody is to believe that they did something."""
    import_tensorflow()
    import keras

    network(keras).save(tmp_path / "model.keras")
    with pytest.raises(OptionError, match=f"a Keras model has no use for {option}"):
        open_source(tmp_path / "model.keras", opening)


def test_the_users_backend_is_left_alone(tmp_path: Path) -> None:
    """A file is converted with Keras on TensorFlow, whatever ``KERAS_BACKEND`` says."""
    import_tensorflow()
    import keras

    network(keras).save(tmp_path / "model.keras")
    program = """
        import os, sys
        os.environ["KERAS_BACKEND"] = "numpy"
        from edgekit_convert.frontends import open_source
        source = open_source(sys.argv[1])
        print(os.environ["KERAS_BACKEND"], len(source.export({source.inputs[0].name: (1, 8)})) > 0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "model.keras")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "numpy True" == done.stdout.strip()


def test_another_backend_in_this_program_mocked(keras_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model in memory on another backend says how to go on; none other is installed here, so that its name is made up."""
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ConversionError, match=r"Keras runs on jax in this program: .*Save the model \(`model\.save"):
        open_source(keras_model)

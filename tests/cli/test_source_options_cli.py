"""Options for how a trained model is opened, at the commands that take one: ``lint``, ``verify`` and ``convert``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgekit.cli import cli
from edgekit_convert.frontends.freeze import import_tensorflow


def run(*arguments: Any) -> Result:
    """One command, in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with two signatures of open length, a file with a Lambda layer, and data."""
    tf = import_tensorflow()
    import keras

    path = tmp_path_factory.mktemp("models")
    module = tf.Module()
    module.w = tf.Variable(np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32))
    module.once = tf.function(lambda x: {"y": tf.reduce_mean(x, 1) @ module.w}, autograph=False)
    module.twice = tf.function(lambda x: {"z": 2.0 * tf.reduce_mean(x, 1) @ module.w}, autograph=False)
    spec = tf.TensorSpec([None, None, 3], tf.float32, name="x")
    signatures = {name: getattr(module, name).get_concrete_function(spec) for name in ("once", "twice")}
    tf.saved_model.save(module, str(path / "saved"), signatures=signatures)
    layers = [keras.Input((4, 3), name="x"), keras.layers.Lambda(lambda x: x * 2, name="code"), keras.layers.Dense(2)]
    keras.Sequential(layers).save(path / "lambda.keras")
    np.save(path / "data.npy", np.random.default_rng(1).normal(size=(40, 4, 3)).astype(np.float32))
    return path


def test_lint_takes_a_signature_and_a_shape(folder: Path) -> None:
    """Without data the length is open; the option closes it."""
    result = run("lint", folder / "saved", "--signature", "twice")
    assert 2 == result.exit_code
    assert "(--calibration), or fix the sizes (--shape)" in " ".join(result.stderr.split())
    result = run("lint", folder / "saved", "--signature", "twice", "--shape", "x=1,4,3", "--json")
    assert 0 == result.exit_code
    assert json.loads(result.stdout)["passed"]


def test_a_signature_has_to_be_chosen(folder: Path) -> None:
    """The error lists what there is."""
    result = run("lint", folder / "saved")
    assert 2 == result.exit_code
    assert "has the signatures once, twice and no 'serving_default': choose one (--signature)" in " ".join(
        result.stderr.split()
    )


@pytest.mark.parametrize("shape", ["x=1,four,3", "1;4;3", "x="])
def test_shapes_that_are_none(folder: Path, shape: str) -> None:
    """The form is shown."""
    result = run("lint", folder / "saved", "--signature", "once", "--shape", shape)
    assert 2 == result.exit_code
    assert "whole numbers with commas were expected, as in image=1,224,224,3" in " ".join(result.stderr.split())


def test_code_in_a_file_needs_the_user_s_word(folder: Path, tmp_path: Path) -> None:
    """At each command that opens one; then it is said that it ran."""
    data, target = folder / "data.npy", tmp_path / "out.tflite"
    convert = ("convert", folder / "lambda.keras", "--calibration", data, "--effort", "fast", "-o", target)
    for arguments in (("lint", folder / "lambda.keras"), convert):
        result = run(*arguments)
        assert 2 == result.exit_code
        assert "has code in it, which would run on loading: the Lambda layer code." in " ".join(result.stderr.split())
        assert not target.exists()
    assert 0 == run("lint", folder / "lambda.keras", "--trust-source").exit_code
    result = run(*convert, "--trust-source")
    assert 0 == result.exit_code
    assert "code from the file was run, as --trust-source says: the Lambda layer code." in " ".join(
        result.stdout.split()
    )
    result = run("verify", folder / "lambda.keras", target, "--data", data)
    assert 2 == result.exit_code
    assert "has code in it" in result.stderr
    assert 0 == run("verify", folder / "lambda.keras", target, "--data", data, "--trust-source").exit_code


def test_verify_takes_the_signature_that_was_converted(folder: Path, tmp_path: Path) -> None:
    """And not the other one, whose outputs have another name and other values."""
    target, data = tmp_path / "twice.tflite", folder / "data.npy"
    made = run(
        "convert", folder / "saved", "--signature", "twice", "--calibration", data, "--effort", "fast", "-o", target
    )
    assert 0 == made.exit_code
    result = run("verify", folder / "saved", target, "--data", data, "--signature", "twice", "--json")
    assert 0 == result.exit_code
    assert all(check["passed"] is not False for check in json.loads(result.stdout)["checks"])


def test_options_without_a_meaning_are_errors(folder: Path) -> None:
    """A SavedModel has no use for a function that makes a model."""
    result = run("lint", folder / "saved", "--signature", "once", "--model", "a:b")
    assert 2 == result.exit_code
    assert "a SavedModel has no use for model (--model): it is a whole model" in " ".join(result.stderr.split())

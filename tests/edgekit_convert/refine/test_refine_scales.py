"""No bias leaves int32: channels with nearly no weights get a scale under which it fits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.quantize import quantize
from edgekit_convert.ranges import measure
from edgekit_convert.refine.scales import fit_biases

RANDOM = np.random.default_rng(8)
DATA = RANDOM.uniform(-1, 1, (40, 8, 8, 3)).astype(np.float32)
#: Weights of the four channels are multiplied by these: alive, nearly dead, dead with a bias, dead without.
DEADNESS = np.array([1.0, 1e-9, 0.0, 0.0], np.float32)
BIAS = np.array([0.1, 0.7, -0.5, 0.0], np.float32)


def dead_channels(*, depthwise: bool = False) -> bytes:
    """A convolution with dead channels, then a dense layer."""
    b = models.Builder()
    channels = 4 if depthwise else 3
    x = b.tensor("image", (1, 8, 8, channels))
    if depthwise:
        weights = RANDOM.normal(0, 0.5, (1, 3, 3, 4)).astype(np.float32) * DEADNESS
    else:
        weights = RANDOM.normal(0, 0.5, (4, 3, 3, 3)).astype(np.float32) * DEADNESS[:, None, None, None]
    w, c = b.tensor("kernel", weights.shape, data=weights), b.tensor("bias", (4,), data=BIAS)
    y = b.tensor("features", (1, 8, 8, 4))
    options: Any = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    if depthwise:
        options.depthMultiplier = 1
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    b.op(name, [x, w, c], [y], ("DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", options), version=1)
    v = b.tensor("dense", (5, 256), data=RANDOM.normal(0, 0.1, (5, 256)).astype(np.float32))
    d = b.tensor("dense_bias", (5,), data=np.zeros(5, np.float32))
    shape = b.tensor("flat_shape", (2,), "int32", data=np.array([1, 256], np.int32))
    flat, z = b.tensor("flat", (1, 256)), b.tensor("logits", (1, 5))
    b.op("RESHAPE", [y, shape], [flat])
    b.op("FULLY_CONNECTED", [flat, v, d], [z], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    return b.build({"image": x}, {"logits": z})


def biases(content: bytes) -> list[Array]:
    """All int32 biases with the real numbers that they stand for."""
    main = ModelFile.read(content).graph.main
    found = []
    for op in main.ops:
        if len(op.inputs) > 2:
            tensor = main.tensors[op.inputs[2]]
            assert tensor.quant is not None
            found.append(tensor.array() * np.asarray(tensor.quant.scales))
    return found


@pytest.mark.parametrize("depthwise", [False, True], ids=["conv", "depthwise"])
@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
def test_every_bias_is_right_afterwards(depthwise: bool, recipe: str) -> None:
    """litert-quantizer alone loses the biases of dead channels; afterwards each stands for its float value."""
    content = dead_channels(depthwise=depthwise)
    inputs = ModelFile.read(content).inputs
    samples = DATA if not depthwise else np.concatenate([DATA, DATA[..., :1]], axis=-1)
    data = CalibrationSet(open_data(samples, inputs, 99, "calibration"), inputs, {})
    ranges = measure(content, data, lambda done: None).ranges
    plain = quantize(content, ranges, "int8" if recipe == "int8" else "int16", recipe=recipe)
    fitted, channels = fit_biases(plain, content)
    assert channels >= 2
    np.testing.assert_allclose(biases(fitted)[0], BIAS, atol=0.01)
    assert not np.allclose(biases(plain)[0], BIAS, atol=0.01)
    assert (
        np.abs(np.concatenate([np.ravel(item) for item in _integers(fitted)])).max() <= 2**30 * 1.000001
    )  # scales are float32


def _integers(content: bytes) -> list[Array]:
    main = ModelFile.read(content).graph.main
    return [main.tensors[op.inputs[2]].array().astype(np.int64) for op in main.ops if len(op.inputs) > 2]


def test_healthy_models_stay_as_they_are() -> None:
    """Without dead channels nothing is changed, to the byte."""
    content = models.conv_float()
    inputs = ModelFile.read(content).inputs
    samples = RANDOM.uniform(-1, 1, (40, 12, 12, 3)).astype(np.float32)
    data = CalibrationSet(open_data(samples, inputs, 99, "calibration"), inputs, {})
    plain = quantize(content, measure(content, data, lambda done: None).ranges, "int8")
    assert fit_biases(plain, content) == (plain, 0)


def test_a_converted_network_with_dead_channels_agrees() -> None:
    """The whole conversion keeps the outputs, and says what it did."""
    result = edgekit.convert(dead_channels(), DATA, recipe="int8")
    assert result.report.on["calibration"].sqnr_db.value > 30
    assert "bias-scales" in {finding.code for finding in result.findings}


def test_dead_channels_load_in_tflite_runtime(tmp_path: Path) -> None:
    """tflite-runtime 2.14 refuses files whose biases overflowed; this one runs there and agrees."""
    python = os.environ.get("EDGEKIT_TFLITE_RUNTIME_PYTHON")
    if not python:
        pytest.skip("EDGEKIT_TFLITE_RUNTIME_PYTHON names no environment with tflite-runtime; scripts/test makes one")
    path = tmp_path / "model.tflite"
    result = edgekit.convert(dead_channels(), DATA, output=path)
    np.save(tmp_path / "x.npy", DATA[:10])
    arguments = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy"), "--delegate", "none"]
    subprocess.run(
        [python, "-m", "edgekit", "run", str(path), "--engine", "tflite-runtime", *arguments], check=True, cwd=tmp_path
    )
    with edgekit.load(result.float_model, delegate="none") as session:
        expected = np.concatenate([session.run(image[None]) for image in DATA[:10]])
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=0.1)

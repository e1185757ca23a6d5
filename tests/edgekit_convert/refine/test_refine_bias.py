"""Bias correction in closed form: the mean patch and the mean shift against direct computation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.quantize import quantize
from edgekit_convert.ranges import measure
from edgekit_convert.refine.bias import correct_biases, mean_patch
from edgekit_convert.refine.judge import Judge


@dataclass(frozen=True)
class Case:
    """One form of a convolution."""

    name: str
    padding: int = 0
    stride: int = 1
    dilation: int = 1
    depthwise: bool = False
    size: int = 9


CASES = [
    Case("same"),
    Case("valid", padding=1),
    Case("stride 2 same", stride=2),
    Case("stride 2 valid", stride=2, padding=1),
    Case("even size stride 2 same", stride=2, size=8),
    Case("dilated", dilation=2),
    Case("depthwise", depthwise=True),
    Case("depthwise stride 2 dilated", depthwise=True, dilation=2, padding=1),
]


def convolution(case: Case, kernel: Array, bias: Array) -> bytes:
    """A model of one convolution, without activation."""
    b = models.Builder()
    channels, out = 3, kernel.shape[-1] if case.depthwise else kernel.shape[0]
    taps = (kernel.shape[1] - 1) * case.dilation + 1
    side = -(-case.size // case.stride) if case.padding == 0 else -(-(case.size - taps + 1) // case.stride)
    x = b.tensor("image", (1, case.size, case.size, channels))
    w = b.tensor("kernel", kernel.shape, data=kernel)
    c = b.tensor("bias", bias.shape, data=bias)
    y = b.tensor("out", (1, side, side, out))
    options = schema.DepthwiseConv2DOptionsT() if case.depthwise else schema.Conv2DOptionsT()
    if case.depthwise:
        options.depthMultiplier = 1
    options.strideH = options.strideW = case.stride
    options.dilationHFactor = options.dilationWFactor = case.dilation
    options.padding = case.padding
    name = "DEPTHWISE_CONV_2D" if case.depthwise else "CONV_2D"
    b.op(name, [x, w, c], [y], ("DepthwiseConv2DOptions" if case.depthwise else "Conv2DOptions", options))
    return b.build({"image": x}, {"out": y})


def kernel_for(case: Case) -> Array:
    """Random weights in the layout of the operator."""
    shape = (1, 3, 3, 3) if case.depthwise else (4, 3, 3, 3)
    return np.random.default_rng(2).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mean_output_is_the_weights_times_the_mean_patch(case: Case) -> None:
    """The interpreter's mean output of an image equals weights · mean patch of that image, for every form."""
    kernel = kernel_for(case)
    content = convolution(case, kernel, np.zeros(3 if case.depthwise else 4, np.float32))
    image = np.random.default_rng(3).normal(1, 1, (1, case.size, case.size, 3)).astype(np.float32)
    interpreter = litert.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).mean(axis=(0, 1, 2))
    patch = mean_patch(ModelFile.read(content).graph.main.ops[0], 3, 3, image)
    assert patch is not None
    actual = (kernel[0] * patch).sum(axis=(0, 1)) if case.depthwise else np.einsum("ohwc,hwc->o", kernel, patch)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES[:2] + CASES[6:7], ids=lambda case: case.name)
def test_correction_removes_the_mean_error(case: Case) -> None:
    """With inputs far from zero, rounding shifts each channel's mean; afterwards the shift is nearly gone."""
    rng = np.random.default_rng(4)
    content = convolution(case, kernel_for(case), rng.normal(0, 1, 3 if case.depthwise else 4).astype(np.float32))
    inputs = ModelFile.read(content).inputs
    samples = rng.normal(5, 0.5, (40, case.size, case.size, 3)).astype(np.float32)
    data = CalibrationSet(open_data(samples, inputs, 99, "calibration"), inputs, {})
    statistics = measure(content, data, lambda done: None)
    plain = quantize(content, statistics.ranges, "int8")
    corrected, layers = correct_biases(plain, content, statistics.means())
    assert layers == 1
    from edgekit.runtime.delegates import DelegateSpec

    spec = DelegateSpec("none", 1)
    judge = Judge(content, [list(ready.inputs.values()) for ready in data], spec)
    assert judge.noise(corrected).mean() < judge.noise(plain).mean()

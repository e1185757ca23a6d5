"""Activations that would cut the graph on an Edge TPU are spelled as operators that it has, and compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing
from edgekit_convert.edgetpu.respell import apply

IMAGE = (1, 6, 6, 4)


def after_conv(name: str, alpha: Any = None) -> bytes:
    """A 1x1 convolution, then an activation."""
    b = models.Builder()
    x, y = b.tensor("image", IMAGE), b.tensor("features", IMAGE)
    weights = np.random.default_rng(3).normal(0, 1, (4, 1, 1, 4)).astype(np.float32)
    w = b.tensor("weights", (4, 1, 1, 4), data=weights)
    bias = b.tensor("bias", (4,), data=np.zeros(4, np.float32))
    conv = schema.Conv2DOptionsT()
    conv.strideH = conv.strideW = conv.dilationHFactor = conv.dilationWFactor = 1
    b.op("CONV_2D", [x, w, bias], [y], ("Conv2DOptions", conv))
    z = b.tensor("activated", IMAGE)
    inputs, options = [y], None
    if name == "LEAKY_RELU":
        leaky = schema.LeakyReluOptionsT()
        leaky.alpha = alpha
        options = ("LeakyReluOptions", leaky)
    if name == "PRELU":
        inputs.append(b.tensor("alpha", (1, 1, 4), data=np.asarray(alpha, np.float32).reshape(1, 1, 4)))
    b.op(name, inputs, [z], options)
    return b.build({"image": x}, {"activated": z})


def run(content: bytes, samples: Any) -> Any:
    """The outputs of a model for some samples."""
    with edgekit.load(content, delegate="none") as session:
        return np.concatenate([session.run(sample[None]) for sample in samples])


ACTIVATIONS = [
    ("HARD_SWISH", None, ["CONV_2D", "ADD", "MUL", "MUL"]),
    ("LEAKY_RELU", 0.1, ["CONV_2D", "MUL", "RELU", "MUL", "ADD"]),
    ("PRELU", [0.1, 0.2, 0.3, 0.4], ["CONV_2D", "MUL", "RELU", "MUL", "ADD"]),
    ("RELU6", None, ["CONV_2D", "MUL"]),
    ("RELU_N1_TO_1", None, ["CONV_2D", "MUL"]),
]


@pytest.mark.parametrize(("name", "alpha", "spelled"), ACTIVATIONS, ids=[name for name, _, _ in ACTIVATIONS])
def test_an_activation_is_spelled_otherwise_and_equal(name: str, alpha: Any, spelled: list[str]) -> None:
    """The operators are those of the Edge TPU, the output keeps its name, and the values are the same."""
    content = after_conv(name, alpha)
    edited = editing.read(content)
    assert 1 == apply(edited, editing.schema())
    result = editing.write(edited)
    assert spelled == [op.name for op in ModelFile.read(result).graph.main.ops]
    assert ["activated"] == [spec.name for spec in ModelFile.read(result).outputs]
    samples = np.random.default_rng(4).normal(0, 4, (8, *IMAGE[1:])).astype(np.float32)
    before, after = run(content, samples), run(result, samples)
    assert before.min() < 0 < before.max() or name == "RELU6"
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_others_are_left_alone() -> None:
    """A graph without such an activation is not changed; nor is one of integers."""
    edited = editing.read(models.conv_float())
    assert 0 == apply(edited, editing.schema())
    from one_op_models import hard_swish

    edited = editing.read(hard_swish())
    assert 0 == apply(edited, editing.schema())


def test_a_prelu_whose_alpha_is_computed_stays() -> None:
    """Only a constant can be taken apart."""
    edited = editing.read(after_conv("PRELU", [0.1] * 4))
    main = edited.subgraphs[0]
    alpha = int(main.operators[1].inputs[1])
    edited.buffers[main.tensors[alpha].buffer].data = None
    assert 0 == apply(edited, editing.schema())
    assert 2 == len(main.operators)


@pytest.mark.parametrize(("name", "alpha"), [(name, alpha) for name, alpha, _ in ACTIVATIONS])
def test_a_conversion_for_the_edge_tpu_has_no_cut(name: str, alpha: Any, tmp_path: Path) -> None:
    """With the rule everything is mapped and close to the float model; without it the activation stays on the CPU."""
    source = tmp_path / "model.tflite"
    source.write_bytes(after_conv(name, alpha))
    data = np.random.default_rng(5).normal(0, 2, (32, *IMAGE[1:])).astype(np.float32)
    usual: dict[str, Any] = {"device": "coral-usb", "effort": "fast", "normalize": "none"}
    made = edgekit.convert(source, data, **usual)
    assert made.edgetpu is not None
    assert 1.0 == made.edgetpu.predicted.share_ops
    assert made.report.on["calibration"].outputs[0].sqnr_db.value > 25
    assert made.model.manifest is not None
    assert 1 == made.model.manifest.recipe["rewrites"]["edgetpu-activations"]
    plain = edgekit.convert(source, data, delegate_rules=False, **usual)
    assert plain.edgetpu is not None
    assert (plain.edgetpu.predicted.share_ops or 0) < 1

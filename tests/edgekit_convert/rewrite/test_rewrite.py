"""Each rewrite gives the same values, applies where it should, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.modelfile import ModelFile
from edgekit_convert import rewrite as rewriting
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.rewrite import Rule, rewrite


def pooled(*, size: int = 6, filter_size: int = 6, padding: int = 1, activation: int = 0) -> bytes:
    """AVERAGE_POOL_2D of an image, then SQUEEZE when one position is left."""
    b = models.Builder()
    out = 1 if filter_size == size else size - filter_size + 1
    x = b.tensor("image", (1, size, size, 4))
    y = b.tensor("pooled", (1, out, out, 4))
    options = schema.Pool2DOptionsT()
    options.filterHeight = options.filterWidth = filter_size
    options.strideH = options.strideW = 1
    options.padding, options.fusedActivationFunction = padding, activation
    b.op("AVERAGE_POOL_2D", [x], [y], ("Pool2DOptions", options))
    if out > 1:
        return b.build({"image": x}, {"pooled": y})
    z = b.tensor("squeezed", (1, 4))
    squeeze = schema.SqueezeOptionsT()
    squeeze.squeezeDims = [1, 2]
    b.op("SQUEEZE", [y], [z], ("SqueezeOptions", squeeze))
    return b.build({"image": x}, {"squeezed": z})


def data_for(content: bytes) -> CalibrationSet:
    """Random samples for a one-input model."""
    inputs = ModelFile.read(content).inputs
    samples = np.random.default_rng(1).normal(0, 1, (5, *inputs[0].shape[1:])).astype(np.float32)
    return CalibrationSet(open_data(samples, inputs, 9, "calibration"), inputs, {})


def names(content: bytes) -> list[str]:
    """The operators of a model."""
    return [op.name for op in ModelFile.read(content).graph.main.ops]


def test_global_pool_and_squeeze_are_rewritten_and_equal() -> None:
    """Both rules match once, and the outputs are the same within float rounding."""
    content = pooled()
    result, done = rewrite(content, data_for(content))
    assert names(result) == ["MEAN", "RESHAPE"]
    assert [(item.rule.name, item.count, item.kept) for item in done] == [
        ("squeeze", 1, True),
        ("global-pool", 1, True),
    ]
    assert max(item.difference for item in done) < 1e-6


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pooled(filter_size=3), id="not the whole image"),
        pytest.param(pooled(activation=1), id="fused RELU"),
    ],
)
def test_other_pools_stay(content: bytes) -> None:
    """A local pool, and one with a fused activation, are left alone."""
    result, done = rewrite(content, data_for(content))
    assert "AVERAGE_POOL_2D" in names(result)
    assert [item.rule.name for item in done if item.rule.name == "global-pool"] == []


def test_a_rule_that_changes_values_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong rule is found out on the data and not applied."""

    def wrong(model: Any, types: Any) -> int:
        model.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 1
        return 1

    monkeypatch.setattr(rewriting, "RULES", (Rule("wrong", "adds a RELU", wrong),))
    content = pooled()
    result, done = rewrite(content, data_for(content))
    assert result == content
    assert [item.kept for item in done] == [False]
    assert done[0].difference > 0.1


def arithmetic() -> bytes:
    """NEG and SQUARE of the input, added."""
    b = models.Builder()
    x = b.tensor("x", (1, 4))
    negative, square, y = (b.tensor(name, (1, 4)) for name in ("negative", "square", "y"))
    b.op("NEG", [x], [negative], ("NegOptions", schema.NegOptionsT()))
    b.op("SQUARE", [x], [square], ("SquareOptions", schema.SquareOptionsT()))
    b.op("ADD", [negative, square], [y], ("AddOptions", schema.AddOptionsT()))
    return b.build({"x": x}, {"y": y})


def test_neg_and_square_become_mul() -> None:
    """Both are products, to the last bit."""
    content = arithmetic()
    result, done = rewrite(content, data_for(content))
    assert names(result) == ["MUL", "MUL", "ADD"]
    assert [(item.rule.name, item.count, item.difference) for item in done] == [("arithmetic", 2, 0.0)]


def test_expand_dims_becomes_reshape() -> None:
    """The axis that it adds is in the shape."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 1, 4))
    axis = b.tensor("axis", (), "int32", data=np.array(1, np.int32))
    b.op("EXPAND_DIMS", [x, axis], [y], ("ExpandDimsOptions", schema.ExpandDimsOptionsT()))
    content = b.build({"x": x}, {"y": y})
    result, done = rewrite(content, data_for(content))
    assert names(result) == ["RESHAPE"]
    assert [(item.rule.name, item.count, item.difference) for item in done] == [("squeeze", 1, 0.0)]

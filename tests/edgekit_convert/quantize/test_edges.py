"""Inputs and outputs in the type that was asked for: outputs that are read inside, inputs that nothing reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.graph.ends import own_outputs
from edgekit_convert.quantize import quantize
from edgekit_convert.ranges import Ranges

RANGES: Ranges = {"x": (-1.0, 1.0), "logits": (-4.0, 4.0), "probabilities": (0.0, 1.0), "unread": (-2.0, 1.0)}
ROWS = np.random.default_rng(0).uniform(-1, 1, (6, 8)).astype(np.float32)
LOGITS = 3  # of models.dense_float, behind x, the weights and the bias


def both_outputs() -> bytes:
    """A dense layer whose result is an output, and goes into a softmax as well."""

    def change(model: Any) -> None:
        model.subgraphs[0].outputs = [LOGITS, 4]
        item = models.schema.TensorMapT()
        item.name, item.tensorIndex = b"logits", LOGITS
        model.signatureDefs[0].outputs.append(item)

    return models.edited(models.dense_float(), change)


def with_unread_input() -> bytes:
    """A dense layer beside an input that no operator reads."""

    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        tensor = models.schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = b"unread", [1, 3], True
        graph.tensors.append(tensor)
        graph.inputs = [*graph.inputs, len(graph.tensors) - 1]
        item = models.schema.TensorMapT()
        item.name, item.tensorIndex = b"unread", len(graph.tensors) - 1
        model.signatureDefs[0].inputs.append(item)

    return models.edited(models.dense_float(), change)


def results(content: bytes, row: Array) -> dict[str, Array]:
    """What a model gives on one row, as real numbers."""
    with edgekit.load(content, delegate="none") as session:
        found = session.run({"x": row[None]})
        assert isinstance(found, dict)
        return {name: np.asarray(value).copy() for name, value in found.items()}


@pytest.mark.parametrize(
    ("recipe", "io", "dtype"),
    [
        ("int8", "float32", "float32"),
        ("int8", "int8", "int8"),
        ("int16x8", "float32", "float32"),
        ("int16x8", "int16", "int16"),
    ],
)
def test_an_output_that_is_read_inside(recipe: str, io: str, dtype: str) -> None:
    """Integers go on inside whatever the outputs are, and the file loads and is close to the float model."""
    float_model = both_outputs()
    made = quantize(float_model, RANGES, io, recipe=recipe)
    model = ModelFile.read(made)
    assert {spec.dtype for spec in (*model.inputs, *model.outputs)} == {dtype}
    dense = next(op for op in model.graph.main.ops if op.name == "FULLY_CONNECTED")
    assert model.graph.main.tensors[dense.outputs[0]].dtype == ("int8" if recipe == "int8" else "int16")
    for row in ROWS:
        exact, rounded = results(float_model, row), results(made, row)
        assert set(exact) == set(rounded)
        for name, value in exact.items():
            np.testing.assert_allclose(rounded[name], value, atol=0.05)


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_an_input_that_is_an_output(io: str) -> None:
    """Its copy at the end has the type that was asked for."""

    def change(model: Any) -> None:
        model.subgraphs[0].outputs = [4, 0]
        item = models.schema.TensorMapT()
        item.name, item.tensorIndex = b"same", 0
        model.signatureDefs[0].outputs.append(item)

    float_model = own_outputs(models.edited(models.dense_float(), change))
    names = [tensor.name for tensor in ModelFile.read(float_model).graph.main.tensors]
    ranges = {**RANGES, **{name: RANGES["x"] for name in names if name.startswith("x")}}
    made = quantize(float_model, ranges, io)
    model = ModelFile.read(made)
    assert {spec.dtype for spec in (*model.inputs, *model.outputs)} == {io}
    np.testing.assert_allclose(results(made, ROWS[0])["same"], ROWS[:1], atol=0.01)


@pytest.mark.parametrize(("recipe", "io", "zero"), [("int8", "int8", 42), ("int16x8", "int16", 0)])
def test_an_input_that_nothing_reads(recipe: str, io: str, zero: int) -> None:
    """It has the type of the others, and a scale from its own data: 3 / 255 from -2 to 1, or 2 / 32767."""
    model = ModelFile.read(quantize(with_unread_input(), RANGES, io, recipe=recipe))
    assert [spec.dtype for spec in model.inputs] == [io, io]
    quant = model.inputs[1].quant
    assert quant is not None
    assert quant.scales == pytest.approx((3 / 255 if io == "int8" else 2 / 32767,))
    assert quant.zero_points == (zero,)

"""Outputs that are one tensor twice, or an input, come out as tensors and names of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.graph.ends import own_outputs

ROW = np.linspace(-1, 1, 8, dtype=np.float32)[None]
LOGITS = 3  # of models.dense_float, behind x, the weights and the bias


def giving(names: dict[str, int]) -> bytes:
    """A dense layer and its softmax, with other outputs."""

    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.outputs = list(names.values())
        items = []
        for name, index in names.items():
            item = models.schema.TensorMapT()
            item.name, item.tensorIndex = name.encode(), index
            items.append(item)
        model.signatureDefs[0].outputs = items

    return models.edited(models.dense_float(), change)


def results(content: bytes) -> dict[str, Array]:
    """What a model gives on one row."""
    with edgekit.load(content, delegate="none") as session:
        found = session.run({"x": ROW})
        assert isinstance(found, dict)
        return {name: np.asarray(value).copy() for name, value in found.items()}


def test_one_tensor_under_two_names() -> None:
    """Both names are there, and both have its values."""
    made = own_outputs(giving({"one": LOGITS, "two": LOGITS, "last": 4}))
    model = ModelFile.read(made)
    assert [spec.name for spec in model.outputs] == ["one", "two", "last"]
    assert len(set(model.graph.main.outputs)) == 3
    found = results(made)
    expected = models.dense_logits(ROW)
    np.testing.assert_allclose(found["one"], expected, rtol=1e-5)
    np.testing.assert_array_equal(found["two"], found["one"])
    np.testing.assert_allclose(found["last"].sum(), 1, rtol=1e-5)


def test_an_input_that_is_an_output() -> None:
    """It is a tensor of its own at the end, with the values as they came in."""
    made = own_outputs(giving({"scores": 4, "same": 0}))
    main = ModelFile.read(made).graph.main
    assert set(main.inputs).isdisjoint(main.outputs)
    np.testing.assert_array_equal(results(made)["same"], ROW)


def test_names_that_are_alike_are_told_apart() -> None:
    """A file that names one tensor twice alike gets a number behind the second name."""
    twice = models.edited(
        giving({"scores": 4, "other": 4}), lambda model: setattr(model.signatureDefs[0].outputs[1], "name", b"scores")
    )
    assert [spec.name for spec in ModelFile.read(own_outputs(twice)).outputs] == ["scores", "scores_1"]


@pytest.mark.parametrize("build", [models.dense_float, models.conv_float, models.add_two_inputs])
def test_models_that_have_them_are_left_alone(build: Callable[[], bytes]) -> None:
    """Nothing is packed anew where there is nothing to do."""
    content = build()
    assert own_outputs(content) is content

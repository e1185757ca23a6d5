"""The editable flatbuffer: uint8 edges, pinned shapes, metadata that announces the manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit.errors import ConversionError
from edgekit.manifest import ENTRY, announcement
from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing


def test_uint8_edges_keep_the_values() -> None:
    """The same real numbers go in and come out."""
    content = editing.uint8_edges(models.dense_int8())
    model = ModelFile.read(content)
    assert [str(spec.dtype) for spec in (*model.inputs, *model.outputs)] == ["uint8", "uint8"]
    assert [spec.name for spec in (*model.inputs, *model.outputs)] == ["x", "logits"]
    assert [op.name for op in model.graph.main.ops] == ["QUANTIZE", "FULLY_CONNECTED", "QUANTIZE"]
    values = np.random.default_rng(0).uniform(-4, 4, (1, 8))
    with edgekit.load(content, delegate="none") as a, edgekit.load(models.dense_int8(), delegate="none") as b:
        np.testing.assert_array_equal(a.run(values), b.run(values))


def test_pinning_an_impossible_size_is_an_error() -> None:
    """A RESHAPE to a fixed size does not take another number of values."""
    b = models.Builder()
    x = b.tensor("x", (1, 8))
    b.tensors[x].shapeSignature = [1, -1]
    shape = b.tensor("shape", (2,), "int32", data=np.array([2, 4], np.int32))
    y = b.tensor("y", (2, 4))
    b.op("RESHAPE", [x, shape], [y])
    content = b.build({"x": x}, {"y": y})
    assert ModelFile.read(editing.pin_shapes(content, {"x": (1, 8)})).inputs[0].shape == (1, 8)
    with pytest.raises(ConversionError, match=r"does not work with x \[1, 9\]"):
        editing.pin_shapes(content, {"x": (1, 9)})


def test_metadata_announces_its_own_length() -> None:
    """The entry holds the flatbuffer's length, and other metadata stays readable."""
    content = editing.with_metadata(models.dense_float(), "made by a test", {"other": b"text"})
    assert announcement(len(content)) in content
    assert content.count(announcement(len(content))[:4]) == 1
    edited = editing.read(content)
    assert {bytes(item.name).decode() for item in edited.metadata} == {ENTRY, "other"}


def test_buffers_from_outside_the_flatbuffer_are_arrays() -> None:
    """They are brought in as the others are: written back they are the same constants, and quickly."""
    weights = np.arange(32, dtype=np.float32).tobytes()

    def outside(offset: int) -> bytes:
        def move(model: Any) -> None:
            buffer = model.buffers[model.subgraphs[0].tensors[1].buffer]
            buffer.data, buffer.offset, buffer.size = None, offset, len(weights)

        return models.edited(models.dense_float(), move)

    length = len(outside(1 << 40))
    start = -(-length // 16) * 16
    content = outside(start).ljust(start, b"\0") + weights
    edited = editing.read(content)
    assert {type(buffer.data) for buffer in edited.buffers if buffer.data is not None} == {np.ndarray}
    assert ModelFile.read(editing.write(edited)).graph.main.tensors[1].array().tobytes() == weights

"""``edgekit.sparsity``: sparse constants whose sizes, indices and values contradict each other, and kernels that know of none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import packed_weights as packed
import pytest
import tiny_models as models

import edgekit
from edgekit.errors import ModelFileError
from edgekit.modelfile import ModelFile

IMAGE, SENSOR = {"image": np.ones((1, 12, 12, 3), np.float32)}, {"x": np.ones((1, 8), np.float32)}


def filled_up() -> bytes:
    """A network whose sparse weights a DENSIFY fills up."""
    return packed.sparse(packed.thinned(models.conv_float()), densify=True)


def in_place() -> bytes:
    """A dense layer whose kernel reads the sparse weights as they are."""
    return packed.sparse(packed.thinned(models.dense_float()), densify=False)


def convolved() -> bytes:
    """A convolution that reads sparse weights as if they were whole."""
    return packed.sparse(packed.thinned(models.conv_float()), densify=False)


def given_out() -> bytes:
    """A dense layer whose sparse weights are an output as well."""

    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.outputs = [*graph.outputs, _sparse(model)[0]]

    return models.edited(in_place(), change)


def _sparse(model: Any) -> list[int]:
    return [index for index, tensor in enumerate(model.subgraphs[0].tensors) if tensor.sparsity is not None]


@pytest.mark.parametrize(("build", "inputs"), [(filled_up, IMAGE), (in_place, SENSOR)])
def test_kernels_that_know_of_sparse_constants_run(build: Callable[[], bytes], inputs: dict[str, Any]) -> None:
    """DENSIFY and FULLY_CONNECTED get what they understand, and compute numbers."""
    with edgekit.load(build(), delegate="none") as session:
        assert np.isfinite(np.asarray(session.run(inputs))).all()


def test_xnnpack_unpacks_what_a_densify_fills_up() -> None:
    """The same numbers come out as of the interpreter's own kernels."""
    with edgekit.load(filled_up(), delegate="none") as own, edgekit.load(filled_up(), delegate="xnnpack") as other:
        np.testing.assert_allclose(np.asarray(other.run(IMAGE)), np.asarray(own.run(IMAGE)), rtol=1e-4)


def test_xnnpack_reads_on_behind_sparse_weights() -> None:
    """A dense layer that the interpreter's own kernels run is refused with a delegate, which gives NaN for it."""
    with pytest.raises(
        ModelFileError, match=r"with a delegate: operator 0 \(FULLY_CONNECTED\).* Run it without one \(--del"
    ):
        edgekit.load(in_place(), delegate="xnnpack")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        pytest.param(convolved, r"operator 0 \(CONV_2D\) reads the sparse constant '\w+'", id="an operator"),
        pytest.param(given_out, r"the list of outputs reads the sparse constant 'weights'", id="an output"),
    ],
)
def test_others_are_refused_before_native_code_reads_on(build: Callable[[], bytes], words: str) -> None:
    """The file can be read, as its meaning is clear, and not be loaded; the text says what to do."""
    model = ModelFile.read(build())
    with pytest.raises(ModelFileError, match=words + ".* Convert it with `edgekit convert`"):
        edgekit.load(model, delegate="none")


def _level(model: Any, number: int) -> Any:
    return model.subgraphs[0].tensors[_sparse(model)[0]].sparsity.dimMetadata[number]


def _last(model: Any) -> Any:
    return model.subgraphs[0].tensors[_sparse(model)[0]].sparsity.dimMetadata[-1]


def _fewer_rows(model: Any) -> None:
    _level(model, 0).denseSize -= 1


def _more_rows(model: Any) -> None:
    _level(model, 0).denseSize = 1 << 30


def _a_row_less_listed(model: Any) -> None:
    _last(model).arraySegments.values = _last(model).arraySegments.values[:-1]


def _a_place_less_listed(model: Any) -> None:
    _last(model).arrayIndices.values = _last(model).arrayIndices.values[:-1]


def _behind_its_row(model: Any) -> None:
    """Within the longest axis, and outside of its own."""
    tensor = model.subgraphs[0].tensors[_sparse(model)[0]]
    values = np.array(_last(model).arrayIndices.values)
    values[-1] = tensor.shape[-1]
    _last(model).arrayIndices.values = values


def _fewer_values(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[_sparse(model)[0]]
    buffer = model.buffers[tensor.buffer]
    buffer.data = np.asarray(buffer.data)[:-4]


def _no_values(model: Any) -> None:
    model.subgraphs[0].tensors[_sparse(model)[0]].buffer = 0


def _another_shape(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[_sparse(model)[0]]
    tensor.shape = [*tensor.shape[:-2], 2 * tensor.shape[-2], tensor.shape[-1]]


def _no_list(model: Any) -> None:
    _last(model).arrayIndices = None
    _last(model).arrayIndicesType = 0


def _a_block_of_nothing(model: Any) -> None:
    model.subgraphs[0].tensors[_sparse(model)[0]].sparsity.blockMap = [0]


SPOILED = [
    _fewer_rows, _more_rows, _a_row_less_listed, _a_place_less_listed, _behind_its_row, _fewer_values, _no_values,
    _another_shape, _no_list, _a_block_of_nothing,
]  # fmt: skip


@pytest.mark.parametrize("build", [filled_up, in_place])
@pytest.mark.parametrize("spoil", SPOILED)
def test_records_that_contradict_each_other_are_damage(
    spoil: Callable[[Any], None], build: Callable[[], bytes]
) -> None:
    """Whatever of the encoding is not so, native code never sees it."""
    with pytest.raises(ModelFileError, match=r"the model is damaged .*: the sparse (constant|tensor)"):
        ModelFile.read(models.edited(build(), spoil))

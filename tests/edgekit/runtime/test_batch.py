"""``edgekit.runtime.batch``: many samples through one model, together where it takes that.

These tests run under each interpreter (``--engine``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit import DataError, OptionError, Session, TensorError
from edgekit.runtime.batch import DEFAULT_SIZE, BatchAxis, batch
from edgekit.tensors import Array

OPEN = models.dense_float(open_batch=True)


def samples(count: int, *shape: int) -> list[Array]:
    """Real numbers between -1 and 1."""
    random = np.random.default_rng(count)
    return [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(count)]


def fixed_batch(size: int) -> bytes:
    """The int8 model, made for so many samples in a run."""

    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.name in (b"x", b"logits"):
                tensor.shape = [size, *tensor.shape[1:]]

    return models.edited(models.dense_int8(), change)


def add_open_batch() -> bytes:
    """Two inputs and two outputs with an open batch."""

    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            tensor.shapeSignature = [-1, *tensor.shape[1:]]

    return models.edited(models.add_two_inputs(), change)


@pytest.fixture
def load(engine: str | None, request: pytest.FixtureRequest) -> Any:
    """``edgekit.load`` with the interpreter under test, closed when the test ends."""

    def loaded(source: bytes, **options: Any) -> Session:
        session = edgekit.load(source, **{"delegate": "xnnpack", "engine": engine, **options})
        request.addfinalizer(session.close)
        return session

    return loaded


@pytest.mark.parametrize(
    ("content", "size", "expected"),
    [
        (models.dense_float(), None, (1, False)),
        (models.dense_float(), 1, (1, False)),
        (OPEN, None, (DEFAULT_SIZE, False)),
        (OPEN, 3, (3, False)),
        (OPEN, 1, (1, False)),
        (fixed_batch(4), None, (4, True)),
        (fixed_batch(4), 4, (4, True)),
        (models.fixed_reshape(), None, (1, False)),
        (add_open_batch(), None, (DEFAULT_SIZE, False)),
    ],
    ids=[
        "one",
        "one, said",
        "open",
        "open, said",
        "open, one",
        "fixed",
        "fixed, said",
        "output without",
        "two of each",
    ],
)
def test_the_batch_axis(load: Any, content: bytes, size: int | None, expected: tuple[int, bool]) -> None:
    """It is the first axis of all inputs and outputs, open or of one size above 1."""
    axis = BatchAxis.of(load(content), size)
    assert expected == (axis.size, axis.fixed)


@pytest.mark.parametrize(
    ("content", "size", "words"),
    [
        (models.dense_float(), 2, "batches of 2 samples: this model takes 1 in a run"),
        (fixed_batch(4), 2, "batches of 2 samples: this model takes 4 in a run"),
        (OPEN, 0, "batches of 0 samples: from 1 to 65536 were expected"),
    ],
    ids=["one", "fixed", "nothing"],
)
def test_impossible_sizes(load: Any, content: bytes, size: int, words: str) -> None:
    """The message says what the model takes."""
    with pytest.raises(OptionError, match=words):
        batch(load(content), [], size=size)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 20])
@pytest.mark.parametrize(
    ("content", "runs"),
    [
        (models.dense_int8(), lambda count: count),
        (OPEN, lambda count: -(-count // DEFAULT_SIZE)),
        (fixed_batch(4), lambda count: -(-count // 4)),
    ],
    ids=["one by one", "open", "fixed"],
)
@pytest.mark.parametrize("axis", [True, False], ids=["with axis", "without"])
def test_results_are_those_of_single_runs(load: Any, content: bytes, runs: Any, count: int, axis: bool) -> None:
    """Each sample's result is what it gets alone, in order, in as few runs as the model allows."""
    values = samples(count, 8)
    single = load(models.dense_int8() if content != OPEN else models.dense_float())
    expected = [single.run(value[None]) for value in values]
    session = load(content)
    actual = list(batch(session, [value[None] for value in values] if axis else values))
    assert [(1, 4)] * count == [value.shape for value in actual]
    np.testing.assert_allclose(np.array(expected), np.array(actual), atol=1e-6)
    assert runs(count) == session.latency.count


def test_several_inputs_and_outputs(load: Any) -> None:
    """Samples are mappings then, and so are the results."""
    session = load(add_open_batch())
    values = [{"a": value, "b": 2 * value} for value in samples(10, 4)]
    actual = list(batch(session, values))
    assert 2 == session.latency.count
    for value, result in zip(values, actual, strict=True):
        np.testing.assert_allclose(3 * value["a"][None], result["sum"], rtol=1e-6)
        np.testing.assert_allclose(-value["a"][None], result["difference"], rtol=1e-6)


def test_items_are_taken_as_they_are_needed(load: Any) -> None:
    """Never more than one batch is read ahead of the results."""
    taken: list[int] = []

    def source() -> Iterator[Array]:
        for number, value in enumerate(samples(100, 8)):
            taken.append(number)
            yield value

    results = batch(load(OPEN), source(), size=4)
    assert [] == taken
    next(results)
    assert 4 == len(taken)
    for _ in range(4):
        next(results)
    assert 8 == len(taken)


def test_an_item_that_is_a_batch_itself(load: Any) -> None:
    """It runs as it is, and the others keep their places around it."""
    values = samples(5, 8)
    items = [values[0], np.stack(values), values[1]]
    session = load(OPEN)
    assert [(1, 4), (5, 4), (1, 4)] == [result.shape for result in batch(session, items)]
    assert 3 == session.latency.count


def test_a_model_that_only_seems_to_take_batches(load: Any) -> None:
    """What an inner RESHAPE refuses together is run one by one, and nothing is tried twice after that."""

    def change(model: Any) -> None:  # says of its output, too, that the batch is open
        model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].shapeSignature = [-1, 4]

    session = load(models.edited(models.fixed_reshape(), change))
    assert DEFAULT_SIZE == BatchAxis.of(session).size
    values = samples(20, 8)
    results = list(batch(session, values))
    for value, result in zip(values, results, strict=True):
        np.testing.assert_array_equal(value.reshape(2, 4), result)
    assert 20 == session.latency.count


def test_results_are_their_own(load: Any) -> None:
    """Changing one changes no other."""
    results = list(batch(load(OPEN), samples(8, 8)))
    before = results[1].copy()
    results[0][:] = 7
    np.testing.assert_array_equal(before, results[1])
    assert all(result.flags.owndata for result in results)


def test_a_bad_sample(load: Any) -> None:
    """The session's own words reach the caller, after the results of the batches before it."""
    values = samples(6, 8)
    results = batch(load(OPEN), [*values[:4], np.full(8, np.nan, np.float32)], size=4)
    assert 4 == len([next(results) for _ in range(4)])
    with pytest.raises(TensorError, match="NaN or infinite"):
        next(results)


@pytest.mark.parametrize("given", [7, "file.npy", {"x": [1.0]}, None])
def test_what_cannot_be_iterated(load: Any, given: Any) -> None:
    """A path, one mapping or a number is not a row of samples."""
    with pytest.raises(DataError, match="was given as samples: an iterable of arrays was expected"):
        batch(load(OPEN), given)


def test_images_that_are_preprocessed(load: Any) -> None:
    """Raw images of one size go in together, others start a new batch."""
    content = models.with_manifest(
        models.conv_float(), preprocessing={"image": edgekit.Preprocessing((12, 12), None, (127.5,), (64.0,))}
    )
    session = load(content, preprocess=True)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (size, size, 3)).astype(np.uint8) for size in (30, 30, 20, 12)]
    expected = [session.run(image) for image in images]
    np.testing.assert_array_equal(np.array(expected), np.array(list(session.batch(images))))

"""The two parts of the calibration data, and the samples that are kept for the next pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tiny_models as models

from edgekit.graph import Graph
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert import calibration
from edgekit_convert.calibration import Audit, CalibrationSet, Parts, Ready, audit, auditing
from edgekit_convert.calibration.data import open_data

INPUTS = ModelFile.read(models.dense_float()).inputs
GRAPH: Graph = ModelFile.read(models.dense_float()).graph


def data_set(data: Any) -> CalibrationSet:
    """Data for the dense model's one input of 8 values."""
    return CalibrationSet(open_data(data, INPUTS, 10_000, "calibration"), INPUTS, {})


def audited(data: Any) -> Audit:
    """The audit, without anyone looking."""
    return audit(data_set(data), said_raw=True, graph=GRAPH, progress=lambda done, total: None)


def rows(count: int, seed: int = 0) -> Array:
    """Samples that are all different."""
    return np.random.default_rng(seed).normal(0, 1, (count, 8)).astype(np.float32)


def content(samples: tuple[Ready, ...]) -> list[bytes]:
    """What the samples are, in order."""
    return [ready.inputs["x"].tobytes() for ready in samples]


@pytest.mark.parametrize("count", [5, 12, 40, 300])
def test_parts_are_the_same_in_any_order(count: int) -> None:
    """Which sample is where, and in what order, follows from the samples alone."""
    data = rows(count)
    first = audited(data).parts
    for seed in range(3):
        again = audited(data[np.random.default_rng(seed).permutation(count)]).parts
        assert content(first.refining) == content(again.refining)
        assert content(first.held_out) == content(again.held_out)


@pytest.mark.parametrize("count", [12, 13, 40, 300, 1000])
def test_parts_are_disjoint_bounded_and_as_large_as_they_can_be(count: int) -> None:
    """A third judges, up to 96 samples; the rest refines, up to 128."""
    parts = audited(rows(count)).parts
    refining, held_out = set(content(parts.refining)), set(content(parts.held_out))
    assert not refining & held_out
    assert (min(96, min(count, 224) // 3), min(128, count - count // 3)) == (len(held_out), len(refining))


def test_the_numbers_are_those_of_the_held_out_samples() -> None:
    """They say which places in the data as given hold the samples that judge."""
    data = rows(50)
    parts = audited(data).parts
    assert {data[number].tobytes() for number in parts.held_out_numbers} == set(content(parts.held_out))
    assert len(parts.held_out_numbers) == len(parts.held_out)


@pytest.mark.parametrize("count", [1, 2, 11])
def test_few_samples_do_both(count: int) -> None:
    """Too few to part: the same ones refine and judge, and none is kept out of the means."""
    parts = audited(rows(count)).parts
    assert count == len(parts.refining)
    assert parts.refining is parts.held_out
    assert frozenset() == parts.held_out_numbers


def test_duplicates_are_in_the_parts_once() -> None:
    """A sample and its copy cannot be in both parts, nor weigh twice."""
    data = np.concatenate([rows(20), rows(20), rows(20)[::-1]])
    result = audited(data)
    kept = content(result.parts.refining) + content(result.parts.held_out)
    assert 20 == len(kept) == len(set(kept))
    assert 60 == result.count
    few = audited(np.repeat(rows(4), 10, axis=0)).parts
    assert 4 == len(few.refining)
    assert few.refining is few.held_out


def test_parts_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large samples are kept in smaller number, but never fewer than can be parted; the choice is still their own."""
    size = rows(1).nbytes
    monkeypatch.setattr(auditing, "_PART_BYTES", 30 * size)
    data = rows(200)
    parts = audited(data).parts
    assert (20, 10) == (len(parts.refining), len(parts.held_out))
    again = audited(data[::-1].copy()).parts
    assert content(parts.refining) == content(again.refining)
    monkeypatch.setattr(auditing, "_PART_BYTES", 1)
    parts = audited(data).parts
    assert (8, 4) == (len(parts.refining), len(parts.held_out))


def reusing(data: Array) -> Iterator[Array]:
    """A generator that gives each sample in the same memory, as many loaders do."""
    buffer = np.empty_like(data[0])
    for row in data:
        buffer[:] = row
        yield buffer


def test_a_generator_may_use_its_memory_again() -> None:
    """What is kept for later passes, and for the parts, are the values that were given at the time."""
    data = rows(30)
    expected, actual = audited(data), audited(lambda: reusing(data))
    assert expected.fingerprint == actual.fingerprint
    assert content(expected.parts.refining) == content(actual.parts.refining)
    assert content(expected.parts.held_out) == content(actual.parts.held_out)
    kept = data_set(lambda: reusing(data))
    list(kept)
    assert kept.kept
    np.testing.assert_array_equal(data, np.concatenate([ready.inputs["x"] for ready in kept]))


def counted(data: Array, passes: list[int]) -> Any:
    """A function that says how often the data were read."""

    def samples() -> Iterator[Array]:
        passes.append(1)
        yield from data

    return samples


def test_a_whole_pass_is_kept_and_the_next_reads_nothing() -> None:
    """Only a pass that was finished is kept; what it gave comes again, labels and all."""
    passes: list[int] = []
    data = data_set(counted(rows(10), passes))
    next(iter(data))
    assert not data.kept
    first = list(data)
    assert data.kept
    before = len(passes)
    assert first == list(data)
    assert before == len(passes)


def test_more_than_fits_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing is kept, and each pass reads all samples."""
    monkeypatch.setattr(calibration, "_KEPT_BYTES", 9 * rows(1).nbytes)
    passes: list[int] = []
    data = data_set(counted(rows(10), passes))
    assert 10 == len(list(data))
    assert not data.kept
    before = len(passes)
    assert 10 == len(list(data))
    assert before < len(passes)
    monkeypatch.setattr(calibration, "_KEPT_BYTES", 10 * rows(1).nbytes)
    list(data)
    assert data.kept


def test_parts_say_nothing_in_the_manifest() -> None:
    """The audit's record is about the data; the parts are in memory only."""
    result = audited(rows(40))
    assert isinstance(result.parts, Parts)
    assert "parts" not in result.to_json()

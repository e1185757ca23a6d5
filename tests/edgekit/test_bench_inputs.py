"""Random inputs are valid for the type and range of each input; real ones are made ready once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models

from edgekit.bench.inputs import MOST_SAMPLES, load_samples, native_samples, random_inputs, save_samples
from edgekit.errors import DataError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing
from edgekit.tensors import QuantParams, TensorSpec, quantize

SCALE = QuantParams((0.5,), (0,))


@dataclass(frozen=True)
class Kind:
    """An input type, and the lowest and highest value that may come and that many draws reach."""

    dtype: str
    quant: QuantParams | None
    low: float
    high: float


KINDS = [
    Kind("int8", SCALE, -128, 127),
    Kind("uint8", SCALE, 0, 255),
    Kind("int16", SCALE, -32768, 32767),
    Kind("int32", None, 0, 1),
    Kind("int64", None, 0, 1),
    Kind("uint8", None, 0, 1),
    Kind("bool", None, 0, 1),
    Kind("float32", None, -1, 1),
    Kind("float16", None, -1, 1),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.dtype}-{'quant' if kind.quant else 'plain'}")
def test_values_fill_the_range_that_the_input_can_hold(kind: Kind) -> None:
    """Each type gets its own dtype and values over its whole valid range."""
    values = random_inputs([TensorSpec("x", (1, 40_000), kind.dtype, kind.quant)])["x"]
    span = kind.high - kind.low
    assert np.dtype(kind.dtype) == values.dtype
    assert kind.low <= values.min() <= kind.low + span / 50
    assert kind.high - span / 50 <= values.max() <= kind.high


def test_open_sizes_become_one() -> None:
    """A size that the file leaves open is 1."""
    assert random_inputs([TensorSpec("x", (-1, 3), "float32")])["x"].shape == (1, 3)


def test_the_same_seed_gives_the_same_values() -> None:
    """Two calls agree with one seed and differ with another."""
    specs = [TensorSpec("a", (1, 50), "int8", SCALE), TensorSpec("b", (1, 50), "float32")]
    first, again, other = random_inputs(specs, 1), random_inputs(specs, 1), random_inputs(specs, 2)
    assert list(first) == ["a", "b"]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_a_batch_fills_the_open_size_only() -> None:
    """The first size becomes the batch where it is open; where it is fixed at another number, that is told."""
    assert random_inputs([TensorSpec("x", (-1, 3), "float32")], batch=4)["x"].shape == (4, 3)
    with pytest.raises(OptionError, match="a batch of 4: the model's input x"):
        random_inputs([TensorSpec("x", (1, 3), "float32")], batch=4)


class TestRealSamples:
    """``native_samples``."""

    def test_real_numbers_are_quantised_once(self) -> None:
        """What an int8 model gets are the file's own integers of the samples."""
        model = ModelFile.read(models.dense_int8())
        (spec,) = model.inputs
        data = np.random.default_rng(0).uniform(-1, 1, (3, *spec.shape[1:])).astype(np.float32)
        found = native_samples(model, data)
        assert spec.quant is not None
        assert [row[spec.name].dtype.name for row in found] == ["int8"] * 3
        assert all(
            np.array_equal(quantize(sample[None], spec.quant, "int8"), row[spec.name])
            for sample, row in zip(data, found, strict=True)
        )

    def test_arrays_by_name_lists_and_dicts_are_the_same(self) -> None:
        """Every form of two samples gives the same inputs."""
        model = ModelFile.read(models.dense_float())
        (spec,) = model.inputs
        data = np.arange(2 * spec.shape[1], dtype=np.float32).reshape(2, -1)
        forms: list[Any] = [
            data,
            list(data),
            {spec.name: data},
            [{spec.name: row} for row in data],
            [row[None] for row in data],
        ]
        for form in forms:
            assert [row[spec.name].tolist() for row in native_samples(model, form)] == [[row.tolist()] for row in data]

    def test_manifest_or_options_say_the_preprocessing(self) -> None:
        """A raw image is resized and normalised: as the options say, else as the manifest does."""
        content = models.with_manifest(
            models.conv_float(size=12),
            preprocessing={models_input(): Preprocessing(resize=(12, 12), mean=(2.0,), std=(4.0,))},
        )
        model = ModelFile.read(content)
        image = np.full((24, 24, 3), 10, np.uint8)
        (by_manifest,) = native_samples(model, [image])
        (by_option,) = native_samples(model, [image], preprocessing={models_input(): Preprocessing(resize=(12, 12))})
        assert [by_manifest[models_input()].shape, by_option[models_input()].shape] == [(1, 12, 12, 3)] * 2
        assert (by_manifest[models_input()].max(), by_option[models_input()].max()) == (2.0, 10.0)

    def test_batches_are_put_together(self) -> None:
        """Five samples make two batches of two; two make one of three, the first one again."""
        model = ModelFile.read(models.dense_float(open_batch=True))
        (spec,) = model.inputs
        data = np.arange(5, dtype=np.float32)[:, None].repeat(spec.shape[1], 1)
        assert [row[spec.name][:, 0].tolist() for row in native_samples(model, data, batch=2)] == [[0, 1], [2, 3]]
        assert [row[spec.name][:, 0].tolist() for row in native_samples(model, data[:2], batch=3)] == [[0, 1, 0]]

    def test_no_more_are_kept_than_are_run(self) -> None:
        """Of many samples the first ones."""
        model = ModelFile.read(models.dense_float())
        assert len(native_samples(model, np.zeros((200, model.inputs[0].shape[1]), np.float32))) == MOST_SAMPLES

    def test_they_reach_the_other_process_unchanged(self, tmp_path: Path) -> None:
        """What was written is read, by name and in order, with two inputs."""
        model = ModelFile.read(models.add_two_inputs())
        samples = [random_inputs(model.inputs, seed) for seed in range(12)]
        save_samples(tmp_path / "s.npz", samples)
        found = load_samples(tmp_path / "s.npz", model.inputs)
        assert [{name: array.tolist() for name, array in row.items()} for row in samples] == [
            {name: array.tolist() for name, array in row.items()} for row in found
        ]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ([], "hold no sample"),
            (np.zeros((2, 3), np.float32), "sample 0 of the benchmark's data: input"),
            ([{"other": np.zeros(16)}], "it lacks the input"),
            ({"other": np.zeros((2, 16))}, "lack the input"),
            (7, "benchmark data of type int"),
        ],
        ids=["none", "shape", "name", "names", "type"],
    )
    def test_what_does_not_fit_is_told(self, data: Any, message: str) -> None:
        """Each with what was seen."""
        with pytest.raises(DataError, match=message):
            native_samples(ModelFile.read(models.dense_float()), data)


def models_input() -> str:
    """The name of the small image classifier's input."""
    return ModelFile.read(models.conv_float(size=12)).inputs[0].name

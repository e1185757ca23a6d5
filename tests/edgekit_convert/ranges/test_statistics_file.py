"""Saved statistics come back as they were, fit only what they were measured on, and merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models

from edgekit.errors import DataError, OutputError
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.ranges import Statistics, measure
from edgekit_convert.ranges.statistics_file import SCHEMA, SavedStatistics, load, merge, read, save

MODEL = ModelFile.read(models.conv_float())
IMAGES = np.random.default_rng(6).normal(0.5, 1, (24, 12, 12, 3)).astype(np.float32)
DATA, OTHER = "a" * 64, "b" * 64


def measured(images: Array) -> Statistics:
    """Statistics of the tiny classifier."""
    data = CalibrationSet(open_data(images, MODEL.inputs, 1000, "calibration"), MODEL.inputs, {})
    return measure(MODEL.content, data, lambda done: None, apart=frozenset({2}))


WHOLE = measured(IMAGES)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with the statistics of all images."""
    path = tmp_path / "statistics.npz"
    save(path, WHOLE, fingerprint=DATA, model_sha256=MODEL.sha256)
    return path


def assert_same(expected: Statistics, actual: Statistics) -> None:
    """Compare all that was measured."""
    assert (expected.count, expected.summed) == (actual.count, actual.summed)
    assert expected.extremes == actual.extremes
    assert expected.sums.keys() == actual.sums.keys()
    for name, total in expected.sums.items():
        np.testing.assert_array_equal(total, actual.sums[name])
    for name, histogram in expected.histograms.items():
        np.testing.assert_array_equal(histogram.bins, actual.histograms[name].bins)
        np.testing.assert_array_equal(histogram.counts, actual.histograms[name].counts)


def test_what_was_saved_comes_back(file: Path) -> None:
    """All of it, for the model and data that it was measured on."""
    assert_same(WHOLE, load(file, fingerprint=DATA, model_sha256=MODEL.sha256))


def test_the_same_statistics_are_the_same_bytes(file: Path, tmp_path: Path) -> None:
    """Also when they were read from a file."""
    read(file).save(tmp_path / "again.npz")
    assert file.read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_other_data_or_another_model_do_not_fit(file: Path) -> None:
    """The message says which of the two differs, and both values."""
    assert read(file).difference(fingerprint=DATA, model_sha256=MODEL.sha256) is None
    with pytest.raises(DataError, match=r"measured on other data: fingerprint a{12}…, this data has b{12}…"):
        load(file, fingerprint=OTHER, model_sha256=MODEL.sha256)
    with pytest.raises(DataError, match=rf"another model: float sha256 {MODEL.sha256[:12]}…, this one has b{{12}}…"):
        load(file, fingerprint=DATA, model_sha256=OTHER)


def test_parts_merge_to_the_whole(tmp_path: Path) -> None:
    """Measured on two machines, saved, read and merged: the same statistics, which fit either part's data."""
    parts = []
    for name, images in ((DATA, IMAGES[:10]), (OTHER, IMAGES[10:])):
        save(tmp_path / name, measured(images), fingerprint=name, model_sha256=MODEL.sha256)
        parts.append(read(tmp_path / name))
    united = merge(parts)
    assert (united.statistics.count, united.statistics.summed, united.fingerprints) == (24, 22, (DATA, OTHER))
    assert united.statistics.extremes == WHOLE.extremes
    for name, histogram in WHOLE.histograms.items():
        np.testing.assert_array_equal(histogram.counts, united.statistics.histograms[name].counts)
    united.save(tmp_path / "united.npz")
    for fingerprint in (DATA, OTHER):
        assert_same(
            united.statistics, load(tmp_path / "united.npz", fingerprint=fingerprint, model_sha256=MODEL.sha256)
        )


def test_what_cannot_be_merged_is_refused(file: Path) -> None:
    """The same data twice, two models, nothing."""
    one = read(file)
    with pytest.raises(DataError, match="statistics of the same data"):
        merge([one, one])
    with pytest.raises(DataError, match="different models"):
        merge([one, SavedStatistics(WHOLE, (OTHER,), OTHER, "other.npz")])
    with pytest.raises(DataError, match="no statistics to merge"):
        merge([])


def test_an_existing_file_is_kept(file: Path) -> None:
    """Unless it may be replaced."""
    with pytest.raises(OutputError, match="exists already"):
        save(file, WHOLE, fingerprint=DATA, model_sha256=MODEL.sha256)
    save(file, WHOLE, fingerprint=OTHER, model_sha256=MODEL.sha256, overwrite=True)
    assert read(file).fingerprints == (OTHER,)


def test_damage_is_one_clear_error(file: Path) -> None:
    """Cut short anywhere, or one byte changed: an error that says what to do, or the statistics unharmed."""
    content = file.read_bytes()
    for length in range(0, len(content), 101):
        file.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"is damaged or does not hold edgekit's statistics .*Delete it"):
            read(file)
    noticed = 0
    for place in range(0, len(content), 41):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            assert_same(WHOLE, read(file).statistics)
        except DataError:
            noticed += 1
    assert noticed > len(content) // 41 * 0.7  # the rest are names and dates that the ZIP format holds twice


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"kind": "something else"}, "it is of another kind", id="kind"),
        pytest.param({"count": 0}, "23 of 0 samples", id="count"),
        pytest.param({"count": "many"}, "damaged", id="no number"),
        pytest.param({"tensors": ["image"]}, "extremes of another form", id="fewer names"),
        pytest.param({"tensors": ["image"] * 4}, "a name twice", id="equal names"),
        pytest.param({"summed": ["image", "logits", "pooled"]}, "sum_2", id="more sums"),
        pytest.param({"fingerprints": []}, "no fingerprint", id="no fingerprint"),
        pytest.param({"model_sha256": None}, "no fingerprint", id="no model"),
    ],
)
def test_a_header_that_lies_is_noticed(file: Path, change: dict[str, Any], message: str) -> None:
    """Each count and name is held to the arrays."""
    with pytest.raises(DataError, match=message):
        read(rewritten(file, change, {}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param("extremes", [[1.0, 0.0]] * 5, "the extremes of", id="upside down"),
        pytest.param("extremes", [[np.nan, 0.0]] * 5, "the extremes of", id="NaN"),
        pytest.param("extremes", [[0.0, 1.0]] * 3, "extremes of another form", id="too few"),
        pytest.param("lengths", np.array([1, 2, 3, 4, -4]), "histograms of another length", id="negative length"),
        pytest.param("counts", np.zeros(3, np.int64), "histograms of another length", id="counts"),
        pytest.param("bins", np.zeros(3, np.float64), "histograms of another form", id="bins"),
        pytest.param("sum_0", np.full((1, 12, 12, 3), np.inf), "the sum of 'image'", id="infinite sum"),
        pytest.param("sum_0", np.array(["text", None], object), "allow_pickle=False", id="objects"),
    ],
)
def test_arrays_that_make_no_sense_are_noticed(file: Path, name: str, value: Any, message: str) -> None:
    """Nothing of a damaged file reaches the quantiser."""
    with pytest.raises(DataError, match=message):
        read(rewritten(file, {}, {name: np.asarray(value)}))


def test_a_newer_file_is_named(file: Path) -> None:
    """Not as damage."""
    with pytest.raises(DataError, match=rf"newer edgekit \(schema {SCHEMA + 1}, this one reads up to {SCHEMA}\)"):
        read(rewritten(file, {"schema": SCHEMA + 1}, {}))


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Another .npz, another format, none at all."""
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("statistics")
    for name in ("other.npz", "array.npy", "text.npz"):
        with pytest.raises(DataError, match="does not hold edgekit's statistics"):
            read(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "missing.npz")


def rewritten(file: Path, header: dict[str, Any], arrays: dict[str, Array]) -> Path:
    """The file with other header fields or arrays."""
    with np.load(file) as archive:
        held = dict(archive)
    held["header"] = np.frombuffer(json.dumps({**json.loads(held["header"].tobytes()), **header}).encode(), np.uint8)
    np.savez(file, **{**held, **arrays})
    return file

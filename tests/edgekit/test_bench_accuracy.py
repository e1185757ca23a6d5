"""Which model of a benchmark is how right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models as models

from edgekit.bench.accuracy import AGREEMENT, accuracies, convex_front, of_json, of_manifest, read_verified
from edgekit.errors import DataError, ModelFileError, OptionError
from edgekit.modelfile import ModelFile

INTERVAL = {"value": 0.9, "low": 0.85, "high": 0.95}
FLOAT, INT8 = ("float.tflite", "f" * 64, 4000), ("int8.tflite", "1" * 64, 1000)


def verification(**changes: Any) -> dict[str, Any]:
    """What ``VerifyReport.to_json`` gives."""
    output = {
        "name": "y",
        "sqnr_db": INTERVAL,
        "agreement": {"value": 0.97, "low": 0.9, "high": 0.99},
        "max_abs_error": 0.1,
    }
    metric = {
        "name": "accuracy",
        "float": {"value": 0.92, "low": 0.9, "high": 0.94},
        "int8": INTERVAL,
        "drop": INTERVAL,
    }
    figures = {"origin": "test.npz", "count": 80, "outputs": [output], "metric": metric, **changes}
    return {"checks": [], "on": {"calibration": {**figures, "origin": "train.npz"}, "verify": figures},
            "float_bytes": 4000, "int8_bytes": 1000}  # fmt: skip


class TestReading:
    """What a verification says."""

    def test_metric_of_both_models(self) -> None:
        """On data that the conversion did not see, with intervals."""
        found = of_json(verification(), "v.json")
        assert (0.9, 0.85, 0.95) == (found.int8_model.value, found.int8_model.low, found.int8_model.high)
        assert (0.92, "accuracy", "80 samples of test.npz") == (
            found.float_model.value, found.float_model.metric, found.float_model.origin,
        )  # fmt: skip
        assert (1000, 4000) == (found.int8_bytes, found.float_bytes)

    def test_agreement_where_there_are_no_labels(self) -> None:
        """The float model agrees with itself."""
        found = of_json(verification(metric=None), "v.json")
        assert [(AGREEMENT, 0.97), (AGREEMENT, 1.0)] == [
            (item.metric, item.value) for item in (found.int8_model, found.float_model)
        ]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ([], "is not a verification"), ({}, "is not a verification"), ({"on": {}}, "is not a verification"),
            ({"on": {"verify": {}}}, "is damaged"), ({"on": {"verify": None}}, "is damaged"),
            ({"on": {"data": {"count": 1, "origin": "x", "metric": None, "outputs": [{"agreement": None}]}}}, "says nothing of accuracy"),
        ],
        ids=["list", "empty", "no-data", "half", "null", "no-classes"],
    )  # fmt: skip
    def test_other_things_are_refused(self, data: Any, message: str) -> None:
        """One sentence with the source's name."""
        with pytest.raises(DataError, match=f"v.json {message}"):
            of_json(data, "v.json")

    def test_file_with_and_without_a_name(self, tmp_path: Path) -> None:
        """``MODEL=FILE`` names the model; a file whose own name has the sign is read as it is."""
        path = tmp_path / "a=b.json"
        path.write_text(json.dumps(verification()))
        assert read_verified(str(path)).name is None
        named = read_verified(f"m.tflite={path}")
        assert ("m.tflite", 0.9) == (named.name, named.int8_model.value)

    def test_files_that_are_none(self, tmp_path: Path, dense_float_file: Path) -> None:
        """Missing, no JSON, and a model without a manifest: each is told."""
        (tmp_path / "x").write_text("{")
        for text, error, message in (
            (str(tmp_path / "none"), DataError, "no such file"),
            (str(tmp_path / "x"), DataError, "is not a verification"),
            (str(dense_float_file), ModelFileError, "holds no verification"),
        ):
            with pytest.raises(error, match=message):
                read_verified(text)

    def test_manifest_knows_both_hashes(self, tmp_path: Path) -> None:
        """A converted model is told by its hash, its original by the one in the manifest."""
        content = models.with_manifest(
            models.dense_int8(), verification=verification(), source={"float_sha256": "f" * 64}
        )
        path = tmp_path / "m.tflite"
        path.write_bytes(content)
        model = ModelFile.read(path)
        found = read_verified(str(path))
        assert (model.sha256, "f" * 64, None) == (found.int8_sha256, found.float_sha256, found.int8_bytes)
        assert of_manifest(ModelFile.read(models.dense_float())) is None


class TestBelonging:
    """Which model a figure is of."""

    def test_sizes_tell(self) -> None:
        """Both models of the pair, and no third one."""
        found = accuracies([FLOAT, INT8, ("other", "2" * 64, 77)], [of_json(verification(), "v.json")])
        assert {FLOAT[:2]: 0.92, INT8[:2]: 0.9} == {key: item.value for key, item in found.items()}

    def test_hashes_tell_where_they_are_known(self) -> None:
        """Whatever the sizes are."""
        from dataclasses import replace

        known = replace(of_json(verification(), "m"), int8_bytes=None, int8_sha256="1" * 64, float_sha256="f" * 64)
        models_ = [("a", "f" * 64, 5), ("b", "1" * 64, 4000)]
        assert [0.92, 0.9] == [item.value for item in accuracies(models_, [known]).values()]
        assert {} == accuracies([("c", "3" * 64, 1000)], [known])

    def test_name_tells_where_sizes_do_not(self, tmp_path: Path) -> None:
        """The named model is the quantised one; a wrong name is told with those that were measured."""
        path = tmp_path / "v.json"
        path.write_text(json.dumps(verification()))
        measured = [("x/other.tflite", "2" * 64, 77), FLOAT]
        found = accuracies(measured, [read_verified(f"other.tflite={path}")])
        assert [0.9, 0.92] == [found[model[:2]].value for model in measured]
        with pytest.raises(OptionError, match=r"of 'y', which was not measured: one of x/other.tflite was expected"):
            accuracies(measured[:1], [read_verified(f"y={path}")])

    def test_nothing_that_fits_is_told(self) -> None:
        """With the remedy."""
        with pytest.raises(OptionError, match=r"1000 bytes, and none of other has as many.*--accuracy MODEL=FILE"):
            accuracies([("other", "2" * 64, 77)], [of_json(verification(), "v.json")])


class TestFront:
    """What is worth a choice."""

    @pytest.mark.parametrize(
        ("points", "expected"),
        [
            ([], []),
            ([(1.0, 0.5)], [0]),
            ([(1.0, 0.5), (2.0, 0.4)], [0]),
            ([(2.0, 0.9), (1.0, 0.5)], [1, 0]),
            ([(1.0, 0.5), (2.0, 0.55), (3.0, 0.9)], [0, 2]),
            ([(1.0, 0.5), (2.0, 0.8), (3.0, 0.9)], [0, 1, 2]),
            ([(1.0, 0.5), (1.0, 0.7), (1.0, 0.7)], [1]),
            ([(1.0, 0.1), (2.0, 0.3), (3.0, 0.8), (4.0, 0.85), (5.0, 0.9)], [0, 2, 4]),
        ],
        ids=["none", "one", "beaten", "both", "below-a-line", "above-it", "alike", "on-a-line"],
    )
    def test_front(self, points: list[tuple[float, float]], expected: list[int]) -> None:
        """The fastest, the most right, and what lies above the line between neighbours."""
        assert expected == convex_front(points)

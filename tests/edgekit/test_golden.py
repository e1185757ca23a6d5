"""``edgekit.golden``: what travels with a model, and how a device checks itself against it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema
from golden_files import IMAGES, ROWS, SPEC, changed, checked, mixed, packed
from processes import run_python

import edgekit
from edgekit.digest import sha256_hex
from edgekit.errors import ModelFileError
from edgekit.golden import Golden
from edgekit.manifest import Manifest, append
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.package import golden_data


def shifted(steps: int) -> Callable[[Golden], Golden]:
    """A change that moves the first expected value of every kernel set by so many steps."""

    def change(arrays: dict[str, Array], about: dict[str, Any]) -> None:
        for name in about["sets"]:
            value = arrays[f"{name}_0"][0, 0]
            arrays[f"{name}_0"][0, 0] = value - steps if value > 0 else value + steps

    return lambda data: changed(data, change)


def elsewhere(data: Golden) -> Golden:
    """The same data, as if another version of the engine had made them."""
    return changed(data, lambda arrays, about: [item.update(engine="an engine 0") for item in about["sets"].values()])


def shuffled(data: Golden) -> Golden:
    """Expected outputs of the wrong samples, made by another engine: what a broken runtime looks like."""

    def change(arrays: dict[str, Array], about: dict[str, Any]) -> None:
        for name in about["sets"]:
            arrays[f"{name}_0"] = arrays[f"{name}_0"][::-1]

    return elsewhere(changed(data, change))


class TestCheck:
    """A device checks itself."""

    @pytest.mark.parametrize("delegate", ["xnnpack", "none"])
    @pytest.mark.parametrize(
        ("content", "samples"),
        [
            (models.dense_int8(), ROWS),
            (models.dense_float(), ROWS),
            (models.dense_float(open_batch=True), ROWS),
            (models.conv_float(), IMAGES),
            (models.add_two_inputs(), [{"a": np.ones((1, 4), np.float32), "b": np.full((1, 4), n)} for n in range(3)]),
            (mixed(), ROWS),
        ],
        ids=["int8", "float", "open", "image", "two", "mixed"],
    )
    def test_the_same_model_agrees(
        self, content: bytes, samples: list[dict[str, Array]], delegate: str, engine: str | None
    ) -> None:
        """Whatever the model, every output is within its tolerance, and the report says what ran."""
        report = checked(packed(content, samples), delegate=delegate, engine=engine)
        assert [output.name for output in report.outputs] == [spec.name for spec in ModelFile.read(content).outputs]
        assert report.passed
        assert report.kernel_set in (delegate, "none")
        json.dumps(report.to_json(), allow_nan=False)

    def test_one_step_is_allowed_and_two_are_not(self) -> None:
        """The same kernels, engine and processor: at most one step of the output's integers."""
        near, far = (checked(packed(models.dense_int8(), ROWS, shifted(steps))) for steps in (1, 2))
        assert (near.strict, near.passed, near.outputs[0].steps) == (True, True, 1.0)
        assert (far.strict, far.passed, far.outputs[0].steps) == (True, False, 2.0)
        assert far.outputs[0].equal == 1 - 1 / 32
        assert near.outputs[0].tolerance == "at most 1 step"

    def test_another_engine_is_judged_in_decibels(self) -> None:
        """Two steps are fine between versions of a runtime; outputs of other samples are not."""
        report = checked(packed(models.dense_int8(), ROWS, lambda data: elsewhere(shifted(2)(data))))
        assert (report.strict, report.passed) == (False, True)
        assert "recorded with an engine 0, run with" in report.reason
        assert report.outputs[0].tolerance == "at least 12 dB, or at most 1 step"
        broken = checked(packed(models.dense_int8(), ROWS, shuffled))
        assert not broken.passed
        assert (broken.outputs[0].sqnr_db or 99) < 6

    def test_another_architecture_is_judged_in_decibels(self) -> None:
        """A file from a workstation, run on a device."""
        content = packed(
            models.dense_int8(), ROWS, lambda data: changed(data, lambda arrays, about: about.update(machine="vax"))
        )
        assert "recorded on vax" in checked(content).reason

    def test_a_kernel_set_that_was_not_recorded(self) -> None:
        """It is compared with one that was, in dB."""

        def forget(arrays: dict[str, Array], about: dict[str, Any]) -> None:
            del about["sets"]["xnnpack"]

        report = checked(packed(models.dense_int8(), ROWS, lambda data: changed(data, forget)))
        assert (report.kernel_set, report.against, report.strict, report.passed) == ("xnnpack", "none", False, True)

    def test_class_numbers_must_be_equal(self) -> None:
        """An output of integers without a scale has no steps to be off by."""
        b = models.Builder()
        x, axis, y = (
            b.tensor("x", (1, 8)),
            b.tensor("axis", (), "int32", data=np.array(1, np.int32)),
            b.tensor("class", (1,), "int32"),
        )
        options = schema.ArgMaxOptionsT()
        options.outputType = 2
        b.op("ARG_MAX", [x, axis], [y], ("ArgMaxOptions", options))
        content = b.build({"x": x}, {"class": y})
        assert checked(packed(content, ROWS)).outputs[0].tolerance == "equal"
        assert checked(packed(content, ROWS)).passed
        assert not checked(packed(content, ROWS, shifted(1))).passed
        assert checked(packed(content, ROWS, lambda data: elsewhere(shifted(1)(data)))).passed  # one of eight

    def test_nan_where_numbers_were_expected_fails(self) -> None:
        """Whatever the SQNR of the rest."""

        def spoil(arrays: dict[str, Array], about: dict[str, Any]) -> None:
            for name in about["sets"]:
                arrays[f"{name}_0"][0, 0] = np.nan

        output = checked(packed(models.dense_float(), ROWS, lambda data: changed(data, spoil))).outputs[0]
        assert (output.not_finite, output.passed) == (1, False)

    def test_from_python(self) -> None:
        """``edgekit.verify_golden`` takes a path, bytes or a ``ModelFile``."""
        content = packed(models.dense_int8(), ROWS)
        assert edgekit.verify_golden(content, delegate="xnnpack").passed
        assert edgekit.verify_golden(ModelFile.read(content)).passed


class TestDamage:
    """Golden data that cannot be trusted are refused, each with its reason."""

    def test_none(self, dense_int8_file: Any) -> None:
        """A file that edgekit did not make, or made before there were golden data."""
        with pytest.raises(ModelFileError, match=r"dense_int8\.tflite carries no golden data"):
            edgekit.verify_golden(dense_int8_file, delegate="none")
        with pytest.raises(ModelFileError, match="carries no golden data"):
            checked(models.with_manifest(models.dense_int8()))

    def test_announced_and_missing(self) -> None:
        """The manifest tells of them, and the ZIP has none."""
        flatbuffer = models.announced(models.dense_int8())
        about = golden_data.make(flatbuffer, ROWS, SPEC).to_json()
        with pytest.raises(ModelFileError, match="there are none in the file"):
            checked(append(flatbuffer, Manifest(sha256_hex(flatbuffer), golden=about)))

    def test_other_bytes(self) -> None:
        """A digest that does not fit."""
        with pytest.raises(ModelFileError, match="golden data are damaged: sha256"):
            checked(packed(models.dense_int8(), ROWS, lambda data: Golden(data.content, {**data.about, "sha256": "0"})))

    def test_a_flipped_bit(self) -> None:
        """The seal over the ZIP finds it."""
        content = bytearray(packed(models.dense_int8(), ROWS))
        place = content.rindex(b"golden.npz", 0, content.rindex(b"PK\x01\x02")) + 40
        content[place] ^= 1
        with pytest.raises(ModelFileError, match="what lies behind the flatbuffer was changed after it was written"):
            checked(bytes(content))

    def test_another_models(self) -> None:
        """The digest of the model that they were made with does not fit."""
        other = golden_data.make(models.announced(models.dense_float()), ROWS, SPEC)
        with pytest.raises(ModelFileError, match="golden data are those of another model"):
            checked(packed(models.dense_int8(), ROWS, lambda data: other))

    @pytest.mark.parametrize(
        "change",
        [
            lambda arrays, about: about.pop("sets"),
            lambda arrays, about: about.update(count=3),
            lambda arrays, about: arrays.pop("input_0"),
            lambda arrays, about: about["tolerance"].update(outputs=[]),
            lambda arrays, about: arrays.update(input_0=arrays["input_0"].astype(np.float64)),
        ],
        ids=["sets", "count", "inputs", "tolerance", "dtype"],
    )
    def test_not_as_edgekit_writes_them(self, change: Callable[[dict[str, Array], dict[str, Any]], object]) -> None:
        """A block or arrays that were edited by hand."""
        with pytest.raises(ModelFileError, match="not as edgekit writes them"):
            checked(packed(models.dense_int8(), ROWS, lambda data: changed(data, change)))


class TestFile:
    """How they lie in the file."""

    def test_the_manifest_stays_first_and_the_zip_standard(self) -> None:
        """Standard tools read the archive; noise is stored, what compresses is compressed."""
        content = packed(models.dense_int8(), ROWS)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.namelist() == ["edgekit.json", "golden.npz"]
            assert archive.testzip() is None
            with np.load(io.BytesIO(archive.read("golden.npz"))) as arrays:
                assert {"input_0", "xnnpack_0", "none_0"} == set(arrays.files)

    def test_loading_does_not_look_at_them(self, tmp_path: Any) -> None:
        """Loading and running such a file imports neither ``zipfile`` nor ``edgekit.golden``."""
        path = tmp_path / "model.tflite"
        path.write_bytes(packed(models.dense_int8(), ROWS))
        code = (
            "import sys, edgekit; s = edgekit.load(sys.argv[1], delegate='xnnpack'); s.run([[0.0] * 8]); "
            "print([n for n in ('zipfile', 'edgekit.golden', 'dataclasses') if n in sys.modules], s.model.manifest.golden['count'])"
        )
        done = run_python("-c", code, path)
        assert (done.stderr.replace("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n", ""), done.stdout) == (
            "",
            "[] 8\n",
        )

"""``edgekit convert``: the good path, and one message with exit code 2 for each bad input."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from click.testing import CliRunner, Result
from PIL import Image

from edgekit.cli import cli
from edgekit.modelfile import ModelFile

RANDOM = np.random.default_rng(2)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a float model and data, as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "float.tflite").write_bytes(models.conv_float())
    pixels = RANDOM.integers(0, 256, (48, 12, 12, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", train=pixels, test=pixels[::-1], labels=np.arange(48) % 5)
    return tmp_path


def edgekit(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli, list(arguments))


def convert(*arguments: str, source: str = "float.tflite", calibration: str = "data.npz:train") -> Result:
    """Run ``edgekit convert`` with usual arguments."""
    return edgekit("convert", source, "--calibration", calibration, "-o", "out.tflite", *arguments)


def test_a_conversion_shows_its_proof(here: Path) -> None:
    """Findings, checks and figures are printed, the file is there, and progress is on stderr."""
    result = convert("--normalize", "127.5,127.5", "--verify", "data.npz:x=test,y=labels", "--recipe", "int8")
    assert result.exit_code == 0, result.output
    for words in (
        "Checks of the exported file",
        "agreement",
        "SQNR",
        "multiply-accumulates in int8",
        "100.0 %",
        "points",
    ):
        assert words in result.stdout
    assert "Measuring ranges" in result.stderr
    assert "Measuring ranges" not in result.stdout
    assert ModelFile.read(here / "out.tflite").manifest is not None


def test_json_is_one_document(here: Path) -> None:
    """``--json`` prints everything, and nothing else on stdout."""
    result = convert("--normalize", "none", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["output"] == "out.tflite"
    assert document["manifest"]["sha256"] == ModelFile.read(here / "out.tflite").sha256
    assert document["manifest"]["verification"]["on"]["calibration"]["count"] == 48


def test_the_audit_names_the_missing_option(here: Path) -> None:
    """Raw pixels without --normalize convert, with a warning that names the option."""
    result = convert()
    assert result.exit_code == 0
    assert "warning: uint8 values" in result.stdout
    assert "--normalize 127.5,127.5" in result.stdout


def test_a_default_output_name(here: Path) -> None:
    """Without -o the file is named after the source, in this folder."""
    result = edgekit("convert", "float.tflite", "--calibration", "data.npz:train")
    assert result.exit_code == 0
    assert (here / "float_int8.tflite").is_file()


def test_labels_from_a_file(here: Path) -> None:
    """One name a line, written into the model."""
    (here / "names.txt").write_text("a\nb\nc\nd\ne\n")
    assert convert("--labels", "names.txt").exit_code == 0
    manifest = ModelFile.read(here / "out.tflite").manifest
    assert manifest is not None
    assert manifest.labels == ("a", "b", "c", "d", "e")


def test_images_are_resized(here: Path) -> None:
    """A folder of images of another size works with --resize, and its sub-folders are the labels."""
    _images(here, (20, 16))
    result = convert("--resize", "12x12", "--normalize", "0,255", "--color", "rgb", calibration="images")
    assert result.exit_code == 0, result.output
    manifest = ModelFile.read(here / "out.tflite").manifest
    assert manifest is not None
    assert manifest.labels == ("left", "right")
    assert manifest.preprocessing["image"].resize == (12, 12)


def test_images_are_cropped(here: Path) -> None:
    """The shorter side is resized, the centre cut out, the file says so, and the other commands take the same options."""
    _images(here, (20, 16))
    sizes = ("--resize", "14", "--crop", "12x12", "--normalize", "0,255")
    result = convert(*sizes, calibration="images")
    assert result.exit_code == 0, result.output
    manifest = ModelFile.read(here / "out.tflite").manifest
    assert manifest is not None
    item = manifest.preprocessing["image"]
    assert (None, 14, (12, 12)) == (item.resize, item.resize_shorter, item.crop)
    assert edgekit("verify", "float.tflite", "out.tflite", "--data", "images", *sizes).exit_code == 0
    assert edgekit("lint", "float.tflite", "--calibration", "images", *sizes).exit_code == 0
    assert "12x12" in edgekit("inspect", "out.tflite").stdout


def _images(folder: Path, size: tuple[int, int]) -> None:
    for name in ("left", "right"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(3):
            pixels = RANDOM.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")


def refused(result: Result, *words: str, here: Path, kept: bytes | None = None) -> None:
    """One message on stderr with exit code 2, no traceback, and no file left behind."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.output
    leftovers = [item.name for item in here.iterdir() if "out.tflite" in item.name]
    assert leftovers == (["out.tflite"] if kept is not None else [])
    if kept is not None:
        assert (here / "out.tflite").read_bytes() == kept


def test_missing_source(here: Path) -> None:
    """A missing model file."""
    refused(convert(source="absent.keras"), "no such file: absent.keras", here=here)


def test_random_bytes_as_source(here: Path) -> None:
    """Random bytes under each name."""
    for name in ("x.keras", "x.h5", "x.tflite"):
        (here / name).write_bytes(RANDOM.bytes(5000))
        refused(convert(source=name), "damaged or not what its name says", "expected", here=here)


def test_truncated_sources(here: Path) -> None:
    """A float .tflite cut at any of many places."""
    whole = (here / "float.tflite").read_bytes()
    for length in range(8, len(whole) - 1, len(whole) // 12):
        (here / "cut.tflite").write_bytes(whole[:length])
        refused(convert(source="cut.tflite"), "damaged or cut short", here=here)


def test_quantised_source(here: Path) -> None:
    """An int8 model is not converted again."""
    (here / "int8.tflite").write_bytes(models.dense_int8())
    refused(convert(source="int8.tflite"), "quantised already", "convert the original", here=here)


def test_images_of_another_size(here: Path) -> None:
    """Without --resize the message names it."""
    _images(here, (20, 16))
    refused(convert(calibration="images"), "[16, 20, 3]", "--resize 12x12", here=here)


def test_nan_in_the_calibration_data(here: Path) -> None:
    """The sample is named."""
    data = RANDOM.uniform(-1, 1, (40, 12, 12, 3)).astype(np.float32)
    data[5, 0] = np.nan
    np.save(here / "nan.npy", data)
    refused(convert(calibration="nan.npy"), "sample 5 holds 36 NaN", here=here)


def test_missing_and_unknown_data(here: Path) -> None:
    """A missing file and a missing key."""
    refused(convert(calibration="absent.npy"), "no such file: absent.npy", here=here)
    refused(convert(calibration="data.npz:absent"), "has no array 'absent'", "train, test, labels", here=here)


def test_output_in_a_missing_folder(here: Path) -> None:
    """Found before the work starts."""
    result = convert("-o", "absent/out.tflite")
    refused(result, "the folder absent does not exist", here=here)
    assert "Measuring" not in result.stderr


def test_output_that_is_a_folder_or_below_a_file(here: Path) -> None:
    """Neither can be written."""
    (here / "folder").mkdir()
    refused(convert("-o", "folder"), "it is a folder", here=here)
    refused(convert("-o", "data.npz/out"), "a part of that path is a file", here=here)


def test_output_on_a_full_disk_simulated(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while the model is written: nothing is left, and the message says so."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused(convert(), "the disk is full", here=here)


def test_output_in_an_unwritable_folder_simulated(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied (simulated, since tests may run as root): the remedy is named."""

    def denied(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkstemp", denied)
    refused(convert(), "permission denied", here=here)


def test_an_existing_output_is_kept(here: Path) -> None:
    """Unless --overwrite is given."""
    (here / "out.tflite").write_bytes(b"precious")
    refused(convert(), "exists already", "--overwrite", here=here, kept=b"precious")
    assert convert("--overwrite").exit_code == 0
    assert (here / "out.tflite").read_bytes() != b"precious"


def test_a_failing_conversion_keeps_an_existing_output(here: Path) -> None:
    """--overwrite replaces only by something that works."""
    (here / "out.tflite").write_bytes(b"precious")
    refused(convert("--overwrite", calibration="absent.npy"), "no such file", here=here, kept=b"precious")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--device", "toaster"), ("toaster", "raspberry-pi-5"), id="device"),
        pytest.param(("--recipe", "int3"), ("int3", "auto"), id="recipe"),
        pytest.param(("--io", "int3"), ("int3", "uint8"), id="io"),
        pytest.param(("--normalize", "a,b"), ("cannot read --normalize", "127.5,127.5"), id="normalize"),
        pytest.param(("--resize", "12x"), ("cannot read --resize", "224x224"), id="resize"),
        pytest.param(("--crop", "12"), ("cannot read --crop", "224x224"), id="crop"),
        pytest.param(("--verify", "data.npz:x=test,y=absent"), ("no array 'absent'",), id="verify"),
        pytest.param(("--labels", "absent.txt"), ("no such file: absent.txt",), id="labels"),
        pytest.param(("--verify", "data.npz:x=test,y=labels", "--metric", "f1"), ("unknown metric 'f1'",), id="metric"),
    ],
)
def test_wrong_options(here: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Each names what was seen and what exists."""
    refused(convert(*arguments), *words, here=here)


def test_a_failed_gate_exits_with_1(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe int8 with an operator that has no int8 form: exit code 1, no file."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 8)), b.tensor("y", (1, 8))
    b.op("EXP", [x], [y])
    (here / "exp.tflite").write_bytes(b.build({"x": x}, {"y": y}))
    np.save(here / "rows.npy", RANDOM.uniform(-1, 1, (40, 8)).astype(np.float32))
    result = convert("--recipe", "int8", source="exp.tflite", calibration="rows.npy")
    assert result.exit_code == 1
    assert "operators left in float: EXP" in result.stderr
    assert not (here / "out.tflite").exists()

"""``edgekit convert --device coral-usb``: the operator check, the compiler where there is one, and the files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import standin_edgetpu_compiler as standin
import tiny_models as models
from click.testing import CliRunner, Result

import edgekit
from edgekit.cli import cli
from edgekit.errors import OptionError, OutputError
from edgekit.modelfile import ModelFile
from edgekit.tensors import QuantParams
from edgekit_convert.edgetpu import check
from edgekit_convert.edgetpu.step import ForEdgetpu


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a float model and data, as the current folder; no compiler on the path."""
    monkeypatch.chdir(tmp_path)
    bare = tmp_path / "programs"
    bare.mkdir()
    monkeypatch.setenv("PATH", f"{bare}{os.pathsep}/usr/bin{os.pathsep}/bin")
    (tmp_path / "float.tflite").write_bytes(models.conv_float())
    pixels = np.random.default_rng(2).integers(0, 256, (32, 12, 12, 3), dtype=np.uint8)
    np.save(tmp_path / "data.npy", pixels)
    return tmp_path


@pytest.fixture
def compiler(here: Path) -> Path:
    """The stand-in on the path."""
    return standin.install(here / "programs")


def convert(*arguments: str) -> Result:
    """Run ``edgekit convert`` for the Coral USB Accelerator."""
    usual = ("--calibration", "data.npy", "--device", "coral-usb", "--normalize", "127.5,127.5", "--effort", "fast")
    return CliRunner().invoke(cli, ["convert", "float.tflite", *usual, "-o", "out.tflite", *arguments])


def document(*arguments: str) -> Any:
    """The part about the Edge TPU in the JSON of a conversion that went well."""
    result = convert("--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["edgetpu"]


def test_without_a_compiler_the_command_is_printed(here: Path) -> None:
    """The int8 file is written, the check says what would be mapped, and the exact command stands there."""
    result = convert()
    assert result.exit_code == 0, result.output
    assert "the Edge TPU would run 4 of 4 operators" in result.stdout
    assert "Where it is installed, run: edgetpu_compiler -s -o . out.tflite" in result.stdout
    assert not (here / "out_edgetpu.tflite").exists()
    assert {"int8"} == {spec.dtype for spec in ModelFile.read(here / "out.tflite").inputs}


def test_with_a_compiler_both_files_are_written(here: Path, compiler: Path) -> None:
    """The compiled model stands beside the int8 one, with its manifest, and what the compiler said is in the JSON."""
    told = document("--io", "uint8")
    assert "out_edgetpu.tflite" == told["output"]
    assert standin.VERSION == told["compiler"]["version"]
    assert (list(range(6)), [], None) == (told["mapped"], told["surprises"], told["failure"])
    compiled, source = ModelFile.read(here / "out_edgetpu.tflite"), ModelFile.read(here / "out.tflite")
    assert ["edgetpu-custom-op"] == [op.name for op in compiled.graph.main.ops]
    assert compiled.manifest is not None
    assert source.manifest is not None
    assert source.manifest.preprocessing == compiled.manifest.preprocessing
    assert standin.VERSION == compiled.manifest.tools["edgetpu_compiler"]
    assert (
        "runs 6 of 6 operators; 0.36 MiB of its parameters do not fit" in convert("--io", "uint8", "--overwrite").stdout
    )


def test_a_surprise_is_told(here: Path, compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the compiler leaves an operator that the check took for mapped, the result is the compiler's and it is said."""
    monkeypatch.setenv(standin.LEFT, "3")
    told = document()
    assert ([0, 1, 2], [3]) == (told["mapped"], told["surprises"])
    shown = convert("--overwrite").stdout
    assert "it runs 3 of 4 operators" in shown
    assert "the compiler did otherwise than the operator check said for 1 operators: 3 (SOFTMAX)" in shown


def test_a_compiler_that_fails_fails_the_command(here: Path, compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The int8 file is there, the reason is printed, no compiled file, exit code 1."""
    monkeypatch.setenv(standin.MODE, "large")
    result = convert()
    assert 1 == result.exit_code
    assert "does not fit into the Edge TPU's memory" in " ".join(result.stdout.split())
    assert (True, False) == ((here / "out.tflite").exists(), (here / "out_edgetpu.tflite").exists())


def test_a_compiled_file_is_not_overwritten(here: Path, compiler: Path) -> None:
    """That the compiled model's file exists is said before the work starts."""
    (here / "out_edgetpu.tflite").write_bytes(b"mine")
    result = convert()
    assert 2 == result.exit_code
    assert "out_edgetpu.tflite exists already" in result.stderr
    assert b"mine" == (here / "out_edgetpu.tflite").read_bytes()
    assert not (here / "out.tflite").exists()


def test_an_edge_tpu_runs_int8_only(here: Path) -> None:
    """A recipe with floats is refused, with the device's name."""
    result = convert("--recipe", "dynamic")
    assert 2 == result.exit_code
    assert "coral-usb has an Edge TPU, which runs int8 models only: recipe 'dynamic' was asked for" in result.stderr


def test_dense_weights_have_one_scale(here: Path) -> None:
    """For an Edge TPU FULLY_CONNECTED gets one scale, for other devices one for each row; the outputs stay close."""
    data = np.load("data.npy")
    scales = {}
    for device in ("coral-usb", "generic-x86_64-linux"):
        made = edgekit.convert("float.tflite", data, device=device, normalize=(127.5, 127.5), recipe="int8")
        main = made.model.graph.main
        dense = next(op for op in main.ops if op.name == "FULLY_CONNECTED")
        quant = main.tensors[dense.inputs[1]].quant
        assert quant is not None
        scales[device] = len(quant.scales)
        assert made.report.passed
        agreement = made.report.on["calibration"].agreement
        assert agreement is not None
        assert agreement.value >= 0.9
    assert {"coral-usb": 1, "generic-x86_64-linux": 5} == scales


def test_every_operator_of_the_result_is_certain(here: Path) -> None:
    """What edgekit writes for the Edge TPU holds no form that the rules leave in doubt."""
    made = edgekit.convert(
        "float.tflite", np.load("data.npy"), device="coral-usb", normalize=(127.5, 127.5), effort="fast"
    )
    assert made.edgetpu is not None
    assert () == made.edgetpu.predicted.doubtful
    assert 1.0 == made.edgetpu.predicted.share_macs


def test_other_devices_are_not_touched(here: Path, compiler: Path) -> None:
    """Without an Edge TPU in the profile the compiler is not run, installed or not."""
    made = edgekit.convert("float.tflite", np.load("data.npy"), normalize=(127.5, 127.5), effort="fast")
    assert made.edgetpu is None
    assert "edgetpu" not in made.to_json()


def test_saving_writes_both_or_nothing(here: Path, compiler: Path) -> None:
    """``save`` of a compiled conversion writes the pair, and refuses when the int8 file exists."""
    made = edgekit.convert(
        "float.tflite", np.load("data.npy"), device="coral-usb", normalize=(127.5, 127.5), effort="fast"
    )
    (here / "taken.tflite").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"taken\.tflite exists already"):
        made.save(here / "taken.tflite")
    assert not (here / "taken_edgetpu.tflite").exists()
    made.save(here / "free.tflite")
    assert (here / "free_edgetpu.tflite").exists()


def test_the_error_is_one_of_ours(here: Path) -> None:
    """The library raises the same error as the command line shows."""
    with pytest.raises(OptionError, match="int8 models only"):
        edgekit.convert("float.tflite", np.load("data.npy"), device="coral-usb", recipe="float16")


def test_doubts_are_told() -> None:
    """What the rules leave open is said, with the first operator that it is about."""
    quant = QuantParams((0.05,), (0,))
    b = models.Builder()
    x, y = (b.tensor(name, (1, 8400, 80), "int8", quant=quant) for name in "xy")
    b.op("LOGISTIC", [x], [y], version=2)
    wanted = ForEdgetpu(check(ModelFile.read(b.build({"x": x}, {"y": y}))))
    texts = {finding.code: finding.text for finding in wanted.findings()}
    assert texts["edgetpu-doubt"].startswith(
        "where 1 operators run is doubtful, first operator 0 (LOGISTIC): it makes 672000"
    )
    assert "1 of 1 operators" in texts["edgetpu-check"]


def test_a_model_that_would_be_refused_is_a_warning() -> None:
    """A file that the compiler would not take is worth more than a note."""
    found = ForEdgetpu(check(ModelFile.read(models.conv_float()))).findings()
    assert [("warning", "edgetpu-check")] == [(finding.level, finding.code) for finding in found]

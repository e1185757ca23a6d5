"""``edgekit inspect``: what a file holds, as text and as JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import ai_edge_litert
import one_op_models as ones
import pytest
import tiny_models as models
from click.testing import CliRunner, Result

from edgekit.api import delegate_report
from edgekit.cli import cli
from edgekit.inspection import inspect
from edgekit.preprocess import Preprocessing
from edgekit_convert.quantize import quantize

DENSE_RANGES = {"x": (-4.0, 4.0), "logits": (-8.0, 8.0), "probabilities": (0.0, 1.0)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache folder."""
    monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(tmp_path / "cache"))


def run(*arguments: object) -> Result:
    """Run ``edgekit inspect`` with these arguments."""
    return CliRunner().invoke(cli, ["inspect", *(str(argument) for argument in arguments)])


def plain(result: Result) -> str:
    """What stands on stdout, without the lines of tables."""
    return " ".join(result.stdout.replace("│", " ").split())


@dataclass(frozen=True)
class Shown:
    """A model, and words that must be shown of it."""

    id: str
    content: bytes
    words: tuple[str, ...]


SHOWN = [
    Shown(
        "float",
        models.dense_float(),
        (
            "type float",
            "input x float32[1,8]",
            "output probabilities float32[1,4]",
            "operators 2: FULLY_CONNECTED, SOFTMAX",
            "multiply-accumulates 32 per run, 0.0 % in int8",
            "layers with weights float x1",
            "operators in float FULLY_CONNECTED, SOFTMAX",
            "delegated xnnpack: 2 of 2 operators in 1 partition",
            "signatures serving_default",
            "made by made by edgekit's tests",
            "No edgekit manifest in the file",
        ),
    ),
    Shown(
        "int8",
        models.dense_int8(),
        (
            "type fully int8",
            "input x int8[1,8] scale=0.0313726 zero_point=0",
            "100.0 % in int8",
            "layers with weights int8 x1",
            "operators in float none",
            "loads in ai-edge-litert",
        ),
    ),
    Shown("old", models.dense_float(signature=False), ("signatures none (a file from before TensorFlow 2.5)",)),
    Shown(
        "custom",
        models.custom_op("Mystery"),
        ("custom and Flex operators Mystery", "loads in nothing here", "delegated not known"),
    ),
    Shown(
        "int16x8",
        quantize(models.dense_float(), DENSE_RANGES, "int16", recipe="int16x8"),
        (
            "type int16 activations, int8 weights",
            "0.0 % in int8, 100.0 % with int16 activations",
            "layers with weights int16x8 x1",
        ),
    ),
    Shown(
        "dynamic",
        quantize(models.dense_float(), None, "float32", recipe="dynamic"),
        ("type int8 weights, activations quantised at run time", "layers with weights dynamic x1"),
    ),
    Shown(
        "float16",
        quantize(models.dense_float(), None, "float32", recipe="float16"),
        ("type float16 weights, computed in float", "layers with weights float16 x1"),
    ),
    Shown("no arithmetic", models.fixed_reshape(), ("multiply-accumulates none",)),
    Shown(
        "manifest",
        models.with_manifest(
            models.dense_int8(),
            labels=tuple(f"label{number}" for number in range(10)),
            preprocessing={"x": Preprocessing((8, 1), "bgr", (1.5,), (2.5,))},
            recipe={"name": "int8", "io": "int8", "device": None, "rewrites": {"squeeze": 2}},
            source={"kind": "Keras file", "name": "a.keras"},
            calibration={
                "count": 12,
                "fingerprint": "f" * 64,
                "findings": [{"level": "warning", "code": "range", "text": "the values look raw"}],
            },
            runtime={"proven": "ai-edge-litert 2.3.0"},
            tools={"edgekit": "0.1.0", "numpy": "2"},
        ),
        (
            "recipe int8, effort unknown, io int8, for no particular device",
            "rewrites squeeze x2",
            "source Keras file a.keras",
            "calibration 12 samples, fingerprint ffffffffffffffff…",
            "preprocessing of x BGR, then resize to 8x1, then (x - 1.5) / 2.5",
            "labels 10: label0, label1, label2, label3, label4, label5, label6, label7, …",
            "runs in ai-edge-litert 2.3.0",
            "made with edgekit 0.1.0, numpy 2",
            "warning: the values look raw [range]",
        ),
    ),
    Shown("empty manifest", models.with_manifest(models.dense_int8()), ("Manifest", "rewrites none", "labels none")),
]


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.id)
def test_shown(case: Shown, tmp_path: Path) -> None:
    """Everything that is known of the file is in the text."""
    path = tmp_path / "m.tflite"
    path.write_bytes(case.content)
    result = run(path)
    assert (result.exit_code, result.stderr) == (0, "")
    text = plain(result)
    for words in (*case.words, str(path.name), inspect(path, partitions=False).sha256):
        assert words in text


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.id)
def test_json(case: Shown, tmp_path: Path) -> None:
    """The JSON form is the inspection's, and nothing else is on stdout."""
    path = tmp_path / "m.tflite"
    path.write_bytes(case.content)
    result = run(path, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    delegated = data.pop("delegate")
    assert data.pop("compatibility") is None
    assert data == json.loads(json.dumps(inspect(path).to_json()))
    if data["partitions"] is None:
        assert (delegated["report"], "Mystery" in delegated["problem"]) == (None, True)
    else:
        report = delegate_report(path, delegate="xnnpack", threads=1)
        assert delegated == {"report": json.loads(json.dumps(report.to_json())), "problem": None, "missing": None}


@pytest.mark.parametrize("name", ["a[bold]b.tflite", "a[x=1]b.tflite", "a:smile:b.tflite", "ä€😀.tflite", "a b.tflite"])
def test_names_are_taken_literally(name: str, tmp_path: Path) -> None:
    """Brackets and colons in a name are no markup."""
    path = tmp_path / name
    path.write_bytes(models.dense_float())
    result = run(path)
    assert result.exit_code == 0, result.output
    assert name in result.stdout


def test_names_inside_the_file_are_taken_literally(tmp_path: Path) -> None:
    """So are the names of inputs, with preprocessing and without."""
    builder = models.Builder()
    x, y = builder.tensor("[/red]x", (1, 4)), builder.tensor("[bold]y", (1, 4))
    builder.op("ADD", [x, x], [y], ("AddOptions", models.schema.AddOptionsT()))
    content = builder.build({"[/red]x": x}, {"[bold]y": y})
    path = tmp_path / "m.tflite"
    path.write_bytes(models.with_manifest(content, preprocessing={"[/red]x": Preprocessing()}))
    result = run(path)
    assert result.exit_code == 0, result.output
    for words in ("[/red]x float32[1,4]", "[bold]y float32[1,4]", "preprocessing of [/red]x"):
        assert words in plain(result)


@dataclass(frozen=True)
class Bad:
    """A file that is no model, and words of the message."""

    id: str
    content: bytes | None
    words: str


WHOLE = models.with_manifest(models.dense_int8(), labels=("a",))
BAD = [
    Bad("missing", None, "no such file: "),
    Bad("empty", b"", "is empty: a .tflite model was expected"),
    Bad("random", os.urandom(5000), "is not a .tflite model: bytes 4..8 are"),
    Bad("cut in the flatbuffer", models.dense_int8()[:500], "is damaged or cut short (500 bytes)"),
    Bad("cut by one byte", WHOLE[:-1], "the file does not end as it was written"),
    Bad("text", b"hello, world", "is not a .tflite model"),
]


@pytest.mark.parametrize("json_option", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_bad_files(case: Bad, json_option: list[str], tmp_path: Path) -> None:
    """One message that names the file, exit code 2, nothing on stdout."""
    path = tmp_path / "m.tflite"
    if case.content is not None:
        path.write_bytes(case.content)
    result = run(path, *json_option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("edgekit: error: ")
    assert case.words in result.stderr
    assert str(path) in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_folder(tmp_path: Path) -> None:
    """A folder is not a model."""
    result = run(tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "it is a folder, a file was expected" in result.stderr


def test_a_manifest_edited_by_hand(tmp_path: Path) -> None:
    """Figures of another form are one message, not a traceback."""
    path = tmp_path / "edited.tflite"
    path.write_bytes(models.with_manifest(models.dense_int8(), verification={"checks": [{"nam": "types"}]}))
    result = run(path)
    assert (result.exit_code, "Traceback" in result.output) == (2, False)
    assert "not as edgekit writes them" in result.stderr


class TestDelegate:
    """What XNNPACK leaves outside."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A model of one operator that it leaves."""
        path = tmp_path / "hard_swish.tflite"
        path.write_bytes(ones.hard_swish())
        return path

    def test_reasons(self, path: Path) -> None:
        """Why, and on which runtime that was tried; no costs."""
        result = run(path)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "Left outside by xnnpack (tried on ai-edge-litert " in result.stdout
        assert "XNNPACK has no kernel for HARD_SWISH in int8; in float32 it is taken." in plain(result)
        assert "costs" not in result.stdout

    def test_costs(self, path: Path) -> None:
        """On request they are measured, with progress on stderr."""
        result = run(path, "--costs")
        assert result.exit_code == 0
        assert "Measuring …" in result.stderr
        for words in (" ms in all, ", " ms outside", "costs", "of the run"):
            assert words in plain(result)
        data = json.loads(run(path, "--costs", "--json").stdout)["delegate"]["report"]
        assert data["outside"][0]["ns"] > 0
        assert 0 < data["whole_ns"]

    def test_another_python(self, path: Path) -> None:
        """Its runtime is asked and named; this one's own Python has LiteRT."""
        result = run(path, "--runtime-python", sys.executable)
        assert result.exit_code == 0, result.output
        assert "0 of 1 operators in 0 partitions (ai-edge-litert " in plain(result)

    def test_a_python_that_does_not_exist(self, path: Path) -> None:
        """One message, exit code 2."""
        result = run(path, "--runtime-python", path.parent / "absent")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "cannot say what a delegate takes: it could not be started" in result.stderr

    def test_no_times_of_another_python(self, path: Path) -> None:
        """Wrong usage."""
        result = run(path, "--costs", "--runtime-python", sys.executable)
        assert result.exit_code == 2
        assert "times are measured with the interpreter of this process" in result.stderr

    def test_without_the_parts_that_take_models_apart(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The partitions are shown all the same, and what is missing is named."""
        monkeypatch.delattr(ai_edge_litert, "schema_py_generated", raising=False)
        monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
        result = run(path)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "delegated xnnpack: 0 of 1 operators in 0 partitions" in plain(result)
        assert "Why operators are outside is not known: editing a model needs ai-edge-litert" in plain(result)
        assert json.loads(run(path, "--json").stdout)["delegate"]["report"] is None

    def test_a_model_that_the_delegate_refuses(self, path: Path) -> None:
        """The operator in its way is named."""
        path.write_bytes(ones.conv(out_scale=0.0025 / 300))
        result = run(path)
        assert result.exit_code == 0
        assert "Refused is 'out0': CONV_2D in int8" in plain(result)


class TestDevice:
    """``--device``: whether a device's runtimes have every operator."""

    def newer(self, tmp_path: Path) -> Path:
        """A model that says it needs FULLY_CONNECTED in a version that tflite-runtime 2.14.0 does not have."""

        def version(edited: object) -> None:
            edited.operatorCodes[0].version = 12  # type: ignore[attr-defined]  # a ModelT, which has no types

        path = tmp_path / "newer.tflite"
        path.write_bytes(models.edited(models.dense_float(), version))
        return path

    def test_a_device_that_has_everything(self, dense_int8_file: Path) -> None:
        """Each runtime of the profile, and the oldest one that would do."""
        result = run(dense_int8_file, "--device", "raspberry-pi-5")
        assert result.exit_code == 0
        text = plain(result)
        assert "On raspberry-pi-5" in text
        assert "ai-edge-litert 2.3.0 has every operator in the version needed" in text
        assert "oldest runtime TensorFlow Lite 1.14.0 (tflite-runtime from that version up to its last, 2.14.0" in text

    def test_a_device_without_an_operator(self, tmp_path: Path) -> None:
        """Exit code 1; what is missing, in which version, what the runtime has, and which one has it."""
        path = self.newer(tmp_path)
        result = run(path, "--device", "generic-armv7-linux")
        assert result.exit_code == 1
        text = plain(result)
        assert "tflite-runtime 2.14.0 cannot run the file: operators are missing" in text
        assert "FULLY_CONNECTED" in text
        assert "up to version 10" in text
        data = json.loads(run(path, "--device", "generic-armv7-linux", "--json").stdout)["compatibility"]
        assert (data["passed"], data["oldest"]) == (False, "2.17.0")
        ((missing,),) = [item["missing"] for item in data["runtimes"]]
        assert (missing["op"]["name"], missing["op"]["version"], missing["has"]) == ("FULLY_CONNECTED", 12, 10)

    def test_one_runtime_is_enough(self, tmp_path: Path) -> None:
        """A device with an older and a newer runtime runs the file with the newer one: exit code 0."""
        result = run(self.newer(tmp_path), "--device", "raspberry-pi-5", "--json")
        assert result.exit_code == 0
        runtimes = json.loads(result.stdout)["compatibility"]["runtimes"]
        assert [("ai-edge-litert", True), ("tflite-runtime", False)] == [
            (item["package"], item["has_all"]) for item in runtimes
        ]

    def test_a_device_with_an_edge_tpu(self, assets: Path) -> None:
        """The operator check for a file that was not compiled, and what stayed on the CPU of one that was."""
        folder = assets / "edgetpu"
        data = json.loads(run(folder / "mobilenet_v1_0.25_128_quant.tflite", "--device", "coral-usb", "--json").stdout)
        assert data["compatibility"]["edgetpu"]["share_macs"] == 1.0
        assert "the Edge TPU would run" in plain(
            run(folder / "mobilenet_v1_0.25_128_quant.tflite", "--device", "coral-usb")
        )
        compiled = run(folder / "mobilenet_v1_0.25_128_quant_edgetpu.tflite", "--device", "coral-dev-board")
        assert "the file was compiled for it, and all of it runs there" in plain(compiled)
        assert "comes with libedgetpu" in plain(compiled)

    def test_an_unknown_device(self, dense_int8_file: Path) -> None:
        """Exit code 2 and the known ones."""
        result = run(dense_int8_file, "--device", "toaster")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "unknown device 'toaster'" in result.stderr

"""``edgekit inspect``: what a file holds, as text and as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_models as models
from click.testing import CliRunner, Result

from edgekit.cli import cli
from edgekit.inspection import inspect
from edgekit.preprocess import Preprocessing
from edgekit_convert.quantize import quantize

DENSE_RANGES = {"x": (-4.0, 4.0), "logits": (-8.0, 8.0), "probabilities": (0.0, 1.0)}


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
    assert json.loads(result.stdout) == json.loads(json.dumps(inspect(path).to_json()))


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
    Bad("cut by one byte", WHOLE[:-1], "it announces a manifest, and none can be read"),
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

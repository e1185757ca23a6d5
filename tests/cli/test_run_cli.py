"""``edgekit run``: arrays from files through a model, with results, times and errors."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from click.testing import CliRunner, Result
from processes import run_python

import edgekit
from edgekit.cli import cli
from edgekit.preprocess import Preprocessing
from edgekit.runtime.logfile import read_log
from edgekit.tensors import Array


def run(*arguments: object) -> Result:
    """Run ``edgekit run`` with these arguments."""
    return CliRunner().invoke(cli, ["run", *(str(argument) for argument in arguments)])


def values(seed: int, *shape: int) -> Array:
    """Real numbers between -1.5 and 1.5."""
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with models and arrays."""
    (tmp_path / "float.tflite").write_bytes(models.dense_float())
    (tmp_path / "int8.tflite").write_bytes(models.dense_int8())
    (tmp_path / "open.tflite").write_bytes(models.dense_float(open_batch=True))
    (tmp_path / "two.tflite").write_bytes(models.add_two_inputs())
    image = {"image": Preprocessing((12, 12), "bgr", (127.5,), (64.0,))}
    content = models.with_manifest(models.conv_float(), preprocessing=image, labels=tuple("vwxyz"))
    (tmp_path / "image.tflite").write_bytes(content)
    np.save(tmp_path / "one.npy", values(1, 1, 8))
    np.save(tmp_path / "bare.npy", values(1, 8))
    np.save(tmp_path / "many.npy", values(2, 5, 8))
    np.save(tmp_path / "four.npy", values(3, 1, 4))
    np.save(tmp_path / "fours.npy", values(4, 3, 4))
    np.save(tmp_path / "photo.npy", np.random.default_rng(5).integers(0, 256, (30, 40, 3)).astype(np.uint8))
    np.save(tmp_path / "photos.npy", np.random.default_rng(6).integers(0, 256, (4, 30, 40, 3)).astype(np.uint8))
    return tmp_path


def expected_of(model: Path, arrays: list[Array], **options: Any) -> list[Any]:
    """What the library gives for these inputs."""
    with edgekit.load(model, delegate="xnnpack", **options) as session:
        return [session.run(array) for array in arrays]


def test_one_sample(folder: Path) -> None:
    """A table of the outputs, what ran it, and the times."""
    result = run(folder / "float.tflite", "--input", folder / "one.npy", "--delegate", "xnnpack")
    assert (result.exit_code, result.stderr) == (0, "")
    for words in (
        "probabilities",
        "[1, 4]",
        "class ",
        "1 runs on ai-edge-litert",
        "xnnpack: 2 of 2 operators",
        "1 thread\n",
    ):
        assert words in result.stdout
    assert "latency p50 " in result.stdout
    (output,) = expected_of(folder / "float.tflite", [values(1, 1, 8)])
    best = int(output[0].argmax())
    assert f"class {best}: {output[0, best]:.4g}" in result.stdout


def test_labels_of_the_manifest(folder: Path) -> None:
    """Classes have their names where the file has them."""
    result = run(folder / "image.tflite", "--input", folder / "photo.npy", "--preprocess")
    assert result.exit_code == 0
    photo = np.load(folder / "photo.npy")
    (output,) = expected_of(folder / "image.tflite", [photo], preprocess=True)
    assert f"{'vwxyz'[int(output.argmax())]}: {output.max():.4g}" in result.stdout


@dataclass(frozen=True)
class Batch:
    """An input file, and the shape of the results."""

    id: str
    model: str
    file: str
    shape: tuple[int, ...]
    runs: int


@pytest.mark.parametrize(
    "case",
    [
        Batch("whole", "float.tflite", "one.npy", (1, 4), 1),
        Batch("without the batch axis", "float.tflite", "bare.npy", (1, 4), 1),
        Batch("samples one by one", "float.tflite", "many.npy", (5, 4), 5),
        Batch("an open batch at once", "open.tflite", "many.npy", (5, 4), 1),
    ],
    ids=lambda case: case.id,
)
def test_batches(case: Batch, folder: Path) -> None:
    """An array is one run's input, or samples that are run one by one; the results are stacked."""
    output = folder / "y.npy"
    result = run(folder / case.model, "--input", folder / case.file, "--output", output, "--json")
    assert result.exit_code == 0, result.output
    rows = np.load(folder / case.file).reshape(-1, 1, 8)
    expected = np.concatenate(expected_of(folder / case.model, list(rows)))
    np.testing.assert_allclose(np.load(output), expected, rtol=1e-5, atol=1e-6)
    data = json.loads(result.stdout)
    assert (np.load(output).shape, data["latency"]["count"]) == (case.shape, case.runs)
    assert data["outputs"] == {"probabilities": {"shape": list(case.shape), "dtype": "float32"}}


def test_several_inputs(folder: Path) -> None:
    """Each input by its name; several outputs go into one archive."""
    output = folder / "y.npz"
    result = run(
        folder / "two.tflite", "--input", f"b={folder / 'fours.npy'}", "--input", f"a={folder / 'fours.npy'}",
        "--output", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with np.load(output) as archive:
        assert sorted(archive) == ["difference", "sum"]
        np.testing.assert_allclose(archive["sum"], 2 * values(4, 3, 4), rtol=1e-6)
        np.testing.assert_array_equal(archive["difference"], np.zeros((3, 4)))


def test_a_path_may_hold_an_equals_sign(folder: Path) -> None:
    """Only an input's name before the sign is a name."""
    path = folder / "date=2024-01-01" / "y=1.npy"
    path.parent.mkdir()
    np.save(path, values(1, 1, 8))
    for text in (path, f"x={path}"):
        result = run(folder / "float.tflite", "--input", text)
        assert result.exit_code == 0, result.output


def test_native_integers(folder: Path) -> None:
    """With ``--native`` the arrays are the file's own integers."""
    np.save(folder / "q.npy", np.arange(8, dtype=np.int8)[None])
    result = run(folder / "int8.tflite", "--input", folder / "q.npy", "--output", folder / "y.npy", "--native")
    assert result.exit_code == 0, result.output
    seen = np.load(folder / "y.npy")
    assert (seen.dtype, seen.shape) == (np.dtype("int8"), (1, 4))
    (expected,) = expected_of(folder / "int8.tflite", [np.arange(8, dtype=np.int8)[None]], io="native")
    np.testing.assert_array_equal(seen, expected)


def test_preprocessing(folder: Path) -> None:
    """Raw images of another size, one by one, through the manifest's preprocessing."""
    output = folder / "y.npy"
    result = run(
        folder / "image.tflite", "--input", folder / "photos.npy", "--preprocess", "--output", output,
        "--delegate", "xnnpack", "--threads", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    expected = expected_of(folder / "image.tflite", list(np.load(folder / "photos.npy")), preprocess=True)
    np.testing.assert_allclose(np.load(output), np.concatenate(expected), rtol=1e-5, atol=1e-6)


def test_json(folder: Path) -> None:
    """Everything on stdout is one JSON document, whose times carry their unit."""
    log = folder / "l.jsonl"
    result = run(
        folder / "int8.tflite", "--input", folder / "many.npy", "--repeat", 3, "--delegate", "xnnpack", "--threads", 2,
        "--log", log, "--json",
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    assert data["asked"] == {"delegate": "xnnpack", "threads": 2, "reason": "named by the caller"}
    assert data["got"] == {"delegate": "xnnpack", "partitions": 1, "operators": 1, "taken": 1, "outside": {}}
    assert (data["samples"], data["latency"]["count"], data["log"]) == (5, 15, str(log))
    assert {"p50_ns", "p90_ns", "p99_ns", "max_ns"} <= set(data["latency"])
    assert data["engine"].startswith("ai-edge-litert ")


def test_log(folder: Path) -> None:
    """Each run is a line of the log, of each repetition and each call."""
    log = folder / "l.jsonl"
    for _ in range(2):
        result = run(folder / "float.tflite", "--input", folder / "many.npy", "--repeat", 4, "--log", log)
        assert result.exit_code == 0
        assert f"each run's times: {log} (`edgekit log summary {log}`)" in result.stdout
    assert [len(part.records) for part in read_log(log)] == [20, 20]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_log_on_a_full_disk(folder: Path) -> None:
    """The runs go on, their results come, and it is said once that the log is not written."""
    arguments = ("run", folder / "float.tflite", "--input", folder / "many.npy", "--log", "/dev/full")
    done = run_python("-m", "edgekit", *arguments)
    assert done.returncode == 0
    assert "5 runs on " in done.stdout
    assert done.stderr.count("latency log /dev/full: cannot write") == 1


@pytest.mark.parametrize("kind", ["xnnpack", "none"])
def test_required_and_got(folder: Path, kind: str) -> None:
    """What takes the whole model passes."""
    arguments = ("--delegate", kind, "--require", kind)
    assert run(folder / "float.tflite", "--input", folder / "one.npy", *arguments).exit_code == 0


def test_required_and_not_got(folder: Path) -> None:
    """Exit code 1: the usage was right, and what was asked for is not there."""
    arguments = ("--delegate", "none", "--require", "xnnpack")
    result = run(folder / "float.tflite", "--input", folder / "one.npy", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "xnnpack was required to take the whole model, and got none: 0 of 2" in result.stderr


class TestWithoutAVulkanDriver:
    """A machine that has no driver for its GPU."""

    @pytest.fixture(autouse=True)
    def no_driver(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No manifest of a Vulkan driver is found."""
        monkeypatch.setenv("VK_DRIVER_FILES", str(folder / "none.json"))

    def test_the_gpu_is_required(self, folder: Path) -> None:
        """Exit code 1 and a sentence that says what is missing and what to do."""
        result = run(folder / "float.tflite", "--input", folder / "one.npy", "--require", "gpu")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "edgekit: error: gpu was required and cannot be used: " in result.stderr
        assert "Vulkan" in result.stderr

    def test_the_model_runs_all_the_same(self, folder: Path) -> None:
        """With a fallback that the caller gives; what refused is in the output, with its reason."""
        arguments = ("--delegate", "gpu", "--fallback", "xnnpack", "--fallback", "none", "--json")
        result = run(folder / "float.tflite", "--input", folder / "one.npy", *arguments)
        assert result.exit_code == 0
        data = json.loads(result.stdout)
        (fallback,) = data["fallbacks"]
        assert ("gpu", "xnnpack") == (fallback["delegate"], data["asked"]["delegate"])
        assert "Vulkan" in fallback["reason"]
        alone = run(folder / "float.tflite", "--input", folder / "one.npy", "--delegate", "gpu")
        assert (alone.exit_code, alone.stdout) == (2, "")


def test_the_profile_picks(folder: Path) -> None:
    """Without ``--delegate`` the reason is the profile's."""
    result = run(folder / "float.tflite", "--input", folder / "one.npy", "--json")
    assert json.loads(result.stdout)["asked"]["reason"] != "named by the caller"


class TestOutput:
    """The results file."""

    def test_an_existing_file_is_kept(self, folder: Path) -> None:
        """Without ``--overwrite`` nothing is run and the old content stays."""
        output, log = folder / "y.npy", folder / "l.jsonl"
        output.write_text("mine")
        result = run(folder / "float.tflite", "--input", folder / "one.npy", "--output", output, "--log", log)
        assert (result.exit_code, result.stdout, output.read_text(), log.exists()) == (2, "", "mine", False)
        assert f"{output} exists already" in result.stderr

    def test_overwrite(self, folder: Path) -> None:
        """With it the file is replaced."""
        output = folder / "y.npy"
        output.write_text("mine")
        arguments = ("--output", output, "--overwrite")
        assert run(folder / "float.tflite", "--input", folder / "one.npy", *arguments).exit_code == 0
        assert np.load(output).shape == (1, 4)

    @pytest.mark.parametrize(
        ("place", "words"),
        [("none/y.npy", "the folder "), ("one.npy/y.npy", "a part of that path is a file"), (".", "it is a folder")],
        ids=["missing", "file", "folder"],
    )
    def test_a_place_that_takes_no_file(self, folder: Path, place: str, words: str) -> None:
        """It is known before anything is run."""
        result = run(folder / "float.tflite", "--input", folder / "one.npy", "--output", folder / place)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr

    def test_a_failing_run_leaves_no_file(self, folder: Path) -> None:
        """A sample that does not fit ends the command without a results file."""
        np.save(folder / "nan.npy", np.full((2, 8), np.nan, np.float32))
        before = sorted(os.listdir(folder))
        result = run(folder / "float.tflite", "--input", folder / "nan.npy", "--output", folder / "y.npy")
        assert (result.exit_code, sorted(os.listdir(folder))) == (2, before)


@dataclass(frozen=True)
class Bad:
    """Arguments that must fail, and words of the message."""

    id: str
    arguments: Callable[[Path], tuple[object, ...]]
    words: str


def _written(name: str, content: bytes) -> Callable[[Path], tuple[object, ...]]:
    def arguments(folder: Path) -> tuple[object, ...]:
        (folder / name).write_bytes(content)
        return folder / "float.tflite", "--input", folder / name

    return arguments


def _saved(array: Array, model: str = "float.tflite", *more: object) -> Callable[[Path], tuple[object, ...]]:
    def arguments(folder: Path) -> tuple[object, ...]:
        np.save(folder / "bad.npy", array, allow_pickle=True)
        return folder / model, "--input", folder / "bad.npy", *more

    return arguments


def _float(*more: object) -> Callable[[Path], tuple[object, ...]]:
    return lambda folder: (folder / "float.tflite", "--input", folder / "one.npy", *more)


def _archive(folder: Path) -> tuple[object, ...]:
    np.savez(folder / "a.npz", a=np.zeros((1, 8)))
    return folder / "float.tflite", "--input", folder / "a.npz"


def _whole_npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, values(1, 1, 8))
    return stream.getvalue()


NPY = _whole_npy()
HUGE = NPY.replace(b"(1, 8), }", b"(1" + b"0" * 12 + b"), }").replace(b" " * 11 + b"\n", b"\n")
NO_NPY = "A file that numpy.save wrote was expected"
BAD = [
    Bad("no model", lambda f: (f / "none.tflite", "--input", f / "one.npy"), "no such file: "),
    Bad("array as a model", lambda f: (f / "one.npy", "--input", f / "one.npy"), "is not a .tflite model"),
    Bad("no array", lambda f: (f / "float.tflite", "--input", f / "none.npy"), "no such file: "),
    Bad("folder as an array", lambda f: (f / "float.tflite", "--input", f), "it is a folder"),
    Bad("model as an array", lambda f: (f / "float.tflite", "--input", f / "int8.tflite"), NO_NPY),
    Bad("empty array file", _written("bad.npy", b""), NO_NPY),
    Bad("cut array file", _written("bad.npy", NPY[:-5]), NO_NPY),
    Bad("cut header", _written("bad.npy", NPY[:40]), NO_NPY),
    Bad("broken header", _written("bad.npy", NPY[:10] + b"{'descr': (" + NPY[21:]), NO_NPY),
    Bad("array of terabytes", _written("bad.npy", HUGE), NO_NPY),
    Bad("broken archive", _written("bad.npz", b"PK\x03\x04" + bytes(100)), NO_NPY),
    Bad("archive", _archive, "is an .npz archive: an .npy file with one array was expected"),
    Bad("pickled objects", _saved(np.array([[None] * 8])), NO_NPY),
    Bad("text", _saved(np.full((1, 8), "a")), "'x' is of dtype <U1: numbers were expected"),
    Bad(
        "shape",
        _saved(np.zeros((1, 9))),
        "input 'x' has shape [1, 9]: [1, 8], one sample without the batch axis, or [n, 8]",
    ),
    Bad("no samples", _saved(np.zeros((0, 8))), "input 'x' has shape [0, 8]"),
    Bad(
        "no images",
        _saved(np.zeros((0, 30, 40, 3), np.uint8), "image.tflite", "--preprocess"),
        "holds no samples",
    ),
    Bad("NaN", _saved(np.full((1, 8), np.nan)), "input 'x' holds 8 NaN or infinite values of 8"),
    Bad(
        "floats as native", _saved(values(1, 1, 8), "int8.tflite", "--native"), "the file's own type int8 was expected"
    ),
    Bad("no manifest", _float("--preprocess"), "has no manifest, so its preprocessing is not known"),
    Bad(
        "both", lambda f: (f / "image.tflite", "--input", f / "photo.npy", "--preprocess", "--native"), "use io='float'"
    ),
    Bad("required unknown", _float("--require", "cpu"), "unknown delegate 'cpu': expected one of"),
    Bad("unknown delegate", _float("--delegate", "tpu"), "unknown delegate 'tpu': expected one of"),
    Bad("unknown fallback", _float("--fallback", "tpu"), "unknown delegate 'tpu': expected one of"),
    Bad("fallbacks and none", _float("--fallback", "none", "--no-fallback"), "exclude each other"),
    Bad("an option of nothing", _float("--delegate-option", "a=b"), "--delegate-option needs --delegate"),
    Bad("half an option", _float("--delegate", "gpu", "--delegate-option", "a"), "NAME=VALUE was expected"),
    Bad(
        "required and a fallback",
        _float("--require", "none", "--fallback", "xnnpack"),
        "require='none' allows no other delegate",
    ),
    Bad("gpu", _float("--delegate", "gpu", "--engine", "litert"), "the GPU is reached through LiteRT's CompiledModel"),
    Bad("unknown device", _float("--device", "toaster"), "toaster"),
    Bad("unknown engine", _float("--engine", "onnx"), "unknown engine 'onnx': expected one of"),
    Bad("threads", _float("--threads", "0"), "Invalid value for '--threads'"),
    Bad("too many threads", _float("--delegate", "xnnpack", "--threads", "5000"), "5000 threads asked for"),
    Bad("repeat", _float("--repeat", "0"), "Invalid value for '--repeat'"),
    Bad("log", _float("--log", "/nowhere/l.jsonl"), "the folder /nowhere does not exist"),
    Bad("no input", lambda f: (f / "float.tflite",), "Missing option '--input'"),
    Bad(
        "name unknown",
        lambda f: (f / "float.tflite", "--input", f"y={f / 'one.npy'}"),
        "the model's inputs are x float32[1,8]",
    ),
    Bad(
        "name missing",
        lambda f: (f / "two.tflite", "--input", f / "four.npy"),
        "--input without a name: the model's inputs are",
    ),
    Bad(
        "one of two",
        lambda f: (f / "two.tflite", "--input", f"a={f / 'four.npy'}"),
        "no --input for b: the model takes",
    ),
    Bad(
        "one twice",
        lambda f: (f / "float.tflite", "--input", f / "one.npy", "--input", f"x={f / 'many.npy'}"),
        "--input x is given twice",
    ),
    Bad(
        "other counts",
        lambda f: (f / "two.tflite", "--input", f"a={f / 'four.npy'}", "--input", f"b={f / 'fours.npy'}"),
        "the inputs have different numbers of samples: a 1, b 3",
    ),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_bad_input(case: Bad, folder: Path) -> None:
    """One message, exit code 2, nothing on stdout, no traceback and no file."""
    arguments = case.arguments(folder)
    before = sorted(os.listdir(folder))
    result = run(*arguments)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert (result.exit_code, result.stdout) == (2, "")
    assert case.words in " ".join(result.stderr.split())
    assert sorted(os.listdir(folder)) == before


def test_isolated(folder: Path) -> None:
    """In a process of its own the results are the same, and its limits are options."""
    output = folder / "y.npy"
    result = run(
        folder / "float.tflite", "--input", folder / "many.npy", "--output", output, "--delegate", "xnnpack", "--isolate",
        "--timeout-ms", 20000, "--memory-mb", 512, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    expected = np.concatenate(expected_of(folder / "float.tflite", list(values(2, 5, 8).reshape(5, 1, 8))))
    np.testing.assert_allclose(np.load(output), expected, rtol=1e-5, atol=1e-6)
    assert json.loads(result.stdout)["latency"]["count"] == 5


def test_limits_without_isolation(folder: Path) -> None:
    """They are limits of a process that there is none of."""
    result = run(folder / "float.tflite", "--input", folder / "one.npy", "--timeout-ms", 10)
    assert result.exit_code == 2
    assert "they need isolate=True" in result.stderr


def test_a_signature_by_name(folder: Path) -> None:
    """The main one has a name too; another name is an error that lists those that exist."""
    result = run(folder / "float.tflite", "--input", folder / "one.npy", "--signature", "serving_default", "--json")
    assert result.exit_code == 0, result.output
    wrong = run(folder / "float.tflite", "--input", folder / "one.npy", "--signature", "train")
    assert wrong.exit_code == 2
    assert "has no signature 'train'. It has: 'serving_default'" in wrong.stderr


def test_nan_is_refused_or_allowed(folder: Path) -> None:
    """Refused with the option's absence, run with it."""
    bad = values(1, 1, 8)
    bad[0, 0] = np.nan
    np.save(folder / "nan.npy", bad)
    refused = run(folder / "float.tflite", "--input", folder / "nan.npy")
    assert refused.exit_code == 2
    assert "holds 1 NaN or infinite values of 8" in refused.stderr
    allowed = run(folder / "float.tflite", "--input", folder / "nan.npy", "--allow-non-finite", "--on-fault", "next")
    assert allowed.exit_code == 0, allowed.output


@pytest.mark.parametrize("engine", ["litert", "litert-compiled"])
def test_engines_by_name(engine: str, folder: Path) -> None:
    """The one that was named runs."""
    result = run(folder / "float.tflite", "--input", folder / "one.npy", "--engine", engine, "--delegate", "xnnpack")
    assert result.exit_code == 0, result.output
    assert ("CompiledModel" in result.stdout) == (engine == "litert-compiled")

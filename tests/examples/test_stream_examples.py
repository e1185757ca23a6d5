"""``examples/camera_stream.py``, ``audio_stream.py`` and ``pool_under_load.py``, run as a reader would run them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from PIL import Image
from processes import run_python

import edgekit

FOLDER = Path(__file__).resolve().parents[2] / "examples"
NAMES = ("ant", "bee", "cow", "doe", "eel")


def lines_of(example: str, *arguments: object) -> list[dict[str, Any]]:
    """What an example prints: one line of JSON each."""
    done = run_python(FOLDER / example, *arguments)
    assert 0 == done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """An image classifier with labels and preprocessing."""
    item = edgekit.Preprocessing((12, 12), None, (127.5,), (127.5,))
    path = tmp_path / "model.tflite"
    path.write_bytes(models.with_manifest(models.conv_float(), labels=NAMES, preprocessing={"image": item}))
    return path


class TestCamera:
    """The camera."""

    def test_demo(self) -> None:
        """It finds the bright square, and all frames are accounted for."""
        *results, last = lines_of("camera_stream.py", "--demo", "--frames", 60, "--rate", 10_000, "--policy", "all")
        # The square starts in the middle of the right side and turns downwards, then left, then up.
        assert ["bottom right", "bottom left", "top left", "top right"] == list(
            dict.fromkeys(line["class"] for line in results[1:])
        )
        assert [*range(60)] == [line["frame"] for line in results]
        assert (60, 60) == (last["counts"]["taken"], last["counts"]["run"])

    def test_the_newest_frame(self) -> None:
        """A camera that is faster than the model loses frames, and they are counted."""
        *results, last = lines_of("camera_stream.py", "--demo", "--frames", 300, "--rate", 1e6)
        counts = last["counts"]
        assert 300 == counts["taken"] == counts["run"] + counts["dropped"]
        assert len(results) == counts["run"]

    def test_image_files_and_labels(self, classifier: Path, tmp_path: Path) -> None:
        """A model with its preprocessing in the file takes pictures of any size."""
        folder = tmp_path / "pictures"
        folder.mkdir()
        for seed in range(2):
            pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{seed}.png")
        log = tmp_path / "log.jsonl"
        *results, _ = lines_of(
            "camera_stream.py", "--model", classifier, "--images", folder, "--frames", 4, "--rate", 1000,
            "--policy", "all", "--log", log,
        )  # fmt: skip
        assert {line["class"] for line in results} <= set(NAMES)
        assert results[0]["class"] == results[2]["class"]
        assert 4 == sum(len(part.records) for part in edgekit.read_log(log))

    def test_an_error_is_a_sentence(self, tmp_path: Path) -> None:
        """No traceback."""
        done = run_python(FOLDER / "camera_stream.py", "--model", tmp_path / "none.tflite")
        assert (1, f"error: no such file: {tmp_path}/none.tflite") == (done.returncode, done.stderr.split(". ")[0])


class TestSound:
    """The microphone."""

    @pytest.mark.parametrize("options", [(), ("--max-wait-ms", 20)], ids=["one by one", "hybrid"])
    def test_demo(self, options: tuple[object, ...]) -> None:
        """It hears the three tones and the quiet between them; no window is lost."""
        *heard, last = lines_of("audio_stream.py", "--demo", *options)
        assert ["quiet", "low", "quiet", "middle", "quiet", "high"] == [line["class"] for line in heard]
        assert (75, 75) == (last["counts"]["taken"], last["counts"]["run"])

    def test_features_from_a_file(self, tmp_path: Path) -> None:
        """Samples in an .npz file are run in their order."""
        path = tmp_path / "model.tflite"
        path.write_bytes(models.dense_float())
        rows = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
        np.savez(tmp_path / "features.npz", test=rows)
        *heard, last = lines_of("audio_stream.py", "--model", path, "--features", f"{tmp_path / 'features.npz'}:test")
        with edgekit.load(path) as model:
            best = [int(np.argmax(model.run(row[None]))) for row in rows]
        changes = [(i, value) for i, value in enumerate(best) if i == 0 or value != best[i - 1]]
        assert changes == [(line["window"], line["class"]) for line in heard]
        assert 20 == last["counts"]["run"]

    def test_an_error_is_a_sentence(self, tmp_path: Path) -> None:
        """No traceback."""
        (tmp_path / "noise.wav").write_bytes(b"RIFF")
        done = run_python(FOLDER / "audio_stream.py", "--demo", "--wav", tmp_path / "noise.wav")
        last = done.stderr.splitlines()[-1]
        assert (1, f"error: cannot read {tmp_path}/noise.wav") == (done.returncode, last.rpartition(": ")[0])


class TestPool:
    """The pool."""

    def test_demo(self) -> None:
        """Every client is answered."""
        (line,) = lines_of("pool_under_load.py", "--demo", "--requests", 160, "--rate", 2000)
        assert (160, 160, 0) == (line["asked"], line["answered"], line["errors"])
        assert 160 == sum(worker["runs"] for worker in line["pool"]["workers"])

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="workers in processes of their own need a POSIX system")
    def test_a_worker_is_killed(self) -> None:
        """No client notices: the input that it had went to the other one."""
        (line,) = lines_of(
            "pool_under_load.py", "--demo", "--requests", 160, "--kind", "process", "--kill", "--rate", 5000
        )
        assert (160, 160, None) == (line["asked"], line["answered"], line["first_error"])
        assert 160 == line["pool"]["done"]
        assert line["pool"]["workers"][0]["faults"] >= 1

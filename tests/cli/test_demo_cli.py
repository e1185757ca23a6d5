"""``edgekit demo``: once from end to end, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import edgekit
from edgekit.bench import BenchmarkReport
from edgekit.cli import SUMMARIES, cli
from edgekit.cli.demo import command
from edgekit.demo import CALIBRATION, FILES, PREPROCESSING, TRAIN

#: The command line with the network taken away: whoever opens a connection fails.
OFFLINE = """
import socket, sys
def refuse(*arguments, **named):
    raise OSError("the demo must not use the network")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
from edgekit.cli import main
main()
"""


@dataclass(frozen=True)
class Run:
    """One whole demo.

    Attributes:
        folder: its output folder.
        exit_code: of the command.
        data: what ``--json`` printed.
        errors: what it wrote to stderr.
    """

    folder: Path
    exit_code: int
    data: dict[str, Any]
    errors: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the demo once, offline, over a folder that holds an old report and a file of the user's."""
    pytest.importorskip("sklearn", reason="the demo needs edgekit[demo]")
    pytest.importorskip("litert_quantizer", reason="the demo needs edgekit[demo]")
    folder = tmp_path_factory.mktemp("demo")
    (folder / "report.html").write_text("old")
    (folder / "mine.txt").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "demo", "--json", "--overwrite", "--output", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path_factory.mktemp("elsewhere"),  # not the checkout: the installed packages are what is tested
    )
    return Run(folder, done.returncode, json.loads(done.stdout or "{}"), done.stderr)


class TestDemo:
    """The whole path, once."""

    def test_ends_well_and_leaves_its_five_files(self, demo: Run) -> None:
        """Exit code 0, the five files, nothing unfinished, and the user's own file as it was."""
        assert demo.exit_code == 0, demo.errors
        assert sorted((*FILES, "mine.txt")) == sorted(item.name for item in demo.folder.iterdir())
        assert (demo.folder / "mine.txt").read_text() == "mine"

    def test_model_is_accurate_and_stays_so(self, demo: Run) -> None:
        """Float at least 97 %; int8 agrees with it on at least 98 % of the test digits."""
        assert demo.data["float_accuracy"]["value"] >= 0.97
        assert demo.data["int8_accuracy"]["value"] >= 0.96
        assert demo.data["agreement"]["value"] >= 0.98
        assert demo.data["test_count"] == 1797 - TRAIN - CALIBRATION

    def test_int8_file_works_in_int8_and_is_smaller(self, demo: Run) -> None:
        """At least 80 % of its work (how much more, this machine's times say), and the ratio printed is that of the files."""
        seen = edgekit.inspect(demo.folder / "int8.tflite")
        assert seen.int8_mac_share is not None
        assert seen.int8_mac_share >= 0.8
        sizes = [(demo.folder / name).stat().st_size for name in ("float.tflite", "int8.tflite")]
        assert sizes[0] / sizes[1] == pytest.approx(demo.data["size_ratio"])
        assert demo.data["size_ratio"] > 3

    def test_model_reads_a_raw_digit(self, demo: Run) -> None:
        """The file carries its preprocessing and labels, so an application passes what scikit-learn has."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        with edgekit.load(demo.folder / "int8.tflite", preprocess=True) as model:
            said = [int(model.run(image[..., None]).argmax()) for image in digits.images[:100]]
        assert np.mean(np.equal(said, digits.target[:100])) >= 0.95
        manifest = edgekit.ModelFile.read(demo.folder / "int8.tflite").manifest
        assert manifest is not None
        assert tuple("0123456789") == manifest.labels
        assert list(manifest.preprocessing.values()) == [PREPROCESSING]

    def test_log_has_each_test_digit(self, demo: Run) -> None:
        """One run per test digit, of this very model."""
        (part,) = edgekit.read_log(demo.folder / "latency.jsonl")
        assert demo.data["test_count"] == len(part.records)
        assert edgekit.ModelFile.read(demo.folder / "int8.tflite").sha256 == part.header["model_sha256"]

    def test_benchmark_is_of_the_two_files(self, demo: Run) -> None:
        """The benchmark file can be read, is of these models on one thread, and gives the ratio printed."""
        report = BenchmarkReport.read(demo.folder / "benchmark.json")
        assert [result.case.model for result in report.cases] == ["float", "int8"]
        for result in report.cases:
            file = demo.folder / f"{result.case.model}.tflite"
            assert edgekit.ModelFile.read(file).sha256 == result.case.sha256
            assert {1} == {launch.threads for launch in result.launches}
        assert [demo.data["float_p50_ns"], demo.data["int8_p50_ns"]] == [
            round(case.typical_ns or 0) for case in report.cases
        ]
        assert demo.data["float_p50_ns"] / demo.data["int8_p50_ns"] == pytest.approx(
            demo.data["latency_ratio"], rel=0.01
        )

    def test_report_shows_the_figures(self, demo: Run) -> None:
        """The page has the pictures, the proof, the plan and the host, and asks for nothing from outside."""
        page = (demo.folder / "report.html").read_text(encoding="utf-8")
        assert page.count("<svg ") == 6
        for text in (
            f"{100 * demo.data['int8_accuracy']['value']:.2f} %", f"{demo.data['size_ratio']:.2f}×",
            f"{demo.data['latency_ratio']:.2f}×", "The proof", "The plan", "picked", "This machine", "SQNR",
        ):  # fmt: skip
            assert text in page
        assert "http" not in page.replace("http-equiv", "")

    def test_stderr_tells_the_steps(self, demo: Run) -> None:
        """Progress goes to stderr, the result alone to stdout."""
        for step in ("Importing TensorFlow", "Training", "Measuring ranges", "Benchmarking"):
            assert step in demo.errors


def test_summary_is_the_one_in_the_list_of_commands() -> None:
    """``edgekit --help`` and ``edgekit demo --help`` say the same."""
    assert SUMMARIES["demo"] == (command.help or "").splitlines()[0]


def test_existing_folder_is_refused(tmp_path: Path) -> None:
    """Exit code 2, and the folder as it was."""
    (tmp_path / "report.html").write_text("mine")
    result = CliRunner().invoke(cli, ["demo", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert "--overwrite" in result.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["plain", "overwrite"])
def test_file_in_the_folders_place_is_refused(tmp_path: Path, overwrite: tuple[str, ...]) -> None:
    """A file of that name is never replaced by a folder."""
    path = tmp_path / "out"
    path.write_text("mine")
    result = CliRunner().invoke(cli, ["demo", "--output", str(path), *overwrite])
    assert (result.exit_code, path.read_text()) == (2, "mine")


def test_missing_parent_folder_is_told(tmp_path: Path) -> None:
    """Exit code 2 and the folder that is missing."""
    result = CliRunner().invoke(cli, ["demo", "--output", str(tmp_path / "a" / "b")])
    assert result.exit_code == 2
    assert f"the folder {tmp_path / 'a'} does not exist" in result.stderr


def test_missing_packages_are_one_message_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All missing packages in one message with the command that installs them; no folder is left."""
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name in ("sklearn", "tensorflow") else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    result = CliRunner().invoke(cli, ["demo", "--output", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "the demo needs tensorflow, scikit-learn: `pip install 'edgekit[demo]'`." in result.stderr
    assert list(tmp_path.iterdir()) == []

"""``edgekit bench``: table, JSON, file, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgekit.bench import BenchmarkReport
from edgekit.cli import SUMMARIES, cli
from edgekit.cli.bench import command
from edgekit.runtime.delegates import edgetpu_library

QUICK = ("--runs", "3", "--warmup", "1", "--launches", "2")


def run(*arguments: object) -> Result:
    """Run ``edgekit bench`` with these arguments."""
    return CliRunner().invoke(cli, ["bench", *(str(argument) for argument in arguments)])


def test_summary_is_the_one_in_the_list_of_commands() -> None:
    """``edgekit --help`` and ``edgekit bench --help`` say the same."""
    assert SUMMARIES["bench"] == (command.help or "").splitlines()[0]


def test_table_has_a_row_for_each_model(dense_float_file: Path, dense_int8_file: Path) -> None:
    """Names, delegate, times with units, and the ratio of the second one."""
    result = run(dense_float_file, dense_int8_file, *QUICK, "--delegate", "none")
    assert result.exit_code == 0
    for text in ("dense_float.tflite", "dense_int8.tflite", "none → none", "ms", "MB", "p50", "p90", "p99", "÷"):
        assert text in result.stdout


def test_json_is_the_benchmark(dense_int8_file: Path) -> None:
    """Stdout is one JSON document with raw samples and summary keys that carry units."""
    result = run(dense_int8_file, *QUICK, "--json")
    data = json.loads(result.stdout)
    assert {"p50_ns", "p90_ns", "p99_ns", "load_ns", "first_run_ns", "peak_rss_bytes"} <= set(
        data["cases"][0]["summary"]
    )
    assert [len(launch["total_ns"]) for launch in data["cases"][0]["launches"]] == [3, 3]


def test_file_holds_the_benchmark(dense_int8_file: Path, tmp_path: Path) -> None:
    """``-o`` writes a file that can be read again."""
    path = tmp_path / "b.json"
    assert run(dense_int8_file, *QUICK, "-o", path).exit_code == 0
    assert BenchmarkReport.read(path).cases[0].case.model == "dense_int8.tflite"


def test_existing_file_is_kept_unless_told(dense_int8_file: Path, tmp_path: Path) -> None:
    """Exit code 2 and the old content without ``--overwrite``; replaced with it."""
    path = tmp_path / "b.json"
    path.write_text("mine")
    refused = run(dense_int8_file, *QUICK, "-o", path)
    assert (refused.exit_code, path.read_text()) == (2, "mine")
    assert "exists already" in refused.stderr
    assert run(dense_int8_file, *QUICK, "-o", path, "--overwrite").exit_code == 0
    assert BenchmarkReport.read(path).passed


@pytest.mark.skipif(
    edgetpu_library() is not None, reason="libedgetpu is installed here, so that asking for it does not fail"
)
def test_failed_case_is_a_row_and_exit_code_one(dense_float_file: Path, dense_int8_file: Path) -> None:
    """A delegate without its library: a row for each model, the reason below, exit code 1."""
    result = run(dense_float_file, dense_int8_file, *QUICK, "--delegate", "edgetpu")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    for name in ("dense_float.tflite", "dense_int8.tflite"):
        assert sum(line.startswith(f"{name} failed: the Edge TPU delegate needs the library") for line in lines) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--runs", "0"), "runs is 0"),
        (("--engine", "x"), "unknown engine 'x'"),
        (("--delegate", "x"), "unknown delegate 'x'"),
        (("--device", "x"), "unknown device 'x'"),
        (("--threads", "0"), "0 threads"),
    ],
    ids=["runs", "engine", "delegate", "device", "threads"],
)
def test_wrong_options_are_exit_code_two(dense_int8_file: Path, arguments: tuple[str, ...], message: str) -> None:
    """One message that names the value, nothing on stdout."""
    result = run(dense_int8_file, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_unreadable_model_is_exit_code_two(tmp_path: Path) -> None:
    """Missing and damaged files are wrong input, not failed cases."""
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"\x1c\x00\x00\x00TFL3 and then nothing of use")
    assert run(tmp_path / "none.tflite").exit_code == 2
    assert run(damaged).exit_code == 2

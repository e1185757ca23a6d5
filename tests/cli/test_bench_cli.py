"""``edgekit bench``: table, JSON, file, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bench_reports import case, launch, report
from click.testing import CliRunner, Result

from edgekit.bench import BenchmarkReport
from edgekit.cli import SUMMARIES, cli
from edgekit.cli.bench import command

QUICK = ("--runs", "3", "--warmup", "1", "--launches", "2")


def run(*arguments: object) -> Result:
    """Run ``edgekit bench`` with these arguments."""
    return CliRunner().invoke(cli, ["bench", *(str(argument) for argument in arguments)])


def test_summary_is_the_one_in_the_list_of_commands() -> None:
    """``edgekit --help`` and ``edgekit bench --help`` say the same."""
    assert SUMMARIES["bench"] == (command.help or "").splitlines()[0]


def test_table_has_a_row_for_each_model(dense_float_file: Path, dense_int8_file: Path) -> None:
    """Names, delegate, times with units, the ratio of the second one, and whether to believe it."""
    result = run(dense_float_file, dense_int8_file, *QUICK, "--delegate", "none")
    assert result.exit_code == 0
    assert any(line in ("NOISY", "INVALID") for line in result.stdout.splitlines())  # two launches are too few
    for text in (
        "2 launches",
        "3 runs each after 1 warm-up runs",
        "fewer than 5",
        "24,576 runs",
        "dense_float.tflite",
        "dense_int8.tflite",
        "none",
        "ms",
        "MB",
        "median",
        "p50",
        "p90",
        "p99",
        "÷",
    ):
        assert text in result.stdout


def test_wide_tables_leave_out_the_least_and_say_so(dense_float_file: Path, tmp_path: Path) -> None:
    """Long names and ratios fit a hundred and twenty letters; no figure loses its unit."""
    other = tmp_path / f"{'a_long_name_of_a_model_' * 2}.tflite"
    other.write_bytes(dense_float_file.read_bytes())
    lines = run(dense_float_file, other, *QUICK, "--delegate", "none").stdout.splitlines()
    (told,) = [line for line in lines if line.startswith("Not shown for want of room: ")]
    assert "verdict" in told
    (row,) = [line for line in lines if line.strip().startswith("dense_float.tflite")]
    assert len(row) <= 120
    assert row.count(" ms ") + row.count(" MB ") >= 3


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


def test_failed_case_is_a_row_and_exit_code_one(dense_float_file: Path, dense_int8_file: Path) -> None:
    """A delegate that these models were not compiled for: a row for each, the reason below, exit code 1."""
    result = run(dense_float_file, dense_int8_file, *QUICK, "--delegate", "edgetpu")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    for name in ("dense_float.tflite", "dense_int8.tflite"):
        assert sum(line.startswith(f"{name} failed: ") and "Edge TPU" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--runs", "0"), "runs is 0"),
        (("--engine", "x"), "unknown engine 'x'"),
        (("--delegate", "x"), "unknown delegate 'x'"),
        (("--device", "x"), "unknown device 'x'"),
        (("--threads", "0"), "0 threads"),
        (("--threads", "1,x"), "'1,x': whole numbers with commas"),
        (("--batch", "0"), "batch is 0"),
        (("--target", "x"), "'x': a share such as 3%"),
        (("--scenario", "server"), "needs a latency bound"),
        (("--data", "none.npy"), "none.npy"),
    ],
    ids=["runs", "engine", "delegate", "device", "threads", "list", "batch", "target", "bound", "data"],
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


def test_sweep_is_one_table(dense_float_file: Path) -> None:
    """Lists of delegates and threads make a row each, with a column for the threads."""
    result = run(
        dense_float_file, *QUICK[:4], "--launches", "1", "--delegate", "none,xnnpack", "--threads", "1,2", "--json"
    )
    data = json.loads(result.stdout)
    assert [(item["case"]["delegate"], item["case"]["threads"]) for item in data["cases"]] == [
        ("none", 1), ("none", 2), ("xnnpack", 1), ("xnnpack", 2),
    ]  # fmt: skip


def test_real_data_are_read_as_elsewhere(dense_int8_file: Path, tmp_path: Path) -> None:
    """A file of samples; the benchmark says which."""
    path = tmp_path / "samples.npy"
    np.save(path, np.zeros((3, 8), np.float32))
    result = run(dense_int8_file, *QUICK, "--delegate", "none", "--data", path, "--json")
    assert json.loads(result.stdout)["settings"]["inputs"] == str(path)


@pytest.mark.parametrize("word", ["compare", "history", "profile", "report"])
def test_other_commands_answer_for_themselves(word: str) -> None:
    """Each further word has its own usage line."""
    assert f"bench {word} [OPTIONS]" in run(word, "--help").stdout


def test_require_valid_sets_the_exit_code(dense_int8_file: Path) -> None:
    """Two launches are never VALID: 0 without the option, 1 with it, and the table all the same."""
    plain = run(dense_int8_file, *QUICK, "--delegate", "none")
    strict = run(dense_int8_file, *QUICK, "--delegate", "none", "--require-valid")
    assert (plain.exit_code, strict.exit_code) == (0, 1)
    assert "dense_int8.tflite" in strict.stdout


def test_rate_that_does_not_hold_is_exit_code_one(dense_int8_file: Path) -> None:
    """The server scenario with a named rate asks whether it holds."""
    result = run(
        dense_int8_file, "--scenario", "server", "--latency-bound", "0.000001", "--rate", "3000", "--least", "0.1",
        "--launches", "1", "--workers", "1", "--delegate", "none",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "MLPerf's rule for 99 % within the bound" in result.stdout


class TestCompare:
    """``edgekit bench compare``."""

    def saved(self, path: Path, *times: int) -> Path:
        """A benchmark of one case, five launches of these medians, as a file."""
        launches = [launch([value] * 20) for value in times]
        report(case("m", *launches)).save(path)
        return path

    def test_slower_than_the_gate_is_exit_code_one(self, tmp_path: Path) -> None:
        """A tenth slower fails at 5 % and passes at 20 %."""
        before = self.saved(tmp_path / "a.json", 1000, 1001, 1002, 999, 1000)
        after = self.saved(tmp_path / "b.json", 1100, 1101, 1102, 1099, 1100)
        codes = [run("compare", before, after, "--fail-over", gate).exit_code for gate in ("5%", "0.2")]
        assert codes == [1, 0]

    def test_markdown_and_json_name_the_files(self, tmp_path: Path) -> None:
        """Markdown for people, JSON with the ratio for programs."""
        before = self.saved(tmp_path / "a.json", *[1000] * 5)
        after = self.saved(tmp_path / "b.json", *[500] * 5)
        assert run("compare", before, after, "--markdown").stdout.startswith("### Latency against a.json\n")
        (against,) = json.loads(run("compare", before, after, "--json").stdout)["against"]
        assert (against["label"], against["cases"][0]["ratio"]) == ("b.json", 0.5)

    def test_table_says_how_the_gate_ended(self, tmp_path: Path) -> None:
        """The ratio and what was not expected."""
        before = self.saved(tmp_path / "a.json", *[1000] * 5)
        after = self.saved(tmp_path / "b.json", *[2000] * 5)
        text = run("compare", before, after, "--fail-over", "5%").stdout
        assert "Latency against a.json" in text
        assert "2.0" in text
        assert text.splitlines()[-1] == "FAILED: at most 5 % slower"

    def test_other_files_are_exit_code_two(self, tmp_path: Path) -> None:
        """A file that is no benchmark, and one alone."""
        path = tmp_path / "a.json"
        path.write_text("[]")
        alone = self.saved(tmp_path / "b.json", 1000)
        assert [run("compare", path, path).exit_code, run("compare", alone).exit_code] == [2, 2]

"""``edgekit bench profile`` and ``edgekit bench history``: tables, JSON, files, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from bench_reports import case, report, steady
from click.testing import CliRunner, Result

from edgekit.bench.op_times import OpProfile
from edgekit.cli.bench_history import command as history_command
from edgekit.cli.bench_profile import command as profile_command
from edgekit.errors import EdgekitError

QUICK = ("--delegate", "xnnpack", "--threads", "1", "--op-ms", "0.1", "--no-roofline")


def run(command: click.Command, *arguments: object) -> Result:
    """Run a command with these arguments."""
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def benchmarks(tmp_path: Path) -> tuple[Path, Path]:
    """Two benchmark files, the later one a fifth slower."""
    paths = (tmp_path / "one.json", tmp_path / "two.json")
    for number, path in enumerate(paths):
        times = steady(1e6 * (1 + 0.2 * number), seed=number)
        report(case("m.tflite", *times), started_unix_s=100.0 * number).save(path)
    return paths


class TestProfile:
    """``edgekit bench profile``."""

    def test_tables(self, dense_float_file: Path) -> None:
        """The whole run, kinds of operators and partitions; single operators only when they are asked for."""
        result = run(profile_command, dense_float_file, *QUICK)
        assert result.exit_code == 0
        for text in (
            "a run on xnnpack, 1 thread",
            "by operator",
            "FULLY_CONNECTED",
            "SOFTMAX",
            "by partition",
            "xnnpack 1",
        ):
            assert text in result.stdout
        assert "┃ # " not in result.stdout
        assert "┃ # " in run(profile_command, dense_float_file, *QUICK, "--all").stdout

    def test_ceiling_is_told(self, dense_float_file: Path) -> None:
        """With it, what the machine can do stands below the tables."""
        result = run(profile_command, dense_float_file, *QUICK[:-1])
        assert "the machine's ceiling, measured: " in result.stdout
        assert "of ceiling" in result.stdout

    def test_json_and_file_are_the_profile(self, dense_int8_file: Path, tmp_path: Path) -> None:
        """Both hold all of it, raw times included; an existing file is kept without --overwrite."""
        path = tmp_path / "p.json"
        result = run(profile_command, dense_int8_file, *QUICK, "--json", "-o", path)
        assert result.exit_code == 0
        data = json.loads(result.stdout)
        assert data == json.loads(path.read_text())
        assert len(OpProfile.from_json(data).ops[0].times_ns) >= 5
        again = run(profile_command, dense_int8_file, *QUICK, "-o", path)
        assert isinstance(again.exception, EdgekitError)
        assert "exists already" in str(again.exception)

    def test_gpu_is_refused(self, dense_float_file: Path) -> None:
        """The message says what to use."""
        result = run(profile_command, dense_float_file, "--delegate", "gpu")
        assert isinstance(result.exception, EdgekitError)
        assert result.exception.exit_code == 2


class TestHistory:
    """``edgekit bench history``."""

    def test_slower_one_fails_the_gate(self, benchmarks: tuple[Path, Path], tmp_path: Path) -> None:
        """Added one after the other, the last is compared with the one before it; exit code 1."""
        folder, page = tmp_path / "history", tmp_path / "trend.html"
        first = run(history_command, folder, benchmarks[0], "--label", "a1")
        assert (0, "") == (first.exit_code, first.stdout)
        assert "two can be compared" in first.stderr
        second = run(history_command, folder, benchmarks[1], "--label", "b2", "--fail-over", "5%", "--html", page)
        assert second.exit_code == 1
        assert "### Latency against a1" in second.stdout
        assert "slower ✗" in second.stdout
        assert "<svg" in page.read_text(encoding="utf-8")
        assert len(list(folder.iterdir())) == 2

    def test_without_a_gate_it_shows(self, benchmarks: tuple[Path, Path], tmp_path: Path) -> None:
        """JSON on stdout, exit code 0."""
        result = run(history_command, tmp_path / "h", *benchmarks, "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["against"][0]["cases"][0]["word"] == "slower"

    def test_foreign_file_is_left_out_and_told(self, benchmarks: tuple[Path, Path], tmp_path: Path) -> None:
        """On stderr, with its name."""
        (tmp_path / "h").mkdir()
        (tmp_path / "h" / "notes.json").write_text("{}")
        result = run(history_command, tmp_path / "h", *benchmarks)
        assert "notes.json is not a benchmark" in result.stderr
        assert result.exit_code == 0

"""``edgekit bench report``, and the files that ``edgekit bench`` writes besides: table, page, CSV, Markdown, JSON, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
import tiny_models as models
from bench_machines import board, operators, server_case, timed_case
from bench_reports import case
from click.testing import CliRunner, Result
from processes import run_python

from edgekit.cli import cli
from edgekit.cli.bench_table import _fitting
from edgekit.report.bench_rows import HISTOGRAM, histogram_field
from edgekit.report.fields import table

QUICK = ("--runs", "12", "--warmup", "1", "--launches", "2", "--delegate", "none")
VERIFICATION = {
    "on": {
        "data": {
            "origin": "x.npz",
            "count": 80,
            "outputs": [],
            "metric": {
                "name": "accuracy",
                **{side: {"value": 0.9, "low": 0.8, "high": 0.95} for side in ("float", "int8")},
            },
        }
    }
}


def run(*arguments: object) -> Result:
    """Run ``edgekit bench`` with these arguments."""
    return CliRunner().invoke(cli, ["bench", *(str(argument) for argument in arguments)])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A benchmark of two cases, one of which failed."""
    path = tmp_path / "b.json"
    board(timed_case("m.tflite", 2.0, size_bytes=1000), case("n.tflite", error="it broke")).save(path)
    return path


class TestReport:
    """From files."""

    def test_table_is_that_of_the_benchmark(self, saved: Path) -> None:
        """Figures with a histogram, what failed, the verdict; nothing is said of this machine's energy counters."""
        result = run("report", saved)
        assert result.exit_code == 0
        for text in (
            "m.tflite",
            "2.00 ms",
            HISTOGRAM,
            "█",
            "n.tflite failed: it broke",
            "VALID",
            "energy: there was no source",
        ):
            assert text in result.stdout

    def test_each_file_is_written(self, saved: Path, tmp_path: Path) -> None:
        """A page, rows of cases and of runs, and Markdown; the table is printed all the same."""
        paths = {option: tmp_path / f"out{option}" for option in ("--html", "--csv", "--csv-samples", "--markdown")}
        result = run("report", saved, *(item for pair in paths.items() for item in pair))
        assert result.exit_code == 0
        assert "m.tflite" in result.stdout
        texts = {option: path.read_text(encoding="utf-8") for option, path in paths.items()}
        assert texts["--html"].startswith("<!doctype html>")
        assert ["m.tflite", "n.tflite"] == [row["model"] for row in csv.DictReader(io.StringIO(texts["--csv"]))]
        assert 1 + 5 * (1 + 50 + 200) == len(texts["--csv-samples"].splitlines())
        assert texts["--markdown"].startswith("### Benchmark b.json")

    @pytest.mark.parametrize("option", ["--csv", "--csv-samples", "--markdown"])
    def test_minus_is_stdout(self, saved: Path, option: str) -> None:
        """In place of the table."""
        result = run("report", saved, option, "-")
        assert result.exit_code == 0
        assert result.stdout.startswith("### Benchmark" if option == "--markdown" else "benchmark,")
        assert "there was no source" not in result.stdout

    def test_json_has_the_figures_and_no_samples(self, saved: Path, tmp_path: Path) -> None:
        """One document; with two files the comparison is in it."""
        other = tmp_path / "c.json"
        board(timed_case("m.tflite", 4.0)).save(other)
        data = json.loads(run("report", saved, other, "--json").stdout)
        assert ["b.json", "c.json"] == [item["label"] for item in data["benchmarks"]]
        assert "VALID" == data["benchmarks"][0]["verdict"]["level"]
        assert {"m.tflite", "n.tflite"} == {item["model"] for item in data["benchmarks"][0]["cases"]}
        assert 2.0 == pytest.approx(data["comparison"]["against"][0]["cases"][0]["ratio"], rel=0.01)
        assert json.loads(run("report", saved, "--json").stdout)["comparison"] is None
        assert "histogram" not in json.dumps(data)

    def test_two_files_of_one_name_are_told_apart(self, saved: Path, tmp_path: Path) -> None:
        """By their paths."""
        (tmp_path / "other").mkdir()
        other = tmp_path / "other" / "b.json"
        board(timed_case("m.tflite", 4.0)).save(other)
        lines = run("report", saved, other).stdout.splitlines()
        assert {str(saved), str(other)} <= set(lines)

    def test_accuracy_and_profile_are_on_the_page(self, saved: Path, tmp_path: Path) -> None:
        """The one by the model's size, the other as `bench profile -o` wrote it."""
        verified, profile, page = (tmp_path / name for name in ("v.json", "p.json", "x.html"))
        verified.write_text(json.dumps({**VERIFICATION, "int8_bytes": 1000}))
        profile.write_text(json.dumps(operators().to_json()))
        result = run("report", saved, "--html", page, "--accuracy", verified, "--profile", profile)
        assert result.exit_code == 0
        text = page.read_text(encoding="utf-8")
        for words in ("Accuracy against latency", "90.00 %", "Time by operator"):
            assert words in text

    def test_wrong_files_leave_nothing_behind(self, saved: Path, tmp_path: Path) -> None:
        """Exit code 2, one message, no page: missing and foreign files of each kind."""
        foreign, page = tmp_path / "x.json", tmp_path / "x.html"
        foreign.write_text("[]")
        for arguments, message in (
            ([tmp_path / "none.json"], "no such file"),
            ([foreign], "x.json is not a benchmark"),
            ([saved, "--accuracy", foreign], "x.json is not a verification"),
            ([saved, "--profile", foreign], "x.json is not a profile"),
        ):
            result = run("report", *arguments, "--html", page)
            assert (2, "") == (result.exit_code, result.stdout)
            assert message in result.stderr
            assert not page.exists()
        unfit = tmp_path / "v.json"
        unfit.write_text(json.dumps({**VERIFICATION, "int8_bytes": 12345}))
        result = run("report", saved, "--html", page, "--accuracy", unfit)
        assert (2, "") == (result.exit_code, result.stdout)
        assert "--accuracy MODEL=FILE" in result.stderr
        assert not page.exists()

    def test_nonsense_is_refused(self, saved: Path, tmp_path: Path) -> None:
        """What is nothing without a page, two results for one place, and the input as the output."""
        page = tmp_path / "x.html"
        for arguments, message in (
            (["--accuracy", "v.json"], "name it with --html"),
            (["--html", "-"], "--html takes a file's name"),
            (["--json", "--csv", "-"], "choose one"),
            (["--csv", "-", "--markdown", "-"], "is --csv as well"),
            (["--html", page, "--csv", page], "is --html as well"),
            (["--html", saved, "--overwrite"], "is another file of this command as well"),
        ):
            result = run("report", saved, *arguments)
            assert (2, "") == (result.exit_code, result.stdout)
            assert message in " ".join(result.stderr.split())
        assert json.loads(saved.read_text())["type"] == "edgekit-benchmark"

    def test_existing_files_are_kept_unless_told(self, saved: Path, tmp_path: Path) -> None:
        """None of several is written when one would replace a file."""
        page, rows = tmp_path / "x.html", tmp_path / "x.csv"
        page.write_text("mine")
        refused = run("report", saved, "--csv", rows, "--html", page)
        assert (2, "mine", False) == (refused.exit_code, page.read_text(), rows.exists())
        assert "exists already" in refused.stderr
        assert 0 == run("report", saved, "--csv", rows, "--html", page, "--overwrite").exit_code
        assert "<svg" in page.read_text(encoding="utf-8")


class TestBench:
    """Right after measuring."""

    def test_files_are_written_beside_the_table(self, dense_float_file: Path, tmp_path: Path) -> None:
        """With the operators' times where they are asked for."""
        page, rows = tmp_path / "x.html", tmp_path / "x.csv"
        result = run(dense_float_file, *QUICK, "--html", page, "--csv", rows, "--profile")
        assert result.exit_code == 0
        assert "dense_float.tflite" in result.stdout
        text = page.read_text(encoding="utf-8")
        assert "Over the launches" in text
        assert "FULLY_CONNECTED" in text
        assert ["dense_float.tflite"] == [row["model"] for row in csv.DictReader(io.StringIO(rows.read_text()))]

    def test_accuracy_in_a_manifest_is_found(self, tmp_path: Path) -> None:
        """No option is needed for a model that edgekit converted."""
        output = {"name": "y", "agreement": {"value": 0.97, "low": 0.9, "high": 0.99}}
        figures = {"origin": "x.npz", "count": 80, "outputs": [output], "metric": None}
        path, page = tmp_path / "m.tflite", tmp_path / "x.html"
        path.write_bytes(models.with_manifest(models.dense_int8(), verification={"on": {"verify": figures}}))
        assert run(path, *QUICK, "--html", page).exit_code == 0
        assert "97.00 % (90.0 to 99.0)" in page.read_text(encoding="utf-8")

    def test_what_cannot_be_written_is_told_before_measuring(self, dense_float_file: Path, tmp_path: Path) -> None:
        """A page that exists, an accuracy that is of no model, a model in the page's place: nothing is measured."""
        page, unfit = tmp_path / "x.html", tmp_path / "v.json"
        page.write_text("mine")
        unfit.write_text(json.dumps({**VERIFICATION, "int8_bytes": 12345}))
        for arguments, message in (
            (["--html", page], "exists already"),
            (["--html", tmp_path / "y.html", "--accuracy", unfit], "--accuracy MODEL=FILE"),
            (["--html", dense_float_file, "--overwrite"], "another file of this command"),
            (["-o", tmp_path / "b.json", "--csv", tmp_path / "b.json"], "another file of this command"),
            (["--profile"], "name it with --html"),
        ):
            result = run(dense_float_file, *QUICK, *arguments)
            assert (2, "") == (result.exit_code, result.stdout)
            assert message in " ".join(result.stderr.split())
            assert "Benchmarking" not in result.stderr

    def test_failed_cases_have_their_page(self, dense_float_file: Path, tmp_path: Path) -> None:
        """Exit code 1, and the reason on the page."""
        page = tmp_path / "x.html"
        assert 1 == run(dense_float_file, *QUICK[:-1], "edgetpu", "--html", page, "--profile").exit_code
        assert "Edge TPU" in page.read_text(encoding="utf-8")


class TestTable:
    """The terminal's table."""

    @pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
    def test_rows_fit_and_what_is_left_out_is_named(self, width: int) -> None:
        """The histogram stays in eighty columns; every field is in the table or named."""
        from edgekit.bench.figures import FIELDS
        from edgekit.report.bench_rows import with_histogram

        report = board(timed_case("mobilenet.tflite", 2.0))
        fields = with_histogram(
            [field for field in FIELDS if field.key not in ("error", "verdict", "threads")], histogram_field(10)
        )
        titles, rows, left_out = _fitting(fields, report.cases, width)
        assert sum(max(len(title), len(cell)) + 2 for title, cell in zip(titles, rows[0], strict=True)) <= max(
            width, 72
        )
        assert (HISTOGRAM in titles) == (width >= 80)
        assert {"load", "p90", "p99", "memory", HISTOGRAM} <= {*titles, *left_out}

    def test_server_scenario_has_no_histogram(self) -> None:
        """Where runs were not timed one by one there is no column."""
        assert ([], [[]]) == table([histogram_field(10)], board(server_case()).cases)

    def test_terminal_without_these_letters_gets_others(self, saved: Path) -> None:
        """On an ASCII terminal everything is ASCII, and nothing fails."""
        code = f"import sys; sys.argv = ['edgekit', 'bench', 'report', {str(saved)!r}]; from edgekit.cli import main; main()"
        done = run_python("-X", "utf8=0", "-c", code, env={**os.environ, "PYTHONIOENCODING": "ascii"})
        assert (0, "") == (done.returncode, done.stderr)
        assert "min-p99" in done.stdout
        assert "█" not in done.stdout

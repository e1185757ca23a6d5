"""``edgekit log``: percentiles from a latency log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgekit.cli import cli
from edgekit.runtime.latency import LatencyLog
from edgekit.runtime.logfile import read_log
from edgekit.runtime.summary import LatencySummary


def run(*arguments: object) -> Result:
    """Run ``edgekit log summary`` with these arguments."""
    return CliRunner().invoke(cli, ["log", "summary", *(str(argument) for argument in arguments)])


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """A log of two sessions: a hundred runs of 1 to 100 ms, half of it invoke, and none."""
    path = tmp_path / "l.jsonl"
    header = {"model": "m.tflite", "engine": "litert 2.3", "got": {"delegate": "xnnpack", "partitions": 1}}
    log = LatencyLog(path=path, header=header)
    for number in range(1, 101):
        log.add_ns(number, number * 200_000, number * 500_000, number * 300_000)
    log.close()
    LatencyLog(path=path, header={"model_sha256": "a" * 64, "model": None}).close()
    return path


def test_table(log_file: Path) -> None:
    """A row for each session: what ran on what, how often, and the percentiles in milliseconds."""
    result = run(log_file)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    first = [
        "1",
        "m.tflite",
        "litert 2.3, xnnpack",
        "100",
        "50.00 ms",
        "90.00 ms",
        "99.00 ms",
        "100 ms",
        "25.00 ms",
    ]
    assert [first, ["2", "a" * 12, "?, ?", "0", *["0.000 ms"] * 5]] == rows
    assert str(log_file) in "".join(result.stdout.split("\n"))


def test_a_delegate_that_took_nothing(tmp_path: Path) -> None:
    """What ran is the interpreter itself, whatever was asked for."""
    path = tmp_path / "l.jsonl"
    LatencyLog(path=path, header={"engine": "litert 2.3", "got": {"delegate": "xnnpack", "partitions": 0}}).close()
    assert "litert 2.3, none" in run(path).stdout


def test_json(log_file: Path) -> None:
    """Each session with its header and each phase's summary."""
    result = run(log_file, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    first, second = read_log(log_file)
    assert data["path"] == str(log_file)
    assert [item["header"] for item in data["sessions"]] == [first.header, second.header]
    seen = data["sessions"][0]["latency"]
    assert list(seen) == ["total", "copy_in", "invoke", "copy_out"]
    assert seen["total"] == LatencySummary.of(number * 1_000_000 for number in range(1, 101)).to_json()
    assert [seen[phase]["p50_ns"] for phase in seen] == [50_000_000, 10_000_000, 25_000_000, 15_000_000]
    assert data["sessions"][1]["latency"]["total"]["count"] == 0


def test_torn_log(log_file: Path) -> None:
    """A line that a power cut tore does not hide the others."""
    log_file.write_bytes(log_file.read_bytes() + b"[1,2")
    assert json.loads(run(log_file, "--json").stdout)["sessions"][0]["latency"]["total"]["count"] == 100


def test_a_name_is_taken_literally(log_file: Path) -> None:
    """Brackets in a name are no markup."""
    path = log_file.rename(log_file.with_name("l[bold].jsonl"))
    result = run(path)
    assert (result.exit_code, "l[bold].jsonl" in "".join(result.stdout.split("\n"))) == (0, True)


@pytest.mark.parametrize("json_option", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file: "),
        (b"", "is not a latency log"),
        (b"hello\n", "is not a latency log"),
        (b'{"type": "edgekit-latency", "schema": 99}\n', "has schema 99, this edgekit reads up to 1. Update edgekit"),
        (b'{"type": "edgekit-latency", "schema": 1}\nx\n[1,2,3,4]\n', "line 2 is damaged"),
    ],
    ids=["missing", "empty", "text", "newer", "damaged"],
)
def test_bad_files(content: bytes | None, words: str, json_option: list[str], tmp_path: Path) -> None:
    """One message that names the file, exit code 2, nothing on stdout."""
    path = tmp_path / "l.jsonl"
    if content is not None:
        path.write_bytes(content)
    result = run(path, *json_option)
    assert isinstance(result.exception, SystemExit)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("edgekit: error: ")
    assert words in result.stderr
    assert str(path) in result.stderr


@pytest.mark.parametrize(
    "header",
    [
        '{"type": "edgekit-latency", "schema": 1, "got": "xnnpack", "model": 3}',
        '{"type": "edgekit-latency", "schema": 1, "got": null, "engine": [1]}',
        '{"type": "edgekit-latency", "schema": 1, "started_unix_s": NaN}',
    ],
    ids=["got as text", "got as null", "NaN"],
)
@pytest.mark.parametrize("json_option", [[], ["--json"]], ids=["text", "json"])
def test_strange_headers(header: str, json_option: list[str], tmp_path: Path) -> None:
    """What stands in a header is shown or refused, and is no reason to crash."""
    path = tmp_path / "l.jsonl"
    path.write_text(f"{header}\n[1,2,3,4]\n")
    result = run(path, *json_option)
    assert result.exit_code in (0, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)

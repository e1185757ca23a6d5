"""``edgekit bench --on`` and ``edgekit bench clean``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ssh_server import SSHD, WITHOUT, Server, serving, wheels_of_this_environment

from edgekit.bench import BenchmarkReport
from edgekit.cli import cli

QUICK = ("--runs", "2", "--warmup", "0", "--launches", "1", "--delegate", "none")


def run(*arguments: object) -> Result:
    """Run ``edgekit bench`` with these arguments."""
    return CliRunner().invoke(cli, ["bench", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a bare Python."""
    if SSHD is None:
        pytest.skip(WITHOUT)
    with serving(tmp_path_factory.mktemp("ssh")) as server:
        server.python()
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, known to this side."""
    monkeypatch.setenv("EDGEKIT_SSH_COMMAND", running.command())
    return running


def test_table_file_and_cleaning(server: Server, tmp_path: Path, dense_float_file: Path, dense_int8_file: Path) -> None:
    """As here, with the name of the place; afterwards nothing is left there."""
    (tmp_path / "wheels").mkdir()
    wheels = wheels_of_this_environment(tmp_path / "wheels")
    result = run(
        dense_float_file, dense_int8_file, "--on", server.url, "--wheels", wheels, "-o", tmp_path / "b.json", "--log", tmp_path / "log",
        *QUICK,
    )  # fmt: skip
    assert (result.exit_code, result.exception) == (0, None), result.stderr
    assert f"on {server.url}" in result.stdout
    for text in ("dense_float.tflite", "dense_int8.tflite", "÷", "energy: "):
        assert text in result.stdout
    assert "Benchmarking …" in result.stderr
    assert server.url == BenchmarkReport.read(tmp_path / "b.json").host["remote"]["value"]
    assert "edgekit " in (tmp_path / "log").read_text()
    cleaned = run("clean", server.url, "--json")
    assert {"destination", "removed_bytes", "stopped"} == set(json.loads(cleaned.stdout))
    assert [] == [path for path in server.home.rglob("*") if path.is_file()]
    assert run("clean", server.url).stdout.startswith("removed: ")


def test_failed_case_is_exit_code_one(server: Server, tmp_path: Path, dense_int8_file: Path) -> None:
    """A delegate that the model was not compiled for."""
    (tmp_path / "wheels").mkdir()
    wheels = wheels_of_this_environment(tmp_path / "wheels")
    result = run(dense_int8_file, "--on", server.url, "--wheels", wheels, *QUICK[:6], "--delegate", "edgetpu")
    assert result.exit_code == 1
    assert "dense_int8.tflite failed: " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--on", "pi@pi"), "expected ssh://[user@]host[:port]"),
        (("--on", "ssh://-x"), "names no host"),
        (("--on", "ssh://pi", "--reconnect", "-1"), "reconnect is -1"),
        (("--on", "ssh://pi", "--runs", "0"), "runs is 0"),
        (("--on", "ssh://pi", "--log", "no/such/folder/log"), "does not exist"),
        (("--on", "ssh://pi", "--meter-csv", "none.csv"), "no such file"),
        (("--on", "ssh://pi", "--log", "x", "-o", "x"), "--log x is another file of this command"),
        (("--on", "ssh://pi", "--log", __file__), "exists already"),
        (("--wheels", "x"), "--wheels is for another machine: name it with --on"),
        (("--remote-python", "x"), "--remote-python is for another machine"),
        (("--reconnect", "5"), "--reconnect is for another machine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_options_are_exit_code_two(dense_int8_file: Path, arguments: tuple[str, ...], message: str) -> None:
    """Before any machine is asked; one message, nothing on stdout."""
    result = run(dense_int8_file, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_without_ssh(dense_int8_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message and exit code 2, no traceback."""
    monkeypatch.setenv("EDGEKIT_SSH_COMMAND", "no-such-program -F x")
    result = run(dense_int8_file, "--on", "ssh://pi")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no 'no-such-program' here" in result.stderr
    assert run("clean", "ssh://pi").exit_code == 2


def test_help_names_all_of_it() -> None:
    """The options, and the further command."""
    text = run("--help").stdout
    for word in ("--on", "--remote-python", "--remote-folder", "--wheels", "--reconnect", "--log", "bench clean"):
        assert word in text
    assert "bench clean [OPTIONS] ssh://" in run("clean", "--help").stdout

"""``edgekit``, its help, its version, and how errors end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from processes import run_python, run_shell

import edgekit
from edgekit.cli import COMMANDS, SUMMARIES, cli

NAMES = sorted(COMMANDS)


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A real ``python -m edgekit``."""
    return run_python("-m", "edgekit", *arguments, env={**os.environ, **variables})


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_every_command(option: str) -> None:
    """Each command with its line."""
    result = CliRunner().invoke(cli, [option])
    assert result.exit_code == 0
    for name, summary in SUMMARIES.items():
        assert f"{name} " in result.stdout
        assert summary in result.stdout


def test_lists_agree() -> None:
    """Commands and their one-line summaries are the same, in the same order."""
    assert list(COMMANDS) == list(SUMMARIES)


@pytest.mark.parametrize("name", NAMES)
def test_summary_is_the_command_s_own(name: str) -> None:
    """The line in the list is the first line of the command's own help."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert (command.name, (command.help or "").splitlines()[0]) == (name, SUMMARIES[name])


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command(name: str) -> None:
    """Each command explains itself and every one of its options."""
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert SUMMARIES[name] in " ".join(result.stdout.split())


def commands(group: click.Command, path: str) -> list[tuple[str, click.Command]]:
    """A command and those under it, by their whole names."""
    found = [(path, group)]
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            below = group.get_command(context, name)
            assert below is not None
            found += commands(below, f"{path} {name}")
    return found


LEAVES = [(path, command) for path, command in commands(cli, "edgekit") if not isinstance(command, click.Group)]


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_option_is_explained(path: str, command: click.Command) -> None:
    """Each option has a help text, and each command that prints a result can print it as JSON."""
    options = [item for item in command.params if isinstance(item, click.Option)]
    assert [item.name for item in options if not item.help] == []
    assert "--json" in [text for item in options for text in item.opts], path


def test_version() -> None:
    """The version on stdout."""
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"edgekit {edgekit.__version__}\n")


@pytest.mark.parametrize("arguments", [["frobnicate"], ["--frobnicate"], ["run"], ["log", "frobnicate"]], ids=" ".join)
def test_wrong_usage(arguments: list[str]) -> None:
    """Exit code 2, the reason and the usage on stderr, nothing on stdout."""
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr
    assert "Error: " in result.stderr


def test_no_command() -> None:
    """Without a command the help is shown."""
    result = CliRunner().invoke(cli, [])
    assert SUMMARIES["run"] in result.output


class TestProgram:
    """The program as the system runs it."""

    def test_version(self) -> None:
        """``python -m edgekit`` is the program."""
        done = run("--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"edgekit {edgekit.__version__}\n", "")

    def test_run(self, dense_float_file: Path, tmp_path: Path) -> None:
        """A whole command: the result on stdout, and nothing of the native libraries on stderr."""
        import numpy as np

        np.save(tmp_path / "x.npy", np.ones((1, 8), np.float32))
        done = run("run", str(dense_float_file), "--input", str(tmp_path / "x.npy"))
        assert (done.returncode, done.stderr) == (0, "")
        assert "probabilities" in done.stdout

    def test_native_messages_on_request(self, dense_float_file: Path) -> None:
        """``EDGEKIT_NATIVE_LOG=1`` shows what the interpreter says."""
        done = run("inspect", str(dense_float_file), EDGEKIT_NATIVE_LOG="1")
        assert done.returncode == 0
        assert "XNNPACK" in done.stderr

    def test_error(self, tmp_path: Path) -> None:
        """One line on stderr and exit code 2."""
        done = run("inspect", str(tmp_path / "none.tflite"))
        assert (done.returncode, done.stdout) == (2, "")
        path = tmp_path / "none.tflite"
        expected = f"edgekit: error: no such file: {path}. Check the spelling and the folder that you are in.\n"
        assert done.stderr == expected

    def test_a_bug_of_ours_shows_itself(self, tmp_path: Path) -> None:
        """An exception that is not ours keeps its traceback, behind what the native libraries said."""
        code = (
            "import os, click, edgekit.cli as c\n"
            "@click.command('bug')\n"
            "def command():\n"
            "    os.write(2, b'native words\\n'); raise ZeroDivisionError('our mistake')\n"
            "c.cli.add_command(command); c._Commands.get_command = lambda *a: command\n"
            "import sys; sys.argv = ['edgekit', 'bug']; c.main()\n"
        )
        done = run_python("-c", code)
        assert done.returncode == 1
        assert done.stderr.startswith("native words\n")
        assert done.stderr.endswith("ZeroDivisionError: our mistake\n")

    @pytest.mark.parametrize("arguments", [["--version"], ["log", "summary", "none.jsonl"]], ids=" ".join)
    def test_no_room_for_a_temporary_file(self, arguments: list[str]) -> None:
        """On a full disk (here by a file size limit of 0) the program still says what it has to say."""
        code = (
            "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
            f"sys.argv = ['edgekit', *{arguments!r}]; from edgekit.cli import main; main()"
        )
        # Pipes have no size: only files are limited.
        done = run_python("-c", code)
        expected = CliRunner().invoke(cli, arguments)
        assert (done.returncode, done.stdout, done.stderr) == (expected.exit_code, expected.stdout, expected.stderr)

    def test_reader_that_stops_early(self, dense_float_file: Path) -> None:
        """``edgekit … | head`` ends without a traceback."""
        command = f"{sys.executable} -m edgekit inspect --json '{dense_float_file}' | head -c 1"
        done = run_shell(command)
        assert (done.stdout, "Traceback" in done.stderr) == ("{", False)

    def test_without_stderr(self) -> None:
        """A program that is started with stderr closed works all the same."""
        done = run_shell(f"{sys.executable} -m edgekit --version 2>&-")
        assert (done.returncode, done.stdout) == (0, f"edgekit {edgekit.__version__}\n")

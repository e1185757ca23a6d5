"""A process in an environment's own Python that answers tasks, one line of JSON each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from edgekit.errors import AlreadyQuantisedError, ConversionError, EdgekitError, ModelFileError

#: Makes edgekit's modules importable by their names without the packages around them: those belong to the other Python.
_BEGIN = (
    "import importlib, json, sys, types\n"
    "for name, folder in json.loads(sys.argv[1]).items():\n"
    "    sys.modules[name] = module = types.ModuleType(name)\n"
    "    module.__path__ = [folder]\n"
    "importlib.import_module(sys.argv[2]).main()\n"
)

_ERRORS: dict[str, type[EdgekitError]] = {
    "file": ModelFileError,
    "quantised": AlreadyQuantisedError,
    "conversion": ConversionError,
}

_PACKAGE = Path(__file__).resolve().parent.parent


class Worker:
    """A running process, which ends with this object.

    Attributes:
        folder: its current folder, for files that go to and fro; removed with it.
    """

    def __init__(self, python: Path, module: str, variables: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            python: the interpreter.
            module: what has ``main``; a module of ``edgekit_convert`` that imports nothing of edgekit but its own folder.
            variables: further environment variables.

        Raises:
            ConversionError: the interpreter does not start.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="edgekit-"))
        self._log = self.folder / "log.txt"
        parents = {"edgekit_convert": _PACKAGE, "edgekit_convert.frontends": _PACKAGE / "frontends"}
        command = [
            str(python),
            "-I",
            "-c",
            _BEGIN,
            json.dumps({name: str(path) for name, path in parents.items()}),
            module,
        ]
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=self.folder,
                    env={**kept, **(variables or {})}, text=True, encoding="utf-8",
                )  # fmt: skip
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise ConversionError(f"{python} does not start: {error.strerror or error}.") from error
        self._end = weakref.finalize(self, _end, self._process, self.folder)

    def ask(self, task: str, **arguments: Any) -> dict[str, Any]:
        """Give a task and wait for the answer.

        Args:
            task: its name.
            arguments: what JSON can say.

        Raises:
            EdgekitError: the process refused the task, failed or ended.
        """
        stdin, stdout = self._pipes()
        try:
            stdin.write(json.dumps({"task": task, **arguments}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except (OSError, ValueError):  # it has ended before
            line = ""
        if not line.endswith("\n"):
            raise ConversionError(self._ended(task))
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise _ERRORS[answer["kind"]](answer["refused"])
        if "failed" in answer:
            raise ConversionError(f"the task {task!r} failed: {' '.join(answer['failed'].split())[:400]}.")
        return answer

    def close(self) -> None:
        """End the process and remove its folder."""
        self._end()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # both were asked for
        assert stdout is not None
        return stdin, stdout

    def _ended(self, task: str) -> str:
        """Why there is no answer."""
        status = self._process.wait()
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            lines = []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        how = f"with status {status}"
        if status < 0:
            how = f"by the signal {_signal_name(-status)}"
            if sys.platform != "win32" and -status == signal.SIGKILL:
                how += ", which the system sends when memory is used up"
        return f"the process for {task!r} ended {how}; it said last: {last[:300]}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _end(process: subprocess.Popen[str], folder: Path) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not written yet goes nowhere
                pipe.close()
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)

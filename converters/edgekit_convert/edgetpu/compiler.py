"""``edgetpu_compiler``, where it is installed: a program of Google's for x86-64 Debian that makes a model for the Edge TPU."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit_convert.edgetpu import log
from edgekit_convert.edgetpu.attach import plain
from edgekit_convert.edgetpu.log import CompilerReport
from edgekit_convert.edgetpu.operators import NEWEST_RUNTIME

#: The program's name, and what it adds to a model's.
PROGRAM = "edgetpu_compiler"
SUFFIX = "_edgetpu.tflite"
#: How to get it (Coral documentation, "Edge TPU Compiler", "System requirements" and "Download").
INSTALL = (
    "edgetpu_compiler runs on x86-64 Debian and Ubuntu only; Google's package is edgetpu-compiler, see "
    "https://coral.ai/docs/edgetpu/compiler"
)
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Compiled:
    """What the compiler made.

    Attributes:
        content: the flatbuffer as it came from the compiler.
        report: what the compiler said of it.
        log: everything that it printed.
    """

    content: bytes
    report: CompilerReport
    log: str


def find_compiler() -> str | None:
    """Where the compiler is installed, or ``None``."""
    return shutil.which(PROGRAM)


def compiled_path(path: Path) -> Path:
    """What the compiler calls the model that it makes of another one, in the same folder."""
    return path.with_name(f"{path.stem}{SUFFIX}")


def command(path: Path, *, runtime: int = NEWEST_RUNTIME) -> str:
    """The command to run where the compiler is installed, as one types it.

    Args:
        path: the int8 model.
        runtime: the oldest Edge TPU runtime that it has to run on.
    """
    folder = path.parent
    return shlex.join([PROGRAM, *_options(runtime), "-o", str(folder), str(path)])


def _options(runtime: int) -> list[str]:
    return ["-s", *(["-m", str(runtime)] if runtime != NEWEST_RUNTIME else [])]


def compile_model(
    model: ModelFile, *, runtime: int = NEWEST_RUNTIME, program: str | None = None, timeout_s: float = _TIMEOUT_S
) -> Compiled:
    """Run the compiler.

    It gets the flatbuffer alone: what edgekit writes behind it would be lost, and what announces it would then be wrong.

    Args:
        model: a quantised model that was not compiled yet.
        runtime: the oldest Edge TPU runtime that it has to run on.
        program: the compiler; ``None`` for the one that is installed.
        timeout_s: seconds after which it is stopped.

    Raises:
        ConversionError: the compiler is not installed, cannot be run, did not finish, or made no model; the message says why.
    """
    program = program or find_compiler()
    if program is None:
        raise ConversionError(f"edgetpu_compiler is not installed: {INSTALL}.")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        source = Path(folder) / "model.tflite"
        source.write_bytes(plain(model))
        limit = str(max(1, round(timeout_s)))  # its own is three minutes, which large models need more than
        code, text = _run([program, *_options(runtime), "-t", limit, "-o", folder, str(source)], folder, timeout_s)
        made = compiled_path(source)
        if not made.is_file():
            raise log.failure(text, code)
        content, table = made.read_bytes(), made.with_suffix(".log")
        if "Status" not in text and table.is_file():  # without -s the table stands in the log only
            text += table.read_text(encoding="utf-8", errors="replace")
    return Compiled(content, log.read(text), text)


def _run(arguments: Sequence[str], folder: str, timeout_s: float) -> tuple[int, str]:
    """Run a program that starts processes of its own, all of which end with it."""
    try:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConversionError(f"{arguments[0]} cannot be run: {reason}. {INSTALL}.") from error
    with process:  # closes the pipe and waits
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ConversionError(
                f"edgetpu_compiler did not finish within {timeout_s:g} s and was stopped: the model may be too large for it."
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
    return process.returncode, output.decode("utf-8", errors="replace")

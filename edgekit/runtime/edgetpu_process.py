"""The process in which libedgetpu is tried, as the program sees it: started, asked once, listened to with a deadline, ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from edgekit.errors import EngineError
from edgekit.runtime import edgetpu_child
from edgekit.runtime.edgetpu_reasons import Heard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.modelfile import ModelFile

#: Starting Python and importing the interpreter's package takes seconds on a small device.
START_SECONDS = 60.0
#: So many bytes of what it prints are kept, the last ones; and so many answers, the first ones.
_LOG_BYTES = 64 << 10
_MAX_LINES = 64
_MAX_LINE_BYTES = 64 << 10


def listen(
    library: str,
    options: Mapping[str, str],
    model: ModelFile | None,
    *,
    seconds: float,
    python: str | None,
    engine: str | None,
) -> Heard:
    """Try a library in a process of its own.

    Args:
        library: what it loads.
        options: what the library is given.
        model: what it runs, or ``None``.
        seconds: how long it may take once Python has started.
        python: another Python than this one.
        engine: the interpreter; ``None`` for the first that the process can import.

    Raises:
        EngineError: it cannot be started.
    """
    if python is None and not sys.executable:
        raise EngineError("the Edge TPU cannot be tried: this Python does not know its own program (sys.executable).")
    content = model.content if model is not None else b""
    request = {
        "library": library,
        "options": dict(options),
        "engine": engine or "",
        "seconds": seconds + START_SECONDS,
        "model_bytes": len(content),
    }
    try:
        process = subprocess.Popen(
            _command(python),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=os.name == "posix",  # Ctrl-C is for the program; and what it starts itself ends with it
        )
    except OSError as error:
        raise EngineError(
            f"the Edge TPU cannot be tried: {python or sys.executable} cannot be started ({error.strerror or error})."
        ) from error
    answers: queue.Queue[bytes | None] = queue.Queue()
    log = bytearray()
    threads = [
        threading.Thread(
            target=_send, args=(process.stdin, json.dumps(request).encode() + b"\n" + content), daemon=True
        ),
        threading.Thread(target=_hear, args=(process.stdout, answers), daemon=True),
        threading.Thread(target=_keep, args=(process.stderr, log), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        lines, ended = _until_done(answers, seconds)
        code = _code(process) if ended else None
    finally:
        _end(process)
        for thread in threads:
            thread.join(1.0)
    return Heard(tuple(lines), bytes(log).decode("utf-8", "replace"), code, seconds)


def _command(python: str | None) -> list[str]:
    script = edgetpu_child.__file__
    if python is not None:
        return [python, "-I", "-B", script]
    # Isolated from the environment's Python settings, with this process's own search path: the same packages.
    start = (
        "import runpy, sys; sys.path[:] = sys.argv[2:]; sys.argv[1:] = []; runpy.run_path({!r}, run_name='__main__')"
    )
    paths = [os.path.abspath(path) for path in sys.path]
    return [sys.executable, "-I", "-B", "-c", start.format(script), "--", *paths]


def _until_done(answers: queue.Queue[bytes | None], seconds: float) -> tuple[list[Mapping[str, Any]], bool]:
    """What it said, and whether it came to an end in time."""
    lines: list[Mapping[str, Any]] = []
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            line = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return lines, False
        if line is None:
            return lines, True
        with contextlib.suppress(ValueError):  # cut short by a crash
            about = json.loads(line)
            if isinstance(about, dict) and len(lines) < _MAX_LINES:
                lines.append(about)
                if about.get("ready"):
                    deadline = time.monotonic() + seconds


def _send(pipe: IO[bytes] | None, content: bytes) -> None:
    assert pipe is not None
    with contextlib.suppress(OSError):  # it is gone
        pipe.write(content)
        pipe.close()


def _hear(pipe: IO[bytes] | None, answers: queue.Queue[bytes | None]) -> None:
    assert pipe is not None
    with contextlib.suppress(OSError, ValueError):
        for _ in range(_MAX_LINES * 4):
            line = pipe.readline(_MAX_LINE_BYTES)
            if not line:
                break
            answers.put(line)
    answers.put(None)


def _keep(pipe: IO[bytes] | None, log: bytearray) -> None:
    assert pipe is not None
    with contextlib.suppress(OSError, ValueError):
        while True:
            part = pipe.read1(1 << 14)  # type: ignore[attr-defined]  # a buffered reader has it, IO does not say so
            if not part:
                return
            log += part
            del log[:-_LOG_BYTES]


def _code(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(5.0)
    except subprocess.TimeoutExpired:
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and all that it started. Once it was waited for, its number may be another's."""
    if process.returncode is None:
        with contextlib.suppress(OSError):
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()

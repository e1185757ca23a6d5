"""A try of something that may crash or hang, in a process of its own: started, fed, waited for, ended.

Native drivers are tried in such a process before this one trusts them. The process says what it is doing before it does it, so that
its end can be told as "died of SIGSEGV while it compiled the model"; what it and the native code printed is kept, up to a
limit. Nothing here waits without an end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

from edgekit.errors import EngineError
from edgekit.records import Record

#: The process's answer is a few lines; more is none.
_ANSWER_BYTES = 1 << 20
#: So much of the beginning and of the end of what it printed is kept: drivers may print without end.
_SAID_BYTES = 64 << 10
#: How long the process may take to end when it was killed, and a pipe to close then: a driver's helper process may hold it open.
_PATIENCE_SECONDS = 2.0
#: The process ends itself so long after its time, for a program that is gone.
_GRACE_SECONDS = 5.0
_LENGTH = struct.Struct("<Q")
_START = (
    "import sys; from importlib import import_module; name = sys.argv[1]; sys.path[:] = sys.argv[2:]; "
    "import_module(name).main()"
)


class Trial(Record):
    """How a try ended.

    Attributes:
        result: what it found; ``None`` when it did not come so far.
        stage: what it was doing last, as in "while it compiled the model".
        said: what it and native code printed.
        signal: the signal that ended it, such as ``"SIGSEGV"``; ``None`` when none did.
        code: its exit code; ``None`` when a signal ended it.
        timed_out: whether it was ended because its time was up.
    """

    result: Mapping[str, Any] | None
    stage: str
    said: str
    signal: str | None = None
    code: int | None = None
    timed_out: bool = False

    def how_it_ended(self) -> str:
        """The end of a process that gave no result, for a sentence about it."""
        if self.timed_out:
            return f"it was not done in time while it {self.stage}, and was ended"
        if self.signal is not None:
            return f"it was ended by {self.signal} ({_WHY.get(self.signal, 'a signal')}) while it {self.stage}"
        return f"it ended with exit code {self.code} while it {self.stage}"


_WHY = {
    "SIGSEGV": "it read or wrote outside its memory",
    "SIGBUS": "it read or wrote outside its memory",
    "SIGFPE": "it divided by zero",
    "SIGABRT": "native code gave up",
    "SIGILL": "an illegal instruction",
    "SIGKILL": "somebody killed it, perhaps the system for want of memory",
    "SIGALRM": "its time was up",
}


def run_trial(module: str, about: Mapping[str, Any], body: bytes, *, timeout_s: float) -> Trial:
    """Run ``main()`` of a module in a new process and wait for its result.

    Args:
        module: what to import there; its ``main()`` begins with ``enter()``.
        about: for ``enter()``; JSON.
        body: for ``enter()``; a model's bytes.
        timeout_s: seconds for all of it; it is ended after that.

    Raises:
        EngineError: it cannot be started.
    """
    import subprocess
    import threading

    if not sys.executable:
        raise EngineError("a process for a try cannot be started: this Python does not know its own program.")
    # Isolated from the environment, with this process's own search path: the same edgekit and the same packages.
    command = [sys.executable, *(["-B"] if sys.dont_write_bytecode else []), "-I", "-c", _START, module]
    command += [os.path.abspath(path) for path in sys.path]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the program; and a driver's own processes end with this one
        )
    except OSError as error:
        raise EngineError(f"a process for a try cannot be started: {sys.executable} ({error}).") from error
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    head = json.dumps({"about": dict(about), "seconds": timeout_s + _GRACE_SECONDS}).encode()
    answer, said = _Kept(_ANSWER_BYTES), _Kept(_SAID_BYTES)
    threads = [
        threading.Thread(target=_write, args=(process.stdin, [_LENGTH.pack(len(head)), head, body]), daemon=True),
        threading.Thread(target=answer.listen, args=(process.stdout,), daemon=True),
        threading.Thread(target=said.listen, args=(process.stderr,), daemon=True),
    ]
    timed_out = False
    try:
        for thread in threads:
            thread.start()
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        _end(process)
        for thread in threads:
            thread.join(_PATIENCE_SECONDS)
        for pipe, thread in zip((process.stdin, process.stdout, process.stderr), threads, strict=True):
            if not thread.is_alive():  # closing under a thread that reads would wait for it
                with contextlib.suppress(OSError):  # a broken pipe
                    pipe.close()
    stage, result = _understood(answer.text())
    code = process.returncode  # None when not even SIGKILL ended it in time: it waits for a device in the kernel
    timed_out = timed_out or code is None
    return Trial(
        result=None if timed_out else result,
        stage=stage,
        said=said.text(),
        signal=_signal_name(code) if code is not None and code < 0 and not timed_out else None,
        code=code if code is not None and code >= 0 else None,
        timed_out=timed_out,
    )


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _end(process: Any) -> None:
    """End the process and whatever it has started, and do not wait for ever: a driver may hold it in the kernel."""
    import subprocess

    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_SECONDS)


def _write(pipe: IO[bytes], parts: list[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):  # it is gone: its end says why
        for part in parts:
            pipe.write(part)
        pipe.close()


class _Kept:
    """The beginning and the end of what comes through a pipe."""

    def __init__(self, most: int) -> None:
        self._most, self._head, self._tail = most, b"", b""

    def listen(self, pipe: IO[bytes]) -> None:
        """Read until the other side closes."""
        with contextlib.suppress(OSError, ValueError):
            while part := os.read(pipe.fileno(), 1 << 16):
                free = self._most - len(self._head)
                self._head += part[:free]
                self._tail = (self._tail + part[free:])[-self._most :]

    def text(self) -> str:
        """What was kept."""
        return (self._head + self._tail).decode(errors="replace")


def _understood(answer: str) -> tuple[str, Mapping[str, Any] | None]:
    """The last stage and the result; what is no such line is not believed."""
    stage, result = "started", None
    for line in answer.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("stage"), str):
            stage = value["stage"]
        elif isinstance(value, dict) and isinstance(value.get("result"), dict):
            result = value["result"]
    return stage, result


def enter() -> tuple[dict[str, Any], bytes, Callable[[str], None], Callable[[dict[str, Any]], None]]:
    """In the process of a try: what it was given, and how it answers.

    Standard output becomes standard error, so that nothing which native code prints is taken for an answer, and a timer ends the
    process when the program that waits for it is gone.

    Returns:
        ``about`` and ``body`` of ``run_trial``; a function that says what is done next, in the past tense ("loaded the model"); one
        that gives the result, which must be JSON.
    """
    answering = os.dup(1)
    os.dup2(2, 1)
    given = sys.stdin.buffer.read()
    (size,) = _LENGTH.unpack_from(given)
    start = _LENGTH.size + size
    head = json.loads(given[_LENGTH.size : start])
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, head["seconds"])
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # when memory runs out, Linux ends this process and not the program

    def tell(**said: Any) -> None:
        os.write(answering, json.dumps(said).encode() + b"\n")

    return head["about"], given[start:], lambda stage: tell(stage=stage), lambda result: tell(result=result)

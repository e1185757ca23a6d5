"""``Link``: a connection by the system's own ``ssh``, with the agent at its other end, and what its errors mean.

Nothing here weakens what the user's configuration says of host keys. There is one connection for everything, so that a passphrase is asked
for once; a connection that the user's configuration shares is used, and none is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgekit.bench.remote.agent import program
from edgekit.bench.remote.destination import Destination
from edgekit.bench.remote.errors import ConnectionLost, RemoteError
from edgekit.errors import OptionError

#: Names another program than ``ssh``, with arguments: ``ssh -F file``.
SSH_VARIABLE = "EDGEKIT_SSH_COMMAND"
_OPTIONS = (
    "ConnectTimeout=15",
    # A dead line is noticed after 40 s.
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    # The connection is closed at the end; one that is shared already is used.
    "ControlMaster=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "LogLevel=INFO",
)
#: The device says something at least every five seconds, except where a step names a longer time.
_SILENCE_S = 60.0
_OPENING_S = 90.0
#: What ssh ends with when the connection failed; else it is what the program there ended with.
_SSH_FAILED = 255
_MARK = "edgekit-remote:"
#: Where docs/raspberry-pi.md puts edgekit; then the system's own, which has the system's packages.
PYTHONS = (
    "edgekit-env/bin/python",
    "python3",
    "python3.13",
    "python3.12",
    "python3.11",
    "python3.10",
    "python3.14",
    "python",
)
# The login shell may be any: this line means the same to all of them. It holds nothing that came from outside; candidates come on stdin, end
# with an empty line, and are followed by the length of the agent and the agent.
_READ = "import sys; i=sys.stdin.buffer; all(iter(lambda: len(i.readline())>1, None)); exec(i.read(int(i.readline())))"
_VERSION = "import sys; print(sys.version_info[0]*100+sys.version_info[1])"
_REMOTE = (
    'exec /bin/sh -c \'seen=; while IFS= read -r p && [ -n "$p" ]; do '
    f'v=$("$p" -c "{_VERSION}" </dev/null 2>/dev/null) || continue; '
    f'if [ "$v" -ge 310 ]; then echo "{_MARK} python $p"; exec "$p" -c "{_READ}"; fi; '
    f'seen="$seen $p=$v"; done; echo "{_MARK} none$seen"\''
)


def ssh_command() -> list[str]:
    """The program and its first arguments: ``$EDGEKIT_SSH_COMMAND``, else ``ssh``.

    Raises:
        RemoteError: it is not installed.
        OptionError: the variable cannot be understood.
    """
    named = os.environ.get(SSH_VARIABLE, "").strip()
    try:
        command = shlex.split(named) if named else ["ssh"]
    except ValueError as error:
        raise OptionError(
            f"{SSH_VARIABLE} is {named!r} ({error}): a command such as ssh -F FILE was expected."
        ) from error
    found = shutil.which(command[0])
    if found is None:
        raise RemoteError(
            f"there is no {command[0]!r} here. Install OpenSSH's client (Debian and Ubuntu: apt-get install openssh-client), or name "
            f"another program in {SSH_VARIABLE}."
        )
    return [found, *command[1:]]


def on_terminal() -> bool:
    """Whether there is somebody whom ssh can ask."""
    return sys.stdin is not None and sys.stdin.isatty()


class Link:
    """A connection; a context manager that closes it.

    Args:
        destination: where to.
        python: the Python to use there; ``None`` for the first that serves.
        asks: whether ssh may ask on the terminal, for a passphrase or about a new host key.

    Attributes:
        python: the one that was found.
    """

    def __init__(self, destination: Destination, python: str | None = None, *, asks: bool = False) -> None:
        self.destination = destination
        self.python = ""
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        options = [*_OPTIONS, *(() if asks else ("BatchMode=yes",))]
        command = [*ssh_command(), "-T", *(word for item in options for word in ("-o", item)), *destination.arguments()]
        command.append(_REMOTE)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the connection
        if os.name == "posix":
            # Ctrl-C is for this program: it stops the job, for which it needs the connection. ssh leaves a signal ignored that it finds so.
            command = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr)
        try:
            threading.Thread(target=self._receive, name="edgekit-ssh", daemon=True).start()
            self._open(python, None if asks else _OPENING_S)
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, python: str | None, limit_s: float | None) -> None:
        if python is not None and (not python.strip() or any(letter in python for letter in "\r\n\0")):
            raise OptionError(f"{python!r} is no path of a Python on the device.")
        candidates = PYTHONS if python is None else (python[2:] if python.startswith("~/") else python,)
        code = program()
        head = "".join(f"{candidate}\n" for candidate in candidates)
        self._write(f"{head}\n{len(code)}\n".encode() + code)
        noise: list[str] = []
        limit = None if limit_s is None else time.monotonic() + limit_s
        while (line := self._next(None if limit is None else limit - time.monotonic())) is not None:
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if not text.startswith(_MARK):
                noise.append(text)
                continue
            kind, _, rest = text[len(_MARK) :].strip().partition(" ")
            if kind != "python":
                raise RemoteError(_no_python(self.destination, PYTHONS if python is None else (python,), rest))
            self.python = rest
            self._wait_until_ready()
            return
        raise self._lost(noise)

    def _wait_until_ready(self) -> None:
        while True:
            line = self._next(_SILENCE_S)
            if line is None:
                raise self._lost([])
            if b'"ready"' in line:
                return

    def ask(self, do: str, *, payload: bytes = b"", silence_s: float = _SILENCE_S, **values: Any) -> dict[str, Any]:
        """Ask the agent for one thing.

        Args:
            do: what, see ``agent.serve.Agent``.
            payload: bytes that belong to it.
            silence_s: how long it may take.
            values: the rest of the request.

        Raises:
            ConnectionLost: there was no answer.
        """
        *_, answer = self.answers(do, payload=payload, silence_s=silence_s, **values)
        return dict(answer)

    def answers(
        self, do: str, *, payload: bytes = b"", silence_s: float = _SILENCE_S, **values: Any
    ) -> Iterator[Mapping[str, Any]]:
        """Ask the agent for something that has several answers; the last one has the key ``answer``.

        Args:
            do: see ``ask``, as the others.
            payload: see there.
            silence_s: how long there may be none.
            values: see there.
        """
        self.tell(do, payload=payload, **values)
        yield from self.more(silence_s)

    def more(self, silence_s: float = _SILENCE_S) -> Iterator[Mapping[str, Any]]:
        """The further answers to the last question, where reading them was interrupted.

        Args:
            silence_s: see ``ask``.
        """
        while True:
            line = self._next(silence_s)
            if line is None:
                raise self._lost([])
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # what a program of the login wrote in between
            if isinstance(answer, dict):
                yield answer
                if "answer" in answer:
                    return

    def tell(self, do: str, *, payload: bytes = b"", **values: Any) -> None:
        """Send a request and wait for nothing.

        Args:
            do: see ``ask``, as the others.
            payload: see there.
            values: see there.
        """
        self._write(json.dumps({"do": do, "bytes": len(payload), **values}).encode() + b"\n" + payload)

    def close(self) -> None:
        """End the connection; the agent ends with it."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.wait(timeout=3)
        self.kill()

    def kill(self) -> None:
        """End the connection at once."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._stderr.close()

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as error:
            # What was said before the end, such as that there is no Python, is still to be read.
            if self.python:
                raise self._lost([]) from error

    def _receive(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def _next(self, limit_s: float | None) -> bytes | None:
        """The next line; ``None`` when there is none any more, or none for so long."""
        try:
            return self._lines.get(timeout=None if limit_s is None else max(0.0, limit_s))
        except queue.Empty:
            self._process.kill()
            return None

    def _lost(self, noise: Sequence[str]) -> RemoteError:
        """What to raise when the connection has ended."""
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.seek(0)
        said = [line.strip() for line in self._stderr.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if self.python and self._process.returncode not in (0, _SSH_FAILED) and self._process.returncode > 0:
            # Not the connection: the program there ended, and would again.
            return RemoteError(
                f"{self.python} on {self.destination} ended: {said[-1] if said else 'it said nothing'}. It must be a whole Python, with all "
                "of its standard library (Debian and Ubuntu: python3, not python3-minimal)."
            )
        return translated(self.destination, said or [line for line in noise if line.strip()], opened=bool(self.python))


def translated(destination: Destination, said: Sequence[str], *, opened: bool) -> RemoteError:
    """What ssh's last words mean, and what to do.

    Args:
        destination: where it was to go.
        said: its lines.
        opened: whether the connection had been there.

    Returns:
        The error; a ``ConnectionLost`` where trying again may help.
    """
    last = said[-1] if said else "nothing"
    quoted = f"ssh said: {last}"
    text = "\n".join(said)
    login = " ".join(
        [os.environ.get(SSH_VARIABLE, "").strip() or "ssh", *(word for word in destination.arguments() if word != "--")]
    )
    host = destination.host if destination.port is None else f"[{destination.host}]:{destination.port}"
    if opened:
        return ConnectionLost(f"the connection to {destination} ended. {quoted}")
    if "IDENTIFICATION HAS CHANGED" in text:
        return RemoteError(
            f"the host key of {destination} is another one than before: the machine was set up anew, or somebody stands in between. "
            f"Find out which; if it is the former, remove the old key (ssh-keygen -R '{host}') and log in once with {login}. {quoted}"
        )
    if "Host key verification failed" in text or "host key is known" in text:
        return RemoteError(
            f"the host key of {destination} is not known here, so that it could be any machine. Log in once with {login}, compare the key's "
            f"fingerprint, and accept it. {quoted}"
        )
    if "Permission denied" in text or "Too many authentication failures" in text:
        return RemoteError(
            f"{destination} does not let you in: the wrong user, or no key that it knows. {login} must work without a password "
            f"(ssh-copy-id puts your key there, ssh-add opens one with a passphrase). {quoted}"
        )
    if "Could not resolve hostname" in text:
        return ConnectionLost(
            f"there is no machine called {destination.host!r}: check the spelling and the network. {quoted}"
        )
    if "Connection refused" in text:
        return ConnectionLost(
            f"{destination} answers, but no SSH server does at that port: start it there (Raspberry Pi: raspi-config), or name its "
            f"port. {quoted}"
        )
    if "timed out" in text or "No route to host" in text or "unreachable" in text:
        return ConnectionLost(f"{destination} does not answer: check that it is on and in reach. {quoted}")
    if "onfiguration option" in text or "Bad owner or permissions" in text or "Can't open user config" in text:
        return RemoteError(f"ssh does not accept its configuration. {quoted}")
    return ConnectionLost(f"no connection to {destination}: {login} must give a shell there. {quoted}")


def _no_python(destination: Destination, candidates: Sequence[str], found: str) -> str:
    versions = []
    for item in found.split():
        name, _, number = item.rpartition("=")
        if number.isdigit():
            versions.append(f"{name} is Python {int(number) // 100}.{int(number) % 100}")
    there = "; ".join(versions) or f"none of {', '.join(candidates)} runs there"
    return (
        f"{destination} has no Python 3.10 or newer: {there}. Install one there (Debian and Ubuntu: apt-get install python3), or name one "
        "with --remote-python."
    )

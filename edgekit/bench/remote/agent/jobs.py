"""``Jobs``: processes that measure, one at a time, each in a session of its own so that it outlives the connection."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from edgekit.bench.remote.agent.places import Refused, new_lines, newest, place, private, read_json, write_json

#: What nobody fetched is removed after so long.
_DAY_S = 86400.0
_LOOK_S = 0.25
_BEAT_S = 5.0
#: A job that was asked to end has so long to write what it measured.
_GRACE_S = 20.0
#: What is written in the lock has this many bytes.
_HOLDER = 4096
_MAIN = "from edgekit.bench.remote.job import main; main()"


class Jobs:
    """The jobs below the agent's folder.

    Args:
        root: that folder.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._child: subprocess.Popen[bytes] | None = None

    def holder(self) -> dict[str, Any] | None:
        """What is written in the lock when somebody holds it; ``None`` when nobody does."""
        import fcntl  # the workstation reads this file, too, and may have no such module

        try:
            handle = os.open(os.path.join(self._root, "lock"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            # Shared, so that two who look do not take each other for a job.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                found = json.loads(os.pread(handle, _HOLDER, 0))
                if isinstance(found, dict):
                    return found
            return {"pid": 0, "key": "", "unix_s": time.time(), "what": "not known"}
        finally:
            os.close(handle)
        return None

    def lock(self) -> int:
        """The lock, held by this process.

        Raises:
            Refused: a job holds it.
        """
        import fcntl

        handle = os.open(os.path.join(self._root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(20):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:  # a job, or somebody who looks for one
                time.sleep(0.05)
        os.close(handle)
        raise Refused(json.dumps(self.holder() or {}), "busy")

    def state(self, key: str) -> dict[str, Any]:
        """Which job runs, and how one of them stands.

        Args:
            key: of that one.
        """
        folder = place(self._root, "jobs", key)
        return {
            "running": self.holder(),
            "outcome": read_json(os.path.join(folder, "outcome.json")),
            "begun": read_json(os.path.join(folder, "request.json")),
        }

    def start(self, key: str, request: dict[str, Any], what: str, environment: dict[str, str]) -> int:
        """Start a job beside this process. Only one runs at a time: two would disturb each other.

        Args:
            key: the job's name.
            request: what it reads.
            what: what it measures, for messages.
            environment: of its process.

        Returns:
            Its process.

        Raises:
            Refused: another one runs.
        """
        folder = place(self._root, "jobs", key)
        private(folder)
        lock = self.lock()
        try:
            for name in ("outcome.json", "report.json", "progress", "log"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))
            write_json(os.path.join(folder, "request.json"), {**request, "started_unix_s": time.time()})
            with open(os.path.join(folder, "log"), "ab") as log:
                self._child = subprocess.Popen(
                    [sys.executable, "-c", _MAIN, folder, str(lock)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, pass_fds=(lock,), env=environment,
                    start_new_session=True,
                )  # fmt: skip
            holder = {"pid": self._child.pid, "key": key, "unix_s": time.time(), "what": what}
            os.pwrite(lock, json.dumps(holder).encode().ljust(_HOLDER), 0)
        finally:
            os.close(lock)  # the job has its own
        return self._child.pid

    def follow(
        self, key: str, inbox: queue.Queue[tuple[dict[str, Any], bytes] | None], say: Callable[[dict[str, Any]], None]
    ) -> Any:
        """Tell a job's progress until it has ended; meanwhile a request to stop it is obeyed.

        Args:
            key: the job's name.
            inbox: requests that come in meanwhile, each with its bytes; ``None`` when the connection has ended.
            say: sends a line.

        Returns:
            Its outcome; ``None`` when it ended without one.

        Raises:
            EOFError: the connection ended first.
        """
        folder = place(self._root, "jobs", key)
        offset, told, deadline = 0, time.monotonic(), None
        while True:
            holder = self.holder()
            lines, offset = new_lines(os.path.join(folder, "progress"), offset)
            for line in lines:
                say({"progress": line})
            if holder is None or holder.get("key") != key:
                return read_json(os.path.join(folder, "outcome.json"))
            if lines or time.monotonic() - told > _BEAT_S:
                say({"alive": True})
                told = time.monotonic()
            if deadline is not None and time.monotonic() > deadline:
                _kill(holder["pid"], signal.SIGKILL, group=True)
            try:
                received = inbox.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if received is None:
                raise EOFError
            if received[0]["do"] == "stop":
                deadline = time.monotonic() + _GRACE_S
                _kill(holder["pid"], signal.SIGINT)

    def stop(self) -> dict[str, Any] | None:
        """End the job that runs, by force if need be.

        Returns:
            What was written in the lock; ``None`` when none ran.
        """
        stopped = self.holder()
        for seconds, how in ((_GRACE_S, signal.SIGINT), (5.0, signal.SIGKILL)):
            limit = time.monotonic() + seconds
            holder = self.holder()
            if holder is not None:
                _kill(holder["pid"], how, group=how == signal.SIGKILL)
            while time.monotonic() < limit and self.holder() is not None:
                time.sleep(_LOOK_S)
        return stopped

    def forget(self) -> None:
        """Remove what nobody fetched for a day."""
        holder = self.holder() or {}
        for kind in ("jobs", "incoming"):
            folder = os.path.join(self._root, kind)
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                path = os.path.join(folder, name)
                if name != holder.get("key") and time.time() - newest(path) > _DAY_S:
                    shutil.rmtree(path, ignore_errors=True)


def _kill(process: int, how: int, *, group: bool = False) -> None:
    if process > 1:  # 0 and below are groups
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.killpg if group else os.kill)(process, how)

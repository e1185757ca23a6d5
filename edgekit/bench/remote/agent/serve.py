"""``Agent``: reads requests from standard input and answers them on standard output until the connection ends."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import zlib
from typing import Any, BinaryIO

from edgekit.bench.remote.agent.facts import machine
from edgekit.bench.remote.agent.jobs import Jobs
from edgekit.bench.remote.agent.places import SAFE, Refused, default_root, place, private, translated, unpack

#: An older edgekit that nobody used is removed after a day, any other package after a month.
_DAY_S = 86400.0
_MONTH_S = 30 * _DAY_S
_CHUNK = 1 << 18
_LOG_TAIL = 1 << 20
_CHECK_S = 600.0
_CLEAN_TRIES = 5
_IMPORT = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"


class Agent:
    """What can be asked for: each method ``do_x`` takes a request ``{"do": "x", …}`` with its bytes, and gives the answer.

    Args:
        root: the folder for everything; ``None`` for the one in the user's cache folder.
    """

    def __init__(self, root: str | None = None) -> None:
        self.root = root or default_root()
        self.jobs = Jobs(self.root)
        self._inbox: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue()

    def run(self) -> None:
        """Read requests and answer them, one after the other."""
        threading.Thread(target=self._receive, daemon=True).start()
        with contextlib.suppress(EOFError):
            while (received := self._inbox.get()) is not None:
                request, payload = received
                try:
                    answer = getattr(self, f"do_{request['do']}")(request, payload)
                except Refused as error:
                    answer = {"error": str(error), "kind": error.kind}
                except OSError as error:
                    answer = translated(error, self.root)
                say({"answer": request["do"], **answer})

    def _receive(self) -> None:
        stream = sys.stdin.buffer
        while line := stream.readline():
            try:
                request = json.loads(line)
                payload = _exactly(stream, int(request.get("bytes", 0)))
            except ValueError:
                break
            if payload is None:
                break
            self._inbox.put((request, payload))
        self._inbox.put(None)

    def do_hello(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """What this machine is, and what is installed on it; what nobody fetched is thrown away."""
        if request.get("root"):
            # A folder of our own below it: cleaning removes it.
            self.root = os.path.join(os.path.abspath(os.path.expanduser(request["root"])), "edgekit-remote")
            self.jobs = Jobs(self.root)
        private(self.root)
        self.jobs.forget()
        return {**machine(), "root": self.root, "free_bytes": shutil.disk_usage(self.root).free}

    def do_clock(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """What time it is here."""
        return {"unix_s": time.time()}

    def do_have(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Which packages are here, and how much room is left."""
        folder = os.path.join(self.root, "packages")
        present = [name for name in os.listdir(folder) if SAFE.fullmatch(name)] if os.path.isdir(folder) else []
        return {"present": sorted(present), "free_bytes": shutil.disk_usage(self.root).free}

    def do_sizes(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """How much of each file is here: -1 for all of it."""
        sizes = {}
        for name in request["files"]:
            path = place(self.root, *request["folder"], name)
            part = f"{path}.part"
            sizes[name] = -1 if os.path.exists(path) else os.path.getsize(part) if os.path.exists(part) else 0
        return {"sizes": sizes}

    def do_put(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Take a piece of a file; after the last one its hash, which is its name, must be right."""
        path = place(self.root, *request["folder"], request["sha256"])
        part = f"{path}.part"
        private(os.path.dirname(path))
        with open(part, "r+b" if os.path.exists(part) else "wb") as file:
            file.truncate(request["offset"])
            file.seek(request["offset"])
            file.write(payload)
        if request["offset"] + len(payload) < request["size"]:
            return {}
        with open(part, "rb") as file:
            whole = hashlib.sha256()
            while piece := file.read(_CHUNK):
                whole.update(piece)
        if whole.hexdigest() != request["sha256"]:
            os.unlink(part)
            raise Refused("a file did not arrive as it was sent", "damaged")
        os.replace(part, path)
        return {"whole": True}

    def do_unpack(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Unpack a wheel that was sent."""
        archive = place(self.root, *request["folder"], request["sha256"])
        try:
            unpack(archive, place(self.root, "packages", request["name"]))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(archive)
        return {}

    def do_check(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Import what measuring needs in a process of its own, which also compiles it."""
        try:
            done = subprocess.run(
                [sys.executable, "-c", _IMPORT, *request["modules"]],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                cwd=self.root, env=self._environment(request["packages"]), timeout=_CHECK_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Refused(f"importing {', '.join(request['modules'])} took more than {_CHECK_S:.0f} s") from error
        if done.returncode == 0:
            return {}
        lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
        raise Refused(_ended_by(-done.returncode) if done.returncode < 0 else (lines or ["nothing"])[-1], "import")

    def do_state(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Which job runs, and how this one stands."""
        return self.jobs.state(request["key"])

    def do_start(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Start a job."""
        environment = self._environment(request["packages"])
        return {"pid": self.jobs.start(request["key"], request["request"], request["what"], environment)}

    def do_follow(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Tell a job's progress until it has ended."""
        return {"outcome": self.jobs.follow(request["key"], self._inbox, say)}

    def do_collect(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Send a file of a job, compressed; of a log only the end."""
        path = place(self.root, "jobs", request["key"], request["name"])
        try:
            with open(path, "rb") as file:
                if request["name"] == "log":
                    file.seek(max(0, os.path.getsize(path) - _LOG_TAIL))
                data = zlib.compress(file.read())
        except FileNotFoundError:
            return {"missing": True}
        for start in range(0, len(data), _CHUNK):
            say({"chunk": base64.b64encode(data[start : start + _CHUNK]).decode()})
        return {}

    def do_remove(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Remove a job with its models, and packages that are not used any more."""
        holder = self.jobs.holder()
        if holder is not None and holder.get("key") == request["key"]:
            raise Refused("the job still runs", "busy")
        for kind in ("jobs", "incoming"):
            shutil.rmtree(place(self.root, kind, request["key"]), ignore_errors=True)
        folder = os.path.join(self.root, "packages")
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            limit = _DAY_S if name.startswith(("edgekit-", ".new-")) else _MONTH_S
            path = os.path.join(folder, name)
            if name not in request["packages"] and time.time() - os.path.getmtime(path) > limit:
                shutil.rmtree(path, ignore_errors=True)
        return {}

    def do_clean(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Stop what runs, and remove everything of edgekit's."""
        stopped = self.jobs.stop()
        size = sum(os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(self.root) for name in names)
        for name in ("packages", "incoming", "jobs", "cache"):
            path, tries = os.path.join(self.root, name), 0
            while os.path.isdir(path):  # again where somebody wrote there meanwhile
                tries += 1
                shutil.rmtree(path, ignore_errors=tries < _CLEAN_TRIES)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.root, "lock"))
        with contextlib.suppress(OSError):  # there is something else in it
            os.rmdir(self.root)
            if os.path.basename(os.path.dirname(self.root)) == "edgekit":
                os.rmdir(os.path.dirname(self.root))
        return {"bytes": size, "stopped": stopped}

    def _environment(self, packages: list[str]) -> dict[str, str]:
        """This process's, with the packages first on the path and edgekit's own cache below the folder."""
        paths = [place(self.root, "packages", name) for name in packages]
        for name, path in zip(packages, paths, strict=True):
            if not os.path.isdir(path):
                raise Refused(f"the package {name} is not there any more", "damaged")
            os.utime(path)  # it is used, and stays for another month
        given = os.environ.get("PYTHONPATH")
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*paths, *([given] if given else [])]),
            "EDGEKIT_CACHE_DIR": os.path.join(self.root, "cache"),
        }


def say(answer: dict[str, Any]) -> None:
    """Send one line.

    Args:
        answer: what to say.

    Raises:
        EOFError: nobody listens any more.
    """
    try:
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    except OSError as error:
        raise EOFError from error


def _exactly(stream: BinaryIO, count: int) -> bytes | None:
    data = stream.read(count) if count else b""
    return data if len(data) == count else None


def _ended_by(number: int) -> str:
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"was killed by signal {number}"


def main() -> None:
    """Answer until the connection ends."""
    # The thread that reads would not let Python end in order.
    try:
        say({"ready": True})
        Agent().run()
    except EOFError:
        pass
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)

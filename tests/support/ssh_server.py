"""A real OpenSSH server on loopback, with keys of its own and an account that holds nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import importlib.metadata
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
#: What a test without a server says.
WITHOUT = "there is no OpenSSH server here (apt-get install openssh-server)"
#: What measuring needs beside edgekit.
NEEDED = ("numpy", "ai-edge-litert", "ml-dtypes", *(("tomli",) if sys.version_info < (3, 11) else ()))


@dataclasses.dataclass
class Server:
    """A running server.

    Attributes:
        port: where it listens.
        home: the account's home folder.
        programs: the only folder on the account's path.
        folder: keys and configuration.
        process: the server.
    """

    port: int
    home: Path
    programs: Path
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it is, for ``--on``."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def command(self, *, known: str = "known_hosts", key: str = "client") -> str:
        """What ``EDGEKIT_SSH_COMMAND`` must be, so that nothing of this user's own is read.

        Args:
            known: the file with known hosts.
            key: the file with the client's key.
        """
        config = self.folder / f"config-{known}-{key}"
        config.write_text(
            f"UserKnownHostsFile {self.folder / known}\nGlobalKnownHostsFile /dev/null\nIdentityFile {self.folder / key}\n"
            "IdentitiesOnly yes\nIdentityAgent none\nPreferredAuthentications publickey\nStrictHostKeyChecking ask\n"
        )
        return f"ssh -F {shlex.quote(str(config))}"

    @property
    def place(self) -> Path:
        """Where edgekit keeps things in the account."""
        return self.home / ".cache" / "edgekit" / "remote"

    def sessions(self) -> list[int]:
        """The server's processes for connections."""
        return [process for process in children(self.process.pid) if _words(process)[:4] == b"sshd"]

    def cut(self) -> None:
        """End every connection at once."""
        for process in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def python(self, name: str = "python3") -> Path:
        """Give the account this Python, without the packages that are installed here.

        Args:
            name: what to call it.
        """
        environment = self.folder / "environment"
        if not environment.is_dir():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        program = self.programs / name
        program.unlink(missing_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(environment / "bin" / "python"))} "$@"\n')
        program.chmod(0o755)
        return program


def _words(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def children(process: int) -> list[int]:
    """All processes below another one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == process:
                    found += [int(entry.name), *children(int(entry.name))]
    return found


def jobs_of(server: Server, what: bytes = b"edgekit.bench") -> list[int]:
    """Processes that measure for a server's account.

    Args:
        server: the server.
        what: words of their command lines.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                environment = (entry / "environ").read_bytes()
                words = (entry / "cmdline").read_bytes()
                if f"HOME={server.home}".encode() in environment.split(b"\0") and what in words:
                    found.append(int(entry.name))
    return found


@contextlib.contextmanager
def serving(folder: Path, *, home: Path | None = None) -> Iterator[Server]:
    """Run a server while the block runs.

    Args:
        folder: for everything.
        home: the account's home folder; ``None`` for an empty one.
    """
    assert SSHD is not None
    folder.chmod(0o700)
    home = home or folder / "home"
    programs = folder / "programs"
    for place in (home, programs):
        place.mkdir(exist_ok=True)
    for name in ("host", "client", "other"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name], check=True, stdin=subprocess.DEVNULL
        )  # fmt: skip
    shutil.copy(folder / "client.pub", folder / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if os.getuid() == 0:  # it locks processes in there before they have logged in
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nAuthorizedKeysFile {folder / 'authorized'}\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nPrintMotd no\nMaxStartups 100\nSetEnv HOME={home} PATH={programs}\n"
    )
    write_known(folder / "known_hosts", port, folder / "host.pub")
    write_known(folder / "wrong_hosts", port, folder / "other.pub")
    (folder / "no_hosts").write_text("")
    log = (folder / "log").open("wb")
    with log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        _wait_for(port, process, folder / "log")
        yield Server(port, home, programs, folder, process)
    finally:
        server = Server(port, home, programs, folder, process)
        for left in [*jobs_of(server), *server.sessions()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        process.kill()
        process.wait()


def write_known(path: Path, port: int, key: Path) -> None:
    """Write a file of known hosts with one host in it."""
    path.write_text(f"[127.0.0.1]:{port} {' '.join(key.read_text().split()[:2])}\n")


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + 20
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the SSH server did not start: {log.read_text()}")


def wheels_of_this_environment(folder: Path) -> Path:
    """Wheels of what is installed here, so that no test needs a network.

    Args:
        folder: where to.
    """
    for name in NEEDED:
        distribution = importlib.metadata.distribution(name)
        text = distribution.read_text("WHEEL") or ""
        tag = next(line.partition(": ")[2] for line in text.splitlines() if line.startswith("Tag: "))
        # One tag of several says enough here: this Python, this system.
        plain = tag if tag.endswith("-any") else f"{'-'.join(tag.split('-')[:2])}-linux_{os.uname().machine}"
        path = folder / f"{name.replace('-', '_')}-{distribution.version}-{plain}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
            for file in distribution.files or ():
                source = Path(str(distribution.locate_file(file)))
                if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                    wheel.write(source, file.as_posix())
    return folder


class Proxy:
    """A port in front of another one, whose line can be cut or made dead.

    Args:
        target: the port behind it.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lines: list[socket.socket] = []
        self.connections = 0
        self.refuses = False
        self.cut_after: int | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            for line in self._lines:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
                line.close()
            self._lines.clear()

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread that accepts
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                if self.refuses:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._lines += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, sink, source is client), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counted and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        self.cut_after = None
                        self.cut()
                        return
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

"""Making an environment: so that an interruption at any moment costs little and leaves nothing half-made in use.

Each package is fetched by itself and kept, so that the next call goes on where this one ended. They are installed together at
the end, without network; what was interrupted there is installed anew. The file that says that the environment is ready is
written last.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edgekit.errors import ConversionError, OutputError, from_os_error
from edgekit.files import write_whole
from edgekit.report.units import size_text
from edgekit_convert.environments.lock import Lock, lock_for
from edgekit_convert.environments.place import READY, VARIABLE, Status, folder_of, python_of, status

#: Called as ``progress(step, done, total)``.
Progress = Callable[[str, int, int], None]

#: So many packages, the largest, are fetched one by one, and the others so many at once.
_LARGE, _AT_ONCE = 8, 10

#: There while packages are installed: what is then found was not finished.
_INSTALLING = "installing"


def make(name: str, progress: Progress | None = None) -> Status:
    """Make an environment, or go on making it; one that is ready is left alone.

    Args:
        name: the environment's.
        progress: called as ``progress(step, done, total)``.

    Raises:
        EdgekitError: there is none of that name or for this Python, no room, no network, or another process makes it.
    """
    lock = lock_for(name)
    folder = folder_of(name)
    tell: Progress = progress or (lambda step, done, total: None)
    with _alone(folder):
        found = status(name, measure=False)
        if found.state == "ready":
            return status(name)
        try:
            if found.state in ("outdated", "broken") or (folder / _INSTALLING).exists():
                shutil.rmtree(folder / "venv", ignore_errors=True)
            (folder / READY).unlink(missing_ok=True)
            _check_room(folder, lock)
            python = _interpreter(folder, tell)
            _fetch(folder, python, lock, tell)
            _install(folder, python, lock, tell)
            versions = _check(folder, python, lock, tell)
            made = {"lock": lock.sha256, "python": sys.version.split()[0], "versions": versions}
            write_whole(folder / READY, json.dumps(made, indent=2).encode(), overwrite=True)
            shutil.rmtree(folder / "wheels", ignore_errors=True)
        except OSError as error:
            raise from_os_error(error, folder, "write") from error
    return status(name)


def remove(name: str) -> int:
    """Remove an environment, whole or not.

    Args:
        name: the environment's.

    Returns:
        The bytes that were freed; 0 when there was none.

    Raises:
        EdgekitError: there is none of that name, or it cannot be removed.
    """
    before = status(name)
    if not before.folder.exists():
        return 0
    with _alone(before.folder):
        try:
            (before.folder / READY).unlink(missing_ok=True)
            shutil.rmtree(before.folder)
        except OSError as error:
            raise from_os_error(error, before.folder, "write") from error
    return before.disk_bytes


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the environment's lock, which ends with the process, and but for Windows with those that it started too.

    Raises:
        OutputError: the folder cannot be made, or another process holds it.
    """
    path = folder.with_name(f".{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise from_os_error(error, folder, "write") from error
    try:
        try:
            _hold(handle)
        except OSError as error:
            raise OutputError(
                f"another process is at work on {folder}. Wait until it has ended, then run the command again."
            ) from error
        yield
    finally:
        os.close(handle)


def _hold(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.set_inheritable(handle, True)


def _check_room(folder: Path, lock: Lock) -> None:
    """See that the packages fit, fetched and installed side by side."""
    have = shutil.disk_usage(folder.parent).free
    need = lock.download_bytes + lock.disk_bytes
    if have < need:
        raise OutputError(
            f"the {lock.name} environment takes up to {size_text(need)} while it is made, and {folder.parent} has "
            f"{size_text(have)} free. Free some space, or set {VARIABLE} to another folder."
        )


def _interpreter(folder: Path, tell: Progress) -> Path:
    """The environment's Python with its pip, made where it is missing."""
    python = python_of(folder)
    tell("Making the environment", 0, 0)
    if _runs([str(python), "-I", "-m", "pip", "--version"]):
        return python
    shutil.rmtree(folder / "venv", ignore_errors=True)
    (folder / "venv").parent.mkdir(parents=True, exist_ok=True)
    done = _run([sys.executable, "-I", "-m", "venv", str(folder / "venv")])
    if done.returncode != 0 or not _runs([str(python), "-I", "-m", "pip", "--version"]):
        shutil.rmtree(folder / "venv", ignore_errors=True)
        raise ConversionError(
            f"{sys.executable} cannot make a virtual environment: {_last_line(done)}. It needs the venv module with pip: on "
            "Debian and Ubuntu, `apt-get install python3-venv`."
        )
    return python


def _fetch(folder: Path, python: Path, lock: Lock, tell: Progress) -> None:
    """Bring every package into the folder ``wheels``; those that are there already are not fetched again."""
    wheels = folder / "wheels"
    partial = folder / "wheels" / "partial"
    step, total = f"Fetching {len(lock.packages)} packages", len(lock.packages)
    missing = [item for item in lock.packages if _wheel(wheels, *item) is None]
    have = total - len(missing)
    for batch in _batches(missing):
        tell(step, have, total)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        done = _pip(
            python, "download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "--dest", str(partial),
            *(f"{package}=={version}" for package, version in batch),
        )  # fmt: skip
        for item in batch:
            found = _wheel(partial, *item)
            if done.returncode != 0 or found is None:
                raise ConversionError(
                    f"pip could not fetch {' '.join(item)}: {_last_line(done)}. Check the network and pip's index "
                    f"(`pip config list`), then run `edgekit setup {lock.name}` again: the {have} packages that came are kept."
                )
            found.replace(wheels / found.name)
            have += 1
    tell(step, total, total)


def _batches(packages: Sequence[tuple[str, str]]) -> Iterator[Sequence[tuple[str, str]]]:
    """What is fetched at once.

    Large packages come by themselves, as each is kept when it is there; small ones together, as every call of pip takes seconds.
    """
    for item in packages[:_LARGE]:
        yield [item]
    for begin in range(_LARGE, len(packages), _AT_ONCE):
        yield packages[begin : begin + _AT_ONCE]


def _wheel(folder: Path, package: str, version: str) -> Path | None:
    """The wheel of a package in a folder; names are compared as PEP 503 and PEP 427 write them."""
    wanted = (re.sub(r"[-_.]+", "_", package).lower(), version)
    for path in folder.glob("*.whl"):
        name, _, rest = path.name.partition("-")
        if (re.sub(r"[-_.]+", "_", name).lower(), rest.partition("-")[0]) == wanted:
            return path
    return None


def _install(folder: Path, python: Path, lock: Lock, tell: Progress) -> None:
    tell(f"Installing {len(lock.packages)} packages", 0, 0)
    (folder / _INSTALLING).touch()
    wheels = [_wheel(folder / "wheels", package, version) for package, version in lock.packages]
    # Their dependencies are in the lock, all that are needed and no more, so that pip must not look for others.
    done = _pip(python, "install", "--no-index", "--no-deps", "--no-compile", *map(str, wheels))
    if done.returncode != 0:
        if "No space left" in done.stderr + done.stdout:
            raise OutputError(f"cannot install into {folder}: the disk is full. Free some space, and run it again.")
        raise ConversionError(f"pip could not install the {lock.name} environment: {_last_line(done)}.")
    (folder / _INSTALLING).unlink()


def _check(folder: Path, python: Path, lock: Lock, tell: Progress) -> dict[str, str]:
    """Import what was installed, and ask each package for its version."""
    tell("Trying it", 0, 0)
    code = (
        "import importlib, importlib.metadata, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print('\\n' + json.dumps({name: importlib.metadata.version(name) for name in json.loads(sys.argv[2])}))"
    )
    names = [package for package, _ in lock.packages]
    done = _run([str(python), "-I", "-c", code, json.dumps(lock.imports), json.dumps(names)])
    if done.returncode != 0:
        raise ConversionError(
            f"the {lock.name} environment was installed and does not work on this machine: {_last_line(done)}. It is kept in "
            f"{folder}; `edgekit setup {lock.name} --remove` removes it."
        )
    versions: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return versions


def _pip(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run([str(python), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments])


def _runs(command: list[str]) -> bool:
    with suppress(OSError):
        return _run(command).returncode == 0
    return False


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command whose output is wanted; pip's index and proxies come from the user's configuration."""
    # What would send packages to another place than this environment.
    stray = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PYTHONHOME", "PYTHONPATH"}
    variables = {name: value for name, value in os.environ.items() if name not in stray}
    # What outlives this process keeps its lock (of the open files only that one is inherited): pip that goes on after a kill.
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=variables, stdin=subprocess.DEVNULL, check=False,
        close_fds=False,
    )  # fmt: skip


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command said last, errors first."""
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    said = (errors or lines or [f"it ended with status {done.returncode} and said nothing"])[-1]
    return said.removeprefix("ERROR: ").rstrip(".")[:400]

"""Where an environment lies, and whether it is there."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.cache import cache_folder
from edgekit.errors import ConversionError, OutputError
from edgekit.report.units import size_text
from edgekit_convert.environments.lock import Lock, lock_for

#: Names a folder for environments, for machines whose cache folder is small.
VARIABLE = "EDGEKIT_ENVIRONMENTS_DIR"

#: Written last, so that an environment without it is not whole.
READY = "ready.json"


@dataclass(frozen=True)
class Status:
    """What there is of an environment.

    Attributes:
        name: the environment's.
        state: ``"ready"``; ``"absent"``; ``"incomplete"`` when making it was interrupted; ``"outdated"`` when another edgekit made
            it; ``"broken"`` when its Python is gone.
        folder: where it lies, or would.
        python: its interpreter.
        versions: the packages that it has, by name; empty unless ``state`` is ``"ready"`` or ``"outdated"``.
        disk_bytes: what the folder takes.
    """

    name: str
    state: str
    folder: Path
    python: Path
    versions: dict[str, str]
    disk_bytes: int

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "name": self.name,
            "state": self.state,
            "folder": str(self.folder),
            "python": str(self.python),
            "versions": self.versions,
            "disk_bytes": self.disk_bytes,
        }


def folder_of(name: str) -> Path:
    """Where an environment for this Python lies.

    Raises:
        OutputError: there is no cache folder.
    """
    base = os.environ.get(VARIABLE)
    if not base:
        cache = cache_folder()
        if cache is None:
            raise OutputError(
                f"there is no home folder to make an environment in: set {VARIABLE} to a folder with room for it."
            )
        base = os.path.join(cache, "environments")
    version = ".".join(map(str, sys.version_info[:2]))
    return Path(base).absolute() / f"{name}-python{version}"


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def status(name: str, *, measure: bool = True) -> Status:
    """What there is of an environment.

    Args:
        name: the environment's.
        measure: whether to add up what it takes on the disk, which reads the whole folder.

    Raises:
        EdgekitError: there is no environment of that name, or none for this Python.
    """
    lock = lock_for(name)
    folder = folder_of(name)
    made = _made(folder)
    versions = dict(made.get("versions", {})) if made is not None else {}
    taken = _size(folder) if measure else 0
    return Status(name, _state(lock, folder, made), folder, python_of(folder), versions, taken)


def _made(folder: Path) -> dict[str, Any] | None:
    """What was written down when it was made; ``None`` when it was not, or not to the end."""
    try:
        made = json.loads((folder / READY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return made if isinstance(made, dict) else None


def _state(lock: Lock, folder: Path, made: dict[str, Any] | None) -> str:
    if made is None:
        return "incomplete" if (folder / "venv").exists() or (folder / "wheels").exists() else "absent"
    if not python_of(folder).exists():  # a link to a Python that was removed since counts as absent
        return "broken"
    return "ready" if made.get("lock") == lock.sha256 else "outdated"


def _size(folder: Path) -> int:
    return sum(os.lstat(os.path.join(parent, file)).st_size for parent, _, files in os.walk(folder) for file in files)


def require(name: str, why: str) -> Path:
    """The interpreter of an environment that must be there.

    Args:
        name: the environment's.
        why: what needs it, as the beginning of the message.

    Raises:
        ConversionError: it is not there, or not whole; the message has the command that makes it.
    """
    found = status(name, measure=False)
    if found.state == "ready":
        return found.python
    lock = lock_for(name)
    what = {
        "absent": "which is not there yet",
        "incomplete": "and making it was interrupted",
        "outdated": "and the one that is there is another edgekit's",
        "broken": "and the Python of the one that is there is gone",
    }[found.state]
    raise ConversionError(
        f"{why} needs an environment of its own, {what}: run `edgekit setup {name}` ({size_text(lock.download_bytes)} to "
        f"download, {size_text(lock.disk_bytes)} on the disk, some minutes; nothing is installed into your own environment)."
    )

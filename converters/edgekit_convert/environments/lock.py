"""Which packages an environment has: exact versions, one TOML file for each line of Python versions."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ConversionError, one_of

_FOLDER = Path(__file__).parent / "locks"


@dataclass(frozen=True)
class Lock:
    """What is installed, and what that takes.

    Attributes:
        name: the environment's.
        purpose: what it is for, in words.
        pythons: the Python versions that the packages were tried with, such as ``("3.10", "3.11")``.
        packages: name and exact version of each, the smallest last.
        imports: modules that must be there in the end.
        download_bytes: what comes over the network.
        disk_bytes: what it takes when it is made.
        sha256: of the packages and their versions; an environment made of others is out of date.
    """

    name: str
    purpose: str
    pythons: tuple[str, ...]
    packages: tuple[tuple[str, str], ...]
    imports: tuple[str, ...]
    download_bytes: int
    disk_bytes: int
    sha256: str


def names() -> tuple[str, ...]:
    """The environments that exist."""
    return tuple(sorted({path.name.partition("-")[0] for path in _FOLDER.glob("*.toml")}))


def lock_for(name: str) -> Lock:
    """The packages of an environment for this Python.

    Args:
        name: the environment's.

    Raises:
        OptionError: there is none of that name.
        ConversionError: there is none for this Python.
    """
    one_of(name, names(), "environment")
    here = ".".join(map(str, sys.version_info[:2]))
    locks = [_read(path) for path in sorted(_FOLDER.glob(f"{name}-*.toml"))]
    for lock in locks:
        if here in lock.pythons:
            return lock
    known = ", ".join(version for lock in locks for version in lock.pythons)
    raise ConversionError(
        f"there is no {name} environment for Python {here}: its packages were tried with {known}. Install edgekit in one "
        "of these."
    )


def _read(path: Path) -> Lock:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    data = toml.loads(path.read_text(encoding="utf-8"))
    return Lock(
        name=data["name"],
        purpose=data["purpose"],
        pythons=tuple(data["pythons"]),
        packages=tuple(data["packages"].items()),
        imports=tuple(data["imports"]),
        download_bytes=data["download_bytes"],
        disk_bytes=data["disk_bytes"],
        sha256=hashlib.sha256(json.dumps(data["packages"], sort_keys=True).encode()).hexdigest(),
    )

"""What a machine is and what can be imported on it; and what tells one edgekit from another."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import struct
import sys
import sysconfig
import time
from typing import Any

#: What the three packages of edgekit are called.
PACKAGES = ("edgekit", "edgekit_convert", "edgekit_profiles")
#: Distributions that measuring needs, by the module that is imported.
MODULES = {
    "numpy": "numpy",
    "ai_edge_litert": "ai-edge-litert",
    "tflite_runtime": "tflite-runtime",
    "tensorflow": "tensorflow",
    "tomli": "tomli",
}


def machine() -> dict[str, Any]:
    """What this machine, this Python and its packages are."""
    free = sysconfig.get_config_var("Py_GIL_DISABLED")
    return {
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "implementation": sys.implementation.name,
        "abi": f"cp{sys.version_info[0]}{sys.version_info[1]}{'t' if free else ''}",
        "system": platform.system(),
        "machine": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "libc": _libc(),
        "unix_s": time.time(),
        "found": _found(),
    }


def source_hash(folders: dict[str, str]) -> str:
    """What tells one edgekit from another: a hash over the names and contents of its files.

    Args:
        folders: where each of the three packages is.
    """
    contents = {}
    for package, folder in folders.items():
        for path, name in source_files(folder):
            with open(path, "rb") as file:
                contents[f"{package}/{name}"] = file.read()
    return hash_of(contents)


def hash_of(contents: dict[str, bytes]) -> str:
    """A hash over names and contents.

    Args:
        contents: by name.
    """
    rows = [f"{name} {hashlib.sha256(contents[name]).hexdigest()}\n" for name in sorted(contents)]
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def source_files(folder: str) -> list[tuple[str, str]]:
    """The files of a package, each with its path inside, in order; compiled ones are left out.

    Args:
        folder: where the package is.
    """
    found = []
    for top, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        for name in files:
            if not name.endswith((".pyc", ".pyo")) and not name.startswith("."):
                path = os.path.join(top, name)
                found.append((path, os.path.relpath(path, folder).replace(os.sep, "/")))
    return sorted(found, key=lambda item: item[1])


def _libc() -> list[str]:
    with contextlib.suppress(ValueError, OSError, AttributeError):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if name == "glibc" and version:
            return [name, version]
    try:
        musl = any(entry.startswith("ld-musl-") for entry in os.listdir("/lib"))
    except OSError:
        musl = False
    return ["musl", "1.1"] if musl else ["unknown", ""]


def _found() -> dict[str, Any]:
    """What can be imported, found without importing it: versions, and what edgekit is."""
    sys.path[:] = [entry for entry in sys.path if entry]  # not what lies in the user's home by chance
    found: dict[str, Any] = {}
    for module, distribution in MODULES.items():
        if importlib.util.find_spec(module) is not None:
            try:
                found[module] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                found[module] = ""
    folders = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None and spec.submodule_search_locations:
            folders[package] = next(iter(spec.submodule_search_locations))
    if len(folders) == len(PACKAGES):
        with contextlib.suppress(OSError):
            found["edgekit"] = source_hash(folders)
    return found

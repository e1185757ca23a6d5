"""The base wheel: what is installed here, packed so that it can be unpacked on a device."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.bench.remote.agent.facts import PACKAGES, hash_of, source_files
from edgekit.bench.remote.errors import RemoteError
from edgekit.version import __version__

#: The oldest time that a ZIP can hold: the same files give the same bytes.
_WHEN = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Base:
    """This edgekit.

    Attributes:
        source_hash: over the names and contents of its files; the same there means the same edgekit.
        wheel: the base wheel: pure Python, without extras.
    """

    source_hash: str
    wheel: bytes


def _folders() -> dict[str, str]:
    """Where the three packages are; they are not imported."""
    found = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        places = spec.submodule_search_locations if spec is not None else None
        if not places or not Path(place := next(iter(places))).is_dir():
            raise RemoteError(
                f"the package {package} of this edgekit is not a folder here, so that it cannot be sent: install edgekit."
            )
        found[package] = place
    return found


@functools.cache
def base() -> Base:
    """Pack what is installed here.

    Raises:
        RemoteError: a part of it is not installed as files.
    """
    contents = {}
    for package, folder in _folders().items():
        for path, name in source_files(folder):
            contents[f"{package}/{name}"] = Path(path).read_bytes()
    info = f"edgekit-{__version__}.dist-info"
    head = f"Metadata-Version: 2.1\nName: edgekit\nVersion: {__version__}\n"
    kind = "Wheel-Version: 1.0\nGenerator: edgekit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {**contents, f"{info}/METADATA": head.encode(), f"{info}/WHEEL": kind.encode()}
    rows = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in sorted(files.items())]
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in sorted(files.items()):
            item = zipfile.ZipInfo(name, _WHEN)
            item.compress_type, item.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            wheel.writestr(item, content)
    return Base(hash_of(contents), data.getvalue())


def _digest(content: bytes) -> str:
    """A hash as a wheel's list of files has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()

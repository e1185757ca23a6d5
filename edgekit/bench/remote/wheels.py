"""Wheels for a device: from a folder, or downloaded here for its system and Python, so that it needs no network of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bench.remote.errors import RemoteError
from edgekit.bench.remote.needs import Device, Requirement, numbers
from edgekit.cache import cache_folder
from edgekit.errors import from_os_error

#: Older names of C library versions (PEP 513, 571, 599).
_MANYLINUX = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
#: The oldest C library that wheels of today are built for; what pip is told below that is of no use.
_OLDEST_GLIBC = 17
_PIP_S = 1800.0


@dataclass(frozen=True)
class Wheel:
    """A wheel's file.

    Attributes:
        path: where it is.
        name: the distribution's, in lower case with dashes.
        version: as in the file's name.
        sha256: of the file.
        unpacked_bytes: what it takes on the device.
    """

    path: Path
    name: str
    version: str
    sha256: str
    unpacked_bytes: int

    @classmethod
    def read(cls, path: Path) -> Wheel:
        """Look into a file.

        Raises:
            RemoteError: it is no wheel.
            EdgekitError: it cannot be read.
        """
        try:
            data = path.read_bytes()
            with zipfile.ZipFile(path) as archive:
                size = sum(item.file_size for item in archive.infolist())
        except zipfile.BadZipFile as error:
            raise RemoteError(f"{path} is damaged ({error}): fetch that wheel again.") from error
        except OSError as error:
            raise from_os_error(error, path, "read", RemoteError) from error
        name, version = path.name.split("-")[:2]
        return cls(path, _normal(name), version, hashlib.sha256(data).hexdigest(), size)

    def folder(self, device: Device) -> str:
        """What it is called on a device, where it is for one Python only."""
        version = re.sub("[^A-Za-z0-9.]", "_", self.version)
        return f"{self.name}-{version}-{device.abi}_{device.machine}-{self.sha256[:16]}"


def suits(name: str, device: Device) -> bool:
    """Whether a wheel can be used on a device, by the tags in its name (PEP 425, 600).

    Args:
        name: of the file: ``name-version(-build)-python-abi-platform.whl``; each tag may be several with dots between.
        device: what it is for.
    """
    parts = name.removesuffix(".whl").split("-")
    if not name.endswith(".whl") or len(parts) not in (5, 6):
        return False
    pythons, abis, platforms = (part.split(".") for part in parts[-3:])
    return any(_python_suits(python, abi, device) for python in pythons for abi in abis) and any(
        _platform_suits(platform, device) for platform in platforms
    )


def _python_suits(python: str, abi: str, device: Device) -> bool:
    major, minor = device.python[:2]
    if abi == "none":
        return python in (f"py{major}", f"py{major}{minor}", f"cp{major}{minor}")
    if abi == "abi3" and not device.abi.endswith("t"):
        match = re.fullmatch(r"cp3(\d+)", python)
        return match is not None and int(match[1]) <= minor
    return python == f"cp{major}{minor}" and abi == device.abi


def _platform_suits(platform: str, device: Device) -> bool:
    if platform == "any":
        return True
    if device.system != "Linux" or not platform.endswith(f"_{device.machine}"):
        return False
    kind = platform.removesuffix(f"_{device.machine}")
    if kind == "linux":
        return True
    match = re.fullmatch(r"manylinux_(\d+)_(\d+)", kind)
    needed = (int(match[1]), int(match[2])) if match else _MANYLINUX.get(kind)
    return device.glibc is not None and needed is not None and needed <= device.glibc


def from_folder(folder: Path, requirements: Sequence[Requirement], device: Device) -> list[Wheel]:
    """The newest wheel for each requirement.

    Args:
        folder: where wheels are.
        requirements: what is needed.
        device: what they are for.

    Raises:
        RemoteError: there is none for one of them.
        EdgekitError: the folder cannot be read.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise from_os_error(error, folder, "read", RemoteError) from error
    found = []
    for requirement in requirements:
        own = [name for name in names if _normal(name.split("-")[0]) == requirement.name and name.endswith(".whl")]
        right = [name for name in own if suits(name, device) and requirement.allows(name.split("-")[1])]
        if not right:
            there = f"it has {', '.join(own)}" if own else "it has none of that name"
            raise RemoteError(
                f"{folder} has no wheel of {requirement} for the device ({device}): {there}. Put one there, or leave --wheels away to have "
                "it downloaded."
            )
        final = [name for name in right if re.fullmatch(r"[\d.]+(\+.*)?", name.split("-")[1])]
        found.append(Wheel.read(folder / max(final or right, key=lambda name: numbers(name.split("-")[1]))))
    return found


def sent_before(present: Sequence[str], requirement: Requirement, device: Device) -> str | None:
    """What serves of the packages that a device was sent earlier; the newest, ``None`` where none does.

    Args:
        present: what they are called there.
        requirement: what is needed.
        device: the device.
    """
    found = []
    for name in present:
        match = re.fullmatch(r"(.+)-([^-]+)-([^-]+)-[0-9a-f]{16}", name)
        right = match is not None and (match[1], match[3]) == (requirement.name, f"{device.abi}_{device.machine}")
        if match is not None and right and requirement.allows(match[2]):
            found.append((numbers(match[2]), name))
    return max(found)[1] if found else None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def downloaded(requirements: Sequence[Requirement], device: Device) -> list[Wheel]:
    """Have pip download wheels; those that were downloaded before are used again, without network.

    Args:
        requirements: what is needed.
        device: what they are for.

    Raises:
        RemoteError: pip is missing here, or does not find one.
    """
    if device.system != "Linux":
        raise RemoteError(
            f"the device is {device}, and lacks {_listed(requirements)}: for systems other than Linux install edgekit there with pip."
        )
    if device.glibc is None:
        raise RemoteError(
            f"the device is {device}, and lacks {_listed(requirements)}: the interpreters have no wheels for it. Build them for it and "
            "name their folder with --wheels, or install them there."
        )
    key = json.dumps([[str(item) for item in requirements], device.abi, device.machine, device.glibc])
    name = f"{device.machine}-{device.abi}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    cache = cache_folder()
    parent = Path(cache or tempfile.mkdtemp(prefix="edgekit-")) / "wheels"
    folder = parent / name
    known = _complete(folder)
    if known is not None:
        return known
    shutil.rmtree(folder, ignore_errors=True)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    except OSError as error:
        raise from_os_error(error, parent, "write") from error
    try:
        _pip(requirements, device, temporary)
        wheels = from_folder(temporary, requirements, device)
        (temporary / "hashes.json").write_text(json.dumps({wheel.path.name: wheel.sha256 for wheel in wheels}))
        if not folder.is_dir():  # another process may have been faster
            temporary.rename(folder)
    except OSError as error:
        raise from_os_error(error, parent, "write") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return from_folder(folder, requirements, device)


def _complete(folder: Path) -> list[Wheel] | None:
    """What was downloaded before; ``None`` when it is not whole."""
    try:
        hashes = json.loads((folder / "hashes.json").read_bytes())
        wheels = [Wheel.read(folder / name) for name in hashes]
    except (OSError, ValueError, RemoteError):
        return None
    return wheels if wheels and all(hashes[wheel.path.name] == wheel.sha256 for wheel in wheels) else None


def _pip(requirements: Sequence[Requirement], device: Device, folder: Path) -> None:
    """Download without dependencies: pip would choose those by this machine's markers, not the device's."""
    wanted = _listed(requirements)
    if importlib.util.find_spec("pip") is None:
        raise RemoteError(
            f"the device lacks {wanted}, and there is no pip here to download wheels with. Install pip here, put the wheels into a folder "
            "and name it with --wheels, or install them on the device."
        )
    assert device.glibc is not None
    platforms = [f"manylinux_2_{minor}_{device.machine}" for minor in range(device.glibc[1], _OLDEST_GLIBC - 1, -1)]
    platforms += [f"manylinux2014_{device.machine}", f"linux_{device.machine}"]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", f"{device.python[0]}.{device.python[1]}",
        "--dest", str(folder), *(word for platform in platforms for word in ("--platform", platform)),
    ]  # fmt: skip
    if device.abi.endswith("t"):
        command += ["--abi", device.abi, "--abi", "none"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [*command, *(str(item) for item in requirements)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_PIP_S, env=environment, cwd=folder,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise RemoteError(
            f"downloading {wanted} took more than {_PIP_S / 60:.0f} minutes: look at the network here."
        ) from error
    if done.returncode:
        lines = [line.strip() for line in done.stdout.decode("utf-8", "replace").splitlines() if "ERROR" in line]
        raise RemoteError(
            f"pip found no wheels of {wanted} for the device ({device}). It said: {lines[-1] if lines else 'nothing'}. Install them on the "
            "device, name a folder with wheels with --wheels, or another Python there with --remote-python."
        )


def _listed(requirements: Sequence[Requirement]) -> str:
    return ", ".join(map(str, requirements))

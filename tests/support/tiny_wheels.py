"""Wheels of a few bytes, and locks of environments that have them: for making environments without network."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path


def write_wheel(folder: Path, name: str, version: str = "1.0", code: str = "") -> Path:
    """Write a wheel with one module of the package's name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: edgekit's tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return path


def write_lock(
    folder: Path, packages: Mapping[str, str], *, name: str = "tiny", pythons: str = "", disk_bytes: int = 1000
) -> Path:
    """Write the lock of an environment for these Pythons, texts in quotes with commas; this one by default."""
    import sys

    folder.mkdir(parents=True, exist_ok=True)
    here = '"{}.{}"'.format(*sys.version_info[:2])
    path = folder / f"{name}-python3.toml"
    lines = [
        f'name = "{name}"',
        'purpose = "tests"',
        f"pythons = [{pythons or here}]",
        f"imports = {[*packages]}".replace("'", '"'),
        "download_bytes = 1000",
        f"disk_bytes = {disk_bytes}",
        "[packages]",
        *(f'{package} = "{version}"' for package, version in packages.items()),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path

"""The wheel holds what it should, and both kinds of install are right for programs and type checkers."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = '''"""A program that uses edgekit, for a type checker."""

from typing_extensions import assert_type

import edgekit
import edgekit_convert
import edgekit_profiles

with edgekit.load("model.tflite", delegate="xnnpack") as model:
    assert_type(model, edgekit.Session)
    assert_type(model.latency.summary().p50_ns, int)

conversion = edgekit.convert("model.keras", "data.npy")
assert_type(conversion, edgekit_convert.Conversion)
assert_type(conversion, edgekit.Conversion)
assert_type(edgekit_profiles.load_profile("raspberry-pi-5"), edgekit.DeviceProfile)
'''
WRONG = PROGRAM + '\nedgekit.load("model.tflite", delegat="xnnpack")\n'


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this tree, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


def test_wheel_contents(wheel: Path) -> None:
    """The three packages at the top level, with types and profiles, and nothing else."""
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"edgekit", "edgekit_convert", "edgekit_profiles"}
    for package in tops:
        assert f"{package}/py.typed" in names
    assert "edgekit_profiles/data/raspberry-pi-5.toml" in names
    source = {
        path.relative_to(folder).as_posix()
        for folder in (ROOT, ROOT / "converters", ROOT / "device_profiles")
        for package in tops
        for path in (folder / package).rglob("*.py")
    }
    assert source <= set(names)
    assert not any(name.endswith((".so", ".tflite", ".npz", ".h5")) for name in names)


def test_wheel_metadata(wheel: Path) -> None:
    """Name, licence, Python versions, extras, and the interpreter by environment markers."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(item for item in archive.namelist() if item.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
        entry_points = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    requires = metadata.get_all("Requires-Dist") or []
    assert metadata["Name"] == "edgekit"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert set(metadata.get_all("Provides-Extra") or []) == {"convert", "demo", "dev", "tflite-runtime", "torch"}
    assert {text.split(">")[0] for text in requires if ";" not in text} == {"click", "numpy", "rich"}
    assert any(text.startswith("ai-edge-litert") and "aarch64" in text for text in requires)
    assert any(text.startswith("tflite-runtime") and "armv7l" in text for text in requires)
    assert "edgekit = edgekit.cli:main" in entry_points


@pytest.fixture(scope="session", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with edgekit in it, what it needs coming from this one."""
    folder = tmp_path_factory.mktemp(request.param) / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    what = [str(wheel)] if request.param == "wheel" else ["--no-build-isolation", "-e", str(ROOT)]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    target = next((folder / "lib").glob("python*")) / "site-packages"
    # Sorted behind edgekit's own entry, so that the packages of this environment come last; hatchling is among them.
    (target / "zz-others.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    subprocess.run(
        [*pip, "--ignore-installed", *what], check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    )
    return python


def test_installed_packages_are_found(installed: Path, tmp_path: Path) -> None:
    """All three import, from the fresh environment or the tree and not from this environment."""
    code = "import edgekit, edgekit_convert, edgekit_profiles; print(*(m.__file__ for m in (edgekit, edgekit_convert, edgekit_profiles)), sep='\\n')"
    found = subprocess.run([installed, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    for line in found.splitlines():
        assert str(installed.parent.parent) in line or str(ROOT) in line
        assert not any(line.startswith(folder) for folder in site.getsitepackages())


def test_the_program_is_installed(installed: Path, tmp_path: Path) -> None:
    """The command runs, and profiles are found."""
    run = [installed.parent / "edgekit", "devices", "list"]
    assert "raspberry-pi-5" in subprocess.run(run, check=True, capture_output=True, text=True, cwd=tmp_path).stdout


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_type_checkers_see_the_types(installed: Path, tmp_path: Path, checker: str) -> None:
    """A right program passes, a wrong one is found out, under mypy and pyright."""
    (tmp_path / "right.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    command = {
        "mypy": [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--python-executable",
            str(installed),
            "--cache-dir",
            str(tmp_path),
        ],
        "basedpyright": [sys.executable, "-m", "basedpyright", "--pythonpath", str(installed)],
    }[checker]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MYPYPATH")}
    right = subprocess.run([*command, "right.py"], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = subprocess.run([*command, "wrong.py"], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert wrong.returncode == 1
    assert "delegat" in wrong.stdout

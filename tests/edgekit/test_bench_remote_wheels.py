"""What a device lacks, and which wheels serve it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgekit.bench.remote import wheels
from edgekit.bench.remote.errors import RemoteError
from edgekit.bench.remote.needs import Device, Requirement


def device(**changes: Any) -> Device:
    """A Raspberry Pi 5 with nothing installed."""
    values: dict[str, Any] = {
        "python": (3, 11, 2), "executable": "/usr/bin/python3", "abi": "cp311", "system": "Linux", "machine": "aarch64",
        "glibc": (2, 36), "root": "/home/pi/.cache/edgekit/remote", "free_bytes": 10**9, "found": {},
    }  # fmt: skip
    return Device(**{**values, **changes})


class TestNeeds:
    """What a device lacks."""

    def test_an_empty_one(self) -> None:
        """The interpreter and numpy, nothing of the command line."""
        assert ["numpy>=1.23.2", "ai-edge-litert>=2.1", "ml-dtypes"] == [str(item) for item in device().lacks(None)]

    def test_an_old_python_lacks_toml(self) -> None:
        """The standard library reads it from 3.11 on."""
        found = {"numpy": "2.1", "ai_edge_litert": "2.3"}
        assert ["tomli>=2"] == [str(item) for item in device(python=(3, 10, 1), found=found).lacks(None)]

    @pytest.mark.parametrize(
        ("found", "engine", "expected"),
        [
            ({"numpy": "1.24.2", "ai_edge_litert": "2.1.0"}, None, []),
            ({"numpy": "1.24.2", "ai_edge_litert": ""}, "litert-compiled", []),
            ({"numpy": "1.24.2", "tflite_runtime": "2.14.0"}, None, []),
            ({"numpy": "1.24.2", "tensorflow": "2.21"}, None, []),
            ({"numpy": "1.24.2", "ai_edge_litert": "2.0.3"}, None, ["ai-edge-litert", "ml-dtypes"]),
            ({"numpy": "1.20", "ai_edge_litert": "2.3"}, None, ["numpy"]),
            ({"numpy": "2.0", "ai_edge_litert": "2.3"}, "tflite-runtime", ["numpy", "tflite-runtime"]),
            ({"numpy": "1.26", "ai_edge_litert": "2.3"}, "tflite-runtime", ["tflite-runtime"]),
        ],
        ids=lambda value: str(value),
    )
    def test_what_is_installed_is_used(self, found: dict[str, str], engine: str | None, expected: list[str]) -> None:
        """In the versions that serve."""
        assert expected == [item.name for item in device(found=found).lacks(engine)]

    def test_narrow_programs_on_a_wide_kernel(self) -> None:
        """A 32-bit system on a 64-bit kernel is what its programs are."""
        hello = {
            "implementation": "cpython", "machine": "aarch64", "bits": 32, "libc": ["glibc", "2.36"], "python": [3, 11, 2],
            "executable": "/usr/bin/python3", "abi": "cp311", "system": "Linux", "root": "/r", "free_bytes": 1, "found": {},
        }  # fmt: skip
        found = Device.of(hello)
        assert ("armv7l", (2, 36)) == (found.machine, found.glibc)
        assert ["numpy>=1.23.2,<2", "tflite-runtime==2.14.0"] == [str(item) for item in found.lacks(None)]

    @pytest.mark.parametrize(
        ("changes", "engine", "message"),
        [
            ({"machine": "armv7l", "python": (3, 12, 1)}, None, "no interpreter has wheels for .* armv7l with Python 3.12"),
            ({"python": (3, 13, 0)}, "tflite-runtime", "tflite-runtime has no wheels for Python 3.13"),
            ({}, "tensorflow", "TensorFlow is not installed on the device"),
        ],
        ids=["armv7l", "tflite-runtime", "tensorflow"],
    )  # fmt: skip
    def test_what_nothing_serves(self, changes: dict[str, Any], engine: str | None, message: str) -> None:
        """Said before anything is fetched."""
        with pytest.raises(RemoteError, match=message):
            device(**changes).lacks(engine)

    @pytest.mark.parametrize(
        ("limits", "version", "expected"),
        [
            (">=1.23.2,<2", "1.23.2", True), (">=1.23.2,<2", "2.0", False), (">=1.23.2,<2", "1.9", False), ("==2.14.0", "2.14", True),
            ("<2", "2.0.0rc1", False), ("", "anything", True), (">=2", "", True),
        ],
    )  # fmt: skip
    def test_limits(self, limits: str, version: str, expected: bool) -> None:
        """Numbers are compared as numbers."""
        assert expected == Requirement("x", limits).allows(version)

    def test_what_is_imported_before_anything_is_measured(self) -> None:
        """The interpreter that will be used."""
        sent = device().lacks(None)
        assert "ai_edge_litert.interpreter" in device().modules(None, sent)
        assert "tensorflow" in device(found={"tensorflow": "2.21"}).modules(None, [])
        assert "tflite_runtime.interpreter" in device().modules("tflite-runtime", [])

    def test_base_dependencies_are_the_projects(self) -> None:
        """The limits here and in the installed metadata are the same."""
        import importlib.metadata

        try:
            declared = importlib.metadata.requires("edgekit") or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip("edgekit is not installed as a distribution here")
        plain = [text.replace(" ", "") for text in declared]
        for requirement in device(python=(3, 10, 0)).lacks(None):
            if requirement.name != "ml-dtypes":  # LiteRT's own, for its CompiledModel
                assert any(text.startswith(str(requirement)) for text in plain), requirement


class TestWheels:
    """Which file serves which device."""

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", True),
            ("numpy-2.4.6-cp311-cp311-manylinux_2_39_aarch64.whl", False),
            ("numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl", False),
            ("numpy-2.4.6-cp312-cp312-manylinux_2_27_aarch64.whl", False),
            ("numpy-2.4.6-cp311-cp311-musllinux_1_2_aarch64.whl", False),
            ("x-1-cp38-abi3-manylinux2014_aarch64.whl", True),
            ("x-1-cp312-abi3-manylinux2014_aarch64.whl", False),
            ("x-1-cp311-cp311-linux_aarch64.whl", True),
            ("x-1-py2.py3-none-any.whl", True),
            ("x-1-3build-py3-none-any.whl", True),
            ("x-1-py2-none-any.whl", False),
            ("x-1-py3-none-any.zip", False),
            ("x.whl", False),
        ],
    )
    def test_tags(self, name: str, expected: bool) -> None:
        """Python, ABI, system and C library."""
        assert expected == wheels.suits(name, device())

    def test_free_threaded_python(self) -> None:
        """It takes extensions made for it, and none of the others."""
        free = device(python=(3, 13, 0), abi="cp313t")
        names = [
            "x-1-cp313-cp313t-linux_aarch64.whl",
            "x-1-cp313-cp313-linux_aarch64.whl",
            "x-1-cp38-abi3-linux_aarch64.whl",
        ]
        assert [True, False, False] == [wheels.suits(name, free) for name in names]

    def make(self, folder: Path, name: str) -> Path:
        """A wheel with nothing in it."""
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("x.py", "")
        return folder / name

    def test_the_newest_that_serves(self, tmp_path: Path) -> None:
        """By number, not by letter; no forerunner of a version where there is a version."""
        for version in ("1.9", "1.10", "1.11rc1", "2.0"):
            self.make(tmp_path, f"ai_edge_litert-{version}-py3-none-any.whl")
        (found,) = wheels.from_folder(tmp_path, [Requirement("ai-edge-litert", "<2")], device())
        assert ("ai-edge-litert", "1.10") == (found.name, found.version)
        name = found.folder(device())
        assert name.startswith("ai-edge-litert-1.10-cp311_aarch64-")
        assert name == wheels.sent_before(["x", name], Requirement("ai-edge-litert", "<2"), device())
        assert wheels.sent_before([name], Requirement("ai-edge-litert", ">=2"), device()) is None
        assert wheels.sent_before([name], Requirement("ai-edge-litert"), device(abi="cp312")) is None

    def test_none_that_serves(self, tmp_path: Path) -> None:
        """What there is instead is told."""
        self.make(tmp_path, "numpy-2.0-cp39-cp39-linux_aarch64.whl")
        with pytest.raises(RemoteError, match=r"no wheel of numpy>=1 .*it has numpy-2.0-cp39"):
            wheels.from_folder(tmp_path, [Requirement("numpy", ">=1")], device())
        with pytest.raises(RemoteError, match="no such file"):
            wheels.from_folder(tmp_path / "none", [Requirement("numpy")], device())

    def test_damaged_wheel(self, tmp_path: Path) -> None:
        """Cut off in the middle."""
        (tmp_path / "numpy-2.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(RemoteError, match="is damaged"):
            wheels.from_folder(tmp_path, [Requirement("numpy")], device())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [({"system": "Darwin"}, "for systems other than Linux"), ({"glibc": None}, "have no wheels for it")],
        ids=["darwin", "musl"],
    )
    def test_what_pip_is_not_asked_for(self, changes: dict[str, Any], message: str) -> None:
        """Neither has wheels of the interpreters, or a way to name them."""
        with pytest.raises(RemoteError, match=message):
            wheels.downloaded([Requirement("numpy")], device(**changes))

    def test_pip_finds_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its reason is quoted, and nothing stays behind; no network is asked."""
        monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(tmp_path))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(RemoteError, match=r"pip found no wheels of numpy>=9 .*No matching distribution"):
            wheels.downloaded([Requirement("numpy", ">=9")], device())
        assert [] == list((tmp_path / "wheels").iterdir())

    def test_downloaded_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A second time nothing is asked; a file that has changed since is fetched again. The index is a folder here."""
        index = tmp_path / "index"
        index.mkdir()
        with zipfile.ZipFile(index / "numpy-2.0-cp311-cp311-manylinux_2_28_aarch64.whl", "w") as archive:
            archive.writestr("numpy.py", "")
            archive.writestr("numpy-2.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: numpy\nVersion: 2.0\n")
            archive.writestr(
                "numpy-2.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_aarch64\n"
            )
            archive.writestr("numpy-2.0.dist-info/RECORD", "")
        monkeypatch.setenv("EDGEKIT_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(index))
        (first,) = wheels.downloaded([Requirement("numpy")], device())
        monkeypatch.delenv("PIP_FIND_LINKS")
        assert [first] == wheels.downloaded([Requirement("numpy")], device())
        first.path.write_bytes(first.path.read_bytes() + b"\0")
        with pytest.raises(RemoteError, match="pip found no wheels"):
            wheels.downloaded([Requirement("numpy")], device())

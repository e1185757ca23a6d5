"""``edgekit.runtime.edgetpu_library``: where a library is looked for, and what its header says."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from edgekit.runtime.edgetpu_library import fault, find

NAMES = ("libstandin_for_tests.so.1",)
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ELF files are Linux's")


def own_program() -> bytes:
    """An ELF file for this very processor: the beginning of this Python, with the tables that it speaks of left out."""
    head = bytearray(Path(sys.executable).read_bytes()[:64])
    wide = head[4] == 2
    struct.pack_into("<HH", head, 58 if wide else 46, 0, 0)
    struct.pack_into("<Q" if wide else "<I", head, 40 if wide else 32, 64)
    return bytes(head)


def planted(folder: Path, content: bytes) -> str:
    """A library in a folder."""
    folder.mkdir()
    path = folder / NAMES[0]
    path.write_bytes(content)
    return str(path)


def for_other(content: bytes) -> bytes:
    """The same for another processor."""
    changed = bytearray(content)
    struct.pack_into("<H", changed, 18, 0xF3)
    return bytes(changed)


class TestFind:
    """The folders are those of the dynamic linker."""

    def test_nothing(self) -> None:
        """A library that is nowhere."""
        assert find(("libnobody_has_this.so.7",)) is None or "edgetpu" in str(find(("libnobody_has_this.so.7",)))

    def test_the_first_that_fits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With libraries for two processors side by side, the one for this Python is taken."""
        other = planted(tmp_path / "a", for_other(own_program()))
        fits = planted(tmp_path / "b", own_program())
        monkeypatch.setenv("LD_LIBRARY_PATH", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
        assert fits == find(NAMES)
        Path(fits).unlink()
        assert other == find(NAMES)

    def test_the_order_of_names(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of two names in one folder the first that was asked for."""
        first = planted(tmp_path / "a", own_program())
        (tmp_path / "a" / "libother.so").write_bytes(own_program())
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "a"))
        assert first == find((NAMES[0], "libother.so"))
        assert str(tmp_path / "a" / "libother.so") == find(("libother.so", NAMES[0]))


class TestFault:
    """Headers."""

    def test_a_good_one(self, tmp_path: Path) -> None:
        """Nothing speaks against it."""
        assert fault(planted(tmp_path / "a", own_program())) is None

    def test_a_name_that_only_the_linker_knows(self) -> None:
        """There is no file to look at."""
        assert fault("libedgetpu.so.1") is None

    @pytest.mark.parametrize(
        ("content", "cause", "reason"),
        [
            (b"", "damaged-library", "begins with b''"),
            (b"\x7fELF", "damaged-library", "it has 4 bytes, and a whole ELF header were expected"),
            (b"\x7fELF" + bytes(60), "damaged-library", "a whole ELF header"),
            (b"MZ" + bytes(100), "damaged-library", "an ELF file was expected"),
        ],
        ids=["empty", "four bytes", "zeros", "another format"],
    )
    def test_what_is_no_library(self, content: bytes, cause: str, reason: str, tmp_path: Path) -> None:
        """The message says what was seen and what was expected."""
        found = fault(planted(tmp_path / "a", content))
        assert found is not None
        assert cause == found.cause
        assert reason in found.reason

    def test_another_processor(self, tmp_path: Path) -> None:
        """Both processors are named."""
        found = fault(planted(tmp_path / "a", for_other(own_program())))
        assert found is not None
        assert "wrong-architecture" == found.cause
        assert f"is for riscv64 processors (64 bits), and this Python is for {os.uname().machine}" in found.reason

    def test_other_bits(self, tmp_path: Path) -> None:
        """A 32-bit library of a processor without a name here."""
        content = bytearray(own_program())
        content[4] = 1
        struct.pack_into("<H", content, 18, 0x1234)
        struct.pack_into("<I", content, 32, 52)
        struct.pack_into("<HH", content, 46, 0, 0)
        found = fault(planted(tmp_path / "a", bytes(content)))
        assert found is not None
        assert "is for unknown (ELF machine 4660) processors (32 bits)" in found.reason

    def test_a_folder(self, tmp_path: Path) -> None:
        """A folder of that name cannot be read."""
        (tmp_path / NAMES[0]).mkdir()
        found = fault(str(tmp_path / NAMES[0]))
        assert found is not None
        assert "no-library" == found.cause
        assert "cannot be read (Is a directory)" in found.reason

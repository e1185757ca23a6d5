"""libedgetpu as a file: where it lies, and whether it can be a library of this machine at all.

Nothing is loaded here. The linker's own words about a wrong file are few ("wrong ELF class"), and a file that was cut short may
end the program that loads it, so its header is read before.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING

from edgekit.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: By the machine number of an ELF header (System V ABI, "ELF Header"): what ``uname -m`` calls it.
_MACHINES = {0x03: "i686", 0x28: "armv7l", 0x3E: "x86_64", 0xB7: "aarch64", 0xF3: "riscv64"}
_HEADER_BYTES = 64
#: What to do where there is no good library (Coral documentation, "Get started with the USB Accelerator").
INSTALL = "install Coral's package libedgetpu1-std"


class LibraryFault(Record):
    """Why a file cannot be loaded.

    Attributes:
        cause: ``no-library``, ``wrong-architecture`` or ``damaged-library``.
        reason: in a sentence.
    """

    cause: str
    reason: str


class _Elf(Record):
    """What a library's header says.

    Attributes:
        machine: the processor that it is for.
        bits: 32 or 64.
        needs_bytes: how long the file must be at least.
    """

    machine: str
    bits: int
    needs_bytes: int


def find(names: Sequence[str]) -> str | None:
    """The path of the first of these libraries that this Python could load, else of the first that is there at all, else its
    name where only the linker knows it, else ``None``.
    """  # noqa: D205
    there = [path for folder in _folders() for path in (os.path.join(folder, name) for name in names)]
    there = [path for path in there if os.path.exists(path)]
    for path in there:
        if fault(path) is None:
            return path
    if there:
        return there[0]
    import ctypes.util  # loads subprocess, and starts programs: only where nothing was found

    return ctypes.util.find_library("edgetpu")


def _folders() -> Iterator[str]:
    yield from (folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder)
    for base in ("/usr/local/lib", "/usr/lib", "/lib"):
        try:
            inside = sorted(name for name in os.listdir(base) if "-linux-gnu" in name)
        except OSError:
            continue
        yield from (f"{base}/{name}" for name in inside)
        yield base
    yield from ("/usr/lib64", "/opt/homebrew/lib")


def fault(library: str) -> LibraryFault | None:
    """Why a library's file cannot be loaded here; ``None`` where nothing speaks against it, or only the linker knows the file."""
    if os.sep not in library:
        return None
    try:
        with open(library, "rb") as file:
            head = file.read(_HEADER_BYTES)
            size = file.seek(0, os.SEEK_END)
    except FileNotFoundError:
        return LibraryFault("no-library", f"{library} does not exist. Check the path, or {INSTALL}.")
    except OSError as error:
        return LibraryFault(
            "no-library", f"{library} cannot be read ({error.strerror or error}). Check its owner and mode."
        )
    if not sys.platform.startswith("linux"):
        return None
    if head[:4] != b"\x7fELF":
        return LibraryFault(
            "damaged-library",
            f"{library} is no library: it begins with {bytes(head[:8])!r}, and an ELF file was expected. It is damaged, or a failed "
            f"download: {INSTALL}.",
        )
    elf = _elf(head)
    if elf is None or size < elf.needs_bytes:
        longer = "a whole ELF header" if elf is None else f"{elf.needs_bytes} bytes by its own header"
        return LibraryFault(
            "damaged-library",
            f"{library} is cut short: it has {size} bytes, and {longer} were expected. It is damaged, or a failed download: {INSTALL}.",
        )
    own = _own()
    if own is not None and (elf.machine, elf.bits) != (own.machine, own.bits):
        return LibraryFault(
            "wrong-architecture",
            f"{library} is for {elf.machine} processors ({elf.bits} bits), and this Python is for {own.machine} ({own.bits} bits): "
            f"{INSTALL} of that architecture.",
        )
    return None


def _elf(head: bytes) -> _Elf | None:
    if len(head) < 52 or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    order = "<" if head[5] == 1 else ">"
    wide = head[4] == 2
    try:
        machine = struct.unpack_from(f"{order}H", head, 18)[0]
        # Where the table of sections begins, how long each entry is, and how many there are: the last part of a file, mostly.
        start = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 40 if wide else 32)[0]
        each, count = struct.unpack_from(f"{order}HH", head, 58 if wide else 46)
    except struct.error:
        return None
    name = _MACHINES.get(machine, f"unknown (ELF machine {machine})")
    return _Elf(name, 64 if wide else 32, start + each * count)


def _own() -> _Elf | None:
    """What this Python is for."""
    for path in ("/proc/self/exe", sys.executable):
        try:
            with open(path, "rb") as file:
                head = file.read(_HEADER_BYTES)
        except (OSError, TypeError):
            continue
        if head[:4] == b"\x7fELF":
            return _elf(head)
    return None

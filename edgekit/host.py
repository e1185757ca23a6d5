"""``HostFacts``: what this machine is, each fact with where it was read.

Everything comes from files below a root folder, so that detection can be tried on trees recorded on other
machines; only for the real root are the kernel (``uname``, the processor affinity) and the environment asked as well.
It is on the way of every ``edgekit.load`` without a named delegate, so it is cheap: no program is started, no native
library is opened, and of each file at most ``READ_LIMIT_BYTES`` are read. A file that is missing, unreadable or
garbage is a fact that is not known, never an error.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from edgekit.records import Record
from edgekit.runtime.delegates import EDGETPU_LIBRARIES, edgetpu_library

T = TypeVar("T")

#: Far above what the files hold here; a hostile or broken tree cannot cost more.
READ_LIMIT_BYTES = 256 * 1024
_CACHE_LIMIT_BYTES = 4 * 1024 * 1024
_LIST_LIMIT = 4096
_TEXT_LIMIT = 200

#: USB ids of the Coral USB Accelerator: before its firmware is loaded (Global Unichip) and after that (Google).
EDGETPU_USB_IDS: tuple[tuple[str, str], ...] = (("1a6e", "089a"), ("18d1", "9302"))
OPENCL_LIBRARIES: tuple[str, ...] = ("libOpenCL.so.1", "libOpenCL.so")

#: Arm's own cores by the part number of the main ID register (MIDR_EL1), as each core's technical reference manual gives it.
ARM_PARTS: dict[int, str] = {
    0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9", 0xC0E: "Cortex-A17", 0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD46: "Cortex-A510", 0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
}  # fmt: skip
_ARM = 0x41


class Fact(Generic[T]):
    """Something that is known of this machine.

    A plain class, because it is made on the load path, where a dataclass takes a millisecond to make.

    Attributes:
        value: what.
        source: where it was read: a path as it is on that machine, a system call or an environment variable.
    """

    __slots__ = ("source", "value")

    def __init__(self, value: T, source: str) -> None:
        self.value = value
        self.source = source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fact) and (self.value, self.source) == (other.value, other.source)

    def __hash__(self) -> int:
        return hash((self.value, self.source))

    def __repr__(self) -> str:
        return f"Fact({self.value!r}, {self.source!r})"


class HostFacts(Record):
    """What a machine is. Each attribute is ``None`` where nothing was found.

    Attributes:
        system: the operating system, as ``uname -s`` says it: ``Linux``, ``Darwin``; ``Windows``.
        machine: the architecture, as ``uname -m`` says it.
        cpu_model: the processor's name; on Arm the names of the cores, with how many of each.
        cpu_flags: instruction set features, in the kernel's words.
        logical_cores: logical processors that this process may use.
        memory_bytes: memory that the system has.
        device_tree_model: the board's own name.
        cpu_governor: the frequency governor of the first processor.
        temperature_c: the processor's temperature, degrees Celsius.
        vulkan_drivers: manifest files of Vulkan drivers; whether a driver works is not known from them.
        opencl_library: the OpenCL loader.
        edgetpu_devices: connected Edge TPUs, USB and PCIe.
        edgetpu_library: libedgetpu.
    """

    system: Fact[str] | None = None
    machine: Fact[str] | None = None
    cpu_model: Fact[str] | None = None
    cpu_flags: Fact[tuple[str, ...]] | None = None
    logical_cores: Fact[int] | None = None
    memory_bytes: Fact[int] | None = None
    device_tree_model: Fact[str] | None = None
    cpu_governor: Fact[str] | None = None
    temperature_c: Fact[float] | None = None
    vulkan_drivers: Fact[tuple[str, ...]] | None = None
    opencl_library: Fact[str] | None = None
    edgetpu_devices: Fact[tuple[str, ...]] | None = None
    edgetpu_library: Fact[str] | None = None

    def items(self) -> Iterator[tuple[str, Fact[Any] | None]]:
        """Each attribute's name and fact, in order."""
        return iter(self._asdict().items())

    def to_json(self) -> dict[str, Any]:
        """``{"value": …, "source": …}`` by name, ``None`` where nothing was found."""
        return {
            name: None
            if fact is None
            else {"value": list(fact.value) if isinstance(fact.value, tuple) else fact.value, "source": fact.source}
            for name, fact in self.items()
        }


def read_host(root: str | os.PathLike[str] = "/") -> HostFacts:
    """Find out what a machine is.

    Args:
        root: the root folder of its file system: ``/`` for this machine, or a folder that holds a recorded copy of
            the files of another one.

    Returns:
        What was found; never raises for what the files hold.
    """
    tree = _Tree(root)
    cpuinfo = _cpuinfo(tree)
    edgetpu_devices = _edgetpu_devices(tree)
    return HostFacts(
        system=_system(tree),
        machine=_machine(tree, cpuinfo),
        cpu_model=_cpu_model(cpuinfo),
        cpu_flags=_cpu_flags(cpuinfo),
        logical_cores=_logical_cores(tree, cpuinfo),
        memory_bytes=_memory_bytes(tree),
        device_tree_model=tree.line("/proc/device-tree/model", "/sys/firmware/devicetree/base/model"),
        cpu_governor=tree.line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        temperature_c=_temperature_c(tree),
        vulkan_drivers=_vulkan_drivers(tree),
        opencl_library=tree.library(OPENCL_LIBRARIES),
        edgetpu_devices=edgetpu_devices,
        edgetpu_library=_edgetpu_library(tree, edgetpu_devices is not None),
    )


class _Tree:
    """Reads files below a root. Paths are absolute ones of the machine that the root belongs to."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.real = os.fspath(root) == "/"
        self._root = "" if self.real else os.path.realpath(root)
        self._folders: list[str] | None = None

    def _at(self, path: str) -> str:
        """The path here of a path there. A link that leads out of a recorded tree would tell of this machine: refused."""
        if self.real:
            return path
        here = os.path.realpath(self._root + path)
        if os.path.commonpath((here, self._root)) != self._root:
            raise OSError(f"{path} leads out of {self._root}")
        return here

    def read(self, path: str, limit_bytes: int = READ_LIMIT_BYTES) -> bytes | None:
        """The start of a plain file; ``None`` when it is missing, unreadable or something else than a file."""
        # Without O_NONBLOCK, opening a named pipe would wait for a writer forever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
        try:
            handle = os.open(self._at(path), flags)
        except (OSError, ValueError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            parts: list[bytes] = []
            left = limit_bytes
            while left > 0:
                part = os.read(handle, left)
                if not part:
                    break
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
        except OSError:
            return None
        finally:
            os.close(handle)

    def text(self, path: str) -> str | None:
        """The start of a text file."""
        content = self.read(path)
        return None if content is None else content.decode("utf-8", "replace")

    def line(self, *paths: str) -> Fact[str] | None:
        """The text of the first of these files that holds one short line of printable text."""
        for path in paths:
            value = _printable(self.text(path))
            if value is not None:
                return Fact(value, path)
        return None

    def number(self, path: str) -> int | None:
        """The integer that a file holds."""
        value = _printable(self.text(path))
        return None if value is None else _integer(value)

    def names(self, path: str) -> list[str]:
        """What a folder holds, sorted; empty when it is missing or unreadable."""
        try:
            with os.scandir(self._at(path)) as entries:
                return sorted(entry.name for entry in islice(entries, _LIST_LIMIT))
        except (OSError, ValueError):
            return []

    def exists(self, path: str) -> bool:
        """Whether there is something of that name."""
        try:
            return os.path.exists(self._at(path))
        except (OSError, ValueError):
            return False

    def library(self, file_names: Sequence[str]) -> Fact[str] | None:
        """Where the dynamic linker would find the first of these libraries, without loading it."""
        for name in file_names:
            for folder in self._library_folders():
                path = f"{folder}/{name}"
                if self.exists(path):
                    return Fact(path, path)
        # Folders of /etc/ld.so.conf.d: the linker's cache lists their libraries with whole paths, each ending with a zero.
        cache = self.read("/etc/ld.so.cache", _CACHE_LIMIT_BYTES) or b""
        for name in file_names:
            end = cache.find(b"/" + name.encode() + b"\0")
            if end >= 0:
                start = cache.rfind(b"\0", 0, end) + 1
                cached = _printable(cache[start : end + 1 + len(name)].decode("utf-8", "replace"))
                if cached is not None and self.exists(cached):
                    return Fact(cached, "/etc/ld.so.cache")
        return None

    def _library_folders(self) -> list[str]:
        if self._folders is None:
            folders = [item for item in os.environ.get("LD_LIBRARY_PATH", "").split(":") if item] if self.real else []
            for base in ("/usr/local/lib", "/usr/lib", "/lib"):
                folders.extend(f"{base}/{name}" for name in self.names(base) if "-linux-gnu" in name)
                folders.append(base)
            self._folders = [*folders, "/usr/lib64", "/lib64", "/vendor/lib64", "/vendor/lib", "/system/vendor/lib64"]
        return self._folders


def _printable(text: str | None) -> str | None:
    """One short line without control characters, or ``None``. Device tree strings end with a zero byte."""
    if text is None:
        return None
    value = text.strip("\0 \t\r\n")
    return value if value and len(value) <= _TEXT_LIMIT and value.isprintable() and "\ufffd" not in value else None


def _integer(text: str, base: int = 10) -> int | None:
    try:
        return int(text, base) if len(text) <= 20 else None
    except ValueError:
        return None


class _Cpuinfo(Record):
    """``/proc/cpuinfo``: one dict for each processor, and whether all of the file was read."""

    processors: tuple[dict[str, str], ...]
    whole: bool


def _cpuinfo(tree: _Tree) -> _Cpuinfo:
    text = tree.text("/proc/cpuinfo") or ""
    processors: list[dict[str, str]] = []
    for line in text.split("\n"):
        key, colon, value = line.partition(":")
        key = key.strip()
        if not colon or not key.isprintable() or not value.strip().isprintable():
            continue
        if key == "processor":
            processors.append({})
        if processors:
            processors[-1].setdefault(key, value.strip())
    return _Cpuinfo(tuple(processors), len(text) < READ_LIMIT_BYTES)


def _system(tree: _Tree) -> Fact[str] | None:
    if tree.real:
        if hasattr(os, "uname"):
            return Fact(os.uname().sysname, "uname")
        return Fact("Windows" if sys.platform == "win32" else sys.platform, "sys.platform")
    return tree.line("/proc/sys/kernel/ostype")


def _machine(tree: _Tree, cpuinfo: _Cpuinfo) -> Fact[str] | None:
    if tree.real:
        if hasattr(os, "uname"):
            return Fact(os.uname().machine, "uname")
        value = os.environ.get("PROCESSOR_ARCHITECTURE")
        return Fact(value, "PROCESSOR_ARCHITECTURE") if value else None
    # Linux 6.1 and later say it here (kernel documentation, admin-guide/sysctl/kernel, "arch").
    found = tree.line("/proc/sys/kernel/arch")
    if found is not None or not cpuinfo.processors:
        return found
    first = cpuinfo.processors[0]
    if "lm" in first.get("flags", "").split():
        return Fact("x86_64", "/proc/cpuinfo (flag lm)")
    architecture = first.get("CPU architecture", "")
    if architecture in ("7", "8"):
        return Fact("aarch64" if architecture == "8" else "armv7l", "/proc/cpuinfo (CPU architecture)")
    return None


def _cpu_model(cpuinfo: _Cpuinfo) -> Fact[str] | None:
    if not cpuinfo.processors:
        return None
    name = _printable(cpuinfo.processors[0].get("model name"))
    if name is not None and "CPU part" not in cpuinfo.processors[0]:
        return Fact(name, "/proc/cpuinfo (model name)")
    counts: dict[str, int] = {}
    for item in cpuinfo.processors:
        implementer, part = _integer(item.get("CPU implementer", ""), 16), _integer(item.get("CPU part", ""), 16)
        if implementer is None or part is None:
            continue
        core = ARM_PARTS.get(part) if implementer == _ARM else None
        core = core or f"implementer {implementer:#x} part {part:#x}"
        counts[core] = counts.get(core, 0) + 1
    if not counts:
        return Fact(name, "/proc/cpuinfo (model name)") if name is not None else None
    return Fact(" + ".join(f"{count}x {core}" for core, count in counts.items()), "/proc/cpuinfo (CPU part)")


def _cpu_flags(cpuinfo: _Cpuinfo) -> Fact[tuple[str, ...]] | None:
    for item in cpuinfo.processors[:1]:
        for key in ("flags", "Features"):
            words = tuple(item.get(key, "").split())
            if words:
                return Fact(words, f"/proc/cpuinfo ({key})")
    return None


def _logical_cores(tree: _Tree, cpuinfo: _Cpuinfo) -> Fact[int] | None:
    if tree.real:
        if hasattr(os, "sched_getaffinity"):
            return Fact(len(os.sched_getaffinity(0)), "sched_getaffinity")
        count = os.cpu_count()
        return Fact(count, "os.cpu_count") if count else None
    path = "/sys/devices/system/cpu/online"
    online = _count_ranges(_printable(tree.text(path)) or "")
    if online:
        return Fact(online, path)
    if cpuinfo.processors and cpuinfo.whole:
        return Fact(len(cpuinfo.processors), "/proc/cpuinfo (processor)")
    return None


def _count_ranges(text: str) -> int | None:
    """How many processors a list such as ``0-3,8`` names."""
    total = 0
    for part in text.split(","):
        low, dash, high = part.partition("-")
        first, last = _integer(low), _integer(high if dash else low)
        if first is None or last is None or not 0 <= first <= last < 65_536:
            return None
        total += last - first + 1
    return total


def _memory_bytes(tree: _Tree) -> Fact[int] | None:
    for line in (tree.text("/proc/meminfo") or "").split("\n"):
        words = line.split()
        if len(words) == 3 and words[0] == "MemTotal:" and words[2] == "kB":
            kilobytes = _integer(words[1])
            if kilobytes is not None and kilobytes > 0:
                return Fact(kilobytes * 1024, "/proc/meminfo (MemTotal)")
    if tree.real and hasattr(os, "sysconf"):
        try:
            size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return None
        return Fact(size, "sysconf") if size > 0 else None
    return None


def _temperature_c(tree: _Tree) -> Fact[float] | None:
    base = "/sys/class/thermal"
    readings: list[tuple[bool, str, float]] = []
    for name in [name for name in tree.names(base) if name.startswith("thermal_zone")][:64]:
        millidegrees = tree.number(f"{base}/{name}/temp")
        if millidegrees is None or not -50_000 <= millidegrees <= 150_000:
            continue
        kind = (_printable(tree.text(f"{base}/{name}/type")) or "").lower()
        # Such as cpu-thermal, cpu_thermal, CPU-therm, x86_pkg_temp, soc-thermal, soc_thermal, coretemp.
        is_cpu = kind.startswith(("cpu", "x86_pkg", "soc", "core"))
        readings.append((not is_cpu, f"{base}/{name}/temp", millidegrees / 1000))
    if not readings:
        return None
    _, source, value = min(readings)
    return Fact(value, source)


def _vulkan_drivers(tree: _Tree) -> Fact[tuple[str, ...]] | None:
    """Driver manifests, where the Vulkan loader looks for them ("Driver Discovery on Linux" of its driver interface)."""
    if tree.real:
        for variable in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
            named = os.environ.get(variable)
            if named:  # the loader then uses these and no others
                present = tuple(path for path in named.split(os.pathsep) if tree.exists(path))
                return Fact(present, variable) if present else None
    found: list[str] = []
    for base in _vulkan_folders(tree.real):
        folder = f"{base}/vulkan/icd.d"
        found.extend(f"{folder}/{name}" for name in tree.names(folder) if name.endswith(".json"))
    return Fact(tuple(found), ", ".join(dict.fromkeys(path.rpartition("/")[0] for path in found))) if found else None


def _vulkan_folders(real: bool) -> list[str]:
    configuration, data = ["/etc/xdg", "/usr/local/etc", "/etc"], ["/usr/local/share", "/usr/share"]
    if real:
        home = os.environ.get("HOME", "")
        configuration = [
            os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config",
            *(os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"),
            *configuration[1:],
        ]
        data = [
            os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share",
            *(os.environ.get("XDG_DATA_DIRS") or ":".join(data)).split(":"),
        ]
    return list(dict.fromkeys(item.rstrip("/") for item in (*configuration, *data) if item.startswith("/")))


def _edgetpu_devices(tree: _Tree) -> Fact[tuple[str, ...]] | None:
    base = "/sys/bus/usb/devices"
    usb = []
    for name in tree.names(base):
        if ":" in name:  # an interface of a device that is listed itself
            continue
        ids = (
            (tree.text(f"{base}/{name}/idVendor") or "").strip(),
            (tree.text(f"{base}/{name}/idProduct") or "").strip(),
        )
        if ids in EDGETPU_USB_IDS:
            usb.append(f"USB {ids[0]}:{ids[1]} at {name}")
    pcie = [f"PCIe /dev/{name}" for name in tree.names("/dev") if name.startswith("apex_")]
    if not usb and not pcie:
        return None
    return Fact((*usb, *pcie), " and ".join([*([base] if usb else []), *(["/dev"] if pcie else [])]))


def _edgetpu_library(tree: _Tree, device_found: bool) -> Fact[str] | None:
    found = tree.library(EDGETPU_LIBRARIES)
    # The thorough search starts programs (ldconfig, gcc, ld), which on Linux costs more than loading a small model:
    # only worth it when there is a device that could use the library.
    if found is None and tree.real and (device_found or not sys.platform.startswith("linux")):
        name = edgetpu_library()
        return Fact(name, "the dynamic linker") if name else None
    return found

"""Facts of the processor: architecture of kernel and programs, cores, features, and how many of them may be used."""

from __future__ import annotations

import os
import sys

from edgekit.host.facts import Fact
from edgekit.host.system import AndroidProperties
from edgekit.host.tree import READ_LIMIT_BYTES, Tree, integer, printable
from edgekit.records import Record

#: Arm's own cores by the part number of the main ID register (MIDR_EL1), as each core's technical reference manual gives it.
ARM_PARTS: dict[int, str] = {
    0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9", 0xC0E: "Cortex-A17", 0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510",
    0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720", 0xD82: "Cortex-X4",
}  # fmt: skip
_ARM = 0x41

#: e_machine of an ELF file, with its class (1: 32-bit, 2: 64-bit): the architectures that have runtimes, and some that have none.
_ELF_MACHINES: dict[tuple[int, int], str] = {
    (3, 1): "i686", (40, 1): "armv7l", (62, 2): "x86_64", (183, 2): "aarch64", (243, 1): "riscv32", (243, 2): "riscv64",
    (21, 2): "ppc64le", (22, 2): "s390x", (258, 2): "loongarch64",
}  # fmt: skip
#: Programs of a recorded tree: the shell and Python are there wherever a model is run from Python.
_PROGRAMS = ("/bin/sh", "/usr/bin/sh", "/usr/bin/python3", "/system/bin/sh", "/usr/bin/env")
_ANDROID_ABIS: dict[str, str] = {"arm64-v8a": "aarch64", "armeabi-v7a": "armv7l", "x86_64": "x86_64", "x86": "i686"}
_ABI_PROPERTIES = ("ro.product.cpu.abi", "ro.system.product.cpu.abilist", "ro.vendor.product.cpu.abilist")
#: Apple's identifiers of Macs with an Apple M1 whose names begin as those of Macs with an Intel processor do; later ones begin
#: with "Mac" and a digit, as none with an Intel processor does (Apple Support, "Identify your MacBook Air model",
#: "… MacBook Pro model", "… Mac mini model", "… iMac model").
_M1_MACS = frozenset(
    {"MacBookAir10,1", "MacBookPro17,1", "MacBookPro18,1", "MacBookPro18,2", "MacBookPro18,3", "MacBookPro18,4",
     "Macmini9,1", "iMac21,1", "iMac21,2"}
)  # fmt: skip
#: Features of Apple's processors that matter for kernels, as sysctl names them (Apple, "Determining instruction set characteristics").
_MAC_FEATURES = ("AdvSIMD", "arm.FEAT_FP16", "arm.FEAT_DotProd", "arm.FEAT_I8MM", "arm.FEAT_BF16", "arm.FEAT_SME")
#: Version 1 has a line for each controller, of which the kernel has about fifteen.
_CGROUP_LINES = 64
_CGROUP_DEPTH = 32


class Cpuinfo(Record):
    """``/proc/cpuinfo``.

    Attributes:
        processors: one dict for each processor; what stands after the last one is in its dict.
        whole: whether all of the file was read.
    """

    processors: tuple[dict[str, str], ...]
    whole: bool

    @property
    def first(self) -> dict[str, str]:
        """The first processor."""
        return self.processors[0] if self.processors else {}

    @property
    def last(self) -> dict[str, str]:
        """The last processor, and what stands after it."""
        return self.processors[-1] if self.processors and self.whole else {}


def read_cpuinfo(tree: Tree) -> Cpuinfo:
    """Read ``/proc/cpuinfo``."""
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
    return Cpuinfo(tuple(processors), len(text) < READ_LIMIT_BYTES)


def machine(tree: Tree, cpuinfo: Cpuinfo, properties: AndroidProperties, product: Fact[str] | None) -> Fact[str] | None:
    """The kernel's architecture."""
    if tree.real:
        return _machine_here()
    # Linux 6.1 and later say it here (kernel documentation, admin-guide/sysctl/kernel, "arch").
    found = tree.line("/proc/sys/kernel/arch")
    if found is not None:
        return found
    first = cpuinfo.first
    if "lm" in first.get("flags", "").split():
        return Fact("x86_64", "/proc/cpuinfo (flag lm)")
    architecture = first.get("CPU architecture", "")
    if architecture in ("8", "AArch64"):  # the word is what kernels before 3.19 say
        return Fact("aarch64", "/proc/cpuinfo (CPU architecture)")
    if architecture in ("6", "7", "6TEJ", "7M"):
        # ARM1176 cores (ARMv6) say architecture 7 as well; the name says what they are.
        is_v6 = "(v6l)" in first.get("model name", "") or architecture.startswith("6")
        return Fact("armv6l" if is_v6 else "armv7l", "/proc/cpuinfo (CPU architecture)")
    if product is not None and (
        product.value in _M1_MACS or (product.value[:3] == "Mac" and product.value[3:4].isdigit())
    ):
        return Fact("arm64", f"{product.source}, a Mac with an Apple processor")
    return _android_architecture(properties)


def _machine_here() -> Fact[str] | None:
    if not hasattr(os, "uname"):
        value = os.environ.get("PROCESSOR_ARCHITECTURE")
        return Fact(value, "PROCESSOR_ARCHITECTURE") if value else None
    if sys.platform == "darwin":
        from edgekit.host import native  # loads ctypes

        # To a program that Rosetta translates, uname says x86_64.
        if native.sysctl_number("hw.optional.arm64") == 1:
            return Fact("arm64", "sysctl hw.optional.arm64")
    return Fact(os.uname().machine, "uname")


def _android_architecture(properties: AndroidProperties) -> Fact[str] | None:
    found = properties.find(*_ABI_PROPERTIES)
    architecture = None if found is None else _ANDROID_ABIS.get(found.value.partition(",")[0])
    return None if found is None or architecture is None else Fact(architecture, found.source)


def userland(tree: Tree, machine: Fact[str] | None, properties: AndroidProperties) -> Fact[str] | None:
    """The architecture of the programs: of this Python itself, or of a recorded machine's shell or Python."""
    if tree.real and not sys.platform.startswith(("linux", "android")):
        # macOS says the architecture of the program, translated or not.
        return Fact(os.uname().machine, "uname") if sys.platform == "darwin" else None
    for path in ("/proc/self/exe",) if tree.real else _PROGRAMS:
        found = _elf_architecture(tree.read(path, 64))
        if found == "armv7l" and machine is not None and machine.value == "armv6l":
            found = "armv6l"  # the file says Arm, not which version; a program cannot be newer than the processor
        if found is not None:
            return Fact(found, f"{path} (ELF header)")
    return None if tree.real else _android_architecture(properties)


def _elf_architecture(head: bytes | None) -> str | None:
    if head is None or len(head) < 20 or head[:4] != b"\x7fELF" or head[5] not in (1, 2):
        return None
    return _ELF_MACHINES.get((int.from_bytes(head[18:20], "little" if head[5] == 1 else "big"), head[4]))


def cpu_model(tree: Tree, cpuinfo: Cpuinfo) -> Fact[str] | None:
    """The processor's name; on Arm the names of the cores, with how many of each."""
    if tree.real and sys.platform == "darwin":
        from edgekit.host import native  # loads ctypes

        brand = printable(native.sysctl_text("machdep.cpu.brand_string"))
        return None if brand is None else Fact(brand, "sysctl machdep.cpu.brand_string")
    name = printable(cpuinfo.first.get("model name"))
    if name is not None and "CPU part" not in cpuinfo.first:
        return Fact(name, "/proc/cpuinfo (model name)")
    counts: dict[str, int] = {}
    for item in cpuinfo.processors:
        implementer, part = integer(item.get("CPU implementer", ""), 16), integer(item.get("CPU part", ""), 16)
        if implementer is None or part is None:
            continue
        core = ARM_PARTS.get(part) if implementer == _ARM else None
        core = core or f"implementer {implementer:#x} part {part:#x}"
        counts[core] = counts.get(core, 0) + 1
    if not counts:
        return Fact(name, "/proc/cpuinfo (model name)") if name is not None else None
    return Fact(" + ".join(f"{count}x {core}" for core, count in counts.items()), "/proc/cpuinfo (CPU part)")


def cpu_flags(tree: Tree, cpuinfo: Cpuinfo) -> Fact[tuple[str, ...]] | None:
    """Instruction set features of the first processor; on Arm the kernel lists what all of them have (its "cpu-feature-registers")."""
    if tree.real and sys.platform == "darwin":
        from edgekit.host import native  # loads ctypes

        found = tuple(name for name in _MAC_FEATURES if native.sysctl_number(f"hw.optional.{name}") == 1)
        return Fact(found, "sysctl hw.optional") if found else None
    for key in ("flags", "Features"):
        words = tuple(cpuinfo.first.get(key, "").split())
        if words:
            return Fact(words, f"/proc/cpuinfo ({key})")
    return None


def logical_cores(tree: Tree, cpuinfo: Cpuinfo, quota: Fact[float] | None) -> Fact[int] | None:
    """Processors that this process may use, and no more than the whole ones of its control group's quota."""
    found = _cores_here() if tree.real else _cores_of(tree, cpuinfo)
    if found is None or quota is None or quota.value >= found.value:
        return found
    # Whole ones: with three threads on 2.5 processors' worth of time, all three stand still for a part of each period.
    return Fact(max(1, int(quota.value)), f"{quota.source}, of {found.value} ({found.source})")


def _cores_here() -> Fact[int] | None:
    if hasattr(os, "sched_getaffinity"):
        return Fact(len(os.sched_getaffinity(0)), "sched_getaffinity")
    count = os.cpu_count()
    return Fact(count, "os.cpu_count") if count else None


def _cores_of(tree: Tree, cpuinfo: Cpuinfo) -> Fact[int] | None:
    path = "/sys/devices/system/cpu/online"
    online = _count_ranges(printable(tree.text(path)) or "")
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
        first, last = integer(low), integer(high if dash else low)
        if first is None or last is None or not 0 <= first <= last < 65_536:
            return None
        total += last - first + 1
    return total


def cgroup_cores(tree: Tree) -> Fact[float] | None:
    """The smallest CPU quota of the process's control group and those above it, in processors; ``None`` without any.

    Version 2 has both numbers in ``cpu.max``, version 1 has them in two files (kernel documentation, admin-guide/cgroup-v2, "CPU
    interface files"; scheduler/sched-bwc, "Management").
    """
    found: list[tuple[float, str]] = []
    for line in (tree.text("/proc/self/cgroup") or "").split("\n")[:_CGROUP_LINES]:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/") or not path.isprintable():
            continue
        # In a container the path may be the host's, which is not there; the group itself is then what is mounted.
        parts = [part for part in path.split("/") if part not in ("", "..")][:_CGROUP_DEPTH]
        for depth in range(len(parts), -1, -1):
            below = "".join(f"/{part}" for part in parts[:depth])
            if number == "0" and not controllers:
                found += _quota_v2(tree, f"/sys/fs/cgroup{below}/cpu.max")
            elif "cpu" in controllers.split(","):
                found += _quota_v1(tree, f"/sys/fs/cgroup/cpu{below}") or _quota_v1(
                    tree, f"/sys/fs/cgroup/{controllers}{below}"
                )
    return Fact(*min(found)) if found else None


def _quota_v2(tree: Tree, path: str) -> list[tuple[float, str]]:
    words = (printable(tree.text(path)) or "").split()
    return _share(words[0], words[1], path) if len(words) == 2 else []


def _quota_v1(tree: Tree, folder: str) -> list[tuple[float, str]]:
    path = f"{folder}/cpu.cfs_quota_us"
    quota = printable(tree.text(path))
    period = None if quota is None else printable(tree.text(f"{folder}/cpu.cfs_period_us"))
    return [] if quota is None or period is None else _share(quota, period, path)


def _share(quota: str, period: str, source: str) -> list[tuple[float, str]]:
    microseconds, of = integer(quota), integer(period)  # "max" and -1 are no quota
    if microseconds is None or of is None or microseconds <= 0 or of <= 0:
        return []
    return [(microseconds / of, source)]

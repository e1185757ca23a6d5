"""Root folders of machines, as their files really look, for what reads ``/proc``, ``/sys`` and library folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_CORTEX_A76 = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
_CORTEX_A55 = _CORTEX_A76.replace("0xd0b", "0xd05").replace("0x4\n", "0x2\n")
_NEOVERSE_N1 = _CORTEX_A76.replace("0xd0b", "0xd0c").replace("0x4\n", "0x3\n")
_XEON = """processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) Processor @ 2.50GHz
flags\t\t: fpu vme sse sse2 lm constant_tsc nopl ssse3 fma sse4_2 avx f16c avx2 avx512f avx512_vnni
bogomips\t: 4999.99

"""

#: /proc/cpuinfo from a published recording of a Raspberry Pi 5 Model B Rev 1.0 (github.com/sergev/vak-opensource, sysinfo; the
#: serial number is left out); board name and thermal zone from published device trees of the board; governor from the
#: Raspberry Pi documentation ("Frequency management"); driver manifests as Debian 12's mesa-vulkan-drivers names them; USB as
#: the kernel lists two root hubs and the interface of one.
RASPBERRY_PI_5: dict[str, str | bytes] = {
    "proc/cpuinfo": "".join(_CORTEX_A76.format(number=number) for number in range(4))
    + "Hardware\t: BCM2835\nRevision\t: d04170\nSerial\t\t: 0000000000000000\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
    "proc/meminfo": "MemTotal:        8241152 kB\nMemFree:         6504320 kB\n",
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/sys/kernel/arch": "aarch64\n",
    "proc/device-tree/model": b"Raspberry Pi 5 Model B Rev 1.0\0",
    "sys/firmware/devicetree/base/model": b"Raspberry Pi 5 Model B Rev 1.0\0",
    "sys/firmware/devicetree/base/compatible": b"raspberrypi,5-model-b\0brcm,bcm2712\0",
    "sys/devices/system/cpu/online": "0-3\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48850\n",
    "sys/bus/usb/devices/usb1/idVendor": "1d6b\n",
    "sys/bus/usb/devices/usb1/idProduct": "0002\n",
    "sys/bus/usb/devices/1-0:1.0/bInterfaceClass": "09\n",
    "sys/bus/usb/devices/usb2/idVendor": "1d6b\n",
    "sys/bus/usb/devices/usb2/idProduct": "0003\n",
    "usr/share/vulkan/icd.d/broadcom_icd.aarch64.json": '{"ICD": {"api_version": "1.2.255"}}\n',
    "usr/share/vulkan/icd.d/lvp_icd.aarch64.json": '{"ICD": {"api_version": "1.3.255"}}\n',
    "usr/lib/aarch64-linux-gnu/libvulkan_broadcom.so": b"\x7fELF",
}

#: A virtual Arm server: no device tree, no frequencies, no temperature.
AARCH64_SERVER: dict[str, str | bytes] = {
    "proc/cpuinfo": "".join(_NEOVERSE_N1.format(number=number) for number in range(2)),
    "proc/meminfo": "MemTotal:        7957504 kB\n",
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/sys/kernel/arch": "aarch64\n",
    "sys/devices/system/cpu/online": "0,1\n",
}

#: A board with two kinds of cores and a kernel before 6.1, which has no /proc/sys/kernel/arch. Core parts of the RK3588.
BIG_LITTLE_BOARD: dict[str, str | bytes] = {
    "proc/cpuinfo": "".join((_CORTEX_A55 if number < 4 else _CORTEX_A76).format(number=number) for number in range(8)),
    "proc/meminfo": "MemTotal:        16077484 kB\n",
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/device-tree/model": b"Radxa ROCK 5B\0",
    "sys/class/thermal/thermal_zone0/type": "soc-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "41615\n",
    "sys/class/thermal/thermal_zone6/type": "npu-thermal\n",
    "sys/class/thermal/thermal_zone6/temp": "39769\n",
}

#: A virtual x86-64 machine, as the machine that edgekit's own measurements were made on.
X86_64_PC: dict[str, str | bytes] = {
    "proc/cpuinfo": "".join(_XEON.format(number=number) for number in range(2)),
    "proc/meminfo": "MemTotal:       24684096 kB\nMemFree:        20000000 kB\n",
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/sys/kernel/arch": "x86_64\n",
    "sys/devices/system/cpu/online": "0-1\n",
}

#: What a Coral USB Accelerator adds, once its firmware runs, with the library of Coral's Debian package.
CORAL_USB: dict[str, str | bytes] = {
    "sys/bus/usb/devices/2-1/idVendor": "18d1\n",
    "sys/bus/usb/devices/2-1/idProduct": "9302\n",
    "sys/bus/usb/devices/2-1:1.0/bInterfaceClass": "ff\n",
    "usr/lib/aarch64-linux-gnu/libedgetpu.so.1": b"\x7fELF",
}


class Link(str):
    """A symbolic link in a tree, with what it points to."""

    __slots__ = ()


def elf(architecture: str) -> bytes:
    """The start of a program for an architecture: the ELF header's fields as <elf.h> has them."""
    machine, bits = {"aarch64": (183, 2), "armv7l": (40, 1), "x86_64": (62, 2), "i686": (3, 1), "riscv64": (243, 2)}[
        architecture
    ]
    return b"\x7fELF" + bytes((bits, 1, 1, 0)) + bytes(8) + (3).to_bytes(2, "little") + machine.to_bytes(2, "little")


def plant(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write a tree's files and links below a folder and return the folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root

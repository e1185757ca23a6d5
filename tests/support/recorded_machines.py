"""Trees of the machines that edgekit has profiles for, and of some that it has none for, each with where it is known from.

``sbc-bench`` is github.com/ThomasKaiser/sbc-bench (recorded runs in ``results``), ``sysinfo`` the folder of that name in
github.com/sergev/vak-opensource; both hold what the machines themselves printed. Serial numbers are left out. What no
recording shows is not in a tree, but for the programs' ELF headers, which are those of the system that the recording names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from machine_trees import AARCH64_SERVER, CORAL_USB, RASPBERRY_PI_5, X86_64_PC, Link, elf

Files = Mapping[str, str | bytes]

_A53 = "fp asimd evtstrm crc32 cpuid"
_A55 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_A78AE = f"{_A55} uscat ilrcpc flagm"
_ARMV7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32"


@dataclass(frozen=True)
class RecordedMachine:
    """A machine's files, and which profile it is.

    Attributes:
        name: what it is.
        profile: the id of its profile; ``None`` when none fits.
        files: its tree.
        unknown: whether it has no profile of its own.
    """

    name: str
    profile: str | None
    files: Files
    unknown: bool = False


def _cores(
    count: int, part: str, features: str, *, variant: int = 0, revision: int = 0, implementer: str = "0x41", bogomips: str = "",
    first: int = 0, armv7: str = "",
) -> str:  # fmt: skip
    """``/proc/cpuinfo`` of some Arm cores of one kind, as 64-bit kernels print it, or 32-bit ones with a name."""
    name = f"model name\t: {armv7}\n" if armv7 else ""
    body = f"BogoMIPS\t: {bogomips}\n" if bogomips else ""
    body += f"Features\t: {features}\nCPU implementer\t: {implementer}\n"
    body += f"CPU architecture: {7 if armv7 else 8}\nCPU variant\t: {variant:#x}\nCPU part\t: {part}\nCPU revision\t: {revision}\n\n"
    return "".join(f"processor\t: {number}\n{name}{body}" for number in range(first, first + count))


def _raspberry_pi(model: str, revision: str, compatible: tuple[str, ...], cores: str) -> dict[str, str | bytes]:
    """What all Raspberry Pis have: the board's name in the device tree and at the end of /proc/cpuinfo."""
    name = model.encode() + b"\0"
    return {
        "proc/cpuinfo": f"{cores}Hardware\t: BCM2835\nRevision\t: {revision}\nModel\t\t: {model}\n",
        "proc/sys/kernel/ostype": "Linux\n",
        # The kernel makes this an absolute link (drivers/of/base.c, of_core_init).
        "proc/device-tree": Link("/sys/firmware/devicetree/base"),
        "sys/firmware/devicetree/base/model": name,
        "sys/firmware/devicetree/base/compatible": _list(*compatible),
        "sys/devices/system/cpu/online": "0-3\n",
    }


def _list(*names: str) -> bytes:
    """A device tree's list of texts."""
    return b"".join(name.encode() + b"\0" for name in names)


def _programs(architecture: str) -> dict[str, str | bytes]:
    """The shell and Python of Debian and its descendants, where /bin is /usr/bin."""
    return {
        "bin": Link("usr/bin"),
        "usr/bin/sh": Link("dash"),
        "usr/bin/dash": elf(architecture),
        "usr/bin/python3": Link("python3.11"),
        "usr/bin/python3.11": elf(architecture),
    }


#: sbc-bench, results/cpuinfo/BCM2387B0-5.16.7-bcm2711.cpuinfo; Linux kernel, arch/arm/boot/dts/broadcom/bcm2837-rpi-3-b-plus.dts.
_PI_3B_PLUS = _raspberry_pi(
    "Raspberry Pi 3 Model B Plus Rev 1.3", "a020d3", ("raspberrypi,3-model-b-plus", "brcm,bcm2837"),
    _cores(4, "0xd03", _A53, revision=4, bogomips="38.40"),
)  # fmt: skip
#: The same board with a 32-bit kernel, which prints the cores as sbc-bench's results/cpuinfo/BCM2710A1_RP3A0-5.10.63-v7.cpuinfo has
#: them (the same Cortex-A53 of revision 4).
_ARMV7_A53 = _cores(4, "0xd03", _ARMV7, revision=4, bogomips="64.00", armv7="ARMv7 Processor rev 4 (v7l)")
#: sbc-bench, results/cpuinfo/BCM2711B0-5.10.63-v8.cpuinfo; Linux kernel, arch/arm/boot/dts/broadcom/bcm2711-rpi-4-b.dts.
_PI_4B = _raspberry_pi(
    "Raspberry Pi 4 Model B Rev 1.4", "d03114", ("raspberrypi,4-model-b", "brcm,bcm2711"),
    _cores(4, "0xd08", _A53, revision=3, bogomips="108.00"),
)  # fmt: skip
#: sbc-bench, results/cpuinfo/BCM2710A1_RP3A0-5.10.63-v7.cpuinfo (revision, cores); github.com/raspberrypi/linux,
#: arch/arm/boot/dts/broadcom/bcm2710-rpi-zero-2-w.dts (list), and listings of the board ("Raspberry Pi Zero 2 W Rev 1.0").
_ZERO_2_W = _raspberry_pi(
    "Raspberry Pi Zero 2 W Rev 1.0", "902120", ("raspberrypi,model-zero-2-w", "brcm,bcm2837"),
    _cores(4, "0xd03", _A53, revision=4, bogomips="38.40"),
)  # fmt: skip
_ZERO_2_32BIT = (
    _raspberry_pi(  # the name that early firmware gives (sbc-bench, results/cpuinfo/BCM2710A1_RP3A0-5.10.63-v7.cpuinfo)
        "Raspberry Pi Zero 2 Rev 1.0", "902120", ("raspberrypi,model-zero-2-w", "brcm,bcm2837"), _ARMV7_A53
    )
)
_PI_3B_PLUS_32BIT = {**_PI_3B_PLUS, "proc/cpuinfo": f"{_ARMV7_A53}Hardware\t: BCM2835\nRevision\t: a020d3\n"}

#: Four Cortex-A53 (Linux kernel, arch/arm64/boot/dts/freescale/imx8mq.dtsi), printed as the kernel prints such cores. The names are
#: those of the board's own system, Mendel (its device tree is fsl-imx8mq-phanbell.dts of Google's kernel, model "Freescale
#: i.MX8MQ Phanbell"); the Edge TPU is a PCIe device with the id of google/gasket-driver, src/apex_driver.c.
_PHANBELL: dict[str, str | bytes] = {
    "proc/cpuinfo": _cores(4, "0xd03", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid", revision=4),
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/device-tree": Link("/sys/firmware/devicetree/base"),
    "sys/firmware/devicetree/base/model": b"Freescale i.MX8MQ Phanbell\0",
    "sys/firmware/devicetree/base/compatible": _list("fsl,imx8mq-phanbell", "fsl,imx8mq"),
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x1ac1\n",
    "sys/bus/pci/devices/0000:01:00.0/device": "0x089a\n",
    "dev/apex_0": "",
    "usr/lib/aarch64-linux-gnu/libedgetpu.so.1": elf("aarch64"),
    **_programs("aarch64"),
}
#: The mainline kernel's names: arch/arm64/boot/dts/freescale/imx8mq-phanbell.dts.
_PHANBELL_MAINLINE = {
    **_PHANBELL,
    "sys/firmware/devicetree/base/model": b"Google i.MX8MQ Phanbell\0",
    "sys/firmware/devicetree/base/compatible": _list("google,imx8mq-phanbell", "fsl,imx8mq"),
}

#: sbc-bench, results/4Ebd.txt (Jetson Linux with kernel 5.10); cores as in results/cpuinfo/Nvidia_Jetson_Orin_NX-5.15.148-tegra.cpuinfo.
_ORIN_NANO: dict[str, str | bytes] = {
    "proc/cpuinfo": _cores(6, "0xd42", _A78AE, revision=1, bogomips="62.50"),
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/device-tree": Link("/sys/firmware/devicetree/base"),
    "sys/firmware/devicetree/base/model": b"NVIDIA Orin Nano Developer Kit\0",
    "sys/firmware/devicetree/base/compatible": _list(
        "nvidia,p3768-0000+p3767-0003", "nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0003", "nvidia,p3767-0005",
        "nvidia,tegra234", "nvidia,tegra23x",
    ),
    "sys/class/dmi/id/product_name": "NVIDIA Orin Nano Developer Kit\n",
    "sys/devices/system/cpu/online": "0-5\n",
    "sys/class/thermal/thermal_zone7/type": "SOC2-therm\n",
    "sys/class/thermal/thermal_zone7/temp": "47300\n",
    **_programs("aarch64"),
}  # fmt: skip
#: The mainline kernel's names: arch/arm64/boot/dts/nvidia/tegra234-p3768-0000+p3767-0005.dts.
_ORIN_NANO_MAINLINE = {
    **_ORIN_NANO,
    "sys/firmware/devicetree/base/model": b"NVIDIA Jetson Orin Nano Developer Kit\0",
    "sys/firmware/devicetree/base/compatible": _list(
        "nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"
    ),
}

#: sbc-bench, results/cpuinfo/RK3588-5.10.66.cpuinfo and results/41BH.txt (names, zones).
_ROCK_5B: dict[str, str | bytes] = {
    "proc/cpuinfo": _cores(4, "0xd05", _A55, variant=2, bogomips="48.00")
    + _cores(4, "0xd0b", _A55, variant=4, bogomips="48.00", first=4),
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/device-tree": Link("/sys/firmware/devicetree/base"),
    "sys/firmware/devicetree/base/model": b"Radxa ROCK 5B\0",
    "sys/firmware/devicetree/base/compatible": _list("radxa,rock-5b", "rockchip,rk3588"),
    "sys/devices/system/cpu/online": "0-7\n",
    "sys/class/thermal/thermal_zone0/type": "soc-thermal\n",
    **_programs("aarch64"),
}
#: sbc-bench, results/4D0a.txt (the vendor's kernel).
_ORANGE_PI_5 = {
    **_ROCK_5B,
    "sys/firmware/devicetree/base/model": b"Orange Pi 5\0",
    "sys/firmware/devicetree/base/compatible": _list("rockchip,rk3588s-orangepi-5", "rockchip,rk3588"),
}
#: Linux kernel, arch/arm64/boot/dts/rockchip/rk3588s-orangepi-5.dts.
_ORANGE_PI_5_MAINLINE = {
    **_ROCK_5B,
    "sys/firmware/devicetree/base/model": b"Xunlong Orange Pi 5\0",
    "sys/firmware/devicetree/base/compatible": _list("xunlong,orangepi-5", "rockchip,rk3588s"),
}

#: sysinfo/Google-Pixel-7-Pro (cpuinfo.txt, fastfetch.txt: Android 16, model, GPU); the properties lie in the partitions' files under
#: the names that Android's init reads (AOSP, system/core/init/property_service.cpp). Apps may not read the device tree.
_PIXEL_7_PRO: dict[str, str | bytes] = {
    "proc/cpuinfo": _cores(4, "0xd05", _A55, variant=2, bogomips="49.15")
    + _cores(2, "0xd41", _A55, variant=1, bogomips="49.15", first=4)
    + _cores(2, "0xd44", _A55, variant=1, bogomips="49.15", first=6),
    "proc/sys/kernel/ostype": "Linux\n",
    "system/build.prop": "# begin common build properties\nro.build.version.release=16\nro.product.system.model=mainline\n"
    "ro.system.product.cpu.abilist=arm64-v8a\n",
    "vendor/build.prop": "ro.product.vendor.model=Pixel 7 Pro\nro.vendor.product.cpu.abilist=arm64-v8a\n",
    "product/etc/build.prop": "ro.product.product.brand=google\nro.product.product.model=Pixel 7 Pro\n",
    "system/bin/sh": elf("aarch64"),
    "bin": Link("/system/bin"),
    "vendor/lib64/libOpenCL.so": elf("aarch64"),
    "vendor/lib64/hw/vulkan.mali.so": elf("aarch64"),
    "vendor/lib64/libedgetpu_litert.so": elf("aarch64"),
}
#: github.com/pytorch/cpuinfo, test/mock/galaxy-s8-us.h: /proc/cpuinfo of both kinds of cores and /system/build.prop of Android 7.
_GALAXY_S8: dict[str, str | bytes] = {
    "proc/cpuinfo": "Processor\t: AArch64 Processor rev 4 (aarch64)\n"
    + _cores(4, "0x801", "fp asimd evtstrm aes pmull sha1 sha2 crc32", implementer="0x51", variant=10, revision=4, bogomips="38.40")
    + _cores(4, "0x800", "fp asimd evtstrm aes pmull sha1 sha2 crc32", implementer="0x51", variant=10, revision=1, bogomips="38.40", first=4),
    "proc/sys/kernel/ostype": "Linux\n",
    "system/build.prop": "\n# begin build properties\nro.build.version.sdk=24\nro.build.version.release=7.0\n"
    "ro.product.model=SM-G950U\nro.product.cpu.abi=arm64-v8a\nro.board.platform=msm8998\n",
}  # fmt: skip

#: sysinfo/Macmini9.1 (sysctl.txt: macOS 15.1.1; system_profiler.txt: Macmini9,1 with an Apple M1). macOS has no /proc: of a recorded
#: disk, its version and the model that it was set up on are in these two files.
_MAC_MINI_M1: dict[str, str | bytes] = {
    "System/Library/CoreServices/SystemVersion.plist": '<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0">\n<dict>\n'
    "\t<key>ProductName</key>\n\t<string>macOS</string>\n\t<key>ProductVersion</key>\n\t<string>15.1.1</string>\n</dict>\n</plist>\n",
    "Library/Preferences/SystemConfiguration/preferences.plist": '<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0">\n'
    "<dict>\n\t<key>CurrentSet</key>\n\t<string>/Sets/0</string>\n\t<key>Model</key>\n\t<string>Macmini9,1</string>\n</dict>\n</plist>\n",
}


def _mac(model: str) -> Files:
    """A Mac of another model, as Apple Support's pages "Identify your … model" name it."""
    return {name: str(content).replace("Macmini9,1", model) for name, content in _MAC_MINI_M1.items()}


#: sysinfo/MacBookPro11.2 (cpuinfo.txt, lshw.txt): Linux on an Intel Core i7-4850HQ, some of its flags.
_HASWELL: dict[str, str | bytes] = {
    "proc/cpuinfo": "".join(
        f"processor\t: {number}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 70\n"
        "model name\t: Intel(R) Core(TM) i7-4850HQ CPU @ 2.30GHz\n"
        "flags\t\t: fpu vme sse sse2 ht syscall nx lm ssse3 fma sse4_1 sse4_2 movbe popcnt aes xsave avx f16c bmi1 avx2 bmi2\n\n"
        for number in range(8)
    ),
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/sys/kernel/arch": "x86_64\n",
    "sys/class/dmi/id/product_name": "MacBookPro11,2\n",
    "sys/devices/system/cpu/online": "0-7\n",
    **_programs("x86_64"),
}
#: sysinfo/Dell-OptiPlex-GX620 (cpuinfo.txt, lshw.txt): Ubuntu 22.04 on a Pentium 4 without AVX.
_PENTIUM_4: dict[str, str | bytes] = {
    "proc/cpuinfo": "".join(
        f"processor\t: {number}\nvendor_id\t: GenuineIntel\ncpu family\t: 15\nmodel\t\t: 4\n"
        "model name\t: Intel(R) Pentium(R) 4 CPU 2.80GHz\nflags\t\t: fpu vme sse sse2 ht syscall nx lm pni cx16 lahf_lm\n\n"
        for number in range(2)
    ),
    "proc/sys/kernel/ostype": "Linux\n",
    "sys/class/dmi/id/product_name": "OptiPlex GX620\n",
    **_programs("x86_64"),
}
#: sysinfo/Olimex-A20-OLinuXino-LIME2 (cpuinfo.txt, dmesg.txt).
_A20: dict[str, str | bytes] = {
    "proc/cpuinfo": _cores(
        2, "0xc07", "half thumb fastmult vfp edsp thumbee neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm",
        revision=4, bogomips="37.89", armv7="ARMv7 Processor rev 4 (v7l)",
    ),
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/device-tree/model": b"Olimex A20-OLinuXino-LIME2\0",
    **_programs("armv7l"),
}  # fmt: skip
#: sysinfo/Allwinner-D1-Nezha (cpuinfo.txt, dmesg.txt).
_RISCV: dict[str, str | bytes] = {
    "proc/cpuinfo": "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc_zicntr_zicsr_zifencei_zihpm\nuarch\t\t: thead,c906\n",
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/sys/kernel/arch": "riscv64\n",
    "proc/device-tree/model": b"Allwinner D1 Nezha\0",
    **_programs("riscv64"),
}

#: A Raspberry Pi 5 as a container sees it: Docker hides /sys/firmware (its default masked paths), and with it the device tree.
PI_5_CONTAINER: Files = {
    **{
        name: content
        for name, content in RASPBERRY_PI_5.items()
        if not name.startswith(("sys/firmware", "proc/device-tree"))
    },
    "proc/device-tree": Link("/sys/firmware/devicetree/base"),
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    **_programs("aarch64"),
}
#: The 64-bit kernel starts by default where it can, whatever the system is (Raspberry Pi documentation, config.txt, "arm_64bit").
PI_4B_32BIT: Files = {**_PI_4B, **_programs("armv7l")}

MACHINES: tuple[RecordedMachine, ...] = (
    RecordedMachine("Raspberry Pi 3B+", "raspberry-pi-3b-plus", {**_PI_3B_PLUS, **_programs("aarch64")}),
    RecordedMachine("Raspberry Pi 3B+, 32-bit kernel", "raspberry-pi-3b-plus-32bit", {**_PI_3B_PLUS_32BIT, **_programs("armv7l")}),
    RecordedMachine("Raspberry Pi 4B", "raspberry-pi-4b", {**_PI_4B, **_programs("aarch64")}),
    RecordedMachine("Raspberry Pi 4B, 32-bit system on a 64-bit kernel", "raspberry-pi-4b-32bit", PI_4B_32BIT),
    RecordedMachine("Raspberry Pi 5", "raspberry-pi-5", {**RASPBERRY_PI_5, **_programs("aarch64")}),
    RecordedMachine("Raspberry Pi 5, 32-bit system", "raspberry-pi-5-32bit", {**RASPBERRY_PI_5, **_programs("armv7l")}),
    RecordedMachine("Raspberry Pi 5, in a container", "raspberry-pi-5", PI_5_CONTAINER),
    RecordedMachine("Raspberry Pi Zero 2 W", "raspberry-pi-zero-2-w", {**_ZERO_2_W, **_programs("aarch64")}),
    RecordedMachine("Raspberry Pi Zero 2 W, 32-bit kernel", "raspberry-pi-zero-2-w-32bit", {**_ZERO_2_32BIT, **_programs("armv7l")}),
    RecordedMachine("Coral Dev Board, Mendel", "coral-dev-board", _PHANBELL),
    RecordedMachine("Coral Dev Board, mainline kernel", "coral-dev-board", _PHANBELL_MAINLINE),
    RecordedMachine("Jetson Orin Nano, Jetson Linux", "jetson-orin-nano", _ORIN_NANO),
    RecordedMachine("Jetson Orin Nano, mainline kernel", "jetson-orin-nano", _ORIN_NANO_MAINLINE),
    RecordedMachine("Radxa ROCK 5B", "rk3588", _ROCK_5B),
    RecordedMachine("Orange Pi 5, vendor's kernel", "rk3588", _ORANGE_PI_5),
    RecordedMachine("Orange Pi 5, mainline kernel", "rk3588", _ORANGE_PI_5_MAINLINE),
    RecordedMachine("Google Pixel 7 Pro, Android 16", "generic-android-arm64", _PIXEL_7_PRO, unknown=True),
    RecordedMachine("Samsung Galaxy S8, Android 7", "generic-android-arm64", _GALAXY_S8, unknown=True),
    RecordedMachine("Mac mini, M1", "apple-m-series", _MAC_MINI_M1),
    RecordedMachine("MacBook Air, M2", "apple-m-series", _mac("Mac14,2")),
    RecordedMachine("MacBook Pro with an Intel processor", None, _mac("MacBookPro16,1")),
    RecordedMachine("virtual machine with AVX-512 VNNI", "generic-x86_64-avx512vnni-linux", {**X86_64_PC, **_programs("x86_64")}, unknown=True),
    RecordedMachine("PC with AVX2", "generic-x86_64-avx2-linux", _HASWELL, unknown=True),
    RecordedMachine("PC without AVX", "generic-x86_64-linux", _PENTIUM_4, unknown=True),
    RecordedMachine("PC with a 32-bit system on a 64-bit kernel", None, {**_HASWELL, **_programs("i686")}),
    RecordedMachine("Arm server", "generic-aarch64-linux", {**AARCH64_SERVER, **_programs("aarch64")}, unknown=True),
    RecordedMachine("Olimex A20-OLinuXino-LIME2", "generic-armv7-linux", _A20, unknown=True),
    RecordedMachine("Allwinner D1 Nezha", None, _RISCV),
    RecordedMachine("Raspberry Pi 4B with a Coral USB Accelerator", "raspberry-pi-4b", {**_PI_4B, **_programs("aarch64"), **CORAL_USB}),
)  # fmt: skip

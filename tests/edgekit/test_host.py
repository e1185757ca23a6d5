"""``edgekit.host``: facts from recorded trees, hostile trees, and this machine."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine_trees as trees
import pytest

from edgekit.host import READ_LIMIT_BYTES, Fact, HostFacts, read_host


def test_every_fact_of_a_raspberry_pi_5(tmp_path: Path) -> None:
    """A recorded Raspberry Pi 5 gives each fact with the path that it has on the device."""
    facts = read_host(trees.plant(tmp_path, trees.RASPBERRY_PI_5))
    assert facts == HostFacts(
        system=Fact("Linux", "/proc/sys/kernel/ostype"),
        machine=Fact("aarch64", "/proc/sys/kernel/arch"),
        cpu_model=Fact("4x Cortex-A76", "/proc/cpuinfo (CPU part)"),
        cpu_flags=Fact(
            (
                "fp",
                "asimd",
                "evtstrm",
                "aes",
                "pmull",
                "sha1",
                "sha2",
                "crc32",
                "atomics",
                "fphp",
                "asimdhp",
                "cpuid",
                "asimdrdm",
                "lrcpc",
                "dcpop",
                "asimddp",
            ),
            "/proc/cpuinfo (Features)",
        ),
        logical_cores=Fact(4, "/sys/devices/system/cpu/online"),
        memory_bytes=Fact(8_438_939_648, "/proc/meminfo (MemTotal)"),
        device_tree_model=Fact("Raspberry Pi 5 Model B Rev 1.0", "/proc/device-tree/model"),
        cpu_governor=Fact("ondemand", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        temperature_c=Fact(48.85, "/sys/class/thermal/thermal_zone0/temp"),
        vulkan_drivers=Fact(
            (
                "/usr/share/vulkan/icd.d/broadcom_icd.aarch64.json",
                "/usr/share/vulkan/icd.d/lvp_icd.aarch64.json",
            ),
            "/usr/share/vulkan/icd.d",
        ),
        opencl_library=None,
        edgetpu_devices=None,
        edgetpu_library=None,
    )


def test_every_fact_of_a_virtual_x86_64_machine(tmp_path: Path) -> None:
    """A recorded virtual machine gives what it has, and ``None`` for what it lacks."""
    facts = read_host(trees.plant(tmp_path, trees.X86_64_PC))
    assert facts.cpu_flags is not None
    assert "avx512_vnni" in facts.cpu_flags.value
    assert facts == HostFacts(
        system=Fact("Linux", "/proc/sys/kernel/ostype"),
        machine=Fact("x86_64", "/proc/sys/kernel/arch"),
        cpu_model=Fact("Intel(R) Xeon(R) Processor @ 2.50GHz", "/proc/cpuinfo (model name)"),
        cpu_flags=facts.cpu_flags,
        logical_cores=Fact(2, "/sys/devices/system/cpu/online"),
        memory_bytes=Fact(25_276_514_304, "/proc/meminfo (MemTotal)"),
    )


def test_two_kinds_of_cores_are_both_named(tmp_path: Path) -> None:
    """A board with fast and slow cores names both; without kernel 6.1 the architecture comes from /proc/cpuinfo."""
    facts = read_host(trees.plant(tmp_path, trees.BIG_LITTLE_BOARD))
    assert facts.cpu_model == Fact("4x Cortex-A55 + 4x Cortex-A76", "/proc/cpuinfo (CPU part)")
    assert facts.machine == Fact("aarch64", "/proc/cpuinfo (CPU architecture)")
    assert facts.logical_cores == Fact(8, "/proc/cpuinfo (processor)")
    assert facts.temperature_c == Fact(41.615, "/sys/class/thermal/thermal_zone0/temp")


def test_an_unknown_arm_core_keeps_its_numbers(tmp_path: Path) -> None:
    """A part number that edgekit has no name for is shown as it is."""
    cpuinfo = "processor\t: 0\nCPU implementer\t: 0x61\nCPU part\t: 0x022\n"
    facts = read_host(trees.plant(tmp_path, {"proc/cpuinfo": cpuinfo}))
    assert facts.cpu_model == Fact("1x implementer 0x61 part 0x22", "/proc/cpuinfo (CPU part)")


def test_edge_tpu_on_usb_and_its_library(tmp_path: Path) -> None:
    """A Coral USB Accelerator is found by its ids, and libedgetpu in the architecture's library folder."""
    facts = read_host(trees.plant(tmp_path, {**trees.RASPBERRY_PI_5, **trees.CORAL_USB}))
    assert facts.edgetpu_devices == Fact(("USB 18d1:9302 at 2-1",), "/sys/bus/usb/devices")
    path = "/usr/lib/aarch64-linux-gnu/libedgetpu.so.1"
    assert facts.edgetpu_library == Fact(path, path)


def test_edge_tpu_before_its_firmware_and_on_pcie(tmp_path: Path) -> None:
    """The ids before the firmware is loaded count too, and so does a PCIe device node."""
    usb = "sys/bus/usb/devices/1-1.2"
    files = {f"{usb}/idVendor": "1a6e\n", f"{usb}/idProduct": "089a\n", "dev/apex_0": "", "dev/null": ""}
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.edgetpu_devices == Fact(
        ("USB 1a6e:089a at 1-1.2", "PCIe /dev/apex_0"), "/sys/bus/usb/devices and /dev"
    )


def test_a_library_that_only_the_linker_cache_knows(tmp_path: Path) -> None:
    """A library in a folder of /etc/ld.so.conf.d is found through /etc/ld.so.cache."""
    cache = b"glibc-ld.so.cache1.1\0libOpenCL.so.1\0/opt/vendor/lib/libOpenCL.so.1\0libz.so.1\0/lib/libz.so.1\0"
    files = {"etc/ld.so.cache": cache, "opt/vendor/lib/libOpenCL.so.1": b"\x7fELF"}
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.opencl_library == Fact("/opt/vendor/lib/libOpenCL.so.1", "/etc/ld.so.cache")


def test_a_library_that_was_removed_after_the_linker_cache_was_written(tmp_path: Path) -> None:
    """A path in /etc/ld.so.cache without its file is no library."""
    cache = b"glibc-ld.so.cache1.1\0libOpenCL.so.1\0/opt/vendor/lib/libOpenCL.so.1\0"
    assert read_host(trees.plant(tmp_path, {"etc/ld.so.cache": cache})) == HostFacts()


def test_android_vendor_opencl(tmp_path: Path) -> None:
    """Android keeps the OpenCL library in the vendor's folder."""
    facts = read_host(trees.plant(tmp_path, {"vendor/lib64/libOpenCL.so": b"\x7fELF"}))
    assert facts.opencl_library == Fact("/vendor/lib64/libOpenCL.so", "/vendor/lib64/libOpenCL.so")


def test_the_processors_own_temperature_is_preferred(tmp_path: Path) -> None:
    """Of several thermal zones the processor's is taken, wherever it stands."""
    base = "sys/class/thermal/thermal_zone"
    files = {f"{base}0/type": "acpitz\n", f"{base}0/temp": "27800\n", f"{base}1/type": "x86_pkg_temp\n"}
    facts = read_host(trees.plant(tmp_path, {**files, f"{base}1/temp": "61000\n"}))
    assert facts.temperature_c == Fact(61.0, "/sys/class/thermal/thermal_zone1/temp")


def test_missing_files_are_unknown_facts(tmp_path: Path) -> None:
    """An empty root, and one that does not exist, tell nothing."""
    assert read_host(tmp_path) == HostFacts()
    assert read_host(tmp_path / "nothing here") == HostFacts()


def _directory(path: Path) -> None:
    path.mkdir()


def _named_pipe(path: Path) -> None:
    os.mkfifo(path)


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 300)


def _text_without_meaning(path: Path) -> None:
    path.write_text("processor: \x1b[31m\nMemTotal: many kB\nCPU part : 0xZZ\n: :\n\n")


def _empty(path: Path) -> None:
    path.touch()


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 64 * 2**30)  # sparse: it takes no room on the disk


@pytest.mark.parametrize(
    "spoil", [_directory, _named_pipe, _link_to_itself, _random_bytes, _text_without_meaning, _empty, _huge]
)
def test_spoilt_files_are_unknown_facts(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Each file of a recorded tree replaced by something hostile: nothing is known, nothing raises or hangs."""
    for name in trees.RASPBERRY_PI_5:
        path = tmp_path / name
        if path.suffix not in (".json", ".so"):  # of these only the names are read
            path.parent.mkdir(parents=True, exist_ok=True)
            spoil(path)
    assert read_host(tmp_path) == HostFacts()


def test_huge_files_are_read_only_in_part(tmp_path: Path) -> None:
    """A file of 64 GiB costs no more memory than the limit for one file, and the fact at its start is found."""
    path = trees.plant(tmp_path, {"proc/meminfo": "MemTotal:        8241152 kB\n"}) / "proc" / "meminfo"
    os.truncate(path, 64 * 2**30)
    tracemalloc.start()
    facts = read_host(tmp_path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert facts.memory_bytes == Fact(8_438_939_648, "/proc/meminfo (MemTotal)")
    assert peak_bytes < 16 * READ_LIMIT_BYTES


def test_unreadable_files_are_unknown_facts_and_the_others_stay() -> None:
    """A file without read permission is skipped; root gives up its rights for the moment, since it may read everything."""
    with tempfile.TemporaryDirectory() as folder:
        root = trees.plant(Path(folder), trees.RASPBERRY_PI_5)
        root.chmod(0o755)
        (root / "proc" / "meminfo").chmod(0)
        (root / "sys" / "bus").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65_534)
        try:
            facts = read_host(root)
        finally:
            os.seteuid(user)
            (root / "sys" / "bus").chmod(0o755)
    assert facts.memory_bytes is None
    assert facts.edgetpu_devices is None
    assert facts.cpu_model == Fact("4x Cortex-A76", "/proc/cpuinfo (CPU part)")


@pytest.mark.parametrize("text", ["999999999", "-400000", "48.85", "hot", "1" * 300])
def test_impossible_temperatures_are_unknown(tmp_path: Path, text: str) -> None:
    """A temperature outside what a chip survives, or no number, is not a fact."""
    assert read_host(trees.plant(tmp_path, {"sys/class/thermal/thermal_zone0/temp": text})) == HostFacts()


@pytest.mark.parametrize("text", ["3-0", "0-99999999", "a-b", "0-3,x", "-1"])
def test_impossible_processor_lists_are_unknown(tmp_path: Path, text: str) -> None:
    """A list of processors that makes no sense is not a fact."""
    assert read_host(trees.plant(tmp_path, {"sys/devices/system/cpu/online": text})) == HostFacts()


def test_a_link_out_of_a_recorded_tree_is_not_followed(tmp_path: Path) -> None:
    """Recordings keep absolute links; following one would tell of this machine."""
    outside = trees.plant(tmp_path / "outside", {"model": b"Raspberry Pi 5 Model B Rev 1.0\0"})
    root = trees.plant(tmp_path / "root", {"sys/firmware/devicetree/base/model": b"Another board\0"})
    (root / "proc").mkdir()
    (root / "proc" / "device-tree").symlink_to(outside)
    assert read_host(root).device_tree_model == Fact("Another board", "/sys/firmware/devicetree/base/model")


def test_this_machine() -> None:
    """The real root asks the kernel as well."""
    facts = read_host()
    assert facts.system == Fact(os.uname().sysname, "uname")
    assert facts.machine == Fact(os.uname().machine, "uname")
    assert facts.logical_cores == Fact(len(os.sched_getaffinity(0)), "sched_getaffinity")
    assert facts.memory_bytes is not None
    assert facts.memory_bytes.value > 2**28


def test_named_vulkan_drivers_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With VK_DRIVER_FILES the Vulkan loader uses those files and no others; one that is missing is no driver."""
    driver = tmp_path / "driver.json"
    driver.write_text("{}")
    monkeypatch.setenv("VK_DRIVER_FILES", f"{driver}{os.pathsep}{tmp_path / 'missing.json'}")
    assert read_host().vulkan_drivers == Fact((str(driver),), "VK_DRIVER_FILES")
    driver.unlink()
    assert read_host().vulkan_drivers is None


def test_vulkan_drivers_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine the folders that XDG variables name are searched too."""
    monkeypatch.delenv("VK_DRIVER_FILES", raising=False)
    monkeypatch.delenv("VK_ICD_FILENAMES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    trees.plant(tmp_path, {"vulkan/icd.d/mine.json": "{}", "vulkan/icd.d/notes.txt": ""})
    drivers = read_host().vulkan_drivers
    assert drivers is not None
    assert [path for path in drivers.value if path.startswith(str(tmp_path))] == [f"{tmp_path}/vulkan/icd.d/mine.json"]


def test_no_program_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on the way of every load: searching libraries must not start ldconfig or a compiler."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a program was started: {args}")

    monkeypatch.setattr("subprocess.Popen", refuse)
    monkeypatch.setattr("os.popen", refuse)
    monkeypatch.setattr("os.posix_spawn", refuse)
    assert read_host().system is not None


def test_to_json(tmp_path: Path) -> None:
    """Each fact with its source, ``None`` for the unknown, and plain JSON types."""
    facts = read_host(trees.plant(tmp_path, {**trees.X86_64_PC, **trees.CORAL_USB})).to_json()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["machine"] == {"value": "x86_64", "source": "/proc/sys/kernel/arch"}
    assert facts["edgetpu_devices"] == {"value": ["USB 18d1:9302 at 2-1"], "source": "/sys/bus/usb/devices"}
    assert facts["temperature_c"] is None
    assert list(facts) == [name for name, _ in HostFacts().items()]

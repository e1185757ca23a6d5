"""``edgekit.host.processor``: architectures, cores and quotas."""

from __future__ import annotations

from pathlib import Path

import machine_trees as trees
import pytest
from recorded_machines import PI_4B_32BIT, PI_5_CONTAINER

from edgekit.host import Fact, read_host


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


def test_a_32_bit_system_on_a_64_bit_kernel(tmp_path: Path) -> None:
    """The kernel is 64-bit, the programs are not, and what libraries must be made for is the programs'."""
    facts = read_host(trees.plant(tmp_path, PI_4B_32BIT))
    assert facts.machine == Fact("aarch64", "/proc/cpuinfo (CPU architecture)")
    assert facts.userland == Fact("armv7l", "/bin/sh (ELF header)")
    assert facts.architecture == facts.userland


@pytest.mark.parametrize("architecture", ["aarch64", "armv7l", "x86_64", "i686", "riscv64"])
def test_the_architecture_of_programs(tmp_path: Path, architecture: str) -> None:
    """It is read from a program's ELF header, through the links to it."""
    files: dict[str, str | bytes] = {
        "usr/bin/python3": trees.Link("/usr/bin/python3.11"),
        "usr/bin/python3.11": trees.elf(architecture),
    }
    assert read_host(trees.plant(tmp_path, files)).userland == Fact(architecture, "/usr/bin/python3 (ELF header)")


def test_an_arm_program_is_no_newer_than_the_processor(tmp_path: Path) -> None:
    """An ELF header says Arm and not which version: on an ARMv6 processor (Raspberry Pi Zero) it is that."""
    cpuinfo = (
        "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\nCPU architecture: 7\nCPU part\t: 0xb76\n"
    )
    facts = read_host(trees.plant(tmp_path, {"proc/cpuinfo": cpuinfo, "bin/sh": trees.elf("armv7l")}))
    assert facts.machine == Fact("armv6l", "/proc/cpuinfo (CPU architecture)")
    assert facts.userland == Fact("armv6l", "/bin/sh (ELF header)")


@pytest.mark.parametrize(
    "head",
    [b"", b"\x7fELF", b"#!/bin/sh\n", trees.elf("aarch64")[:19], trees.elf("x86_64").replace(b"\x7f", b"\x00")],
)
def test_what_is_no_program_has_no_architecture(tmp_path: Path, head: bytes) -> None:
    """A script, a cut-off file and garbage tell nothing."""
    assert read_host(trees.plant(tmp_path, {"bin/sh": head})).userland is None


def test_big_endian_programs_of_no_known_kind(tmp_path: Path) -> None:
    """The header's own byte order is followed: a big-endian Arm program is not taken for another architecture."""
    head = bytearray(trees.elf("aarch64"))
    head[5], head[18], head[19] = 2, 0, 22
    assert read_host(trees.plant(tmp_path, {"bin/sh": bytes(head)})).userland == Fact("s390x", "/bin/sh (ELF header)")


def test_a_container_on_a_raspberry_pi_5(tmp_path: Path) -> None:
    """Its device tree is hidden: the board's name comes from /proc/cpuinfo. Of its 1.5 processors one is whole."""
    facts = read_host(trees.plant(tmp_path, PI_5_CONTAINER))
    assert facts.device_tree_model == Fact("Raspberry Pi 5 Model B Rev 1.0", "/proc/cpuinfo (Model)")
    assert facts.cgroup_cores == Fact(1.5, "/sys/fs/cgroup/cpu.max")
    assert facts.logical_cores == Fact(1, "/sys/fs/cgroup/cpu.max, of 4 (/sys/devices/system/cpu/online)")


CPUS = {"sys/devices/system/cpu/online": "0-7\n"}


def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    """Version 2: a group inside of a limited one has no more than that one."""
    files = {
        **CPUS,
        "proc/self/cgroup": "0::/system.slice/app.service\n",
        "sys/fs/cgroup/system.slice/cpu.max": "250000 100000\n",
        "sys/fs/cgroup/system.slice/app.service/cpu.max": "600000 100000\n",
    }
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.cgroup_cores == Fact(2.5, "/sys/fs/cgroup/system.slice/cpu.max")
    assert facts.logical_cores is not None
    assert facts.logical_cores.value == 2


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_quota_of_version_1(tmp_path: Path, folder: str) -> None:
    """Version 1 has quota and period in two files, below either name of the controller's folder."""
    base = f"sys/fs/cgroup/{folder}/docker/abc"
    files = {
        **CPUS,
        "proc/self/cgroup": "12:memory:/docker/abc\n5:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
        f"{base}/cpu.cfs_quota_us": "300000\n",
        f"{base}/cpu.cfs_period_us": "100000\n",
    }
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.cgroup_cores == Fact(3.0, f"/{base}/cpu.cfs_quota_us")
    assert facts.logical_cores == Fact(3, f"/{base}/cpu.cfs_quota_us, of 8 (/sys/devices/system/cpu/online)")


def test_a_container_that_sees_the_hosts_path(tmp_path: Path) -> None:
    """Version 1 without a namespace: the path is the host's, and what is mounted is the container's own group."""
    files = {
        **CPUS,
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.cgroup_cores == Fact(0.5, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    assert facts.logical_cores is not None
    assert facts.logical_cores.value == 1


def test_a_quota_above_the_processors_changes_nothing(tmp_path: Path) -> None:
    """Sixteen processors' worth of time on eight processors is eight."""
    files = {**CPUS, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "1600000 100000\n"}
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.cgroup_cores == Fact(16.0, "/sys/fs/cgroup/cpu.max")
    assert facts.logical_cores == Fact(8, "/sys/devices/system/cpu/online")


@pytest.mark.parametrize("text", ["max 100000", "-1 100000", "0 100000", "100000 0", "100000", "a b", "1 2 3", ""])
def test_no_quota(tmp_path: Path, text: str) -> None:
    """Without a limit, and where the file makes no sense, there is none."""
    files = {**CPUS, "proc/self/cgroup": "0::/../../a\n", "sys/fs/cgroup/cpu.max": text}
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.cgroup_cores is None
    assert facts.logical_cores == Fact(8, "/sys/devices/system/cpu/online")


@pytest.mark.parametrize(
    "lines", ["", "\n\n", "0::", "0::relative\n", ":::/\n", "0::/\x1b[31m\n", "0::/" + "a/" * 5000]
)
def test_groups_that_make_no_sense(tmp_path: Path, lines: str) -> None:
    """A list of groups that is damaged tells of no quota."""
    files = {**CPUS, "proc/self/cgroup": lines}
    assert read_host(trees.plant(tmp_path, files)).cgroup_cores is None

"""``edgekit.host``: every fact of recorded machines, and this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import machine_trees as trees
import pytest
from recorded_machines import MACHINES, RecordedMachine

from edgekit.host import Fact, HostFacts, read_host


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
        device_tree_compatible=Fact(
            ("raspberrypi,5-model-b", "brcm,bcm2712"), "/sys/firmware/devicetree/base/compatible"
        ),
        usb_ids=Fact(("1d6b:0002", "1d6b:0003"), "/sys/bus/usb/devices"),
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


def test_missing_files_are_unknown_facts(tmp_path: Path) -> None:
    """An empty root, and one that does not exist, tell nothing."""
    assert read_host(tmp_path) == HostFacts()
    assert read_host(tmp_path / "nothing here") == HostFacts()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_each_fact_says_where_it_was_read(tmp_path: Path, machine: RecordedMachine) -> None:
    """The source of every fact of every recorded machine begins with a file or folder that the tree has."""
    facts = read_host(trees.plant(tmp_path, machine.files))
    sources = {name: fact.source for name, fact in facts.items() if fact is not None}
    inside = {name: _first_path(source) for name, source in sources.items()}
    assert {name: path for name, path in inside.items() if not _is_in(tmp_path, path)} == {}
    assert len(sources) >= 2


def _first_path(source: str) -> str:
    return source.partition(" ")[0].rstrip(",;")


def _is_in(root: Path, path: str) -> bool:
    """Whether the tree has it; an absolute link of the tree starts at its root."""
    here = root
    for part in path.strip("/").split("/"):
        here = here / part
        if here.is_symlink() and here.readlink().is_absolute():
            here = root / str(here.readlink())[1:]
    return here.exists()


def test_this_machine() -> None:
    """The real root asks the kernel as well."""
    facts = read_host()
    assert facts.system == Fact(os.uname().sysname, "uname")
    assert facts.machine == Fact(os.uname().machine, "uname")
    assert facts.logical_cores is not None
    assert 1 <= facts.logical_cores.value <= len(os.sched_getaffinity(0))
    assert facts.userland is not None
    assert facts.userland.source == "/proc/self/exe (ELF header)"
    assert facts.architecture == facts.userland
    assert facts.memory_bytes is not None
    assert facts.memory_bytes.value > 2**28


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


def test_the_kernels_architecture_stands_in_for_the_programs() -> None:
    """Where the programs' architecture is not known, the kernel's decides."""
    kernel = Fact("aarch64", "uname")
    assert HostFacts(machine=kernel).architecture == kernel
    assert HostFacts(machine=kernel, userland=Fact("armv7l", "/bin/sh")).architecture == Fact("armv7l", "/bin/sh")
    assert HostFacts().architecture is None

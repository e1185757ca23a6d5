"""``edgekit.host.system``: names, products, properties, temperatures."""

from __future__ import annotations

from pathlib import Path

import machine_trees as trees
import pytest
from recorded_machines import MACHINES

from edgekit.host import Fact, HostFacts, read_host


def _facts(tmp_path: Path, name: str) -> HostFacts:
    """The facts of the recorded machine of that name."""
    (machine,) = [item for item in MACHINES if item.name == name]
    return read_host(trees.plant(tmp_path, machine.files))


def test_a_phone(tmp_path: Path) -> None:
    """Android's properties come from the partitions' files, the product partition's before the vendor's and the system's."""
    facts = _facts(tmp_path, "Google Pixel 7 Pro, Android 16")
    assert facts.system == Fact("Android", "/system/build.prop (ro.build.version.release)")
    assert facts.android == Fact("16", "/system/build.prop (ro.build.version.release)")
    assert facts.product == Fact("Pixel 7 Pro", "/product/etc/build.prop (ro.product.product.model)")
    assert facts.userland == Fact("aarch64", "/bin/sh (ELF header)")
    assert facts.cpu_model == Fact("4x Cortex-A55 + 2x Cortex-A78 + 2x Cortex-X1", "/proc/cpuinfo (CPU part)")
    assert facts.vulkan_drivers == Fact(("/vendor/lib64/hw/vulkan.mali.so",), "/vendor/lib64/hw")
    assert facts.opencl_library == Fact("/vendor/lib64/libOpenCL.so", "/vendor/lib64/libOpenCL.so")
    assert facts.npu_libraries == Fact(("/vendor/lib64/libedgetpu_litert.so",), "/vendor/lib64")


def test_an_older_phone(tmp_path: Path) -> None:
    """Android 7 has one file of properties; without a program the architecture is that of its first ABI."""
    facts = _facts(tmp_path, "Samsung Galaxy S8, Android 7")
    assert facts.android == Fact("7.0", "/system/build.prop (ro.build.version.release)")
    assert facts.product == Fact("SM-G950U", "/system/build.prop (ro.product.model)")
    assert facts.userland == Fact("aarch64", "/system/build.prop (ro.product.cpu.abi)")
    assert facts.machine == Fact("aarch64", "/proc/cpuinfo (CPU architecture)")


def test_a_32_bit_phone(tmp_path: Path) -> None:
    """A phone whose first ABI is 32-bit runs 32-bit programs, whatever its kernel is."""
    text = "ro.build.version.release=11\nro.product.cpu.abi=armeabi-v7a\n"
    files = {"system/build.prop": text, "proc/sys/kernel/arch": "aarch64\n"}
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.machine == Fact("aarch64", "/proc/sys/kernel/arch")
    assert facts.userland == Fact("armv7l", "/system/build.prop (ro.product.cpu.abi)")


def test_a_mac(tmp_path: Path) -> None:
    """Of a recorded disk the model says which processor it has."""
    model = "/Library/Preferences/SystemConfiguration/preferences.plist (Model)"
    assert _facts(tmp_path, "Mac mini, M1") == HostFacts(
        system=Fact("Darwin", "/System/Library/CoreServices/SystemVersion.plist (ProductName)"),
        product=Fact("Macmini9,1", model),
        machine=Fact("arm64", f"{model}, a Mac with an Apple processor"),
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("MacBookAir10,1", "arm64"), ("MacBookPro18,4", "arm64"), ("iMac21,2", "arm64"), ("Mac16,10", "arm64"),
        ("MacBookAir9,1", None), ("MacBookPro16,4", None), ("Macmini8,1", None), ("MacPro7,1", None), ("iMac20,2", None),
    ],
)  # fmt: skip
def test_which_macs_have_an_apple_processor(tmp_path: Path, model: str, expected: str | None) -> None:
    """Models are as Apple's pages for identifying a Mac list them, the last with an Intel processor among them."""
    (mini,) = [item for item in MACHINES if item.name == "Mac mini, M1"]
    files: dict[str, str | bytes] = {
        name: str(content).replace("Macmini9,1", model) for name, content in mini.files.items()
    }
    machine = read_host(trees.plant(tmp_path, files)).machine
    assert (machine.value if machine is not None else None) == expected


def test_a_name_that_the_maker_did_not_fill_in(tmp_path: Path) -> None:
    """It is no product."""
    text = "To Be Filled By O.E.M.\n"
    assert read_host(trees.plant(tmp_path, {"sys/class/dmi/id/product_name": text})) == HostFacts()


def test_the_board_of_a_container_without_a_device_tree(tmp_path: Path) -> None:
    """The chip's driver says the board's name too, where the device tree is hidden."""
    files = {"proc/sys/kernel/ostype": "Linux\n", "sys/devices/soc0/machine": "Google i.MX8MQ Phanbell\n"}
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.device_tree_model == Fact("Google i.MX8MQ Phanbell", "/sys/devices/soc0/machine")


def test_a_pc_has_no_board_name_in_cpuinfo(tmp_path: Path) -> None:
    """On a PC a line "Model" after the last processor would be something else."""
    cpuinfo = "processor\t: 0\nvendor_id\t: GenuineIntel\n\nModel\t: 85\n"
    assert read_host(trees.plant(tmp_path, {"proc/cpuinfo": cpuinfo})).device_tree_model is None


def test_the_processors_own_temperature_is_preferred(tmp_path: Path) -> None:
    """Of several thermal zones the processor's is taken, wherever it stands."""
    base = "sys/class/thermal/thermal_zone"
    files = {f"{base}0/type": "acpitz\n", f"{base}0/temp": "27800\n", f"{base}1/type": "x86_pkg_temp\n"}
    facts = read_host(trees.plant(tmp_path, {**files, f"{base}1/temp": "61000\n"}))
    assert facts.temperature_c == Fact(61.0, "/sys/class/thermal/thermal_zone1/temp")


def test_a_zone_that_does_not_answer_is_passed_over(tmp_path: Path) -> None:
    """Where one of the processor's zones has no sensible number another is taken, and one of another part after those."""
    base = "sys/class/thermal/thermal_zone"
    files = {f"{base}0/type": "gpu-thermal\n", f"{base}0/temp": "41000\n", f"{base}1/type": "cpu-thermal\n"}
    files |= {f"{base}1/temp": "999999\n", f"{base}2/type": "soc-thermal\n", f"{base}2/temp": "52000\n"}
    assert read_host(trees.plant(tmp_path, files)).temperature_c == Fact(52.0, f"/{base}2/temp")
    (tmp_path / f"{base}2" / "type").unlink()
    assert read_host(tmp_path).temperature_c == Fact(41.0, f"/{base}0/temp")

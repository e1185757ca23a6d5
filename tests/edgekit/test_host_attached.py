"""``edgekit.host.attached``: USB and PCI devices, Edge TPUs, drivers and libraries."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machine_trees as trees
import pytest

from edgekit.host import NPU_LIBRARIES, Fact, HostFacts, read_host

NOBODY = 65_534


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


def test_usb_ids(tmp_path: Path) -> None:
    """Each id once, in lower case; interfaces and entries that are no device are not among them."""
    base = "sys/bus/usb/devices"
    ids = {"usb1": ("1d6b", "0002"), "1-1": ("18D1", "9302"), "1-2": ("18d1", "9302"), "1-1:1.0": ("0001", "0001")}
    ids |= {"2-1": ("18d1", ""), "2-2": ("xyzw", "0001"), "2-3": ("12345", "0001")}
    files = {f"{base}/{name}/idVendor": pair[0] for name, pair in ids.items()}
    files |= {f"{base}/{name}/idProduct": pair[1] for name, pair in ids.items()}
    assert read_host(trees.plant(tmp_path, files)).usb_ids == Fact(("18d1:9302", "1d6b:0002"), f"/{base}")


#: As the kernel prints them (drivers/pci/proc.c, show_device): bus and device, vendor and product, interrupt, regions, driver.
PCI_LIST = "0000\t80860d57\t0\t 0\n0008\t1af41041\t0\t 4000000004\tvirtio-pci\n0100\t1ac1089a\t2b\t 0\tapex\n"


def test_pci_ids_from_the_kernels_list(tmp_path: Path) -> None:
    """One file has all of them."""
    files = {"proc/bus/pci/devices": PCI_LIST, "sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086\n"}
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.pci_ids == Fact(("1ac1:089a", "1af4:1041", "8086:0d57"), "/proc/bus/pci/devices")
    assert facts.edgetpu_devices == Fact(("PCIe 1ac1:089a at 01:00.0",), "/proc/bus/pci/devices")


def test_pci_ids_from_folders(tmp_path: Path) -> None:
    """Where the kernel has no such file, each device's folder tells."""
    base = "sys/bus/pci/devices/0000:01:00.0"
    facts = read_host(trees.plant(tmp_path, {f"{base}/vendor": "0x1ac1\n", f"{base}/device": "0x089a\n"}))
    assert facts.pci_ids == Fact(("1ac1:089a",), "/sys/bus/pci/devices")
    assert facts.edgetpu_devices == Fact(("PCIe 1ac1:089a at 0000:01:00.0",), "/sys/bus/pci/devices")


@pytest.mark.parametrize(
    "line",
    ["", "0100", "0100\t1ac1", "xyzw\t1ac1089a\t0", "0100\t1ac1089a0\t0", "0100 1ac1089a 0", "0100\t1ac1-89a\t0"],
)
def test_pci_lines_that_make_no_sense(tmp_path: Path, line: str) -> None:
    """They are passed over."""
    assert read_host(trees.plant(tmp_path, {"proc/bus/pci/devices": f"{line}\n"})) == HostFacts()


def test_an_edge_tpu_without_its_driver(tmp_path: Path) -> None:
    """A PCIe Edge TPU needs the kernel's driver, which makes the device node."""
    access = read_host(trees.plant(tmp_path, {"proc/bus/pci/devices": PCI_LIST})).edgetpu_access
    assert access == Fact(
        "PCIe 1ac1:089a at 01:00.0 has no device node /dev/apex_*: the kernel's driver is not loaded (package "
        "gasket-dkms; in a container the node must be passed in: --device /dev/apex_0)",
        "/proc/bus/pci/devices",
    )


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Without the rights of root, which may open everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


USB: dict[str, str | bytes] = {
    **trees.CORAL_USB,
    "sys/bus/usb/devices/2-1/busnum": "2\n",
    "sys/bus/usb/devices/2-1/devnum": "3\n",
    "dev/bus/usb/002/003": "",
}


def _access(files: dict[str, str | bytes], mode: int, node: str = "dev/bus/usb/002/003") -> Fact[str] | None:
    """Why a user without rights cannot open the Edge TPU of a tree whose node has this mode and is of group 46."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file that it may not open itself")
    with tempfile.TemporaryDirectory() as folder:
        root = trees.plant(Path(folder), files)
        root.chmod(0o755)
        (root / node).chmod(mode)
        os.chown(root / node, 0, 46)
        with _as_nobody():
            return read_host(root).edgetpu_access


def test_an_edge_tpu_that_may_be_opened() -> None:
    """Nothing keeps this user from it."""
    assert _access(USB, 0o666) is None


def test_an_edge_tpu_that_this_user_may_not_open() -> None:
    """The node's group is not the one of the udev rules: they are missing."""
    assert _access({**USB, "etc/group": "root:x:0:\nusers:x:46:\n"}, 0o664) == Fact(
        "this user may not write to /dev/bus/usb/002/003 (group users, mode 0664): it needs the udev rules of the package "
        "libedgetpu1-std (the group plugdev for 1a6e:089a and 18d1:9302) and this user in that group; then plug the "
        "device in again",
        "/dev/bus/usb/002/003",
    )


def test_an_edge_tpu_whose_group_this_user_is_not_in() -> None:
    """The udev rules are there: the user is not in the group."""
    assert _access({**USB, "etc/group": "root:x:0:\nplugdev:x:46:someone\n"}, 0o660) == Fact(
        "this user may not write to /dev/bus/usb/002/003 (group plugdev, mode 0660): add the user to the group plugdev "
        "(sudo usermod -aG plugdev USER) and log in again",
        "/dev/bus/usb/002/003",
    )


def test_an_edge_tpu_on_pcie_that_this_user_may_not_open() -> None:
    """PCIe has a rule and a group of its own."""
    assert _access({"dev/apex_0": "", "proc/bus/pci/devices": PCI_LIST}, 0o600, "dev/apex_0") == Fact(
        "this user may not write to /dev/apex_0 (group 46, mode 0600): it needs the udev rule "
        'SUBSYSTEM=="apex", MODE="0660", GROUP="apex" and this user in that group; then restart',
        "/dev/apex_0",
    )


def test_one_of_two_edge_tpus_is_enough() -> None:
    """Where one can be opened, nothing keeps the user from running a model."""
    files: dict[str, str | bytes] = {
        **USB,
        "sys/bus/usb/devices/2-2/idVendor": "18d1\n",
        "sys/bus/usb/devices/2-2/idProduct": "9302\n",
        "sys/bus/usb/devices/2-2/busnum": "2\n",
        "sys/bus/usb/devices/2-2/devnum": "4\n",
        "dev/bus/usb/002/004": "",
    }
    assert _access(files, 0o600) is not None
    assert _access(files, 0o666) is None


def test_a_recorded_edge_tpu_without_its_node(tmp_path: Path) -> None:
    """Recordings seldom hold device nodes: that one is missing tells nothing of the machine."""
    files = {name: content for name, content in USB.items() if not name.startswith("dev/")}
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.edgetpu_devices is not None
    assert facts.edgetpu_access is None


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


def test_libraries_of_npus(tmp_path: Path) -> None:
    """The vendors' and LiteRT's own, in the order of the list, each where the linker would find it."""
    files: dict[str, str | bytes] = {
        "etc/ld.so.cache": b"glibc-ld.so.cache1.1\0/opt/qcom/lib/libQnnHtp.so\0",
        "opt/qcom/lib/libQnnHtp.so": trees.elf("aarch64"),
        "usr/lib/librknnrt.so": trees.elf("aarch64"),
        "usr/lib/aarch64-linux-gnu/libLiteRtDispatch_Qualcomm.so": trees.elf("aarch64"),
        "usr/lib/libunrelated.so": trees.elf("aarch64"),
    }
    assert read_host(trees.plant(tmp_path, files)).npu_libraries == Fact(
        (
            "/usr/lib/aarch64-linux-gnu/libLiteRtDispatch_Qualcomm.so",
            "/opt/qcom/lib/libQnnHtp.so",
            "/usr/lib/librknnrt.so",
        ),
        "/usr/lib/aarch64-linux-gnu, /etc/ld.so.cache, /usr/lib",
    )
    assert len(set(NPU_LIBRARIES)) == len(NPU_LIBRARIES)


def test_a_folder_under_two_names_is_one(tmp_path: Path) -> None:
    """Merged systems have /lib as a link to /usr/lib; a library is found under the first name."""
    files: dict[str, str | bytes] = {
        "usr/lib/aarch64-linux-gnu/libOpenCL.so.1": trees.elf("aarch64"),
        "lib": trees.Link("usr/lib"),
    }
    path = "/usr/lib/aarch64-linux-gnu/libOpenCL.so.1"
    assert read_host(trees.plant(tmp_path, files)).opencl_library == Fact(path, path)


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


def test_libraries_of_the_linker_cache_that_begin_alike(tmp_path: Path) -> None:
    """One that is missing does not hide another whose name begins in the same way."""
    files: dict[str, str | bytes] = {
        "etc/ld.so.cache": b"glibc-ld.so.cache1.1\0/opt/a/libedgetpu_litert.so\0/opt/a/libOpenCL-pixel.so\0",
        "opt/a/libedgetpu_litert.so": trees.elf("aarch64"),
        "opt/a/libOpenCL-pixel.so": trees.elf("aarch64"),
    }
    facts = read_host(trees.plant(tmp_path, files))
    assert facts.edgetpu_library is None
    assert facts.npu_libraries == Fact(("/opt/a/libedgetpu_litert.so",), "/etc/ld.so.cache")
    assert facts.opencl_library == Fact("/opt/a/libOpenCL-pixel.so", "/etc/ld.so.cache")

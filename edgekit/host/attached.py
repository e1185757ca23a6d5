"""Facts of what is attached to the processor: USB and PCI devices, Edge TPUs, GPU drivers, libraries of accelerators."""

from __future__ import annotations

import os
import sys

from edgekit.host.facts import Fact
from edgekit.host.tree import Tree, printable
from edgekit.records import Record
from edgekit.runtime.delegates import EDGETPU_LIBRARIES
from edgekit.runtime.delegates import edgetpu_library as find_edgetpu_library

#: USB ids of the Coral USB Accelerator: before its firmware is loaded (Global Unichip) and after that (Google), as the udev
#: rules of libedgetpu have them (google-coral/libedgetpu, debian/edgetpu-accelerator.rules).
EDGETPU_USB_IDS: tuple[str, ...] = ("1a6e:089a", "18d1:9302")
#: PCI id of the Edge TPU on M.2, Mini PCIe and the boards (google/gasket-driver, src/apex_driver.c, APEX_PCI_VENDOR_ID).
EDGETPU_PCI_ID = "1ac1:089a"
OPENCL_LIBRARIES: tuple[str, ...] = ("libOpenCL.so.1", "libOpenCL.so", "libOpenCL-pixel.so")
#: LiteRT's dispatch libraries (google-ai-edge/LiteRT, litert/vendors), then the vendors' own: what the compiler plugins in
#: ai-edge-litert 2.3's wheel name as loaded by them (Qualcomm, MediaTek, Intel), the Pixels' own library, Rockchip's runtime.
NPU_LIBRARIES: tuple[str, ...] = (
    "libLiteRtDispatch_Qualcomm.so", "libLiteRtDispatch_MediaTek.so", "libLiteRtDispatch_GoogleTensor.so",
    "libLiteRtDispatch_Samsung.so", "libLiteRtDispatch_IntelOpenvino.so",
    "libQnnHtp.so", "libneuron_adapter.so", "libneuronusdk_adapter.mtk.so", "libedgetpu_litert.so", "libopenvino.so",
    "librknnrt.so",
)  # fmt: skip
_USB = "/sys/bus/usb/devices"
_PCI = "/sys/bus/pci/devices"
_PCI_LIST = "/proc/bus/pci/devices"
_DEVICE_LIMIT = 512
_HEXADECIMAL = frozenset("0123456789abcdef")


class Device(Record):
    """A USB or PCI device.

    Attributes:
        id: ``vendor:product``.
        name: where it is: the USB port, the PCI address.
        source: what lists it.
    """

    id: str
    name: str
    source: str


class Edgetpu(Record):
    """A connected Edge TPU.

    Attributes:
        text: what it is and where.
        node: the file that programs open; ``None`` where it has none.
        usb: whether it is on USB.
        id: its USB or PCI id.
        source: what lists it.
    """

    text: str
    node: str | None
    usb: bool
    id: str
    source: str


def usb_devices(tree: Tree) -> tuple[Device, ...]:
    """Connected USB devices."""
    found: list[Device] = []
    for name in tree.names(_USB)[:_DEVICE_LIMIT]:
        if ":" in name:  # an interface of a device that is listed itself
            continue
        vendor = printable(tree.text(f"{_USB}/{name}/idVendor"))
        item = None if vendor is None else _id(vendor, printable(tree.text(f"{_USB}/{name}/idProduct")))
        if item is not None:
            found.append(Device(item, name, _USB))
    return tuple(found)


def pci_devices(tree: Tree) -> tuple[Device, ...]:
    """PCI devices: from one file where the kernel has it, else from a folder for each."""
    found: list[Device] = []
    for line in (tree.text(_PCI_LIST) or "").split("\n")[:_DEVICE_LIMIT]:
        words = line.split("\t", 2)
        if len(words) < 2 or len(words[0]) != 4 or len(words[1]) != 8 or not set(words[0]) <= _HEXADECIMAL:
            continue
        item = _id(words[1][:4], words[1][4:])
        if item is not None:
            place = int(words[0][2:], 16)  # five bits of device, three of function
            found.append(Device(item, f"{words[0][:2]}:{place >> 3:02x}.{place & 7}", _PCI_LIST))
    if found:
        return tuple(found)
    for name in tree.names(_PCI)[:_DEVICE_LIMIT]:
        vendor = printable(tree.text(f"{_PCI}/{name}/vendor"))
        product = None if vendor is None else printable(tree.text(f"{_PCI}/{name}/device"))
        item = None if vendor is None or product is None else _id(vendor.removeprefix("0x"), product.removeprefix("0x"))
        if item is not None:
            found.append(Device(item, name, _PCI))
    return tuple(found)


def _id(vendor: str, product: str | None) -> str | None:
    both = f"{vendor}:{product}".lower()
    return both if product and len(vendor) == len(product) == 4 and set(both) <= _HEXADECIMAL | {":"} else None


def ids(devices: tuple[Device, ...]) -> Fact[tuple[str, ...]] | None:
    """Each id once, in order."""
    if not devices:
        return None
    return Fact(tuple(sorted({item.id for item in devices})), devices[0].source)


def edgetpus(tree: Tree, usb: tuple[Device, ...], pci: tuple[Device, ...]) -> tuple[Edgetpu, ...]:
    """Connected Edge TPUs: USB, PCIe with the kernel's driver, PCIe without it."""
    found: list[Edgetpu] = []
    for item in usb:
        if item.id in EDGETPU_USB_IDS:
            bus, device = tree.number(f"{_USB}/{item.name}/busnum"), tree.number(f"{_USB}/{item.name}/devnum")
            node = None if bus is None or device is None else f"/dev/bus/usb/{bus:03d}/{device:03d}"
            found.append(Edgetpu(f"USB {item.id} at {item.name}", node, True, item.id, _USB))
    nodes = [name for name in tree.names("/dev") if name.startswith("apex_")]
    if nodes:
        found.extend(Edgetpu(f"PCIe /dev/{name}", f"/dev/{name}", False, EDGETPU_PCI_ID, "/dev") for name in nodes)
        return tuple(found)
    found.extend(
        Edgetpu(f"PCIe {item.id} at {item.name}", None, False, item.id, item.source)
        for item in pci
        if item.id == EDGETPU_PCI_ID
    )
    return tuple(found)


def edgetpu_devices(found: tuple[Edgetpu, ...]) -> Fact[tuple[str, ...]] | None:
    """Connected Edge TPUs, in words."""
    if not found:
        return None
    return Fact(tuple(item.text for item in found), " and ".join(dict.fromkeys(item.source for item in found)))


def edgetpu_access(tree: Tree, found: tuple[Edgetpu, ...]) -> Fact[str] | None:
    """Why this user can open none of the connected Edge TPUs; ``None`` when one can be opened or it cannot be told."""
    reasons: list[tuple[str, str]] = []
    for item in found:
        reason = _why_not(tree, item)
        if reason is None:
            return None
        reasons.append((reason, item.node or item.source))
    if not reasons:
        return None
    return Fact(
        "; ".join(reason for reason, _ in reasons), " and ".join(dict.fromkeys(source for _, source in reasons))
    )


def _why_not(tree: Tree, item: Edgetpu) -> str | None:
    if item.node is None:
        if item.usb:
            return None
        return (
            f"{item.text} has no device node /dev/apex_*: the kernel's driver is not loaded (package gasket-dkms; in a "
            "container the node must be passed in: --device /dev/apex_0)"
        )
    status = tree.status(item.node)
    if status is None:
        if not tree.real:  # recordings seldom hold device nodes
            return None
        return f"the device node {item.node} is not there: in a container USB must be passed in (--device /dev/bus/usb)"
    if tree.writable(item.node):
        return None
    group = "plugdev" if item.usb else "apex"
    owner = _group_name(tree, status.st_gid)
    text = f"this user may not write to {item.node} (group {owner}, mode {status.st_mode & 0o777:04o}): "
    if owner == group and status.st_mode & 0o060 == 0o060:
        return f"{text}add the user to the group {group} (sudo usermod -aG {group} USER) and log in again"
    if item.usb:
        rule = f"the udev rules of the package libedgetpu1-std (the group {group} for {' and '.join(EDGETPU_USB_IDS)})"
        return f"{text}it needs {rule} and this user in that group; then plug the device in again"
    rule = 'the udev rule SUBSYSTEM=="apex", MODE="0660", GROUP="apex"'
    return f"{text}it needs {rule} and this user in that group; then restart"


def _group_name(tree: Tree, number: int) -> str:
    """A group's name, from the machine's own list; its number where the list does not have it."""
    for line in (tree.text("/etc/group") or "").split("\n"):
        fields = line.split(":")
        if len(fields) == 4 and fields[2] == str(number) and printable(fields[0]) is not None:
            return fields[0]
    return str(number)


def edgetpu_library(tree: Tree, device_found: bool) -> Fact[str] | None:
    """The library libedgetpu."""
    found = tree.library(EDGETPU_LIBRARIES)
    # The thorough search starts programs (ldconfig, gcc, ld), which on Linux costs more than loading a small model:
    # only worth it when there is a device that could use the library.
    if found is None and tree.real and (device_found or not sys.platform.startswith("linux")):
        name = find_edgetpu_library()
        return Fact(name, "the dynamic linker") if name else None
    return found


def npu_libraries(tree: Tree) -> Fact[tuple[str, ...]] | None:
    """Libraries of NPUs on the library path."""
    found = [item for item in (tree.library((name,)) for name in NPU_LIBRARIES) if item is not None]
    if not found:
        return None
    folders = (item.source if item.source != item.value else item.value.rpartition("/")[0] for item in found)
    return Fact(tuple(item.value for item in found), ", ".join(dict.fromkeys(folders)))


def vulkan_drivers(tree: Tree, system_name: Fact[str] | None) -> Fact[tuple[str, ...]] | None:
    """Driver manifests, where the Vulkan loader looks for them ("Driver Discovery on Linux" of its driver interface)."""
    if tree.real:
        for variable in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
            named = os.environ.get(variable)
            if named:  # the loader then uses these and no others
                present = tuple(path for path in named.split(os.pathsep) if tree.exists(path))
                return Fact(present, variable) if present else None
    found: list[str] = []
    if system_name is not None and system_name.value == "Android":
        # Android's own loader opens the vendor's hardware module vulkan.<name>.so (AOSP, "Implement Vulkan", "Driver enumeration").
        for folder in ("/vendor/lib64/hw", "/vendor/lib/hw"):
            found.extend(f"{folder}/{name}" for name in tree.names(folder) if name.startswith("vulkan."))
    else:
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

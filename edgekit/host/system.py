"""Facts of the system and the board: name, product, device tree, memory, temperature."""

from __future__ import annotations

import os
import sys

from edgekit.host.facts import Fact
from edgekit.host.tree import Tree, integer, printable

#: Where each partition of Android keeps its properties, in the order in which init takes ``ro.product.*`` from them
#: (AOSP, system/core/init/property_service.cpp, RO_PRODUCT_PROPS_DEFAULT_SOURCE_ORDER: product, odm, vendor, system_ext, system).
_BUILD_PROPERTIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("product", ("/product/etc/build.prop", "/product/build.prop")),
    ("odm", ("/odm/etc/build.prop", "/odm/build.prop")),
    ("vendor", ("/vendor/build.prop",)),
    ("system_ext", ("/system_ext/etc/build.prop", "/system_ext/build.prop")),
    ("system", ("/system/build.prop", "/system/system/build.prop")),
)
#: Firmware of boards whose maker did not fill in the name says one of these.
_NO_NAMES = frozenset(
    {
        "to be filled by o.e.m.",
        "system product name",
        "default string",
        "not applicable",
        "not specified",
        "none",
        "o.e.m.",
    }
)
_MAC_VERSION = "/System/Library/CoreServices/SystemVersion.plist"
_MAC_PREFERENCES = "/Library/Preferences/SystemConfiguration/preferences.plist"
_DEVICE_TREES = ("/proc/device-tree", "/sys/firmware/devicetree/base")


class AndroidProperties:
    """Android's system properties: of this phone from its C library, of a recorded one from its ``build.prop`` files.

    On another system there are none, and nothing is read.

    Attributes:
        here: whether this machine is an Android one.
    """

    def __init__(self, tree: Tree) -> None:
        self.here = tree.real and (hasattr(sys, "getandroidapilevel") or sys.platform == "android")
        self._tree = tree
        self._files: dict[str, Fact[str]] | None = None if self.here or not tree.real else {}

    def find(self, *names: str) -> Fact[str] | None:
        """The first of these properties that has a value."""
        if self.here:
            from edgekit.host import native  # loads ctypes

            for name in names:
                value = printable(native.android_property(name))
                if value is not None:
                    return Fact(value, f"system property {name}")
        if self._files is None:
            self._files = self._read()
        return next((self._files[name] for name in names if name in self._files), None)

    def _read(self) -> dict[str, Fact[str]]:
        found: dict[str, Fact[str]] = {}
        for _, paths in _BUILD_PROPERTIES:
            for path in paths:
                for line in (self._tree.text(path) or "").split("\n"):
                    name, equals, text = line.partition("=")
                    value = printable(text)
                    if equals and value is not None and name.startswith("ro."):
                        found.setdefault(name.strip(), Fact(value, f"{path} ({name.strip()})"))
        return found


def system(tree: Tree, properties: AndroidProperties) -> Fact[str] | None:
    """The operating system's name."""
    if tree.real:
        if properties.here:
            return Fact("Android", "sys.getandroidapilevel" if hasattr(sys, "getandroidapilevel") else "sys.platform")
        if hasattr(os, "uname"):
            return Fact(os.uname().sysname, "uname")
        return Fact("Windows" if sys.platform == "win32" else sys.platform, "sys.platform")
    release = properties.find("ro.build.version.release")  # before the kernel's name, which is Linux there too
    if release is not None:
        return Fact("Android", release.source)
    kernel = tree.line("/proc/sys/kernel/ostype")
    if kernel is None:
        version = tree.text(_MAC_VERSION) or ""
        if any(f"<string>{name}</string>" in version for name in ("macOS", "Mac OS X")):
            return Fact("Darwin", f"{_MAC_VERSION} (ProductName)")
    return kernel


def product(tree: Tree, system_name: Fact[str] | None, properties: AndroidProperties) -> Fact[str] | None:
    """The machine as its maker names it."""
    name = system_name.value if system_name is not None else None
    if name == "Android":
        return properties.find("ro.product.model", *(f"ro.product.{part}.model" for part, _ in _BUILD_PROPERTIES))
    if name == "Darwin":
        return _mac_model(tree)
    found = tree.line("/sys/class/dmi/id/product_name")
    return None if found is None or found.value.lower() in _NO_NAMES else found


def _mac_model(tree: Tree) -> Fact[str] | None:
    if tree.real:
        from edgekit.host import native  # loads ctypes

        value = printable(native.sysctl_text("hw.model"))
        return None if value is None else Fact(value, "sysctl hw.model")
    _, key, rest = (tree.text(_MAC_PREFERENCES) or "").partition("<key>Model</key>")
    value = printable(rest.partition("<string>")[2].partition("</string>")[0]) if key else None
    return None if value is None else Fact(value, f"{_MAC_PREFERENCES} (Model)")


def device_tree_model(tree: Tree, system_name: Fact[str] | None, last_processor: dict[str, str]) -> Fact[str] | None:
    """The board's own name.

    Args:
        tree: the machine.
        system_name: its operating system.
        last_processor: what ``/proc/cpuinfo`` says after the last processor.
    """
    found = tree.line(*(f"{folder}/model" for folder in _DEVICE_TREES))
    if found is not None or (system_name is not None and system_name.value != "Linux"):
        return found
    # Containers hide /sys/firmware (Docker's masked paths), and with it what /proc/device-tree leads to. The kernel of the
    # Raspberry Pi says its board at the end of /proc/cpuinfo, others where the chip's driver registers it
    # (kernel documentation, ABI/testing/sysfs-devices-soc, "machine").
    value = printable(last_processor.get("Model"))
    if value is not None and "CPU implementer" in last_processor:
        return Fact(value, "/proc/cpuinfo (Model)")
    return tree.line("/sys/devices/soc0/machine")


def device_tree_compatible(tree: Tree) -> Fact[tuple[str, ...]] | None:
    """What the board is compatible with: texts that each end with a zero byte."""
    for folder in _DEVICE_TREES:
        path = f"{folder}/compatible"
        content = tree.read(path, 4096) or b""
        names = tuple(printable(item.decode("utf-8", "replace")) for item in content.rstrip(b"\0").split(b"\0"))
        known = tuple(name for name in names if name is not None)
        if known and len(known) == len(names):
            return Fact(known, path)
    return None


def memory_bytes(tree: Tree) -> Fact[int] | None:
    """Memory that the system has."""
    for line in (tree.text("/proc/meminfo") or "").split("\n"):
        words = line.split()
        if len(words) == 3 and words[0] == "MemTotal:" and words[2] == "kB":
            kilobytes = integer(words[1])
            if kilobytes is not None and kilobytes > 0:
                return Fact(kilobytes * 1024, "/proc/meminfo (MemTotal)")
    if tree.real and hasattr(os, "sysconf"):
        try:
            size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return None
        return Fact(size, "sysconf") if size > 0 else None
    return None


def temperature_c(tree: Tree) -> Fact[float] | None:
    """The processor's temperature, or that of another zone where none is the processor's."""
    base = "/sys/class/thermal"
    others: list[str] = []
    for name in [name for name in tree.names(base) if name.startswith("thermal_zone")][:64]:
        kind = (printable(tree.text(f"{base}/{name}/type")) or "").lower()
        # Such as cpu-thermal, cpu_thermal, CPU-therm, x86_pkg_temp, soc-thermal, soc_thermal, coretemp. Only the zone that is
        # taken is read: behind some others is a slow chip.
        if not kind.startswith(("cpu", "x86_pkg", "soc", "core")):
            others.append(name)
            continue
        found = _zone_c(tree, f"{base}/{name}/temp")
        if found is not None:
            return found
    readings = (_zone_c(tree, f"{base}/{name}/temp") for name in others)
    return next((reading for reading in readings if reading is not None), None)


def _zone_c(tree: Tree, path: str) -> Fact[float] | None:
    millidegrees = tree.number(path)
    return Fact(millidegrees / 1000, path) if millidegrees is not None and -50_000 <= millidegrees <= 150_000 else None

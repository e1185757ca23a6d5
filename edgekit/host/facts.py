"""``Fact`` and ``HostFacts``: what is known of a machine, and where from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from edgekit.records import Record

T = TypeVar("T")


class Fact(Generic[T]):
    """Something that is known of this machine.

    A plain class, because it is made on the load path, where a dataclass takes a millisecond to make.

    Attributes:
        value: what.
        source: where it was read: a path as it is on that machine, a system call or an environment variable.
    """

    __slots__ = ("source", "value")

    def __init__(self, value: T, source: str) -> None:
        self.value = value
        self.source = source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fact) and (self.value, self.source) == (other.value, other.source)

    def __hash__(self) -> int:
        return hash((self.value, self.source))

    def __repr__(self) -> str:
        return f"Fact({self.value!r}, {self.source!r})"


class HostFacts(Record):
    """What a machine is. Each attribute is ``None`` where nothing was found.

    Attributes:
        system: the operating system: ``Android`` on Android, else as ``uname -s`` says it: ``Linux``, ``Darwin``; ``Windows``.
        android: Android's release, such as ``14``.
        machine: the architecture of the kernel, as ``uname -m`` says it.
        userland: the architecture of the programs: ``aarch64``, ``armv7l``, ``armv6l``, ``x86_64``, ``i686``, ``arm64`` on
            macOS. It differs from ``machine`` for a 32-bit system on a 64-bit kernel, and is what decides which libraries load.
        product: the machine as its maker names it: the firmware's product name, the Mac's or the phone's model.
        device_tree_model: the board's own name.
        device_tree_compatible: what the board is compatible with, the most specific first: the board, then its chip.
        cpu_model: the processor's name; on Arm the names of the cores, with how many of each.
        cpu_flags: instruction set features, in the kernel's words.
        logical_cores: logical processors that this process may use: those of its affinity, and no more than the whole
            processors of its control group's quota.
        cgroup_cores: processors' worth of time that the control group may use, where there is a quota.
        memory_bytes: memory that the system has.
        cpu_governor: the frequency governor of the first processor.
        temperature_c: the processor's temperature, degrees Celsius.
        usb_ids: connected USB devices, ``vendor:product`` in four lower-case hexadecimal digits each.
        pci_ids: PCI devices, in the same form.
        vulkan_drivers: manifest files of Vulkan drivers, on Android the drivers; whether a driver works is not known from them.
        opencl_library: the OpenCL loader.
        edgetpu_devices: connected Edge TPUs, USB and PCIe.
        edgetpu_access: why this user can open none of the connected Edge TPUs, in words; ``None`` when one can be
            opened, when there is none, and for a recorded machine without its device nodes.
        edgetpu_library: libedgetpu.
        npu_libraries: libraries of NPUs, the vendors' and LiteRT's dispatch libraries.
    """

    system: Fact[str] | None = None
    android: Fact[str] | None = None
    machine: Fact[str] | None = None
    userland: Fact[str] | None = None
    product: Fact[str] | None = None
    device_tree_model: Fact[str] | None = None
    device_tree_compatible: Fact[tuple[str, ...]] | None = None
    cpu_model: Fact[str] | None = None
    cpu_flags: Fact[tuple[str, ...]] | None = None
    logical_cores: Fact[int] | None = None
    cgroup_cores: Fact[float] | None = None
    memory_bytes: Fact[int] | None = None
    cpu_governor: Fact[str] | None = None
    temperature_c: Fact[float] | None = None
    usb_ids: Fact[tuple[str, ...]] | None = None
    pci_ids: Fact[tuple[str, ...]] | None = None
    vulkan_drivers: Fact[tuple[str, ...]] | None = None
    opencl_library: Fact[str] | None = None
    edgetpu_devices: Fact[tuple[str, ...]] | None = None
    edgetpu_access: Fact[str] | None = None
    edgetpu_library: Fact[str] | None = None
    npu_libraries: Fact[tuple[str, ...]] | None = None

    @property
    def architecture(self) -> Fact[str] | None:
        """What libraries must be made for: ``userland`` where it is known, else ``machine``."""
        return self.userland if self.userland is not None else self.machine

    def items(self) -> Iterator[tuple[str, Fact[Any] | None]]:
        """Each attribute's name and fact, in order."""
        return iter(self._asdict().items())

    def to_json(self) -> dict[str, Any]:
        """``{"value": …, "source": …}`` by name, ``None`` where nothing was found."""
        return {
            name: None
            if fact is None
            else {"value": list(fact.value) if isinstance(fact.value, tuple) else fact.value, "source": fact.source}
            for name, fact in self.items()
        }

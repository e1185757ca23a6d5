"""``DeviceProfile``: a device as data, every fact with where it is known from.

``data/README.md`` explains the TOML keys; ``loader`` reads them. A fact that nobody could source is ``None`` here and
``"unknown"`` in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from edgekit.records import Record

#: Version of the file format. A reader takes files up to its own number.
SCHEMA = 2

#: What stands in a file where a fact is not known.
UNKNOWN = "unknown"

#: What a delegate can need of a machine or of a model; ``resolver`` knows how each is checked.
NEEDS: tuple[str, ...] = (
    "vulkan-driver",
    "opencl-library",
    "edgetpu-library",
    "edgetpu-device",
    "edgetpu-model",
    "npu-library",
)

#: ``machine``: a device that programs run on. ``accessory``: something attached to one, which never is the machine.
ROLES: tuple[str, ...] = ("machine", "accessory")


class MatchRules(Record):
    """How a machine is recognised. Every rule that is not empty must hold.

    Attributes:
        system: operating systems, one of them.
        machine: architectures of the programs that run there, one of them.
        device_tree_model: beginnings of the board's name in whole words, one of them.
        device_tree_compatible: names in the board's list of what it is compatible with, one of them.
        cpu_flags: instruction set features in the kernel's words, all of them.
        usb_ids: what is connected by USB, ``vvvv:pppp`` in lower case, one of them.
        pci_ids: what is connected by PCI, ``vvvv:dddd`` in lower case, one of them.
        product: beginnings of the product's name in whole words, one of them.
        source: where the rules are known from.
    """

    system: tuple[str, ...]
    machine: tuple[str, ...]
    device_tree_model: tuple[str, ...]
    device_tree_compatible: tuple[str, ...]
    cpu_flags: tuple[str, ...]
    usb_ids: tuple[str, ...]
    pci_ids: tuple[str, ...]
    product: tuple[str, ...]
    source: str


class Cluster(Record):
    """Processor cores of one kind.

    Attributes:
        name: what the cores are.
        cores: how many.
        max_hz: their highest clock frequency.
        features: instruction set features that matter for kernels, in the kernel's words.
        source: where that is known from.
    """

    name: str
    cores: int | None
    max_hz: int | None
    features: tuple[str, ...] | None
    source: str


class Memory(Record):
    """The device's memory.

    Attributes:
        sizes_bytes: the sizes that it is made with.
        source: where that is known from.
    """

    sizes_bytes: tuple[int, ...] | None
    source: str


class Accelerator(Record):
    """Something beside the CPU that can run models.

    Attributes:
        name: its name.
        kind: ``gpu``, ``edgetpu`` or ``npu``.
        interfaces: what programs reach it through.
        source: where that is known from.
    """

    name: str
    kind: str
    interfaces: tuple[str, ...] | None
    source: str


class DelegateRule(Record):
    """A delegate that is worth considering on the device.

    Attributes:
        kind: one of ``edgekit.runtime.delegates.KINDS``.
        needs: what must be there, each one of ``NEEDS``.
        limits: what it does not do there, in sentences.
        source: where that is known from.
        options: passed to the delegate as they are.
    """

    kind: str
    needs: tuple[str, ...]
    limits: tuple[str, ...]
    source: str
    options: Mapping[str, str] = MappingProxyType({})


class ThreadAdvice(Record):
    """How many CPU threads to use.

    Attributes:
        default: when the caller names no number.
        worth_trying: numbers to measure.
        source: why.
    """

    default: int
    worth_trying: tuple[int, ...]
    source: str


class RuntimeWheel(Record):
    """An interpreter that installs there from the package index.

    Attributes:
        package: the distribution's name.
        version: the version that the facts are of.
        pythons: the Python versions that it has wheels for.
        limits: what to know before installing it, in sentences.
        source: where that is known from.
        machines: the architectures of Python that it has wheels for.
    """

    package: str
    version: str
    pythons: tuple[str, ...] | None
    limits: tuple[str, ...]
    source: str
    machines: tuple[str, ...] | None = None


class Thermal(Record):
    """Where heat makes the device slow.

    Attributes:
        throttle_from_c: from here on the clocks are lowered, degrees Celsius.
        limit_c: the temperature that the device keeps itself below, degrees Celsius.
        source: where that is known from.
    """

    throttle_from_c: float | None
    limit_c: float | None
    source: str


class DeviceProfile(Record):
    """A device as data.

    Attributes:
        schema: the version of the file format that the file was written in.
        id: what ``--device`` takes.
        name: what people call it.
        role: one of ``ROLES``.
        match: how it is recognised; ``None`` when it never is, and must be named.
        clusters: its cores, by kind.
        memory: its memory.
        accelerators: what it has beside the CPU.
        delegates: the delegates to consider, best first.
        fallback: what to go on with when the pick refuses to load, in this order; empty for nothing; ``None`` when the
            profile does not say, which means the order of the delegates.
        threads: how many CPU threads to use.
        runtimes: interpreters that install there.
        thermal: where heat makes it slow.
        origin: the file that it was read from.
        user: whether it is the user's own, not edgekit's.
    """

    schema: int
    id: str
    name: str
    role: str
    match: MatchRules | None
    clusters: tuple[Cluster, ...]
    memory: Memory | None
    accelerators: tuple[Accelerator, ...]
    delegates: tuple[DelegateRule, ...]
    fallback: tuple[str, ...] | None
    threads: ThreadAdvice
    runtimes: tuple[RuntimeWheel, ...]
    thermal: Thermal | None
    origin: str
    user: bool

    def to_json(self) -> dict[str, Any]:
        """All facts with their sources; ``None`` where a fact is not known."""
        return {name: _plain(value) for name, value in self._asdict().items()}


def _plain(value: object) -> object:
    """Dicts and lists of a part of a profile."""
    if isinstance(value, Record):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value

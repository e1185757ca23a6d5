"""``HostFacts``: what this machine is, each fact with where it was read.

Everything comes from files below a root folder, so that detection can be tried on trees recorded on other
machines; only for the real root are the kernel (``uname``, the processor affinity), the environment and, on Android and
macOS, the C library asked as well. It is on the way of every ``edgekit.load`` without a named delegate, so it is cheap: no
program is started, no driver or accelerator library is opened, and of each file at most ``READ_LIMIT_BYTES`` are read. A
file that is missing, unreadable or garbage is a fact that is not known, never an error.

``tree`` reads files below a root; ``system``, ``processor`` and ``attached`` make facts of them; ``native`` asks the C library.
"""

from __future__ import annotations

import os

from edgekit.host import attached, processor, system
from edgekit.host.attached import EDGETPU_PCI_ID as EDGETPU_PCI_ID
from edgekit.host.attached import EDGETPU_USB_IDS as EDGETPU_USB_IDS
from edgekit.host.attached import NPU_LIBRARIES as NPU_LIBRARIES
from edgekit.host.attached import OPENCL_LIBRARIES as OPENCL_LIBRARIES
from edgekit.host.facts import Fact as Fact
from edgekit.host.facts import HostFacts as HostFacts
from edgekit.host.processor import ARM_PARTS as ARM_PARTS
from edgekit.host.tree import READ_LIMIT_BYTES as READ_LIMIT_BYTES
from edgekit.host.tree import Tree


def read_host(root: str | os.PathLike[str] = "/") -> HostFacts:
    """Find out what a machine is.

    Args:
        root: the root folder of its file system: ``/`` for this machine, or a folder that holds a recorded copy of
            the files of another one.

    Returns:
        What was found; never raises for what the files hold.
    """
    tree = Tree(root)
    properties = system.AndroidProperties(tree)
    name = system.system(tree, properties)
    product = system.product(tree, name, properties)
    cpuinfo = processor.read_cpuinfo(tree)
    machine = processor.machine(tree, cpuinfo, properties, product)
    cgroup_cores = processor.cgroup_cores(tree)
    usb = attached.usb_devices(tree)
    pci = attached.pci_devices(tree)
    edgetpus = attached.edgetpus(tree, usb, pci)
    return HostFacts(
        system=name,
        android=properties.find("ro.build.version.release"),
        machine=machine,
        userland=processor.userland(tree, machine, properties),
        product=product,
        device_tree_model=system.device_tree_model(tree, name, cpuinfo.last),
        device_tree_compatible=system.device_tree_compatible(tree),
        cpu_model=processor.cpu_model(tree, cpuinfo),
        cpu_flags=processor.cpu_flags(tree, cpuinfo),
        logical_cores=processor.logical_cores(tree, cpuinfo, cgroup_cores),
        cgroup_cores=cgroup_cores,
        memory_bytes=system.memory_bytes(tree),
        cpu_governor=tree.line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        temperature_c=system.temperature_c(tree),
        usb_ids=attached.ids(usb),
        pci_ids=attached.ids(pci),
        vulkan_drivers=attached.vulkan_drivers(tree, name),
        opencl_library=tree.library(OPENCL_LIBRARIES),
        edgetpu_devices=attached.edgetpu_devices(edgetpus),
        edgetpu_access=attached.edgetpu_access(tree, edgetpus),
        edgetpu_library=attached.edgetpu_library(tree, bool(edgetpus)),
        npu_libraries=attached.npu_libraries(tree),
    )

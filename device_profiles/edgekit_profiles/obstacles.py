"""What keeps a delegate from being used, as far as files and the model's list of operators tell; nothing is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import EDGETPU_OPERATOR as EDGETPU_OPERATOR
from edgekit_profiles.profile import DelegateRule

if TYPE_CHECKING:
    from edgekit_profiles.resolver import Target

COMPILED = f"the model was compiled for the Edge TPU and holds the operator {EDGETPU_OPERATOR}"


def obstacles(rule: DelegateRule, target: Target, model: ModelFile | None) -> list[str]:
    """What keeps a delegate from being used; empty when nothing does.

    Args:
        rule: the delegate, and what it needs.
        target: the machine.
        model: the model, or ``None`` when only the machine matters.
    """
    if rule.kind != "edgetpu" and is_edgetpu_model(model):
        return [f"{COMPILED}, which this delegate does not have"]
    found = (_CHECKS[need](target, model) for need in rule.needs)
    missing = [text for text in found if text is not None]
    if rule.kind == "npu":
        return [*missing, _NO_NPU]
    return missing


#: LiteRT reaches NPUs through a dispatch library of each vendor, which comes with the vendor's SDK and not with the wheel.
_NO_NPU = "edgekit does not run models on NPUs: LiteRT needs the vendor's dispatch library and SDK for that"


def is_edgetpu_model(model: ModelFile | None) -> bool:
    """Whether the Edge TPU compiler wrote a model."""
    return model is not None and any(
        op.custom and op.name == EDGETPU_OPERATOR for subgraph in model.graph.subgraphs for op in subgraph.ops
    )


def _edgetpu_model(target: Target, model: ModelFile | None) -> str | None:
    if model is None:
        return "it runs only models that were compiled for it, and no model was named"
    if is_edgetpu_model(model):
        return None
    return (
        f"the model was not compiled for the Edge TPU (no operator {EDGETPU_OPERATOR}): run edgetpu_compiler on a fully "
        "int8 file"
    )


def _edgetpu_library(target: Target, model: ModelFile | None) -> str | None:
    if not target.here or target.host.edgetpu_library is not None:
        return None
    return "the library libedgetpu was not found: install the package libedgetpu1-std"


def _edgetpu_device(target: Target, model: ModelFile | None) -> str | None:
    if not target.here:
        return None
    if target.host.edgetpu_devices is not None:
        access = target.host.edgetpu_access
        return None if access is None else access.value
    system = target.host.system
    if system is not None and system.value != "Linux":
        return f"whether an Edge TPU is connected can be seen on Linux only, not on {system.value}"
    return "no Edge TPU was found on USB (/sys/bus/usb/devices) or PCIe (/dev/apex_*)"


def _npu_library(target: Target, model: ModelFile | None) -> str | None:
    if not target.here:
        return None
    found = target.host.npu_libraries
    if found is None:
        return "no NPU library of a vendor was found on the library path"
    return f"found were {', '.join(found.value)}"


def _vulkan_driver(target: Target, model: ModelFile | None) -> str | None:
    system = target.host.system
    elsewhere = system is not None and system.value not in (
        "Linux",
        "Android",
    )  # macOS and Windows have a way of their own
    if not target.here or elsewhere or target.host.vulkan_drivers is not None:
        return None
    return (
        "no Vulkan driver was found on this machine, and the GPU is reached through one: install the driver of your GPU "
        "(Debian, Ubuntu and Raspberry Pi OS: the package mesa-vulkan-drivers). The model runs on the CPU without it"
    )


def _opencl_library(target: Target, model: ModelFile | None) -> str | None:
    if not target.here or target.host.opencl_library is not None:
        return None
    return "no OpenCL library (libOpenCL.so) was found on this machine, and the GPU is reached through it"


#: How each of ``profile.NEEDS`` is checked: the function says what is missing, or ``None``.
_CHECKS: dict[str, Callable[[Target, ModelFile | None], str | None]] = {
    "edgetpu-device": _edgetpu_device,
    "edgetpu-library": _edgetpu_library,
    "edgetpu-model": _edgetpu_model,
    "npu-library": _npu_library,
    "opencl-library": _opencl_library,
    "vulkan-driver": _vulkan_driver,
}

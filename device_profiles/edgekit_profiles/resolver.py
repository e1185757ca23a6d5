"""Profile + machine + model → ``DelegateChoice``: which delegate runs the model, and why each other one does not.

This is on the way of every ``edgekit.load`` without a named delegate. It looks at files and at the model's list of
operators; no interpreter is opened and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Callable

from edgekit.host import HostFacts, read_host
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime.delegates import KINDS, DelegateChoice, DelegateSpec, Rejected
from edgekit_profiles.detect import Candidate, detect, fit
from edgekit_profiles.loader import load_profile
from edgekit_profiles.profile import DelegateRule, DeviceProfile

#: The operator that stands for everything that the Edge TPU compiler mapped.
EDGETPU_OPERATOR = "edgetpu-custom-op"
_COMPILED = f"the model was compiled for the Edge TPU and holds the operator {EDGETPU_OPERATOR}"

_NO_PROFILE = "edgekit's own rules, since no device profile fits this machine"
#: What is considered, in order, where no profile fits.
_FALLBACK_RULES: tuple[DelegateRule, ...] = (
    DelegateRule("edgetpu", ("edgetpu-model", "edgetpu-library", "edgetpu-device"), (), _NO_PROFILE),
    DelegateRule("xnnpack", (), (), _NO_PROFILE),
    DelegateRule("gpu", ("vulkan-driver",), (), _NO_PROFILE),
    DelegateRule("none", (), (), _NO_PROFILE),
)


class Target(Record):
    """The machine that a delegate is chosen for.

    Attributes:
        profile: its profile; ``None`` when it is this machine and no profile fits.
        host: what this machine is.
        here: whether the target is this machine, so that what was found on it counts.
        reason: why that profile, or why this machine is not the target.
    """

    profile: DeviceProfile | None
    host: HostFacts
    here: bool
    reason: str

    @property
    def name(self) -> str:
        """The profile's id, or a word for a machine without one."""
        return self.profile.id if self.profile is not None else "this machine"


def find_target(device: str | None) -> Target:
    """Find out which machine is meant.

    Args:
        device: a profile's id or file, or ``None`` for this machine.

    Raises:
        ProfileError: there is no such profile, or it is not valid.
    """
    host = read_host()
    if device is None:
        detection = detect(host, thorough=False)
        return Target(detection.profile, host, True, detection.reason)
    profile = load_profile(device)
    candidate: Candidate = fit(profile, host)
    return Target(profile, host, candidate.score > 0, candidate.reason)


def choose_delegate(*, device: str | None, model: ModelFile | None, threads: int | None) -> DelegateChoice:
    """Choose the delegate for a model on a device.

    Args:
        device: a profile's id or file, or ``None`` to detect this machine.
        model: the model it is for, or ``None`` when only the device matters.
        threads: CPU threads, or ``None`` for the profile's number.

    Returns:
        The choice, with a reason for it and for each delegate that was not chosen.

    Raises:
        ProfileError: there is no such profile, or it is not valid.
        DelegateError: the number of threads is out of range.
    """
    return choose_for(find_target(device), model, threads)


def choose_for(target: Target, model: ModelFile | None, threads: int | None) -> DelegateChoice:
    """Choose the delegate for a model on a machine that was found already.

    Args:
        target: the machine.
        model: the model it is for, or ``None`` when only the machine matters.
        threads: CPU threads, or ``None`` for the profile's number.

    Raises:
        DelegateError: the number of threads is out of range.
    """
    rules = target.profile.delegates if target.profile is not None else _FALLBACK_RULES
    count, count_reason = _threads(target, threads)
    obstacles = {rule.kind: _obstacles(rule, target, model) for rule in rules}
    for kind in KINDS:
        obstacles.setdefault(kind, [f"the profile {target.name} does not list it"])
    pick = next((rule.kind for rule in rules if not obstacles[rule.kind]), None)
    if pick is not None:
        reason = _why(pick, target)
    elif _is_edgetpu_model(model):
        pick = "edgetpu"
        reason = f"{_COMPILED}, which no other delegate runs. It will not run here as things are: "
        reason += "; ".join(obstacles[pick])
    else:
        pick = "xnnpack"
        reason = "no delegate that the profile lists can be used, and this one is part of every interpreter"
    order = [rule.kind for rule in rules] + [kind for kind in KINDS if all(rule.kind != kind for rule in rules)]
    return DelegateChoice(
        spec=DelegateSpec(pick, count),
        reason=f"{reason}; {count_reason}",
        rejected=tuple(
            Rejected(kind, "; ".join(obstacles[kind]) or _second(kind, pick)) for kind in order if kind != pick
        ),
        profile_id=target.profile.id if target.profile is not None else None,
    )


def _threads(target: Target, asked: int | None) -> tuple[int, str]:
    """How many CPU threads, and why."""
    if asked is not None:
        return asked, f"{_count(asked)}, as asked for"
    if target.profile is None:
        return 1, "1 thread, because nothing is known of how this machine's cores share their work"
    default = target.profile.threads.default
    cores = target.host.logical_cores
    if target.here and cores is not None and cores.value < default:
        return (
            cores.value,
            f"{_count(cores.value)}: the profile says {default}, and this process may use only {cores.value}",
        )
    return default, f"{_count(default)}, the profile's default"


def _count(threads: int) -> str:
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def _why(pick: str, target: Target) -> str:
    if target.profile is None:
        return f"{target.reason}, and {_WHAT[pick]}"
    text = f"the first usable delegate in the order of the profile {target.name}: {_WHAT[pick]}"
    if pick == "edgetpu" and target.here and target.host.edgetpu_devices and target.host.edgetpu_library:
        text += f", and {target.host.edgetpu_devices.value[0]} and {target.host.edgetpu_library.value} are here"
    if not target.here:
        text += f". This machine is not {target.name}, so the hardware that this needs was not looked for"
    return text


_WHAT: dict[str, str] = {
    "xnnpack": "the CPU delegate that is part of every interpreter",
    "none": "the interpreter's own kernels",
    "gpu": "a GPU driver was found",
    "edgetpu": "the model was compiled for the Edge TPU",
}


def _second(kind: str, pick: str) -> str:
    """Why a delegate that could be used was not picked."""
    if kind == "none":
        return (
            f"it can be used, but {pick} comes before it and leaves every operator that it does not take to these same "
            "kernels; ask for it to compare the two"
        )
    return f"it can be used, but {pick} comes before it in the profile"


def _obstacles(rule: DelegateRule, target: Target, model: ModelFile | None) -> list[str]:
    """What keeps a delegate from being used; empty when nothing does."""
    if rule.kind == "gpu":
        return [
            "this version of edgekit does not run models on the GPU yet",
            _vulkan_seen(target),
            _opencl_seen(target),
        ]
    if rule.kind in ("xnnpack", "none") and _is_edgetpu_model(model):
        return [f"{_COMPILED}, which this delegate does not have"]
    found = (_CHECKS[need](target, model) for need in rule.needs)
    return [text for text in found if text is not None]


def _is_edgetpu_model(model: ModelFile | None) -> bool:
    return model is not None and any(
        op.custom and op.name == EDGETPU_OPERATOR for subgraph in model.graph.subgraphs for op in subgraph.ops
    )


def _edgetpu_model(target: Target, model: ModelFile | None) -> str | None:
    if model is None:
        return "it runs only models that were compiled for it, and no model was named"
    if _is_edgetpu_model(model):
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
    if not target.here or target.host.edgetpu_devices is not None:
        return None
    system = target.host.system
    if system is not None and system.value != "Linux":
        return f"whether an Edge TPU is connected can be seen on Linux only, not on {system.value}"
    return "no Edge TPU was found on USB (/sys/bus/usb/devices) or PCIe (/dev/apex_*)"


def _vulkan_driver(target: Target, model: ModelFile | None) -> str | None:
    return None if not target.here or target.host.vulkan_drivers is not None else _vulkan_seen(target)


def _opencl_library(target: Target, model: ModelFile | None) -> str | None:
    return None if not target.here or target.host.opencl_library is not None else _opencl_seen(target)


def _vulkan_seen(target: Target) -> str:
    if not target.here:
        return f"a Vulkan driver was not looked for, since this machine is not {target.name}"
    drivers = target.host.vulkan_drivers
    if drivers is None:
        return "no Vulkan driver was found here"
    names = [path.rpartition("/")[2] for path in drivers.value]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"Vulkan driver files were found here ({shown})"


def _opencl_seen(target: Target) -> str:
    if not target.here:
        return "an OpenCL library was not looked for either"
    library = target.host.opencl_library
    return (
        "no OpenCL library was found here" if library is None else f"an OpenCL library was found here ({library.value})"
    )


#: How each of ``profile.NEEDS`` is checked: the function says what is missing, or ``None``.
_CHECKS: dict[str, Callable[[Target, ModelFile | None], str | None]] = {
    "edgetpu-device": _edgetpu_device,
    "edgetpu-library": _edgetpu_library,
    "edgetpu-model": _edgetpu_model,
    "opencl-library": _opencl_library,
    "vulkan-driver": _vulkan_driver,
}

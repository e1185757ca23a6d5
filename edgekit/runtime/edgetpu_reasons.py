"""What libedgetpu's silence means: from what its process said, and what the machine shows, the cause in a sentence.

``load_delegate`` of libedgetpu gives no reason at all. The library has one, in its log, which is printed from level 1 on; the texts are
those of its source (github.com/google-coral/libedgetpu): ``ConvertLibUsbError`` of ``driver/usb/local_usb_device.cc``, "Device open failed"
of ``driver/kernel/kernel_registers.cc``, "Package requires runtime version" of ``driver/package_registry.cc``. A PCIe device that another
process holds is opened with EPERM ("Process … is opening a node held by …", ``gasket_core.c`` of the kernel driver), one that the user may
not open with EACCES.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

from edgekit.records import Record
from edgekit.runtime.edgetpu_library import INSTALL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.host import HostFacts

#: Every ``EdgetpuProbe.cause``: what is wrong, in a word that programs can compare.
CAUSES: tuple[str, ...] = (
    "ready", "not-compiled", "no-library", "wrong-architecture", "damaged-library", "wrong-library", "missing-dependency", "no-device",
    "no-driver", "device-hidden", "no-such-device", "no-permission", "busy", "device-lost", "runtime-too-old", "other-runtime",
    "damaged-model", "crashed", "hung", "refused",
)  # fmt: skip

#: How ``HostFacts.edgetpu_devices`` calls one on PCIe that has no device node (id: Coral documentation, "Get started with the M.2 or Mini
#: PCIe Accelerator", ``lspci -nn | grep 089a``).
PCI_ID = "1ac1:089a"
_PLUG = "Connect it; `lsusb` shows it as 1a6e:089a or, once it was used, 18d1:9302, and `lspci -nn` as 1ac1:089a."
_REPLUG = "Pull it out and plug it in again, at a port of its own or a powered hub, with a good cable."
#: Coral documentation: the package's udev rule gives USB devices to the group plugdev; the rule for PCIe names the group apex.
_PERMISSION = (
    "Add the user to the device's group (`sudo usermod -aG {} $USER`) and log in again; if that is done, install the udev rule of the "
    "package libedgetpu1-std and plug the device in again."
)
_NO_LIBUSB = "libusb-1.0.so.0"
#: What each step is called in a sentence, and what a crash there points to.
_STEPS: dict[str, tuple[str, str]] = {
    "": ("before it was asked for anything", "Python itself or its packages are damaged"),
    "library": ("while the library was loaded", f"the library is damaged or made for another system: {INSTALL}"),
    "devices": (
        "while the library looked for devices",
        f"the library is damaged or made for another system: {INSTALL}",
    ),
    "open": (
        "while the device was opened",
        "the device's firmware did not load, or the library is damaged: plug the device in again",
    ),
    "model": (
        "while the model was loaded",
        "the library was made for another version of TensorFlow Lite than this interpreter (google-coral/edgetpu issues 731 and 841 "
        "are such crashes): use a libedgetpu that was built for it, or an older interpreter",
    ),
    "run": (
        "while the model ran",
        "the library was made for another version of TensorFlow Lite than this interpreter, or the device was unplugged",
    ),
    "close": (
        "while the device was closed",
        "the device was unplugged, or the library was made for another version of TensorFlow Lite",
    ),
}


class Heard(Record):
    """What the process in which the library was tried said, and how it ended.

    Attributes:
        lines: its answers, in order.
        log: what it printed beside them, the end of it.
        code: its exit code; negative for a signal, ``None`` when its time was up.
        seconds: how long it had.
    """

    lines: tuple[Mapping[str, Any], ...]
    log: str
    code: int | None
    seconds: float

    def said(self, key: str) -> Any:
        """The last value under a key; ``None`` where there is none."""
        return next((line[key] for line in reversed(self.lines) if key in line), None)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that the library saw, as ``USB /sys/bus/usb/devices/2-1`` and ``PCIe /dev/apex_0``."""
        found = self.said("devices") or ()
        return tuple(f"{'USB' if kind == 'usb' else 'PCIe'} {path}" for kind, path in found)

    @property
    def runtime(self) -> int | None:
        """The library's runtime version."""
        found = re.search(r"RuntimeVersion\((\d{1,4})\)", str(self.said("version") or ""))
        return int(found[1]) if found else None


class Judgement(Record):
    """A cause in a word and in a sentence, with the library's own words.

    Attributes:
        cause: one of ``CAUSES``.
        reason: in a sentence that names the remedy.
        native: what the library, the interpreter or the linker said; ``None`` where they said nothing.
    """

    cause: str
    reason: str
    native: str | None


def judge(
    heard: Heard, library: str, options: Mapping[str, str], host: HostFacts | None, needs: int | None
) -> Judgement:
    """What it means.

    Args:
        heard: what the process said.
        library: what it was to load.
        options: what the library was given.
        host: what is known of the machine.
        needs: the runtime version that the model needs, where there is a model and it says.
    """
    stage = heard.said("stage") or ""
    error = heard.said("error")
    native = _line(error) or telling(heard.log)
    if heard.code is None:
        return _hung(heard, library, stage, native)
    if error is None and not heard.said("done"):
        return _crashed(heard, library, stage, native)
    if error is None:
        runtime = f"Edge TPU runtime {heard.runtime}" if heard.runtime is not None else "of an unknown runtime version"
        return Judgement("ready", f"it runs on {_chosen(heard, options)} through {library} ({runtime}).", None)
    if stage == "library":
        return _not_loaded(str(error), library, native)
    if stage == "open":
        found = _not_opened(heard, library, options, host, native)
        if needs is not None and heard.runtime is not None and needs > heard.runtime:
            found = found._replace(reason=f"{found.reason} Besides, {too_old(needs, heard.runtime)}")
        return found
    return explained(str(error), heard.said("engine")) or Judgement(
        "refused",
        "the Edge TPU refused the model. Compile it again with the current edgetpu_compiler.",
        native,
    )


def explained(text: str, engine: str | None = None) -> Judgement | None:
    """What an interpreter's error about an Edge TPU model means; ``None`` where it is about something else.

    Args:
        text: the error's text, such as "Failed to prepare for TPU. Failed precondition: Package requires runtime version (14), which is
            newer than this runtime version (13)".
        engine: the interpreter's name.
    """
    native = _line(text)
    versions = re.search(r"requires runtime version \((\d+)\).{0,60}?runtime version \((\d+)\)", text, re.DOTALL)
    if versions:
        return Judgement("runtime-too-old", too_old(int(versions[1]), int(versions[2])), native)
    if (
        "Unsupported data type in custom op handler" in text
        or "single_input_size" in text
        or "retrieve TPU context" in text
    ):
        # google-coral/edgetpu issues 71 and 259
        return Judgement(
            "other-runtime",
            f"the library libedgetpu was made for another version of TensorFlow Lite than the interpreter ({engine or 'the one in use'}). Use a "
            "libedgetpu that was built for this version, or the interpreter that came with the library.",
            native,
        )
    if re.search(r"(Package|[Ee]xecutables?) verification failed|No executables|deserialize into CustomOpData", text):
        return Judgement(
            "damaged-model",
            "the part of the model that was compiled for the Edge TPU is damaged. Copy the file again, or compile the model again.",
            native,
        )
    if re.search(r"USB (transfer )?error|Failed to execute request|Edge TPU is not ready", text):
        return Judgement("device-lost", f"the Edge TPU does not answer. {_REPLUG}", native)
    return None


def too_old(needs: int, has: int) -> str:
    """The sentence about a model that is newer than the library."""
    return (
        f"the model was compiled for Edge TPU runtime {needs}, and the library is runtime {has}: install a newer libedgetpu, or compile "
        f"the model with `edgetpu_compiler --min_runtime_version {has}`."
    )


def _not_loaded(error: str, library: str, native: str | None) -> Judgement:
    if "undefined symbol: tflite_plugin_create_delegate" in error:
        return Judgement(
            "wrong-library",
            f"{library} is a library, and not the Edge TPU's: it has no function tflite_plugin_create_delegate. {INSTALL[0].upper()}{INSTALL[1:]}.",
            native,
        )
    if "wrong ELF class" in error or "cannot open shared object file: No such file" in error or "not found" in error:
        missing = re.match(r"([^\s:]+): cannot open shared object file", error)
        if "wrong ELF class" in error:
            return Judgement(
                "wrong-architecture", f"{library} is for other processors than this Python: {INSTALL}.", native
            )
        if missing and missing[1] == library:
            return Judgement("no-library", f"the library {library} was not found: {INSTALL}.", native)
        package = " (package libusb-1.0-0)" if missing and missing[1] == _NO_LIBUSB else ""
        what = (
            f"the library {missing[1]}{package}, which was not found"
            if missing
            else f"what this system does not have: {native}"
        )
        return Judgement(
            "missing-dependency", f"{library} needs {what}. Install it, or a libedgetpu for this system.", native
        )
    return Judgement("damaged-library", f"{library} cannot be loaded ({native}). It is damaged: {INSTALL}.", native)


def _not_opened(
    heard: Heard, library: str, options: Mapping[str, str], host: HostFacts | None, native: str | None
) -> Judgement:
    wanted = options.get("device", "")
    if heard.said("devices") is not None and not _matching(heard, wanted):
        return _no_device(heard, library, wanted, host, native)
    log = heard.log
    access = _fact(host, "edgetpu_access")
    which = _chosen(heard, options)
    # EPERM of the kernel driver, EBUSY of a driver or of libusb (LIBUSB_ERROR_BUSY is -6).
    if re.search(
        r"Device open failed : -?\d+ \((Operation not permitted|Device or resource busy)\)|USB error -6\b", log
    ):
        return Judgement(
            "busy",
            f"another process holds {which}: an Edge TPU serves one process at a time. End that one (`sudo lsof {_node(which)}` names it), "
            "or share its session.",
            native,
        )
    if access is not None or re.search(r"Device open failed : -?\d+ \(Permission denied\)|USB error -3\b", log):
        if access:
            return Judgement("no-permission", f"{access}.", native)
        group = "apex" if "/dev/apex" in which else "plugdev"
        return Judgement("no-permission", f"this user may not open {which}. {_PERMISSION.format(group)}", native)
    if re.search(r"USB (transfer )?error|Deadline exceeded|Failed to open device|Unavailable:", log):
        return Judgement("device-lost", f"{which} does not answer as it should. {_REPLUG}", native)
    return Judgement(
        "refused",
        f"the library {library} refused to open {which} and gave no reason. Likely causes: the user may not open it, or another process "
        "holds it.",
        native,
    )


def _no_device(heard: Heard, library: str, wanted: str, host: HostFacts | None, native: str | None) -> Judgement:
    if heard.devices:
        return Judgement(
            "no-such-device",
            f"there is no Edge TPU {wanted!r}: the library sees {len(heard.devices)} ({', '.join(heard.devices)}), counted from 0.",
            native,
        )
    seen = _fact(host, "edgetpu_devices")
    if not seen:
        return Judgement("no-device", f"no Edge TPU is connected: {library} found none on USB or PCIe. {_PLUG}", native)
    access = _fact(host, "edgetpu_access")
    if seen[0].startswith(f"PCIe {PCI_ID}"):  # the bus shows it, and there is no /dev/apex_*
        reason = (
            access
            or f"{seen[0]} has no device node: its driver is not loaded. Install the package gasket-dkms, and restart"
        )
        return Judgement("no-driver", f"{reason}.", native)
    reason = access or (
        "in a container, hand the device in: `docker run --device /dev/bus/usb` for USB, `--device /dev/apex_0` for PCIe"
    )
    return Judgement("device-hidden", f"the system shows {seen[0]}, and {library} cannot reach it: {reason}.", native)


def _hung(heard: Heard, library: str, stage: str, native: str | None) -> Judgement:
    step, likely = _STEPS.get(stage, _STEPS[""])
    remedy = f"Most likely {likely}." if stage in ("", "library") else _REPLUG
    return Judgement(
        "hung",
        f"{library} was not done after {heard.seconds:g} seconds, {step}; its process was ended. {remedy}",
        native,
    )


def _crashed(heard: Heard, library: str, stage: str, native: str | None) -> Judgement:
    step, likely = _STEPS.get(stage, _STEPS[""])
    code = heard.code or 0
    try:
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    except ValueError:
        how = f"died of signal {-code}"
    return Judgement(
        "crashed",
        f"{library} crashed {step}: the process in which it was tried {how}. Most likely {likely}.",
        native,
    )


def _matching(heard: Heard, wanted: str) -> bool:
    """Whether a device fits the option ``device``."""
    kind, _, index = wanted.partition(":")
    fitting = [name for name in heard.devices if not kind or name.startswith("USB" if kind == "usb" else "PCIe")]
    return len(fitting) > int(index or 0)


def _chosen(heard: Heard, options: Mapping[str, str]) -> str:
    """The device that was to be opened, in words."""
    kind, _, index = options.get("device", "").partition(":")
    fitting = [name for name in heard.devices if not kind or name.startswith("USB" if kind == "usb" else "PCIe")]
    position = int(index or 0)
    return f"the Edge TPU at {fitting[position]}" if position < len(fitting) else "the Edge TPU"


def _node(which: str) -> str:
    return which.rpartition(" ")[2] if "/dev/" in which else "/dev/bus/usb/*/*"


def _fact(host: HostFacts | None, name: str) -> Any:
    fact = getattr(host, name, None)
    return fact.value if fact is not None else None


#: What the library prints whenever it looks for devices, and what interpreters print of themselves.
_ROUTINE = re.compile(
    r"Failed to open /sys/class/apex|EnumerateDevices|No matching device is already opened|No device of type|OpenDevice: (checking|\[)|"
    r"\((default|Default)\)|: default$|adding path|Opening device at|^[IW]\d{4} |^(INFO|WARNING):"
)
_WRONG = re.compile(r"fail|error|denied|not permitted|newer|abort|fatal|cannot|terminate", re.IGNORECASE)


def telling(log: str) -> str | None:
    """The last lines of a log that tell of something wrong, in one; ``None`` where there are none."""
    wrong = [line for line in log.splitlines() if _WRONG.search(line) and not _ROUTINE.search(line)]
    return _line(" | ".join(wrong[-3:]))


def _line(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(clean.split())[:600] or None

"""The Edge TPU on the device: whether it can be used, and if not the one reason why; and opening it.

A library that was never seen to work on this machine is first tried in a process of its own (``edgetpu_child.py``), because the common
mistakes end a program without a word: a libedgetpu that was made for another TensorFlow Lite, a device that hangs.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from _thread import allocate_lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgekit.errors import DelegateError
from edgekit.records import Record
from edgekit.runtime.delegates import EDGETPU_OPERATOR, DelegateSpec
from edgekit.runtime.edgetpu_child import MODULES
from edgekit.runtime.edgetpu_library import INSTALL, fault
from edgekit.runtime.edgetpu_package import is_compiled, required_runtime
from edgekit.runtime.edgetpu_reasons import CAUSES as CAUSES
from edgekit.runtime.edgetpu_reasons import explained, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgekit.host import HostFacts
    from edgekit.modelfile import ModelFile

#: What libedgetpu understands (its source, ``tflite/edgetpu_delegate_for_custom_op_tflite_plugin.cc`` and
#: ``tflite/edgetpu_context_direct.cc``): the option, the values as a pattern, and the values in words.
OPTIONS: dict[str, tuple[str, str]] = {
    "device": (r"|usb|pci|(usb|pci)?:\d{1,2}", "usb, pci, or with a number counted from 0 :0, usb:0, pci:0"),
    "Performance": ("Low|Medium|High|Max", "Low, Medium, High or Max"),
    "Usb.AlwaysDfu": ("True|False", "True or False"),
    "Usb.MaxBulkInQueueLength": (r"\d|\d\d|1\d\d|2[0-4]\d|25[0-5]", "0 to 255"),
}
_ELSEWHERE = "A model that was not compiled for the Edge TPU runs with --delegate xnnpack."
#: A device that was closed a moment ago may still be on its way back to the bus.
_AGAIN_SECONDS = (0.5, 1.0, 2.0)
_proven: set[str] = set()
#: Libraries that are loaded in this program already: trying them elsewhere protects nothing more, and this program may hold the device.
_opened: set[str] = set()
_opening = allocate_lock()


class EdgetpuProbe(Record):
    """Whether the Edge TPU can be used.

    Attributes:
        usable: whether the delegate started and, where a model was given, ran it.
        reason: in a sentence that names the remedy where it is not usable.
        native: what the library, the interpreter or the linker said; ``None`` where they said nothing.
        library: the library that was tried; ``None`` where there is none.
        devices: the devices that the library saw, in the order in which the option ``device`` counts them.
        cause: one of ``CAUSES``; ``"ready"`` when it is usable.
        runtime: the library's Edge TPU runtime version, where it tells.
    """

    usable: bool
    reason: str
    native: str | None
    library: str | None
    devices: tuple[str, ...]
    cause: str
    runtime: int | None = None


def probe_edgetpu(
    model: ModelFile | None,
    *,
    library: str | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
    host: HostFacts | None = None,
    timeout_s: float = 30.0,
    python: str | None = None,
    engine: str | None = None,
) -> EdgetpuProbe:
    """Find out whether the Edge TPU can be used, in a process of its own: whatever the library does, this one goes on.

    Args:
        model: a model to load and to run once on zeros; ``None`` to start the delegate only.
        library: libedgetpu's path or name; ``None`` to look for it.
        options: what the library is given, see ``OPTIONS``.
        host: what is known of this machine; ``None`` to find out where it matters.
        timeout_s: the most that loading the library, opening the device and running the model may take, in seconds.
        python: another Python to try it with; ``None`` for this one.
        engine: the interpreter to try it with, such as ``"tflite-runtime"``; ``None`` for the first that is installed.

    Raises:
        DelegateError: an option is not one that libedgetpu has.
    """
    check_options(options)
    if model is not None and not is_compiled(model):
        return _refused("not-compiled", _not_compiled(model), library)
    if library is None:
        from edgekit.runtime import delegates

        library = delegates.edgetpu_library()
    if library is None:
        return _refused("no-library", f"the library libedgetpu was not found: {INSTALL}.", None)
    wrong = fault(library) if python is None else None
    if wrong is not None:
        return _refused(wrong.cause, wrong.reason, library)
    from edgekit.runtime.edgetpu_process import listen

    heard = listen(library, options, model, seconds=timeout_s, python=python, engine=engine)
    needs = required_runtime(model) if model is not None else None
    if host is None and heard.said("stage") == "open" and not heard.said("done"):
        from edgekit.host import read_host

        host = read_host()
    found = judge(heard, library, options, host, needs)
    usable = found.cause == "ready"
    if usable and model is not None and python is None:
        _note_proof(_proof_name(library, heard.said("engine"), str(heard.said("engine_version"))))
    return EdgetpuProbe(usable, found.reason, found.native, library, heard.devices, found.cause, heard.runtime)


def check_options(options: Mapping[str, str]) -> None:
    """Raise where libedgetpu would ignore an option, or refuse it without a word.

    Raises:
        DelegateError: the option is unknown, its value is none that exists, or it has no effect.
    """
    for name, value in options.items():
        if name not in OPTIONS:
            raise DelegateError(f"the Edge TPU has no option {name!r}: expected one of {', '.join(OPTIONS)}.")
        pattern, words = OPTIONS[name]
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise DelegateError(f"the Edge TPU's option {name}={value!r}: expected {words}.")
    if options and set(options) != {"device"} and ":" not in options.get("device", ""):
        ignored = next(name for name in options if name != "device")
        raise DelegateError(
            f"libedgetpu ignores {ignored} where the device is not named by its number: add device=:0 for the first Edge TPU, device=:1 "
            "for the second."
        )


def open_delegate(
    load: Callable[[], Any], spec: DelegateSpec, library: str | None, model: ModelFile | None, engine: str
) -> Any:
    """Load the delegate into this process, once nothing speaks against it.

    Args:
        load: loads it.
        spec: the delegate; its options are given to the library.
        library: libedgetpu, as found.
        model: what it is for; ``None`` where that is not known.
        engine: the interpreter that it is for.

    Returns:
        What ``load`` returns.

    Raises:
        DelegateError: it cannot be used, with the one reason why.
    """
    check_options(spec.options)
    if model is not None and not is_compiled(model):
        raise DelegateError(_not_compiled(model))
    if library is None:
        raise DelegateError(
            f"the Edge TPU delegate needs the library libedgetpu, and it was not found: {INSTALL}. {_ELSEWHERE}"
        )
    wrong = fault(library)
    if wrong is not None:
        raise DelegateError(f"the Edge TPU cannot be used: {wrong.reason} {_ELSEWHERE}")
    with _opening:  # two threads that try it at once would find the device held, by each other
        tried = library not in _opened and not is_proven(library, engine)
        if tried:
            probe = probe_edgetpu(model, library=library, options=spec.options, engine=engine)
            if not probe.usable:
                raise _as_error(probe)
        for pause in (*_AGAIN_SECONDS, None) if tried else (None,):
            try:
                delegate = load()
            except (ValueError, OSError, RuntimeError) as error:
                if pause is None:
                    probe = probe_edgetpu(model, library=library, options=spec.options, engine=engine)
                    raise _as_error(probe, " ".join(str(error).split())) from error
                time.sleep(pause)
            else:
                _opened.add(library)
                return delegate
    raise AssertionError  # the last pause is None


def explain(text: str, engine: str | None = None) -> str | None:
    """What an interpreter's error about a model of the Edge TPU means, in a sentence; ``None`` where it is about something else.

    Args:
        text: the interpreter's words.
        engine: its name and version.
    """
    found = explained(text, engine)
    return found.reason if found is not None else None


def each_device(probe: EdgetpuProbe, options: Mapping[str, str] = MappingProxyType({})) -> tuple[DelegateSpec, ...]:
    """One delegate for each Edge TPU that a probe saw: sessions without a number would share the first.

    Args:
        probe: what ``probe_edgetpu`` found.
        options: further options for each.
    """
    return tuple(DelegateSpec("edgetpu", 1, {**options, "device": f":{index}"}) for index in range(len(probe.devices)))


def engine_of(interpreter_module: Any) -> str:
    """The name of the engine that a module with ``load_delegate`` belongs to."""
    name = getattr(interpreter_module, "__name__", "")
    return next((engine for engine, module in MODULES.items() if module == name), "tensorflow")


def is_proven(library: str, engine: str | None) -> bool:
    """Whether this very library was seen to run a model here, in this interpreter, which is imported."""
    package = sys.modules.get(MODULES.get(engine or "", "").partition(".")[0])
    name = _proof_name(library, engine, str(getattr(package, "__version__", "")))
    if name in _proven:
        return True
    place = _proof_place(name)
    if place is not None and os.path.exists(place):
        _proven.add(name)
        return True
    return False


def _note_proof(name: str) -> None:
    _proven.add(name)
    place = _proof_place(name)
    if place is not None:
        with contextlib.suppress(OSError):  # it may be forgotten
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb"):
                pass


def _proof_name(library: str, engine: str | None, version: str) -> str:
    """Other bytes under the same path, another interpreter or another version of it are another matter."""
    from edgekit.digest import sha256_hex

    try:
        found = os.stat(library)
        identity = f"{os.path.realpath(library)} {found.st_size} {found.st_mtime_ns}"
    except OSError:
        identity = library
    return sha256_hex(f"{identity} {engine} {version} {sys.version}".encode())[:32]


def _proof_place(name: str) -> str | None:
    from edgekit.cache import cache_folder

    folder = cache_folder()
    return None if folder is None else os.path.join(folder, "edgetpu", name)


def _as_error(probe: EdgetpuProbe, said: str = "") -> DelegateError:
    heard = f" It said: {said.rstrip('.')}." if said else ""
    if probe.library in _opened and (probe.usable or probe.cause == "busy"):
        return DelegateError(
            f"the Edge TPU cannot be used: {probe.library} refused to start a second time in this program. Sessions share a device when "
            f"they ask for it with the same options; give each its own with device=:0, device=:1.{heard} {_ELSEWHERE}"
        )
    if probe.usable:
        return DelegateError(
            f"the Edge TPU cannot be used: {probe.library} refused to start in this program, though it does in a process of its own. Load "
            f"the model again; if that does not help, load it with isolate=True.{heard} {_ELSEWHERE}"
        )
    said = (probe.native or "").rstrip(".")
    native = f" It said: {said}." if said and said not in probe.reason else ""
    return DelegateError(f"the Edge TPU cannot be used: {probe.reason}{native} {_ELSEWHERE}")


def _not_compiled(model: ModelFile) -> str:
    return (
        f"{model.name} was not compiled for the Edge TPU (it has no operator {EDGETPU_OPERATOR}), so the Edge TPU would take nothing of it: run "
        "`edgetpu_compiler` on a fully int8 file, or use --delegate xnnpack."
    )


def _refused(cause: str, reason: str, library: str | None) -> EdgetpuProbe:
    return EdgetpuProbe(False, reason, None, library, (), cause)

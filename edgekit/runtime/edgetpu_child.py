"""The process in which libedgetpu is tried: it may crash, hang or print what it likes, and the program goes on.

It needs nothing but Python and, to load a model, one of the interpreters' packages: another Python than the program's can run it.
The request comes on standard input: a line of JSON, then the model's bytes. Each step is announced on standard output before it is
done, as a line of JSON, so that a process that is gone or hangs has said where. What the library prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import types
from typing import Any

#: What each engine is called as a module. The first that can be imported is used where none is named.
MODULES = {
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow",
}
#: The program's own limit comes first; this one is for a program that is gone.
_GRACE_SECONDS = 5.0
_USB = 1  # edgetpu_c.h: EDGETPU_APEX_PCI is 0, EDGETPU_APEX_USB 1


class _Device(ctypes.Structure):
    """``struct edgetpu_device`` of edgetpu_c.h."""

    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))


class _Delegate:
    """A delegate as the interpreters take it."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def _get_native_delegate_pointer(self) -> int:
        return self.pointer


class _Refused(Exception):
    """The library or the interpreter refused; the text is theirs."""


def main() -> None:
    """Do what standard input asks for, and say how far it went."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what native code prints is no answer
    request = json.loads(sys.stdin.buffer.readline())
    model = sys.stdin.buffer.read(int(request["model_bytes"]))
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, float(request["seconds"]) + _GRACE_SECONDS)

    def say(**about: Any) -> None:
        os.write(answers, json.dumps(about).encode() + b"\n")

    try:
        engine = _engine(request["engine"]) if model else None
        say(ready=True, engine=getattr(engine, "name", None), engine_version=getattr(engine, "version", ""))
        _try(request["library"], request["options"], engine, model, say)
        say(done=True)
    except _Refused as error:
        say(error=str(error))
    os._exit(0)  # the library's own tidying up was tried already


def _engine(name: str) -> Any:
    """An interpreter: its class, name and version; ``None`` where there is none."""
    for wanted in [name] if name else MODULES:
        try:
            module: Any = __import__(MODULES[wanted], fromlist=["Interpreter"])
        except ImportError:
            continue
        version = str(getattr(sys.modules[MODULES[wanted].partition(".")[0]], "__version__", ""))
        interpreter = module.lite.Interpreter if wanted == "tensorflow" else module.Interpreter
        return types.SimpleNamespace(Interpreter=interpreter, name=wanted, version=version)
    return None


def _try(library: str, options: dict[str, str], engine: Any, model: bytes, say: Any) -> None:
    say(stage="library")
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        raise _Refused(str(error)) from error
    if not hasattr(loaded, "tflite_plugin_create_delegate"):
        raise _Refused("undefined symbol: tflite_plugin_create_delegate")
    version = _version(loaded)
    if hasattr(loaded, "edgetpu_verbosity"):
        loaded.edgetpu_verbosity(10)  # it keeps its reasons for its log
    say(stage="devices", version=version)
    say(stage="open", devices=_devices(loaded))
    delegate = _Delegate(_create(loaded, options))
    if engine is not None:
        _run(engine, delegate, model, say)
    say(stage="close")
    loaded.tflite_plugin_destroy_delegate.argtypes = [ctypes.c_void_p]
    loaded.tflite_plugin_destroy_delegate(delegate.pointer)


def _version(loaded: Any) -> str:
    if not hasattr(loaded, "edgetpu_version"):
        return ""
    loaded.edgetpu_version.restype = ctypes.c_char_p
    return (loaded.edgetpu_version() or b"").decode("utf-8", "replace")


def _devices(loaded: Any) -> list[list[Any]] | None:
    """Kind and path of each device, in the order that the option ``device`` counts in; ``None`` where the library does not tell."""
    if not hasattr(loaded, "edgetpu_list_devices"):
        return None
    count = ctypes.c_size_t(0)
    loaded.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
    first = loaded.edgetpu_list_devices(ctypes.byref(count))
    found = [
        ["usb" if first[index].type == _USB else "pci", (first[index].path or b"").decode("utf-8", "replace")]
        for index in range(min(count.value, 64))
    ]
    if found:
        loaded.edgetpu_free_devices(first)
    return found


def _create(loaded: Any, options: dict[str, str]) -> int:
    """The delegate (external_delegate_interface.h)."""
    said: list[str] = []
    handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
    report = handler(lambda text: said.append((text or b"").decode("utf-8", "replace")))
    keys = (ctypes.c_char_p * len(options))(*[key.encode() for key in options])
    values = (ctypes.c_char_p * len(options))(*[value.encode() for value in options.values()])
    create = loaded.tflite_plugin_create_delegate
    create.restype = ctypes.c_void_p
    create.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, handler]
    delegate: int | None = create(keys, values, len(options), report)
    if delegate is None:
        raise _Refused(" ".join(said))
    return delegate


def _run(engine: Any, delegate: _Delegate, model: bytes, say: Any) -> None:
    """Load the model and run it once on zeros."""
    try:
        say(stage="model")
        interpreter = engine.Interpreter(model_content=model, experimental_delegates=[delegate], num_threads=1)
        interpreter.allocate_tensors()
        say(stage="run")
        for item in interpreter.get_input_details():
            interpreter.tensor(item["index"])()[...] = 0
        interpreter.invoke()
    except (ValueError, RuntimeError, IndexError, MemoryError) as error:
        raise _Refused(str(error)) from error
    del interpreter


if __name__ == "__main__":
    main()

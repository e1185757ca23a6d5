"""The process of an isolated model: limits itself, loads the model, and runs it for the program that started it.

``isolate.Isolated`` starts it. It reads frames from its standard input and answers on its standard output; what native code prints
goes to its standard error. It ends when its standard input does, and a timer of the kernel's ends it when a request takes
longer than it may, even if the program that asked is gone.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.runtime import engines
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.frames import (
    DONE,
    HEAD,
    LOAD,
    LOADED,
    READY,
    REFUSED,
    RESET,
    RESULT,
    RUN,
    Frame,
    arrays_of,
    described,
    frame_of,
    lengths,
    packed,
)  # fmt: skip
from edgekit.runtime.session import Session
from edgekit.runtime.shared_arrays import SharedArrays
from edgekit.tensors import Array

#: The program's own limit comes first; this one is for a program that is gone.
_GRACE_SECONDS = 1.0
#: What the program sends is believed, up to what no array has.
_MAX_BYTES = 1 << 40
_STACK_BYTES = 8 << 20


def main() -> None:
    """Serve until the input ends."""
    reading, writing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    engine, seconds = sys.argv[-2:]
    _stop_after(float(seconds))
    _import_engine(engine)
    with contextlib.suppress(BrokenPipeError):
        _serve(reading, writing)
    # Whatever a damaged model left behind must not be tidied up: it would crash on the way out.
    os._exit(0)


def _serve(reading: int, writing: int) -> None:
    session: Session | None = None
    shared: SharedArrays | None = None
    _write(writing, packed(READY, 0, {}))
    while True:
        _stop_after(0)
        frame = _read(reading)
        if frame is None:
            return
        seconds = float(frame.about["seconds"])
        _stop_after(seconds)
        answer: tuple[int, dict[str, Any], list[Array]]
        try:
            if frame.kind == LOAD:
                session, about = _load(frame)
                if frame.about["shared"] is not None:
                    shared = SharedArrays(frame.about["shared"], session.inputs, session.outputs)
                answer = LOADED, about, []
            else:
                assert session is not None
                _limit_cpu(seconds, session.asked.spec.threads or 1)
                if frame.kind == RUN:
                    answer = _answer(_run(session, frame, shared), shared)
                else:
                    assert frame.kind == RESET
                    session.reset()
                    answer = DONE, {}, []
        except EdgekitError as error:
            answer = REFUSED, {"kind": type(error).__name__, "text": str(error)}, []
        except MemoryError as error:
            answer = REFUSED, {"kind": "MemoryError", "text": str(error)}, []
        kind, about, arrays = answer
        _write(writing, packed(kind, frame.number, about, arrays))


def _load(frame: Frame) -> tuple[Session, dict[str, Any]]:
    about = frame.about
    spec = about["delegate"]
    threads = spec["threads"] or 1
    _limit(about["memory_bytes"], threads)
    _limit_cpu(about["seconds"], threads)
    model = ModelFile.read(bytes(frame.body))._replace(location=about["name"])
    choice = DelegateChoice(DelegateSpec(spec["kind"], spec["threads"], spec["options"]), about["reason"])
    session = Session(model, choice, **about["options"])
    try:
        report = session.partitions
        parts: Any = [report.delegate, [list(part) for part in report.partitions], list(report.outside)]
    except EngineError as error:
        parts = str(error)
    return session, {"engine": session.engine, "partitions": parts, "sha256": model.sha256}


def _import_engine(name: str) -> None:
    """Import the interpreter's package before the limits are set: its own memory is not the model's."""
    name = name or next(iter(engines.installed()), "")
    with contextlib.suppress(ImportError):  # loading says what is wrong
        importlib.import_module(f"{engines.ENGINES.get(name, 'edgekit')}.interpreter")


def _run(session: Session, frame: Frame, shared: SharedArrays | None) -> list[Array]:
    arrays = arrays_of(frame, frame.about["arrays"]) if shared is None else shared.inputs
    result = session.run({spec.name: array for spec, array in zip(session.inputs, arrays, strict=True)})
    return [result] if len(session.outputs) == 1 else [result[spec.name] for spec in session.outputs]


def _answer(results: list[Array], shared: SharedArrays | None) -> tuple[int, dict[str, Any], list[Array]]:
    """Results through the shared memory where they have the sizes that the file says, else over the pipe."""
    if shared is None or any(
        a.shape != b.shape or a.dtype != b.dtype for a, b in zip(results, shared.outputs, strict=True)
    ):
        return RESULT, {"arrays": described(results)}, results
    for place, result in zip(shared.outputs, results, strict=True):
        np.copyto(place, result)
    return RESULT, {"arrays": None}, []


def _read(reading: int) -> Frame | None:
    """The next request; ``None`` when there is nobody to send one."""
    head = _exactly(reading, HEAD.size)
    if head is None:
        return None
    kind, number, text, size = lengths(head, _MAX_BYTES)
    rest = _exactly(reading, text + size)
    if rest is None:
        return None
    view = memoryview(rest)
    return frame_of(kind, number, view[:text], view[text:])


def _write(writing: int, parts: list[memoryview]) -> None:
    for part in parts:
        left = part
        while left:
            left = left[os.write(writing, left) :]


def _exactly(reading: int, size: int) -> bytearray | None:
    held = bytearray(size)
    view = memoryview(held)
    while view:
        count = os.readv(reading, [view])
        if count == 0:
            return None
        view = view[count:]
    return held


def _stop_after(seconds: float) -> None:
    """Let the kernel end this process then, whatever it is doing; 0 for not at all."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE_SECONDS if seconds else 0)


def _limit(memory_bytes: int | None, threads: int) -> None:
    """No core files, and so much memory beyond what Python and the interpreter's package have by now."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        with open("/proc/self/status", encoding="ascii") as file:
            kibibytes = next(int(line.split()[1]) for line in file if line.startswith("VmData:"))
        most = 1024 * kibibytes + memory_bytes + threads * _STACK_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _limit_cpu(seconds: float, threads: int) -> None:
    """So much more time of the processor than was used by now."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + (seconds + _GRACE_SECONDS) * threads) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()

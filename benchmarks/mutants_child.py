"""Tries damaged model files, one forked process for each: ``python mutants_child.py ENGINE WAY FILE SEED FIRST COUNT``.

``WAY`` is ``bare`` (the interpreter alone, by path), ``edgekit`` (checked, then a ``Session``), ``isolate`` (checked, then
``Isolated``) or ``check`` (edgekit's check alone). Prints a line of JSON for each file: its number, its kind and how it ended.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mutations import Mutator

from edgekit.errors import EdgekitError, FaultError, ModelFileError, TensorError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.isolate import Isolated
from edgekit.runtime.session import Session

#: A file hangs when it takes longer than this, and than so many times what the healthy one takes here.
LIMIT_SECONDS = 5
LIMIT_TIMES = 10
LIMIT_BYTES = 6 << 30
PACKAGES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}


def bare(module: Any, path: str) -> str:
    """Load, run and read with the interpreter alone."""
    try:
        interpreter = module.Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
        for item in interpreter.get_input_details():
            interpreter.set_tensor(item["index"], np.zeros(item["shape"], item["dtype"]))
        interpreter.invoke()
        for item in interpreter.get_output_details():
            interpreter.get_tensor(item["index"])
    except Exception:
        return "refused by the runtime"
    return "ran"


def guarded(engine: str, path: str, *, isolate: bool = False) -> str:
    """The same through edgekit, in this process or in one of its own."""
    try:
        with session(engine, path, isolate) as model:
            model.run({spec.name: np.zeros([max(1, n) for n in spec.shape], spec.dtype) for spec in model.inputs})
    except (ModelFileError, TensorError):
        return "refused by edgekit"
    except FaultError:
        return "child ended"
    except EdgekitError:
        return "refused by the runtime"
    except Exception as error:
        return f"bug: {error!r}"
    return "ran"


def session(engine: str, path: str, isolate: bool) -> Session | Isolated:
    """A model loaded by path."""
    model, choice = ModelFile.read(path), DelegateChoice(DelegateSpec("xnnpack", 1), "the benchmark")
    if isolate:
        return Isolated(model, choice, engine=engine, io="native", timeout_ms=4000 * LIMIT_SECONDS)
    return Session(model, choice, engine=engine, io="native")


def check(path: str) -> str:
    """Edgekit's check alone."""
    try:
        ModelFile.read(path)
    except ModelFileError:
        return "refused by edgekit"
    except Exception as error:
        return f"bug: {error!r}"
    return "accepted"


def outcome(attempt: Callable[[], str], limit_seconds: float) -> str:
    """How an attempt in a forked process ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, limit_seconds)
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(writing, attempt().encode()[:1000])
        os._exit(0)
    os.close(writing)
    text = b"".join(iter(lambda: os.read(reading, 4096), b"")).decode(errors="replace")
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "hung" if number == signal.SIGALRM else f"crashed {signal.Signals(number).name}"
    return text or f"crashed with exit code {os.WEXITSTATUS(status)}"


def main() -> None:
    """Try the mutants that the arguments name."""
    engine, way, file, seed, first, count, folder = sys.argv[1:8]
    answers = os.fdopen(os.dup(1), "w")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    module = __import__(f"{PACKAGES[engine]}.interpreter", fromlist=["Interpreter"])
    mutator = Mutator(Path(file).read_bytes(), int(seed))
    path = os.path.join(folder, f"mutant-{os.getpid()}.tflite")
    ways: dict[str, Callable[[], str]] = {
        "bare": lambda: bare(module, path),
        "edgekit": lambda: guarded(engine, path),
        "isolate": lambda: guarded(engine, path, isolate=True),
    }
    gc.collect()
    gc.freeze()
    Path(path).write_bytes(mutator.content)
    start = time.monotonic()
    outcome(ways[way] if way != "check" else ways["edgekit"], 600)
    limit = max(LIMIT_SECONDS, LIMIT_TIMES * (time.monotonic() - start))
    for number in range(int(first), int(first) + int(count)):
        kind, content = mutator.mutant(number)
        temporary = Path(path)
        temporary.unlink(missing_ok=True)  # a process that hung may still have the old one mapped
        temporary.write_bytes(content)
        # The check is Python's alone: what it refuses needs no process to crash in.
        seen = "accepted" if way == "bare" else check(path)
        if seen == "accepted" and way != "check":
            seen = outcome(ways[way], limit)
        answers.write(json.dumps([number, kind, seen]) + "\n")
        answers.flush()
    Path(path).unlink(missing_ok=True)


if __name__ == "__main__":
    main()

"""Engines: the interpreters that can run a model, one file each, all with the same two nouns.

A module has ``NAME`` and ``load() -> Loaded``; ``Loaded`` has what the engine's class needs. The order of ``ENGINES`` is the order in
which they are tried: the smallest that tells most comes first, TensorFlow last.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from edgekit.errors import DelegateError, EngineError, one_of
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines.interpreter import InterpreterEngine, Loaded
from edgekit.soundness import check_sparse

if TYPE_CHECKING:
    from typing import TypeAlias

    from edgekit.runtime.engines.compiled import CompiledEngine
    from edgekit.runtime.signatures import Entry

    #: What ``open_engine`` gives: both have the same methods.
    Engine: TypeAlias = InterpreterEngine | CompiledEngine

#: Engine name → the package whose presence makes it available.
ENGINES: dict[str, str] = {
    "litert": "ai_edge_litert",
    "tflite-runtime": "tflite_runtime",
    "litert-compiled": "ai_edge_litert",
    "tensorflow": "tensorflow",
}
#: The engine of LiteRT's CompiledModel.
COMPILED = "litert-compiled"


def installed() -> tuple[str, ...]:
    """The engines whose package is installed, in order of preference; nothing is imported."""
    return tuple(name for name, package in ENGINES.items() if importlib.util.find_spec(package) is not None)


def open_engine(model: ModelFile, spec: DelegateSpec, name: str | None = None, entry: Entry | None = None) -> Engine:
    """Load a model into an interpreter.

    Args:
        model: a checked model.
        spec: the delegate and threads.
        name: an engine's name, or ``None`` for the first that is installed and has the delegate: the GPU and XNNPACK's options are
            reached through ``litert-compiled`` only.
        entry: the signature to run; ``None`` for the main one.

    Raises:
        EngineError: none is installed, or the interpreter refused the model.
        DelegateError: the delegate cannot be loaded, or the engine has not what is asked for.
        ModelFileError: an operator would read a sparse constant as if it were whole.
    """
    _refuse_free_threads()
    loaded = _load(_fit(spec, name))
    check_sparse(model.graph, model.name, own_kernels=spec.kind == "none" and loaded.name != COMPILED)
    if loaded.name == COMPILED:
        from edgekit.runtime.engines.compiled import CompiledEngine

        return CompiledEngine(loaded, model, spec, entry)
    return InterpreterEngine(loaded, model, spec, entry)


def _fit(spec: DelegateSpec, name: str | None) -> str | None:
    """The engine to load: the one that was named, or the only one that has what is asked for."""
    options = spec.kind in ("xnnpack", "none") and bool(spec.options)
    if spec.kind != "gpu" and not options:
        return name
    if name not in (None, COMPILED):
        if spec.kind == "gpu":
            return name  # the engine refuses it, with the reason
        raise DelegateError(
            f"the engine {name!r} has no options for the delegate {spec.kind} ({', '.join(spec.options)} given): the engine "
            f"{COMPILED!r} has some for xnnpack."
        )
    if importlib.util.find_spec(ENGINES[COMPILED]) is None:
        wanted = "the GPU is" if spec.kind == "gpu" else f"options of the delegate {spec.kind} are"
        raise DelegateError(
            f"{wanted} reached through LiteRT's CompiledModel, and ai-edge-litert is not installed. Install it (`pip install "
            "ai-edge-litert`: x86-64 and arm64), or use --delegate xnnpack without options."
        )
    return COMPILED


def _refuse_free_threads() -> None:
    """The engines' native parts guard nothing themselves: they rely on the interpreter lock between their calls."""
    enabled = getattr(sys, "_is_gil_enabled", None)
    if enabled is not None and not enabled():
        raise EngineError(
            "this is a free-threaded Python without its global lock, and the interpreters' packages rely on the lock. Use the "
            "ordinary build, or run with PYTHON_GIL=1."
        )


def _load(name: str | None) -> Loaded:
    if name is not None:
        one_of(name, tuple(ENGINES), "engine")
        try:
            return _import(name)
        except ImportError as error:
            found = ", ".join(installed()) or "none"
            raise EngineError(f"the engine {name!r} cannot be used: {error}. Installed: {found}.") from error
    reasons = []
    for found, package in ENGINES.items():
        try:
            return _import(found)
        except ImportError as error:
            if importlib.util.find_spec(package) is not None:
                reasons.append(f"{found} cannot be used: {error}")
    raise EngineError(
        f"{'; '.join(reasons) or 'no interpreter is installed'}. Install one: `pip install ai-edge-litert` (x86-64 and "
        "arm64), or on armv7l with Python 3.10 or 3.11 `pip install 'edgekit[tflite-runtime]'`."
    )


def _import(name: str) -> Loaded:
    if name == "litert":
        from edgekit.runtime.engines import litert

        return litert.load()
    if name == "tflite-runtime":
        from edgekit.runtime.engines import tflite_runtime

        return tflite_runtime.load()
    if name == "litert-compiled":
        from edgekit.runtime.engines import compiled

        return compiled.load()
    from edgekit.runtime.engines import tensorflow_lite

    return tensorflow_lite.load()

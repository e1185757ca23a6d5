"""Delegates: what can be asked for, what was chosen and why, and what a delegate took of a graph.

The only place that loads a native delegate library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgekit.errors import DelegateError
from edgekit.records import Record

if TYPE_CHECKING:
    from edgekit.modelfile import ModelFile

#: ``xnnpack``: the CPU delegate that is built into the interpreters. ``none``: the interpreter's own kernels. ``npu``: what
#: LiteRT's dispatch libraries reach; listed, and refused with the reason.
KINDS: tuple[str, ...] = ("xnnpack", "none", "gpu", "edgetpu", "npu")

#: The operator that the Edge TPU compiler puts in place of what it took.
EDGETPU_OPERATOR = "edgetpu-custom-op"
#: Where libedgetpu lies after its own installer (Coral documentation, "Install the Edge TPU runtime").
EDGETPU_LIBRARIES: tuple[str, ...] = ("libedgetpu.so.1", "libedgetpu.1.dylib", "edgetpu.dll")


class DelegateSpec(Record):
    """A delegate as it is asked for.

    Attributes:
        kind: one of ``KINDS``.
        threads: CPU threads; ``None`` leaves it to the profile, which means 1 without one.
        options: passed to a delegate library as they are.

    Raises:
        DelegateError: the kind is unknown, or the number of threads makes no sense.
    """

    kind: str
    threads: int | None = None
    options: Mapping[str, str] = MappingProxyType({})

    def _check(self) -> None:
        if self.kind not in KINDS:
            raise DelegateError(f"unknown delegate {self.kind!r}: expected one of {', '.join(KINDS)}.")
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise DelegateError(f"{self.threads} threads asked for: from 1 to 1024 were expected.")


class Rejected(Record):
    """A delegate that was not chosen.

    Attributes:
        kind: which.
        reason: why, in a sentence that names the remedy where there is one.
    """

    kind: str
    reason: str


class DelegateChoice(Record):
    """The delegate that was picked, and why each other one was not.

    Attributes:
        spec: the pick.
        reason: why.
        rejected: the others.
        profile_id: the device profile that the choice follows, or ``None`` when the caller named the delegate.
    """

    spec: DelegateSpec
    reason: str
    rejected: tuple[Rejected, ...] = ()
    profile_id: str | None = None


class PartitionReport(Record):
    """What a delegate took of a graph, read back from the interpreter.

    Attributes:
        delegate: the delegate's name as asked for.
        partitions: operator indices of each part that the delegate runs.
        outside: indices of the operators that the interpreter's own kernels run.
        op_names: the name of every operator of the main subgraph.
    """

    delegate: str
    partitions: tuple[tuple[int, ...], ...]
    outside: tuple[int, ...]
    op_names: tuple[str, ...]

    @property
    def taken(self) -> int:
        """How many operators the delegate runs."""
        return sum(len(part) for part in self.partitions)

    def outside_names(self) -> dict[str, int]:
        """How many operators of each name are outside."""
        counts: dict[str, int] = {}
        for index in self.outside:
            counts[self.op_names[index]] = counts.get(self.op_names[index], 0) + 1
        return dict(sorted(counts.items()))

    def __str__(self) -> str:
        total = len(self.op_names)
        text = f"{self.delegate}: {self.taken} of {total} operators in {len(self.partitions)} partition"
        text += "" if len(self.partitions) == 1 else "s"
        if self.outside and self.partitions:
            names = ", ".join(name if n == 1 else f"{name} x{n}" for name, n in self.outside_names().items())
            text += f"; outside: {names}"
        return text

    def to_json(self) -> dict[str, Any]:
        """Counts and names for a report; ``delegate`` is ``none`` when it took nothing."""
        return {
            "delegate": self.delegate if self.partitions else "none",
            "partitions": len(self.partitions),
            "operators": len(self.op_names),
            "taken": self.taken,
            "outside": self.outside_names(),
        }


def edgetpu_library() -> str | None:
    """The name or path of libedgetpu on this machine, or ``None``."""
    from edgekit.runtime.edgetpu_library import find

    return find(EDGETPU_LIBRARIES)


def load_library(interpreter_module: Any, spec: DelegateSpec, model: ModelFile | None = None) -> list[Any]:
    """Load the native library of a delegate.

    Args:
        interpreter_module: the module that has ``load_delegate`` (LiteRT's, tflite-runtime's or TensorFlow's).
        spec: what to load.
        model: what it is for; ``None`` where that is not known.

    Returns:
        What the interpreter's ``experimental_delegates`` takes; empty for delegates that need no library.

    Raises:
        DelegateError: the library is missing, or it refused, with the reason.
    """
    if spec.kind in ("xnnpack", "none"):
        return []
    if spec.kind == "gpu":
        raise DelegateError(
            "the GPU is reached through LiteRT's CompiledModel, not through an interpreter: leave the engine open, or use "
            "--engine litert-compiled."
        )
    if spec.kind == "npu":
        from edgekit.runtime.npu import find_npu, npu_reason

        raise DelegateError(f"{npu_reason(find_npu())} Use --delegate xnnpack.")
    from edgekit.runtime.edgetpu import engine_of, open_delegate

    library = edgetpu_library()
    options = dict(spec.options)
    load: Callable[[], Any] = lambda: interpreter_module.load_delegate(library, options)  # noqa: E731
    return [open_delegate(load, spec, library, model, engine_of(interpreter_module))]

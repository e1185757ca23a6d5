"""Trying a model on one delegate: the CPU's are opened here, the GPU and the Edge TPU in processes of their own."""

from __future__ import annotations

from edgekit.errors import DelegateError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime.delegates import DelegateSpec, PartitionReport
from edgekit.runtime.engines import open_engine
from edgekit.runtime.fallback import BUILT_IN
from edgekit_profiles.measurements import Timed
from edgekit_profiles.obstacles import EDGETPU_OPERATOR, is_edgetpu_model


class Share(Record):
    """How much of a model a delegate takes, or would take.

    Attributes:
        operators: share of the operators, from 0 to 1; ``None`` where it is not known.
        macs: share of the multiply-accumulates; ``None`` where it is not known or the model has none.
        by: how that is known.
    """

    operators: float | None
    macs: float | None
    by: str


class Seen:
    """What trying one delegate has shown so far.

    Attributes:
        error: why it cannot be used; ``None`` while it can.
        tried: whether the model was loaded on it.
        share: how much of the model it takes.
        partitions: what it took, read back.
        engine: what loaded it.
        timed: what was measured.
        notes: what else was seen.
        partial: whether it takes a part of the model only.
    """

    def __init__(self) -> None:
        self.error: str | None = None
        self.tried = False
        self.share: Share | None = None
        self.partitions: PartitionReport | None = None
        self.engine: str | None = None
        self.timed: Timed | None = None
        self.notes: list[str] = []
        self.partial = False


def try_delegate(model: ModelFile, spec: DelegateSpec, seen: Seen) -> None:
    """Load the model on one delegate: the CPU's here, the others in processes of their own."""
    seen.tried = True
    if spec.kind in BUILT_IN:
        try:
            opened = open_engine(model, spec)
        except (EngineError, DelegateError) as error:
            seen.error = str(error)
            return
        try:
            seen.engine = opened.version
            seen.partitions = opened.partitions()
            seen.share = share_of(model, seen.partitions)._replace(by=f"read back from {opened.version}")
        except EngineError as error:
            seen.notes.append(str(error))
        finally:
            opened.close()
        return
    try:
        if spec.kind == "gpu":
            _try_gpu(model, spec, seen)
        elif spec.kind == "edgetpu":
            _try_edgetpu(model, spec, seen)
    except (EngineError, DelegateError) as error:  # options that it does not have, or no process can be started
        seen.error = str(error)


def share_elsewhere(model: ModelFile, spec: DelegateSpec) -> Share | None:
    """What the runtime here takes, as a prediction for a device that is not here."""
    seen = Seen()
    try_delegate(model, spec, seen)
    return seen.share._replace(by=f"predicted: as {seen.engine} does here") if seen.share is not None else None


def _try_gpu(model: ModelFile, spec: DelegateSpec, seen: Seen) -> None:
    from edgekit.runtime.gpu import GpuSettings, placement, probe_gpu

    settings = GpuSettings.of(spec.options)
    probe = probe_gpu(
        model,
        precision=settings.precision,
        tolerance=settings.tolerance,
        timeout_s=settings.timeout_s,
        threads=spec.threads,
        switches=settings.switches,
    )
    if not probe.usable:
        seen.error = _with_native(probe.reason, probe.native)
        return
    seen.notes.append(probe.reason)
    if probe.compile_ms is not None:
        seen.notes.append(f"preparing the model took {probe.compile_ms:.0f} ms in a new process")
    if probe.device is not None:
        seen.notes.append(f"it computed in {probe.precision} on {probe.device}")
    main = model.graph.main
    if probe.fully_accelerated:
        everything: tuple[int, ...] | None = tuple(op.index for op in main.ops)
    else:
        everything = placement(main, probe.taken, probe.left) if probe.taken is not None else None
        seen.notes += [f"it leaves to the CPU: {text}" for text in probe.left]
        seen.partial = True
    if everything is not None:
        outside = tuple(op.index for op in main.ops if op.index not in set(everything))
        report = PartitionReport("gpu", (everything,), outside, tuple(op.name for op in main.ops))
        seen.share = share_of(model, report)._replace(by="what the runtime said when it was tried")
    elif probe.taken is not None:
        seen.share = Share(probe.taken / len(main.ops), None, "what the runtime said when it was tried")


def _with_native(reason: str, native: str | None) -> str:
    return reason if native is None else f"{reason.rstrip('.')} (the runtime said: {native})"


def _try_edgetpu(model: ModelFile, spec: DelegateSpec, seen: Seen) -> None:
    from edgekit.runtime.edgetpu import probe_edgetpu

    probe = probe_edgetpu(model, options=spec.options)
    if not probe.usable:
        seen.error = _with_native(probe.reason, probe.native)
    elif probe.devices:
        seen.notes.append(f"found: {', '.join(probe.devices)}")


def share_of(model: ModelFile, report: PartitionReport) -> Share:
    """How much of a model a delegate takes, from what it took.

    Args:
        model: the model.
        report: what the delegate took; the interpreter's own kernels (``none``) run everything.
    """
    from edgekit.inspection import count_macs

    main = model.graph.main
    outside = set() if report.delegate == "none" else set(report.outside)
    macs = {op.index: count_macs(main, op) for op in main.ops}
    total = sum(macs.values())
    taken = sum(count for index, count in macs.items() if index not in outside)
    operators = (len(macs) - len(outside)) / len(macs) if macs else 0.0
    return Share(operators, taken / total if total else None, "read back")


def static_share(kind: str, model: ModelFile) -> Share | None:
    """Of a model that was compiled for the Edge TPU: what is in the compiler's operators runs there, the rest does not."""
    if kind != "edgetpu" or not is_edgetpu_model(model):
        return None
    ops = model.graph.main.ops
    mapped = sum(1 for op in ops if op.custom and op.name == EDGETPU_OPERATOR)
    whole = mapped == len(ops)
    return Share(
        mapped / len(ops), 1.0 if whole else None, "the compiled file: what the compiler mapped is one operator"
    )

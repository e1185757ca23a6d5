"""``profile``: what each operator of a model takes.

LiteRT has a profiler, and its Python package does not hand it out. So each operator is run as a model of its own, in the same
interpreter, on the same delegate and threads, on the values that it has in the model: one after the other, each one's results being
the next ones' inputs. What a delegate takes as one partition is run as one model besides, since a delegate that runs
operators as one spares what lies between them; the whole model is timed in the same minute, so that the parts can be held against it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgekit.bench.inputs import random_inputs
from edgekit.bench.op_times import GROUP_FIELDS as GROUP_FIELDS
from edgekit.bench.op_times import OP_FIELDS as OP_FIELDS
from edgekit.bench.op_times import Group as Group
from edgekit.bench.op_times import OpProfile as OpProfile
from edgekit.bench.op_times import OpTime as OpTime
from edgekit.bench.parts import Parts
from edgekit.bench.roofline import Roofline, measure_roofline
from edgekit.errors import DelegateError, EngineError, ModelFileError, OptionError
from edgekit.graph import Op, Tensor
from edgekit.inspection import count_macs, op_type
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import open_engine
from edgekit.tensors import NUMPY_TYPES, Array

#: Delegates whose partitions can be run as models of their own.
_DELEGATES = ("xnnpack", "none", "edgetpu")
_FEWEST, _MOST = 5, 500
_QUANTISED = ("int8", "int16")


def profile(
    source: str | os.PathLike[str] | bytes | ModelFile,
    *,
    delegate: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    inputs: Mapping[str, Array] | None = None,
    op_ms: float = 20.0,
    roofline: Roofline | bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> OpProfile:
    """Measure what each operator of a model takes.

    Args:
        source: a path, a file's bytes, or a ``ModelFile``.
        delegate: ``xnnpack``, ``none`` or ``edgetpu``; ``None`` for the profile's pick.
        device: a profile id, or ``None`` to detect the machine.
        threads: CPU threads, or ``None`` for the profile's number.
        engine: an engine's name, or ``None`` for the first that is installed.
        inputs: arrays by input name in the file's own types; ``None`` for random ones.
        op_ms: about so long each operator is run, in milliseconds, but at least five times.
        roofline: the machine's ceiling, ``True`` to measure it now, ``False`` to do without.
        progress: called as ``progress(step, done, total)``.

    Returns:
        The profile. An operator that cannot run alone, because it has a state for example, is in it without a time.

    Raises:
        EdgekitError: an option is not valid, the file is not a model, or the whole model cannot run here.
    """
    from edgekit.api import choose

    if not op_ms > 0:
        raise OptionError(f"op_ms is {op_ms}: more than 0 was expected.")
    model = source if isinstance(source, ModelFile) else ModelFile.read(source)
    spec = choose(model, delegate=delegate, device=device, threads=threads).spec
    if spec.kind not in _DELEGATES:
        raise OptionError(
            f"operators cannot be timed one by one on {spec.kind}: expected one of {', '.join(_DELEGATES)}. "
            "Use --delegate xnnpack to see what they take on the processor."
        )
    return _Run(model, spec, engine, inputs, op_ms * 1e6, progress or (lambda step, done, total: None)).profile(
        roofline
    )


class _Run:
    def __init__(
        self,
        model: ModelFile,
        spec: DelegateSpec,
        engine_name: str | None,
        inputs: Mapping[str, Array] | None,
        budget_ns: float,
        tell: Callable[[str, int, int], None],
    ) -> None:
        self._model, self._spec, self._engine_name = model, spec, engine_name
        self._budget_ns, self._tell = budget_ns, tell
        self._main = model.graph.main
        #: What each tensor holds, as long as an operator still needs it.
        self._values: dict[int, Array] = {}
        self._given = dict(random_inputs(model.inputs)) | dict(inputs or {})
        self._parts = Parts(model)

    def profile(self, roofline: Roofline | bool) -> OpProfile:
        engine = open_engine(self._model, self._spec, self._engine_name)
        try:
            arrays = [np.ascontiguousarray(self._given[item.name]) for item in self._model.inputs]
            _set(engine, arrays)
            self._values.update(zip(self._main.inputs, arrays, strict=True))
            engine.invoke()
            # Once before its parts and once behind them, so that a slow moment of the machine meets both.
            times = timed(engine.invoke, self._budget_ns * 3)
            partitions = engine.partitions().partitions
            ceiling = (
                measure_roofline(self._spec, self._engine_name, self._tell) if roofline is True else roofline or None
            )
            ops, together = self._timed_parts(partitions, ceiling)
            times += timed(engine.invoke, self._budget_ns * 3)
        finally:
            engine.close()
        return OpProfile(
            self._model.name,
            self._model.sha256,
            self._spec.kind,
            self._spec.threads or 1,
            engine.version,
            ops,
            float(np.median(times)),
            tuple(times),
            together,
            ceiling,
        )

    def _timed_parts(
        self, partitions: tuple[tuple[int, ...], ...], ceiling: Roofline | None
    ) -> tuple[tuple[OpTime, ...], tuple[float | None, ...]]:
        step, count = "Timing each operator", len(self._main.ops)
        of_op = {op: number for number, part in enumerate(partitions) for op in part}
        ends = {max(part): number for number, part in enumerate(partitions) if part}
        together: list[float | None] = [None] * len(partitions)
        released = self._released(partitions)
        ops = []
        for op in self._main.ops:
            self._tell(step, op.index, count)
            ops.append(self._op(op, of_op.get(op.index), ceiling))
            if op.index in ends:
                together[ends[op.index]] = self._partition(partitions[ends[op.index]])
            for index in released.get(op.index, ()):
                self._values.pop(index, None)
        self._tell(step, count, count)
        return tuple(ops), tuple(together)

    def _released(self, partitions: tuple[tuple[int, ...], ...]) -> dict[int, list[int]]:
        """After which operator which tensors' values are needed no more: a large model's together may not fit the memory."""
        last = {index: op.index for op in self._main.ops for index in op.inputs}
        for part in partitions:
            for index in self._parts.ends(part)[0]:  # a partition runs as one after its last operator did alone
                last[index] = max(last.get(index, 0), max(part, default=0))
        found: dict[int, list[int]] = {}
        for index, op_index in last.items():
            found.setdefault(op_index, []).append(index)
        return found

    def _op(self, op: Op, partition: int | None, ceiling: Roofline | None) -> OpTime:
        tensors = self._main.tensors
        times: list[int] = []
        note: str | None = None
        try:
            part = self._parts.cut([op.index])
            engine = open_engine(ModelFile.read(part.content), self._spec, self._engine_name)
            try:
                _set(engine, [self._value(index) for index in part.inputs])
                engine.invoke()
                for place, index in enumerate(part.outputs):
                    self._values[index] = engine.get_output(place)
                times = timed(engine.invoke, self._budget_ns)
            finally:
                engine.close()
        except (EngineError, DelegateError, ModelFileError) as error:
            note = f"cannot run alone: {error}"
        kind = op_type(self._main, op)
        macs = count_macs(self._main, op)
        moved = sum(self._size(index) for index in dict.fromkeys((*op.inputs, *op.outputs)) if index >= 0)
        dtype = "int8" if kind in _QUANTISED else "float32"
        return OpTime(
            op.index,
            op.name,
            kind,
            tensors[op.outputs[0]].name if op.outputs else "",
            tuple(times),
            float(np.median(times)) if times else None,
            macs,
            moved,
            partition,
            None if ceiling is None else ceiling.least_ns(macs, moved, dtype),
            note,
        )

    def _partition(self, ops: tuple[int, ...]) -> float | None:
        """What a partition's operators take as one; of values that a single operator could not give, zeros."""
        try:
            part = self._parts.cut(ops)
            engine = open_engine(ModelFile.read(part.content), self._spec, self._engine_name)
            try:
                _set(engine, [self._value(index) for index in part.inputs])
                engine.invoke()
                return float(np.median(timed(engine.invoke, self._budget_ns * 3)))
            finally:
                engine.close()
        except (EngineError, DelegateError, ModelFileError):
            return None

    def _size(self, index: int) -> int:
        """Bytes of a tensor: of a constant what the file holds, of the rest what it has now."""
        tensor = self._main.tensors[index]
        if tensor.data is not None:
            return len(tensor.data)
        value = self._values.get(index)
        if value is not None:
            return int(value.nbytes)
        return tensor.elements * np.dtype(tensor.dtype).itemsize if tensor.dtype in NUMPY_TYPES else 0

    def _value(self, index: int) -> Array:
        value = self._values.get(index)
        return value if value is not None else _zeros(self._main.tensors[index])


def _zeros(tensor: Tensor) -> Array:
    """For a tensor whose operator could not run alone.

    Raises:
        EngineError: numpy has no such type.
    """
    if tensor.dtype not in NUMPY_TYPES:
        raise EngineError(f"the operator before it, which makes {tensor.name!r}, could not run alone")
    return np.zeros(tensor.shape, tensor.dtype)


def _set(engine: Any, arrays: list[Array]) -> None:
    shapes = [array.shape for array in arrays]
    if shapes != engine.shapes():
        engine.resize(shapes)
    for place, array in enumerate(arrays):
        engine.set_input(place, array)


def timed(run: Callable[[], object], budget_ns: float) -> list[int]:
    """Nanoseconds of single runs, as many as fit a time, but not fewer than five nor more than five hundred.

    Args:
        run: what to time; it ran once before.
        budget_ns: the time for all, in nanoseconds.
    """
    clock = time.perf_counter_ns
    found: list[int] = []
    spent = 0
    while len(found) < _FEWEST or (spent < budget_ns and len(found) < _MOST):
        start = clock()
        run()
        found.append(clock() - start)
        spent += found[-1]
    return found

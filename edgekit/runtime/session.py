"""``Session``: one loaded model on one delegate. Arrays in, arrays out, every run timed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from edgekit.errors import DelegateError, EdgekitError, EngineError, one_of
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec, PartitionReport
from edgekit.runtime.engines import open_engine
from edgekit.runtime.latency import LatencyLog
from edgekit.runtime.shortway import short_way
from edgekit.runtime.turns import Turns
from edgekit.runtime.values import NON_FINITE, Values
from edgekit.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from edgekit.postprocess import Label
    from edgekit.runtime.engines import Engine
    from edgekit.runtime.latency import LogOptions
    from edgekit.runtime.signatures import Entry

IO_MODES: tuple[str, ...] = ("float", "native")
_clock = time.perf_counter_ns

#: Sessions of this process, for what a fork has to do in the child.
_sessions: WeakSet[Session] = WeakSet()


class Fault(Record):
    """An engine that failed while it ran, and what went on instead.

    Attributes:
        choice: the delegate that failed.
        error: what the engine said.
        next: the delegate that took over.
    """

    choice: DelegateChoice
    error: str
    next: DelegateChoice


class Session:
    """One loaded model. Use it as a context manager, or call ``close()``.

    Values are real numbers (``io="float"``, quantised and dequantised here) or the file's own integers
    (``io="native"``); that is chosen at load and never guessed from an input's dtype.

    Threads may share a session: one runs at a time, the others wait, and the wait is logged as queue time. After a fork
    the child's session refuses to run, as the delegate's threads exist in the parent only.

    Args:
        model: a checked model.
        choice: the delegate, with the reason for it.
        engine: an engine's name; ``None`` for the first that is installed.
        io: ``"float"`` or ``"native"``.
        preprocess: whether ``run`` applies the manifest's preprocessing to its inputs.
        require: a delegate that must take every operator, or loading fails.
        log: a JSON Lines file to append each run's times to, or ``LogOptions`` with one.
        signature: the entry point to run; ``None`` for the main one.
        copy: whether results belong to the caller. ``False`` gives read-only views where there is nothing to dequantise: the
            next run changes their values, which is for one thread that is done with a result before the next run.
        non_finite: ``"refuse"`` NaN and infinity in inputs of real numbers, or ``"allow"`` them, which saves looking.
        fallbacks: delegates to go on with, in this order, when the engine fails during a run; the input is run again there.

    Attributes:
        model: the model.
        asked: the delegate that was asked for, and why; after a fault, the one that runs now.
        inputs: what goes in.
        outputs: what comes out.
        io: ``"float"`` or ``"native"``.
        preprocesses: whether ``run`` applies the manifest's preprocessing.
        latency: the times of all runs.
        faults: the engines that failed, oldest first.

    Raises:
        EngineError: no interpreter, or it refused the model.
        DelegateError: the delegate cannot be loaded, or took less than ``require`` demands.
        ModelFileError: there is no such signature.
    """

    def __init__(
        self,
        model: ModelFile,
        choice: DelegateChoice,
        *,
        engine: str | None = None,
        io: str = "float",
        preprocess: bool = False,
        require: str | None = None,
        log: Path | LogOptions | None = None,
        signature: str | None = None,
        copy: bool = True,
        non_finite: str = "refuse",
        fallbacks: Sequence[DelegateChoice] = (),
    ) -> None:
        one_of(io, IO_MODES, "io")
        one_of(non_finite, NON_FINITE, "non_finite")
        self.model = model
        self.asked = choice
        self._entry: Entry | None = None
        if signature is not None:
            from edgekit.runtime.signatures import entry

            self._entry = entry(model, signature)
        self.inputs: tuple[TensorSpec, ...] = self._entry.inputs if self._entry is not None else model.inputs
        self.outputs: tuple[TensorSpec, ...] = self._entry.outputs if self._entry is not None else model.outputs
        self.faults: tuple[Fault, ...] = ()
        self.io = io
        self.preprocesses = preprocess
        native = io == "native"
        self._values = Values(
            model, self.inputs, self.outputs, native=native, preprocess=preprocess, non_finite=non_finite
        )
        self._copy = copy
        self._fallbacks = list(fallbacks)
        self._engine_name = engine
        self._why_not: str | None = None
        self._short_way: list[bool] = []
        self._engine: Engine = open_engine(model, choice.spec, engine, self._entry)
        self._partitions: PartitionReport | None = None
        if require is not None:
            self._check_required(require)
        self._shapes = self._engine.shapes()
        self._turn = Turns()
        try:
            self.latency = LatencyLog(path=log, header=self._log_header() if log is not None else None)
        except EdgekitError:
            self._engine.close()
            raise
        self._find_short_way()
        _sessions.add(self)

    def _check_required(self, require: str) -> None:
        DelegateSpec(require)  # knows which there are
        report = self.partitions
        if self.asked.spec.kind != require or (report.outside and require != "none"):
            self._engine.close()
            raise DelegateError(
                f"{require} was required to take the whole model, and got {report}. "
                "Drop --require to accept that, or convert the model for this delegate."
            )

    def _log_header(self) -> dict[str, Any]:
        import platform

        try:
            got: dict[str, Any] | None = self.partitions.to_json()
        except EngineError:  # an engine that does not tell
            got = None
        return {
            "model_sha256": self.model.sha256,
            "model": self.model.path.name if self.model.path is not None else None,
            "engine": self._engine.version,
            "asked": {"delegate": self.asked.spec.kind, "threads": self.asked.spec.threads},
            "got": got,
            "host": {"machine": platform.machine(), "system": platform.system(), "node": platform.node()},
        }

    @property
    def engine(self) -> str:
        """The interpreter's package and version."""
        return self._engine.version

    @property
    def partitions(self) -> PartitionReport:
        """What the delegate really took of the graph.

        Raises:
            EngineError: the engine does not tell.
        """
        if self._partitions is None:
            self._partitions = self._engine.partitions()
        return self._partitions

    @property
    def got(self) -> str:
        """The delegate that runs at least one operator; ``"none"`` when all fell to the interpreter's kernels."""
        return self.asked.spec.kind if self.partitions.partitions else "none"

    def preprocess(self, value: npt.ArrayLike, name: str | None = None) -> Array:
        """Apply the manifest's preprocessing to one input, and add the batch axis where it is missing.

        Args:
            value: an image or other raw input.
            name: which input; may be left out when there is one.

        Returns:
            float32, ready for ``run``.

        Raises:
            TensorError: the file has no preprocessing for that input, or the value does not fit it.
        """
        return self._values.preprocessed(value, name)

    def __call__(
        self, value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None, /, **named: npt.ArrayLike
    ) -> Any:
        """Same as ``run``."""
        return self.run(value, **named)

    def run(self, value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None, /, **named: npt.ArrayLike) -> Any:
        """Run the model once.

        Args:
            value: the input of a one-input model, or a mapping from input names to arrays.
            named: inputs by name.

        Returns:
            One array when there is one output, else a dict by output name; the caller owns them unless the session was loaded
            with ``copy=False``. float32 with ``io="float"`` (types that are not quantised keep theirs), the file's own types
            with ``"native"``.

        Raises:
            TensorError: a name, shape, dtype or value does not fit.
            EngineError: a kernel failed and nothing is left to go on with, or the session is closed.
        """
        return self._run(value, named, _clock())

    def run_queued(self, value: npt.ArrayLike | Mapping[str, npt.ArrayLike], since_ns: int) -> Any:
        """``run``, for callers that keep a queue: the time since then goes into the log as queue time.

        Args:
            value: as for ``run``.
            since_ns: ``time.perf_counter_ns()`` when the input was put into the queue.
        """
        return self._run(value, {}, since_ns)

    def _run(
        self,
        value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None,
        named: Mapping[str, npt.ArrayLike],
        since_ns: int,
    ) -> Any:
        with self._turn:
            if self._why_not is not None:
                raise EngineError(self._why_not)
            start = _clock()
            arrays = self._values.arrays(value, named)
            while True:
                self._fit(arrays)
                try:
                    before, after, results = self._once(arrays)
                    break
                except EngineError as error:
                    self._go_on_elsewhere(error)
            self.latency.add_ns(since_ns, start - since_ns, before - start, after - before, _clock() - after)
        if len(results) == 1:
            return results[0]
        return {spec.name: result for spec, result in zip(self.outputs, results, strict=True)}

    def _fit(self, arrays: Sequence[Array]) -> None:
        """Prepare the graph for the inputs' sizes; one that it refuses is the caller's error and no fault of the delegate."""
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            self._close_short_way()
            self._shapes = []  # when the graph refuses these, the next run must not take them for its own
            self._engine.resize(shapes)
            self._shapes = shapes
            self._find_short_way()

    def _once(self, arrays: Sequence[Array]) -> tuple[int, int, list[Array]]:
        engine = self._engine
        for position, array in enumerate(arrays):
            engine.set_input(position, array)
        before = _clock()
        engine.invoke()
        after = _clock()
        get = engine.get_output if self._copy else engine.view_output
        return before, after, [self._values.real(spec, get(i)) for i, spec in enumerate(self.outputs)]

    def _find_short_way(self) -> None:
        """Give this session a ``run`` of its own where one array goes in and one comes out; see ``shortway``."""
        self._close_short_way()
        if not self._values.alone or not self._shapes:
            return
        calls = self._engine.calls(copy=self._copy)
        if calls is not None:
            calls = self._values.short_calls(calls, self._shapes[0])
        if calls is None:
            return
        run, self._short_way = short_way(
            calls, self._turn, self.latency, looks=self._values.looks_at_values, go_on=self._run
        )
        run.__doc__ = Session.run.__doc__
        self.__dict__["run"] = run

    def _close_short_way(self) -> None:
        self._short_way.clear()
        self.__dict__.pop("run", None)

    def _go_on_elsewhere(self, error: EngineError) -> None:
        """Load the model on the next delegate that takes it, or raise the error."""
        failed = self.asked
        while self._fallbacks:
            choice = self._fallbacks.pop(0)
            try:
                engine = open_engine(self.model, choice.spec, self._engine_name, self._entry)
            except EdgekitError:
                continue
            self._engine.close()
            self._engine, self._partitions = engine, None
            self.asked = choice._replace(reason=f"{failed.spec.kind} failed while it ran: {error}")
            self._shapes = engine.shapes()
            self._find_short_way()
            self.faults = (*self.faults, Fault(failed, str(error), self.asked))
            import warnings

            warnings.warn(
                f"{self.model.name}: {failed.spec.kind} failed while it ran, {choice.spec.kind} goes on ({error})",
                RuntimeWarning,
                stacklevel=4,
            )
            return
        raise error

    def reset(self) -> None:
        """Forget what stateful operators hold, as if the model had just been loaded.

        Raises:
            EngineError: the engine cannot, or the session is closed.
        """
        with self._turn:
            if self._why_not is not None:
                raise EngineError(self._why_not)
            self._engine.reset()
            self._find_short_way()

    def batch(self, values: Iterable[Any], *, size: int | None = None) -> Iterator[Any]:
        """Run many inputs; see ``edgekit.runtime.batch.batch``.

        Args:
            values: inputs, each without or with a batch axis of 1; taken as results are asked for.
            size: samples in one run; ``None`` for the model's own batch size, 8 where it is open.

        Returns:
            The results, in order.
        """
        from edgekit.runtime.batch import batch

        return batch(self, values, size=size)

    def classify(self, image: Any, top: int = 5) -> tuple[Label, ...]:
        """The likeliest classes of an image; the manifest's preprocessing is applied with ``preprocess=True`` and without.

        Args:
            image: an array ``[height, width, channels]``, a Pillow image, or the path or the bytes of an image file (these need Pillow).
            top: how many at most.

        Returns:
            The labels, likeliest first; names are ``None`` where the model has none.

        Raises:
            EdgekitError: the model is no classifier, or the image cannot be read.
        """
        from edgekit.postprocess import classify

        return classify(self, image, top)

    def close(self) -> None:
        """Finish the log and free the interpreter. Harmless when called twice."""
        with self._turn:
            if self._why_not is not None:
                return
            self._why_not = f"{self.model.name}: the session is closed. Load the model again."
            self._close_short_way()
            self.latency.close()
            self._engine.close()

    def _after_fork(self) -> None:
        self._turn = Turns()  # the parent's thread that may have it does not exist here
        if self._why_not is None:
            self._why_not = (
                f"{self.model.name}: this process was forked after the model was loaded, and the delegate's threads are not in "
                "it. Load the model again here, or start processes by spawn."
            )
            self._close_short_way()
            self._engine.abandon()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _forked() -> None:
    for session in list(_sessions):
        session._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

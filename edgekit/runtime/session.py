"""``Session``: one loaded model on one delegate. Arrays in, arrays out, every run timed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from edgekit.errors import DelegateError, EdgekitError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime.delegates import DelegateChoice, PartitionReport
from edgekit.runtime.engines import open_engine
from edgekit.runtime.face import Face
from edgekit.runtime.fallback import Fallback, check_required, not_loaded, open_first
from edgekit.runtime.latency import LatencyLog
from edgekit.runtime.shortway import short_way
from edgekit.runtime.turns import Turns
from edgekit.tensors import Array

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from edgekit.runtime.engines import Engine
    from edgekit.runtime.latency import LogOptions

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


class Session(Face):
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
        alternatives: delegates to load the model on, in this order, when ``choice`` cannot be loaded; none with ``require``.

    Attributes:
        model: the model.
        asked: the delegate that was asked for, and why; after a fallback or a fault, the one that runs now.
        inputs: what goes in.
        outputs: what comes out.
        io: ``"float"`` or ``"native"``.
        preprocesses: whether ``run`` applies the manifest's preprocessing.
        latency: the times of all runs.
        fallbacks: the delegates that the model could not be loaded on, in the order they were tried, with what they said.
        faults: the engines that failed while they ran, oldest first.

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
        alternatives: Sequence[DelegateChoice] = (),
    ) -> None:
        super().__init__(model, choice, io=io, preprocess=preprocess, signature=signature, non_finite=non_finite)
        self.faults: tuple[Fault, ...] = ()
        self._copy = copy
        self._engine_name = engine
        self._why_not: str | None = None
        self._short_way: list[bool] = []
        self.fallbacks: tuple[Fallback, ...]
        self._engine: Engine
        self._engine, self.asked, self.fallbacks = self._opened([choice, *alternatives], require)
        self._first_asked = choice
        self._fallbacks = [item for item in fallbacks if item.spec.kind != self.asked.spec.kind]
        self._partitions: PartitionReport | None = None
        self._shapes = self._engine.shapes()
        self._turn = Turns()
        try:
            self.latency = LatencyLog(path=log, header=self._log_header() if log is not None else None)
        except EdgekitError:
            self._engine.close()
            raise
        self._find_short_way()
        _sessions.add(self)

    def _opened(
        self, choices: Sequence[DelegateChoice], require: str | None
    ) -> tuple[Engine, DelegateChoice, tuple[Fallback, ...]]:
        if require is None:
            return open_first(self.model, choices, self._engine_name, self._entry)
        try:
            opened = open_first(self.model, choices[:1], self._engine_name, self._entry)
        except (EngineError, DelegateError) as error:
            raise not_loaded(require, error) from error
        try:
            check_required(require, opened[1], opened[0])
        except EdgekitError:
            opened[0].close()
            raise
        return opened

    def _log_header(self) -> dict[str, Any]:
        try:
            got: dict[str, Any] | None = self.partitions.to_json()
        except EngineError:  # an engine that does not tell
            got = None
        return {
            **self._about(),
            "engine": self._engine.version,
            "asked": {"delegate": self._first_asked.spec.kind, "threads": self._first_asked.spec.threads},
            "fallbacks": [item.to_json() for item in self.fallbacks],
            "got": got,
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
        return self._named(results)

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


def _forked() -> None:
    for session in list(_sessions):
        session._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

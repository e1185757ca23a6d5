"""``Isolated``: a model from an unknown source, in a process of its own with limits.

The check that every file passes cannot promise that native code survives what is inside. Here the program never gives the file to native
code: another process does, with a limit on memory and on time, and what it answers is taken for numbers of the expected
type and nothing else. When that process crashes, hangs or outgrows its limits, the run is an error that says so.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from _thread import allocate_lock
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import errors
from edgekit.errors import EdgekitError, EngineError, FaultError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.runtime import frames
from edgekit.runtime.delegates import DelegateChoice, PartitionReport
from edgekit.runtime.face import Face
from edgekit.runtime.isolate_process import START_SECONDS, ChildProcess, Lost, one_line
from edgekit.runtime.latency import LatencyLog
from edgekit.runtime.shared_arrays import SharedArrays
from edgekit.tensors import Array

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from edgekit.runtime.fallback import Fallback
    from edgekit.runtime.latency import LogOptions
    from edgekit.runtime.session import Fault

#: Limits where the caller names none.
DEFAULT_TIMEOUT_MS = 60_000
DEFAULT_MEMORY_MB = 1024
#: Loading packs weights and so takes longer than a run; it has at least so long.
LOAD_SECONDS = 10.0
#: The most that an answer may hold beyond what the outputs' specs say, for outputs whose sizes are open.
_OPEN_BYTES = 64 << 20
#: How long ``close`` waits for a run of another thread before it ends the process.
_PATIENCE_SECONDS = 1.0
_clock = time.perf_counter_ns


class Isolated(Face):
    """One loaded model in a process of its own, with ``Session``'s face. Use it as a context manager, or call ``close()``.

    The process is started at once and again by the next run after it was lost (``restart``). Threads may share it: one runs at a time.

    Args:
        model: a checked model; the process gets its bytes.
        choice: the delegate, with the reason for it.
        timeout_ms: the most that a run may take; ``None`` for a minute. Loading the model may take as long, and 10 seconds at least.
        memory_mb: the most memory that the model may take beyond Python and the interpreter's package; ``None`` for 1024 where
            the system can limit it (Linux), and no limit elsewhere.
        restart: whether the next run after a fault starts a new process; else each further run is an error.
        log: a JSON Lines file to append each run's times to, or ``LogOptions`` with one.
        engine: as for ``Session``.
        io: as for ``Session``.
        preprocess: as for ``Session``.
        require: as for ``Session``.
        signature: as for ``Session``.
        non_finite: as for ``Session``.

    Attributes:
        model: the model.
        io: ``"float"`` or ``"native"``.
        preprocesses: whether ``run`` applies the manifest's preprocessing.
        asked: the delegate that was asked for, and why.
        inputs: what goes in.
        outputs: what comes out.
        latency: the times of all runs; "invoke" is from the last byte sent to the first byte of the answer.
        lost: how many processes crashed, hung or were ended for what they sent.
        faults: empty, as there is no next delegate to go on with; see ``Session``. Likewise ``fallbacks``.

    Raises:
        FaultError: the process crashed, hung or outgrew its limits while it loaded the model.
        EngineError: no interpreter, or it refused the model.
        DelegateError: the delegate cannot be loaded, or took less than ``require`` demands.
        OptionError: a limit makes no sense, or this system cannot keep it.
    """

    def __init__(
        self,
        model: ModelFile,
        choice: DelegateChoice,
        *,
        timeout_ms: int | None = None,
        memory_mb: int | None = None,
        restart: bool = True,
        log: Path | LogOptions | None = None,
        engine: str | None = None,
        io: str = "float",
        preprocess: bool = False,
        require: str | None = None,
        signature: str | None = None,
        non_finite: str = "refuse",
    ) -> None:
        self._seconds = _limit(timeout_ms, DEFAULT_TIMEOUT_MS, "timeout_ms") / 1000
        self._memory_bytes = _memory(memory_mb)
        # Values are made here and only the file's own types go over the pipe: less to send, and less that the other side decides.
        super().__init__(model, choice, io=io, preprocess=preprocess, signature=signature, non_finite=non_finite)
        self._options = {"engine": engine, "require": require, "signature": signature, "io": "native"}
        self._shared = SharedArrays.make(self.inputs, self.outputs)
        self._restart = restart
        self._lock = allocate_lock()
        self._child: ChildProcess | None = None
        self._why_not: str | None = None
        self._owner = os.getpid()
        self._engine = ""
        self._partitions: PartitionReport | str = ""
        self._number = 0
        self.lost = 0
        self.faults: tuple[Fault, ...] = ()
        self.fallbacks: tuple[Fallback, ...] = ()
        self._start()
        try:
            self.latency = LatencyLog(path=log, header=self._log_header() if log is not None else None)
        except EdgekitError:
            self._end()
            raise

    def _log_header(self) -> dict[str, Any]:
        known = isinstance(self._partitions, PartitionReport)
        return {
            **self._about(),
            "engine": self._engine,
            "isolated": True,
            "asked": {"delegate": self.asked.spec.kind, "threads": self.asked.spec.threads},
            "got": self.partitions.to_json() if known else None,
        }

    def _start(self) -> None:
        seconds = max(self._seconds, LOAD_SECONDS)
        passed = (self._shared.descriptor,) if self._shared is not None else ()
        self._child = ChildProcess(self.model.name, self._options["engine"], passed)
        spec = self.asked.spec
        about = {
            "name": self.model.location,
            "delegate": {"kind": spec.kind, "threads": spec.threads, "options": dict(spec.options)},
            "reason": self.asked.reason,
            "options": self._options,
            "memory_bytes": self._memory_bytes,
            "shared": self._shared.descriptor if self._shared is not None else None,
            "seconds": seconds,
        }
        try:
            self._ask(0, frames.READY, {}, [], START_SECONDS, "it started", 0)
            answer = self._ask(frames.LOAD, frames.LOADED, about, [self.model.content], seconds, "it was loaded", 0)
            if answer.about.get("sha256") != self.model.sha256:
                raise frames.BadFrame("it is about another model")
            self._engine = one_line(answer.about.get("engine"))[:200]
            self._partitions = self._report(answer.about.get("partitions"))
        except frames.BadFrame as error:
            self._end()
            raise self._nonsense(error) from error
        except BaseException:
            self._end()
            raise

    def _report(self, found: Any) -> PartitionReport | str:
        if isinstance(found, str):
            return one_line(found)
        ops = self.model.graph.main.ops
        try:
            delegate, parts, outside = found
            taken = tuple(tuple(int(index) for index in part) for part in parts)
            left = tuple(int(index) for index in outside)
        except (TypeError, ValueError) as error:
            raise frames.BadFrame("its report of partitions is none") from error
        if (
            any(not 0 <= index < len(ops) for part in (*taken, left) for index in part)
            or delegate != self.asked.spec.kind
        ):
            raise frames.BadFrame("its report of partitions is about another model")
        return PartitionReport(self.asked.spec.kind, taken, left, tuple(op.name for op in ops))

    @property
    def engine(self) -> str:
        """The interpreter's package and version."""
        return self._engine

    @property
    def pid(self) -> int | None:
        """The process that has the model; ``None`` after it was lost and before the next run."""
        return self._child.process.pid if self._child is not None else None

    @property
    def partitions(self) -> PartitionReport:
        """What the delegate really took of the graph.

        Raises:
            EngineError: the engine does not tell.
        """
        if isinstance(self._partitions, str):
            raise EngineError(self._partitions)
        return self._partitions

    def _run(
        self,
        value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None,
        named: Mapping[str, npt.ArrayLike],
        since_ns: int,
    ) -> Any:
        self._check_owner()
        with self._lock:
            start = _clock()
            self._ready()
            arrays = self._values.arrays(value, named)
            about: dict[str, Any] = {"arrays": None, "seconds": self._seconds}
            bodies: list[Array] = []
            if self._shared is not None:
                for place, array in zip(self._shared.inputs, arrays, strict=True):
                    np.copyto(place, array)
            else:
                about["arrays"], bodies = frames.described(arrays), arrays
            answer = self._ask(
                frames.RUN, frames.RESULT, about, bodies, self._seconds, "it ran", self._most_bytes(arrays)
            )
            try:
                found = self._results(answer)
            except frames.BadFrame as error:
                self._end()
                raise self._nonsense(error) from error
            results = [self._values.real(spec, item) for spec, item in zip(self.outputs, found, strict=True)]
            child = self._child
            assert child is not None
            sent, came = child.sent_ns, child.came_ns
            self.latency.add_ns(since_ns, start - since_ns, sent - start, came - sent, _clock() - came)
        return self._named(results)

    def _most_bytes(self, arrays: list[Array]) -> int:
        """The most that an answer may be: outputs are as large as their specs say, or follow the inputs' open sizes."""
        total = 0
        for spec in self.outputs:
            count = 1
            for size in spec.shape:
                count *= max(1, size)
            total += 16 * count
        return total + _OPEN_BYTES + 64 * sum(array.nbytes for array in arrays)

    def _results(self, answer: frames.Frame) -> list[Array]:
        if self._shared is not None and answer.about.get("arrays", []) is None and not answer.body:
            return [place.copy() for place in self._shared.outputs]
        results = frames.arrays_of(answer, answer.about.get("arrays"))
        if len(results) != len(self.outputs):
            raise frames.BadFrame(f"it has {len(results)} arrays for {len(self.outputs)} outputs")
        for spec, result in zip(self.outputs, results, strict=True):
            if result.dtype.name != spec.dtype:
                raise frames.BadFrame(f"the output {spec.name!r} came as {result.dtype.name}, not {spec.dtype}")
        return results

    def reset(self) -> None:
        """Forget what stateful operators hold, as if the model had just been loaded.

        Raises:
            EngineError: the engine cannot, or the session is closed.
            FaultError: the process was lost.
        """
        self._check_owner()
        with self._lock:
            self._ready()
            self._ask(frames.RESET, frames.DONE, {"seconds": self._seconds}, [], self._seconds, "it was reset", 0)

    def _check_owner(self) -> None:
        """Raise in a fork. Asked before the lock, which a thread of the parent may have had for ever."""
        if self._owner != os.getpid():
            raise EngineError(
                f"{self.model.name}: this process was forked after the model was loaded, and its pipes are the parent's. Load the "
                "model again here."
            )

    def _ready(self) -> None:
        """Raise when this cannot run any more; start a process where there is none."""
        if self._why_not is not None:
            raise EngineError(self._why_not)
        if self._child is None:
            if not self._restart:
                raise EngineError(
                    f"{self.model.name}: its process was lost, and restart=False leaves it so. Load the model again."
                )
            self._start()

    def _ask(
        self,
        kind: int,
        wanted: int,
        about: dict[str, Any],
        bodies: list[Any],
        seconds: float,
        doing: str,
        most: int,
    ) -> frames.Frame:
        """Send a request and return its answer; whatever goes wrong, no process is left that could answer late."""
        child = self._child
        assert child is not None
        self._number = (self._number + 1) & 0xFFFFFFFF if kind else 0
        try:
            parts = frames.packed(kind, self._number, about, bodies) if kind else []
            answer = child.exchange(parts, seconds, most)
            if answer.number != self._number or answer.kind not in (wanted, frames.REFUSED):
                raise frames.BadFrame("it answers another request")
        except Lost as error:
            self._end()
            self.lost += 1
            raise self._fault(child, error, seconds, doing) from error
        except frames.BadFrame as error:
            self._end()
            raise self._nonsense(error) from error
        except BaseException:
            self._end()  # Ctrl-C: the answer would come to the next request
            raise
        if answer.kind == frames.REFUSED:
            raise self._refused(answer.about)
        return answer

    def _refused(self, about: dict[str, Any]) -> EdgekitError:
        """The error that the other side met, as one of ours."""
        name, text = about.get("kind"), one_line(about.get("text"))
        if name == "MemoryError":
            return EngineError(f"{self.model.name}: not enough memory{self._limit_text()} ({text or 'MemoryError'}).")
        kind = getattr(errors, name, None) if isinstance(name, str) else None
        if kind is EngineError and self._memory_bytes is not None and self._wants() > self._memory_bytes:
            text += f" It may need more memory than the {self._memory_bytes >> 20} MiB that memory_mb gives it."
        if isinstance(kind, type) and issubclass(kind, EdgekitError):
            return kind(text)
        return EngineError(text)

    def _wants(self) -> int:
        """Bytes of all that the graph computes, a rough measure of the memory that it takes."""
        return sum(4 * tensor.elements for tensor in self.model.graph.main.tensors if tensor.data is None)

    def _limit_text(self) -> str:
        return f" within the limit of {self._memory_bytes >> 20} MiB" if self._memory_bytes is not None else ""

    def _nonsense(self, error: Exception) -> FaultError:
        self.lost += 1
        return FaultError(
            f"{self.model.name}: the isolated process sent an answer that is none ({error}), and was ended. The file is not to be "
            "trusted."
        )

    def _fault(self, child: ChildProcess, lost: Lost, seconds: float, doing: str) -> FaultError:
        said = child.last_words()
        said = f" It printed: {said}" if said else ""
        if lost.timed_out:
            return FaultError(
                f"{self.model.name}: not done after {seconds * 1000:.0f} ms while {doing}; its process was ended. If the model is to be "
                f"trusted, raise timeout_ms.{said}",
                timed_out=True,
            )
        code = child.process.returncode
        if code is not None and code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            late = name in ("SIGALRM", "SIGXCPU")
            why = {
                "SIGSEGV": "it read or wrote outside its memory", "SIGBUS": "it read or wrote outside its memory",
                "SIGFPE": "it divided by zero", "SIGABRT": "native code gave up", "SIGILL": "an illegal instruction",
                "SIGKILL": "somebody ended it, perhaps the system for want of memory", "SIGALRM": "its time limit",
                "SIGXCPU": "its limit of processor time",
            }.get(name, "a signal")  # fmt: skip
            memory = f" Its memory was limited to {self._memory_bytes >> 20} MiB more." if self._memory_bytes else ""
            return FaultError(
                f"{self.model.name}: its process died of {name} while {doing} ({why}). There is no result.{memory}{said}",
                signal=name,
                timed_out=late,
            )
        return FaultError(
            f"{self.model.name}: its process ended with exit code {code} while {doing}. There is no result.{said}"
        )

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def close(self) -> None:
        """Finish the log and end the process. Harmless when called twice; a run of another thread gets a moment to finish."""
        if self._owner != os.getpid():
            return
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            child = self._child
            if child is not None:
                child.process.kill()
            self._lock.acquire()
        try:
            if self._why_not is not None:
                return
            self._why_not = f"{self.model.name}: the session is closed. Load the model again."
            self.latency.close()
            if self._shared is not None:
                self._shared.close()
            child, self._child = self._child, None
            if child is not None:
                child.close()
        finally:
            self._lock.release()


def _limit(value: int | None, default: int, what: str) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"{what}={value!r}: a number of at least 1 was expected.")
    return value


def _memory(memory_mb: int | None) -> int | None:
    limits = sys.platform == "linux"
    if memory_mb is None and not limits:
        return None
    bytes_ = _limit(memory_mb, DEFAULT_MEMORY_MB, "memory_mb") << 20
    if not limits:
        raise OptionError(
            f"memory_mb={memory_mb}: {sys.platform} cannot limit a process's memory as Linux can. Leave it out, and limit the whole "
            "program by other means."
        )
    return bytes_

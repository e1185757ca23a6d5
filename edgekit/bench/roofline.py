"""``Roofline``: how fast this machine can multiply and move, measured, as the ceiling over what a model's operators reach.

The model (S. Williams, A. Waterman, D. Patterson, "Roofline: An Insightful Visual Performance Model for Multicore Architectures",
Communications of the ACM 52(4), 2009): work of so many multiply-accumulates over so many bytes takes at least
``max(MACs / peak, bytes / bandwidth)``. Here the peak is the best of two convolutions in the same interpreter, on the same delegate and
threads, and the bandwidth is that of numpy copying arrays, counted as STREAM counts it (read and written bytes both; J. McCalpin's
STREAM benchmark, FAQ). Small arrays stay in the caches, so that there is one bandwidth for each size, and an operator is held against
that of its own size.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.bench.inputs import random_inputs
from edgekit.bench.peak_models import conv
from edgekit.errors import DelegateError, EngineError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import open_engine

#: Rows and columns, channels, kernel: one whose weights are used for many pixels, one that has many neighbours besides.
_CONVOLUTIONS = ((28, 256, 1), (28, 64, 3))
_DTYPES = ("float32", "int8")
#: Bytes that a copy touches: from what lies in a core's own cache to more than most small devices' caches hold.
_SIZES = (64 * 1024, 256 * 1024, 1024 * 1024, 4 * 1024 * 1024, 16 * 1024 * 1024, 64 * 1024 * 1024)
#: A thread's share of a small array would be copied before the next thread is awake.
_FEWEST_PER_THREAD = 512 * 1024
_TIME_S = 0.12
_FEWEST = 5


@dataclass(frozen=True)
class Roofline:
    """The measured ceiling.

    Attributes:
        delegate: what the peak was measured on.
        threads: of the peak and of the bandwidth.
        peak_gmacs: 10⁹ multiply-accumulates per second by type, ``float32`` and ``int8``; without those that could not be measured.
        bandwidth_gbs: 10⁹ bytes per second by the bytes that are touched.
    """

    delegate: str
    threads: int
    peak_gmacs: Mapping[str, float]
    bandwidth_gbs: Mapping[int, float]

    def bandwidth(self, size_bytes: float) -> float | None:
        """Of work that touches so many bytes, in 10⁹ bytes per second.

        Args:
            size_bytes: what is read and written.
        """
        # That of the next smaller size: a ceiling is rather too high than too low.
        smaller = [size for size in self.bandwidth_gbs if size <= size_bytes]
        size = max(smaller) if smaller else min(self.bandwidth_gbs, default=None)
        return None if size is None else self.bandwidth_gbs[size]

    def least_ns(self, macs: float, size_bytes: float, dtype: str) -> float | None:
        """The time that work takes at the ceiling, in nanoseconds.

        Args:
            macs: multiply-accumulates.
            size_bytes: bytes that are read and written.
            dtype: ``"int8"`` for quantised integers, ``"float32"`` for the rest.

        Returns:
            ``None`` where the ceiling of that type is not known.
        """
        bandwidth, peak = self.bandwidth(size_bytes), self.peak_gmacs.get(dtype)
        if bandwidth is None or (macs > 0 and peak is None):
            return None
        moving = size_bytes / bandwidth
        return max(moving, macs / peak) if peak is not None else moving

    def to_json(self) -> dict[str, Any]:
        """The fields by name; sizes as text, as JSON has it."""
        return {
            "delegate": self.delegate,
            "threads": self.threads,
            "peak_gmacs": dict(self.peak_gmacs),
            "bandwidth_gbs": {str(size): value for size, value in self.bandwidth_gbs.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Roofline:
        """Read what ``to_json`` gave.

        Raises:
            KeyError: a key is missing.
        """
        bandwidth = {int(size): float(value) for size, value in data["bandwidth_gbs"].items()}
        return cls(str(data["delegate"]), int(data["threads"]), dict(data["peak_gmacs"]), bandwidth)


def measure_roofline(
    spec: DelegateSpec, engine: str | None = None, progress: Callable[[str, int, int], None] | None = None
) -> Roofline:
    """Measure the ceiling; about two seconds.

    Args:
        spec: the delegate and threads.
        engine: an engine's name, or ``None`` for the first that is installed.
        progress: called as ``progress(step, done, total)``.
    """
    threads = spec.threads or 1
    total, done = len(_DTYPES) + len(_SIZES), 0
    tell = progress or (lambda step, done, total: None)
    peaks: dict[str, float] = {}
    for dtype in _DTYPES:
        tell("Measuring the machine's ceiling", done, total)
        rates = [rate for shape in _CONVOLUTIONS if (rate := _rate(dtype, shape, spec, engine)) is not None]
        if rates:
            peaks[dtype] = max(rates)
        done += 1
    bandwidth = {}
    for size in _SIZES:
        tell("Measuring the machine's ceiling", done, total)
        bandwidth[size] = copy_gbs(size, threads)
        done += 1
    tell("Measuring the machine's ceiling", done, total)
    return Roofline(spec.kind, threads, peaks, bandwidth)


def _rate(dtype: str, shape: tuple[int, int, int], spec: DelegateSpec, engine_name: str | None) -> float | None:
    content, macs = conv(dtype, *shape)
    model = ModelFile.read(content)
    try:
        engine = open_engine(model, spec, engine_name)
    except (EngineError, DelegateError):
        return None
    try:
        engine.set_input(0, next(iter(random_inputs(model.inputs).values())))
        return macs / best_ns(engine.invoke)
    except EngineError:
        return None
    finally:
        engine.close()


def copy_gbs(size_bytes: int, threads: int = 1) -> float:
    """How fast numpy copies arrays, in 10⁹ bytes read and written per second.

    Args:
        size_bytes: bytes touched in all, half of them read and half of them written.
        threads: how many copy, each its own part; fewer where the parts would be tiny.
    """
    count = max(1, min(threads, size_bytes // _FEWEST_PER_THREAD))
    part = size_bytes // (2 * count)
    pairs = [(np.zeros(part, np.uint8), np.ones(part, np.uint8)) for _ in range(count)]
    if count == 1:
        target, source = pairs[0]
        return 2 * part / best_ns(lambda: np.copyto(target, source))
    return 2 * part * count / _together_ns(pairs)


def _together_ns(pairs: list[tuple[Any, Any]]) -> float:
    """The best time of several threads' copies from the first one's start to the last one's end; numpy lets go of the lock meanwhile."""
    rounds = _FEWEST + 5
    barrier = threading.Barrier(len(pairs))
    spans = np.zeros((rounds, len(pairs), 2))

    def work(number: int) -> None:
        target, source = pairs[number]
        for turn in range(rounds):
            barrier.wait()
            spans[turn, number, 0] = time.perf_counter_ns()
            np.copyto(target, source)
            spans[turn, number, 1] = time.perf_counter_ns()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(len(pairs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return float((spans[:, :, 1].max(axis=1) - spans[:, :, 0].min(axis=1)).min())


def best_ns(run: Callable[[], object], seconds: float = _TIME_S) -> float:
    """The shortest of many runs: a ceiling is what the machine can do, not what it mostly does.

    Args:
        run: what to time.
        seconds: about so long it is run.
    """
    clock = time.perf_counter_ns
    best, end, count = math.inf, clock() + seconds * 1e9, 0
    while count < _FEWEST or clock() < end:
        start = clock()
        run()
        best = min(best, clock() - start)
        count += 1
    return max(best, 1.0)

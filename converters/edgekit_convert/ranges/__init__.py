"""Activation statistics: each tensor's true extremes over all samples, a histogram, and the means that feed the layers.

All of it is independent of the order of the samples, unlike a moving average, and measured in parallel: each thread has an
interpreter of its own, and what they measured merges exactly. XNNPACK runs the model where it can: a graph whose every
activation is an output leaves no value hidden in the delegate, and is several times as fast as the interpreter's own kernels.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet, Ready
from edgekit_convert.graph.slices import Runner, Sliceable, activations, refused, workers
from edgekit_convert.ranges import histogram
from edgekit_convert.ranges.exact_sums import added, sums_for
from edgekit_convert.ranges.histogram import Counter, Histogram

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Statistics:
    """What was measured on the float model's activations.

    Attributes:
        count: samples.
        summed: those of them that are in ``sums``.
        extremes: lowest and highest value by tensor name, zero not added; ``(inf, -inf)`` for a tensor without values.
        histograms: by tensor name; of each sample a part of the values is counted (``histogram.Counter`` says which).
        sums: sum over the samples of each tensor that feeds a layer with weights, by name, in float64; of its mean over all
            places where every such layer looks at one place at a time.
    """

    count: int
    summed: int
    extremes: Ranges
    histograms: dict[str, Histogram]
    sums: dict[str, Array]

    @property
    def ranges(self) -> Ranges:
        """Lowest and highest value by tensor name, zero inside."""
        return {name: (min(0.0, low), max(0.0, high)) for name, (low, high) in self.extremes.items()}

    def means(self) -> dict[str, Array]:
        """Mean over the summed samples, by tensor name; a tensor's mean over all places has size 1 on their axes."""
        return {name: (total / self.summed).astype(np.float32) for name, total in self.sums.items()}


def measure(
    float_model: bytes,
    data: CalibrationSet,
    progress: Callable[[int], None],
    *,
    apart: frozenset[int] = frozenset(),
) -> Statistics:
    """Run the float model on every sample and keep each activation's extremes and histogram and the layer inputs' sums.

    Args:
        float_model: the pivot, all sizes fixed.
        data: representative data.
        progress: called with the number of samples done.
        apart: places in the data, counted from 0, of samples that are kept out of the sums.

    Raises:
        ConversionError: the interpreter refused the model, or an activation is not finite.
    """
    model = ModelFile.read(float_model)
    _require_one_subgraph(model)
    ready_made = iter(enumerate(data)) if data.kept else None
    source = iter(enumerate(data.source.read())) if ready_made is None else iter(())
    lock = threading.Lock()
    done = itertools.count(1)
    stop = threading.Event()

    def following() -> tuple[int, Ready] | None:
        """The next sample and its place; only reading it holds the others up."""
        with lock:
            if ready_made is not None:
                return next(ready_made, None)
            item = next(source, None)
            if item is None:
                return None
            number, (raw, _) = item
            raw = {name: np.array(value) for name, value in raw.items()}  # a generator may use its memory again
        return number, data.prepare(number, raw)

    first = following()
    if first is None:
        return merge(())
    plan = _plan(float_model, model, [first[1].inputs[spec.name] for spec in model.inputs])
    waiting = [first]

    def work(_: int) -> Statistics:
        watcher = _Watcher(plan)
        while not stop.is_set():
            with lock:
                ready = waiting.pop() if waiting else None
            ready = ready or following()
            if ready is None:
                break
            number, sample = ready
            watcher.run([sample.inputs[spec.name] for spec in model.inputs], summed=number not in apart)
            with lock:
                progress(next(done))
        return watcher.statistics()

    def work_or_stop(number: int) -> Statistics:
        try:
            return work(number)
        except BaseException:
            stop.set()  # the others need not measure what is going to be thrown away
            raise

    count = workers()
    with ThreadPoolExecutor(count) as pool:
        try:
            return merge(pool.map(work_or_stop, range(count)))
        except BaseException:  # Ctrl-C reaches this thread only, and the pool waits for the others
            stop.set()
            raise


def _require_one_subgraph(model: ModelFile) -> None:
    if len(model.graph.subgraphs) == 1:
        return
    loops = sorted({op.name for op in model.graph.main.ops if op.name in ("WHILE", "IF", "CALL_ONCE")})
    if not loops:
        keys = ", ".join(signature.key for signature in model.graph.signatures)
        raise ConversionError(
            f"the model has {len(model.graph.subgraphs)} subgraphs (signatures {keys}), and one can be converted: "
            "export it with a single signature."
        )
    raise ConversionError(
        f"the model has control flow ({', '.join(loops)}), whose inner ranges cannot be measured. "
        "Recurrent layers cannot be converted yet; convolutional and dense ones can."
    )


def merge(parts: Iterable[Statistics]) -> Statistics:
    """Combine what was measured on parts of the data; the result does not depend on how the samples were dealt out."""
    seen = [part for part in parts if part.count]
    names = dict.fromkeys(name for part in seen for name in part.extremes)
    histograms = {
        name: histogram.merge(part.histograms[name] for part in seen if name in part.histograms) for name in names
    }
    return Statistics(
        count=sum(part.count for part in seen),
        summed=sum(part.summed for part in seen),
        extremes={name: (found.low, found.high) for name, found in histograms.items()},
        histograms=histograms,
        sums=added([part.sums for part in seen if part.summed]),
    )


@dataclass(frozen=True)
class _Plan:
    """How the threads run a model.

    Attributes:
        model: the float model.
        content: what the interpreter is given.
        delegate: whether XNNPACK runs it; else its own kernels do, and keep all tensors.
        places: the interpreter's tensor index of each float activation, by the model's own.
    """

    model: ModelFile
    content: bytes
    delegate: bool
    places: dict[int, int]


def _plan(float_model: bytes, model: ModelFile, sample: list[Array]) -> _Plan:
    """Try XNNPACK on one sample. It refuses some models, and tensors that keep their value between runs cannot be cut out."""
    main = model.graph.main
    watched = activations(main)
    whole = Sliceable(float_model).cut(range(len(main.ops)), watched, main.inputs)
    try:
        feeder = _Feeder(whole.content)
        feeder.feed(sample)
    except ConversionError:  # the own kernels take more, or say what is wrong
        return _Plan(model, float_model, False, {index: index for index in watched})
    return _Plan(model, whole.content, True, dict(zip(whole.outputs, feeder.outputs, strict=True)))


class _Feeder(Runner):
    """A runner whose results are looked at in place."""

    @property
    def outputs(self) -> list[int]:
        """The interpreter's tensor indices of the outputs, in order."""
        return self._outputs

    def feed(self, values: list[Array]) -> None:
        """Run once, and copy nothing."""
        try:
            for index, value in zip(self._inputs, values, strict=True):
                self._interpreter.set_tensor(index, value)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise refused(error) from error


class _Watcher:
    """One thread's interpreter, and what it has seen."""

    def __init__(self, plan: _Plan) -> None:
        tensors = plan.model.graph.main.tensors
        self._runner = _Feeder(plan.content, delegate=plan.delegate, keep=not plan.delegate)
        self._watched = [(tensors[index].name, place) for index, place in plan.places.items()]
        self._counters = {name: Counter() for name, _ in self._watched}
        self._sums = {tensors[index].name: item for index, item in sums_for(plan.model.graph.main).items()}
        self._count = self._summed = 0

    def run(self, inputs: list[Array], *, summed: bool) -> None:
        self._runner.feed(inputs)
        # Where counting begins follows from the sample itself: another order of the samples counts the same values.
        phase = 1
        for value in inputs:
            phase = zlib.adler32(np.ascontiguousarray(value).view(np.uint8).data, phase)
        for name, value in self._values():
            if value.size:
                low, high = float(value.min()), float(value.max())
                if not (np.isfinite(low) and np.isfinite(high)):
                    raise ConversionError(
                        f"the float model itself gives NaN or infinity at {name!r} on the calibration data. "
                        "Check the weights, and the data's values against what the model was trained on."
                    )
                self._counters[name].add(value, low, high, phase)
            if summed and name in self._sums:
                self._sums[name].add(value)
        self._count += 1
        self._summed += summed

    def _values(self) -> Iterator[tuple[str, Array]]:
        for name, place in self._watched:
            yield name, self._runner.view(place)

    def statistics(self) -> Statistics:
        found = {name: counter.histogram() for name, counter in self._counters.items()}
        totals = {name: item.total() for name, item in self._sums.items()}
        return Statistics(
            self._count,
            self._summed,
            {name: (item.low, item.high) for name, item in found.items()},
            found,
            {name: total for name, total in totals.items() if total is not None},
        )

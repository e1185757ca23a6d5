"""Activation statistics: each tensor's true extremes over all samples, and the means that feed the layers.

Zero is always inside a range. The means are of the tensors that feed a layer with weights.

Independent of the order of the samples, unlike a moving average, and measured in parallel: each thread has an
interpreter of its own, and minima and maxima merge exactly.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, EdgekitError
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.refine.bias import layer_inputs

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Statistics:
    """What was measured on the float model's activations.

    Attributes:
        count: samples.
        ranges: lowest and highest value by tensor name; at most 0 and at least 0.
        sums: sum over the samples of each tensor that feeds a layer with weights, by name, in float64.
    """

    count: int
    ranges: Ranges
    sums: dict[str, Array]

    def means(self) -> dict[str, Array]:
        """Mean over the samples, by tensor name."""
        # float32 hides the last bits of the sums, which depend on how the samples were dealt out to threads.
        return {name: (total / self.count).astype(np.float32) for name, total in self.sums.items()}


def measure(float_model: bytes, data: CalibrationSet, progress: Callable[[int], None]) -> Statistics:
    """Run the float model on every sample and keep each activation's extremes and the layer inputs' sums.

    Args:
        float_model: the pivot, all sizes fixed.
        data: representative data.
        progress: called with the number of samples done.

    Raises:
        ConversionError: the interpreter refused the model, or an activation is not finite.
    """
    model = ModelFile.read(float_model)
    if len(model.graph.subgraphs) > 1:
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
    workers = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    source = iter(data)
    lock = threading.Lock()
    done = itertools.count(1)
    stop = threading.Event()

    def work(_: int) -> Statistics:
        watcher = _Watcher(float_model, model)
        while not stop.is_set():
            with lock:
                ready = next(source, None)
            if ready is None:
                break
            watcher.run(ready.inputs)
            with lock:
                progress(next(done))
        return watcher.statistics()

    def work_or_stop(number: int) -> Statistics:
        try:
            return work(number)
        except BaseException:
            stop.set()  # the others need not measure what is going to be thrown away
            raise

    with ThreadPoolExecutor(workers) as pool:
        try:
            return merge(pool.map(work_or_stop, range(workers)))
        except BaseException:  # Ctrl-C reaches this thread only, and the pool waits for the others
            stop.set()
            raise


def merge(parts: Iterable[Statistics]) -> Statistics:
    """Combine what was measured on parts of the data; ranges do not depend on how the samples were dealt out."""
    count = 0
    ranges: Ranges = {}
    sums: dict[str, Array] = {}
    for part in parts:
        count += part.count
        for name, (low, high) in part.ranges.items():
            known = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(known[0], low), max(known[1], high))
        for name, total in part.sums.items():
            sums[name] = sums[name] + total if name in sums else total
    return Statistics(count, ranges, sums)


class _Watcher:
    """One interpreter that keeps all its tensors."""

    def __init__(self, content: bytes, model: ModelFile) -> None:
        from ai_edge_litert import interpreter as litert

        try:
            # The interpreter's own kernels: a delegate would keep its intermediate values to itself.
            self._interpreter: Any = litert.Interpreter(
                model_content=content,
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
                num_threads=1,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _refused(error) from error
        main = model.graph.main
        self._inputs = dict(zip((spec.name for spec in model.inputs), main.inputs, strict=True))
        wanted = {*main.inputs, *(index for op in main.ops for index in op.outputs)}
        self._watched = [main.tensors[index] for index in sorted(wanted) if main.tensors[index].dtype == "float32"]
        self._summed = [main.tensors[index] for index in layer_inputs(main)]
        self._sums = {tensor.name: np.zeros(tensor.shape) for tensor in self._summed}
        self._count = 0
        self._low = np.zeros(len(self._watched), np.float32)
        self._high = np.zeros(len(self._watched), np.float32)

    def run(self, inputs: dict[str, Array]) -> None:
        try:
            for name, value in inputs.items():
                self._interpreter.set_tensor(self._inputs[name], value)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise _refused(error) from error
        for number, tensor in enumerate(self._watched):
            value = self._interpreter.get_tensor(tensor.index)
            if value.size == 0:
                continue
            low, high = value.min(), value.max()
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ConversionError(
                    f"the float model itself gives NaN or infinity at {tensor.name!r} on the calibration data. "
                    "Check the weights, and the data's values against what the model was trained on."
                )
            self._low[number] = min(self._low[number], low)
            self._high[number] = max(self._high[number], high)

        for tensor in self._summed:
            self._sums[tensor.name] += self._interpreter.get_tensor(tensor.index)
        self._count += 1

    def statistics(self) -> Statistics:
        ranges = {
            tensor.name: (float(low), float(high))
            for tensor, low, high in zip(self._watched, self._low, self._high, strict=True)
        }
        return Statistics(self._count, ranges, self._sums)


def _refused(error: Exception) -> EdgekitError:
    return ConversionError(
        f"the interpreter cannot run the float model: {' '.join(str(error).split())}. "
        "Custom and Flex operators have no kernel in the runtime that pip installs."
    )

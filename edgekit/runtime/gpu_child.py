"""The process in which a model is tried on the GPU: CPU first, then the GPU, then both compared. ``gpu.probe_gpu`` starts it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import EdgekitError, TensorError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import open_engine
from edgekit.runtime.engines.compiled import CompiledEngine
from edgekit.runtime.gpu import QUANTISED_TOLERANCES, TOLERANCES
from edgekit.runtime.signatures import Entry, entry
from edgekit.runtime.trial import enter
from edgekit.tensors import NUMPY_TYPES, QUANTISED_TYPES, Array, TensorSpec

if TYPE_CHECKING:
    from edgekit.runtime.engines import Engine

#: Inputs that are run. One is not enough: a driver was right on the first run and wrong on all others (LiteRT issue 8065).
SAMPLES = 4
_SEED = 20
#: Of a run that takes long there are fewer: after so much time no new sample is begun, from the second on.
_LONG_SECONDS = 10.0
#: An output that hardly moves has no range to speak of; this share of its greatest value stands for it.
_LEAST_RANGE = 1e-3

#: The number of a sample and what came out.
Outputs = list[tuple[int, list[Array]]]


def main() -> None:
    """Try what the program asked for and answer."""
    about, body, stage, answer = enter()
    try:
        answer(_tried(about, body, stage))
    except EdgekitError as error:
        answer({"refused": str(error)})
    except MemoryError:
        answer({"refused": "there is not enough memory to run the model on the CPU and on the GPU at once"})


def _tried(about: dict[str, Any], body: bytes, stage: Any) -> dict[str, Any]:
    stage("read the model")
    model = ModelFile.read(body)._replace(location=about["name"])
    signature = entry(model, about["signature"]) if about["signature"] is not None else None
    threads, precision = about["threads"], about["precision"]
    stage("ran the model on the CPU")
    outputs = signature.outputs if signature is not None else model.outputs
    engine = open_engine(model, DelegateSpec("xnnpack", threads), "litert", signature)
    inputs = samples(model, engine.shapes(), signature)
    expected, cpu_ns = _runs(engine, inputs, len(outputs))
    engine.close()
    inputs = inputs[: len(expected) - 1]  # there are fewer where a run takes long
    tolerance = about["tolerance"]
    if tolerance is None:
        tolerance = TOLERANCES[precision]
        if has_integers(model):
            engine = open_engine(model, DelegateSpec("none", threads), "litert", signature)
            own, _ = _runs(engine, inputs, len(outputs))
            engine.close()
            lowest, highest = QUANTISED_TOLERANCES
            tolerance = max(tolerance, min(max(2 * difference(outputs, expected, own), lowest), highest))
    stage("compiled the model for the GPU")
    options = {"precision": precision, "check": "off", **dict.fromkeys(about["switches"], "on")}
    start = time.perf_counter_ns()
    on_gpu = open_engine(model, DelegateSpec("gpu", threads, options), "litert-compiled", signature)
    compile_ns = time.perf_counter_ns() - start
    assert isinstance(on_gpu, CompiledEngine)
    stage("ran the model on the GPU")
    actual, gpu_ns = _runs(on_gpu, inputs, len(outputs))
    stage("freed the model")
    full = on_gpu.takes_all()
    on_gpu.close()
    return {
        "fully_accelerated": full,
        "max_difference": difference(outputs, expected, actual),
        "tolerance": tolerance,
        "compile_ms": compile_ns / 1e6,
        "run_ms": median(gpu_ns) / 1e6,
        "cpu_run_ms": median(cpu_ns) / 1e6,
    }


def _runs(engine: Engine, inputs: Sequence[Sequence[Array]], outputs: int) -> tuple[Outputs, list[int]]:
    """The outputs for each sample and then for the first once more, by sample; the nanoseconds of each run but the first."""
    found: Outputs = []
    times: list[int] = []
    for number in (*range(len(inputs)), 0):
        if number > 1 and sum(times) > _LONG_SECONDS * 1e9:
            continue
        start = time.perf_counter_ns()
        for position, array in enumerate(inputs[number]):
            engine.set_input(position, array)
        engine.invoke()
        found.append((number, [engine.get_output(position) for position in range(outputs)]))
        times.append(time.perf_counter_ns() - start)
    return found, times[1:]


def has_integers(model: ModelFile) -> bool:
    """Whether some tensor that is computed is quantised: the CPU's own kernel sets then differ from each other."""
    return any(
        tensor.data is None and tensor.quant is not None and tensor.dtype in QUANTISED_TYPES
        for tensor in model.graph.main.tensors
    )


def samples(model: ModelFile, shapes: Sequence[tuple[int, ...]], signature: Entry | None) -> list[list[Array]]:
    """Inputs in the file's own types: the golden ones that it carries, else seeded ones within each input's range."""
    if signature is None and model.manifest is not None:
        from edgekit import golden

        try:
            recorded = golden.read(model)
        except EdgekitError:  # it carries none
            pass
        else:
            if [array.shape[1:] for array in recorded.inputs] == [tuple(shape) for shape in shapes]:
                return [[array[row] for array in recorded.inputs] for row in range(min(recorded.count, SAMPLES))]
    random = np.random.default_rng(_SEED)
    specs = signature.inputs if signature is not None else model.inputs
    return [
        [_values(random, model, spec, shape) for spec, shape in zip(specs, shapes, strict=True)] for _ in range(SAMPLES)
    ]


def _values(random: np.random.Generator, model: ModelFile, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    if spec.dtype not in NUMPY_TYPES:
        raise TensorError(f"{spec.name!r} is of type {spec.dtype}, only numbers can be run")
    dtype = np.dtype(spec.dtype)
    if spec.dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        if spec.quant is None and spec.dtype != "uint8":
            return random.integers(0, 2, shape).astype(
                dtype
            )  # numbers of rows or classes: every table has the first two
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max + 1, shape, np.int64).astype(dtype)
    low, high = -1.0, 1.0
    preparing = model.manifest.preprocessing.get(spec.name) if model.manifest is not None else None
    if preparing is not None and preparing.mean:
        low = min((0 - mean) / std for mean, std in zip(preparing.mean, preparing.std, strict=True))
        high = max((255 - mean) / std for mean, std in zip(preparing.mean, preparing.std, strict=True))
    return random.uniform(low, high, shape).astype(dtype)


def difference(outputs: Sequence[TensorSpec], expected: Outputs, actual: Outputs) -> float:
    """The largest difference of any value, relative to the range of its output over all samples that were run.

    Of integers without a scale, which are numbers of classes and the like, it is the share that differs. Infinite where one
    side has a number and the other none.
    """
    worst = 0.0
    right = dict(expected)
    for position, spec in enumerate(outputs):
        one = np.stack([right[number][position] for number, _ in actual])
        other = np.stack([found[position] for _, found in actual])
        if one.size == 0:
            continue
        if one.dtype.kind in "iub" and spec.quant is None:
            worst = max(worst, float(np.mean(one != other)))
            continue
        wide = np.complex128 if one.dtype.kind == "c" else np.float64
        one, other = one.astype(wide), other.astype(wide)
        finite = np.isfinite(one)
        if not np.array_equal(finite, np.isfinite(other)):
            return float("inf")
        if not finite.any():
            continue
        one, other = one[finite], other[finite]
        reach = max(
            float(np.ptp(np.abs(one) if wide is np.complex128 else one)), _LEAST_RANGE * float(np.abs(one).max())
        )
        worst = max(worst, float(np.abs(one - other).max()) / (reach or 1.0))
    return worst

"""What each layer alone costs: the noise at the model's outputs when everything but that layer stays float.

A layer is given the int8 file's own weights and bias, and its output the int8 file's own grid; only what follows from it is
run again. What copies values, such as RESHAPE, adds nothing where its input lies on the same grid already.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edgekit.graph import Op, Subgraph, Tensor
from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit.tensors import QUANTISED_TYPES, Array, QuantParams, dequantize, quantize
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import spread
from edgekit_convert.graph.slices import Runner, Slice, Sliceable, producers, workers
from edgekit_convert.refine.objective import Noise, Target, targets
from edgekit_convert.refine.ties import copied

#: Multiply-accumulates that the measurement of one layer may spend, and the samples that it takes in any case and at most.
_LAYER_MACS = 4.0e9
_FEWEST, _MOST = 8, 32
_SAMPLE_BYTES = 128 * 2**20
#: Activations that other converters fuse into the layer before them.
_LONE = frozenset({"RELU", "RELU_N1_TO_1", "RELU6", "TANH"})
#: Copies in name, that compute new values on the same grid.
_AVERAGING = frozenset({"AVERAGE_POOL_2D", "RESIZE_BILINEAR"})
#: Weights that differ by more than this share of their energy are not these weights rounded: the channels of one of the
#: two files were rescaled, or the two were trained apart.
_OTHER_WEIGHTS = 0.25
_FEWEST_WEIGHTS = 8


@dataclass(frozen=True)
class Alone:
    """One operator, or input, and what it adds alone to the noise at the model's outputs.

    Attributes:
        name: the float model's name of its first output.
        weights: noise share by its rounded weights and bias, its output exact; 0 where it has none.
        grid: noise share by the rounding of its output, its weights exact.
        both: noise share by the two together; ``None`` where they were measured apart.
    """

    name: str
    weights: float
    grid: float
    both: float | None


def sensitivity(
    float_model: bytes,
    quantised: bytes,
    samples: Sequence[Sequence[Array]],
    names: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Measure each layer's noise share at the model's outputs when only that layer is quantised as in the int8 file.

    Args:
        float_model: the float flatbuffer, all sizes fixed.
        quantised: any quantised file of the same network.
        samples: float inputs in the float graph's order; large models are measured on some of them, spread evenly.
        names: the quantised file's tensor name by the float model's; ``None`` where they are the same.
        progress: called with layers done and layers in all.

    Returns:
        By the float model's tensor name: of each input and of each operator's first output. What does not lead to a judged
        output, as a last softmax, and layers whose weights are not those of the float model rounded, are left out.

    Raises:
        ConversionError: the interpreter cannot run the float model.
    """
    found = measure_alone(float_model, quantised, samples, names, progress, apart=False)
    return {item.name: item.both for item in found if item.both is not None}


def measure_alone(
    float_model: bytes,
    quantised: bytes,
    samples: Sequence[Sequence[Array]],
    names: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    apart: bool,
) -> tuple[Alone, ...]:
    """``sensitivity`` with weights and grids apart where that is wanted, in the float graph's order.

    Args:
        float_model: see ``sensitivity``, as the next four.
        quantised: see ``sensitivity``.
        samples: see ``sensitivity``.
        names: see ``sensitivity``.
        progress: see ``sensitivity``.
        apart: whether weights and grids are measured one by one instead of together.
    """
    whole = Sliceable(float_model)
    macs = max(1, inspect(ModelFile.read(float_model), partitions=False).macs)
    count = int(min(_MOST, max(_FEWEST, _LAYER_MACS / macs)))
    chosen = [samples[number] for number in spread(len(samples), count)]
    layers = _layers(whole.main, ModelFile.read(quantised).graph.main, names)
    judged = targets(whole.main)
    if not judged or not chosen:
        return ()
    exact = _Exact(whole, judged, chosen)
    cutting, lock = threading.Lock(), threading.Lock()
    done = 0

    def work(layer: _Layer) -> Alone | None:
        nonlocal done
        result = _measure(layer, whole, cutting, exact, chosen, apart=apart)
        with lock:
            done += 1
            progress(done, len(layers))
        return result

    with ThreadPoolExecutor(workers()) as pool:
        return tuple(item for item in pool.map(work, layers) if item is not None)


def first_samples(data: CalibrationSet) -> list[list[Array]]:
    """Samples for ``sensitivity``, evenly spread where it is known how many there are; bounded in number and bytes.

    Args:
        data: for the float model's inputs, all sizes fixed.
    """
    size = sum(4 * abs(math.prod(spec.shape)) for spec in data.inputs)
    limit = max(1, min(_MOST, _SAMPLE_BYTES // max(1, size)))
    total = data.source.total
    wanted = frozenset(spread(total, limit)) if total is not None else frozenset(range(limit))
    chosen = []
    for number, ready in enumerate(data):
        if number in wanted:
            chosen.append([ready.inputs[spec.name] for spec in data.inputs])
        if len(chosen) == len(wanted):
            break
    return chosen


@dataclass(frozen=True)
class _Layer:
    """An operator of the float graph, or an input, as the int8 file has it.

    Attributes:
        result: the float tensor that is rounded.
        ops: indices of the float operators that compute it: a layer and, where the other file has it fused, an activation.
        quant: the grid of its output; ``None`` where that is float, or where it copies what lies on the grid.
        dtype: the type of its output in the int8 file.
        constants: the int8 file's constants as real numbers, by the float tensor's index.
    """

    result: int
    ops: tuple[int, ...]
    quant: QuantParams | None
    dtype: str
    constants: dict[int, Array]


class _Exact:
    """The float model's judged tensors for each sample."""

    def __init__(self, whole: Sliceable, judged: Sequence[Target], samples: Sequence[Sequence[Array]]) -> None:
        self.by_tensor = {target.tensor: target for target in judged}
        wanted = list(self.by_tensor)
        runner = Runner(whole.cut(whole.leading(wanted), wanted, whole.main.inputs, behind=True).content)
        self._values = [dict(zip(wanted, runner.run(sample), strict=True)) for sample in samples]

    def outputs(self, number: int, wanted: Sequence[int]) -> list[Array]:
        """Some judged tensors of one sample."""
        return [self._values[number][index] for index in wanted]


def _layers(main: Subgraph, rounded: Subgraph, names: Mapping[str, str] | None) -> list[_Layer]:
    by_name = {tensor.name: tensor for tensor in rounded.tensors}
    made, theirs = producers(main), producers(rounded)

    def counterpart(index: int) -> Tensor | None:
        name = main.tensors[index].name
        return by_name.get(name if names is None else names.get(name, ""))

    found = []
    for index in main.inputs:
        tensor = counterpart(index)
        if main.tensors[index].dtype == "float32" and tensor is not None:
            # A float input is quantised by the first operator behind it.
            tensor = _quantised_next(rounded, tensor)
            if _grid(tensor) is not None:
                found.append(_Layer(index, (), tensor.quant, tensor.dtype, {}))
    for op in main.ops:
        tensor = counterpart(op.outputs[0]) if op.outputs and main.tensors[op.outputs[0]].dtype == "float32" else None
        other = theirs.get(tensor.index) if tensor is not None else None
        if tensor is None or other is None:
            continue
        while other.name in ("QUANTIZE", "DEQUANTIZE") and other.inputs[0] in theirs:
            other = theirs[other.inputs[0]]
        ops, constants = _with_constants(main, rounded, op, other, made, theirs)
        grid = None if _copies_grid(rounded, other, tensor, theirs) else _grid(tensor)
        if grid is None and tensor.dtype == "float32":
            # Written as floats for the outside, and on a grid before that.
            inner = theirs.get(tensor.index)
            if inner is not None and inner.name == "DEQUANTIZE" and not _copies_grid(rounded, other, tensor, theirs):
                tensor = rounded.tensors[inner.inputs[0]]
                grid = _grid(tensor)
        found.append(_Layer(op.outputs[0], ops, grid, tensor.dtype, constants))
    return found


def _grid(tensor: Tensor) -> QuantParams | None:
    usable = tensor.dtype in QUANTISED_TYPES and tensor.quant is not None and 0 not in tensor.quant.scales
    return tensor.quant if usable else None


def _quantised_next(rounded: Subgraph, tensor: Tensor) -> Tensor:
    if tensor.dtype == "float32":
        for op in rounded.ops:
            if op.name == "QUANTIZE" and op.inputs[0] == tensor.index:
                return rounded.tensors[op.outputs[0]]
    return tensor


def _copies_grid(rounded: Subgraph, op: Op, result: Tensor, theirs: Mapping[int, Op]) -> bool:
    """Whether an operator hands on values that lie on its output's grid already, not ones that were moved to it for that."""
    sources = []
    for index in copied(op):
        before = theirs.get(index)
        moved = before is not None and before.name == "QUANTIZE" and rounded.tensors[before.inputs[0]].quant is not None
        sources.append(rounded.tensors[before.inputs[0] if moved and before is not None else index])
    if not sources or op.name in _AVERAGING:
        return False
    return all(source.data is None and source.quant == result.quant for source in sources)


def _with_constants(
    main: Subgraph, rounded: Subgraph, op: Op, other: Op, made: Mapping[int, Op], theirs: Mapping[int, Op]
) -> tuple[tuple[int, ...], dict[int, Array]]:
    """The float operators of a layer, and the int8 file's constants for them."""
    ops: tuple[int, ...] = (op.index,)
    first = made.get(op.inputs[0]) if op.name in _LONE and op.name != other.name else None
    if first is not None and first.name == other.name:
        ops, op = (first.index, op.index), first
    if other.name in _LONE and op.name != other.name and (before := theirs.get(other.inputs[0])) is not None:
        other = before
    if op.name != other.name or len(op.inputs) != len(other.inputs):
        return ops, {}
    constants = {}
    for ours, place in zip(op.inputs, other.inputs, strict=True):
        if ours < 0 or place < 0 or main.tensors[ours].data is None or main.tensors[ours].dtype != "float32":
            continue
        tensor = rounded.tensors[place]
        producer = theirs.get(place)
        if producer is not None and producer.name == "DEQUANTIZE":
            tensor = rounded.tensors[producer.inputs[0]]
        if tensor.data is None or tensor.sparse or tensor.elements != main.tensors[ours].elements:
            continue
        values = tensor.array()
        if tensor.quant is not None and values.dtype.kind in "iu":
            values = dequantize(values, tensor.quant)
        constants[ours] = values.astype(np.float32).reshape(main.tensors[ours].shape)
    return ops, constants


def _measure(
    layer: _Layer,
    whole: Sliceable,
    cutting: threading.Lock,
    exact: _Exact,
    samples: Sequence[Sequence[Array]],
    *,
    apart: bool,
) -> Alone | None:
    main = whole.main
    name = main.tensors[layer.result].name
    if any(_others(whole.constant(index), values) for index, values in layer.constants.items()):
        return None
    with cutting:  # cutting reads the constants that are changed below for a moment
        suffix = whole.suffix([layer.result], list(exact.by_tensor))
        if suffix is None:
            return None
        block = _block(whole, layer)
        wanted = dict.fromkeys([*suffix.inputs, *(block.inputs if block is not None else ())])
        results = [index for index in wanted if index not in main.inputs]
        prefix = whole.cut(whole.leading(results), results, main.inputs, behind=True)
    possible = {"weights": bool(layer.constants), "grid": layer.quant is not None}
    modes = [mode for mode in possible if possible[mode]] if apart else ["both"]
    if not any(possible.values()):
        return Alone(name, 0.0, 0.0, None if apart else 0.0)
    runners = Runner(prefix.content), Runner(suffix.content), Runner(block.content) if block is not None else None
    noises = {mode: Noise([exact.by_tensor[index] for index in suffix.outputs], keep_mean=True) for mode in modes}
    for number, sample in enumerate(samples):
        values = dict(zip(main.inputs, sample, strict=True))
        if results:
            values.update(zip(prefix.outputs, runners[0].run(sample), strict=True))
        changed = values[layer.result]
        if block is not None and runners[2] is not None:
            [changed] = runners[2].run([values[index] for index in block.inputs])
        candidates = {"weights": changed, "grid": values[layer.result], "both": changed}
        reference = exact.outputs(number, suffix.outputs)
        for mode, noise in noises.items():
            given = candidates[mode]
            if mode != "weights" and layer.quant is not None:
                given = dequantize(quantize(given, layer.quant, layer.dtype), layer.quant)
            values[layer.result] = given
            noise.add(reference, runners[1].run([values[index] for index in suffix.inputs]))
    shares = {mode: float(noise.by_sample().mean()) for mode, noise in noises.items()}
    return Alone(name, shares.get("weights", 0.0), shares.get("grid", 0.0), shares.get("both"))


def _block(whole: Sliceable, layer: _Layer) -> Slice | None:
    """The layer alone with the int8 file's constants; ``None`` where it has none."""
    if not layer.constants:
        return None
    kept = {index: whole.constant(index) for index in layer.constants}
    for index, values in layer.constants.items():
        whole.set_constant(index, values)
    try:
        return whole.cut(layer.ops, [layer.result])
    finally:
        for index, values in kept.items():
            whole.set_constant(index, values)


def _others(ours: Array, theirs: Array) -> bool:
    """Whether constants are not the same ones rounded. A bias may differ widely, which is what is to be seen."""
    if ours.ndim < 2 or ours.size < _FEWEST_WEIGHTS:
        return False
    energy = float(np.square(ours, dtype=np.float64).sum())
    return float(np.square(theirs.astype(np.float64) - ours).sum()) > _OTHER_WEIGHTS * energy

"""Float against quantised at each tensor inside the network, for files that anyone made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgekit.errors import DataError, EngineError
from edgekit.graph import Tensor
from edgekit.modelfile import ModelFile
from edgekit.tensors import QUANTISED_TYPES, Array, dequantize, quantize
from edgekit_convert.calibration import CalibrationSet, Ready
from edgekit_convert.calibration.data import spread
from edgekit_convert.verify import corresponding
from edgekit_convert.verify.pairing import Pair, Pairing, pair_tensors

#: Enough to find the layer that loses; more only steadies the second digit.
SAMPLES = 64


@dataclass(frozen=True)
class LayerFigures:
    """One tensor of the network, float against int8.

    Attributes:
        operator: the int8 model's operator that computes it, or ``INPUT``.
        name: the float model's name for it.
        int8_name: the int8 model's name for it.
        shape: its sizes in the int8 model.
        dtype: how the int8 model holds it; ``float32`` where it is not quantised.
        scale: of its integers, or ``None``.
        zero_point: of its integers, or ``None``.
        low: the lowest float value seen.
        high: the highest float value seen.
        clipped_low: share of the float values that lie below what the integers can hold; ``None`` where it has none.
        clipped_high: share of those above.
        steps: integers from the lowest to the highest that the int8 network used, or ``None``.
        noise_share: Σ (int8 - float)² / Σ float², the int8 network run from its inputs to here; infinite where a value
            is not finite, or the float values are all zero and the int8 ones are not.
        bias: mean of (int8 - float), relative to the root mean square of the float values.
        alone_share: Σ (int8 - float)² / Σ float² at the model's outputs when only this layer is quantised; ``None``
            where that was not measured.
    """

    operator: str
    name: str
    int8_name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    low: float
    high: float
    clipped_low: float | None
    clipped_high: float | None
    steps: int | None
    noise_share: float
    bias: float
    alone_share: float | None = None

    @property
    def sqnr_db(self) -> float:
        """Signal to noise at this tensor, in dB, with the error of everything before it; infinite where there is none."""
        return decibels(self.noise_share)

    @property
    def alone_db(self) -> float | None:
        """Signal to noise at the outputs when only this layer is quantised, in dB; ``None`` where it was not measured."""
        return None if self.alone_share is None else decibels(self.alone_share)

    def to_json(self) -> dict[str, Any]:
        """The fields by name. No error has share 0, an error without bounds share ``null``; both have no decibels."""
        return {
            "operator": self.operator,
            "name": self.name,
            "int8_name": self.int8_name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "scale": self.scale,
            "zero_point": self.zero_point,
            "low": self.low,
            "high": self.high,
            "clipped_low": self.clipped_low,
            "clipped_high": self.clipped_high,
            "steps": self.steps,
            "noise_share": _finite(self.noise_share),
            "sqnr_db": _finite(self.sqnr_db),
            "bias": _finite(self.bias),
            "alone_share": _finite(self.alone_share),
            "alone_db": _finite(self.alone_db),
        }


@dataclass(frozen=True)
class LayerReport:
    """The network tensor by tensor.

    Attributes:
        layers: in the int8 graph's order, the inputs first.
        samples: how many samples were run.
        unmatched: the int8 model's operators for which no counterpart was found in the float model: operator and
            tensor name.
        likeness: median over the layers of the cosine of the angle between float and int8 weights, near 1 unless the two
            were trained apart; ``None`` where no layer has weights.
    """

    layers: tuple[LayerFigures, ...]
    samples: int
    unmatched: tuple[str, ...]
    likeness: float | None = None

    def worst(self, count: int = 3) -> tuple[int, ...]:
        """Positions of the layers that lose most, the worst first.

        By the error that each adds alone where that was measured, else by the noise at the tensor, which holds the
        error of all layers before it too.

        Args:
            count: at most this many; layers without any error are none of them.
        """
        alone = any(layer.alone_share is not None for layer in self.layers)
        losses = [((layer.alone_share or 0.0) if alone else layer.noise_share) for layer in self.layers]
        order = sorted(range(len(losses)), key=lambda number: -losses[number])
        return tuple(number for number in order[:count] if losses[number] > 0)

    def with_alone(self, shares: Mapping[str, float]) -> LayerReport:
        """The same with the error that each layer adds alone.

        Args:
            shares: noise share at the outputs by tensor name, the float model's name or the int8 model's.
        """
        return replace(
            self,
            layers=tuple(
                replace(layer, alone_share=shares.get(layer.name, shares.get(layer.int8_name))) for layer in self.layers
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """For ``--json`` and the pages."""
        rank = {position: number for number, position in enumerate(self.worst(), 1)}
        return {
            "samples": self.samples,
            "unmatched": list(self.unmatched),
            "likeness": self.likeness,
            "layers": [
                {"number": number, "worst": rank.get(number), **layer.to_json()}
                for number, layer in enumerate(self.layers)
            ],
        }


def decibels(noise_share: float) -> float:
    """A noise share as signal to noise in dB."""
    return math.inf if noise_share == 0 else -math.inf if math.isinf(noise_share) else -10 * math.log10(noise_share)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def compare_layers(
    float_model: bytes,
    int8_model: ModelFile,
    data: CalibrationSet,
    *,
    limit: int = SAMPLES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LayerReport:
    """Run both networks on the interpreter's own kernels and compare each tensor that exists in both.

    A delegate would keep its intermediate values to itself; XNNPACK's results may differ by a step here and there. One
    sample at a time, so that memory is that of one run of both.

    Args:
        float_model: the pivot, all sizes fixed.
        int8_model: any quantised model of the same network.
        data: for the float model's inputs.
        limit: use at most this many samples, spread evenly.
        progress: called as ``progress(done, total)``.

    Raises:
        EngineError: the interpreter cannot run one of the two.
        DataError: there is no sample, or one does not fit.
    """
    pivot = ModelFile.read(float_model)
    exact, rounded = _Tracer(pivot), _Tracer(int8_model)
    names = corresponding(pivot.inputs, int8_model.inputs)
    sums: list[_Sums] = []
    pairing = Pairing((), ())
    count = 0
    for count, (ready, total) in enumerate(_spread(data, limit), 1):
        exact.run(ready.inputs)
        rounded.run({names[name]: value for name, value in ready.inputs.items()})
        if count == 1:  # only now every shape is known
            pairing = _pair(exact, rounded, names)
            sums = [_Sums(pair, exact.tensor(pair.exact), rounded.tensor(pair.rounded)) for pair in pairing.pairs]
        for item in sums:
            item.add(exact.value(item.pair.exact), rounded.value(item.pair.rounded))
        progress(count, total)
    if count == 0:
        raise DataError(f"{data.source.origin} gave no sample.")
    main = int8_model.graph.main
    missing = [main.ops[index] for index in pairing.unmatched]
    cosines = [pair.likeness for pair in pairing.pairs if pair.likeness is not None]
    return LayerReport(
        tuple(item.figures(rounded.shapes()[item.pair.rounded]) for item in sums),
        count,
        tuple(f"{op.name} {main.tensors[op.outputs[0]].name}" for op in missing),
        float(np.median(cosines)) if cosines else None,
    )


def _spread(data: CalibrationSet, limit: int) -> Iterator[tuple[Ready, int]]:
    """At most ``limit`` samples, with how many there will be; evenly spread where it is known how many there are."""
    total = data.source.total
    wanted = frozenset(spread(total, limit)) if total is not None else frozenset(range(limit))
    for number, ready in enumerate(data):
        if number in wanted:
            yield ready, len(wanted)
        if total is None and number + 1 >= limit:
            return


def _pair(exact: _Tracer, rounded: _Tracer, names: Mapping[str, str]) -> Pairing:
    """The tensors of two models that have run once."""
    ours, theirs = exact.model, rounded.model

    def ends(side: str, by_name: Mapping[str, str]) -> list[tuple[int, int]]:
        places = dict(zip((spec.name for spec in getattr(theirs, side)), getattr(theirs.graph.main, side), strict=True))
        specs = zip(getattr(ours, side), getattr(ours.graph.main, side), strict=True)
        return [(index, places[by_name[spec.name]]) for spec, index in specs]

    return pair_tensors(
        ours.graph.main,
        theirs.graph.main,
        (exact.shapes(), rounded.shapes()),
        ends("inputs", names),
        ends("outputs", corresponding(ours.outputs, theirs.outputs)),
    )


class _Tracer:
    """One model in an interpreter that keeps all its tensors."""

    def __init__(self, model: ModelFile) -> None:
        from ai_edge_litert import interpreter as litert

        self.model = model
        try:
            self._interpreter: Any = litert.Interpreter(
                model_content=model.content,
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
                num_threads=1,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise self._refused(error) from error
        self._sizes = {index: self.tensor(index).shape for index in model.graph.main.inputs}

    def _refused(self, error: Exception) -> EngineError:
        return EngineError(
            f"the interpreter's own kernels cannot run {self.model.name}: {' '.join(str(error).split()).rstrip('.')}."
        )

    def run(self, inputs: Mapping[str, Array]) -> None:
        """Run once on real numbers, quantised here where an input is."""
        main = self.model.graph.main
        try:
            values = [
                inputs[spec.name] if spec.quant is None else quantize(inputs[spec.name], spec.quant, spec.dtype)
                for spec in self.model.inputs
            ]
            resized = False
            for index, value in zip(main.inputs, values, strict=True):
                if self._sizes[index] != value.shape:
                    self._interpreter.resize_tensor_input(index, list(value.shape))
                    self._sizes[index] = value.shape
                    resized = True
            if resized:
                self._interpreter.allocate_tensors()
            for index, spec, value in zip(main.inputs, self.model.inputs, values, strict=True):
                self._interpreter.set_tensor(index, value.astype(spec.dtype, copy=False))
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise self._refused(error) from error

    def tensor(self, index: int) -> Tensor:
        """What the file says of a tensor."""
        return self.model.graph.main.tensors[index]

    def value(self, index: int) -> Array:
        """A copy of any tensor."""
        return np.asarray(self._interpreter.get_tensor(index))

    def shapes(self) -> dict[int, tuple[int, ...]]:
        """Every tensor's shape as it was in the last run."""
        found = {tensor.index: tensor.shape for tensor in self.model.graph.main.tensors}
        try:
            details = self._interpreter.get_tensor_details()
        except ValueError:  # a name that is not UTF-8
            return found
        seen = {int(item["index"]): tuple(int(size) for size in item["shape"]) for item in details}
        return {index: seen.get(index, shape) for index, shape in found.items()}


class _Sums:
    """What is kept of one tensor over the samples."""

    def __init__(self, pair: Pair, exact: Tensor, rounded: Tensor) -> None:
        self.pair = pair
        self._exact = exact
        self._rounded = rounded
        self._quant = rounded.quant if rounded.dtype in QUANTISED_TYPES else None
        self._edges: tuple[float, float] | None = None
        if self._quant is not None and self._quant.per_tensor:
            # Beyond half a step the nearest integer does not exist.
            scale, zero_point = self._quant.scales[0], self._quant.zero_points[0]
            limits = np.iinfo(rounded.dtype)
            self._edges = (scale * (limits.min - zero_point - 0.5), scale * (limits.max - zero_point + 0.5))
        self._count = 0
        self._signal = self._noise = self._difference = 0.0
        self._low, self._high = math.inf, -math.inf
        self._below = self._above = 0
        self._used: tuple[int, int] | None = None

    def add(self, exact: Array, rounded: Array) -> None:
        """Add one sample. Values that are infinite in the float network too, as masks have them, are left out."""
        if rounded.size == 0:
            return
        if self._quant is not None:
            low, high = int(rounded.min()), int(rounded.max())
            self._used = (min(low, self._used[0]), max(high, self._used[1])) if self._used else (low, high)
            rounded = dequantize(rounded, self._quant)
        a, b = exact.reshape(-1), rounded.reshape(-1)
        finite = np.isfinite(a)
        if not finite.all():
            a, b = a[finite], b[finite]
        if a.size == 0:
            return
        self._count += a.size
        self._low, self._high = min(self._low, float(a.min())), max(self._high, float(a.max()))
        if self._edges is not None:
            self._below += int(np.count_nonzero(a < self._edges[0]))
            self._above += int(np.count_nonzero(a > self._edges[1]))
        exact64 = a.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # an int8 model's float part may give NaN
            difference = b - exact64
            # Not as products of vectors: BLAS would share each out to threads, which takes longer than the work.
            self._signal += float(np.square(exact64).sum())
            self._noise += float(np.square(difference).sum())
            self._difference += float(difference.sum())

    def figures(self, shape: tuple[int, ...]) -> LayerFigures:
        """The figures over all samples."""
        quant, count = self._quant, max(1, self._count)
        known = self._edges is not None and quant is not None
        share = self._noise / self._signal if self._signal else math.inf if self._noise else 0.0
        rms = math.sqrt(self._signal / count)
        bias = self._difference / count / rms if rms else 0.0
        return LayerFigures(
            operator=self.pair.operator,
            name=self._exact.name,
            int8_name=self._rounded.name,
            shape=shape,
            dtype=self._rounded.dtype,
            scale=quant.scales[0] if known and quant is not None else None,
            zero_point=quant.zero_points[0] if known and quant is not None else None,
            low=self._low if self._count else 0.0,
            high=self._high if self._count else 0.0,
            clipped_low=self._below / count if known else None,
            clipped_high=self._above / count if known else None,
            steps=self._used[1] - self._used[0] + 1 if self._used else None,
            noise_share=share if math.isfinite(share) else math.inf,
            bias=bias,
        )

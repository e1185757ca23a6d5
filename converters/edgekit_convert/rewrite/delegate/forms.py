"""What a float graph becomes in int8 on a delegate: quantised with quick ranges, partitioned by the runtime, run and timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import ConversionError, EngineError
from edgekit.graph import Op, Subgraph
from edgekit.inspection import EDGE_OPERATORS
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.tensors import Array
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.quantize import quantize
from edgekit_convert.quantize.mixed import with_types
from edgekit_convert.ranges import Ranges
from edgekit_convert.ranges import extremes as measuring
from edgekit_convert.refine.scales import fit_biases
from edgekit_convert.rewrite.comparing import outputs

#: Gains below 5 % are not gains, and losses below it no losses.
GAIN = 0.05
#: Noises that differ by less are alike, in dB.
_SAME_DB = 0.2
#: An int8 form may be so much noisier than the one before, in dB, or have so little noise at all.
_LOSS_DB, _CLEAN_DB = 1.0, 40.0


@dataclass(frozen=True)
class Form:
    """A float graph in int8.

    Attributes:
        models: the flatbuffers by what they are: ``int8``; under recipe auto also ``islands``, where what the delegate leaves outside
            is in float.
        outside: how many operators the delegate leaves outside, in the one with the fewest; under recipe int8, where none
            may be float, those that are count as well.
        operators: how many there are, changes of type left out.
        wanted: the operators that are better spelled otherwise, by the names of their first outputs: outside, or float.
    """

    models: Mapping[str, bytes]
    outside: int
    operators: int
    wanted: frozenset[str]


@dataclass(frozen=True)
class Verdict:
    """Two forms compared.

    Attributes:
        kept: whether the second is to be taken.
        reason: why not.
        latency_ns: of one run of each, in its fastest model; ``None`` where it was not measured.
        sqnr_db: of each, against the float model, on the samples.
    """

    kept: bool
    reason: str
    latency_ns: tuple[float | None, float | None]
    sqnr_db: tuple[float, float]


class Forms:
    """Makes int8 forms and compares them.

    Args:
        samples: inputs by name; ranges are measured on them.
        recipe: ``auto`` or ``int8``.
        io: the type of the file's inputs and outputs.
        spec: the delegate.
        ranges: measures the ranges of a float model's activations; ``None`` for its extremes on the samples.
        costs: times.
        expected: the float model's outputs for the samples.
    """

    def __init__(
        self,
        samples: Sequence[dict[str, Array]],
        *,
        recipe: str,
        io: str,
        spec: DelegateSpec,
        ranges: Callable[[bytes], Ranges] | None,
        costs: CostTable,
        expected: Sequence[Array],
    ) -> None:
        self._samples, self._expected = samples, expected
        self._recipe, self._io, self._spec = recipe, io, spec
        self._ranges = ranges or self._quick_ranges
        self._costs = costs

    def make(self, content: bytes) -> Form:
        """The forms of a float model.

        Raises:
            ConversionError: it cannot be quantised.
            EngineError: the interpreter refused it.
        """
        ranges = self._ranges(content)
        plain = fit_biases(quantize(content, ranges, self._io, recipe=self._recipe), content)[0]
        graph = ModelFile.read(plain).graph.main
        left = self._costs.timer.outside(plain)
        ops = {
            graph.tensors[op.outputs[0]].name: op for op in graph.ops if op.outputs and op.name not in EDGE_OPERATORS
        }
        floats = frozenset(name for name, op in ops.items() if _is_float(graph, op))
        if self._recipe == "int8":
            return Form({"int8": plain}, len(left | floats), len(ops), left | floats)
        models, outside = {"int8": plain}, len(left)
        layers = {name: "float" for name in left if name in ops and name not in floats and _is_int8(graph, ops[name])}
        if layers:
            models["islands"] = with_types(plain, content, ranges, layers)
            outside = min(outside, len(self._costs.timer.outside(models["islands"])))
        return Form(models, outside, len(ops), left | floats)

    def compare(self, before: Form, after: Form) -> Verdict:
        """Whether one form is better than another.

        It is where fewer operators are outside, it is faster, or there are fewer operators and no more noise; and where it is neither
        slower nor much noisier.
        """
        together = {("before", name): model for name, model in before.models.items()}
        together |= {("after", name): model for name, model in after.models.items()}
        times = self._costs.beside({" ".join(key): model for key, model in together.items()})
        best: dict[str, tuple[float | None, bytes]] = {}
        for (side, name), model in together.items():
            time = times[f"{side} {name}"]
            known = best.get(side)
            if known is None or (time is not None and (known[0] is None or time < known[0])):
                best[side] = (time, model)
        sqnr = self._sqnr_db(best["before"][1]), self._sqnr_db(best["after"][1])
        latency = best["before"][0], best["after"][0]
        reason = _why_not(before, after, latency, sqnr)
        return Verdict(not reason, reason, latency, sqnr)

    def _sqnr_db(self, model: bytes) -> float:
        try:
            actual = outputs(model, self._samples, self._spec)
        except EngineError:
            return -math.inf
        pairs = [(a.astype(np.float64), b) for a, b in zip(self._expected, actual, strict=True)]
        signal, noise = sum(float((a**2).sum()) for a, _ in pairs), sum(float(((a - b) ** 2).sum()) for a, b in pairs)
        return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else math.inf if noise == 0 else -math.inf

    def _quick_ranges(self, content: bytes) -> Ranges:
        main = ModelFile.read(content).graph.main
        made = measuring.interpreter(content)
        places = {main.tensors[index].name: index for index in main.inputs}
        names = dict(zip((spec.name for spec in ModelFile.read(content).inputs), main.inputs, strict=True))
        watched = [*places.values(), *(index for op in main.ops for index in op.outputs)]
        found: Ranges = {}
        for sample in self._samples:
            measuring.invoke(made, {names[name]: value for name, value in sample.items()})
            for index in watched:
                tensor = main.tensors[index]
                values = made.get_tensor(index) if tensor.dtype == "float32" else np.zeros(0)
                if values.size:
                    low, high = found.get(tensor.name, (0.0, 0.0))
                    found[tensor.name] = (min(low, float(values.min())), max(high, float(values.max())))
        if any(not math.isfinite(end) for pair in found.values() for end in pair):
            raise ConversionError("a value is not finite on the calibration data")
        return found


def _is_float(graph: Subgraph, op: Op) -> bool:
    """Whether an operator computes on floats."""
    return any(graph.tensors[index].dtype == "float32" for index in op.outputs)


def _is_int8(graph: Subgraph, op: Op) -> bool:
    return any(graph.tensors[index].dtype == "int8" for index in op.outputs)


def _why_not(before: Form, after: Form, latency: tuple[float | None, float | None], sqnr: tuple[float, float]) -> str:
    """Why a form is not better than another; empty where it is."""
    known = latency[0] is not None and latency[1] is not None
    ratio = latency[1] / latency[0] if latency[0] and latency[1] is not None else 1.0
    if known and ratio >= 1 + GAIN:
        return f"it would take {ratio:.2f} times as long"
    if after.outside > before.outside:
        return f"the delegate would leave {after.outside} operators outside instead of {before.outside}"
    simpler = after.operators < before.operators and sqnr[1] >= min(sqnr[0] - _SAME_DB, _CLEAN_DB)
    if after.outside == before.outside and not simpler and not (known and ratio <= 1 - GAIN):
        return (
            "it would not be faster"
            if known
            else "nothing more would be taken, and what it saves is not in the cost table"
        )
    if sqnr[1] < min(sqnr[0] - _LOSS_DB, _CLEAN_DB):
        return f"int8 would lose accuracy by it ({sqnr[0]:.1f} to {sqnr[1]:.1f} dB SQNR)"
    return ""

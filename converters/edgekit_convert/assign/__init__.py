"""Which type each layer gets when plain int8 misses a gate: error removed against time lost.

Estimates of noise and time only say what to try. Each set of operators is built, and proven on the data that decide: first ever
larger ones until one meets the gates, then smaller ones until nothing can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import OptionError
from edgekit.tensors import Array
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.estimates import FLOAT, INT16, Network, Run
from edgekit_convert.assign.gates import Gates, in_words
from edgekit_convert.assign.sensitivity import measure_alone
from edgekit_convert.calibration import Finding
from edgekit_convert.quantize.mixed import with_types
from edgekit_convert.ranges import Ranges
from edgekit_convert.verify import SetFigures

Progress = Callable[[str, int, int], None]
Prove = Callable[[bytes], "SetFigures | None"]

#: A gain of time below this share is none.
_GAIN = 0.05
#: Measured whole, every operator in float takes the place of a set that the estimates prefer only where it gains this much.
_SURE_GAIN = 0.1
#: Estimated noise, as shares of plain int8's, at which sets are tried first.
_LADDER = (0.7, 0.45, 0.25, 0.12, 0.05, 0.02)
#: Candidate files that are proven at most.
_MOST_PROOFS = 24
#: Ends of runs are taken back where that saves this share of plain int8's latency; so many are tried at a time.
_WORTH, _TRIALS = 0.01, 6


@dataclass(frozen=True)
class Step:
    """A set of operators that was tried on the data that decide.

    Attributes:
        float_ops: how many operators were given back to float.
        int16_ops: how many were given int16 activations.
        met: whether it met the gates.
        figures: what was seen, in words.
        estimated_ratio: latency by the cost table, relative to plain int8; ``None`` before the costs were looked up.
    """

    float_ops: int
    int16_ops: int
    met: bool
    figures: str
    estimated_ratio: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {
            "float_ops": self.float_ops,
            "int16_ops": self.int16_ops,
            "met": self.met,
            "figures": self.figures,
            "estimated_ratio": round(self.estimated_ratio, 4) if self.estimated_ratio is not None else None,
        }


@dataclass(frozen=True)
class Rescue:
    """What was done to meet the gates.

    Attributes:
        model: the file: int8 but for the operators in ``layers``; plain int8 where no set meets the gates.
        layers: ``"float"`` or ``"int16"`` by the name of an operator's first output, as ``mixed.with_types`` takes it.
        runs: the same as runs of neighbours, with what each made of the noise.
        steps: the sets that were tried, in order.
        met: whether the gates are met.
        before: plain int8's figures; ``None`` where it cannot be run.
        after: the figures of ``model``, likewise.
        ceiling: the figures with every operator in float between the same inputs and outputs; ``None`` where such a file
            cannot be run.
        io: the file's input and output type.
        plain_bytes: size of the plain int8 flatbuffer.
        latency_before_ns: one run of plain int8, measured beside the next; ``None`` where it could not be measured.
        latency_after_ns: one run of ``model``.
        latency_float_ns: one run with every operator in float.
        cost_table: digest of the table of times that the choice followed.
    """

    model: bytes
    layers: dict[str, str]
    runs: tuple[Run, ...]
    steps: tuple[Step, ...]
    met: bool
    before: SetFigures | None
    after: SetFigures | None
    ceiling: SetFigures | None
    io: str
    plain_bytes: int
    latency_before_ns: float | None
    latency_after_ns: float | None
    latency_float_ns: float | None
    cost_table: str

    @property
    def latency_ratio(self) -> float | None:
        """What the rescue costs: latency relative to plain int8's."""
        if not self.latency_before_ns or self.latency_after_ns is None:
            return None
        return self.latency_after_ns / self.latency_before_ns

    def findings(self) -> tuple[Finding, ...]:
        """What was given up for the gates, or why they cannot be met."""
        if self.met and not self.layers:
            return ()
        if self.met:
            price = f", at {self.latency_ratio:.2f} times the latency" if self.latency_ratio is not None else ""
            if self.latency_ratio is not None and self.latency_float_ns and self.latency_before_ns:
                price += f" (all in float: {self.latency_float_ns / self.latency_before_ns:.2f} times)"
            price += f" and {len(self.model) / self.plain_bytes:.2f} times the size"
            kinds = " and ".join(
                f"{count} in {kind}" for kind in ("float", "int16") if (count := list(self.layers.values()).count(kind))
            )
            text = (
                f"plain int8 misses the gate ({_words(self.before)}). Operators that left int8: {kinds}. Now "
                f"{_words(self.after)}{price}."
            )
            return (
                Finding("warning", "rescue", text),
                *(Finding("note", "rescue-layers", f"{run}.") for run in self.runs),
            )
        if self.ceiling is None:
            text = "the gate cannot be met: the model with its operators in float does not run between these inputs and outputs."
        else:
            text = (
                f"the gate cannot be met. Plain int8: {_words(self.before)}; with every operator in float between {self.io} inputs "
                f"and outputs: {_words(self.ceiling)}."
            )
        if self.io != "float32":
            text += f" What is lost is lost in the {self.io} inputs and outputs: --io float32 keeps them exact."
        return (Finding("warning", "rescue", text),)

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "met": self.met,
            "layers": dict(self.layers),
            "runs": [run.to_json() for run in self.runs],
            "steps": [step.to_json() for step in self.steps],
            "before": _words(self.before),
            "after": _words(self.after),
            "ceiling": _words(self.ceiling) if self.ceiling is not None else None,
            "bytes_before": self.plain_bytes,
            "bytes_after": len(self.model),
            "latency_before_ns": self.latency_before_ns,
            "latency_after_ns": self.latency_after_ns,
            "latency_float_ns": self.latency_float_ns,
            "latency_ratio": round(self.latency_ratio, 4) if self.latency_ratio is not None else None,
            "cost_table": self.cost_table,
        }


def rescue(
    quantised: bytes,
    float_model: bytes,
    ranges: Ranges,
    *,
    gates: Gates,
    prove: Prove,
    samples: Sequence[Sequence[Array]],
    costs: CostTable,
    io: str,
    prefer: Sequence[str] = (),
    progress: Progress = lambda step, done, total: None,
) -> Rescue:
    """Find the cheapest set of operators whose leaving int8 makes the model meet the gates.

    Args:
        quantised: the int8 flatbuffer, refined, with int8 or float32 inputs and outputs.
        float_model: the float flatbuffer that it was made from; tensors correspond by name.
        ranges: lowest and highest value of each activation.
        gates: what is asked.
        prove: the figures of a candidate on the data that decide, ``None`` for one that cannot run; see ``gates.Prover``.
        samples: float inputs in the graph's order, to estimate on.
        costs: times; what it lacks is measured.
        io: the file's input and output type, for the report.
        prefer: operators, by the name of their first output, that are tried in float first, such as those that lint found.
        progress: called as ``progress(step, done, total)``.

    Raises:
        OptionError: the cost table is another machine's and lacks times.
        ConversionError: the interpreter cannot run the float model.
    """
    network = Network(quantised, float_model)
    search = _Search(network, quantised, float_model, ranges, gates, prove, progress)
    if search.met(network.plain):
        return search.result(network.plain, None, costs, io)
    everything = network.everything(FLOAT)
    if not search.met(everything):
        return search.result(network.plain, everything, costs, io)
    alone = measure_alone(
        float_model, quantised, samples,
        progress=lambda done, total: progress("Quantising each layer alone", done, total), apart=True,
    )  # fmt: skip
    network.learn_noise(alone)
    network.learn_times(costs, ranges, progress)
    search.estimate = network.ratio
    path = network.path(prefer)
    others = [row for row in path if not np.array_equal(row, everything)]
    if search.price(everything) < (1 - _GAIN) * min(search.price(row) for row in others):
        return search.result(everything, everything, costs, io)  # nothing that is kept in int8 pays for itself here
    chosen = search.without_idle_runs(search.smallest_on(path, everything))
    return search.result(search.or_whole(chosen, everything), everything, costs, io)


class _Search:
    """Builds and proves assignments, each one once.

    Attributes:
        estimate: latency of an assignment relative to plain int8's; ``None`` before the costs are known.
    """

    def __init__(
        self,
        network: Network,
        quantised: bytes,
        float_model: bytes,
        ranges: Ranges,
        gates: Gates,
        prove: Prove,
        progress: Progress,
    ) -> None:
        self.network = network
        self._quantised, self._float_model, self._ranges = quantised, float_model, ranges
        self._gates, self._prove, self._tell = gates, prove, progress
        self._known: dict[bytes, SetFigures | None] = {}
        self._steps: list[tuple[Array, bool, SetFigures | None]] = []
        self.estimate: Callable[[Array], float] | None = None

    def build(self, row: Array) -> bytes:
        """The file of an assignment."""
        return with_types(self._quantised, self._float_model, self._ranges, self.network.layers(row))

    def met(self, row: Array) -> bool:
        """Whether an assignment meets the gates."""
        key = row.tobytes()
        if key not in self._known:
            self._tell("Trying other types", len(self._steps), 0)
            try:
                seen = self._prove(self.build(row))
            except OptionError:  # a form that does not exist after all
                seen = None
            self._known[key] = seen
            self._steps.append((row, seen is not None and self._gates.met(seen), seen))
        seen = self._known[key]
        return seen is not None and self._gates.met(seen)

    @property
    def spent(self) -> bool:
        """Whether enough was tried."""
        return len(self._steps) >= _MOST_PROOFS

    def smallest_on(self, path: Sequence[Array], last: Array) -> Array:
        """The first assignment of a path that meets the gates, by growing steps and then halving; ``last`` is known to meet them."""
        path = [*path, last]
        noises = [float(value) for value in self.network.noise(np.stack(path))]
        limits = [share * self.network.noise_of_plain for share in _LADDER]
        rungs = [
            next((number for number, noise in enumerate(noises) if noise <= limit), len(path) - 1) for limit in limits
        ]
        if len(path) > 2 and self.network.noise_of_plain and noises[1] > limits[0]:
            rungs.insert(0, 1)
        below, above = 0, len(path) - 1
        for number in dict.fromkeys(rungs):
            if self.met(path[number]):
                above = number
                break
            below = max(below, number)
        while above - below > 1:
            middle = (below + above) // 2
            if self.met(path[middle]):
                above = middle
            else:
                below = middle
        return path[above]

    def price(self, row: Array) -> float:
        """Estimated latency of an assignment relative to plain int8's; 1 before the costs are known."""
        return self.estimate(row) if self.estimate is not None else 1.0

    def without_idle_runs(self, row: Array) -> Array:
        """Take back what the gates do not need: whole runs, and ever smaller ends of them where that saves time."""
        changed = True
        while changed and not self.spent:
            changed = False
            for smaller in self._smaller(row):
                if self.spent:
                    break
                if self.met(smaller):
                    row, changed = smaller, True
                    break
        return row

    def _smaller(self, row: Array) -> list[Array]:
        """Smaller assignments that are worth a try, the cheapest first."""
        runs, price = self.network.runs(row), self.price(row)
        parts = [(run, 0.0) for run in runs] if len(runs) > 1 else []
        for run in runs:
            size = len(run) // 2
            while size:
                parts += [(run[:size], _WORTH), (run[-size:], _WORTH)]
                size //= 2
        found = []
        for part, least in parts:
            smaller = row.copy()
            smaller[part] = self.network.plain[part]
            if self.price(smaller) < price - least and smaller.tobytes() not in self._known:
                found.append(smaller)
        return sorted(found, key=self.price)[:_TRIALS]

    def or_whole(self, row: Array, everything: Array) -> Array:
        """One of the two simple answers where it is clearly faster: every operator in int16, or in float."""
        for whole in (self.network.everything(INT16), everything):
            if self.price(whole) < (1 - _GAIN) * self.price(row) and self.met(whole):
                row = whole
        return row

    def result(self, row: Array, everything: Array | None, costs: CostTable, io: str) -> Rescue:
        """The answer, with real latencies."""
        seen, plain = self._known[row.tobytes()], self._known[self.network.plain.tobytes()]
        models = {"plain": self._quantised}
        if not np.array_equal(row, self.network.plain) and everything is not None:
            models["chosen"], models["float"] = self.build(row), self.build(everything)
        times = costs.beside(models) if len(models) > 1 else {}
        chosen, whole = times.get("chosen"), times.get("float")
        if chosen is not None and whole is not None and whole < (1 - _SURE_GAIN) * chosen and everything is not None:
            # The estimate was wrong: what is left in int8 does not pay for itself.
            row, seen, chosen = everything, self._known[everything.tobytes()], whole
        return Rescue(
            model=self.build(row),
            layers=self.network.layers(row),
            runs=self.network.described(row),
            steps=tuple(self._step(item, met, figures) for item, met, figures in self._steps),
            met=seen is not None and self._gates.met(seen),
            before=plain,
            after=seen,
            ceiling=self._known[everything.tobytes()] if everything is not None else None,
            io=io,
            plain_bytes=len(self._quantised),
            latency_before_ns=times.get("plain"),
            latency_after_ns=chosen if models.get("chosen") is not None else None,
            latency_float_ns=whole,
            cost_table=costs.sha256,
        )

    def _step(self, row: Array, met: bool, seen: SetFigures | None) -> Step:
        kinds = list(self.network.layers(row).values())
        price = self.estimate(row) if self.estimate is not None else None
        return Step(kinds.count("float"), kinds.count("int16"), met, _words(seen), price)


def _words(seen: SetFigures | None) -> str:
    return in_words(seen) if seen is not None else "it does not run"

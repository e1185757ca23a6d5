"""Which operators leave int8 because the delegate runs them slower there than float: recipe ``auto``.

A delegate has no int8 kernel for some operators, and what it leaves to the interpreter's own kernels can cost more than all the
rest. Times of single operators say what to try; whole models, measured in turn, decide, the float model among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import EngineError, OptionError
from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.estimates import FLOAT, INT8, Network, short
from edgekit_convert.calibration import Finding
from edgekit_convert.quantize.mixed import with_types
from edgekit_convert.ranges import Ranges

Progress = Callable[[str, int, int], None]

#: A gain of time below this share, or of so many nanoseconds, is none: then the assignment with more in int8 is taken.
GAIN, LEAST_NS = 0.05, 2000.0
#: What a nanosecond in float counts beside one in int8: single operators are measured better than what joins them.
_RELUCTANCES = (1.05, 1.0, 0.9, 1.25, 1.6)
#: Where plain int8 is faster than float already, so much has to be gained for a file that is not wholly int8.
_GAIN_ON_FAST = 0.1
#: Share of the multiply-accumulates that stays in int8 where the model is faster than float with it.
_LEAST_INT8 = 0.8
#: Assignments that are slower than the fastest by less than this share are as good as it.
_NEAR = 0.02
#: Of so many fastest assignments the noise is looked at; noises that differ by less than this factor are alike.
_NEAREST, _ALIKE = 6, 1.1
#: Changes of each kind that are tried in a round, and rounds.
_TRIALS, _ROUNDS = 5, 3


@dataclass(frozen=True)
class LeftOut:
    """An operator that stays in float.

    Attributes:
        operator: its name.
        name: its first output.
        outside: whether the delegate left it to the interpreter's own kernel in int8.
        int8_ns: one run of it alone in int8.
        float_ns: likewise in float.
    """

    operator: str
    name: str
    outside: bool
    int8_ns: float
    float_ns: float

    @property
    def reason(self) -> str:
        """Why, in words."""
        if self.outside:
            return "the delegate does not take it in int8"
        return "it stands between float operators" if self.int8_ns <= self.float_ns else "it is slower in int8"

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        times = {"int8_ns": _finite(self.int8_ns), "float_ns": _finite(self.float_ns)}
        return {"operator": self.operator, "output": self.name, "reason": self.reason, **times}


@dataclass(frozen=True)
class Placement:
    """Which operators run in float, and what that gains.

    Attributes:
        layers: ``"float"`` by the name of an operator's first output, as ``mixed.with_types`` takes it; empty where plain int8
            is fastest.
        left_out: the same operators, each with its reason.
        int8_ns: one run with every operator in int8 that has such a form; ``None`` where it cannot be run.
        chosen_ns: one run with ``layers`` in float, measured beside it.
        float_ns: one run of the float model, likewise.
        tried: assignments that were measured whole; 0 where the times are estimates from another machine's cost table.
        cost_table: digest of the table of times that the choice followed.
    """

    layers: dict[str, str]
    left_out: tuple[LeftOut, ...]
    int8_ns: float | None
    chosen_ns: float | None
    float_ns: float | None
    tried: int
    cost_table: str

    def findings(self, target: str | None = None) -> tuple[Finding, ...]:
        """What stays in float and why, and whether the promise holds that it is not slower than float.

        Args:
            target: the name of the device that it is for, where that is not the one that was measured on.
        """
        found = []
        if target is not None and self.chosen_ns is not None:
            text = f"predicted for {target} from times of this machine: a file that is to be fast there is best measured there."
            found.append(Finding("note", "placement-predicted", text))
        if self.layers:
            gain = f"{in_words(self.int8_ns)} with all in int8, {in_words(self.chosen_ns)} now"
            gain = gain if self.tried else f"estimated from the cost table, {gain}"
            what = "1 operator stays" if len(self.layers) == 1 else f"{len(self.layers)} operators stay"
            text = f"{what} in float, which is faster on this delegate: {gain}"
            found.append(Finding("note", "placement", f"{text}, {in_words(self.float_ns)} all in float."))
            for (operator, reason), names in _grouped(self.left_out).items():
                times = f"{operator} ×{len(names)}" if len(names) > 1 else f"{operator} {short(names[0])!r}"
                found.append(Finding("note", "placement-layers", f"{times} in float: {reason}."))
        if self.slower:
            found.append(
                Finding(
                    "warning", "slower-than-float",
                    f"the fastest form found takes {in_words(self.chosen_ns)}, the float model {in_words(self.float_ns)}: this model is too "
                    "small to gain from int8 here. It is still smaller; for speed keep the float file.",
                )
            )  # fmt: skip
        return tuple(found)

    @property
    def slower(self) -> bool:
        """Whether float is faster by more than measuring is exact."""
        if self.chosen_ns is None or self.float_ns is None:
            return False
        return self.chosen_ns > max((1 + GAIN) * self.float_ns, self.float_ns + LEAST_NS)

    def to_json(self) -> dict[str, Any]:
        """The manifest's form; without times, which differ each time, where nothing follows from them."""
        if not self.layers:
            return {"float": []}
        return {
            "float": [item.to_json() for item in self.left_out],
            "int8_ns": self.int8_ns,
            "chosen_ns": self.chosen_ns,
            "float_ns": self.float_ns,
            "tried": self.tried,
            "cost_table": self.cost_table,
        }


def place(
    quantised: bytes,
    float_model: bytes,
    ranges: Ranges,
    *,
    baseline: bytes,
    costs: CostTable,
    noise: Callable[[bytes], float],
    prefer: Sequence[str] = (),
    progress: Progress = lambda step, done, total: None,
) -> Placement:
    """Find the assignment of int8 and float to operators that runs fastest.

    Args:
        quantised: the int8 flatbuffer, every operator in int8 that has such a form.
        float_model: the float flatbuffer that it was made from; tensors correspond by name.
        ranges: lowest and highest value of each activation.
        baseline: the float model as the user has it, which the result is not to be slower than.
        costs: times on the delegate that will run the model; what it lacks is measured.
        noise: a file's noise share at the outputs: of assignments that are about as fast, the more faithful is taken.
        prefer: operators, by the name of their first output, that accuracy wants in float.
        progress: called as ``progress(step, done, total)``.

    Raises:
        OptionError: the cost table is another machine's and lacks times.
    """
    progress("Measuring int8 against float", 0, 0)
    times = costs.beside({"int8": quantised, "float": baseline})
    int8_ns, float_ns = times["int8"], times["float"]
    try:
        outside = costs.timer.outside(quantised)
    except EngineError:  # plain int8 does not load; with some operators in float it may
        outside = frozenset()
    known = float_ns is None or (int8_ns is not None and _settled(int8_ns, float_ns, whole=not outside))
    if costs.of_this_machine and known:
        return Placement({}, (), int8_ns, int8_ns, float_ns, 1, costs.sha256)
    network = Network(quantised, float_model)
    network.learn_times(costs, ranges, progress, int16=False)
    network.learn_lookups(costs, ranges)
    if not costs.of_this_machine:
        return _estimated(network, outside, costs)
    search = _Search(network, quantised, float_model, ranges, baseline, costs, noise)
    progress("Trying operators in float", 0, 0)
    wished = np.array([name in set(prefer) for name in network.names], bool) & (
        network.everything(FLOAT) != network.plain
    )
    rows = [*(network.cheapest(item) for item in _RELUCTANCES), *_simple(network, outside)]
    if wished.any():
        rows += [np.where(wished, np.uint8(FLOAT), row).astype(np.uint8) for row in rows]
    search.measure(rows)
    classes = _classes(network, quantised)
    for _ in range(_ROUNDS):
        before = search.fastest()
        search.measure([*_smaller(network, before), *_turned(network, before, classes)])
        if np.array_equal(search.fastest(), before):
            break
    search.confirm()
    row = search.best()
    return Placement(
        layers=network.layers(row),
        left_out=_left_out(network, row, outside),
        int8_ns=search.time(network.plain),
        chosen_ns=search.time(row),
        float_ns=search.float_ns,
        tried=search.count,
        cost_table=costs.sha256,
    )


def _estimated(network: Network, outside: frozenset[str], costs: CostTable) -> Placement:
    """The assignment that another machine's table makes cheapest; nothing can be measured whole here."""
    row = network.cheapest(_RELUCTANCES[0])
    plain, chosen, whole = (
        float(network.time(item[None])[0]) for item in (network.plain, row, network.everything(FLOAT))
    )
    if chosen > (1 - GAIN) * plain:
        row, chosen = network.plain, plain
    return Placement(
        network.layers(row), _left_out(network, row, outside), plain, chosen, whole, 0, costs.sha256
    )  # fmt: skip


def _settled(int8_ns: float, float_ns: float, *, whole: bool) -> bool:
    """Whether there is nothing to look for."""
    return int8_ns <= 2 * LEAST_NS or (whole and int8_ns <= (1 - GAIN) * float_ns)


class _Search:
    """Assignments measured whole, each time beside plain int8 and the float model, in units of the latter."""

    def __init__(
        self,
        network: Network,
        quantised: bytes,
        float_model: bytes,
        ranges: Ranges,
        baseline: bytes,
        costs: CostTable,
        noise: Callable[[bytes], float],
    ) -> None:
        self._network, self._costs, self._noise = network, costs, noise
        self._noises: dict[bytes, float] = {}
        self._macs = _macs(network, quantised)
        self._quantised, self._float_model, self._ranges, self._baseline = quantised, float_model, ranges, baseline
        self._rows: dict[bytes, Array] = {}
        self._ratios: dict[bytes, float] = {}
        #: Those that were measured again in the end and are to be chosen from; empty before.
        self._last: set[bytes] = set()
        self.float_ns: float | None = None

    @property
    def count(self) -> int:
        """How many were measured."""
        return len(self._ratios)

    def measure(self, rows: Sequence[Array]) -> None:
        """Measure what was not measured yet."""
        self._measure({row.tobytes(): row for row in [self._network.plain, *rows] if row.tobytes() not in self._ratios})

    def confirm(self) -> None:
        """Measure those that looked fastest again, all in turn: the best of many measurements was lucky, too."""
        ratios = self._eligible()
        nearest = sorted(ratios, key=lambda key: ratios[key])[:_NEAREST]
        self._last = {self._network.plain.tobytes(), *nearest}
        self._measure({key: self._rows[key] for key in sorted(self._last)})

    def _measure(self, new: Mapping[bytes, Array]) -> None:
        models = {"float": self._baseline}
        for number, row in enumerate(new.values()):
            try:
                models[str(number)] = self._built(row)
            except OptionError:  # a form that does not exist after all
                continue
        if len(models) == 1:
            return
        times = self._costs.beside(models)
        unit = times["float"]
        for number, (key, row) in enumerate(new.items()):
            time = times.get(str(number))
            self._rows[key] = row
            self._ratios[key] = time / unit if time is not None and unit else np.inf
        self.float_ns = self.float_ns or unit

    def time(self, row: Array) -> float | None:
        """Nanoseconds of one run, in the clock of the first measurement of the float model."""
        ratio = self._ratios.get(row.tobytes(), np.inf)
        return ratio * self.float_ns if self.float_ns is not None and np.isfinite(ratio) else None

    def fastest(self) -> Array:
        """The one that takes least time, of those that are to be chosen from."""
        ratios = self._eligible()
        return self._rows[min(ratios, key=lambda key: ratios[key])]

    def _eligible(self) -> dict[bytes, float]:
        """Those with most of the work in int8, unless only others are as fast as float."""
        known = {key: ratio for key, ratio in self._ratios.items() if not self._last or key in self._last}
        most = {key: ratio for key, ratio in known.items() if self._int8_macs(self._rows[key]) >= _LEAST_INT8}
        return most if most and min(most.values()) <= 1.0 else known

    def _int8_macs(self, row: Array) -> float:
        total = float(self._macs.sum())
        return float(self._macs[row == INT8].sum()) / total if total else 1.0

    def best(self) -> Array:
        """Of those that are about as fast as the fastest: plain int8, else the most faithful, else the one with most in int8."""
        ratios = self._eligible()
        least = min(ratios.values())
        floor = LEAST_NS / self.float_ns if self.float_ns else 0.0
        plain = self._ratios[self._network.plain.tobytes()]
        enough = _GAIN_ON_FAST if plain <= 1 - GAIN else GAIN
        if not np.isfinite(least) or plain <= least + max(enough * least, floor):
            return self._network.plain
        near = [key for key, ratio in ratios.items() if ratio <= least + max(_NEAR * least, floor)]
        noises = {key: self._noise_of(key) for key in sorted(near, key=lambda key: self._ratios[key])[:_NEAREST]}
        faithful = [key for key, noise in noises.items() if noise <= _ALIKE * min(noises.values())]
        return self._rows[
            max(faithful, key=lambda key: (self._network.int8_share(self._rows[key]), -self._ratios[key]))
        ]

    def _noise_of(self, key: bytes) -> float:
        if key not in self._noises:
            self._noises[key] = self._noise(self._built(self._rows[key]))
        return self._noises[key]

    def _built(self, row: Array) -> bytes:
        return with_types(self._quantised, self._float_model, self._ranges, self._network.layers(row))


def _macs(network: Network, quantised: bytes) -> Array:
    """Multiply-accumulates of each operator."""
    counted = {op.output: op.macs for op in inspect(ModelFile.read(quantised), partitions=False).ops}
    return np.array([counted.get(name, 0) for name in network.names], np.float64)


def _simple(network: Network, outside: frozenset[str]) -> list[Array]:
    """Assignments that need no estimate: what the delegate leaves outside in float; only layers with weights in int8."""
    able = network.everything(FLOAT) != network.plain
    left = np.array([name in outside for name in network.names], bool) & able
    heavy = np.array([kind in _HEAVY for kind in network.kinds], bool)
    return [
        np.where(chosen, np.uint8(FLOAT), network.plain).astype(np.uint8)
        for chosen in (left, able & ~heavy, able)
        if chosen.any()
    ]


_HEAVY = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})


def _smaller(network: Network, row: Array) -> list[Array]:
    """The assignment with one of its runs back in int8, or without the ends of its runs."""
    found = []
    for run in network.runs(row):
        for part in {(run[0], run[-1]), (run[0], run[0]), (run[-1], run[-1])}:
            smaller = row.copy()
            smaller[part[0] : part[1] + 1] = network.plain[part[0] : part[1] + 1]
            found.append(smaller)
    if not found:
        return []
    estimated = network.time(np.stack(found))
    order = sorted(range(len(found)), key=lambda number: float(estimated[number]))
    unique = {found[number].tobytes(): found[number] for number in order}
    return list(unique.values())[:_TRIALS]


def _classes(network: Network, quantised: bytes) -> list[list[int]]:
    """Operators of one kind that give tensors of one shape: in a network of blocks what is better for one is so for all."""
    shapes = {tensor.name: tensor.shape for tensor in ModelFile.read(quantised).graph.main.tensors}
    found: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for number, (kind, name) in enumerate(zip(network.kinds, network.names, strict=True)):
        found.setdefault((kind, shapes.get(name, ())), []).append(number)
    return list(found.values())


def _turned(network: Network, row: Array, classes: Sequence[Sequence[int]]) -> list[Array]:
    """The assignment with all operators of one class in the other type, by estimated time."""
    able = network.everything(FLOAT) != network.plain
    found = []
    for numbers in classes:
        for kind in (INT8, FLOAT):
            turned = row.copy()
            some = [number for number in numbers if able[number]]
            turned[some] = FLOAT if kind == FLOAT else network.plain[some]
            if not np.array_equal(turned, row):
                found.append(turned)
    if not found:
        return []
    estimated = network.time(np.stack(found))
    order = sorted(range(len(found)), key=lambda number: float(estimated[number]))
    return [found[number] for number in order[:_TRIALS]]


def _left_out(network: Network, row: Array, outside: frozenset[str]) -> tuple[LeftOut, ...]:
    return tuple(
        LeftOut(
            network.kinds[number], network.names[number], network.names[number] in outside,
            network.time_of(number, INT8), network.time_of(number, FLOAT),
        )
        for number in np.flatnonzero(row != network.plain).tolist()
    )  # fmt: skip


def _grouped(left_out: Sequence[LeftOut]) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for item in left_out:
        groups.setdefault((item.operator, item.reason), []).append(item.name)
    return groups


def in_words(time_ns: float | None) -> str:
    """A time as a report tells it."""
    return (
        "not measured"
        if time_ns is None
        else f"{time_ns / 1000:.1f} µs"
        if time_ns < 1e6
        else f"{time_ns / 1e6:.2f} ms"
    )


def _finite(time_ns: float) -> float | None:
    return float(time_ns) if np.isfinite(time_ns) else None

"""The order of the refinements: each is tried on one part of the calibration data and kept by what it does to another.

``fast``: bias correction in closed form. ``default``: channel equalisation, range search and streaming bias correction as well.
``high``: weight rounding as well, and more samples and candidates for the rest. The graph, its kernels and the size stay as they
are; only constants and scales change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from edgekit.errors import ConversionError
from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.tensors import Array
from edgekit_convert.calibration import Finding
from edgekit_convert.quantize import quantize
from edgekit_convert.ranges import Ranges, Statistics
from edgekit_convert.refine.bias import correct_biases
from edgekit_convert.refine.equalize import channel_ranges, equalize
from edgekit_convert.refine.judge import Judge
from edgekit_convert.refine.rounding import Rounding
from edgekit_convert.refine.scales import fit_biases
from edgekit_convert.refine.search import search_ranges
from edgekit_convert.refine.streaming import walk

EFFORTS: tuple[str, ...] = ("fast", "default", "high")
#: Multiply-accumulates that a search may spend on each candidate: large models are searched on fewer samples.
_SEARCH_MACS = {"default": 4.0e9, "high": 2.0e10}
_WALK_MACS = {"default": 6.0e9, "high": 3.0e10}
_FEWEST, _MOST = 16, 128
#: Share of the noise whose tensors are searched.
_COVER = {"default": 0.96, "high": 0.998}
_STRENGTHS = (1.0, 0.5)

_STREAMED = "biases of {} layers corrected on the int8 values that reach them"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Step:
    """A refinement that was tried.

    Attributes:
        name: a short name that stays the same between versions.
        kept: whether the held-out samples were better off with it.
        before: noise share on the held-out samples without it.
        after: likewise with it.
        text: what it did.
    """

    name: str
    kept: bool
    before: float
    after: float
    text: str

    def finding(self) -> Finding:
        """As the conversion reports it."""
        gain = f"{decibels(self.before)} to {decibels(self.after)} SQNR on held-out calibration data"
        verdict = f"{self.text}: {gain}." if self.kept else f"{self.text}: not kept, it would not help ({gain})."
        return Finding("note", self.name, verdict)

    def to_json(self) -> dict[str, object]:
        """The manifest's form."""
        return {"name": self.name, "kept": self.kept, "before_db": _db(self.before), "after_db": _db(self.after)}


@dataclass(frozen=True)
class Refined:
    """The best quantised model that was found.

    Attributes:
        model: the flatbuffer.
        float_model: the float flatbuffer whose tensors correspond to it by name; equalised where that was kept.
        ranges: the ranges that it was quantised with.
        steps: what was tried.
        findings: what else is worth knowing.
    """

    model: bytes
    float_model: bytes
    ranges: Ranges
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _State:
    """A candidate: the float model and ranges it comes from, the file before and after its biases were corrected."""

    float_model: bytes
    statistics: Statistics
    ranges: Ranges
    plain: bytes
    model: bytes
    channels: int


_Stage = Callable[[_State, float, Judge], tuple[_State, float]]


class Refinery:
    """Refines one model.

    Args:
        refining: float inputs in the graph's order, to refine on.
        held_out: likewise, to judge by.
        io: the file's input and output type.
        recipe: which types; all but ``int8`` and ``auto`` only have their biases corrected.
        spec: the delegate that will run the model.
        remeasure: measures another float model on all calibration data.
        progress: called as ``progress(step, done, total)``.
        layers: operators that get another type than the recipe's, see ``quantize.mixed.with_types``.
        dense_one_scale: see ``quantize``.
    """

    def __init__(
        self,
        *,
        refining: Sequence[Sequence[Array]],
        held_out: Sequence[Sequence[Array]],
        io: str,
        recipe: str,
        spec: DelegateSpec,
        remeasure: Callable[[bytes], Statistics],
        progress: Progress,
        layers: Mapping[str, str] | None = None,
        dense_one_scale: bool = False,
    ) -> None:
        self._refining, self._held_out = refining, held_out
        self._io, self._recipe, self._spec = io, recipe, spec
        self._remeasure, self._tell = remeasure, progress
        self._layers, self._dense_one_scale = layers, dense_one_scale
        self._steps: list[Step] = []

    def run(self, float_model: bytes, statistics: Statistics, effort: str) -> Refined:
        """Quantise, then refine as far as ``effort`` says.

        Args:
            float_model: the pivot, all sizes fixed.
            statistics: what was measured on it.
            effort: one of ``EFFORTS``.

        Raises:
            ConversionError: the quantizer refused the model.
        """
        self._tell("Quantising", 0, 0)
        plain, channels = self._quantised(float_model, statistics.ranges)
        state = _State(float_model, statistics, statistics.ranges, plain, plain, channels)
        findings = []
        try:
            judge = Judge(float_model, self._held_out, self._spec)
            noise = float(judge.noise(state.model).mean())
        except ConversionError as error:  # the proof will say so; here it only means that nothing can be judged
            findings.append(Finding("note", "refinement", f"not refined: {error}"))
        else:
            for stage in self._stages(state, effort):
                done = len(self._steps)
                try:
                    state, noise = stage(state, noise, judge)
                except ConversionError as error:  # what was kept before stays
                    del self._steps[done:]
                    findings.append(Finding("note", "refinement", f"a refinement was left out: {error}"))
        if state.channels:
            text = f"{state.channels} channels have nearly no weights: their weight scale was enlarged until the int32 bias fits."
            findings.append(Finding("note", "bias-scales", text))
        return Refined(state.model, state.float_model, state.ranges, tuple(self._steps), tuple(findings))

    def _quantised(self, float_model: bytes, ranges: Ranges) -> tuple[bytes, int]:
        quantised = quantize(
            float_model,
            ranges,
            self._io,
            recipe=self._recipe,
            layers=self._layers,
            dense_one_scale=self._dense_one_scale,
        )
        return fit_biases(quantised, float_model)

    def _stages(self, state: _State, effort: str) -> list[_Stage]:
        if effort == "fast" or self._recipe not in ("auto", "int8"):
            return [self._corrected]
        macs = max(1, inspect(state.float_model, partitions=False).macs)
        search, steps = _bounded(_SEARCH_MACS[effort], macs), _bounded(_WALK_MACS[effort], macs)
        return [
            self._corrected,
            partial(self._equalised, effort=effort),
            partial(self._searched, effort=effort, count=search, walked=steps),
            partial(self._streamed, effort=effort, count=steps),
        ]

    def _corrected(self, state: _State, noise: float, judge: Judge) -> tuple[_State, float]:
        self._tell("Correcting biases", 0, 0)
        corrected, layers = correct_biases(state.plain, state.float_model, state.statistics.means())
        if not layers:
            return state, noise
        text = f"biases of {layers} layers corrected in closed form"
        return self._kept("bias-correction", text, state, replace(state, model=corrected), noise, judge)

    def _kept(
        self, name: str, text: str, state: _State, candidate: _State, noise: float, judge: Judge
    ) -> tuple[_State, float]:
        after = float(judge.noise(candidate.model).mean())
        self._steps.append(Step(name, after < noise, noise, after, text))
        return (candidate, after) if after < noise else (state, noise)

    def _built(self, float_model: bytes, statistics: Statistics, ranges: Ranges) -> _State:
        plain, channels = self._quantised(float_model, ranges)
        corrected, _ = correct_biases(plain, float_model, statistics.means())
        return _State(float_model, statistics, ranges, plain, corrected, channels)

    def _equalised(self, state: _State, noise: float, judge: Judge, effort: str) -> tuple[_State, float]:
        self._tell("Equalising channels", 0, 0)
        channels = channel_ranges(state.float_model, self._refining)
        original = state.float_model
        for strength in _STRENGTHS:
            scaled, count = equalize(original, channels, strength)
            if not count:
                break
            statistics = self._remeasure(scaled)
            text = f"{count} channels enlarged to use more of their activation's range (strength {strength:g})"
            candidate = self._built(scaled, statistics, statistics.ranges)
            state, noise = self._kept("equalisation", text, state, candidate, noise, judge)
        return state, noise

    def _searched(
        self, state: _State, noise: float, judge: Judge, effort: str, count: int, walked: int
    ) -> tuple[_State, float]:
        self._tell("Measuring each activation's noise", 0, 0)
        found = search_ranges(
            state.float_model, _quantised_only(state), self._refining[:count], self._held_out[:count],
            lambda done, total: self._tell("Searching ranges", done, total), cover=_COVER[effort],
        )  # fmt: skip
        moved = [item for item in found if item.after != item.before]
        if not moved:
            return state, noise
        ranges = {**state.ranges, **{name: item.after for item in moved for name in item.names}}
        text = f"the ranges of {len(moved)} of {len(found)} activations narrowed"
        candidate = self._built(state.float_model, state.statistics, ranges)
        if float(judge.noise(candidate.model).mean()) < noise:
            return self._kept("range-search", text, state, candidate, noise, judge)
        # Clipping shifts means, which the closed form does not see: both again with the biases that the walk gives them.
        step, samples = "Correcting biases on the int8 graph", self._refining[:walked]

        def mended(side: _State) -> tuple[_State, int]:
            model, layers = walk(
                side.model, side.float_model, samples, progress=lambda done, total: self._tell(step, done, total)
            )
            return replace(side, model=model), layers

        other, layers = mended(state)
        if layers:
            state, noise = self._kept("streaming", _STREAMED.format(layers), state, other, noise, judge)
        return self._kept("range-search", text, state, mended(candidate)[0], noise, judge)

    def _streamed(self, state: _State, noise: float, judge: Judge, effort: str, count: int) -> tuple[_State, float]:
        """Walk the int8 graph; what was kept is done again with the held-out samples as well, once they have judged."""
        start, samples = state, self._refining[:count]

        def walked(inputs: Sequence[Sequence[Array]], step: str, *, rounding: bool) -> tuple[_State, int]:
            reweigh = Rounding(start.float_model) if rounding else None
            model, layers = walk(
                start.model,
                start.float_model,
                inputs,
                reweigh=reweigh,
                progress=lambda done, total: self._tell(step, done, total),
            )
            return replace(start, model=model), layers if reweigh is None else reweigh.layers

        step = "Correcting biases on the int8 graph"
        candidate, layers = walked(samples, step, rounding=False)
        if layers:
            state, noise = self._kept("streaming", _STREAMED.format(layers), state, candidate, noise, judge)
        rounding = False
        if effort == "high":
            step = "Rounding weights"
            candidate, layers = walked(samples, step, rounding=True)
            text = f"weights of {layers} layers rounded by their inputs"
            before = noise
            if layers:
                state, noise = self._kept("rounding", text, state, candidate, noise, judge)
            rounding = noise < before
        everything = [*samples, *self._held_out][: count + count // 2]
        if state is not start and self._held_out is not self._refining and len(everything) > len(samples):
            state, _ = walked(everything, step, rounding=rounding)
        return state, noise


def _quantised_only(state: _State) -> Ranges:
    """The ranges of the tensors that are integers in the file."""
    integer = {tensor.name for tensor in ModelFile.read(state.plain).graph.main.tensors if tensor.dtype == "int8"}
    return {name: item for name, item in state.ranges.items() if name in integer}


def _bounded(budget: float, macs: int) -> int:
    return int(min(_MOST, max(_FEWEST, budget / macs)))


def _db(share: float) -> float | None:
    return round(-10 * math.log10(share), 2) if share > 0 else None


def decibels(share: float) -> str:
    """A noise share as SQNR in dB."""
    return f"{-10 * math.log10(share):.1f} dB" if share > 0 else "no error"

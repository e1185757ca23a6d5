"""Range search: for each activation the range under which the model's outputs suffer least.

The extremes of an activation give its rarest values a place and all others a coarser grid. Which is worth more only the
outputs can tell: each candidate range is tried on the float model with only that tensor (and those tied to it) on the int8
grid, and what follows from it is run again. The two ends move separately, and all candidates are tried: the error over the
place of an end may fall again far below where it first rose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgekit.tensors import Array
from edgekit_convert.graph.slices import Runner, Sliceable, consumers, producers, workers
from edgekit_convert.refine.objective import Noise, Target, targets
from edgekit_convert.refine.ties import origins, tied

Ranges = dict[str, tuple[float, float]]

#: Fractions of an end that are tried first, and then the ratios around the best of them.
_COARSE = (0.87, 0.75, 0.62, 0.5, 0.39, 0.29, 0.2, 0.13, 0.08)
_FINE = (0.93, 1.07)
#: A range is moved only where that is worth it: the noise of this tensor falls at least by this share.
_WORTH = 0.03
_FEW = 4
_LOOK = 8
#: The activations of those samples are kept where they take no more than this.
_KEPT_BYTES = 256 << 20
#: A tensor that makes more than this share of the noise is searched closer, over all pairs of these parts of its ends.
_LOUD = 0.2
_PARTS = (1.0, 0.93, 0.86, 0.79, 0.72, 0.65, 0.58, 0.51)
#: Standard errors that a candidate must be better by.
_CAUTION = 1.0
#: HARD_SWISH is constant below -3, and the int8 grid should not be spent there.
_HARD_SWISH_LOWS = (-3.0, -3.25, -3.5, -4.0)


@dataclass(frozen=True)
class Searched:
    """What became of one group of tensors.

    Attributes:
        names: the tensors that share the range.
        before: lowest and highest measured value.
        after: the range that was chosen.
        noise_before: noise share at the outputs with only this group quantised over ``before``, on the held-out samples (on refining samples
            where the group was only looked at).
        noise_after: likewise over ``after``.
    """

    names: tuple[str, ...]
    before: tuple[float, float]
    after: tuple[float, float]
    noise_before: float
    noise_after: float


def search_ranges(
    float_model: bytes,
    ranges: Ranges,
    samples: Sequence[Sequence[Array]],
    held_out: Sequence[Sequence[Array]],
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    cover: float = 0.98,
) -> tuple[Searched, ...]:
    """Search the range of each group of tied tensors that matters.

    Args:
        float_model: the pivot, all sizes fixed.
        ranges: lowest and highest value by tensor name.
        samples: inputs in the graph's order, to search on.
        held_out: likewise, others: a range that was moved stays moved only where these agree.
        progress: called with the number of groups searched, and of all that will be.
        cover: the search goes over the groups that make this share of the noise, the loudest first; 0 measures only.

    Returns:
        One entry for each group that is quantised, in the graph's order; those whose range is fixed by a kernel, that are
        themselves what is judged or that hardly matter are measured and left alone.
    """
    whole = Sliceable(float_model)
    judged = targets(whole.main)
    exact = _exact(whole, judged, [*samples, *held_out])
    groups = [
        _Group(whole, group, judged, ranges, samples, held_out, exact)
        for group in tied(whole.main)
        if any(whole.main.tensors[index].name in ranges for index in group)
    ]
    looked_at = _activations(whole, samples[:_LOOK])
    with ThreadPoolExecutor(workers()) as pool:
        found = dict(enumerate(pool.map(partial(_Group.look, known=looked_at), groups)))
        looked_at = {}
        loud = sorted((number for number in found if found[number] is not None), key=lambda n: -_noise_of(found[n]))
        total, passed, chosen = sum(_noise_of(found[number]) for number in loud), 0.0, []
        for number in loud:
            if passed >= cover * total:
                break
            passed += _noise_of(found[number])
            chosen.append(number)
            groups[number].loud = _noise_of(found[number]) > _LOUD * total
        for done, result in enumerate(pool.map(_Group.search, [groups[number] for number in chosen]), 1):
            found[chosen[done - 1]] = result
            progress(done, len(chosen))
    return tuple(item for item in found.values() if item is not None)


def _exact(
    whole: Sliceable, judged: Sequence[Target], samples: Sequence[Sequence[Array]]
) -> dict[int, dict[int, Array]]:
    """What is judged, by tensor, for each sample by its ``id``."""
    wanted = [target.tensor for target in judged]
    content = whole.cut(whole.leading(wanted), wanted, whole.main.inputs, behind=True).content
    count = workers()

    def run(place: int) -> list[tuple[int, dict[int, Array]]]:
        runner = Runner(content)
        return [(id(item), dict(zip(wanted, runner.run(item), strict=True))) for item in samples[place::count]]

    with ThreadPoolExecutor(count) as pool:
        return dict(pair for found in pool.map(run, range(count)) for pair in found)


def _activations(whole: Sliceable, samples: Sequence[Sequence[Array]]) -> dict[int, dict[int, Array]]:
    """All that is computed by tensor, for each sample by its ``id``; nothing where that would take too much memory."""
    main = whole.main
    # Of every type: what follows from a tensor may also read a condition or places that do not.
    made = [index for op in main.ops for index in op.outputs if index >= 0]
    if sum(4 * main.tensors[index].elements for index in made) * len(samples) > _KEPT_BYTES:
        return {}
    runner = Runner(whole.cut(range(len(main.ops)), made, main.inputs, behind=True).content)
    return {id(item): dict(zip(made, runner.run(item), strict=True)) for item in samples}


def _noise_of(item: Searched | None) -> float:
    return item.noise_before if item is not None else 0.0


@dataclass
class _Group:
    """The search over one group of tied tensors."""

    whole: Sliceable
    group: list[int]
    judged: tuple[Target, ...]
    ranges: Ranges
    samples: Sequence[Sequence[Array]]
    held_out: Sequence[Sequence[Array]]
    exact: dict[int, dict[int, Array]]
    loud: bool = False

    def look(self, known: dict[int, dict[int, Array]]) -> Searched | None:
        """The noise of the extremes, on a few samples, whose activations may be known."""
        if not self._prepare(known):
            return None
        [noise] = self._noise([self._extremes], self.samples[:_LOOK])
        self._release()
        share = float(noise.mean())
        return Searched(self._names, self._extremes, self._extremes, share, share)

    def search(self) -> Searched | None:
        """The best range, and the extremes where the held-out samples do not agree."""
        if not self._prepare():
            return None
        before = best = self._extremes
        if not self._fixed():
            for fine in (False, True):
                for end in ("high", "low"):
                    best = self._move(best, end, fine=fine)
            if self.loud:
                best = self._centre(best)
        kept, moved = self._noise([before, best], self.held_out)
        self._release()
        first, last = float(kept.mean()), float(moved.mean())
        if best == before or last > first * (1 - _WORTH):
            return Searched(self._names, before, before, first, first)
        return Searched(self._names, before, best, first, last)

    def _prepare(self, known: dict[int, dict[int, Array]] | None = None) -> bool:
        """Cut the graph; whether anything that is judged follows from these tensors."""
        main = self.whole.main
        self._names = tuple(main.tensors[index].name for index in self.group)
        ends = [self.ranges[name] for name in self._names if name in self.ranges]
        self._extremes = min(low for low, _ in ends), max(high for _, high in ends)
        self._roots = origins(main, self.group)
        suffix = self.whole.suffix(self._roots, [target.tensor for target in self.judged], behind=True)
        if suffix is None or self._extremes[0] >= self._extremes[1]:
            return False
        self._targets = [target for target in self.judged if target.tensor in suffix.outputs]
        self._suffix: Runner | None = Runner(suffix.content)
        self._known: dict[tuple[tuple[float, float], tuple[int, int]], Array] = {}
        self._inputs = suffix.inputs
        self._given = known or {}
        self._before: Runner | None = None
        self._made: tuple[int, ...] = ()
        if self._given:
            return True
        leading = self.whole.leading(self._inputs)
        prefix = self.whole.cut(leading, [i for i in self._inputs if i not in main.inputs], main.inputs, behind=True)
        self._made = prefix.outputs
        self._before = Runner(prefix.content) if prefix.outputs else None
        return True

    def _release(self) -> None:
        """Let the interpreters go: all groups' at once would hold the weights many times."""
        self._suffix = self._before = None
        self._known, self._given = {}, {}

    def _fixed(self) -> bool:
        """Whether the range is not free: the kernel fixes it, or it is what the outputs are judged by."""
        made_by = producers(self.whole.main)
        fixed = any(made_by[i].name in ("SOFTMAX", "LOGISTIC", "TANH", "LOG_SOFTMAX", "L2_NORMALIZATION")
                    for i in self.group if i in made_by)  # fmt: skip
        return fixed or any(target.tensor in self.group for target in self.judged)

    def _move(self, start: tuple[float, float], end: str, *, fine: bool) -> tuple[float, float]:
        low, high = start
        place = high if end == "high" else low
        if place == 0 or abs(place) < 1e-3 * (high - low):
            return start
        ends = [place * fraction for fraction in (_FINE if fine else _COARSE)]
        if end == "low" and not fine and self._feeds_hard_swish():
            ends += [value for value in _HARD_SWISH_LOWS if value > low]
        tried = [start, *((low, value) if end == "high" else (value, high) for value in ends)]
        tried = list(dict.fromkeys(self._inside(item) for item in tried))
        if not fine:
            # A few samples choose who is looked at again.
            order = self._order(self._noise(tried, self.samples[: max(_FEW, len(self.samples) // 4)]))
            tried = [tried[number] for number in sorted({0, *order[:3]})]
        noises = self._noise(tried, self.samples)
        return tried[self._order(noises)[0]]

    def _centre(self, best: tuple[float, float]) -> tuple[float, float]:
        """The middle of the best region, both ends moved at once.

        Where one tensor makes much of the noise, the luck of how its values fall on a grid would decide between neighbours.
        """
        axes = [[end * part for part in _PARTS] if end else [end] for end in self._extremes]
        field = [(low, high) for low in axes[0] for high in axes[1]]
        noises = np.array([noise.mean() for noise in self._noise(field, self.samples)])
        smooth = _smooth(_smooth(noises.reshape(len(axes[0]), len(axes[1]))).T).T.reshape(-1)
        middle = int(smooth.argmin())
        [known] = self._noise([best], self.samples)
        # Far below the region that was looked at nothing can be said about neighbours.
        return field[middle] if smooth[middle] < known.mean() * (1 + _WORTH * 4) else best

    def _inside(self, item: tuple[float, float]) -> tuple[float, float]:
        return max(item[0], self._extremes[0]), min(item[1], self._extremes[1])

    def _order(self, noises: Sequence[Array]) -> list[int]:
        """Candidates from the best to the worst; the first given is the one that is to be beaten, on either half of the samples."""
        first, half = noises[0], len(noises[0]) // 2

        def rank(number: int) -> tuple[float, int]:
            noise = noises[number]
            halves = (slice(None, half), slice(half, None)) if len(noise) == len(self.samples) >= 2 else ()
            agreed = all(noise[part].mean() <= first[part].mean() for part in halves)
            return (_bound(noise, first) if agreed else math.inf, number)

        return sorted(range(len(noises)), key=rank)

    def _feeds_hard_swish(self) -> bool:
        readers = consumers(self.whole.main)
        return any(op.name == "HARD_SWISH" for index in self.group for op in readers.get(index, ()))

    def _noise(self, candidates: Sequence[tuple[float, float]], samples: Sequence[Sequence[Array]]) -> list[Array]:
        """Each sample's noise at the outputs for each candidate range."""
        assert self._suffix is not None  # _prepare was called
        key = (id(samples[0]), len(samples))
        wanted = [item for item in dict.fromkeys(candidates) if (item, key) not in self._known]
        noises = [Noise(self._targets) for _ in wanted]
        for sample in samples if wanted else ():
            values = dict(zip(self.whole.main.inputs, sample, strict=True))
            values.update(self._given.get(id(sample), {}))
            if self._before is not None:
                values.update(zip(self._made, self._before.run(sample), strict=True))
            exact = [self.exact[id(sample)][target.tensor] for target in self._targets]
            for candidate, noise in zip(wanted, noises, strict=True):
                rounded = dict(values)
                for index in self._roots:
                    rounded[index] = on_grid(values[index], *candidate)
                noise.add(exact, self._suffix.run([rounded[index] for index in self._inputs]))
        for candidate, noise in zip(wanted, noises, strict=True):
            self._known[candidate, key] = noise.by_sample()
        return [self._known[candidate, key] for candidate in candidates]


def _smooth(rows: Array) -> Array:
    """Each row as a weighted mean of itself and its two neighbours on either side."""
    if len(rows) == 1:
        return rows
    padded = np.pad(rows, ((2, 2), (0, 0)), mode="edge")
    return np.asarray(sum(w * padded[k : k + len(rows)] for k, w in enumerate((1, 2, 3, 2, 1))) / 9)


def _bound(noise: Array, rival: Array) -> float:
    """A candidate's mean noise, plus one standard error of its difference to a rival's on the same samples.

    Clipping hurts rarely and much: on few samples it looks better than it is.
    """
    spread = float((noise - rival).std()) / math.sqrt(max(1, len(noise) - 1))
    return float(noise.mean()) + _CAUTION * spread


def on_grid(value: Array, low: float, high: float) -> Array:
    """Values rounded to the 256 steps of int8 over a range that holds zero, as float32."""
    scale = np.float32((high - low) / 255)
    zero = np.float32(np.rint(-128 - low / scale))
    result: Array = np.empty(np.shape(value), np.float32)
    np.multiply(value, np.float32(1) / scale, out=result)
    np.rint(result, out=result)
    np.clip(result, np.float32(-128) - zero, np.float32(127) - zero, out=result)
    np.multiply(result, scale, out=result)
    return result

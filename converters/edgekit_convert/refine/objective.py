"""How much a change inside a model disturbs its outputs.

A softmax hides most of what happens before it, so that its input, the logits, is judged in its place; a softmax does not
see what is added to all logits alike, so that they are centred first. What the error has on average is left out, because
correcting biases takes it away later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.graph import Op, Subgraph
from edgekit.tensors import Array
from edgekit_convert.graph.slices import producers


@dataclass(frozen=True)
class Target:
    """A tensor that stands for an output of the model.

    Attributes:
        tensor: its index.
        centred: whether only differences along the last axis matter.
    """

    tensor: int
    centred: bool


def targets(main: Subgraph) -> tuple[Target, ...]:
    """The tensors by which a model's outputs are judged: logits in the place of a softmax, and of the class that they choose."""
    found = [_stands_for(main, producers(main), index) for index in main.outputs]
    return tuple(dict.fromkeys(target for target in found if target is not None))


def _stands_for(main: Subgraph, made_by: Mapping[int, Op], index: int) -> Target | None:
    op = made_by.get(index)
    while op is not None and op.name in ("CAST", "RESHAPE", "SQUEEZE"):
        op = made_by.get(op.inputs[0])
    if op is not None and op.name in ("SOFTMAX", "LOG_SOFTMAX"):
        return Target(op.inputs[0], True)
    if op is not None and op.name in ("ARG_MAX", "ARG_MIN"):
        return _stands_for(main, made_by, op.inputs[0])
    return Target(index, False) if main.tensors[index].dtype == "float32" else None


#: Logits are judged as they are and through a softmax of this temperature. Logits alone give the samples that are sure of
#: their class as much weight as those that may change it; the softmax alone sees hardly any sample.
_TEMPERATURES = (2.0,)


class Noise:
    """Noise of candidate outputs against exact ones, sample by sample, relative to the exact ones' energy.

    Args:
        judged: the tensors that are compared.
        keep_mean: whether an error that is the same on all samples counts.
    """

    def __init__(self, judged: Sequence[Target], *, keep_mean: bool = False) -> None:
        self._parts = [_Logits(keep_mean) if target.centred else _Values(keep_mean) for target in judged]
        self._shapes: list[tuple[int, ...]] | None = None

    def add(self, exact: Sequence[Array], candidate: Sequence[Array]) -> None:
        """Add one sample.

        Raises:
            ConversionError: an output has not the same shape each time.
        """
        shapes = [value.shape for value in exact]
        if self._shapes is None:
            self._shapes = shapes
        if self._shapes != shapes or shapes != [value.shape for value in candidate]:
            raise ConversionError("the size of an output depends on the values, so that its values cannot be compared.")
        for part, a, b in zip(self._parts, exact, candidate, strict=True):
            part.add(a, b)

    def by_sample(self) -> Array:
        """Each sample's noise energy relative to that of the exact outputs, times the number of samples.

        Their mean is the noise share.
        """
        return np.asarray(sum(part.by_sample() for part in self._parts))


class _Values:
    """An output that is judged value by value."""

    def __init__(self, keep_mean: bool) -> None:
        self._keep_mean = keep_mean
        self._squares: list[float] = []
        self._signal = 0.0
        self._sums: Any = 0.0
        self._rows = 0

    def add(self, exact: Array, candidate: Array) -> None:
        error = candidate.astype(np.float64) - exact
        # A bias belongs to a channel, not to a place.
        flat = error.reshape(-1, error.shape[-1]) if error.ndim > 2 else error.reshape(1, -1)
        self._squares.append(float(np.square(error).sum()))
        self._signal += float(np.square(exact, dtype=np.float64).sum())
        self._sums = self._sums + flat.sum(axis=0)
        self._rows += len(flat)

    def by_sample(self) -> Array:
        squares, count = np.asarray(self._squares), len(self._squares)
        if self._signal == 0 or count == 0:
            return np.zeros(count)
        mean = 0.0 if self._keep_mean else float(np.square(self._sums).sum()) / self._rows / count
        return np.maximum(squares - mean, 0) * (count / self._signal)


class _Logits:
    """The input of a softmax."""

    def __init__(self, keep_mean: bool) -> None:
        self._keep_mean = keep_mean
        self._exact: list[Array] = []
        self._candidate: list[Array] = []

    def add(self, exact: Array, candidate: Array) -> None:
        self._exact.append(exact.reshape(-1, exact.shape[-1]))
        self._candidate.append(candidate.reshape(-1, candidate.shape[-1]))

    def by_sample(self) -> Array:
        count = len(self._exact)
        exact = np.concatenate(self._exact).astype(np.float64)
        candidate = np.concatenate(self._candidate).astype(np.float64)
        if not self._keep_mean:
            candidate -= (candidate - exact).mean(axis=0)
        plain = _shares(
            exact - exact.mean(axis=1, keepdims=True), candidate - candidate.mean(axis=1, keepdims=True), count
        )
        soft = [_shares(_softmax(exact, t), _softmax(candidate, t), count) for t in _TEMPERATURES]
        return np.asarray((plain + sum(soft)) / (1 + len(soft)))


def _shares(exact: Array, candidate: Array, count: int) -> Array:
    signal = float(np.square(exact).sum())
    noise = np.square(candidate - exact).reshape(count, -1).sum(axis=1)
    return np.asarray(noise * (count / signal)) if signal else np.zeros(count)


def _softmax(logits: Array, temperature: float) -> Array:
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

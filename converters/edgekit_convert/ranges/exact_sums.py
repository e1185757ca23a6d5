"""Sums over samples that come out the same, bit for bit, whatever the order of the samples.

Adding float64 numbers is exact, and so does not depend on the order, as long as all of them are multiples of one step and the
sum is below 2**53 steps. Values are therefore rounded to multiples of 2**-34 (6e-11, far below what rounding to int8 does to
any activation) before they are added, which is exact up to sums of 2**19. Beyond that only the last bits of a float64 depend on
the order, which rounding the mean to float32 hides.
"""

from __future__ import annotations

import numpy as np

from edgekit.graph import Subgraph
from edgekit.tensors import Array
from edgekit_convert.refine.bias import layer_inputs

_STEP = 2.0**-34
#: Adding it to a float32 leaves no bit below the step (nor below the value's own last bit): 24 bits from here down.
_ROUNDING = np.float32(1.5 * 2.0**-11)
#: Values that are rounded and added while they are in the processor's cache.
_PIECE = 65536
#: Rows that are added in float32 before float64 takes over.
_ROWS = 64


class ExactSum:
    """The sum over samples of one tensor, or of its mean over all places.

    Args:
        channels: where not ``None`` and the tensor's last size is this, the mean over all other axes is summed.
    """

    def __init__(self, channels: int | None) -> None:
        self._channels = channels
        self._scratch = np.empty(_PIECE, np.float32)
        self._shape: tuple[int, ...] | None = None
        self._total: Array | None = None
        self._uneven = False

    def add(self, values: Array) -> None:
        """Add one sample's values: contiguous float32, all finite."""
        if self._total is None:
            self._shape = values.shape
            self._total = np.zeros(_summed_shape(values.shape, self._channels))
        if self._shape != values.shape:
            self._uneven = True
        elif self._total.shape != values.shape:
            places = values.size // self._total.size
            self._total += _rounded(_over_places(values.reshape(places, -1)) / places).reshape(self._total.shape)
        else:
            self._add_all(values.reshape(-1), self._total.reshape(-1))

    def _add_all(self, values: Array, total: Array) -> None:
        for start in range(0, len(values), _PIECE):
            piece = values[start : start + _PIECE]
            rounded = np.add(piece, _ROUNDING, out=self._scratch[: len(piece)])
            rounded -= _ROUNDING
            total[start : start + _PIECE] += rounded

    def total(self) -> Array | None:
        """The sum in float64; ``None`` before the first sample and where the samples differ in shape."""
        return None if self._uneven else self._total


def _summed_shape(shape: tuple[int, ...], channels: int | None) -> tuple[int, ...]:
    if channels is None or not shape or shape[-1] != channels or 0 in shape:
        return shape
    return (*(1 for _ in shape[:-1]), channels)


def _over_places(values: Array) -> Array:
    """The sum of the rows of a matrix in float64; most of it is added in float32, which is several times as fast."""
    whole = len(values) - len(values) % _ROWS
    rows = values[:whole].reshape(_ROWS, -1).sum(axis=0) if whole else values[:0]
    return np.asarray(
        rows.reshape(-1, values.shape[1]).sum(axis=0, dtype=np.float64) + values[whole:].sum(axis=0, dtype=np.float64)
    )


def _rounded(values: Array) -> Array:
    return np.asarray(np.rint(values / _STEP) * _STEP)


def sums_for(main: Subgraph) -> dict[int, ExactSum]:
    """An empty sum for each float tensor that feeds a layer with weights and a bias, by tensor index.

    Where all layers that read it look at one place at a time, the mean over the places says the same as the whole image.
    """
    return {index: ExactSum(_pointwise_channels(main, index)) for index in layer_inputs(main)}


def _pointwise_channels(main: Subgraph, index: int) -> int | None:
    """How many channels the layers that read a tensor take, where all of them take one place at a time and as many."""
    found = set()
    for op in main.ops:
        if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") or op.inputs[0] != index:
            continue
        shape = main.tensors[op.inputs[1]].shape
        if op.name != "FULLY_CONNECTED" and (
            len(shape) != 4 or shape[1:3] != (1, 1) or (op.option(1, "i", 1), op.option(2, "i", 1)) != (1, 1)
        ):
            return None
        found.add(shape[-1] if shape else 0)
    return found.pop() if len(found) == 1 else None


def added(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """Add the sums of several parts of the data; a tensor that some part lacks or has in another shape is left out.

    Args:
        parts: by tensor name.
    """
    if not parts:
        return {}
    return {
        name: np.asarray(sum(part[name] for part in parts[1:]) + parts[0][name])
        for name in parts[0]
        if all(name in part and part[name].shape == parts[0][name].shape for part in parts)
    }

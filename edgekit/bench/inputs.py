"""Valid random inputs: any value is one that the model could be given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.tensors import Array, TensorSpec


def random_inputs(specs: Sequence[TensorSpec], seed: int = 0) -> dict[str, Array]:
    """One array for each input, in the file's own type.

    Quantised inputs use every integer of their type, which is exactly the range of real values that the file can
    hold. Floats are uniform in -1..1. Integers without scale are most often indices into something whose size is not
    known, so they are 0 or 1.

    Args:
        specs: the inputs; an open size becomes 1.
        seed: the same seed gives the same arrays.

    Returns:
        Arrays by input name.
    """
    random = np.random.default_rng(seed)
    return {spec.name: _values(spec, random) for spec in specs}


def _values(spec: TensorSpec, random: np.random.Generator) -> Array:
    shape = tuple(1 if size == -1 else size for size in spec.shape)
    kind = np.dtype(spec.dtype)
    if kind.kind in "iu" and spec.quant is not None:
        limits = np.iinfo(kind)
        return random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    if kind.kind in "iub":
        return random.integers(0, 2, shape).astype(kind)
    return random.uniform(-1, 1, shape).astype(kind)

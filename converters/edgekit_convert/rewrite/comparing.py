"""Whether two float models give the same outputs, by running both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import Array


def outputs(content: bytes, samples: Sequence[dict[str, Array]], spec: DelegateSpec | None = None) -> list[Array]:
    """Every output for every sample, one after the other.

    Args:
        content: the model.
        samples: inputs by name.
        spec: the delegate; ``None`` for the interpreter's own kernels.
    """
    collected = []
    choice = DelegateChoice(spec or DelegateSpec("none", 1), "comparing rewrites")
    with Session(ModelFile.read(content), choice) as session:
        for sample in samples:
            result = session.run(sample)
            collected += list(result.values()) if isinstance(result, dict) else [result]
    return collected


def difference(expected: Sequence[Array], actual: Sequence[Array]) -> float:
    """The largest difference of an output, relative to its largest value; infinite where the shapes differ."""
    worst = 0.0
    for a, b in zip(expected, actual, strict=True):
        if a.shape != b.shape:
            return float("inf")
        size = float(np.abs(a).max(initial=0)) or 1.0
        worst = max(worst, float(np.abs(a.astype(np.float64) - b).max(initial=0)) / size)
    return worst

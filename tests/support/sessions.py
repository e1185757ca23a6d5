"""What tests of sessions share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit import Session
from edgekit.tensors import Array

#: The fixture ``load``: ``edgekit.load`` on the engine under test.
Load = Callable[..., Session]


def values(seed: int, *shape: int) -> Array:
    """Real numbers between -1.5 and 1.5."""
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape).astype(np.float32)

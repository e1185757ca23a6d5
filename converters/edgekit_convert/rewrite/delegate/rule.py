"""``DelegateRule``: a respelling of operators, and when it is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekit_convert.rewrite.delegate.draft import Draft, Match

#: Largest difference of a float output, relative to its largest value, that counts as equivalent.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class DelegateRule:
    """A rewrite that makes operators into ones that the delegate takes in int8.

    Attributes:
        name: a short name that stays the same between versions.
        text: what it does and what for.
        find: the places where it applies; places of one call have no operator in common.
        strict: whether it is only for the recipe int8: where operators may be left in float, they are faster as they are.
        simplifies: whether it is tried wherever it matches; else only where the delegate leaves one of its operators outside.
        whole: whether it is tried even on a model that the delegate takes whole.
        one_sample: whether it holds for one sample in a run only: it is left out of a file that takes several.
        tolerance: see ``TOLERANCE``.
    """

    name: str
    text: str
    find: Callable[[Draft], list[Match]]
    strict: bool = False
    simplifies: bool = False
    whole: bool = False
    one_sample: bool = False
    tolerance: float = TOLERANCE

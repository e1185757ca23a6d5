"""``Seen``: what every pattern of the lint is given."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgekit.graph import Graph
from edgekit_convert.graph.wiring import Wiring

#: How many different values an int8 tensor has.
STEPS = 256
Span = tuple[float, float]


class Seen:
    """A float graph and what the calibration data make of it.

    Attributes:
        graph: the float model.
        wiring: the same, to be walked.
        ranges: lowest and highest value by tensor name, zero inside, or ``None`` without data.
        extremes: the same without zero added, or ``None`` where that is not known.
        int8_operators: names of the operators that have an int8 form.
        rules_ran: whether the rewrite rules were applied to this graph, so that none will mend what is left.
    """

    def __init__(
        self,
        graph: Graph,
        ranges: Mapping[str, Span] | None,
        extremes: Mapping[str, Span] | None,
        int8_operators: frozenset[str],
        rules_ran: bool,
    ) -> None:
        self.graph = graph
        self.wiring = Wiring(graph)
        self.ranges = ranges if ranges is not None or extremes is None else extremes
        self.extremes = extremes
        self.int8_operators = int8_operators
        self.rules_ran = rules_ran

    def span(self, index: int) -> Span | None:
        """A tensor's lowest and highest value with zero inside, as an int8 scale must cover it; ``None`` if not known."""
        values = self.wiring.constant(index)
        if values is not None:
            found: Span | None = (float(values.min()), float(values.max())) if values.size else None
        else:
            found = self.ranges.get(self.wiring.tensor(index).name) if self.ranges is not None and index >= 0 else None
        if found is None or not all(map(math.isfinite, found)):
            return None
        return min(found[0], 0.0), max(found[1], 0.0)

    def extent(self, index: int) -> Span | None:
        """A tensor's true lowest and highest value, NaN or infinite ones as they are; ``None`` if not known."""
        if self.extremes is None or index < 0:
            return None
        return self.extremes.get(self.wiring.tensor(index).name)

    def mends(self, rule: str) -> str | None:
        """The rule's name, unless it had its chance already."""
        return None if self.rules_ran else rule


def words(span: Span) -> str:
    """A range in words."""
    low, high = f"{span[0]:.4g}", f"{span[1]:.4g}"
    return f"{low} to {high}" if low != high else f"{span[0]:.8g} to {span[1]:.8g}"


def steps(part: Span, whole: Span) -> float:
    """How many of the whole's int8 steps fall into a part."""
    width = whole[1] - whole[0]
    return STEPS * (part[1] - part[0]) / width if width > 0 else float(np.inf)


def steps_left(count: float) -> str:
    """That number in words."""
    return f"less than 1 of {STEPS} steps" if count < 1 else f"{count:.0f} of {STEPS} steps"

"""The lint: what in a float graph will hurt in int8, and the fix, before anything is quantised.

One pattern per file. A pattern that a rewrite rule mends is found by that rule's own search.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from edgekit.graph import Graph
from edgekit_convert.lint import concat, constants, kernels, normalisation, padding, softmax, wide, zero
from edgekit_convert.lint.finding import LintFinding as LintFinding
from edgekit_convert.lint.seen import Seen, Span

if TYPE_CHECKING:
    from edgekit_convert.ranges import Statistics

_PATTERNS = (kernels, concat, padding, softmax, normalisation, wide, zero, constants)


def lint(
    graph: Graph,
    statistics: Statistics | None,
    int8_operators: frozenset[str],
    *,
    extremes: Mapping[str, Span] | None = None,
    rules_ran: bool = False,
) -> tuple[LintFinding, ...]:
    """Look for what int8 does not take well.

    Args:
        graph: the float model.
        statistics: what was measured on it, or ``None``: then only what the structure tells is found.
        int8_operators: names of the operators that have an int8 form.
        extremes: lowest and highest value by tensor name without zero added: for ranges that exclude zero, divisors near
            zero and inputs that never change.
        rules_ran: whether the rewrite rules were applied to this graph already, so that none will mend what is left.

    Returns:
        The findings, warnings first.
    """
    seen = Seen(graph, statistics.ranges if statistics is not None else None, extremes, int8_operators, rules_ran)
    found = chain.from_iterable(pattern.find(seen) for pattern in _PATTERNS)
    return tuple(sorted(found, key=lambda item: item.level != "warning"))

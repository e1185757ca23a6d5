"""Second stage: the float graph as int8 and the delegate like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit_convert.calibration import Finding
from edgekit_convert.edgetpu.respell import RULES as EDGETPU_RULES
from edgekit_convert.options import Progress, Recipe, Target
from edgekit_convert.rewrite import Rewritten, rewrite
from edgekit_convert.rewrite.delegate import DelegateRewritten, in_one_line, rewrite_for_delegate
from edgekit_convert.stages.preparing import Prepared


@dataclass(frozen=True)
class RewrittenGraph:
    """The float graph that is quantised.

    Attributes:
        model: its flatbuffer.
        rules: what was tried for accuracy.
        for_delegate: what was tried for the delegate.
        findings: what was done.
    """

    model: bytes
    rules: tuple[Rewritten, ...]
    for_delegate: tuple[DelegateRewritten, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "rewrites": {item.rule.name: item.count for item in self.rules if item.kept},
            **({"delegate_rewrites": [item.to_json() for item in self.for_delegate]} if self.for_delegate else {}),
        }


def rewrite_graph(prepared: Prepared, recipe: Recipe, target: Target, tell: Progress) -> RewrittenGraph:
    """Apply the rules: first those for accuracy, then those for the target's delegate.

    Args:
        prepared: the pivot and its data.
        recipe: what it will be quantised to.
        target: what the file is to run on.
        tell: called as ``tell(step, done, total)``.
    """
    tell("Rewriting the graph", 0, 0)
    model, rules = rewrite(prepared.float_model, prepared.data)
    rules = (*prepared.rewritten, *rules)
    if recipe.delegate_rules and target.edgetpu:
        model, more = rewrite(model, prepared.data, EDGETPU_RULES)
        rules = (*rules, *more)
    findings = [_finding(item) for item in rules]
    respelled: tuple[DelegateRewritten, ...] = ()
    if recipe.delegate_rules and target.has_xnnpack:
        model, respelled = rewrite_for_delegate(
            model,
            prepared.data,
            recipe=recipe.name,
            io=recipe.io,
            spec=prepared.spec,
            ranges=None,
            costs=prepared.costs,
            progress=tell,
            several=prepared.batch is not None,
        )
        line = in_one_line(respelled)
        findings += [Finding("note", "delegate-rewrite", f"{line}.")] if line is not None else []
    return RewrittenGraph(model, rules, respelled, tuple(findings))


def _finding(item: Rewritten) -> Finding:
    times = "once" if item.count == 1 else f"{item.count} times"
    if item.kept:
        equal = f"differ by at most {item.difference:.0e}" if item.difference else "are identical"
        return Finding("note", "rewrite", f"{item.rule.text} ({times}; the float outputs {equal}).")
    return Finding(
        "note", "rewrite", f"rule {item.rule.name!r} not applied: it would change an output by {item.difference:.1e}."
    )

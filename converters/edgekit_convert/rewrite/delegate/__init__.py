"""Rewrites of the float graph for the delegate: operators that it leaves outside in int8, respelled as ones that it takes.

Each rule is an equivalence, one per file. It is applied where the delegate, asked through the runtime itself, leaves one of the
operators outside, and kept only where the float outputs stay the same, fewer operators are outside or a run is faster by at least
5 %, and the int8 accuracy does not suffer. ``docs/rewrites.md`` has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

from edgekit.errors import ConversionError, EngineError, ModelFileError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.tensors import Array
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.calibration import CalibrationSet, Finding
from edgekit_convert.ranges import Ranges
from edgekit_convert.rewrite.comparing import difference, outputs
from edgekit_convert.rewrite.delegate.draft import Draft, applied
from edgekit_convert.rewrite.delegate.forms import Form, Forms
from edgekit_convert.rewrite.delegate.rule import DelegateRule
from edgekit_convert.rewrite.delegate.rules import RULES

_SAMPLES = 8
_STEP = "Rewriting for the delegate"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DelegateRewritten:
    """A rule that was tried.

    Attributes:
        rule: which.
        count: how often it matched.
        difference: largest difference of a float output, relative to its largest value; ``None`` where it was not come to that.
        kept: whether the graph was changed.
        reason: why not, where it was not.
        outside: operators that the delegate leaves outside, before and after; ``None`` where there is no after.
        latency_ns: one run of the int8 model with quick ranges, before and after; ``None`` where it was not measured.
        sqnr_db: likewise its SQNR against the float model on a few samples.
        beside: names of the other rules that were applied in the same step, to which the figures belong as well.
    """

    rule: DelegateRule
    count: int
    difference: float | None
    kept: bool
    reason: str
    outside: tuple[int, int | None]
    latency_ns: tuple[float | None, float | None] = (None, None)
    sqnr_db: tuple[float | None, float | None] = (None, None)
    beside: tuple[str, ...] = ()

    def finding(self) -> Finding:
        """As the conversion reports it, one line: what was rewritten, and what that gained."""
        times = "once" if self.count == 1 else f"{self.count} times"
        if not self.kept:
            return Finding("note", "delegate-rewrite", f"rule {self.rule.name!r} ({times}) not applied: {self.reason}.")
        gains = [f"with {', '.join(self.beside)}"] if self.beside else []
        if self.outside[0] != self.outside[1]:
            gains.append(f"operators outside the delegate {self.outside[0]} to {self.outside[1]}")
        before, after = self.latency_ns
        if before is not None and after is not None:
            gains.append(f"{before / 1e6:.3g} to {after / 1e6:.3g} ms")
        equal = f"differ by at most {self.difference:.0e}" if self.difference else "are identical"
        return Finding(
            "note", "delegate-rewrite", f"{self.rule.text} ({times}): {', '.join(gains)}; the float outputs {equal}."
        )

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {"name": self.rule.name, "count": self.count, "kept": self.kept, "outside": list(self.outside)}


def rewrite_for_delegate(
    float_model: bytes,
    data: CalibrationSet,
    *,
    recipe: str,
    io: str,
    spec: DelegateSpec,
    ranges: Callable[[bytes], Ranges] | None,
    costs: CostTable,
    progress: Progress,
    several: bool = False,
) -> tuple[bytes, tuple[DelegateRewritten, ...]]:
    """Respell what the delegate leaves outside in int8.

    Args:
        float_model: the pivot, all sizes fixed.
        data: representative data.
        recipe: ``auto`` or ``int8``; for others nothing is done.
        io: the type of the file's inputs and outputs.
        spec: the delegate that will run the model, or the one that stands for it here; without one nothing is done.
        ranges: measures the ranges of a float model's activations; ``None`` for the extremes of a few samples.
        costs: measured times; what it lacks is measured, unless it is another machine's.
        progress: called with the step, rules done and rules in all.
        several: whether the file will take several samples in a run as well.

    Returns:
        The rewritten pivot, the same object where no rule was kept, and what each rule that matched did.
    """
    known = [rule for rule in RULES if not (several and rule.one_sample)]
    rules = [rule for rule in known if (rule.whole or not rule.simplifies) and (recipe == "int8" or not rule.strict)]
    alone = len(ModelFile.read(float_model).graph.subgraphs) == 1
    concerned = alone and recipe in ("auto", "int8") and spec.kind != "none"
    if not concerned or not _matches(float_model, rules):
        return float_model, ()
    progress(_STEP, 0, len(rules))
    samples = [ready.inputs for ready in islice(data, _SAMPLES)]
    try:
        expected = outputs(float_model, samples)
        forms = Forms(samples, recipe=recipe, io=io, spec=spec, ranges=ranges, costs=costs, expected=expected)
        work = _Work(float_model, samples, expected, forms, forms.make(float_model))
    except (ConversionError, EngineError):  # what comes next says what is wrong with it
        return float_model, ()
    done = 0
    for whole, group in groupby(rules, lambda rule: rule.whole):
        # What simplifies anywhere is worth the trouble together before it is alone.
        for some in [list(group)] if whole else [[rule] for rule in group]:
            work.offer(some, None if whole else work.form.wanted)
            done += len(some)
            progress(_STEP, done, len(rules))
    if any(item.kept for item in work.done):
        work.offer([rule for rule in known if rule.simplifies and not rule.whole], None)
    return work.content, tuple(work.done)


def in_one_line(done: Sequence[DelegateRewritten]) -> str | None:
    """What was rewritten and what that gained, all rules together; ``None`` where nothing was."""
    kept = [item for item in done if item.kept]
    if not kept:
        return None
    names = ", ".join(item.rule.name if item.count == 1 else f"{item.rule.name} ×{item.count}" for item in kept)
    gains = [f"{kept[0].outside[0]} to {kept[-1].outside[1]} operators outside"]
    before, after = kept[0].latency_ns[0], kept[-1].latency_ns[1]
    if before is not None and after is not None:
        gains.append(f"{before / 1e6:.3g} to {after / 1e6:.3g} ms")
    return f"rewritten for the delegate ({names}): {', '.join(gains)}"


def _matches(content: bytes, rules: Sequence[DelegateRule]) -> bool:
    """Whether any rule finds a place, wanted or not."""
    draft = Draft(content)
    return any(rule.find(draft) for rule in rules)


@dataclass
class _Work:
    """The graph as it is by now, and what was tried."""

    content: bytes
    samples: Sequence[dict[str, Array]]
    expected: Sequence[Array]
    forms: Forms
    form: Form
    done: list[DelegateRewritten] = field(default_factory=list)

    def offer(self, rules: Sequence[DelegateRule], wanted: frozenset[str] | None) -> None:
        """Apply rules together, at the wanted operators, and keep the graph if it is better; if not, try each alone."""
        content, counts = self.content, []
        for rule in rules:
            content, count = applied(content, rule.find, wanted)
            counts += [(rule, count)] if count else []
        if not counts:
            return
        outside = self.form.outside
        seen = self._difference(content)
        form = verdict = None
        if seen > min(rule.tolerance for rule, _ in counts):
            reason = f"a float output would change by {seen:.1e} of its size"
        else:
            try:
                form = self.forms.make(content)
                verdict = self.forms.compare(self.form, form)
                reason = verdict.reason
            except (ConversionError, EngineError) as error:
                reason = f"what it makes cannot be used: {error}"
        kept = verdict is not None and verdict.kept
        if not kept and len(counts) > 1:
            for rule, _ in counts:
                self.offer([rule], wanted)
            return
        for rule, count in counts:
            self.done.append(
                DelegateRewritten(
                    rule,
                    count,
                    seen,
                    kept,
                    reason,
                    (outside, form.outside if form is not None else None),
                    verdict.latency_ns if verdict is not None else (None, None),
                    verdict.sqnr_db if verdict is not None else (None, None),
                    tuple(other.name for other, _ in counts if other is not rule),
                )
            )
        if kept and form is not None:
            self.content, self.form = content, form

    def _difference(self, content: bytes) -> float:
        """The largest difference of a float output; infinite for a graph that does not run."""
        try:
            ModelFile.read(content)
            return difference(self.expected, outputs(content, self.samples))
        except (ModelFileError, EngineError):
            return float("inf")

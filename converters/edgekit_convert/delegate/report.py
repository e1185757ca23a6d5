"""``DelegateReport``: what a delegate takes of a model, and of each operator that it leaves outside why and what it costs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekit.errors import EngineError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.report.fields import Field
from edgekit.report.units import milliseconds
from edgekit.runtime.delegates import DelegateSpec, PartitionReport
from edgekit.runtime.engines import open_engine
from edgekit_convert.assign.costs import CostTable, Form, form_of
from edgekit_convert.delegate.learned import KINDS, Capabilities
from edgekit_convert.delegate.reasons import Experiments, Reason, cut_alone
from edgekit_convert.delegate.remembered import CRASHED, LEFT, REFUSED, TAKEN
from edgekit_convert.delegate.sizes import with_sizes
from edgekit_convert.graph.slices import Sliceable

Progress = Callable[[str, int, int], None]
#: How the cost of the breaks between partitions is found.
ESTIMATE = (
    "the whole model's time less that of each partition and each operator outside, measured alone; what cannot be measured "
    "alone is in it"
)


@dataclass(frozen=True)
class Outside:
    """One operator that the delegate leaves to the interpreter's own kernels.

    Attributes:
        index: its place in the main subgraph.
        name: the operator's name.
        output: the name of its first output.
        reason: why, or ``None`` where reasons cannot be found for the delegate.
        ns: nanoseconds of one run, measured as a model of its own; ``None`` where that was not measured or does not run.
        share: of the whole model's time, from 0 to 1; ``None`` likewise.
    """

    index: int
    name: str
    output: str
    reason: Reason | None
    ns: float | None = None
    share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields by name, the reason as its kind and its sentence."""
        return {
            "index": self.index,
            "name": self.name,
            "output": self.output,
            "reason": self.reason.kind if self.reason else None,
            "text": str(self.reason) if self.reason else None,
            "ns": self.ns,
            "share": self.share,
        }


@dataclass(frozen=True)
class Group:
    """Operators of one name that are outside for one kind of reason.

    Attributes:
        name: the operators' name.
        kind: the reason's kind, or ``None``.
        text: the first one's reason.
        count: how many they are.
        ns: nanoseconds of all of them that were measured; ``None`` where none was.
        share: of the whole model's time.
    """

    name: str
    kind: str | None
    text: str | None
    count: int
    ns: float | None
    share: float | None


#: What a table of groups shows.
GROUP_FIELDS: tuple[Field[Group], ...] = (
    Field("name", "operator", lambda row: row.name),
    Field("count", "times", lambda row: row.count),
    Field("ns", "costs", lambda row: row.ns, milliseconds),
    Field("share", "of the run", lambda row: row.share, lambda value: f"{100 * value:.1f} %"),
    Field("reason", "reason", lambda row: row.kind),
    Field("text", "why", lambda row: row.text and f"{row.text}."),
)


@dataclass(frozen=True)
class DelegateReport:
    """What a delegate takes of a model, and what it leaves.

    Attributes:
        partitions: what it takes, read back from the runtime.
        runtime: package and version of the runtime.
        machine: the architecture that the runtime is of.
        target: the device that the report is for, where it is not at hand; ``None`` for this machine.
        outside: the operators that it leaves, in the graph's order.
        whole_ns: nanoseconds of one run of the model; ``None`` where nothing was measured.
        breaks_ns: what passing between partitions costs, by ``ESTIMATE``, never below 0; ``None`` where nothing was measured.
        notes: what the reader should know of how this was found.
    """

    partitions: PartitionReport
    runtime: str
    machine: str | None
    target: str | None
    outside: tuple[Outside, ...]
    whole_ns: float | None = None
    breaks_ns: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def predicted(self) -> bool:
        """Whether it was learned on another machine than it is for."""
        return self.target is not None

    @property
    def outside_ns(self) -> float | None:
        """Nanoseconds of the operators outside that were measured; ``None`` where nothing was."""
        return None if self.whole_ns is None else float(sum(item.ns or 0.0 for item in self.outside))

    def groups(self) -> list[Group]:
        """Operators of one name and reason together, the most expensive first, else the most frequent."""
        found: dict[tuple[str, str | None], list[Outside]] = {}
        for item in self.outside:
            found.setdefault((item.name, item.reason.kind if item.reason else None), []).append(item)
        rows = []
        for (name, kind), items in found.items():
            times = [item.ns for item in items if item.ns is not None]
            shares = [item.share for item in items if item.share is not None]
            text = items[0].reason.text if items[0].reason else None
            total = sum(times) if times else None
            rows.append(Group(name, kind, text, len(items), total, sum(shares) if shares else None))
        return sorted(rows, key=lambda row: (-(row.ns or 0.0), -row.count, row.name))

    def summary(self) -> str:
        """One line: how much of the model the delegate takes, and what the rest and the breaks cost."""
        text = str(self.partitions)
        if self.whole_ns is not None:
            text += f"; {milliseconds(self.whole_ns)} in all"
            if self.outside_ns is not None and self.outside:
                text += f", {milliseconds(self.outside_ns)} outside"
            if self.breaks_ns is not None and self.outside and self.partitions.partitions:
                text += f", about {milliseconds(self.breaks_ns)} for the breaks between partitions"
                text += " and what cannot be measured alone" if any(item.ns is None for item in self.outside) else ""
        return f"predicted for {self.target}: {text}" if self.predicted else text

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "runtime": self.runtime,
            "machine": self.machine,
            "target": self.target,
            "predicted": self.predicted,
            "partitions": self.partitions.to_json(),
            "outside": [item.to_json() for item in self.outside],
            "whole_ns": self.whole_ns,
            "breaks_ns": self.breaks_ns,
            "breaks_estimate": ESTIMATE if self.breaks_ns is not None else None,
            "notes": list(self.notes),
        }


def delegate_report(
    model: ModelFile,
    spec: DelegateSpec,
    *,
    costs: CostTable | None = None,
    measure: bool = False,
    learned: Capabilities | None = None,
    target: str | None = None,
    progress: Progress = lambda step, done, total: None,
) -> DelegateReport:
    """Find out what a delegate takes of a model, why it leaves the rest, and what that costs.

    Args:
        model: any model that loads.
        spec: the delegate and threads.
        costs: times that are known already, which is added to; ``None`` for a new table.
        measure: whether to measure what the operators outside and the partitions take here: seconds.
        learned: the runtime that is asked; ``None`` for the one of this process.
        target: the device that the report is for, where it is not at hand: the report is a prediction then.
        progress: called as ``progress(step, done, total)``.

    Raises:
        EngineError: the runtime does not load the model under the delegate; the message names the operators that it refuses.
        DelegateError: the delegate cannot be loaded.
        ConversionError: ai-edge-litert, which takes models apart, is not installed.
        OptionError: times were asked for of another runtime than the one of this process.
    """
    elsewhere = learned is not None and learned.python is not None
    if measure and elsewhere:
        raise OptionError(
            "times are measured with the interpreter of this process, and another Python's was asked for."
        )
    notes: list[str] = []
    if spec.kind in KINDS:
        learned = learned or Capabilities(spec.kind)
    partitions, runtime = _partitions(model, spec, learned if elsewhere else None)
    content, note = with_sizes(model)
    notes += [note] if note is not None else []
    whole = Sliceable(content)
    main = model.graph.main
    reasons: dict[int, Reason] = {}
    if learned is None:
        notes.append(
            f"why the delegate {spec.kind} leaves an operator outside cannot be tried: {', '.join(KINDS)} can."
        )
    elif spec.kind != "none":
        step = "Trying the operators outside"
        experiments = Experiments(
            whole, learned, target=target, progress=lambda done, total: progress(step, done, total)
        )
        reasons = experiments.reasons(partitions.outside)
    ns: dict[int, float | None] = {}
    whole_ns = breaks_ns = None
    if measure:
        table = costs if costs is not None else CostTable(spec)
        # What does not load alone may bring this process down.
        alone = [index for index in partitions.outside if index not in reasons or reasons[index].kind != "untried"]
        whole_ns, ns, parts = _measured(model, whole, partitions, alone, table, progress)
        if whole_ns is not None:
            breaks_ns = max(0.0, whole_ns - sum(item or 0.0 for item in [*ns.values(), *parts]))
        unknown = sum(1 for index in partitions.outside if ns.get(index) is None)
        if unknown:
            notes.append(
                f"{unknown} of the operators outside cannot be measured alone; their time is counted with the breaks."
            )
    outside = tuple(
        Outside(
            index,
            main.ops[index].name,
            main.tensors[main.ops[index].outputs[0]].name if main.ops[index].outputs else "",
            reasons.get(index),
            time := ns.get(index),
            None if time is None or not whole_ns else time / whole_ns,
        )
        for index in partitions.outside
    )
    machine = learned.machine if learned is not None else None
    return DelegateReport(partitions, runtime, machine, target, outside, whole_ns, breaks_ns, tuple(notes))


def _partitions(model: ModelFile, spec: DelegateSpec, elsewhere: Capabilities | None) -> tuple[PartitionReport, str]:
    """What the delegate takes, and the runtime that says so."""
    names = tuple(op.name for op in model.graph.main.ops)
    if elsewhere is None:
        try:
            engine = open_engine(model, spec)
        except EngineError as error:
            raise EngineError(f"{error}{_refusing(model, spec, None)}") from error
        try:
            return engine.partitions(), engine.version
        finally:
            engine.close()
    answer = elsewhere.load([model.content])[0]
    if answer.outcome not in (TAKEN, LEFT):
        because = _refusing(model, spec, elsewhere.python)
        raise EngineError(f"{elsewhere.runtime} does not load {model.name}: {answer.text.rstrip('.')}.{because}")
    taken = {index for part in answer.parts for index in part}
    outside = tuple(index for index in range(len(names)) if index not in taken)
    return PartitionReport(elsewhere.kind, answer.parts, outside, names), elsewhere.runtime


def _refusing(model: ModelFile, spec: DelegateSpec, python: str | None) -> str:
    """Which operators keep a model from loading, and why, as sentences behind another; empty where none does alone."""
    if spec.kind not in KINDS:
        return ""
    plain = Capabilities("none", python=python)
    if plain.load([model.content])[0].outcome in (REFUSED, CRASHED):
        return ""  # it is not the delegate that refuses
    learned, whole = Capabilities(spec.kind, python=python), Sliceable(model.content)
    alone = {op.index: cut_alone(whole, op) for op in whole.main.ops}
    forms = {index: content for index, content in alone.items() if content is not None}
    answers = learned.learn(list(forms.values()))
    refused = [index for index, answer in zip(forms, answers, strict=True) if answer.outcome in (REFUSED, CRASHED)]
    if not refused:
        return ""
    reasons = Experiments(whole, learned).reasons(refused)
    # What does not load for want of what stands around it says nothing of the whole.
    telling = [index for index in refused if reasons[index].kind != "untried"] or refused
    main = whole.main
    first = telling[0]
    more = f" So are {len(telling) - 1} more." if len(telling) > 1 else ""
    return f" Refused is {main.tensors[main.ops[first].outputs[0]].name!r}: {reasons[first]}{more}"


def _measured(
    model: ModelFile,
    whole: Sliceable,
    partitions: PartitionReport,
    alone: Sequence[int],
    table: CostTable,
    progress: Progress,
) -> tuple[float | None, dict[int, float | None], list[float | None]]:
    """Nanoseconds of the whole model, of each operator outside that can be measured alone, and of each partition."""
    outside: dict[int, Form] = {}
    for index in alone:
        content = cut_alone(whole, whole.main.ops[index])
        if content is not None:
            outside[index] = replace(form_of(whole, whole.main.ops[index]), content=content)
    parts = [_part(whole, part) for part in partitions.partitions]
    everything = _named("model", model.content)
    wanted: list[Sequence[Form]] = [[everything, *parts], *([form] for form in outside.values())]
    table.measure(wanted, lambda done, total: progress("Measuring", done, total))
    times = {index: table.ns(form.key) for index, form in outside.items()}
    return table.ns(everything.key), times, [table.ns(form.key) for form in parts]


def _part(whole: Sliceable, part: Sequence[int]) -> Form:
    """A partition as a model of its own; its outputs are what anything outside of it reads."""
    main, inside = whole.main, set(part)
    read = {index for op in main.ops if op.index not in inside for index in op.inputs} | set(main.outputs)
    results = [index for number in part for index in main.ops[number].outputs if index in read]
    return _named("partition", whole.cut(part, results).content)


def _named(what: str, content: bytes) -> Form:
    return Form(f"{what} {hashlib.sha256(content).hexdigest()[:16]}", content)

"""``Plan``: of each delegate whether it can run a model here, how much of it, how fast, and which one is picked.

What the resolver decides from files alone is tried here: the CPU's delegates are opened, the GPU and the Edge TPU in processes
of their own, and with ``measure`` all that work are timed in turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec, PartitionReport, Rejected
from edgekit.runtime.fallback import BUILT_IN
from edgekit_profiles.measurements import Measurement, Timed, remember
from edgekit_profiles.profile import DelegateRule
from edgekit_profiles.resolver import UNTRUSTED, Target, blocked, choose_for, measured_here
from edgekit_profiles.trying import Seen, Share, share_elsewhere, share_of, static_share, try_delegate

Progress = Callable[[str, int, int], None]


class Expected(Record):
    """A time that was not measured now.

    Attributes:
        ns: nanoseconds of one run.
        by: how it is known.
    """

    ns: float
    by: str


class Considered(Record):
    """One delegate in a plan.

    Attributes:
        kind: which.
        available: whether it can be used, as far as it was tried.
        reason: why it cannot be used, why it was not picked, or why it was.
        picked: whether it is the one.
        tried: whether it was loaded with the model for this plan.
        share: how much of the model it takes; ``None`` where nothing is known.
        expected: the time of a run that is known from before; ``None`` where none is: it is never invented.
        timed: what was measured for this plan; ``None`` where nothing was.
        partitions: what it took, read back; ``None`` where it was not loaded or the engine does not tell.
        engine: what loaded it.
        notes: what else was seen when it was tried.
        limits: what the device's profile says that it does not do there.
    """

    kind: str
    available: bool
    reason: str
    picked: bool
    tried: bool
    share: Share | None
    expected: Expected | None
    timed: Timed | None
    partitions: PartitionReport | None
    engine: str | None
    notes: tuple[str, ...]
    limits: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields by name; times in nanoseconds."""
        return {
            "delegate": self.kind,
            "available": self.available,
            "reason": self.reason,
            "picked": self.picked,
            "tried": self.tried,
            "operator_share": self.share.operators if self.share is not None else None,
            "mac_share": self.share.macs if self.share is not None else None,
            "share_by": self.share.by if self.share is not None else None,
            "predicted_ns": self.expected.ns if self.expected is not None else None,
            "predicted_by": self.expected.by if self.expected is not None else None,
            "measured": self.timed.to_json() if self.timed is not None else None,
            "partitions": self.partitions.to_json() if self.partitions is not None else None,
            "engine": self.engine,
            "notes": list(self.notes),
            "limits": list(self.limits),
        }


class Plan(Record):
    """Which delegate runs a model on a machine, and all that is known of each.

    Attributes:
        model: the model's name.
        model_sha256: of the model.
        target: the machine.
        choice: the pick, its reason and the others'.
        delegates: each delegate, in the order that they are considered.
        measured: whether they were measured for this plan.
        required: the delegate that had to be the pick, or ``None``.
        unmet: why it is not, as a sentence; ``None`` where it is or nothing was required.
        problem: why the pick was not loaded with the model; ``None`` where it was.
    """

    model: str
    model_sha256: str
    target: Target
    choice: DelegateChoice
    delegates: tuple[Considered, ...]
    measured: bool
    required: str | None
    unmet: str | None
    problem: str | None

    @property
    def pick(self) -> Considered:
        """The delegate that was picked."""
        return next(item for item in self.delegates if item.picked)

    @property
    def failed(self) -> bool:
        """Whether the target is this machine and cannot run the model, or what was required is not to be had."""
        return self.unmet is not None or (self.target.here and self.problem is not None)

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        profile, spec = self.target.profile, self.choice.spec
        return {
            "model": self.model,
            "model_sha256": self.model_sha256,
            "device": {
                "id": self.choice.profile_id,
                "name": profile.name if profile is not None else None,
                "is_this_machine": self.target.here,
                "reason": self.target.reason,
                "attached": [item.id for item in self.target.attached],
            },
            "pick": {
                "delegate": spec.kind,
                "threads": spec.threads,
                "options": dict(spec.options),
                "reason": self.choice.reason,
            },
            "required": self.required,
            "unmet": self.unmet,
            "delegates": [item.to_json() for item in self.delegates],
            "rejected": [{"delegate": item.kind, "reason": item.reason} for item in self.choice.rejected],
            "engine": self.pick.engine,
            "partitions": self.pick.partitions.to_json() if self.pick.partitions is not None else None,
            "mac_share": self.pick.share.macs if self.pick.share is not None else None,
            "problem": self.problem,
        }


def make_plan(
    model: ModelFile,
    target: Target,
    *,
    threads: int | None = None,
    measure: bool = False,
    require: str | None = None,
    share: Callable[[str], Share | None] = lambda kind: None,
    expect: Callable[[DelegateSpec], Expected | None] = lambda spec: None,
    progress: Progress = lambda step, done, total: None,
) -> Plan:
    """Find out which delegate should run a model.

    Args:
        model: the model.
        target: the machine.
        threads: CPU threads, or ``None`` for the profile's number.
        measure: whether to time what works: about ten seconds and more for slow models; the times are remembered, and
            ``edgekit.load`` follows them from then on.
        require: the delegate that must be the pick and take the whole model.
        share: predicts how much of the model a delegate would take that cannot be asked.
        expect: predicts a run's time on a delegate, where there is something to predict it from.
        progress: called as ``progress(step, done, total)``.

    Raises:
        DelegateError: ``require`` is unknown, or the number of threads is out of range.
    """
    if require is not None:
        DelegateSpec(require)  # knows which there are
    before = measured_here(target, model)
    first = choose_for(target, model, threads, measured=before)
    rules = {rule.kind: rule for rule in target.rules}
    static = blocked(target, model, None, None)
    specs = {
        kind: DelegateSpec(kind, first.spec.threads, rules[kind].options if kind in rules else {}) for kind in static
    }
    seen: dict[str, Seen] = {}
    for kind, reasons in static.items():
        seen[kind] = Seen()
        if not reasons and not target.here and kind in BUILT_IN:
            seen[kind].share = share_elsewhere(model, specs[kind])
        if reasons or not target.here:
            continue
        if kind in BUILT_IN or measure or require == kind:
            progress(f"Trying {kind}", 0, 0)
            try_delegate(model, specs[kind], seen[kind])
    measurement: Measurement | None = None
    if measure and target.here:
        measurement = _measure(model, target, specs, seen, progress)
    more = {kind: item.error for kind, item in seen.items() if item.error is not None}
    if target.here:
        from edgekit.runtime.npu import find_npu, npu_reason

        more["npu"] = npu_reason(find_npu(target.host)).rstrip(".")
    choice = choose_for(target, model, threads, measured=measurement or before, more=more)
    in_the_way = blocked(target, model, measurement or before, more)
    unmet = None
    if require is not None:
        unmet = _unmet(require, target, in_the_way[require], seen[require], static_share(require, model))
        if unmet is None:
            choice = _required(choice, specs[require])
    reasons_by_kind = {item.kind: item.reason for item in choice.rejected}
    rows = []
    for kind, item in seen.items():
        picked = kind == choice.spec.kind
        known = _expected(before, specs[kind]) or (expect(specs[kind]) if target.here else None)
        rows.append(
            Considered(
                kind=kind,
                available=not in_the_way[kind],
                reason=choice.reason if picked else reasons_by_kind[kind],
                picked=picked,
                tried=item.tried,
                share=item.share or static_share(kind, model) or share(kind),
                expected=known,
                timed=item.timed,
                partitions=item.partitions,
                engine=item.engine,
                notes=tuple(item.notes),
                limits=_limits(rules.get(kind)),
            )
        )
    pick = seen[choice.spec.kind]
    problem = pick.error if target.here else f"this machine is not {target.name}"
    if target.here and problem is None and not pick.tried and in_the_way[choice.spec.kind]:
        problem = "; ".join(in_the_way[choice.spec.kind])
    return Plan(model.name, model.sha256, target, choice, tuple(rows), measurement is not None, require, unmet, problem)


def _measure(
    model: ModelFile, target: Target, specs: dict[str, DelegateSpec], seen: dict[str, Seen], progress: Progress
) -> Measurement:
    """Time every delegate that was loaded, and remember the times."""
    from edgekit_profiles.measure import measure

    work = [_without_check(specs[kind]) for kind, item in seen.items() if item.tried and item.error is None]
    refused = {kind: item.error for kind, item in seen.items() if item.error is not None and kind in UNTRUSTED}
    measurement, trials = measure(model, work, refused=refused, progress=progress)
    for trial in trials:
        item = seen[trial.spec.kind]
        if trial.error is not None:
            item.error = trial.error
            continue
        item.timed, item.engine = trial.timed, trial.engine
        if item.partitions is None and trial.partitions is not None:
            item.partitions = trial.partitions
            item.share = item.share or share_of(model, trial.partitions)._replace(by=f"read back from {trial.engine}")
    remember(model, target.host, measurement)
    return measurement


def _expected(before: Measurement | None, spec: DelegateSpec) -> Expected | None:
    found = before.of(spec.kind, spec.threads or 1) if before is not None else None
    if before is None or found is None:
        return None
    threads = f"{found.threads} thread{'' if found.threads == 1 else 's'}"
    return Expected(found.ns, f"measured here on {before.when} with {found.engine}, {threads}")


def _limits(rule: DelegateRule | None) -> tuple[str, ...]:
    return rule.limits if rule is not None else ()


def _unmet(require: str, target: Target, in_the_way: list[str], seen: Seen, compiled: Share | None) -> str | None:
    """Why a required delegate cannot be the pick, or does not take the whole model; ``None`` when it does."""
    if in_the_way:
        return f"{require} was required and cannot be used: {'; '.join(in_the_way)}."
    if not target.here:
        if require in BUILT_IN:
            return None
        return f"{require} was required, and this machine is not {target.name}: whether it works is known there only."
    if seen.partitions is not None and seen.partitions.outside and require != "none":
        return f"{require} was required to take the whole model, and takes {seen.partitions}."
    if compiled is not None and compiled.operators is not None and compiled.operators < 1:
        return f"{require} was required to take the whole model, and its compiler left operators to the CPU."
    if seen.partial:
        return f"{require} was required to take the whole model, and takes a part of it: {'; '.join(seen.notes)}."
    return None


def _required(choice: DelegateChoice, spec: DelegateSpec) -> DelegateChoice:
    """The choice with the required delegate as the pick."""
    if choice.spec.kind == spec.kind:
        return choice._replace(reason=f"required; {choice.reason}")
    reasons = {choice.spec.kind: f"{spec.kind} was required. {choice.reason}"}
    rejected = tuple(item for item in choice.rejected if item.kind != spec.kind)
    first = Rejected(choice.spec.kind, reasons[choice.spec.kind])
    why = next((item.reason for item in choice.rejected if item.kind == spec.kind), "")
    return DelegateChoice(spec, f"required; {why}", (first, *rejected), choice.profile_id)


def _without_check(spec: DelegateSpec) -> DelegateSpec:
    """The GPU was tried a moment ago: once more in each process would take longer than what is measured."""
    return spec._replace(options={**spec.options, "check": "off"}) if spec.kind == "gpu" else spec

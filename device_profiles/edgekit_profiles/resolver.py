"""Profile + machine + model → ``DelegateChoice``: which delegate runs the model, and why each other one does not.

This is on the way of every ``edgekit.load`` without a named delegate. It looks at files, at the model's list of operators and
at what ``edgekit plan --measure`` found here before; no interpreter is opened and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.host import HostFacts, read_host
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime.delegates import KINDS, DelegateChoice, DelegateSpec, Rejected
from edgekit_profiles.detect import Candidate, detect, fit
from edgekit_profiles.loader import load_profile
from edgekit_profiles.measurements import Measurement, recall
from edgekit_profiles.obstacles import COMPILED, is_edgetpu_model, obstacles
from edgekit_profiles.profile import DelegateRule, DeviceProfile

_NO_PROFILE = "edgekit's own rules, since no device profile fits this machine"
#: What is considered, in order, where no profile fits.
_FALLBACK_RULES: tuple[DelegateRule, ...] = (
    DelegateRule("edgetpu", ("edgetpu-model", "edgetpu-library", "edgetpu-device"), (), _NO_PROFILE),
    DelegateRule("xnnpack", (), (), _NO_PROFILE),
    DelegateRule("gpu", ("vulkan-driver",), (), _NO_PROFILE),
    DelegateRule("none", (), (), _NO_PROFILE),
)
#: A delegate that is faster by less than this is not faster: two measurements of the same differ by as much.
GAIN = 0.05
#: Delegates whose driver may crash, hang or compute wrongly: tried in a process of their own before one is picked.
UNTRUSTED: tuple[str, ...] = ("gpu",)
_UNTRIED = (
    "it has not been tried with this model here: `edgekit plan MODEL --measure` does that in a process of its own"
)


class Target(Record):
    """The machine that a delegate is chosen for.

    Attributes:
        profile: its profile; ``None`` when it is this machine and no profile fits.
        host: what this machine is.
        here: whether the target is this machine, so that what was found on it counts.
        reason: why that profile, or why this machine is not the target.
        attached: profiles of what is attached to it; their delegates come before the machine's own.
    """

    profile: DeviceProfile | None
    host: HostFacts
    here: bool
    reason: str
    attached: tuple[DeviceProfile, ...] = ()

    @property
    def name(self) -> str:
        """The profile's id, or a word for a machine without one."""
        return self.profile.id if self.profile is not None else "this machine"

    @property
    def rules(self) -> tuple[DelegateRule, ...]:
        """The delegates to consider, best first, each kind once."""
        own = self.profile.delegates if self.profile is not None else _FALLBACK_RULES
        if self.profile is not None and self.profile.role == "accessory":
            own = (*own, *(rule for rule in _FALLBACK_RULES if rule.kind in _CPU))  # of whatever it is attached to
        found: dict[str, DelegateRule] = {}
        for rule in (*(rule for item in self.attached for rule in item.delegates if rule.kind not in _CPU), *own):
            found.setdefault(rule.kind, rule)
        return tuple(found.values())


#: What an accessory's profile may list as well, and what says nothing of the order on the machine it is attached to.
_CPU = ("xnnpack", "none")


def find_target(device: str | None) -> Target:
    """Find out which machine is meant.

    Args:
        device: a profile's id or file, or ``None`` for this machine; an accessory's that is attached here means this machine.

    Raises:
        ProfileError: there is no such profile, or it is not valid.
    """
    host = read_host()
    if device is None:
        return _this_machine(host)
    profile = load_profile(device)
    candidate: Candidate = fit(profile, host)
    if profile.role == "accessory" and candidate.score > 0:
        here = _this_machine(host)
        others = tuple(item for item in here.attached if item.id != profile.id)
        return here._replace(reason=f"{profile.id} is attached: {candidate.reason}", attached=(profile, *others))
    return Target(profile, host, candidate.score > 0, candidate.reason)


def _this_machine(host: HostFacts) -> Target:
    detection = detect(host, thorough=False)
    return Target(detection.profile, host, True, detection.reason, detection.attached)


def choose_delegate(*, device: str | None, model: ModelFile | None, threads: int | None) -> DelegateChoice:
    """Choose the delegate for a model on a device.

    Args:
        device: a profile's id or file, or ``None`` to detect this machine.
        model: the model it is for, or ``None`` when only the device matters.
        threads: CPU threads, or ``None`` for the profile's number.

    Returns:
        The choice, with a reason for it and for each delegate that was not chosen.

    Raises:
        ProfileError: there is no such profile, or it is not valid.
        DelegateError: the number of threads is out of range.
    """
    return choose_for(find_target(device), model, threads)


def measured_here(target: Target, model: ModelFile | None) -> Measurement | None:
    """What was measured of a model on the target before; ``None`` when nothing was or the target is not this machine."""
    return recall(model, target.host) if target.here and model is not None else None


def choose_for(
    target: Target,
    model: ModelFile | None,
    threads: int | None,
    *,
    measured: Measurement | None = None,
    more: Mapping[str, str] | None = None,
) -> DelegateChoice:
    """Choose the delegate for a model on a machine that was found already.

    The first of the profile's delegates that can be used is picked, unless another one was measured to be faster here.

    Args:
        target: the machine.
        model: the model it is for, or ``None`` when only the machine matters.
        threads: CPU threads, or ``None`` for the profile's number.
        measured: what was measured of the model there; ``None`` for what is remembered of this machine.
        more: what else keeps a delegate from being used, by kind: what trying it has shown.

    Raises:
        DelegateError: the number of threads is out of range.
    """
    measured = measured or measured_here(target, model)
    rules, (count, count_reason) = target.rules, _threads(target, threads)
    in_the_way = {kind: list(found) for kind, found in blocked(target, model, measured, more).items()}
    usable = [rule for rule in rules if not in_the_way[rule.kind]]
    untried = [rule for rule in usable if rule.kind in UNTRUSTED and not _trusted(rule.kind, measured)]
    for rule in untried:
        in_the_way[rule.kind] = [_untried(target)]
    usable = [rule for rule in usable if rule not in untried]
    pick = _fastest(usable, measured, count)
    if pick is not None:
        kind, options = pick.kind, pick.options
        reason = _why_measured(kind, measured, count) or _why(kind, target)
    else:
        kind = "edgetpu" if is_edgetpu_model(model) else "xnnpack"
        options = next((rule.options for rule in rules if rule.kind == kind), {})
        reason = "no delegate that the profile lists can be used, and this one is part of every interpreter"
        if kind == "edgetpu":
            reason = f"{COMPILED}, which no other delegate runs. It will not run here as things are: "
            reason += "; ".join(in_the_way[kind])
    order = [rule.kind for rule in rules] + [item for item in KINDS if all(rule.kind != item for rule in rules)]
    return DelegateChoice(
        spec=DelegateSpec(kind, count, options),
        reason=f"{reason}; {count_reason}",
        rejected=tuple(
            Rejected(item, "; ".join(in_the_way[item]) or _second(item, kind, usable, measured, count))
            for item in order
            if item != kind
        ),
        profile_id=target.profile.id if target.profile is not None else None,
    )


def fallback_order(
    target: Target, choice: DelegateChoice, model: ModelFile | None, asked: Sequence[str] | None = None
) -> tuple[DelegateChoice, ...]:
    """What to load a model on, in this order, when the pick cannot be loaded.

    Args:
        target: the machine.
        choice: the pick.
        model: the model, or ``None`` when only the machine matters.
        asked: the caller's order; ``None`` for the profile's ``fallback``, or the order of its delegates where it has none.

    Raises:
        DelegateError: a delegate in the caller's order is unknown.
    """
    options = {rule.kind: rule.options for rule in target.rules}
    if asked is not None:
        kinds, why = list(asked), "in the order that the caller gave"
    else:
        policy = target.profile.fallback if target.profile is not None else None
        in_the_way = blocked(target, model, measured_here(target, model), None)
        listed = [rule.kind for rule in target.rules if rule.kind not in UNTRUSTED] if policy is None else policy
        kinds = [kind for kind in listed if not in_the_way.get(kind)]
        why = f"in the order of the profile {target.name}"
    specs = [DelegateSpec(kind, choice.spec.threads, options.get(kind, {})) for kind in dict.fromkeys(kinds)]
    return tuple(
        DelegateChoice(spec, f"a fallback, {why}", (), choice.profile_id)
        for spec in specs
        if spec.kind != choice.spec.kind
    )


def blocked(
    target: Target, model: ModelFile | None, measured: Measurement | None, more: Mapping[str, str] | None
) -> dict[str, list[str]]:
    """What keeps each delegate from being used; an empty list where nothing does.

    Args:
        target: the machine.
        model: the model, or ``None`` when only the machine matters.
        measured: what was measured of it there, with what was refused then.
        more: what else is known to be in the way, by kind.
    """
    found = {rule.kind: obstacles(rule, target, model) for rule in target.rules}
    for kind in KINDS:
        found.setdefault(kind, [f"the profile {target.name} does not list it"])
    for kind, reasons in found.items():
        if more is not None and kind in more:
            reasons[:] = [more[kind]]
        elif measured is not None and kind in measured.refused and not reasons:
            reasons.append(f"it was tried on {measured.when} and refused: {measured.refused[kind]}")
    return found


def _trusted(kind: str, measured: Measurement | None) -> bool:
    return measured is not None and kind in measured.times


def _untried(target: Target) -> str:
    if target.here:
        return _UNTRIED
    return f"it is picked only after a trial on the device itself, and this machine is not {target.name}"


def _fastest(usable: Sequence[DelegateRule], measured: Measurement | None, threads: int) -> DelegateRule | None:
    """The first usable delegate, or the first of those that were measured to be faster by more than ``GAIN``."""
    if not usable or measured is None or measured.of(usable[0].kind, threads) is None:
        return usable[0] if usable else None
    times = {rule.kind: timed.ns for rule in usable if (timed := measured.of(rule.kind, threads)) is not None}
    limit = min(times.values()) / (1 - GAIN)
    return next(rule for rule in usable if rule.kind in times and times[rule.kind] <= limit)


def _threads(target: Target, asked: int | None) -> tuple[int, str]:
    """How many CPU threads, and why."""
    if asked is not None:
        return asked, f"{_count(asked)}, as asked for"
    if target.profile is None:
        return 1, "1 thread, because nothing is known of how this machine's cores share their work"
    default = target.profile.threads.default
    cores = target.host.logical_cores
    if target.here and cores is not None and cores.value < default:
        return (
            cores.value,
            f"{_count(cores.value)}: the profile says {default}, and this process may use only {cores.value}",
        )
    return default, f"{_count(default)}, the profile's default"


def _count(threads: int) -> str:
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def _why(pick: str, target: Target) -> str:
    if target.profile is None:
        return f"{target.reason}, and {_WHAT[pick]}"
    text = f"the first usable delegate in the order of the profile {target.name}: {_WHAT[pick]}"
    if pick == "edgetpu" and target.here and target.host.edgetpu_devices and target.host.edgetpu_library:
        text += f", and {target.host.edgetpu_devices.value[0]} and {target.host.edgetpu_library.value} are here"
    if not target.here:
        text += f". This machine is not {target.name}, so the hardware that this needs was not looked for"
    return text


_WHAT: dict[str, str] = {
    "xnnpack": "the CPU delegate that is part of every interpreter",
    "none": "the interpreter's own kernels",
    "gpu": "the GPU was tried with this model, and its results are those of the CPU",
    "edgetpu": "the model was compiled for the Edge TPU",
}


def _why_measured(pick: str, measured: Measurement | None, threads: int) -> str | None:
    """Why the pick, where at least two were measured."""
    if measured is None or measured.of(pick, threads) is None:
        return None
    others = [
        f"{kind} {milliseconds(timed.ns)}"
        for kind in measured.times
        if kind != pick and (timed := measured.of(kind, threads)) is not None
    ]
    if not others:
        return None
    mine = measured.times[pick]
    faster = all(mine.ns <= item.ns for kind in measured.times if (item := measured.of(kind, threads)) is not None)
    text = "measured fastest here" if faster else "measured as fast as any here, and first in the profile"
    return f"{text}: {milliseconds(mine.ns)} a run, {', '.join(others)} (on {measured.when})"


def _second(kind: str, pick: str, usable: Sequence[DelegateRule], measured: Measurement | None, threads: int) -> str:
    """Why a delegate that could be used was not picked."""
    if measured is not None:
        own, other = measured.of(kind, threads), measured.of(pick, threads)
        if own is not None and other is not None:
            if own.ns > other.ns:
                return f"it can be used, and was measured slower: {milliseconds(own.ns)} a run, {pick} {milliseconds(other.ns)}"
            return (
                f"it can be used, and {pick}, which comes before it in the profile, was measured as fast within "
                f"{100 * GAIN:.0f} %: {milliseconds(other.ns)} a run, {milliseconds(own.ns)} here"
            )
    if kind == "none":
        return (
            f"it can be used, but {pick} comes before it and leaves every operator that it does not take to these same "
            "kernels; ask for it to compare the two"
        )
    return f"it can be used, but {pick} comes before it in the profile"


def milliseconds(ns: float) -> str:
    """A time for a sentence, as ``edgekit.report.units`` writes it, which is not on the load path."""
    from edgekit.report.units import milliseconds as text

    return text(ns)

"""Which profile is this machine? Every candidate gets a score and the reasons for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.errors import ProfileError
from edgekit.host import Fact, HostFacts
from edgekit.records import Record
from edgekit_profiles import loader
from edgekit_profiles.profile import DeviceProfile

#: What a rule that holds is worth: the board's own name counts more than its chip, that more than all general rules together.
#: Of two general profiles the one that asks for more of the processor fits better: each feature counts.
_WEIGHTS: dict[str, int] = {
    "device_tree_model": 200, "device_tree_compatible": 150, "product": 100, "usb_ids": 50, "pci_ids": 50,
    "machine": 10, "cpu_flags": 2, "system": 1,
}  # fmt: skip
_WORDS: dict[str, str] = {
    "device_tree_model": "board",
    "device_tree_compatible": "device tree",
    "product": "product",
    "usb_ids": "USB device",
    "pci_ids": "PCI device",
    "machine": "architecture",
    "cpu_flags": "processor features",
    "system": "operating system",
}
#: The profiles of edgekit's own that stand for any machine of a kind.
_GENERIC = "generic-"


class Candidate(Record):
    """How well a profile fits a machine.

    Attributes:
        profile_id: the profile.
        score: 0 when it does not fit, else more for more specific rules.
        reasons: the rules that hold, or those that do not.
    """

    profile_id: str
    score: int
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        """The reasons in one line."""
        return "; ".join(self.reasons)


class Detection(Record):
    """Which profile a machine is.

    Attributes:
        profile: the best fitting one; ``None`` when none fits.
        reason: why.
        candidates: every profile with its score: machines, best first, then what can be attached to one, then files that
            are not valid.
        attached: the profiles of what is attached to the machine, by id.
    """

    profile: DeviceProfile | None
    reason: str
    candidates: tuple[Candidate, ...] = ()
    attached: tuple[DeviceProfile, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The profile's id, the reason, what is attached and the candidates."""
        return {
            "id": self.profile.id if self.profile is not None else None,
            "name": self.profile.name if self.profile is not None else None,
            "reason": self.reason,
            "attached": [{"id": item.id, "name": item.name} for item in self.attached],
            "candidates": [
                {"id": item.profile_id, "score": item.score, "reasons": list(item.reasons)} for item in self.candidates
            ],
        }


def fit(profile: DeviceProfile, host: HostFacts) -> Candidate:
    """How well one profile fits a machine. Every rule that it has must hold; of an accessory's ids one is enough.

    Args:
        profile: the profile.
        host: what the machine is.
    """
    rules = {rule: getattr(profile.match, rule, ()) for rule in _WEIGHTS}
    return Candidate(profile.id, *_weigh(rules, profile.role, host))


def _weigh(rules: Mapping[str, tuple[str, ...]], role: str, host: HostFacts) -> tuple[int, tuple[str, ...]]:
    """The score of some rules, and the reasons for it."""
    score = 0
    held: list[str] = []
    failed: list[str] = []
    for rule in _rules(role):
        if rules.get(rule):
            points, reason = _try_rule(rule, rules[rule], host)
            score += points * _WEIGHTS[rule]
            (held if points else failed).append(reason)
    if failed and not (role == "accessory" and held):
        return 0, tuple(failed)
    return score, tuple(held) or ("it has no rules to be recognised by: name it with --device",)


def _rules(role: str) -> tuple[str, ...]:
    """The rules that count; an accessory is found by its ids alone, whatever it is attached to."""
    return ("usb_ids", "pci_ids") if role == "accessory" else tuple(_WEIGHTS)


def _try_rule(rule: str, wanted: tuple[str, ...], host: HostFacts) -> tuple[int, str]:
    """How many times a rule holds, and what was seen."""
    fact: Fact[Any] | None = host.architecture if rule == "machine" else getattr(host, rule)
    word = _WORDS[rule]
    expected = (" and " if rule == "cpu_flags" else " or ").join(repr(item) for item in wanted)
    if fact is None:
        return 0, f"{word} not found, {expected} was expected"
    if isinstance(fact.value, tuple):
        present = [item for item in wanted if item in fact.value]
        if rule == "cpu_flags" and len(present) < len(wanted):
            missing = ", ".join(item for item in wanted if item not in present)
            return 0, f"the processor does not have {missing} ({fact.source})"
        if present:
            return len(present) if rule == "cpu_flags" else 1, f"{word} {_listed(present)} ({fact.source})"
        return 0, f"{word} {expected} not among those found ({fact.source})"
    where = fact.source
    if rule == "machine" and host.machine is not None and host.machine.value != fact.value:
        where += f"; the kernel's is {host.machine.value!r}, {host.machine.source}"
    if any(_is(rule, fact.value, item) for item in wanted):
        return 1, f"{word} {fact.value!r} ({where})"
    return 0, f"{word} is {fact.value!r} ({where}), {expected} was expected"


def _listed(items: Sequence[str]) -> str:
    return ", ".join(repr(item) for item in items)


def _is(rule: str, seen: str, wanted: str) -> bool:
    # Boards say their revision after their name. Whole words: "Raspberry Pi 5" must not take a "Raspberry Pi 500".
    return seen == wanted or (rule in ("device_tree_model", "product") and seen.startswith(wanted + " "))


def detect(host: HostFacts, profiles: Sequence[DeviceProfile] | None = None, *, thorough: bool = True) -> Detection:
    """Find the profile that fits a machine best, and those of what is attached to it.

    Args:
        host: what the machine is.
        profiles: the profiles to choose from; ``None`` for all there are. One of the user's own that is not valid is
            then left out, with a log record and a candidate that says so: it must not keep every model from loading.
        thorough: whether profiles that cannot fit are scored too. The load path does without them: parsing a file takes
            longer than seeing that its rules do not hold.

    Returns:
        The best one; of two with the same score the user's own. ``profile`` is ``None`` when none fits. The reason says
        so when the best one is a profile for any machine of the kind, because no profile names this one.
    """
    damaged: list[Candidate] = []
    if profiles is None:
        profiles, damaged = _load_valid(None if thorough else host)
    ranked = sorted(
        ((fit(profile, host), profile) for profile in profiles),
        key=lambda pair: (
            pair[1].role == "accessory", -pair[0].score, not pair[1].user, pair[0].profile_id,
        ),
    )  # fmt: skip
    candidates = (*(candidate for candidate, _ in ranked), *damaged)
    attached = tuple(profile for candidate, profile in ranked if profile.role == "accessory" and candidate.score)
    if ranked and ranked[0][0].score > 0 and ranked[0][1].role != "accessory":
        best, profile = ranked[0]
        return Detection(profile, _why(profile, best, host), candidates, attached)
    architecture, system = host.architecture, host.system
    seen = f"architecture {architecture.value if architecture else 'unknown'}, "
    seen += f"operating system {system.value if system else 'unknown'}"
    return Detection(None, f"no device profile fits this machine ({seen})", candidates, attached)


def _why(profile: DeviceProfile, best: Candidate, host: HostFacts) -> str:
    """The reason for the best profile; for a general one also that no profile is this machine's own."""
    if profile.user or not profile.id.startswith(_GENERIC):
        return best.reason
    for fact, word in ((host.device_tree_model, "board"), (host.product, "product")):
        if fact is not None:
            return f"unknown, using {profile.id}: no profile is for the {word} {fact.value!r} ({fact.source}); {best.reason}"
    return f"unknown, using {profile.id}: nothing here names the machine; {best.reason}"


def _load_valid(host: HostFacts | None) -> tuple[list[DeviceProfile], list[Candidate]]:
    """The profiles, or with a host the one that fits best and what is attached; and a candidate for each file that is not valid."""
    files = loader.profile_files()
    worth = files if host is None else _worth_loading(files, host)
    valid, damaged = _load(worth)
    if damaged and len(worth) < len(files):  # a file that is not valid may have hidden the next best
        more, more_damaged = _load([item for item in files if item not in worth])
        valid, damaged = valid + more, damaged + more_damaged
    return valid, damaged


def _load(files: Sequence[loader.ProfileFile]) -> tuple[list[DeviceProfile], list[Candidate]]:
    valid: list[DeviceProfile] = []
    damaged: list[Candidate] = []
    for item in files:
        loaded = _try(item)
        if isinstance(loaded, DeviceProfile):
            valid.append(loaded)
            continue
        damaged.append(Candidate(item.id, 0, (f"not valid: {loaded}",)))
        ours = loader.built_in_file(item.id) if item.user else None
        if ours is not None:
            valid.append(loader.load_file(ours))
    return valid, damaged


def _worth_loading(files: Sequence[loader.ProfileFile], host: HostFacts) -> list[loader.ProfileFile]:
    """Of the files whose rules can be seen without parsing them the best machine and each accessory; and all others."""
    found: list[loader.ProfileFile] = []
    machines: list[tuple[int, bool, str, loader.ProfileFile]] = []
    for item in files:
        rules = loader.glance(item)
        role = ((rules or {}).get("role") or ("machine",))[0]
        score = 0 if rules is None else _weigh(rules, role, host)[0]
        if rules is None or (role == "accessory" and score):
            found.append(item)
        elif score:
            machines.append((-score, not item.user, item.id, item))
    return [*found, min(machines)[3]] if machines else found


def _try(item: loader.ProfileFile) -> DeviceProfile | ProfileError:
    try:
        return loader.load_file(item)
    except ProfileError as error:
        import logging

        logging.getLogger("edgekit").warning("a device profile is left out of the detection: %s", error)
        return error

"""Which profile is this machine? Every candidate gets a score and the reasons for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.errors import ProfileError
from edgekit.host import Fact, HostFacts
from edgekit.records import Record
from edgekit_profiles import loader
from edgekit_profiles.profile import DeviceProfile

#: What a rule that holds is worth: the board's own name counts more than all general rules together.
_WEIGHTS: dict[str, int] = {"device_tree_model": 100, "machine": 10, "system": 1}
_WORDS: dict[str, str] = {"device_tree_model": "board", "machine": "architecture", "system": "operating system"}


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
        candidates: every profile with its score, best first.
    """

    profile: DeviceProfile | None
    reason: str
    candidates: tuple[Candidate, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The profile's id, the reason and the candidates."""
        return {
            "id": self.profile.id if self.profile is not None else None,
            "name": self.profile.name if self.profile is not None else None,
            "reason": self.reason,
            "candidates": [
                {"id": item.profile_id, "score": item.score, "reasons": list(item.reasons)} for item in self.candidates
            ],
        }


def fit(profile: DeviceProfile, host: HostFacts) -> Candidate:
    """How well one profile fits a machine. Every rule that it has must hold.

    Args:
        profile: the profile.
        host: what the machine is.
    """
    score, held, failed = 0, [], []
    for rule, weight in _WEIGHTS.items():
        wanted: tuple[str, ...] = getattr(profile.match, rule, ())
        if not wanted:
            continue
        fact: Fact[str] | None = getattr(host, rule)
        expected = " or ".join(repr(item) for item in wanted)
        if fact is None:
            failed.append(f"{_WORDS[rule]} not found, {expected} was expected")
        elif any(_is(rule, fact.value, item) for item in wanted):
            score += weight
            held.append(f"{_WORDS[rule]} {fact.value!r} ({fact.source})")
        else:
            failed.append(f"{_WORDS[rule]} is {fact.value!r} ({fact.source}), {expected} was expected")
    if failed:
        return Candidate(profile.id, 0, tuple(failed))
    return Candidate(profile.id, score, tuple(held) or ("it has no rules to be recognised by: name it with --device",))


def _is(rule: str, seen: str, wanted: str) -> bool:
    # Boards say their revision after their name. Whole words: "Raspberry Pi 5" must not take a "Raspberry Pi 500".
    return seen == wanted or (rule == "device_tree_model" and seen.startswith(wanted + " "))


def detect(host: HostFacts, profiles: Sequence[DeviceProfile] | None = None, *, thorough: bool = True) -> Detection:
    """Find the profile that fits a machine best.

    Args:
        host: what the machine is.
        profiles: the profiles to choose from; ``None`` for all there are. One of the user's own that is not valid is
            then left out, with a log record and a candidate that says so: it must not keep every model from loading.
        thorough: whether profiles that cannot fit are scored too. The load path does without them: parsing a file takes
            longer than seeing that it does not name this machine's architecture.

    Returns:
        The best one; of two with the same score the user's own. ``profile`` is ``None`` when none fits.
    """
    damaged: list[Candidate] = []
    if profiles is None:
        profiles, damaged = _load_valid(None if thorough else host)
    ranked = sorted(
        ((fit(profile, host), profile) for profile in profiles),
        key=lambda pair: (-pair[0].score, not pair[1].user, pair[0].profile_id),
    )
    candidates = (*(candidate for candidate, _ in ranked), *damaged)
    if ranked and ranked[0][0].score > 0:
        best, profile = ranked[0]
        return Detection(profile, best.reason, candidates)
    machine, system = host.machine, host.system
    seen = f"architecture {machine.value if machine else 'unknown'}, operating system {system.value if system else 'unknown'}"
    return Detection(None, f"no device profile fits this machine ({seen})", candidates)


def _load_valid(host: HostFacts | None) -> tuple[list[DeviceProfile], list[Candidate]]:
    """The profiles, or with a host those that may fit it; and a candidate for each file that is not valid."""
    valid: list[DeviceProfile] = []
    damaged: list[Candidate] = []
    for item in loader.profile_files():
        if host is not None and host.machine is not None and not loader.may_fit(item, host.machine.value):
            continue
        loaded = _try(item)
        if isinstance(loaded, DeviceProfile):
            valid.append(loaded)
            continue
        damaged.append(Candidate(item.id, 0, (f"not valid: {loaded}",)))
        ours = loader.built_in_file(item.id) if item.user else None
        if ours is not None:
            valid.append(loader.load_file(ours))
    return valid, damaged


def _try(item: loader.ProfileFile) -> DeviceProfile | ProfileError:
    try:
        return loader.load_file(item)
    except ProfileError as error:
        import logging

        logging.getLogger("edgekit").warning("a device profile is left out of the detection: %s", error)
        return error

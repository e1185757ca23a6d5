"""What speaks against a benchmark in the samples that were taken of the machine's conditions meanwhile.

Each rule sees the samples of all launches of a case. The thresholds are set by what moves a median by more than the 3 % to
which it is measured; they are judgements, not standards.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.bench.conditions import FLAGS

VALID, NOISY, INVALID = LEVELS = ("VALID", "NOISY", "INVALID")

#: Processors that others may use, as a share of all. Those that the model leaves free count too: processors of one machine share
#: caches, memory and clock, and two of a virtual machine may be one.
OTHERS = (0.10, 0.50)
#: Share of the processors' time that the machine below took.
STOLEN = (0.02, 0.10)
#: Share of the clock's time for which a container's limit held the process back.
HELD_BACK = (0.005, 0.05)
SWAPPED_PAGES = (1, 1000)
#: How far the frequency may fall while the model runs.
SLOWER = (0.05, 0.20)
#: Degrees Celsius below the limit at which a temperature is told.
NEAR_LIMIT_C = 3.0
#: Where nobody names the temperature at which the machine slows down.
WARM_C, HOT_C = 80.0, 95.0
#: Between 80 and 85 °C the cores are slowed down more and more (Raspberry Pi documentation, "Frequency management and
#: thermal control").
RASPBERRY_PI_C = 80.0
#: A sample counts as one of the model at work when the process used this much of one processor since the sample before.
_AT_WORK = 0.7


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against a benchmark.

    Attributes:
        code: its kind, for programs: ``load``, ``throttled``, ``under-voltage``, ``temperature``, ``frequency``, ``governor``,
            ``swap``, ``stolen``, ``quota``, ``threads``, ``waiting``, ``pace``, ``disturbed``, ``delegate``, ``usb``,
            ``samples``, ``spread``, ``warm-up``, ``unrecorded``, ``interrupted`` or ``nothing``.
        level: ``NOISY`` or ``INVALID``.
        text: what was seen, in a sentence without its full stop.
    """

    code: str
    level: str
    text: str


def graded(code: str, value: float, limits: tuple[float, float], text: str) -> Iterator[Finding]:
    """A finding when a value is at or above the first limit; a grave one from the second."""
    if value >= limits[0]:
        yield Finding(code, INVALID if value >= limits[1] else NOISY, text)


#: Samples of each launch, launches without any left out.
Launches = Sequence[Sequence[Mapping[str, Any]]]


def _growth(samples: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """How much a counter grew from the first sample that has it to the last."""
    values = [sample[key] for sample in samples if sample.get(key) is not None]
    return float(values[-1] - values[0]) if len(values) > 1 else None


def _seconds(samples: Sequence[Mapping[str, Any]]) -> float:
    return float(samples[-1]["at_s"] - samples[0]["at_s"])


def facts_of(launches: Launches) -> Mapping[str, Any]:
    """What does not change, see ``conditions.Reader.facts``; empty where nothing was recorded."""
    return next((sample["facts"] for samples in launches for sample in samples if sample.get("facts")), {})


def _load(launches: Launches, threads: int) -> Iterator[Finding]:
    """Processors that other processes used while a launch ran."""
    shares = []
    for samples in launches:
        busy, own, seconds = _growth(samples, "busy_s"), _growth(samples, "own_s"), _seconds(samples)
        if busy is not None and own is not None and seconds > 0:
            shares.append(max(0.0, busy - own) / seconds)
    if not shares:
        return
    cores = facts_of(launches).get("cores") or threads
    worst, middle = max(shares), float(np.median(shares))
    if worst < OTHERS[0] * cores:
        return
    grave = middle >= OTHERS[1] * cores
    shown = middle if grave else worst
    text = f"other processes used {shown:.1f} of the {cores} processors"
    text += "" if grave or len(shares) == 1 else " at worst"
    yield Finding("load", INVALID if grave else NOISY, text)


def _stolen(launches: Launches, threads: int) -> Iterator[Finding]:
    """Time that the machine below a virtual one took."""
    cores = facts_of(launches).get("cores") or threads
    shares = [
        stolen / (_seconds(samples) * cores)
        for samples in launches
        if (stolen := _growth(samples, "steal_s")) is not None and _seconds(samples) > 0
    ]
    if shares:
        share = max(shares)
        text = f"the host of this virtual machine took {100 * share:.0f} % of the processors' time"
        yield from graded("stolen", share, STOLEN, text)


def _quota(launches: Launches, _: int) -> Iterator[Finding]:
    """Time for which a container's limit held the process back."""
    shares = [
        held / _seconds(samples)
        for samples in launches
        if (held := _growth(samples, "quota_s")) is not None and _seconds(samples) > 0
    ]
    if shares:
        share = max(shares)
        text = f"the container's processor limit held it back for {100 * share:.1f} % of the time"
        yield from graded("quota", share, HELD_BACK, text)


def _swap(launches: Launches, _: int) -> Iterator[Finding]:
    """Pages that went to swap space or came back."""
    pages = sum(_growth(samples, "swap_pages") or 0 for samples in launches)
    yield from graded("swap", pages, SWAPPED_PAGES, f"{pages:.0f} pages were swapped")


def _governor(launches: Launches, _: int) -> Iterator[Finding]:
    """A governor that somebody changed."""
    seen: dict[str, list[str]] = {}
    for sample in itertools.chain.from_iterable(launches):
        for policy, name in (sample.get("governors") or {}).items():
            if name not in seen.setdefault(policy, []):
                seen[policy].append(name)
    for names in seen.values():
        if len(names) > 1:
            yield Finding("governor", INVALID, f"the frequency governor changed: {' → '.join(names)}")
            return


def _frequency(launches: Launches, _: int) -> Iterator[Finding]:
    """A limit that was lowered, or a frequency that fell while the model was at work."""
    at_work: list[float] = []
    limits: dict[str, list[float]] = {}
    policies = 1
    for samples in launches:
        for before, sample in itertools.pairwise(samples):
            passed = sample["at_s"] - before["at_s"]
            used = (sample.get("own_s") or 0) - (before.get("own_s") or 0)
            if sample.get("khz") and passed > 0 and used / passed >= _AT_WORK:
                at_work.append(max(sample["khz"].values()))
                policies = max(policies, len(sample["khz"]))
        for sample in samples:
            for policy, value in (sample.get("limit_khz") or {}).items():
                limits.setdefault(policy, []).append(value)
    for values in limits.values():
        found = list(_fall(values, "the highest frequency that is allowed"))
        yield from found
        if found:
            return
    for item in _fall(at_work, "the processor's frequency"):
        # Which of several groups of processors the model ran on is not known, nor whether that one's frequency fell.
        yield item if policies == 1 else Finding(item.code, NOISY, item.text)


def _fall(values: Sequence[float], what: str) -> Iterator[Finding]:
    if len(values) > 1 and max(values) > 0:
        low, high = min(values), max(values)
        text = f"{what} went between {low / 1000:.0f} and {high / 1000:.0f} MHz"
        yield from graded("frequency", 1 - low / high, SLOWER, text)


def _temperature(launches: Launches, _: int) -> Iterator[Finding]:
    """A temperature at which the machine slows down."""
    facts = facts_of(launches)
    hottest: dict[str, float] = {}
    for sample in itertools.chain.from_iterable(launches):
        for zone, value in (sample.get("thermal_c") or {}).items():
            hottest[zone] = max(value, hottest.get(zone, value))
    board = "Raspberry Pi" in (facts.get("model") or "")
    counted = any("throttle_count" in sample for samples in launches for sample in samples)
    for zone, value in hottest.items():
        limit = (facts.get("trip_c") or {}).get(zone)
        if board and "cpu" in zone:
            limit = min(limit or RASPBERRY_PI_C, RASPBERRY_PI_C)
        if limit is not None:
            if value >= limit:
                yield Finding(
                    "temperature", INVALID, f"{zone} reached {value:.0f} °C, and slows down from {limit:.0f} °C"
                )
            elif value >= limit - NEAR_LIMIT_C:
                yield Finding(
                    "temperature", NOISY, f"{zone} reached {value:.0f} °C, near the {limit:.0f} °C where it slows down"
                )
        elif not counted and value >= WARM_C:  # a processor that counts its slow-downs says it better
            text = f"{zone} reached {value:.0f} °C, and at what temperature it slows down is not known"
            yield Finding("temperature", INVALID if value >= HOT_C else NOISY, text)


def _firmware(launches: Launches, _: int) -> Iterator[Finding]:
    """What a Raspberry Pi's firmware and voltage monitor say."""
    words = [sample["throttled"] for samples in launches for sample in samples if sample.get("throttled") is not None]
    alarms = any(sample.get("under_voltage") for samples in launches for sample in samples)
    if alarms and not any(word & 1 for word in words):
        yield Finding("under-voltage", INVALID, "the power supply's voltage was too low, says the kernel's monitor")
    for bit, what in FLAGS.items():
        code = "under-voltage" if bit == 0 else "throttled"
        now, since = 1 << bit, 1 << (bit + 16)
        if any(word & now for word in words):
            yield Finding(code, INVALID, f"the board's firmware reports {what} during the run")
        elif words and words[-1] & since:
            if words[0] & since:
                text = f"the board's firmware reports {what} since it was started: a short one more would not show"
                yield Finding(code, NOISY, text)
            else:
                yield Finding(code, INVALID, f"the board's firmware reports {what} during the run")


def _throttle_count(launches: Launches, _: int) -> Iterator[Finding]:
    """How often an x86 processor slowed down for its temperature."""
    count = sum(_growth(samples, "throttle_count") or 0 for samples in launches)
    if count > 0:
        yield Finding("throttled", INVALID, f"the processor slowed down for its temperature {count:.0f} times")


def _cores(launches: Launches, threads: int) -> Iterator[Finding]:
    """More threads than processors."""
    cores = facts_of(launches).get("cores")
    if cores and threads > cores:
        yield Finding(
            "threads", NOISY, f"{threads_text(threads)} asked for on {cores} processor{'s' if cores > 1 else ''}"
        )


def threads_text(count: int) -> str:
    """How a sentence begins that tells how many threads were asked for."""
    return f"{count} thread{'s were' if count > 1 else ' was'}"


def outside(samples: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """What others took of the machine between samples.

    Args:
        samples: of one launch, or of a part of it.
    """
    for rule in (_load, _quota, _swap):
        yield from rule([samples], 1)


#: Each gets the samples and how many processors the case needs.
RULES: tuple[Callable[[Launches, int], Iterator[Finding]], ...] = (
    _firmware, _throttle_count, _temperature, _governor, _frequency, _load, _stolen, _quota, _swap, _cores,
)  # fmt: skip

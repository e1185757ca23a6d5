"""``verdict``: whether a benchmark may be believed. VALID, NOISY or INVALID, with the reasons.

- INVALID: something was measured that is not what was asked for, or on a machine that was not itself: another delegate, throttling,
  too little voltage, a processor that others took.
- NOISY: the figures are of the right thing, and further from a quiet machine's than their intervals say.
- VALID: the conditions were recorded and nothing of that was seen.

What was not recorded is not taken for good: without samples of the conditions a benchmark is NOISY at best.

The thresholds are constants of this module and of ``disturbances``: judgements, not standards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.bench.cases import SLOWED_SHARE, CaseResult, case_names
from edgekit.bench.disturbances import INVALID as INVALID
from edgekit.bench.disturbances import LEVELS as LEVELS
from edgekit.bench.disturbances import NOISY as NOISY
from edgekit.bench.disturbances import RULES, Finding, Launches, facts_of, graded, threads_text
from edgekit.bench.disturbances import VALID as VALID
from edgekit.bench.launch import Launch
from edgekit.bench.pace import SLOWER, full_pace_ns, slowed
from edgekit.bench.results import BenchmarkReport

#: Fewer processes than this show too little of how launches differ; runs, too little of how runs do.
FEWEST_LAUNCHES = 5
FEWEST_RUNS = 10
#: Width of the 95 % interval of the median over launches, as a share of it. Launches go on until it is 3 %, or time is over.
LAUNCH_SPREAD = (0.06, 0.30)
#: A process that used less processor time than this share of the clock was waiting for a processor.
OWN_SHARE = (0.90, 0.60)
#: USB 3.0 has 5000 Mbit/s, USB 2.0 480.
USB3_MBITS = 5000
_CPU_DELEGATES = ("xnnpack", "none")


@dataclass(frozen=True)
class Verdict:
    """Whether a benchmark may be believed.

    Attributes:
        level: ``VALID``, ``NOISY`` or ``INVALID``.
        reasons: why, the graver ones first; empty for ``VALID``.
        codes: each reason's kind, see ``Finding``.
    """

    level: str
    reasons: tuple[str, ...]
    codes: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether nothing speaks against it."""
        return self.level == VALID

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {"level": self.level, "reasons": list(self.reasons), "codes": list(self.codes)}

    def __str__(self) -> str:
        return self.level if not self.reasons else f"{self.level}: {'; '.join(self.reasons)}"

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> Verdict:
        """The verdict that follows from findings; each text counts once."""
        ordered = sorted(findings, key=lambda item: -LEVELS.index(item.level))
        seen = {item.text: item for item in reversed(ordered)}
        kept = [item for item in ordered if seen.pop(item.text, None) is not None]
        level = kept[0].level if kept else VALID
        return cls(level, tuple(item.text for item in kept), tuple(item.code for item in kept))


def verdict(report: BenchmarkReport) -> Verdict:
    """Judge a whole benchmark: as its worst case.

    Args:
        report: a benchmark, with the samples of the conditions around each launch.

    Returns:
        The verdict. With several cases each reason begins with its case's name.
    """
    findings: list[Finding] = []
    if report.interrupted:
        findings.append(Finding("interrupted", NOISY, "it was interrupted, and holds what was measured until then"))
    several = len(report.cases) > 1
    for name, result in zip(case_names(report.cases), report.cases, strict=True):
        for item in findings_of(result):
            text = f"{name}: {item.text}" if several else item.text
            findings.append(Finding(item.code, item.level, text))
    if not any(result.launches for result in report.cases):
        findings.append(Finding("nothing", INVALID, "nothing was measured"))
    return Verdict.of(findings)


def verdict_of(result: CaseResult) -> Verdict:
    """Judge one case.

    Args:
        result: its launches; one that has none is INVALID.
    """
    findings = findings_of(result)
    return Verdict.of(findings if result.launches else [*findings, Finding("nothing", INVALID, "nothing was measured")])


def findings_of(result: CaseResult) -> list[Finding]:
    """What speaks against one case; nothing for a case without launches, which failed and says so itself.

    Args:
        result: its launches.
    """
    launches = result.launches
    if not launches:
        return []
    found = [*_asked(result), *_processor_use(result), *_pace(result), *_disturbed(result), *_enough(result)]
    samples = [launch.conditions for launch in launches if _tells(launch.conditions)]
    if len(samples) < len(launches):
        text = "the machine's load was not recorded"
        found.append(Finding("unrecorded", NOISY, text if not samples else f"{text} in every launch"))
    return [*found, *_by_samples(samples, launches), *_usb(samples, launches)]


def _tells(samples: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the load is in the samples: elsewhere than on Linux they hold nothing but their times."""
    return sum("busy_s" in sample for sample in samples) > 1


def of_samples(samples: Sequence[Mapping[str, Any]], threads: int = 1) -> Verdict:
    """Judge the conditions alone.

    Args:
        samples: what a ``Sampler`` took around one launch.
        threads: processors that the launch needed.
    """
    found = [item for rule in RULES for item in rule([samples], threads)] if samples else []
    return Verdict.of(found)


def _asked(result: CaseResult) -> Iterator[Finding]:
    """Whether what ran is what was asked for."""
    for launch in result.launches:
        asked, got = launch.asked.get("delegate"), launch.got.get("delegate")
        if asked != got:
            yield Finding("delegate", INVALID, f"{asked} was asked for and {got} ran the model")
        wanted = result.case.threads or launch.asked.get("threads")
        if wanted and launch.threads != wanted:
            text = f"{threads_text(wanted)} asked for, and the interpreter was told to use {launch.threads}"
            yield Finding("threads", INVALID, text)


def _processor_use(result: CaseResult) -> Iterator[Finding]:
    """Whether the runs had the processors that they were to have; told only where runs follow each other without a pause."""
    launches = [launch for launch in result.launches if not launch.trials and launch.steady_wall_ns > 0]
    if not launches or launches[0].got.get("delegate") not in _CPU_DELEGATES:
        return
    wanted = _processors(launches[0])
    used = float(np.median([launch.steady_cpu_ns / launch.steady_wall_ns for launch in launches]))
    if used > wanted + 0.5:
        text = f"{threads_text(wanted)} asked for, and {used:.1f} processors were busy with the runs"
        yield Finding("threads", NOISY, text)
    if wanted > 1 and used < 1.15:
        text = f"{threads_text(wanted)} asked for, and {used:.1f} processors were busy: the others did nothing"
        yield Finding("threads", NOISY, text)
    for level, share in ((INVALID, OWN_SHARE[1]), (NOISY, OWN_SHARE[0])):
        if used < share:
            yield Finding("waiting", level, f"the runs had {100 * used:.0f} % of a processor, and waited otherwise")
            return


def _processors(launch: Launch) -> int:
    return launch.threads * launch.workers


def _enough(result: CaseResult) -> Iterator[Finding]:
    """Whether there are enough samples, and launches that agree."""
    launches = result.launches
    if len(launches) < FEWEST_LAUNCHES:
        count = f"{len(launches)} launch{'es' if len(launches) > 1 else ''}"
        text = f"{count}: launches differ, and fewer than {FEWEST_LAUNCHES} show too little of it"
        yield Finding("samples", NOISY, text)
    fewest = min((len(launch.total_ns) for launch in launches if launch.total_ns), default=FEWEST_RUNS)
    if fewest < FEWEST_RUNS:
        yield Finding("samples", NOISY, f"a launch of {fewest} runs: at least {FEWEST_RUNS} were expected")
    if any(launch.settled is False for launch in launches):
        yield Finding("warm-up", NOISY, "the runs still had a trend when the time for warming up was over")
    interval = result.steady or result.throughput
    if interval is not None and interval.width is not None:
        half = 50 * interval.width
        text = f"the launches differ: the median over them is known to ±{half:.{0 if half >= 10 else 1}f} %"
        yield from graded("spread", interval.width, LAUNCH_SPREAD, text)


def _pace(result: CaseResult) -> Iterator[Finding]:
    """Whether something slowed the processor itself, which a virtual machine shows in no other way."""
    share = result.slowed_share
    if share is None or share < SLOWED_SHARE:
        return
    times = np.array([value for launch in result.launches for value in launch.pace_ns], np.float64)
    full = result.full_pace_ns or full_pace_ns(times)
    longer = float(np.median(times[slowed(times, full)])) / full
    text = f"for {100 * share:.0f} % of the time something slowed the processor: a fixed piece of work took {longer:.1f} times as long"
    if full_pace_ns(times) > SLOWER * full:
        text += " as in an earlier benchmark of this model"
    yield Finding("pace", NOISY, text)


def _disturbed(result: CaseResult) -> Iterator[Finding]:
    """Rates of the server scenario that did not hold while something disturbed the machine."""
    causes = [trial.disturbance for trial in result.trials if trial.disturbance is not None]
    if causes:
        one = len(causes) == 1
        text = f"{len(causes)} of {len(result.trials)} trials did not hold while something disturbed the machine"
        yield Finding("disturbed", NOISY, f"{text} ({'' if one else 'such as: '}{causes[-1]}): the rate may be higher")


def _by_samples(samples: Launches, launches: Sequence[Launch]) -> Iterator[Finding]:
    if samples:
        for rule in RULES:
            yield from rule(samples, _processors(launches[0]))


def _usb(samples: Launches, launches: Sequence[Launch]) -> Iterator[Finding]:
    """An accelerator on a slower port than the machine has."""
    if not any(launch.got.get("delegate") == "edgetpu" for launch in launches):
        return
    usb = facts_of(samples).get("usb") or {}
    speeds = (usb.get("accelerators") or {}).values()
    if speeds and min(speeds) < USB3_MBITS <= (usb.get("fastest_port") or 0):
        yield Finding("usb", INVALID, f"the Edge TPU runs at {min(speeds)} Mbit/s (USB 2), and this machine has USB 3")

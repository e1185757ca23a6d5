"""Whether two benchmarks were made on one kind of machine and in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgekit.bench.launch import Launch
from edgekit.bench.results import BenchmarkReport
from edgekit.report.units import size_text

#: Facts of the host that make two machines different ones, with what to call them.
_MACHINE: Mapping[str, str] = {
    "machine": "architecture",
    "cpu_model": "processor",
    "product": "product",
    "device_tree_model": "board",
    "logical_cores": "processors",
    "memory_bytes": "memory",
}
#: Memory that differs by less is the same.
_SAME_MEMORY = 0.05
#: Facts that can differ on one machine.
_STATE: Mapping[str, str] = {"system": "system", "cpu_governor": "governor", "cgroup_cores": "container's limit"}


def _value(report: BenchmarkReport, key: str) -> Any:
    fact = report.host.get(key)
    return fact.get("value") if isinstance(fact, Mapping) else fact


def differences(base: BenchmarkReport, other: BenchmarkReport) -> tuple[list[str], bool]:
    """What differs between two benchmarks beside the models.

    Args:
        base: the first.
        other: the other one.

    Returns:
        A sentence for each difference, and whether the machines are of one kind, as far as they are known.
    """
    found, same = [], True
    for facts, hardware in ((_MACHINE, True), (_STATE, False)):
        for key, what in facts.items():
            before, after = _value(base, key), _value(other, key)
            if before != after and not _as_good_as(key, before, after):
                found.append(f"the {what} differs: {_known(key, before)} → {_known(key, after)}")
                same = same and not (hardware and before is not None and after is not None)
    ways = {
        "version of edgekit": (base.edgekit, other.edgekit),
        "interpreter": tuple(_of_launches(report, lambda launch: launch.engine) for report in (base, other)),
        "number of threads": tuple(_of_launches(report, lambda launch: launch.threads) for report in (base, other)),
    }
    for what, (before, after) in ways.items():
        if before != after and before and after:
            found.append(f"the {what} differs: {before} → {after}")
    return found, same


def _as_good_as(key: str, before: Any, after: Any) -> bool:
    """Whether two values say the same: what a kernel keeps for itself of the memory changes with its version."""
    if key != "memory_bytes" or not before or not after:
        return False
    return bool(abs(after - before) < _SAME_MEMORY * before)


def _of_launches(report: BenchmarkReport, value: Callable[[Launch], object]) -> str:
    return ", ".join(sorted({str(value(launch)) for result in report.cases for launch in result.launches}))


def _known(key: str, value: Any) -> str:
    if value is None:
        return "not known"
    return size_text(value) if key == "memory_bytes" else str(value)

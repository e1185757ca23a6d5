"""Benchmarks of a made-up board that gets warm: launches with their moments, temperatures, frequencies and energy."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from bench_reports import CALM, case, launch, report

from edgekit.bench import BenchmarkReport, CaseResult, Launch, Trial
from edgekit.bench.cases import with_ratios
from edgekit.bench.op_times import OpProfile, OpTime
from edgekit.bench.roofline import Roofline

STARTED_UNIX_S = 1_700_000_000.0
HOST = {
    "device_tree_model": {"value": "Board 5", "source": "/proc/device-tree/model"},
    "cpu_model": {"value": "Cortex-A76", "source": "/proc/cpuinfo"},
    "logical_cores": {"value": 4, "source": "sched_getaffinity"},
    "memory_bytes": {"value": 8_000_000_000, "source": "/proc/meminfo"},
    "cpu_governor": None,
}


def warm_launch(number: int, median_ms: float, *, runs: int = 200, **changes: Any) -> Launch:
    """One launch on that board, three seconds after the one before.

    Args:
        number: from 0.
        median_ms: about so long a run takes.
        runs: how many; every twentieth takes twice as long.
        changes: other fields.
    """
    random = np.random.default_rng(number)
    times = 1e6 * median_ms * random.normal(1, 0.01, runs)
    times[::20] *= 2
    start = STARTED_UNIX_S + 3 * number
    watched = []
    for step in range(6):
        sample = {
            **CALM[0], "at_s": 0.4 * step, "unix_s": start - 0.3 + 0.4 * step, "busy_s": 100 + 0.4 * step,
            "own_s": 1 + 0.39 * step, "thermal_c": {"zone0 cpu": 50.0 + number + step}, "khz": {"p0": 2_400_000},
        }  # fmt: skip
        watched.append(sample if step == 0 else {key: value for key, value in sample.items() if key != "facts"})
    values: dict[str, Any] = {
        "started_unix_s": start, "steady_started_unix_s": start + 0.8, "load_ns": 9_000_000, "first_run_ns": 8_000_000,
        "engine_import_ns": 40_000_000, "warmup_ns": tuple(int(1e6 * median_ms * (2 - k / 50)) for k in range(50)),
        "warmup_runs": 50, "settled": True, "rss_before_load_bytes": 30_000_000, "rss_after_load_bytes": 39_000_000,
        "peak_rss_bytes": 51_000_000,
    }  # fmt: skip
    return dataclasses.replace(launch(times, watched, **values), **changes)


def board(*cases: CaseResult, **fields: Any) -> BenchmarkReport:
    """A benchmark on that board, with ratios to the first case."""
    return report(*with_ratios(cases), host=HOST, started_unix_s=STARTED_UNIX_S, **fields)


def timed_case(name: str, median_ms: float, *, launches: int = 5, runs: int = 200, **fields: Any) -> CaseResult:
    """A case of that board.

    Args:
        name: of the model.
        median_ms: about so long a run takes.
        launches: how many.
        runs: of each.
        fields: of the case, ``sha256`` and ``size_bytes`` among them.
    """
    known = {key: fields.pop(key) for key in ("sha256", "size_bytes") if key in fields}
    found = case(name, *(warm_launch(number, median_ms, runs=runs) for number in range(launches)), **fields)
    return dataclasses.replace(found, case=dataclasses.replace(found.case, **known))


def server_case() -> CaseResult:
    """A search of the highest rate, and four launches that confirm it."""
    random = np.random.default_rng(1)

    def trial(rate: float, purpose: str, valid: bool) -> Trial:
        return Trial(rate, 0, purpose, 700, 0 if valid else 90, valid, tuple(random.integers(5e6, 4e7, 600).tolist()))

    search = tuple(trial(rate, "search", rate < 150) for rate in (80.0, 160.0, 120.0, 145.0))
    trials = [search, *((trial(145.0, "confirm", True),) for _ in range(4))]
    launches = [
        warm_launch(number, 1.0, total_ns=(), invoke_ns=(), trials=row, settled=None)
        for number, row in enumerate(trials)
    ]
    return case("served.tflite", *launches, scenario="server", latency_bound_ns=50_000_000)


def offline_case() -> CaseResult:
    """Throughput of five launches."""
    launches = [
        warm_launch(
            number, 1.0, total_ns=(), invoke_ns=(), samples=1000 + number, workers=2, steady_wall_ns=10**9,
            steady_cpu_ns=2 * 10**9,
        )
        for number in range(5)
    ]  # fmt: skip
    return case("offline.tflite", *launches, scenario="offline", workers=2)


def operators(count: int = 3) -> OpProfile:
    """A profile of so many operators."""
    ops = tuple(
        OpTime(k, f"OP_{k}", "int8", "y", (900, 1000), 1000.0 * (k + 1), 5000, 400, 0, 500.0, None)
        for k in range(count)
    )
    ceiling = Roofline("xnnpack", 1, {"float32": 10.0, "int8": 40.0}, {1000: 50.0, 1_000_000: 5.0})
    return OpProfile("folder/m.tflite", "00", "xnnpack", 1, "litert 0", ops, 7000.0, (7000,), (6000.0,), ceiling)

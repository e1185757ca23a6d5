"""Benchmarks with made-up times, for what is derived from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.bench import BenchmarkReport, Case, CaseResult, Launch

#: Conditions of a quiet machine: this process used one of two processors for ten seconds.
CALM: tuple[dict[str, Any], ...] = (
    {
        "at_s": 0.0, "busy_s": 100.0, "steal_s": 0.0, "own_s": 1.0, "swap_pages": 7,
        "facts": {"cores": 2, "model": None, "trip_c": {}, "usb": {"accelerators": {}, "fastest_port": None}},
    },
    {"at_s": 5.0, "busy_s": 105.0, "steal_s": 0.0, "own_s": 5.9, "swap_pages": 7},
    {"at_s": 10.0, "busy_s": 110.1, "steal_s": 0.0, "own_s": 10.9, "swap_pages": 7},
)  # fmt: skip


def conditions(*changes: Mapping[str, Any], **everywhere: Any) -> tuple[dict[str, Any], ...]:
    """``CALM`` with other values.

    Args:
        changes: for the first, second and third sample.
        everywhere: the same for all.
    """
    padded = [*changes, *({} for _ in CALM[len(changes) :])]
    return tuple({**sample, **everywhere, **change} for sample, change in zip(CALM, padded, strict=True))


def launch(total_ns: Sequence[float], watched: Sequence[Mapping[str, Any]] | None = CALM, **changes: Any) -> Launch:
    """A launch with these steady times; the other figures are made up.

    Args:
        total_ns: steady times.
        watched: conditions around it, ``None`` for a launch that has no record of them.
        changes: other fields.
    """
    times = tuple(round(value) for value in total_ns)
    values: dict[str, Any] = {
        "started_unix_s": 0.0,
        "asked": {"delegate": "xnnpack", "threads": 1, "reason": "", "profile": None, "rejected": {}},
        "got": {"delegate": "xnnpack", "partitions": 1, "operators": 2, "taken": 2, "outside": {}},
        "engine": "litert 0",
        "threads": 1,
        "engine_import_ns": 5,
        "load_ns": 1000,
        "first_run_ns": 500,
        "warmup_ns": (400, 300),
        "total_ns": times,
        "invoke_ns": times,
        "steady_wall_ns": sum(times),
        "steady_cpu_ns": sum(times),
        "rss_before_load_bytes": 100,
        "rss_after_load_bytes": 130,
        "peak_rss_bytes": 150,
        "conditions": tuple(watched or ()),
        **changes,
    }
    return Launch(**values)


def steady(median_ns: float, *, launches: int = 5, runs: int = 20, spread: float = 0.01, seed: int = 0) -> list[Launch]:
    """Launches around one time, each a little off, and their runs around each.

    Args:
        median_ns: about so long a run takes.
        launches: how many.
        runs: of each.
        spread: standard deviation between launches, and between the runs of one, relative.
        seed: of the deviations.
    """
    random = np.random.default_rng(seed)
    return [
        launch(median_ns * random.normal(1, spread) * random.normal(1, spread, runs).clip(0.5, 2))
        for _ in range(launches)
    ]


def case(name: str, *launches: Launch, error: str | None = None, **fields: Any) -> CaseResult:
    """A case's result."""
    return CaseResult(Case(name, "00", 7, **fields), launches, error)


def report(*cases: CaseResult, host: Mapping[str, Any] | None = None, **fields: Any) -> BenchmarkReport:
    """A benchmark of these cases."""
    values: dict[str, Any] = {
        "edgekit": "0.1.0",
        "host": host or {"cpu_model": {"value": "Cortex-A76", "source": "/proc/cpuinfo"}},
        "started_unix_s": 12.5,
        "runs": 20,
        "warmup": 2,
        "seed": 0,
        "cases": cases,
        **fields,
    }
    known = {field.name for field in dataclasses.fields(BenchmarkReport)}
    return BenchmarkReport(**{name: value for name, value in values.items() if name in known})


#: Nanoseconds of the fixed piece of work and of a run, at full pace.
FULL, RUN = 50_000, 1000.0


def switching(
    share: float, *, runs: int = 400, times: float = 1.8, run: float = RUN, full: int = FULL, seed: int = 0
) -> Launch:
    """A launch whose last runs were slowed, with the work timed every fourth run."""
    fast = round(runs * (1 - share))
    random = np.random.default_rng(seed)
    slower = np.where(np.arange(runs) < fast, 1.0, times)
    marks = np.arange(0, runs, 4)
    work = full * np.where(marks < fast, 1.0, times) * random.normal(1, 0.01, len(marks))
    total = run * slower * random.normal(1, 0.01, runs)
    return launch(total, pace_runs=tuple(map(int, marks)), pace_ns=tuple(round(value) for value in work))


def slowed_case(*shares: float, name: str = "m.tflite", **options: Any) -> CaseResult:
    """Launches that were slowed for these shares of their time."""
    return case(name, *(switching(share, seed=number, **options) for number, share in enumerate(shares)))

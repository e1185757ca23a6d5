"""What is measured (``Case``) and what one process measured of it (``Launch``): raw samples, as the file has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SINGLE_STREAM, SERVER, OFFLINE = SCENARIOS = ("single-stream", "server", "offline")
#: What a trial of the server scenario was for.
SEARCH, CONFIRM, REPLAY = "search", "confirm", "replay"


@dataclass(frozen=True)
class Case:
    """What is measured: one model in one way of running it.

    Attributes:
        model: what to call the model.
        sha256: of the model's flatbuffer part.
        size_bytes: the whole file.
        delegate: the delegate that was named, or ``None`` for the profile's pick.
        device: the profile that was named, or ``None``.
        threads: CPU threads that were named, or ``None``.
        engine: the engine that was named, or ``None``.
        batch: samples in one run, which the model's first size is set to; ``None`` for the model's own.
        scenario: ``"single-stream"``, ``"server"`` or ``"offline"``.
        workers: sessions that run beside each other, ``None`` for as many as there are processors for; single stream has one.
        latency_bound_ns: of the server scenario: what a query may take from its arrival.
        percentile: of the server scenario: per cent of the queries that must be within the bound.
        rate_per_s: of the server scenario: the rate that was named, or ``None`` to search the highest valid one.
    """

    model: str
    sha256: str
    size_bytes: int
    delegate: str | None = None
    device: str | None = None
    threads: int | None = None
    engine: str | None = None
    batch: int | None = None
    scenario: str = SINGLE_STREAM
    workers: int | None = None
    latency_bound_ns: int | None = None
    percentile: int = 99
    rate_per_s: float | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Case:
        """Read the file's form; unknown keys are ignored, and what older schemas lack has its default.

        Raises:
            KeyError: a key is missing.
        """
        return cls(**known_fields(cls, data))


@dataclass(frozen=True)
class Trial:
    """Some seconds of the server scenario at one rate. The seed and the rate give each arrival again.

    Attributes:
        rate_per_s: queries per second on average.
        seed: of the arrivals.
        purpose: ``"search"``, ``"confirm"`` or ``"replay"``.
        queries: how many were answered, or came too late, before the trial was decided.
        over: those over the latency bound, queries that were still waiting for longer than that among them.
        valid: whether they are few enough (``statistics.most_over``).
        latency_ns: from a query's arrival to its answer, of each that was answered.
        pace_ns: processor time of a fixed piece of work, taken now and then, see ``edgekit.bench.watch``.
        disturbance: what disturbed the machine while a rate did not hold: such a trial says nothing of the rate. ``None``
            where there was nothing, and where the rate held.
    """

    rate_per_s: float
    seed: int
    purpose: str
    queries: int
    over: int
    valid: bool
    latency_ns: tuple[int, ...]
    pace_ns: tuple[int, ...] = ()
    disturbance: str | None = None

    @property
    def refutes(self) -> bool:
        """Whether it shows that the rate is too high: it did not hold, and nothing disturbed the machine."""
        return not self.valid and self.disturbance is None

    def to_json(self) -> dict[str, Any]:
        """The file's form."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        """Read the file's form.

        Raises:
            KeyError: a key is missing.
        """
        values = known_fields(cls, data)
        for key in ("latency_ns", "pace_ns"):
            values[key] = tuple(int(value) for value in values.get(key, ()))
        return cls(**values)


@dataclass(frozen=True)
class Launch:
    """One process that loaded the model and ran it: times in nanoseconds of ``perf_counter_ns``, memory in bytes.

    Attributes:
        started_unix_s: when it began.
        asked: the delegate that was asked for, why, and the others' reasons.
        got: the delegate that runs, and how many operators it took.
        engine: the interpreter's package and version.
        threads: CPU threads that the interpreter was told to use.
        engine_import_ns: importing the interpreter's package.
        load_ns: ``edgekit.load``: reading and checking the file, choosing and preparing the delegate.
        first_run_ns: the first run.
        warmup_ns: runs before the steady state, the first thousand of them.
        total_ns: each steady run as the caller feels it; empty for the scenarios with several workers.
        invoke_ns: of that, the interpreter's own time.
        steady_wall_ns: all steady runs together, on the clock.
        steady_cpu_ns: all steady runs together, processor time over all threads.
        rss_before_load_bytes: resident memory before loading, ``None`` where the system does not tell.
        rss_after_load_bytes: resident memory after loading.
        peak_rss_bytes: most resident memory at any time of the process.
        warmup_runs: how many runs were before the steady state; ``None`` in files of schema 1.
        settled: whether warm-up ended because there was no trend any more; ``None`` where its length was given.
        steady_started_unix_s: when the steady runs began; ``None`` in files of schema 1.
        samples: samples that the steady runs worked on; ``None`` for one in each run.
        workers: sessions that ran beside each other.
        trials: of the server scenario.
        conditions: what the machine did meanwhile, see ``edgekit.bench.conditions``; empty where it was not watched.
        energy: what an energy source of the machine said of the steady runs, see ``edgekit.bench.energy``; ``None`` without one.
        pace_runs: how many steady runs had ended each time that a fixed piece of work was timed, see ``edgekit.bench.pace``; empty in files
            of schema 1, and where runs were not timed one by one.
        pace_ns: how long that took.
    """

    started_unix_s: float
    asked: Mapping[str, Any]
    got: Mapping[str, Any]
    engine: str
    threads: int
    engine_import_ns: int
    load_ns: int
    first_run_ns: int
    warmup_ns: tuple[int, ...]
    total_ns: tuple[int, ...]
    invoke_ns: tuple[int, ...]
    steady_wall_ns: int
    steady_cpu_ns: int
    rss_before_load_bytes: int | None
    rss_after_load_bytes: int | None
    peak_rss_bytes: int | None
    warmup_runs: int | None = None
    settled: bool | None = None
    steady_started_unix_s: float | None = None
    samples: int | None = None
    workers: int = 1
    trials: tuple[Trial, ...] = ()
    conditions: tuple[Mapping[str, Any], ...] = ()
    energy: Mapping[str, Any] | None = None
    pace_runs: tuple[int, ...] = ()
    pace_ns: tuple[int, ...] = ()

    @property
    def samples_per_s(self) -> float | None:
        """Samples that were worked on in a second of the steady runs; ``None`` for the server scenario, whose rate is given."""
        if self.trials or not self.steady_wall_ns:
            return None
        return (len(self.total_ns) if self.samples is None else self.samples) / (self.steady_wall_ns / 1e9)

    def to_json(self) -> dict[str, Any]:
        """The file's form."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {**values, "trials": [trial.to_json() for trial in self.trials]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Launch:
        """Read the file's form; unknown keys are ignored, and what older schemas lack has its default.

        Raises:
            KeyError: a key is missing.
        """
        values = known_fields(cls, data)
        for key in ("warmup_ns", "total_ns", "invoke_ns", "pace_runs", "pace_ns"):
            values[key] = tuple(int(value) for value in values.get(key, ()))
        values["trials"] = tuple(Trial.from_json(trial) for trial in values.get("trials", ()))
        values["conditions"] = tuple(values.get("conditions", ()))
        return cls(**values)


def known_fields(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataclass takes of an object in a file.

    Args:
        kind: the dataclass.
        data: the object.

    Raises:
        KeyError: a field without default is missing.
    """
    fields = dataclasses.fields(kind)
    return {
        field.name: data[field.name]
        for field in fields
        if field.name in data or field.default is dataclasses.MISSING
    }  # fmt: skip

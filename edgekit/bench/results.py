"""What a benchmark measured: raw samples kept, everything else derived from them.

File format (schema 1): one JSON object with ``"type": "edgekit-benchmark"``, the host, the settings, and for each case
its launches with raw samples. Each key carries its unit. ``summary`` holds the derived figures for other tools; the
reader derives them again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DataError, from_os_error
from edgekit.files import write_whole
from edgekit.report.fields import Field, as_json
from edgekit.report.units import milliseconds, size_text
from edgekit.runtime.summary import LatencySummary

SCHEMA = 1
TYPE = "edgekit-benchmark"
_RESAMPLES = 1000
_SEED = 0


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
    """

    model: str
    sha256: str
    size_bytes: int
    delegate: str | None = None
    device: str | None = None
    threads: int | None = None
    engine: str | None = None


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
        warmup_ns: each run before the steady state.
        total_ns: each steady run as the caller feels it.
        invoke_ns: of that, the interpreter's own time.
        steady_wall_ns: all steady runs together, on the clock.
        steady_cpu_ns: all steady runs together, processor time over all threads.
        rss_before_load_bytes: resident memory before loading, ``None`` where the system does not tell.
        rss_after_load_bytes: resident memory after loading.
        peak_rss_bytes: most resident memory at any time of the process.
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

    def to_json(self) -> dict[str, Any]:
        """The file's form."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Launch:
        """Read the file's form; unknown keys are ignored.

        Raises:
            KeyError: a key is missing.
        """
        values = {field.name: data[field.name] for field in dataclasses.fields(cls)}
        for key in ("warmup_ns", "total_ns", "invoke_ns"):
            values[key] = tuple(int(value) for value in values[key])
        return cls(**values)


@dataclass(frozen=True)
class Ratio:
    """How long a case takes as a multiple of the first case.

    Attributes:
        value: this case's median steady time over the first one's.
        low: lower end of the 95 % interval; ``None`` with a single launch.
        high: upper end.
    """

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class CaseResult:
    """One case's launches.

    Attributes:
        case: what was measured.
        launches: those that ended well.
        error: why one did not, or ``None``.
        ratio: against the first case; ``None`` for the first one itself, and where one of the two failed.
    """

    case: Case
    launches: tuple[Launch, ...]
    error: str | None = None
    ratio: Ratio | None = None

    @property
    def summary(self) -> LatencySummary:
        """Percentiles over the steady runs of all launches."""
        return LatencySummary.of(value for launch in self.launches for value in launch.total_ns)

    def median(self, key: str) -> int | None:
        """The middle launch's figure.

        Args:
            key: a number's name in ``Launch``.

        Returns:
            The median over launches; ``None`` where no launch has it.
        """
        values = [value for launch in self.launches if (value := getattr(launch, key)) is not None]
        return round(float(np.median(values))) if values else None


def ratio(first: CaseResult, other: CaseResult) -> Ratio:
    """Compare two cases' medians.

    The interval is a bootstrap over launches (2.5 % and 97.5 % of 1000 resamples, fixed seed): launches differ more
    than the runs of one launch do. Launches of the same round ran next to each other, so a round is drawn as a whole.
    With three launches it is a rough interval.

    Args:
        first: what to compare with.
        other: what to compare.
    """
    rounds = min(len(first.launches), len(other.launches))
    below = [np.asarray(launch.total_ns) for launch in first.launches[:rounds]]
    above = [np.asarray(launch.total_ns) for launch in other.launches[:rounds]]

    def at(rows: tuple[int, ...]) -> float:
        return float(
            np.median(np.concatenate([above[row] for row in rows]))
            / np.median(np.concatenate([below[row] for row in rows]))
        )

    value = at(tuple(range(rounds)))
    if rounds < 2:
        return Ratio(value, None, None)
    known: dict[tuple[int, ...], float] = {}  # few launches give few different draws
    spread = []
    for draw in np.random.default_rng(_SEED).integers(0, rounds, (_RESAMPLES, rounds)):
        rows = tuple(sorted(int(row) for row in draw))
        if rows not in known:
            known[rows] = at(rows)
        spread.append(known[rows])
    low, high = np.percentile(spread, [2.5, 97.5])
    return Ratio(value, float(low), float(high))


def _from_first(key: str, inner: str | None = None) -> Any:
    def value(result: CaseResult) -> Any:
        if not result.launches:
            return None
        found = getattr(result.launches[0], key)
        return found if inner is None else found.get(inner)

    return value


def _median(key: str) -> Any:
    return lambda result: result.median(key)


def _percentile(key: str) -> Any:
    return lambda result: getattr(result.summary, key) if result.launches else None


def _asked_got(result: CaseResult) -> str | None:
    if not result.launches:
        return None
    asked, got = result.launches[0].asked["delegate"], result.launches[0].got["delegate"]
    return f"{asked} → {got}"


def _load_memory(result: CaseResult) -> int | None:
    before, after = result.median("rss_before_load_bytes"), result.median("rss_after_load_bytes")
    return None if before is None or after is None else after - before


def _cpu_per_run(result: CaseResult) -> int | None:
    runs = sum(len(launch.total_ns) for launch in result.launches)
    return round(sum(launch.steady_cpu_ns for launch in result.launches) / runs) if runs else None


def _invoke_p50(result: CaseResult) -> int | None:
    if not result.launches:
        return None
    return LatencySummary.of(value for launch in result.launches for value in launch.invoke_ns).p50_ns


def _ratio_json(result: CaseResult) -> dict[str, Any] | None:
    return None if result.ratio is None else dict(vars(result.ratio))


#: Every figure of a case; tables show those with a column, JSON has all.
FIELDS: tuple[Field[CaseResult], ...] = (
    Field("model", "model", lambda result: result.case.model),
    Field("asked_got", "asked → got", _asked_got),
    Field("threads", "threads", _from_first("threads")),
    Field("engine", "engine", _from_first("engine"), column=False),
    Field("launches", "launches", lambda result: len(result.launches), column=False),
    Field("runs", "runs", lambda result: sum(len(launch.total_ns) for launch in result.launches), column=False),
    Field("engine_import_ns", "engine import", _median("engine_import_ns"), milliseconds, column=False),
    Field("load_ns", "load", _median("load_ns"), milliseconds),
    Field("first_run_ns", "first run", _median("first_run_ns"), milliseconds),
    Field("p50_ns", "p50", _percentile("p50_ns"), milliseconds),
    Field("p90_ns", "p90", _percentile("p90_ns"), milliseconds),
    Field("p99_ns", "p99", _percentile("p99_ns"), milliseconds),
    Field("min_ns", "fastest", _percentile("min_ns"), milliseconds, column=False),
    Field("max_ns", "slowest", _percentile("max_ns"), milliseconds, column=False),
    Field("mean_ns", "mean", _percentile("mean_ns"), milliseconds, column=False),
    Field("invoke_p50_ns", "p50 of invoke", _invoke_p50, milliseconds, column=False),
    Field("cpu_per_run_ns", "CPU time per run", _cpu_per_run, milliseconds, column=False),
    Field("peak_rss_bytes", "memory", _median("peak_rss_bytes"), size_text),
    Field("load_rss_bytes", "memory of load", _load_memory, size_text, column=False),
    Field("ratio_to_first", "p50 ÷ first's", _ratio_json, lambda value: str(Ratio(**value))),
    Field("error", "error", lambda result: result.error),
)


@dataclass(frozen=True)
class BenchmarkReport:
    """A whole benchmark.

    Attributes:
        edgekit: the version that measured.
        host: what the machine is, with where each fact was read.
        started_unix_s: when it began.
        runs: steady runs of each launch.
        warmup: runs of each launch between the first and the steady ones.
        seed: of the random inputs.
        cases: one for each model, in the order given.
    """

    edgekit: str
    host: Mapping[str, Any]
    started_unix_s: float
    runs: int
    warmup: int
    seed: int
    cases: tuple[CaseResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no case failed."""
        return all(result.error is None for result in self.cases)

    def to_json(self) -> dict[str, Any]:
        """The file's form: raw samples, and the figures derived from them."""
        return {
            "type": TYPE,
            "schema": SCHEMA,
            "edgekit": self.edgekit,
            "clock": "perf_counter_ns",
            "started_unix_s": self.started_unix_s,
            "host": dict(self.host),
            "settings": {"runs": self.runs, "warmup": self.warmup, "seed": self.seed},
            "cases": [
                {
                    "case": dict(vars(result.case)),
                    "error": result.error,
                    "summary": as_json(FIELDS, result),
                    "launches": [launch.to_json() for launch in result.launches],
                }
                for result in self.cases
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], origin: str = "the benchmark") -> BenchmarkReport:
        """Read the file's form; unknown keys are ignored.

        Args:
            data: what ``to_json`` gave.
            origin: what to call it in messages.

        Raises:
            DataError: it is not a benchmark, or of a newer schema.
        """
        if not isinstance(data, Mapping) or data.get("type") != TYPE:
            raise DataError(f"{origin} is not a benchmark: a file that `edgekit bench -o` wrote was expected.")
        schema = data.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise DataError(f"{origin} has schema {schema}, this edgekit reads up to {SCHEMA}. Update edgekit.")
        try:
            names = [field.name for field in dataclasses.fields(Case)]
            cases = tuple(
                CaseResult(
                    Case(**{name: item["case"][name] for name in names}),
                    tuple(Launch.from_json(launch) for launch in item["launches"]),
                    item["error"],
                )
                for item in data["cases"]
            )
            settings = data["settings"]
            return cls(
                str(data["edgekit"]), data["host"], float(data["started_unix_s"]), int(settings["runs"]),
                int(settings["warmup"]), int(settings["seed"]), with_ratios(cases),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{origin} is damaged ({error!r}): measure again.") from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> BenchmarkReport:
        """Read a benchmark file.

        Raises:
            DataError: it is not one.
            EdgekitError: it cannot be read.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise from_os_error(error, path, "read", DataError) from error
        try:
            data = json.loads(text)
        except ValueError as error:
            raise DataError(
                f"{path} is not a benchmark: {error}. A file that `edgekit bench -o` wrote was expected."
            ) from error
        return cls.from_json(data, str(path))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the benchmark as JSON, whole or not at all.

        Args:
            path: where to.
            overwrite: whether an existing file may be replaced.

        Raises:
            OutputError: it exists, or cannot be written.
        """
        text = json.dumps(self.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        write_whole(Path(path), f"{text}\n".encode(), overwrite=overwrite)


def with_ratios(cases: tuple[CaseResult, ...]) -> tuple[CaseResult, ...]:
    """Add each case's ratio to the first one.

    Args:
        cases: in order; nothing is added to or against cases that failed.
    """
    first = cases[0]

    def compared(result: CaseResult) -> CaseResult:
        usable = first.error is None and result.error is None and first.launches and result.launches
        return dataclasses.replace(result, ratio=ratio(first, result)) if usable else result

    return (first, *(compared(result) for result in cases[1:]))

"""What a benchmark measured: raw samples kept, everything else derived from them.

File format (schema 2): one JSON object with ``"type": "edgekit-benchmark"``, the host, the settings, and for each case
its launches with raw samples and the conditions meanwhile. Each key carries its unit. ``summary`` and ``verdict`` hold what is
derived for other tools; the reader derives them again. Schema 1 lacks what has a default here, and is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bench.cases import CaseResult as CaseResult
from edgekit.bench.cases import Ratio as Ratio
from edgekit.bench.cases import ratio as ratio
from edgekit.bench.cases import with_ratios as with_ratios
from edgekit.bench.figures import FIELDS as FIELDS
from edgekit.bench.launch import Case as Case
from edgekit.bench.launch import Launch as Launch
from edgekit.bench.launch import Trial as Trial
from edgekit.errors import DataError, from_os_error
from edgekit.files import write_whole
from edgekit.report.fields import as_json

if TYPE_CHECKING:
    from edgekit.bench.validity import Verdict

SCHEMA = 2
TYPE = "edgekit-benchmark"


@dataclass(frozen=True)
class BenchmarkReport:
    """A whole benchmark.

    Attributes:
        edgekit: the version that measured.
        host: what the machine is, with where each fact was read.
        started_unix_s: when it began.
        runs: steady runs of each launch that were asked for; ``None`` for about a second of them.
        warmup: runs of each launch between the first and the steady ones; ``None`` for as many as it takes.
        seed: of the random inputs and of the arrivals.
        cases: one for each model and way of running it, in the order given.
        launches: processes for each case that were asked for; ``None`` for as many as the interval takes.
        target: the width of the median's interval, as a share of it, at which launches end.
        budget_s: the time for all, in seconds, after which no further launch begins.
        inputs: ``"random"``, or what the real data are called.
        interrupted: whether somebody ended it, so that it holds what was measured until then.
    """

    edgekit: str
    host: Mapping[str, Any]
    started_unix_s: float
    runs: int | None
    warmup: int | None
    seed: int
    cases: tuple[CaseResult, ...]
    launches: int | None = None
    target: float | None = None
    budget_s: float | None = None
    inputs: str = "random"
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        """Whether every case was measured, and a rate that was named for the server scenario was valid."""
        return not self.interrupted and all(
            result.error is None and (result.case.rate_per_s is None or result.highest_rate_per_s is not None)
            for result in self.cases
        )

    @property
    def verdict(self) -> Verdict:
        """Whether it may be believed: VALID, NOISY or INVALID, with reasons."""
        from edgekit.bench.validity import verdict

        return verdict(self)

    def to_json(self) -> dict[str, Any]:
        """The file's form: raw samples, and the figures derived from them."""
        return {
            "type": TYPE,
            "schema": SCHEMA,
            "edgekit": self.edgekit,
            "clock": "perf_counter_ns",
            "started_unix_s": self.started_unix_s,
            "host": dict(self.host),
            "settings": {
                "runs": self.runs,
                "warmup": self.warmup,
                "seed": self.seed,
                "launches": self.launches,
                "target": self.target,
                "budget_s": self.budget_s,
                "inputs": self.inputs,
            },
            "interrupted": self.interrupted,
            "verdict": self.verdict.to_json(),
            "cases": [
                {
                    "case": dict(vars(result.case)),
                    "error": result.error,
                    "known_pace_ns": result.known_pace_ns,
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
            cases = tuple(
                CaseResult(
                    Case.from_json(item["case"]),
                    tuple(Launch.from_json(launch) for launch in item["launches"]),
                    item["error"],
                    known_pace_ns=item.get("known_pace_ns"),
                )
                for item in data["cases"]
            )
            settings = data["settings"]
            return cls(
                str(data["edgekit"]), data["host"], float(data["started_unix_s"]), settings["runs"], settings["warmup"],
                int(settings["seed"]), with_ratios(cases), settings.get("launches"), settings.get("target"),
                settings.get("budget_s"), str(settings.get("inputs", "random")), bool(data.get("interrupted", False)),
            )  # fmt: skip
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise DataError(f"{origin} is damaged ({error!r}): measure again.") from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> BenchmarkReport:
        """Read a benchmark file.

        Raises:
            DataError: it is not one, or damaged.
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
        from edgekit.bench.damage import check_whole

        report = cls.from_json(data, str(path))
        check_whole(report, str(path))
        return report

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

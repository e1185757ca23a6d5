"""Measuring a model on several delegates: each launch in a process of its own, which a driver may take down, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import date

from edgekit.errors import OptionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec, PartitionReport
from edgekit.runtime.trial import run_trial
from edgekit_profiles.measurements import Measurement, Timed, runtime_version

#: Processes for each delegate, and in each so long warming up and measuring; slow delegates get the fewest runs.
LAUNCHES = 3
_WARMUP_NS, _MEASURE_NS, _FEWEST, _MOST = 200_000_000, 600_000_000, 5, 400
#: Of the random inputs.
_SEED = 0
#: Preparing a large model on a GPU takes tens of seconds; what takes longer than this hangs.
LIMIT_SECONDS = 180.0
_QUOTED_LINES = 4


class Series:
    """One delegate that is measured.

    Args:
        spec: the delegate with its threads and options.

    Attributes:
        medians_ns: the median run of each launch, in nanoseconds.
        load_ns: what loading took, of each launch, in nanoseconds.
        engine: the interpreter's package and version, once a launch has answered.
        partitions: what the delegate took, where the engine tells.
        runs: all runs that were timed.
        error: why it cannot be measured; ``None`` while it can.
    """

    def __init__(self, spec: DelegateSpec) -> None:
        self.spec = spec
        self.medians_ns: list[float] = []
        self.load_ns: list[float] = []
        self.engine = ""
        self.partitions: PartitionReport | None = None
        self.runs = 0
        self.error: str | None = None

    @property
    def timed(self) -> Timed:
        """What was measured."""
        return Timed(
            self.spec.kind,
            self.spec.threads or 1,
            self.engine,
            tuple(self.medians_ns),
            tuple(self.load_ns),
            self.runs,
        )


def measure(
    model: ModelFile,
    specs: Sequence[DelegateSpec],
    *,
    refused: Mapping[str, str] | None = None,
    launches: int = LAUNCHES,
    limit_s: float = LIMIT_SECONDS,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> tuple[Measurement, tuple[Series, ...]]:
    """Measure a model on several delegates here.

    Args:
        model: the model; its open sizes are taken as 1.
        specs: the delegates, with threads and options.
        refused: delegates that were tried in another way and cannot be used, with the reason: kept with the measurement.
        launches: processes for each; those of the delegates take turns, every second round in reverse.
        limit_s: the most seconds that a process may take.
        progress: called as ``progress(step, done, total)``.

    Returns:
        The measurement, and a series for each delegate, with its error where it has one.

    Raises:
        OptionError: no launches.
        EngineError: a process cannot be started.
    """
    if launches < 1:
        raise OptionError(f"launches is {launches}: at least 1 was expected.")
    everyone = tuple(Series(spec) for spec in specs)
    done, content = 0, model.content
    for round_number in range(launches):
        for series in everyone if round_number % 2 == 0 else reversed(everyone):
            progress("Measuring", done, launches * len(everyone))
            done += 1
            if series.error is None:
                _launch(series, model, content, limit_s)
    progress("Measuring", done, done)
    # Not of the Edge TPU: it may be held by another program today and be free tomorrow, and its load says why it is not.
    errors = {item.spec.kind: item.error for item in everyone if item.error is not None and item.spec.kind != "edgetpu"}
    measured = Measurement(
        when=date.today().isoformat(),
        version=runtime_version(),
        times={series.spec.kind: series.timed for series in everyone if series.error is None},
        refused={**(refused or {}), **errors},
    )
    return measured, everyone


def _launch(series: Series, model: ModelFile, content: bytes, limit_s: float) -> None:
    spec = series.spec
    about = {
        "delegate": spec.kind, "threads": spec.threads, "options": dict(spec.options), "seed": _SEED, "warmup_ns": _WARMUP_NS,
        "measure_ns": _MEASURE_NS, "fewest": _FEWEST, "most": _MOST,
    }  # fmt: skip
    trial = run_trial("edgekit_profiles.measure_child", about, content, timeout_s=limit_s)
    answer = trial.result
    if answer is None:
        said = " | ".join(line.strip() for line in trial.said.splitlines()[-_QUOTED_LINES:] if line.strip())
        series.error = f"the process that ran it gave no times: {trial.how_it_ended()}"
        series.error += f". Its last words: {said}" if said else ""
        return
    try:
        series.medians_ns.append(statistics.median(float(item) for item in answer["runs_ns"]))
        series.load_ns.append(float(answer["load_ns"]))
        series.engine = str(answer["engine"])
        series.runs += len(answer["runs_ns"])
        found = answer["partitions"]
        if found is not None:
            names = tuple(op.name for op in model.graph.main.ops)
            parts = tuple(tuple(part) for part in found["partitions"])
            series.partitions = PartitionReport(spec.kind, parts, tuple(found["outside"]), names)
    except (KeyError, TypeError, ValueError, statistics.StatisticsError):
        series.error = str(answer.get("error", "the process that ran it sent something else than times"))

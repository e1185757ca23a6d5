"""``FIELDS``: every figure of a case, for tables and JSON."""

from __future__ import annotations

from typing import Any

from edgekit.bench.cases import CaseResult, Ratio
from edgekit.bench.launch import SINGLE_STREAM
from edgekit.report.fields import NOTHING, Field
from edgekit.report.units import milliseconds, size_text
from edgekit.runtime.summary import LatencySummary


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
    def value(result: CaseResult) -> Any:
        summary = result.summary
        return getattr(summary, key) if summary.count else None

    return value


def _asked_got(result: CaseResult) -> str | None:
    if not result.launches:
        return None if result.case.delegate is None else f"{result.case.delegate} → {NOTHING}"
    asked, got = result.launches[0].asked["delegate"], result.launches[0].got["delegate"]
    return f"{asked} → {got}"


def _delegate_text(asked_got: str) -> str:
    """One name where what runs is what was asked for."""
    asked, got = asked_got.split(" → ")
    return asked if asked == got else asked_got


def _threads(result: CaseResult) -> int | None:
    return result.launches[0].threads if result.launches else result.case.threads


def _load_memory(result: CaseResult) -> int | None:
    before, after = result.median("rss_before_load_bytes"), result.median("rss_after_load_bytes")
    return None if before is None or after is None else after - before


def _cpu_per_run(result: CaseResult) -> int | None:
    runs = sum(len(launch.total_ns) for launch in result.launches)
    return round(sum(launch.steady_cpu_ns for launch in result.launches) / runs) if runs else None


def _invoke_p50(result: CaseResult) -> int | None:
    found = LatencySummary.of(value for launch in result.launches for value in launch.invoke_ns)
    return found.p50_ns if found.count else None


def _interval_json(result: CaseResult) -> dict[str, Any] | None:
    return None if result.interval is None else result.interval.to_json()


def _median_text(value: dict[str, Any]) -> str:
    return milliseconds(value["value"])


def _full_pace(result: CaseResult) -> dict[str, Any] | None:
    """Where it is not the same as the median."""
    found = result.steady if result.slowed else None
    return None if found is None else found.to_json()


def _predicted(result: CaseResult) -> list[float] | None:
    found = result.steady
    if found is None or found.predicted_low is None or found.predicted_high is None:
        return None
    return [found.predicted_low, found.predicted_high]


def _range_text(value: list[float]) -> str:
    low, unit = milliseconds(value[0]).split(" ", 1)
    return f"{low}–{milliseconds(value[1]).removesuffix(f' {unit}')} {unit}"


def _throughput(result: CaseResult) -> dict[str, Any] | None:
    """Where it says more than the time of a run does."""
    alone = result.case.scenario == SINGLE_STREAM and result.case.batch is None
    return None if alone or result.throughput is None else result.throughput.to_json()


def _per_second(value: dict[str, Any]) -> str:
    text = f"{value['value']:.4g}"
    return text if value["low"] is None else f"{text} ±{50 * (value['high'] - value['low']) / value['value']:.1f} %"


def _settled(result: CaseResult) -> bool | None:
    known = [launch.settled for launch in result.launches if launch.settled is not None]
    return all(known) if known else None


def _workers(result: CaseResult) -> int | None:
    if result.case.scenario == SINGLE_STREAM or not result.launches:
        return None
    return result.launches[0].workers


def _confirmed(result: CaseResult) -> list[int] | None:
    count = len(result.launches) - result.disturbed_launches
    return None if result.confirmations is None else [result.confirmations, count]


def _confirmed_text(counts: list[int]) -> str:
    return f"{counts[0]} of {counts[1]} launches" if counts[1] else "no launch was undisturbed"


def _energy(result: CaseResult) -> dict[str, Any] | None:
    from edgekit.bench.energy import per_inference

    found = per_inference(result)
    return None if found is None else found.to_json()


def _energy_text(value: dict[str, Any]) -> str:
    from edgekit.bench.energy import Energy

    return str(Energy(**value)).split(" per inference", 1)[0]


def _verdict(result: CaseResult) -> str | None:
    from edgekit.bench.validity import verdict_of

    return verdict_of(result).level if result.launches else None


def _ratio_json(result: CaseResult) -> dict[str, Any] | None:
    return None if result.ratio is None else dict(vars(result.ratio))


#: Every figure of a case; tables show those with a column, JSON has all.
FIELDS: tuple[Field[CaseResult], ...] = (
    Field("model", "model", lambda result: result.case.model),
    Field("scenario", "scenario", lambda result: result.case.scenario, column=False),
    Field("asked_got", "asked → got", _asked_got, _delegate_text),
    Field("threads", "threads", _threads),
    Field("batch", "batch", lambda result: result.case.batch),
    Field("workers", "workers", _workers),
    Field("engine", "engine", _from_first("engine"), column=False),
    Field("launches", "launches", lambda result: len(result.launches), column=False),
    Field("runs", "runs", lambda result: sum(len(launch.total_ns) for launch in result.launches), column=False),
    Field("engine_import_ns", "engine import", _median("engine_import_ns"), milliseconds, column=False),
    Field("load_ns", "load", _median("load_ns"), milliseconds),
    Field("first_run_ns", "first run", _median("first_run_ns"), milliseconds),
    Field("warmup_runs", "warm-up runs", _median("warmup_runs"), column=False),
    Field("settled", "settled", _settled, column=False),
    Field("median_ns", "median", _interval_json, _median_text),
    Field("pace_ns", "fixed work at full pace", lambda result: result.full_pace_ns, milliseconds, column=False),
    Field("slowed_share", "processor slowed", lambda result: result.slowed_share, column=False),
    Field("full_pace_ns", "at full pace", _full_pace, _median_text),
    Field("rerun_ns", "95 % of reruns", _predicted, _range_text),
    Field("p50_ns", "p50", _percentile("p50_ns"), milliseconds, column=False),
    Field("p90_ns", "p90", _percentile("p90_ns"), milliseconds),
    Field("p90_estimate_ns", "p90, surely", lambda result: result.p90_estimate_ns, milliseconds, column=False),
    Field("p99_ns", "p99", _percentile("p99_ns"), milliseconds),
    Field("min_ns", "fastest", _percentile("min_ns"), milliseconds, column=False),
    Field("max_ns", "slowest", _percentile("max_ns"), milliseconds, column=False),
    Field("mean_ns", "mean", _percentile("mean_ns"), milliseconds, column=False),
    Field("invoke_p50_ns", "p50 of invoke", _invoke_p50, milliseconds, column=False),
    Field("cpu_per_run_ns", "CPU time per run", _cpu_per_run, milliseconds, column=False),
    Field("samples_per_s", "samples per second", _throughput, _per_second),
    Field("latency_bound_ns", "bound", lambda result: result.case.latency_bound_ns, milliseconds),
    Field(
        "highest_rate_per_s",
        "highest valid rate",
        lambda result: result.highest_rate_per_s,
        lambda rate: f"{rate:.4g} per s",
    ),
    Field("confirmed", "valid in", _confirmed, _confirmed_text),
    Field("peak_rss_bytes", "memory", _median("peak_rss_bytes"), size_text),
    Field("energy_per_inference_j", "energy per inference", _energy, _energy_text),
    Field("load_rss_bytes", "memory of load", _load_memory, size_text, column=False),
    Field("ratio_to_first", "p50 ÷ first's", _ratio_json, lambda value: str(Ratio(**value))),
    Field("verdict", "verdict", _verdict),
    Field("error", "error", lambda result: result.error),
)

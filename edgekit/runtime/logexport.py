"""A latency log for other programs: a CSV table of runs, a text file for Prometheus."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from edgekit.runtime.histogram import Histogram
from edgekit.runtime.latency import TIMES
from edgekit.runtime.logfile import LoggedRuns
from edgekit.runtime.logformat import FIELDS, unix_time_s
from edgekit.runtime.logmerge import session_of

CSV_COLUMNS: tuple[str, ...] = ("session", "node", "model", "delegate", *FIELDS, "total_ns", "start_unix_s")
#: Upper bounds of the buckets that Prometheus gets, in nanoseconds: 1, 2 and 5 of each power of ten from 10 µs to 10 s.
_BOUNDS_NS: tuple[int, ...] = (*(factor * 10**power for power in range(4, 10) for factor in (1, 2, 5)), 10**10)


def model_of(header: Mapping[str, Any]) -> str:
    """The model's file name, or the beginning of its sha256 when it came from memory."""
    return str(header.get("model") or str(header.get("model_sha256", "?"))[:12])


def delegate_of(header: Mapping[str, Any]) -> str:
    """The delegate that ran something of the model, as ``Session.got`` has it."""
    got = header.get("got")
    if not isinstance(got, dict):
        return "?"
    return str(got.get("delegate", "?")) if got.get("partitions", 1) else "none"


def node_of(header: Mapping[str, Any]) -> str:
    """The machine's name."""
    host = header.get("host")
    return str(host.get("node", "?")) if isinstance(host, dict) else "?"


def csv_bytes(parts: Iterable[LoggedRuns]) -> bytes:
    """A table with a row for each run; the columns are ``CSV_COLUMNS``, times in nanoseconds."""
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for part in parts:
        names = (session_of(part), node_of(part.header), model_of(part.header), delegate_of(part.header))
        for row, total in zip(part.rows.tolist(), part.times().tolist(), strict=True):
            unix = unix_time_s(part.header, row[1])
            table.writerow((*names, *row, total, "" if unix is None else f"{unix:.6f}"))
    return stream.getvalue().encode()


def prometheus_bytes(parts: Iterable[LoggedRuns]) -> bytes:
    """A file for the textfile collector of Prometheus' node_exporter.

    Sessions of the same model, delegate and machine are added up. The format is the text exposition format 0.0.4
    (https://prometheus.io/docs/instrumenting/exposition_formats/).
    """
    groups: dict[str, list[LoggedRuns]] = {}
    for part in parts:
        names = {"model": model_of(part.header), "delegate": delegate_of(part.header), "node": node_of(part.header)}
        groups.setdefault(",".join(f'{name}="{_escape(value)}"' for name, value in names.items()), []).append(part)
    histograms = {labels: _histograms(group) for labels, group in groups.items()}
    lines: list[str] = []

    def family(name: str, kind: str, text: str) -> None:
        lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))

    family("edgekit_run_seconds", "histogram", "Time of a run by phase; total is what the caller waited.")
    for labels, times in histograms.items():
        for name, item in times.items():
            labelled = f'{labels},phase="{name}"'
            lines += [
                f'edgekit_run_seconds_bucket{{{labelled},le="{bound / 1e9!r}"}} {item.at_most(bound)}'
                for bound in _BOUNDS_NS
            ]
            lines.append(f'edgekit_run_seconds_bucket{{{labelled},le="+Inf"}} {item.count}')
            lines.append(f"edgekit_run_seconds_sum{{{labelled}}} {item.sum_ns / 1e9!r}")
            lines.append(f"edgekit_run_seconds_count{{{labelled}}} {item.count}")
    family("edgekit_run_quantile_seconds", "gauge", "Percentiles of the same times, at most 1 % off.")
    for labels, times in histograms.items():
        for name, item in times.items():
            for percent in (50, 90, 95, 99):
                value = item.percentile(percent) / 1e9
                lines.append(
                    f'edgekit_run_quantile_seconds{{{labels},phase="{name}",quantile="{percent / 100!r}"}} {value!r}'
                )
    family("edgekit_log_dropped_records_total", "counter", "Runs that could not be written to the latency log.")
    for labels, group in groups.items():
        lines.append(f"edgekit_log_dropped_records_total{{{labels}}} {sum(part.dropped for part in group)}")
    family("edgekit_log_missing_records", "gauge", "Sequence numbers that are not in the latency log and should be.")
    for labels, group in groups.items():
        lines.append(f"edgekit_log_missing_records{{{labels}}} {sum(part.missing for part in group)}")
    family("edgekit_last_run_unix_seconds", "gauge", "When the newest run in the latency log began.")
    for labels, group in groups.items():
        times_s = [unix_time_s(part.header, int(part.rows[-1, 1])) for part in group if len(part.rows)]
        known = [value for value in times_s if value is not None]
        if known:
            lines.append(f"edgekit_last_run_unix_seconds{{{labels}}} {max(known)!r}")
    return "".join(f"{line}\n" for line in lines).encode()


def _histograms(parts: list[LoggedRuns]) -> dict[str, Histogram]:
    merged = {name: Histogram() for name in TIMES}
    for part in parts:
        for name, item in merged.items():
            item.merge(part.histogram(name))
    return merged


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

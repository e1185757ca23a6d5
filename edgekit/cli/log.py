"""``edgekit log``."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.output import print_json, print_table
from edgekit.report.units import milliseconds
from edgekit.runtime.logfile import LoggedRuns, read_log
from edgekit.runtime.summary import LatencySummary


@click.group("log")
def command() -> None:
    """Read latency logs."""


@command.command("summary")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def summary(file: str, as_json: bool) -> None:
    """Percentiles of each session in a latency log."""
    parts = read_log(file)
    if as_json:
        print_json({"path": file, "sessions": [_json(part) for part in parts]})
        return
    rows = []
    for number, part in enumerate(parts, 1):
        total = LatencySummary.of(record.total_ns for record in part.records)
        rows.append(
            (
                str(number),
                str(part.header.get("model") or str(part.header.get("model_sha256", "?"))[:12]),
                f"{part.header.get('engine', '?')}, {_delegate(part)}",
                str(total.count),
                *(milliseconds(value) for value in (total.p50_ns, total.p90_ns, total.p99_ns, total.max_ns)),
                milliseconds(LatencySummary.of(record.invoke_ns for record in part.records).p50_ns),
            )
        )
    columns = ("session", "model", "runs on", "runs", "p50", "p90", "p99", "max", "of p50: invoke")
    print_table(file, columns, rows)


def _delegate(part: LoggedRuns) -> str:
    """The delegate that ran something of the model, as ``Session.got`` has it."""
    got = part.header.get("got")
    if not isinstance(got, dict):
        return "?"
    return str(got.get("delegate", "?")) if got.get("partitions", 1) else "none"


def _json(part: LoggedRuns) -> dict[str, Any]:
    phases = {
        "total": [record.total_ns for record in part.records],
        "copy_in": [record.copy_in_ns for record in part.records],
        "invoke": [record.invoke_ns for record in part.records],
        "copy_out": [record.copy_out_ns for record in part.records],
    }
    return {
        "header": dict(part.header),
        "latency": {name: LatencySummary.of(values).to_json() for name, values in phases.items()},
    }

"""``edgekit log``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import print_json, print_table
from edgekit.report.units import milliseconds
from edgekit.runtime.latency import TIMES, RunRecord
from edgekit.runtime.logexport import csv_bytes, delegate_of, model_of, prometheus_bytes
from edgekit.runtime.logfile import LoggedRuns, read_log
from edgekit.runtime.logformat import unix_time_s

#: So many gaps are listed one by one.
_MOST_GAPS = 100


@click.group("log")
def command() -> None:
    """Read latency logs."""


@command.command("summary")
@click.argument("file", metavar="FILE|FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def summary(file: str, as_json: bool) -> None:
    """Percentiles of each session in a latency log, its numbered older files included."""
    parts = read_log(file)
    if as_json:
        print_json({"path": file, "sessions": [_json(part) for part in parts]})
        return
    rows: list[tuple[str, ...]] = []
    for number, part in enumerate(parts, 1):
        what = (str(number), model_of(part.header), f"{part.header.get('engine', '?')}, {delegate_of(part.header)}")
        for name in TIMES:
            found = part.summary(name)
            figures = (found.p50_ns, found.p90_ns, found.p99_ns, found.max_ns)
            first = (*what, str(found.count)) if name == TIMES[0] else ("", "", "", "")
            rows.append((*first, name.replace("_", " "), *(milliseconds(value) for value in figures)))
    columns = ("session", "model", "runs on", "runs", "time", "p50", "p90", "p99", "max")
    print_table(file, columns, rows)
    for number, part in enumerate(parts, 1):
        for text in _remarks(part):
            click.echo(f"session {number}: {text}")


def _remarks(part: LoggedRuns) -> list[str]:
    """What one should know before one trusts the figures."""
    texts = []
    if part.first:
        texts.append(f"runs before number {part.first} were in older files.")
    if part.gaps:
        shown = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in part.gaps[:5])
        texts.append(f"{part.missing} runs are missing: {shown}{', …' if len(part.gaps) > 5 else '.'}")
    if part.dropped:
        texts.append(f"{part.dropped} records could not be written (a full or slow disk).")
    if part.damaged:
        texts.append(f"{part.damaged} lines could not be read (a kill, a power cut or a damaged disk).")
    return texts


def _json(part: LoggedRuns) -> dict[str, Any]:
    return {
        "header": dict(part.header),
        "latency": {name: part.summary(name).to_json() for name in TIMES},
        "records": len(part.rows),
        "first": part.first,
        "closed": part.closed is not None,
        "dropped": part.dropped,
        "damaged": part.damaged,
        "missing": part.missing,
        "gaps": [list(gap) for gap in part.gaps[:_MOST_GAPS]],
    }


@command.command("tail")
@click.argument("file")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=10, show_default=True, help="How many runs.")
@click.option("-f", "--follow", is_flag=True, help="Go on with the runs that come, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each run.")
def tail(file: str, lines: int, follow: bool, as_json: bool) -> None:
    """Show the newest runs of a latency log."""
    from edgekit.runtime.logtail import Tail

    reader = Tail(file)
    try:
        for header, record in reader.newest(lines):
            click.echo(_line(header, record, as_json))
        while follow:
            time.sleep(0.2)
            for header, record in reader.read_more():
                click.echo(_line(header, record, as_json))
    except KeyboardInterrupt:  # how one ends --follow
        pass
    finally:
        reader.close()


def _line(header: Mapping[str, Any], record: RunRecord, as_json: bool) -> str:
    when = _clock_text(unix_time_s(header, record.start_ns))
    if as_json:
        fields = {"session": header.get("session"), "model": model_of(header), "start": when}
        return json.dumps({**fields, **record._asdict(), "total_ns": record.total_ns}, ensure_ascii=False)
    times = [f"{name} {milliseconds(getattr(record, f'{name}_ns'))}" for name in TIMES]
    return f"{when or '?'}  {model_of(header)}  #{record.sequence}  {'  '.join(times)}"


def _clock_text(unix_s: float | None) -> str | None:
    import datetime

    try:
        moment = None if unix_s is None else datetime.datetime.fromtimestamp(unix_s, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):  # a header may say anything
        moment = None
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@command.command("merge")
@click.argument("files", nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The log to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def merge(files: tuple[str, ...], output: Path, overwrite: bool, as_json: bool) -> None:
    """Put the logs of several devices or days into one file; each run is in it once."""
    from edgekit.files import check_writable, write_whole
    from edgekit.runtime.logmerge import log_bytes, merge_sessions

    check_writable(output, overwrite=overwrite)
    parts = merge_sessions(part for file in files for part in read_log(file))
    write_whole(output, log_bytes(parts), overwrite=overwrite)
    _done(output, parts, as_json)


@command.command("export")
@click.argument("files", nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option("--format", "kind", type=click.Choice(["csv", "prometheus"]), required=True, help="What to write.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file, whole or not at all.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def export(files: tuple[str, ...], kind: str, output: Path, overwrite: bool, as_json: bool) -> None:
    """Write a latency log as CSV, or as a text file for Prometheus' node_exporter."""
    from edgekit.files import check_writable, write_whole
    from edgekit.runtime.logmerge import merge_sessions

    check_writable(output, overwrite=overwrite)
    parts = merge_sessions(part for file in files for part in read_log(file))
    write_whole(output, csv_bytes(parts) if kind == "csv" else prometheus_bytes(parts), overwrite=overwrite)
    _done(output, parts, as_json)


def _done(output: Path, parts: tuple[LoggedRuns, ...], as_json: bool) -> None:
    runs = sum(len(part.rows) for part in parts)
    if as_json:
        print_json({"output": str(output), "sessions": len(parts), "runs": runs})
    else:
        click.echo(f"{output}: {runs} runs of {len(parts)} session{'' if len(parts) == 1 else 's'}")

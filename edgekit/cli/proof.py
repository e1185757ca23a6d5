"""How the proof of a conversion is printed, after converting and when inspecting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from edgekit.cli.output import console
from edgekit.report.fields import table as fields_table
from edgekit.report.layer_fields import LAYER_FIELDS, short_name

_MARKS = {True: ("pass", "green"), False: ("FAIL", "bold red"), None: ("", "")}


def print_findings(findings: Sequence[Mapping[str, str]]) -> None:
    """Print findings, warnings first and marked."""
    out = console()
    for finding in sorted(findings, key=lambda item: item["level"] != "warning"):
        warning = finding["level"] == "warning"
        text = Text(f"{finding['level']}: ", style="bold yellow" if warning else "dim")
        text.append(f"{finding['text']} [{finding['code']}]", style="" if warning else "dim")
        out.print(text)


def print_verification(verification: Mapping[str, Any]) -> None:
    """Print a manifest's ``verification`` block: checks, then figures by data set."""
    out = console()
    checks = Table(title="Checks of the exported file", title_justify="left", title_style="bold", show_header=False)
    checks.add_column(no_wrap=True)
    checks.add_column(no_wrap=True)
    checks.add_column(overflow="fold")
    for check in verification.get("checks", ()):
        mark, style = _MARKS[check["passed"]]
        checks.add_row(check["name"], Text(mark, style=style), Text(check["text"]))
    out.print(checks)
    sets = verification.get("on", {})
    if not sets:
        return
    title = f"Float against int8, on {verification.get('engine')}, {verification.get('delegate')} (95 % intervals)"
    table = Table(title=Text(title, style="bold"), title_justify="left")
    several = any(len(figures["outputs"]) > 1 for figures in sets.values())
    names = [figures["metric"]["name"] for figures in sets.values() if figures.get("metric")]
    task = [f"float {names[0]}", f"int8 {names[0]}", "drop"] if names else []
    for column in ("data", "samples", *(["output"] if several else []), "agreement", "SQNR", *task):
        table.add_column(column, no_wrap=column != "output", overflow="fold")
    for name, figures in sets.items():
        for number, output in enumerate(figures["outputs"]):
            metric = figures.get("metric") if number == 0 else None
            table.add_row(
                name if number == 0 else "",
                str(figures["count"]) if number == 0 else "",
                *([output["name"]] if several else []),
                _percent(output["agreement"]),
                _decibels(output["sqnr_db"]),
                *(
                    [_metric(metric, "float"), _metric(metric, "int8"), _metric(metric, "drop", signed=True)]
                    if task
                    else []
                ),
            )
    out.print(table)


#: What the terminal has no room for, and what a narrow one has no room for either; pages and JSON have it.
_NOT_HERE = frozenset({"shape", "scale", "zero_point"})
_NARROW = 110
_NOT_IN_NARROW = frozenset({"bias", "range"})


def print_layers(layers: Mapping[str, Any]) -> None:
    """Print what ``LayerReport.to_json`` gives: a line for each tensor in the graph's order, the worst marked."""
    out = console()
    rows = layers["layers"]
    left_out = _NOT_HERE
    if out.width < _NARROW:
        left_out |= _NOT_IN_NARROW
    if len({row["dtype"] for row in rows}) == 1:
        left_out |= {"dtype"}
    room = 14 if out.width < _NARROW else 26
    shortened = [{**row, "name": short_name(row["name"], room)} for row in rows]
    titles, cells = fields_table([field for field in LAYER_FIELDS if field.key not in left_out], shortened)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in titles:
        # What is clipped at both ends takes a second line, so that the names have room.
        table.add_column(
            title, overflow="fold", no_wrap=title != "clipped", max_width=12 if title == "clipped" else None
        )
    for row, texts in zip(rows, cells, strict=True):
        table.add_row(*(Text(text) for text in texts), style="bold red" if row["worst"] else "")
    out.print(f"Layer by layer, on {layers['samples']} samples and the interpreter's own kernels", style="bold")
    out.print(table)
    missing = layers["unmatched"]
    if missing:
        text = f"Without a counterpart in the float model ({len(missing)}): {', '.join(missing)}"
        out.print(Text(text), soft_wrap=True)


def _interval(item: Mapping[str, Any], value: str, low: str, high: str) -> str:
    return f"{value}\n({low} to {high})"


def _percent(item: Mapping[str, Any] | None) -> str:
    if item is None:
        return "–"
    value, low, high = (100 * item[key] for key in ("value", "low", "high"))
    return _interval(item, f"{value:.2f} %", f"{low:.1f}", f"{high:.1f}")


def _decibels(item: Mapping[str, Any]) -> str:
    value, low, high = (item[key] for key in ("value", "low", "high"))
    if value is None:
        return "no error"
    return _interval(item, f"{value:.1f} dB", f"{low:.1f}", "∞" if high is None else f"{high:.1f}")


def _metric(metric: Mapping[str, Any] | None, side: str, *, signed: bool = False) -> str:
    if metric is None:
        return "–"
    item, name = metric[side], metric["name"]
    value, low, high = (item[key] for key in ("value", "low", "high"))
    if name == "accuracy":
        sign = "+" if signed else ""
        text, ends = f"{100 * value:{sign}.2f}", (f"{100 * low:{sign}.1f}", f"{100 * high:{sign}.1f}")
        return _interval(item, f"{text} points" if signed else f"{text} %", *ends)
    return _interval(item, *("–" if number is None else f"{number:.4g}" for number in (value, low, high)))

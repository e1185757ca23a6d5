"""The Markdown page of ``latency.py``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from latency_children import PLAIN
from latency_rows import FLOAT, geometric_mean
from zoo import ZOO

from edgekit.bench.results import Ratio
from edgekit_convert.verify.intervals import Interval

if TYPE_CHECKING:
    from latency import Result
    from latency_rows import Row

_MET = {True: "yes", False: "**no**", None: "–"}


def document(result: Result) -> str:
    """The page.

    Args:
        result: what was measured.
    """
    rows = [row for row in result.rows if row.tool != PLAIN]
    parts = ["# How fast the int8 conversions are, against float\n", _how(result)]
    parts += ["## Put together\n", _means(rows, result.settings.tools, result.settings.threads)]
    parts += [_table(("claim", "seen", "met"), [[item.text, item.seen, _MET[item.met]] for item in result.claims])]
    parts += ["## Latency, and what the delegate takes\n", _latency(rows, result.settings.threads)]
    parts += ["## How close to the float model, and what it costs\n", _quality(result.rows)]
    made = [name for name in result.models if name in ZOO]
    if made:
        parts += ["## The models made here\n", _made(result, made)]
    return "\n".join(parts)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    body = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    body += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join(body) + "\n"


def _how(result: Result) -> str:
    machine, settings = result.machine, result.settings
    names = ("edgekit", "tensorflow", "keras", "litert-quantizer", "ai-edge-litert")
    tools = ", ".join(f"{name} {machine[name]}" for name in names)
    return (
        f"Written by `benchmarks/latency.py` with {tools}, Python {machine['python']}, edgekit at effort {settings.effort}. Each "
        "tool gets the same model and the same calibration samples (100, of the real models 200): TFLiteConverter the Keras model, the others the float "
        "`.tflite` with its sizes fixed. All files of a model are timed on XNNPACK in turn, in "
        f"{settings.launches} processes of {settings.rounds} turns each. In brackets: 95 % intervals, of latencies over the processes.\n"
    )


def _means(rows: Sequence[Row], tools: Sequence[str], threads: Sequence[int]) -> str:
    lines = []
    for tool in tools:
        found = [geometric_mean(rows, tool, number) for number in threads]
        if any(found):
            counts = {item[1] for item in found if item}
            lines.append(
                [tool, *(f"{item[0]:.3f}" if item else "–" for item in found), "/".join(map(str, sorted(counts)))]
            )
    head = ("geometric mean of latency, float = 1", *(_threads(number) for number in threads), "models")
    return _table(head, lines) if lines else ""


def _threads(number: int) -> str:
    return f"{number} thread" if number == 1 else f"{number} threads"


def _latency(rows: Sequence[Row], threads: Sequence[int]) -> str:
    lines = []
    for row in rows:
        start = [row.case.title, row.tool]
        if row.failure is not None:
            lines.append([*start, f"failed: {row.failure}", *[""] * (2 * len(threads) + 3)])
            continue
        cells = []
        for number in threads:
            median = f"{row.p50_ns[number] / 1e6:.3f} ms" if number in row.p50_ns else "–"
            cells += [median, "1" if row.tool == FLOAT else _ratio(row.latency.get(number))]
        lines.append([*start, *cells, _ratio(row.latency_of_tflite.get(1)), _shares(row), *_taken(row)])
    columns = [cell for number in threads for cell in (f"median, {_threads(number)}", "float = 1")]
    head = ("model", "tool", *columns, "TFLiteConverter = 1", "MACs in int8", "partitions", "operators outside")
    return _table(head, lines)


def _ratio(item: Ratio | None) -> str:
    return "–" if item is None else str(item)


def _shares(row: Row) -> str:
    if row.int8_mac_share is None:
        return "–"
    text = f"{100 * row.int8_mac_share:.0f} %"
    return f"{text}, {100 * row.dynamic_mac_share:.0f} % dynamic" if row.dynamic_mac_share else text


def _taken(row: Row) -> list[str]:
    if row.partitions is None:
        return ["–", "–"]
    outside = ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in row.partitions["outside"].items())
    return [
        f"{row.partitions['partitions']} ({row.partitions['taken']} of {row.partitions['operators']})",
        outside or "–",
    ]


def _quality(rows: Sequence[Row]) -> str:
    lines = [
        [
            row.case.title,
            row.tool,
            _percent(row.agreement),
            "–"
            if row.sqnr_db is None
            else f"{row.sqnr_db.value:.1f} dB ({row.sqnr_db.low:.1f} to {row.sqnr_db.high:.1f})",
            f"{row.size_bytes / 1000:.1f} kB" if row.size_bytes is not None else "–",
            f"{row.seconds:.1f} s" if row.seconds is not None else "–",
        ]
        for row in rows
        if row.failure is None
    ]
    head = ("model", "tool", "agreement with float", "SQNR", "size", "conversion")
    return _table(head, lines) + (
        "\nAgreement is of the highest class, of pixels' highest classes for the DeepLab-like model, and of the best box (overlap "
        "0.75 and more, intersection over union) for the detector. Sizes are without edgekit's manifest; its conversion includes its proof.\n"
    )


def _percent(item: Interval | None) -> str:
    return "–" if item is None else f"{100 * item.value:.1f} % ({100 * item.low:.1f} to {100 * item.high:.1f})"


def _made(result: Result, names: Sequence[str]) -> str:
    lines = []
    for name in names:
        known = result.models[name]
        macs = next((row.macs for row in result.rows if row.case.name == name and row.tool == FLOAT), None)
        lines.append(
            [
                ZOO[name].title,
                f"{macs / 1e6:.1f} M" if macs else "–",
                f"{known['float_bytes'] / 1e6:.1f} MB" if known else "–",
                f"{known['training_s']:.0f} s" if known else "–",
            ]
        )
    return _table(("model", "MACs", "float size", "training"), lines) + (
        "\nMade and trained by the benchmark on scikit-learn's digits drawn in colour onto its two photographs, or on spoken words; none has raw "
        "random weights. What they are for is their layers: agreement and SQNR tell how close a conversion is to them, not how good it would be at a task.\n"
    )

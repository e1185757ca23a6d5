"""A comparison of a float and a quantised model as one page: verdict, figures, the network layer by layer, what was compared.

Made from ``VerifyReport.to_json()``, so that a saved report can be drawn as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.digest import sha256_hex
from edgekit.errors import OutputError, from_os_error
from edgekit.files import check_writable, write_whole
from edgekit.report import html
from edgekit.report.depth import alone_along, noise_along
from edgekit.report.fields import NOTHING, table
from edgekit.report.layer_fields import LAYER_FIELDS, decibels, short_name
from edgekit.report.units import percent, size_text, times

Json = Mapping[str, Any]

_VERDICTS = {True: "passed", False: "FAILED", None: "noted"}


@dataclass(frozen=True)
class Compared:
    """One of the two files.

    Attributes:
        role: ``"float"`` or ``"int8"``.
        name: what it is called.
        size_bytes: the whole file, or ``None`` where it is a folder.
        sha256: of the whole file, or ``None`` likewise.
    """

    role: str
    name: str
    size_bytes: int | None
    sha256: str | None


def check_page(page: Path, models: Sequence[str], *, overwrite: bool) -> None:
    """Raise before the long run when the page could not be written, or would take a model's place.

    Args:
        page: where it will go.
        models: what is compared.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: naming the remedy.
    """
    for model in models:
        if page.exists() and Path(model).exists() and page.samefile(model):
            raise OutputError(f"cannot write the page to {page}: it is one of the models. Choose another name.")
    check_writable(page, overwrite=overwrite)


def save_page(page: Path, report: Json, float_model: str, int8_model: str, data: str, *, overwrite: bool) -> None:
    """Write the page of a comparison, whole or not at all.

    Args:
        page: where to.
        report: ``VerifyReport.to_json()``.
        float_model: path of the float model.
        int8_model: path of the quantised model.
        data: what the two were compared on, in the user's words.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: it cannot be written.
        ModelFileError: a model cannot be read any more.
    """
    files = [compared("float", float_model), compared("int8", int8_model)]
    write_whole(page, verify_page(report, files, data).encode(), overwrite=overwrite)


def compared(role: str, path: str) -> Compared:
    """Describe one of the two.

    Args:
        role: ``"float"`` or ``"int8"``.
        path: a file or a folder.

    Raises:
        ModelFileError: it cannot be read any more.
    """
    place = Path(path)
    if place.is_dir():
        return Compared(role, place.name or str(place), None, None)
    try:
        content = place.read_bytes()
    except OSError as error:
        raise from_os_error(error, place, "read") from error
    return Compared(role, place.name, len(content), sha256_hex(content))


def verify_page(report: Json, files: Sequence[Compared], data: str) -> str:
    """Build the page.

    Args:
        report: ``VerifyReport.to_json()``.
        files: the float model, then the quantised one.
        data: what the two were compared on, in the user's words.

    Returns:
        HTML.
    """
    from edgekit import __version__

    failed = [check["name"] for check in report["checks"] if check["passed"] is False]
    verdict = f"{len(failed)} of the checks failed: {', '.join(failed)}." if failed else "All checks passed."
    layers = report.get("layers")
    parts: list[html.Part] = [_tiles(report, failed)]
    if layers is not None and layers["layers"]:
        parts.append(html.Row(_pictures(layers)))
    if report["on"]:
        counts = ", ".join(str(figures["count"]) for figures in report["on"].values())
        parts.append(html.Section(f"Figures on {counts} samples, with 95 % intervals", [_figures(report["on"])]))
    parts.append(html.Section("Checks", [_checks(report["checks"])]))
    if layers is not None and layers["layers"]:
        parts.append(html.Section("Layer by layer", _layers(layers)))
    parts.append(html.Section("What was compared", _what(report, files, data)))
    return html.page(
        f"{files[1].name} against {files[0].name}",
        f"A quantised model compared with its float original on the same data. {verdict}",
        parts,
        f"Made by edgekit {__version__}.",
    )


def _tiles(report: Json, failed: Sequence[str]) -> html.Part:
    tiles = [html.Tile("verdict", "FAILED" if failed else "passed", ", ".join(failed))]
    for figures in report["on"].values():
        output = figures["outputs"][0]
        name = f"of {output['name']}" if len(figures["outputs"]) > 1 else ""
        if output["agreement"] is not None:
            tiles.append(html.Tile("same answer as float", percent(output["agreement"]["value"]), name))
        sqnr = output["sqnr_db"]["value"]
        tiles.append(html.Tile("SQNR", "no error" if sqnr is None else f"{sqnr:.1f} dB", name))
        metric = figures["metric"]
        if metric is not None:
            note = f"{_value(metric, 'float')} → {_value(metric, 'int8')}"
            tiles.append(html.Tile(_lost(metric), _value(metric, "drop"), note))
        break
    ratio = report["float_bytes"] / report["int8_bytes"] if report["int8_bytes"] else 1.0
    sizes = f"{size_text(report['float_bytes'])} → {size_text(report['int8_bytes'])}"
    tiles.append(html.Tile("smaller", times(ratio), sizes))
    return html.Tiles(tiles)


def _value(metric: Json, side: str) -> str:
    value = metric[side]["value"]
    if value is None:
        return NOTHING
    if metric["name"] != "accuracy":
        return f"{value:.4g}"
    return f"{100 * value:+.2f}" if side == "drop" else percent(value)


def _lost(metric: Json) -> str:
    return f"{metric['name']} lost" + (", points" if metric["name"] == "accuracy" else "")


def _ends(item: Json, factor: float, digits: int) -> str:
    low, high = (NOTHING if item[key] is None else f"{factor * item[key]:.{digits}f}" for key in ("low", "high"))
    return f"({low} to {high})"


def _figures(on: Json) -> html.Part:
    rows = []
    metrics = [figures["metric"] for figures in on.values() if figures["metric"]]
    for name, figures in on.items():
        metric = figures["metric"]
        factor, digits = (100.0, 1) if metric and metric["name"] == "accuracy" else (1.0, 4)
        for number, output in enumerate(figures["outputs"]):
            agreement, sqnr = output["agreement"], output["sqnr_db"]
            shown = metric if number == 0 else None
            row = [output["name"]]
            if len(on) > 1:
                row.append(f"{name}, {figures['count']} samples")
            row += [
                f"{percent(agreement['value'])} {_ends(agreement, 100, 1)}" if agreement else NOTHING,
                "no error" if sqnr["value"] is None else f"{sqnr['value']:.1f} dB {_ends(sqnr, 1, 1)}",
                f"{output['max_abs_error']:.4g}",
            ]
            if metrics:
                row += [
                    f"{_value(shown, side)} {_ends(shown[side], factor, digits)}" if shown else NOTHING
                    for side in ("float", "int8", "drop")
                ]
            rows.append(row)
    titles = ["output", *(["data"] if len(on) > 1 else []), "agreement", "SQNR", "largest error"]
    if metrics:
        titles += [f"float {metrics[0]['name']}", f"int8 {metrics[0]['name']}", _lost(metrics[0])]
    return html.Table(rows, titles)


def _checks(checks: Sequence[Json]) -> html.Part:
    rows = [(check["name"], _VERDICTS[check["passed"]], check["text"]) for check in checks]
    return html.Table(rows, ("check", "verdict", "seen"), [check["passed"] for check in checks])


def _layers(layers: Json) -> list[html.Part]:
    titles, rows = table(LAYER_FIELDS, layers["layers"])
    rows = [[_unbroken(cell) for cell in row] for row in rows]
    text = (
        f"{layers['samples']} samples on the interpreter's own kernels. SQNR is the signal to noise at that tensor, with the "
        "error of everything before it; steps are the integers from the lowest to the highest that were used; clipped is the "
        "share of the float values that the integers cannot hold; the mean error is relative to the size of the values."
    )
    marks = [False if row["worst"] else None for row in layers["layers"]]
    parts: list[html.Part] = [html.Text(text), html.Table(rows, titles, marks)]
    if layers["unmatched"]:
        names = ", ".join(layers["unmatched"])
        parts.append(html.Text(f"Without a counterpart in the float model: {names}.", soft=True))
    return parts


def _unbroken(name: str) -> str:
    """A name that was cut, without a line break behind the mark of the cut."""
    return name.replace("…", "…\N{WORD JOINER}")


def _worst(rows: Sequence[Json]) -> html.Part:
    """The layers that lose most, the worst first, beside the picture where there is no other."""
    worst = sorted((row for row in rows if row["worst"]), key=lambda row: row["worst"])
    cells = [
        (
            f"{row['number']} {row['operator']}",
            decibels(row["noise_share"], row["sqnr_db"]),
            _unbroken(short_name(row["name"])),
        )
        for row in worst
    ]
    return html.Table(cells, ("worst", "SQNR", "tensor"), [False] * len(cells))


def _what(report: Json, files: Sequence[Compared], data: str) -> list[html.Part]:
    rows = [
        (
            file.role,
            file.name,
            NOTHING if file.size_bytes is None else f"{file.size_bytes:,} bytes",
            file.sha256 or "a folder",
        )
        for file in files
    ]
    facts = [("data", data), ("interpreter", report["engine"]), ("delegate", report["delegate"])]
    return [html.Table(rows, ("model", "file", "size", "sha256")), html.Table(facts)]


def _pictures(layers: Json) -> list[html.Part]:
    rows = layers["layers"]
    marked = "The marked layers lose most." if any(row["worst"] for row in rows) else "No layer loses anything."
    parts: list[html.Part] = [
        _Picture(
            "SQNR along the network", noise_along(rows),
            f"A point for each tensor, from the input to the output; higher is better. {marked}{_edges(rows)}",
        )
    ]  # fmt: skip
    if any(row["alone_share"] for row in rows):
        parts.append(
            _Picture(
                "Error that each layer adds alone", alone_along(rows),
                "Share of the sum of what each layer, quantised alone, adds at the outputs.",
            )
        )  # fmt: skip
    elif any(row["worst"] for row in rows):
        parts.append(_worst(rows))
    return parts


def _edges(rows: Sequence[Json]) -> str:
    """What it means that a point lies on an edge of the picture."""
    exact = any(row["noise_share"] == 0 for row in rows)
    lost = any(row["noise_share"] is None for row in rows)
    return (
        " Tensors without any error lie on the upper edge." * exact + " Tensors that are lost lie on the lower." * lost
    )


@dataclass(frozen=True)
class _Picture:
    """A drawing on a card.

    Attributes:
        title: above it.
        svg: the drawing.
        caption: below it.
    """

    title: str
    svg: str
    caption: str

    def html(self) -> str:
        """The markup."""
        return html.figure(self.title, self.svg, self.caption)

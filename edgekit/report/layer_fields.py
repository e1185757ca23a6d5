"""The columns of a per-layer table, in the terminal and on a page. A row is what ``LayerReport.to_json`` gives for a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.report.fields import Field

Layer = Mapping[str, Any]
#: Longest name that a table shows; converters join the names of everything that they fused.
_LONGEST = 34


def short_name(name: str, longest: int = _LONGEST) -> str:
    """A tensor's name, of a long one the end, which tells more than the beginning.

    Args:
        name: as the file has it.
        longest: how many characters there is room for.
    """
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def decibels(share: float | None, value: float | None) -> str:
    """A ratio in dB, or in words where it has none.

    Args:
        share: noise share, ``None`` where it has no bounds.
        value: the same in dB.
    """
    if value is not None:
        return f"{value:.1f} dB"
    return "no error" if share == 0 else "lost"


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.3g}"


def _range(layer: Layer) -> str:
    return f"{_number(layer['low'])} to {_number(layer['high'])}"


def _clipped(layer: Layer) -> str | None:
    if layer["clipped_low"] is None:
        return None
    sides = [(layer["clipped_low"], "low"), (layer["clipped_high"], "high")]
    return ", ".join(f"{_percent(share)} {side}" for share, side in sides if share > 0) or "none"


def _percent(share: float) -> str:
    return "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def _signed_percent(value: float) -> str:
    text = f"{100 * value:+.1f} %"
    return "0.0 %" if float(text[:-2]) == 0 else text


def _alone(layer: Layer) -> str | None:
    if layer["alone_share"] is None and layer["alone_db"] is None:
        return None
    return decibels(layer["alone_share"], layer["alone_db"])


#: All columns; a table leaves out those that are empty in every row, and its caller those that it has no room for.
LAYER_FIELDS: tuple[Field[Layer], ...] = (
    Field("number", "#", lambda layer: layer["number"]),
    Field("operator", "operator", lambda layer: layer["operator"]),
    Field("name", "tensor", lambda layer: layer["name"], short_name),
    Field("sqnr_db", "SQNR", lambda layer: decibels(layer["noise_share"], layer["sqnr_db"])),
    Field("alone_db", "alone", _alone),
    Field("worst", "worst", lambda layer: layer["worst"]),
    Field("bias", "mean error", lambda layer: layer["bias"], _signed_percent),
    Field("clipped", "clipped", _clipped),
    Field("steps", "steps", lambda layer: layer["steps"]),
    Field("range", "float range", _range),
    Field("dtype", "held as", lambda layer: layer["dtype"]),
    Field("scale", "scale", lambda layer: layer["scale"], lambda value: f"{value:.4g}"),
    Field("zero_point", "zero point", lambda layer: layer["zero_point"]),
    Field("shape", "shape", lambda layer: "×".join(map(str, layer["shape"])) or "one number"),
)

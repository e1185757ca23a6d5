"""What ``latency.py --check`` holds edgekit to: int8 that is not slower than float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latency_children import PLAIN
from latency_rows import CASES, FLOAT, Row, find, geometric_mean

from edgekit.bench.results import Ratio

_AUTO, _STRICT, _TFLITE = "edgekit-auto", "edgekit-int8", "TFLiteConverter"
_LEAST_INT8, _GEOMETRIC_MEAN = 0.8, 0.55
#: SQNR figures that differ by less are the same, in dB.
_SLACK_DB = 0.1
#: Models that the delegate takes whole as they are.
_WHOLE = ("resnet8", "mobilenet_v2")


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        text: what is claimed.
        seen: what was seen.
        met: whether that is so; ``None`` where it was not measured.
    """

    text: str
    seen: str
    met: bool | None


def claims(rows: Sequence[Row], models: Sequence[str]) -> list[Claim]:
    """Every claim about the measured models, one thread.

    Args:
        rows: of all models.
        models: the names of those that were asked for.
    """
    found = [_never_slower(rows, name) for name in models]
    mean = geometric_mean(rows, _AUTO, 1)
    found.append(
        Claim(
            f"geometric mean of latency against float at most {_GEOMETRIC_MEAN}",
            f"{mean[0]:.3f} over {mean[1]} models" if mean else "not measured",
            mean[0] <= _GEOMETRIC_MEAN if mean else None,
        )
    )
    if "mobilenet_v3_small" in models:
        name = "mobilenet_v3_small"
        found += [
            _at_most(rows, name, _AUTO, FLOAT, 0.60),
            _at_most(rows, name, _AUTO, _TFLITE, 0.22),
            _at_most(rows, name, _STRICT, FLOAT, 0.65),
            _agrees(rows, name, PLAIN),
            _sqnr(rows, name, PLAIN),
        ]
    if "vit" in models:
        found += [
            _at_most(rows, "vit", _AUTO, FLOAT, 0.65),
            _at_most(rows, "vit", _AUTO, _TFLITE, 0.12),
            _sqnr(rows, "vit", _TFLITE),
        ]
    return found + [_identical(rows, name) for name in _WHOLE if name in models]


def _never_slower(rows: Sequence[Row], name: str) -> Claim:
    """Not slower than float within the interval, and most of the work in int8."""
    title = CASES[name].title
    text = f"{title}: not slower than float within noise, at least {100 * _LEAST_INT8:.0f} % of the MACs in int8"
    row = find(rows, name, _AUTO)
    if row is None or 1 not in row.latency:
        return _missing(rows, text, name, _AUTO)
    item, share = row.latency[1], row.int8_mac_share
    seen = f"{item}, {100 * share:.0f} %" if share is not None else f"{item}, no MACs"
    return Claim(text, seen, not slower(item) and (share is None or share >= _LEAST_INT8))


def slower(item: Ratio) -> bool:
    """Whether a file is slower, and its interval does not allow that it is not."""
    return (item.value if item.low is None else item.low) > 1.0


def _at_most(rows: Sequence[Row], name: str, tool: str, base: str, limit: float) -> Claim:
    """A latency against the float model's or TFLiteConverter's."""
    text = f"{CASES[name].title}, {tool}: at most {limit:.2f} × {base}"
    row = find(rows, name, tool)
    ratios = {} if row is None else row.latency if base == FLOAT else row.latency_of_tflite
    if 1 not in ratios:
        return _missing(rows, text, name, tool)
    return Claim(text, str(ratios[1]), ratios[1].value <= limit)


def _sqnr(rows: Sequence[Row], name: str, peer: str) -> Claim:
    text = f"{CASES[name].title}, {_AUTO}: SQNR at least {peer}'s"
    own, other = find(rows, name, _AUTO), find(rows, name, peer)
    if own is None or other is None or own.sqnr_db is None or other.sqnr_db is None:
        return _missing(rows, text, name, _AUTO if own is None else peer)
    seen = f"{own.sqnr_db.value:.1f} dB against {other.sqnr_db.value:.1f} dB"
    return Claim(text, seen, own.sqnr_db.value >= other.sqnr_db.value - _SLACK_DB)


def _agrees(rows: Sequence[Row], name: str, peer: str) -> Claim:
    text = f"{CASES[name].title}, {_AUTO}: agreement at least {peer}'s"
    own, other = find(rows, name, _AUTO), find(rows, name, peer)
    if own is None or other is None or own.agreement is None or other.agreement is None:
        return _missing(rows, text, name, _AUTO if own is None else peer)
    seen = f"{100 * own.agreement.value:.1f} % against {100 * other.agreement.value:.1f} %"
    return Claim(text, seen, own.agreement.value >= other.agreement.value)


def _identical(rows: Sequence[Row], name: str) -> Claim:
    text = f"{CASES[name].title}, {_STRICT}: the same bytes with rules for the delegate and without"
    own, plain = find(rows, name, _STRICT), find(rows, name, PLAIN)
    if own is None or plain is None:
        return _missing(rows, text, name, _STRICT if own is None else PLAIN)
    same = own.sha256 == plain.sha256
    return Claim(text, "the same" if same else f"{str(own.sha256)[:12]} and {str(plain.sha256)[:12]}", same)


def _missing(rows: Sequence[Row], text: str, name: str, tool: str) -> Claim:
    """A claim with no figure: missed where the tool failed, else not measured."""
    failed = next((row.failure for row in rows if row.case.name == name and row.tool == tool and row.failure), None)
    return Claim(text, f"{tool} failed: {failed}", False) if failed else Claim(text, "not measured", None)

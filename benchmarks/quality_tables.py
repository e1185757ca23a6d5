"""The Markdown page of ``quality.py``."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import hard_models
from quality_children import CEILINGS, EFFORTS, PEERS, Answer
from quality_rows import LEFT_OUT

from edgekit.bench.results import Ratio
from edgekit_convert.verify.intervals import Interval

if TYPE_CHECKING:
    from quality import Result
    from quality_rows import Row

#: What the conversions of three models must reach with the highest effort: SQNR in dB and agreement.
_WANTED: dict[str, tuple[float, float]] = {"resnet8": (28.0, 0.988), "kws": (27.0, 0.987), "mobilenet_v1": (19.0, 0.0)}
_DEFAULT_WITHIN_DB = 1.5


def document(result: Result) -> str:
    """The page.

    Args:
        result: what was measured.
    """
    parts = ["# How faithful the int8 conversions are, and what they cost\n", _how(result)]
    if result.rows:
        parts += ["## How close to the float model\n", _quality(result.rows), "## What it costs\n", _costs(result.rows)]
        parts += ["## Put together\n", _claims(result)]
        trained = {name: known for name, known in result.models.items() if name in hard_models.MODELS}
        if trained:
            parts += ["## The hard models\n", _hard(trained, result.rows)]
    if result.mobilenet_v2:
        parts += ["## Time and memory: MobileNetV2 1.0 224, 100 samples\n", _times(result.mobilenet_v2)]
    if result.scaling:
        parts += ["## Time and memory with more samples and larger models (MobileNetV2)\n", _scaling(result.scaling)]
    if result.shuffled:
        parts += ["## Calibration samples in six orders\n", _orders(result.shuffled)]
    return "\n".join(parts)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    body = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    body += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join(body) + "\n"


def _how(result: Result) -> str:
    machine = result.machine
    tools = ", ".join(
        f"{name} {machine[name]}" for name in ("edgekit", "tensorflow", "litert-quantizer", "ai-edge-litert")
    )
    return (
        f"Written by `benchmarks/quality.py` with {tools}, Python {machine['python']}. Every tool gets the same model, the same calibration "
        "samples and int8 inputs and outputs, and is otherwise left at its defaults. Files are compared with one float model "
        "on test samples that no tool was calibrated on, on XNNPACK, one thread. In brackets: 95 % intervals.\n"
    )


def _percent(item: Interval | None) -> str:
    if item is None:
        return "–"
    return f"{100 * item.value:.2f} % ({100 * item.low:.1f} to {100 * item.high:.1f})"


def _points(item: Interval) -> str:
    return f"{100 * item.value:+.2f} ({100 * item.low:+.1f} to {100 * item.high:+.1f})"


def _decibels(item: Interval | None) -> str:
    return "–" if item is None else f"{item.value:.1f} dB ({item.low:.1f} to {item.high:.1f})"


def _ratio(item: Ratio | None) -> str:
    return "–" if item is None else str(item)


def _mebibytes(value: float | None) -> str:
    return "–" if value is None else f"{value / 2**20:.0f} MiB"


def _quality(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        start = [row.case.title, row.tool]
        if row.skipped or row.failure:
            lines.append([*start, f"failed: {row.failure}" if row.failure else f"not tried: {row.skipped}", *[""] * 4])
            continue
        lost = "–" if row.right is None else _points(row.right[2])
        beside, flags = "", ""
        if row.against is not None:
            peer = f" to {row.against.agreement_peer}"
            beside = f"{_points(row.against.agreement)}{peer}; {row.against.sqnr_db:+.1f} dB to {row.against.sqnr_peer}"
            flags = ", ".join(
                text
                for text, wrong in (
                    ("significantly worse", row.against.significantly_worse), ("more noise", row.against.noisier)
                )
                if wrong
            ) or "–"  # fmt: skip
        lines.append([*start, _percent(row.agreement), _decibels(row.sqnr_db), lost, beside, flags])
    head = (
        "model, data",
        "tool",
        "agreement",
        "SQNR",
        "task's figure lost (points)",
        "beside the best peer (points)",
        "worse?",
    )
    left = "; ".join(f"{name}: {why}" for name, why in LEFT_OUT.items())
    return _table(head, lines) + f"\nNot measured: {left}.\n"


def _costs(rows: Sequence[Row]) -> str:
    lines = [
        [
            row.case.title,
            row.tool,
            f"{row.size_bytes / 1000:.1f} kB",
            _ratio(row.latency),
            _ratio(row.latency_of_peer),
            f"{row.conversion['seconds']:.1f} s",
            _mebibytes(row.conversion["peak_bytes"]),
            _mebibytes(row.conversion["baseline_bytes"]),
            row.old_runtime or "–",
        ]
        for row in rows
        if row.size_bytes is not None
    ]
    head = (
        "model, data", "tool", "size", "latency (float = 1)", "latency (fastest peer = 1)", "conversion", "peak memory",
        "of it imports", "runs on tflite-runtime 2.14",
    )  # fmt: skip
    return _table(head, lines) + (
        "\nSizes are without edgekit's manifest. Conversion starts from the Keras file where there is one (litert-quantizer, which "
        "does not read Keras: from the float `.tflite`) and ends with the file's bytes; edgekit's includes its audit of the data and "
        "its proof. Each runs in a process of its own.\n"
    )


def _find(rows: Sequence[Row], case: str, tool: str) -> Row | None:
    return next((row for row in rows if row.case.name == case and row.tool == tool and row.same is not None), None)


def _claims(result: Result) -> str:
    """What must be shown, each with what was seen."""
    rows = result.rows
    lines: list[list[str]] = []

    def claim(text: str, seen: str, holds: bool) -> None:
        lines.append([text, seen, _holds(holds)])

    for name, (sqnr, agreement) in _WANTED.items():
        high, default = _find(rows, name, "edgekit-high"), _find(rows, name, "edgekit-default")
        if high is not None and high.sqnr_db is not None and high.agreement is not None:
            wanted = f"{high.case.title}, effort high: at least {sqnr:g} dB"
            wanted += f" and {100 * agreement:.1f} %" if agreement else ""
            holds = high.sqnr_db.value >= sqnr and high.agreement.value >= agreement
            claim(wanted, f"{high.sqnr_db.value:.1f} dB, {100 * high.agreement.value:.2f} %", holds)
            if default is not None and default.sqnr_db is not None:
                gap = high.sqnr_db.value - default.sqnr_db.value
                text = f"{high.case.title}: effort default within {_DEFAULT_WITHIN_DB:g} dB of high"
                claim(text, f"{gap:+.1f} dB", gap <= _DEFAULT_WITHIN_DB)
    for effort in EFFORTS:
        own = [row for row in rows if row.tool == f"edgekit-{effort}" and row.against is not None]
        if not own:
            continue
        noisy = [row.case.title for row in own if row.against is not None and row.against.noisier]
        worse = [row.case.title for row in own if row.against is not None and row.against.significantly_worse]
        claim(
            f"effort {effort}: SQNR at least the best peer's − 0.1 dB on every model",
            "; ".join(noisy) or "all",
            not noisy,
        )
        claim(
            f"effort {effort}: agreement nowhere significantly below the best peer's",
            "; ".join(worse) or "nowhere",
            not worse,
        )
        dead, peer = _find(own, "hard_swish", f"edgekit-{effort}"), _find(rows, "hard_swish", "TFLiteConverter")
        if dead is not None and dead.agreement is not None and peer is not None and peer.agreement is not None:
            seen = f"{100 * dead.agreement.value:.2f} % against {100 * peer.agreement.value:.2f} %"
            text = f"effort {effort}: dead channels, agreement at least TFLiteConverter's"
            claim(text, seen, dead.agreement.value >= peer.agreement.value)
        sizes = [(row, size) for row in own if (size := _size_to_peer(row, rows)) is not None]
        if sizes:
            odd = [f"{row.case.title} {100 * (size - 1):+.1f} %" for row, size in sizes if abs(size - 1) > 0.01]
            claim(f"effort {effort}: size within 1 % of a peer's", "; ".join(odd) or "all", not odd)
        timed = [(row, row.latency_of_peer) for row in own if row.latency_of_peer is not None]
        if timed:
            slow = [f"{row.case.title} {item}" for row, item in timed if _slower(item)]
            claim(f"effort {effort}: latency at most 3 % over the fastest peer's", "; ".join(slow) or "all", not slow)
        old = [row for row in own if row.old_runtime is not None]
        if old:
            refused = [row.case.title for row in old if row.old_runtime != "yes"]
            claim(f"effort {effort}: runs on tflite-runtime 2.14", "; ".join(refused) or "all", not refused)
    base = result.totals.get("TFLiteConverter")
    for tool, (count, total) in result.totals.items():
        if base is not None and tool not in (*PEERS, *CEILINGS):
            text = f"{tool}: disagreement over the real models at most half of TFLiteConverter's"
            seen = (
                f"{count} samples against {base[0]}; sum of shares {100 * total:.2f} against {100 * base[1]:.2f} points"
            )
            claim(text, seen, total <= base[1] / 2)
    note = "\nThe sum is over the real models that TFLiteConverter could convert.\n" if base is not None else ""
    return _table(("claim", "seen", "holds"), lines) + note


def _slower(item: Ratio) -> bool:
    """Whether a file is slower by more than 3 %, and its interval does not allow that it is not."""
    return item.value > 1.03 and (item.low is None or item.low > 1.0)


def _size_to_peer(row: Row, rows: Sequence[Row]) -> float | None:
    """A file's size as a multiple of the nearest peer's."""
    sizes = [other.size_bytes for other in rows if other.case == row.case and other.tool in PEERS and other.size_bytes]
    if not sizes or row.size_bytes is None:
        return None
    own = row.size_bytes
    return min((own / size for size in sizes), key=lambda ratio: abs(ratio - 1))


def _hard(models: dict[str, Answer], rows: Sequence[Row]) -> str:
    lines = []
    for name, known in models.items():
        item = hard_models.MODELS[name]
        right = next((row.right for row in rows if row.case.name == name and row.right is not None), None)
        seconds = f"{known['training_s']:.0f} s" if known else "–"
        lines.append(
            [
                item.title,
                item.why,
                "right box" if item.boxes else "accuracy",
                _percent(right[0]) if right else "–",
                seconds,
            ]
        )
    return _table(("model", "what is hard", "task's figure", "of the float model", "training"), lines) + (
        "\nMade and trained by the benchmark on scikit-learn's digits pasted onto its two photographs. The detector's files agree with "
        "the float model where both best boxes overlap by 0.75 (intersection over union), and are right where the box and the true one overlap by 0.5.\n"
    )


def _times(found: Sequence[Answer]) -> str:
    lines = []
    for tool in dict.fromkeys(row["tool"] for row in found):
        own = [row for row in found if row["tool"] == tool]
        failed = [row["failure"] for row in own if row["failure"]]
        if failed:
            lines.append([tool, f"failed: {failed[0]}", *[""] * 4])
            continue
        phases = {name: statistics.median(row["phases_s"].get(name, 0) for row in own) for name in own[0]["phases_s"]}
        rates = [row["calibration_per_s"] for row in own if row["calibration_per_s"]]
        lines.append(
            [
                tool,
                f"{statistics.median(row['seconds'] for row in own):.1f} s",
                f"{statistics.median(rates):.1f}" if rates else "–",
                _mebibytes(_middle(own, "peak_bytes")),
                _mebibytes(_middle(own, "baseline_bytes")),
                ", ".join(f"{name} {value:.1f}" for name, value in phases.items() if value >= 0.05),
            ]
        )
    claims = _time_claims(found)
    repeats = max(row["repeat"] for row in found) + 1
    head = ("tool", "conversion", "calibration (samples/s)", "peak memory", "of it imports", "phases (s)")
    return _table(head, lines) + (
        f"\nMedians of {repeats}, the tools in turn, each conversion in a process of its own. edgekit and litert-quantizer start "
        "from the float `.tflite`, TFLiteConverter from the Keras model. Calibration is from the first sample to the last.\n"
        f"{claims}"
    )


def _time_claims(found: Sequence[Answer]) -> str:
    """What must be shown of time and memory, beside TFLiteConverter in the same run."""
    done = {
        tool: [row for row in found if row["tool"] == tool and not row["failure"]]
        for tool in ("TFLiteConverter", "edgekit-fast")
    }
    theirs, ours = done["TFLiteConverter"], done["edgekit-fast"]
    if not theirs or not ours:
        return ""
    # Loading the Keras file and exporting it are left out of the peer's time: the stricter comparison.
    converting = statistics.median(row["phases_s"]["converting"] for row in theirs)
    seconds = statistics.median(row["seconds"] for row in ours)
    lines = [
        [
            "effort fast: at most half of TFLiteConverter's time without loading and exporting",
            f"{seconds:.1f} s against {converting:.1f} s",
            _holds(seconds <= converting / 2),
        ]
    ]
    rates = _middle(ours, "calibration_per_s"), _middle(theirs, "calibration_per_s")
    if rates[0] is not None and rates[1] is not None:
        seen = f"{rates[0]:.1f} samples/s against {rates[1]:.1f}"
        lines.append(
            ["calibration at least 3 times as fast as TFLiteConverter's", seen, _holds(rates[0] >= 3 * rates[1])]
        )
    peaks = _middle(ours, "peak_bytes"), _middle(theirs, "peak_bytes")
    if peaks[0] is not None and peaks[1] is not None:
        seen = f"{_mebibytes(peaks[0])} against {_mebibytes(peaks[1])}"
        lines.append(["peak memory lower than TFLiteConverter's", seen, _holds(peaks[0] < peaks[1])])
    return "\n" + _table(("claim", "seen", "holds"), lines)


def _holds(item: bool) -> str:
    return "yes" if item else "**no**"


def _middle(rows: Sequence[Answer], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return statistics.median(values) if values else None


def _scaling(found: Sequence[Answer]) -> str:
    def one(row: Answer) -> list[str]:
        name = f"{row['alpha']} {row['side']}"
        if row["failure"]:
            return [name, str(row["count"]), row["tool"], f"failed: {row['failure']}", "", ""]
        rate: Any = row["calibration_per_s"]
        size = f"{row['float_bytes'] / 1e6:.1f} MB"
        text = f"{rate:.1f}" if rate else "–"
        return [
            f"{name} ({size})",
            str(row["count"]),
            row["tool"],
            f"{row['seconds']:.1f} s",
            _mebibytes(row["peak_bytes"]),
            text,
        ]

    head = ("model (float size)", "samples", "tool", "conversion", "peak memory", "calibration (samples/s)")
    return _table(head, map(one, found))


def _orders(found: Sequence[Answer]) -> str:
    def text(row: Answer) -> str:
        if row["failure"]:
            return f"failed: {row['failure']}"
        return "the same bytes" if row["same"] else f"{len(set(row['sha256']))} different files"

    return _table(("model", "tool", "six orders give"), [[row["model"], row["tool"], text(row)] for row in found])

"""The audit: what representative data are, what looks wrong with them, and which of them refine and which judge."""

from __future__ import annotations

import hashlib
import math
from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import DataError
from edgekit.graph import Graph
from edgekit.preprocess import Preprocessing

if TYPE_CHECKING:
    from edgekit_convert.calibration import CalibrationSet, Ready

#: Fewer samples than this leave the ranges to chance.
_FEW = 32
#: At most so many samples are kept to refine on and to judge by, and so many bytes of them.
_REFINING, _HELD_OUT = 128, 96
_PART_BYTES = 128 * 2**20
#: With fewer samples than this the same ones do both.
_FEWEST_PARTED = 12


@dataclass(frozen=True)
class Finding:
    """Something the audit noticed.

    Attributes:
        level: ``"warning"`` for what probably spoils the result, ``"note"`` for what is good to know.
        code: a short name that stays the same between versions.
        text: what was seen, and the option that mends it.
    """

    level: str
    code: str
    text: str

    def to_json(self) -> dict[str, str]:
        """The fields by name."""
        return {"level": self.level, "code": self.code, "text": self.text}


@dataclass(frozen=True)
class Parts:
    """Two parts of the representative data: one to refine on, one to judge by.

    Which sample is in which part follows from the samples' own digests, not from their order. Both are bounded in number
    and bytes, and kept in memory.

    Attributes:
        refining: samples that refinements look at.
        held_out: samples that decide whether a refinement is kept; the same ones where there are too few to part them.
        held_out_numbers: the latter's places in the data, counted from 0; empty where the parts are the same.
    """

    refining: tuple[Ready, ...]
    held_out: tuple[Ready, ...]
    held_out_numbers: frozenset[int]


@dataclass(frozen=True)
class Audit:
    """What the representative data are.

    Attributes:
        count: samples that were really consumed.
        fingerprint: sha256 over the digests of the prepared samples (names, shapes, types, values), whatever their order.
        ranges: lowest and highest prepared value by input name.
        findings: what was noticed.
        parts: samples for refining and for judging.
    """

    count: int
    fingerprint: str
    ranges: dict[str, tuple[float, float]]
    findings: tuple[Finding, ...]
    parts: Parts

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "count": self.count,
            "fingerprint": self.fingerprint,
            "ranges": {name: list(pair) for name, pair in self.ranges.items()},
            "findings": [finding.to_json() for finding in self.findings],
        }


def audit(
    data: CalibrationSet,
    *,
    said_raw: bool,
    graph: Graph,
    input_scale: float | None = None,
    progress: Callable[[int, int], None],
) -> Audit:
    """Read all samples once and say what they are.

    Args:
        data: the representative data.
        said_raw: whether the caller said that raw values are right (``--normalize none``).
        graph: the float model, for what it tells about the values it was trained on.
        input_scale: the factor of the source's own rescaling layer, where it is known.
        progress: called as ``progress(done, total)``.

    Raises:
        DataError: no sample, NaN, a wrong shape or type.
    """
    digests: list[bytes] = []
    seen: set[bytes] = set()
    chosen = _Chosen()
    count = duplicates = 0
    low = {spec.name: math.inf for spec in data.inputs}
    high = {spec.name: -math.inf for spec in data.inputs}
    constant = dict.fromkeys(low, True)
    raw_types = {name: value.dtype for raw, _ in _first(data) for name, value in raw.items()}
    total = data.source.total or 0
    for ready in data:
        one = hashlib.sha256()
        for name, value in sorted(ready.inputs.items()):
            one.update(f"{name} {value.dtype} {value.shape};".encode())
            one.update(value.tobytes())
            smallest, largest = float(value.min()), float(value.max())
            low[name], high[name] = min(low[name], smallest), max(high[name], largest)
            constant[name] = constant[name] and smallest == largest
        digests.append(one.digest())
        if one.digest() in seen:
            duplicates += 1
        else:
            chosen.offer(one.digest(), count, ready)
        seen.add(one.digest())
        count += 1
        progress(count, max(total, count))
    if count == 0:
        raise DataError(no_sample(data.source.origin))
    findings = [
        *_range_findings(data, raw_types, low, high, said_raw=said_raw, graph=graph, input_scale=input_scale),
        *(
            Finding("warning", "constant-input", f"input {name!r} is constant in every sample: the data look broken.")
            for name, flat in constant.items()
            if flat
        ),
    ]
    if duplicates:
        level = "warning" if duplicates * 10 > count else "note"
        findings.append(Finding(level, "duplicates", f"{duplicates} of {count} samples are exact copies of others."))
    if count < _FEW:
        findings.append(
            Finding("warning", "few-samples", f"only {count} samples: ranges are uncertain, 100 to 500 are usual.")
        )
    ranges = {name: (low[name], high[name]) for name in low}
    fingerprint = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
    return Audit(count, fingerprint, ranges, tuple(findings), chosen.parts())


class _Chosen:
    """The samples with the smallest digests: a choice that does not depend on their order."""

    def __init__(self) -> None:
        self._kept: list[tuple[bytes, int, Ready]] = []

    def offer(self, digest: bytes, number: int, ready: Ready) -> None:
        size = sum(value.nbytes for value in ready.inputs.values())
        bound = max(_FEWEST_PARTED, min(_REFINING + _HELD_OUT, _PART_BYTES // max(1, size)))
        insort(self._kept, (digest, number, ready), key=lambda item: item[0])
        del self._kept[bound:]

    def parts(self) -> Parts:
        samples = tuple(ready for _, _, ready in self._kept)
        if len(samples) < _FEWEST_PARTED:
            return Parts(samples, samples, frozenset())
        held = min(_HELD_OUT, len(samples) // 3)
        numbers = frozenset(number for _, number, _ in self._kept[:held])
        return Parts(samples[held : held + _REFINING], samples[:held], numbers)


def _first(data: CalibrationSet) -> list[Any]:
    for sample in data.source.read():
        return [sample]
    return []


def _range_findings(
    data: CalibrationSet,
    raw_types: Mapping[str, np.dtype[Any]],
    low: Mapping[str, float],
    high: Mapping[str, float],
    *,
    said_raw: bool,
    graph: Graph,
    input_scale: float | None,
) -> Iterator[Finding]:
    for spec in data.inputs:
        if not spec.dtype.startswith("float"):
            continue
        normalised = bool(data.preprocessing.get(spec.name, Preprocessing()).mean)
        span = f"{low[spec.name]:.4g} to {high[spec.name]:.4g}"
        scaling = scales_its_input(graph, spec.name)
        if scaling is None and input_scale is not None and input_scale < 0.1 and len(data.inputs) == 1:
            scaling = input_scale
        pixels = low[spec.name] >= 0 and 1.5 < high[spec.name] <= 255
        if scaling is not None:
            if high[spec.name] <= 1.5:
                yield Finding(
                    "warning", "scaled-twice",
                    f"input {spec.name!r} gets values from {span}, and the model multiplies them by {scaling:.4g} itself: "
                    "it was probably trained on raw 0..255. Leave --normalize out and give raw values.",
                )  # fmt: skip
        elif pixels and not normalised and not said_raw and raw_types.get(spec.name, np.dtype("f4")).kind in "iu":
            yield Finding(
                "warning", "raw-pixels",
                f"{raw_types[spec.name]} values from {span} go into the float input {spec.name!r} as they are. Most models "
                "were trained on scaled pixels: then pass --normalize 127.5,127.5 (-1..1) or --normalize 0,255 (0..1). "
                "If this one was trained on raw values, say so with --normalize none.",
            )  # fmt: skip
        elif normalised and max(abs(low[spec.name]), abs(high[spec.name])) < 0.02:
            yield Finding(
                "warning", "tiny-values",
                f"after normalisation input {spec.name!r} has values from {span} only: the data were probably scaled before. "
                "Leave --normalize out, or give raw values.",
            )  # fmt: skip


def scales_its_input(graph: Graph, name: str) -> float | None:
    """The factor by which a model's first operator scales an input, when it is a small constant.

    A first MUL (or DIV) by a constant far below 1, such as 1/255, is a rescaling layer: the model was trained on raw
    values.

    Args:
        graph: the float model.
        name: the input's name.

    Returns:
        The factor, or ``None`` when the model does no such thing.
    """
    main = graph.main
    names = {index: key for signature in graph.signatures if signature.subgraph == 0 for key, index in signature.inputs}
    for index in main.inputs:
        if names.get(index, main.tensors[index].name) != name:
            continue
        users = [op for op in main.ops if index in op.inputs]
        if len(users) != 1 or users[0].name not in ("MUL", "DIV"):
            return None
        for other in users[0].inputs:
            tensor = main.tensors[other]
            if tensor.data is not None and tensor.dtype == "float32" and not tensor.sparse:
                value = float(np.abs(tensor.array()).max())
                factor = value if users[0].name == "MUL" else 1 / value if value else 1.0
                return factor if factor < 0.1 else None
    return None


def no_sample(origin: str) -> str:
    """What to say of data that turned out to be empty.

    Args:
        origin: where they came from.
    """
    return (
        f"{origin} gave no sample at all. Likely causes: a generator that was used up before, a filter that drops "
        "everything, or a wrong path. Conversion needs representative samples to measure ranges."
    )

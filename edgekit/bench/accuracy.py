"""How right the models of a benchmark are, beside how fast they are: from ``edgekit verify`` or from the manifests in the files.

A verification is of a pair, the float model and the quantised one. Which of a benchmark's models it is of, the hashes in a manifest say;
a file that ``edgekit verify --json`` wrote has the models' sizes only, and may be given with a model's name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.bench.cases import CaseResult
from edgekit.errors import DataError, ModelFileError, OptionError, from_os_error
from edgekit.modelfile import ModelFile

#: What is shown where there were no labels.
AGREEMENT = "agreement with the float model"
#: Data that neither the ranges nor the refinement saw come first.
_SETS = ("verify", "data")

#: A model of a benchmark: its name there, and its hash.
Key = tuple[str, str]
#: The same with its file's size in bytes.
Model = tuple[str, str, int]


@dataclass(frozen=True)
class Accuracy:
    """One model's figure.

    Attributes:
        metric: the task's own, such as ``accuracy``; or ``AGREEMENT``.
        value: the figure; shares are from 0 to 1.
        low: lower end of its 95 % interval, or ``None``.
        high: upper end.
        origin: what it was measured on.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    origin: str

    @property
    def share(self) -> bool:
        """Whether it is a share of 1, which people read in per cent."""
        return self.metric in ("accuracy", AGREEMENT)


@dataclass(frozen=True)
class Verified:
    """What a verification says of its two models.

    Attributes:
        source: what to call it in messages.
        int8_model: of the quantised model.
        float_model: of the float one.
        int8_bytes: the quantised file's size, or ``None``.
        float_bytes: the float file's.
        int8_sha256: of the quantised flatbuffer, or ``None``.
        float_sha256: of the float one.
        name: the model that it was said to be of, or ``None``.
    """

    source: str
    int8_model: Accuracy
    float_model: Accuracy
    int8_bytes: int | None = None
    float_bytes: int | None = None
    int8_sha256: str | None = None
    float_sha256: str | None = None
    name: str | None = None


def read_verified(text: str) -> Verified:
    """Read ``FILE`` or ``MODEL=FILE``.

    Args:
        text: the file is what ``edgekit verify --json`` wrote, or a model that edgekit converted, whose manifest has the figures.

    Raises:
        DataError: it cannot be read, or holds no figure.
        ModelFileError: it is a model without a manifest.
    """
    name, path = None, Path(text)
    if "=" in text and not path.exists():
        name, _, rest = text.partition("=")
        path = Path(rest)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise from_os_error(error, path, "read", DataError) from error
    if content[4:8] == b"TFL3":  # a flatbuffer's file identifier
        found = of_manifest(ModelFile.read(path))
        if found is None:
            raise ModelFileError(
                f"{path} holds no verification: a model that `edgekit convert` wrote was expected, or what `edgekit verify --json` prints."
            )
        return replace(found, name=name)
    try:
        data = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path} is not a verification: {error}. {_EXPECTED}") from error
    return replace(of_json(data, str(path)), name=name)


_EXPECTED = "What `edgekit verify --json` prints was expected."


def of_json(data: Any, source: str) -> Verified:
    """Read what ``VerifyReport.to_json`` gave.

    Args:
        data: the object.
        source: what to call it in messages.

    Raises:
        DataError: it is not one, or has neither a metric nor an agreement.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("on"), Mapping) or not data["on"]:
        raise DataError(f"{source} is not a verification. {_EXPECTED}")
    try:
        sets = data["on"]
        chosen = next((name for name in _SETS if name in sets), next(iter(sets)))
        figures = sets[chosen]
        origin = f"{figures['count']} samples of {figures['origin']}"
        metric, agreement = figures["metric"], next((item["agreement"] for item in figures["outputs"]), None)
        if metric is not None and all(metric[side]["value"] is not None for side in ("float", "int8")):
            sides = [_accuracy(str(metric["name"]), metric[side], origin) for side in ("int8", "float")]
        elif agreement is not None:
            whole = {"value": 1.0, "low": None, "high": None}
            sides = [_accuracy(AGREEMENT, side, origin) for side in (agreement, whole)]
        else:
            raise DataError(
                f"{source} says nothing of accuracy: it was made without labels, on a model whose outputs are no classes. "
                "Verify with labels, or with --metric."
            )
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{source} is damaged ({error!r}). {_EXPECTED}") from error
    return Verified(source, sides[0], sides[1], _whole(data.get("int8_bytes")), _whole(data.get("float_bytes")))


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _accuracy(metric: str, item: Mapping[str, Any], origin: str) -> Accuracy:
    low, high = (None if item[end] is None else float(item[end]) for end in ("low", "high"))
    found = Accuracy(metric, float(item["value"]), low, high, origin)
    if not all(math.isfinite(value) for value in (found.value, low, high) if value is not None):
        raise ValueError(f"{found.value} is no figure")
    return found


def of_manifest(model: ModelFile) -> Verified | None:
    """What a model's own manifest says.

    Args:
        model: any model.

    Returns:
        ``None`` where it has no manifest, or one without such figures.
    """
    if model.manifest is None or not model.manifest.verification:
        return None
    try:
        found = of_json(model.manifest.verification, model.name)
    except DataError:
        return None
    original = model.manifest.source.get("float_sha256")
    return replace(
        found, int8_bytes=None, int8_sha256=model.sha256, float_sha256=None if original is None else str(original)
    )


def models_of(cases: Sequence[CaseResult]) -> list[Model]:
    """The models that were measured, each once.

    Args:
        cases: of one or more benchmarks.
    """
    return list(dict.fromkeys((item.case.model, item.case.sha256, item.case.size_bytes) for item in cases))


def accuracies(models: Sequence[Model], verified: Sequence[Verified]) -> dict[Key, Accuracy]:
    """Which model has which figure.

    Args:
        models: what is, or will be, measured.
        verified: what is known; what comes first counts where two say something of one model.

    Returns:
        By the model's name and hash; models of which nothing is known are not in it.

    Raises:
        OptionError: it cannot be told which model one that was read from a file is of.
    """
    found: dict[Key, Accuracy] = {}
    for item in verified:
        sure = 0
        for name, sha256, size in models:
            figure = _of_model(item, name, sha256, size)
            if figure is not None:
                found.setdefault((name, sha256), figure)
                sure += 1
        if not sure and item.int8_sha256 is None:
            names = ", ".join(dict.fromkeys(name for name, _, _ in models))
            if item.name is not None:
                raise OptionError(
                    f"{item.source} is said to be of {item.name!r}, which was not measured: one of {names} was expected."
                )
            raise OptionError(
                f"{item.source} is of a model of {item.int8_bytes} bytes, and none of {names} has as many. "
                "Say which it is of: --accuracy MODEL=FILE."
            )
    return found


def _of_model(item: Verified, name: str, sha256: str, size: int) -> Accuracy | None:
    if item.name is not None:
        if item.name not in (name, Path(name).name):
            # The other side of the pair needs no name where its size tells it.
            return item.float_model if item.float_bytes == size != item.int8_bytes else None
        return item.float_model if item.float_bytes == size != item.int8_bytes else item.int8_model
    if item.int8_sha256 is not None:
        return (
            item.int8_model if item.int8_sha256 == sha256 else item.float_model if item.float_sha256 == sha256 else None
        )
    if item.int8_bytes == size:
        return item.int8_model
    return item.float_model if item.float_bytes == size else None


def convex_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that are worth a choice: none is faster and as accurate, and none lies below a line between two others.

    Args:
        points: a time and an accuracy each; less and more is better.

    Returns:
        Their places in ``points``, the fastest first.
    """
    order = sorted(range(len(points)), key=lambda number: (points[number][0], -points[number][1]))
    front: list[int] = []
    for number in order:
        x, y = points[number]
        if front and y <= points[front[-1]][1]:
            continue  # one that is no slower is as accurate
        while len(front) >= 2:
            (x0, y0), (x1, y1) = points[front[-2]], points[front[-1]]
            if (y1 - y0) * (x - x0) > (y - y0) * (x1 - x0):
                break
            front.pop()
        front.append(number)
    return front

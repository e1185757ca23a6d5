"""What ``latency.py`` measures: the models, and a row for each tool on each of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import hard_models
import numpy as np
import quality_rows
from latency_children import OURS, PEERS
from quality_children import Answer
from zoo import ZOO

from edgekit.bench.results import Ratio
from edgekit.tensors import Array
from edgekit_convert.verify.intervals import Interval, sqnr_db, wilson

#: The float model is a row as well.
FLOAT = "float"
TOOLS = (*PEERS, *OURS)
#: Test samples of each model, fewer where each has an answer for every pixel.
_TEST, _TEST_MASKS = 200, 60
_SAME_BOX = 0.75
_RESAMPLES = 1000


@dataclass(frozen=True)
class Case:
    """A model with its data and preprocessing.

    Attributes:
        name: what ``--models`` calls it.
        title: what tables call it.
        kind: ``asset`` for a real one, ``zoo`` for one that the benchmark makes.
        task: what it tells of a sample, see ``zoo.Item``.
        normalize: see ``edgekit.convert``.
        resize: likewise.
        source: of an asset, below the assets' folder.
        data: likewise, its data's name.
        labelled: whether the data's labels are this model's.
        calibration: samples to calibrate on.
        test: samples to test on, at most.
    """

    name: str
    title: str
    kind: str
    task: str = "colors"
    normalize: str | None = None
    resize: str | None = None
    source: str = ""
    data: str = ""
    labelled: bool = True
    calibration: int = 100
    test: int = _TEST

    @property
    def needs_assets(self) -> bool:
        """Whether its weights or its data are not made here."""
        return self.kind == "asset" or self.task == "words"


def _real(name: str) -> Case:
    """One of the real models of ``quality.py``."""
    case = quality_rows.CASES[name]
    return Case(case.name, case.title, case.kind, "words", case.normalize, case.resize, case.source, case.data)


def _made(name: str) -> Case:
    item = ZOO[name]
    test = _TEST_MASKS if item.task == "masks" else _TEST
    return Case(name, item.title, "zoo", item.task, item.normalize, test=test)


#: The models by name: convolutions first, then what is harder for a delegate.
CASES: dict[str, Case] = {
    case.name: case
    for case in (
        *map(_made, ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0")),
        _made("resnet18"),
        _real("resnet8"),
        _real("kws"),
        *map(_made, ("vit", "mobilevit", "yolo", "deeplab", "lstm", "gru")),
    )
}


@dataclass(frozen=True)
class Row:
    """One tool on one model.

    Attributes:
        case: the model.
        tool: the tool, or ``float`` for the float model itself.
        failure: why there is nothing else, or ``None``.
        seconds: of the conversion.
        findings: what edgekit said of it.
        sha256: of the flatbuffer.
        size_bytes: of the flatbuffer, without a manifest.
        macs: multiply-accumulates of one run.
        int8_mac_share: share of them on int8 inputs and outputs, from 0 to 1.
        dynamic_mac_share: share of them with int8 weights and inputs that are quantised at run time.
        partitions: what XNNPACK took: ``partitions``, ``operators``, ``taken`` and ``outside``.
        same: for each test sample, how much of it says what the float model says, from 0 to 1.
        sqnr_db: over all outputs.
        p50_ns: the median run, by threads.
        latency: time of one run as a multiple of the float model's, by threads.
        latency_of_tflite: as a multiple of TFLiteConverter's, by threads.
    """

    case: Case
    tool: str
    failure: str | None = None
    seconds: float | None = None
    findings: tuple[str, ...] = ()
    sha256: str | None = None
    size_bytes: int | None = None
    macs: int | None = None
    int8_mac_share: float | None = None
    dynamic_mac_share: float | None = None
    partitions: Answer | None = None
    same: Array | None = None
    sqnr_db: Interval | None = None
    p50_ns: dict[int, float] = dataclasses.field(default_factory=dict)
    latency: dict[int, Ratio] = dataclasses.field(default_factory=dict)
    latency_of_tflite: dict[int, Ratio] = dataclasses.field(default_factory=dict)

    @property
    def agreement(self) -> Interval | None:
        """Share of the answers that are the float model's: of samples, or of pixels."""
        if self.same is None:
            return None
        if np.isin(self.same, (0, 1)).all():
            return wilson(int(self.same.sum()), len(self.same))
        rows = np.random.default_rng(0).integers(0, len(self.same), (_RESAMPLES, len(self.same)))
        low, high = np.percentile(self.same[rows].mean(axis=1), [2.5, 97.5])
        return Interval(float(self.same.mean()), float(low), float(high))

    def to_json(self) -> Answer:
        """All figures."""
        plain: Answer = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("case", "same")
        }
        for key in ("latency", "latency_of_tflite"):
            plain[key] = {threads: dict(vars(item)) for threads, item in plain[key].items()}
        return {
            "model": self.case.name,
            **plain,
            "findings": list(self.findings),
            "agreement": None if self.agreement is None else self.agreement.to_json(),
            "same": None if self.same is None else [round(float(item), 4) for item in self.same],
            "sqnr_db": None if self.sqnr_db is None else self.sqnr_db.to_json(),
        }


def find(rows: Sequence[Row], model: str, tool: str) -> Row | None:
    """The row of a tool on a model, where that was measured and did not fail."""
    return next((row for row in rows if row.case.name == model and row.tool == tool and row.failure is None), None)


def compare(exact: Array, seen: Array, task: str) -> tuple[Array, Interval]:
    """How much two models say the same of each sample, and how much noise is in one's outputs.

    Args:
        exact: the float model's outputs: ``[n, classes]``, ``[n, cells, 5]`` for boxes, ``[n, rows, columns, classes]``.
        seen: the other's.
        task: see ``zoo.Item``.

    Returns:
        Each sample's share of equal answers, and the SQNR over all outputs.
    """
    if task == "boxes":
        boxes = hard_models.found_box(exact), hard_models.found_box(seen)
        same = (hard_models.overlap(*boxes) >= _SAME_BOX).astype(np.float64)
    else:
        equal = exact.argmax(axis=-1) == seen.argmax(axis=-1)
        same = equal.reshape(len(equal), -1).mean(axis=1)
    wanted = exact.reshape(len(exact), -1).astype(np.float64)
    noise = wanted - seen.reshape(len(seen), -1)
    return same, sqnr_db((wanted**2).sum(axis=1), (noise**2).sum(axis=1))


def geometric_mean(rows: Sequence[Row], tool: str, threads: int) -> tuple[float, int] | None:
    """Latency against float over the models that a tool converted.

    Args:
        rows: of all models.
        tool: the tool.
        threads: with how many.

    Returns:
        The geometric mean and the number of models; ``None`` where there is none.
    """
    values = [row.latency[threads].value for row in rows if row.tool == tool and threads in row.latency]
    return (math.exp(float(np.mean(np.log(values)))), len(values)) if values else None

"""What ``quality.py`` measures: the models, and a row for each tool on each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hard_models
import numpy as np
from quality_children import OURS, PEERS, Answer

from edgekit.bench.results import Ratio
from edgekit.tensors import Array
from edgekit_convert.verify.intervals import Interval, paired_drop, wilson

#: Two detectors agree where their best boxes overlap by so much; one is right where its box and the true one do.
_SAME_BOX, _RIGHT_BOX = 0.75, 0.5
#: A lower SQNR than the best peer's is told from here on, in dB.
_SQNR_SLACK = 0.1


@dataclass(frozen=True)
class Case:
    """A model with its data and preprocessing.

    Attributes:
        name: what ``--models`` calls it.
        title: what tables call it.
        kind: ``asset`` for a real one, ``hard`` for one of ``hard_models``.
        source: of a real one, below the assets' folder.
        data: likewise, its data's name.
        normalize: see ``edgekit.convert``.
        resize: likewise.
        labelled: whether the data's labels are this model's.
    """

    name: str
    title: str
    kind: str
    source: str = ""
    data: str = ""
    normalize: str | None = None
    resize: str | None = None
    labelled: bool = False

    @property
    def real(self) -> bool:
        """Whether others trained it."""
        return self.kind == "asset"

    @property
    def boxes(self) -> bool:
        """Whether its outputs are boxes and scores, not classes."""
        return self.kind == "hard" and hard_models.MODELS[self.name].boxes


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("kws", "DS-CNN, keyword spotting", "asset", "keras3/kws_ds_cnn.keras", "keyword_spotting", labelled=True),
        Case(
            "resnet8", "ResNet8, CIFAR-10", "asset", "mlperf_tiny/resnet8/pretrainedResnet.h5", "cifar10", "none",
            labelled=True,
        ),
        Case("vww", "MobileNetV1 0.25 96, flowers", "asset", "mlperf_tiny/vww/vww_96.h5", "flowers_128", "0,255", "96x96"),
        Case(
            "mobilenet_v1", "MobileNetV1 0.25 224, flowers", "asset", "mobilenet_v1_0.25_224/float.tflite", "flowers_224",
            "127.5,127.5",
        ),
        *(Case(name, item.title, "hard", normalize=hard_models.NORMALIZE) for name, item in hard_models.MODELS.items()),
    )
}  # fmt: skip
#: What is among the assets and not measured, with the reason.
LEFT_OUT: dict[str, str] = {
    "mlperf_tiny/ad": "an autoencoder without data",
    "onnx": "edgekit does not read ONNX yet",
    "torch": "edgekit does not read PyTorch yet",
    "edgetpu": "quantised already",
}


@dataclass(frozen=True)
class Against:
    """A conversion of edgekit's beside the best peer's of the same model, on the same samples.

    Attributes:
        agreement_peer: the peer with the highest agreement.
        agreement: edgekit's agreement minus that peer's, with the interval of the paired difference.
        sqnr_peer: the peer with the highest SQNR.
        sqnr_db: edgekit's SQNR minus that peer's.
    """

    agreement_peer: str
    agreement: Interval
    sqnr_peer: str
    sqnr_db: float

    @property
    def significantly_worse(self) -> bool:
        """Whether the agreement is lower, and that is not chance."""
        return self.agreement.high < 0

    @property
    def noisier(self) -> bool:
        """Whether the SQNR is lower by more than rounding."""
        return self.sqnr_db < -_SQNR_SLACK


@dataclass(frozen=True)
class Row:
    """One tool on one model.

    Attributes:
        case: the model.
        tool: the tool.
        failure: why there is nothing else, or ``None``.
        skipped: why it was not even tried, or ``None``.
        conversion: the child process's answer: seconds, phases, memory.
        size_bytes: of the flatbuffer, without a manifest.
        same: for each test sample, whether it says what the float model says.
        sqnr_db: over all outputs.
        right: the task's figure, where there are labels: the float model's, this one's, and how much was lost.
        against: for edgekit's files.
        latency: time of one run as a multiple of the float model's.
        latency_of_peer: as a multiple of the fastest peer's.
        old_runtime: what tflite-runtime said to the file; ``"yes"`` where it ran.
        partitions: what XNNPACK took.
    """

    case: Case
    tool: str
    failure: str | None = None
    skipped: str | None = None
    conversion: Answer = dataclasses.field(default_factory=dict)
    size_bytes: int | None = None
    same: Array | None = None
    sqnr_db: Interval | None = None
    right: tuple[Interval, Interval, Interval] | None = None
    against: Against | None = None
    latency: Ratio | None = None
    latency_of_peer: Ratio | None = None
    old_runtime: str | None = None
    partitions: str | None = None

    @property
    def agreement(self) -> Interval | None:
        """Share of the samples on which it says what the float model says."""
        return wilson(int(self.same.sum()), len(self.same)) if self.same is not None else None

    def to_json(self) -> Answer:
        """All figures."""

        def plain(item: Any) -> Any:
            if isinstance(item, Interval):
                return item.to_json()
            return dict(vars(item)) if isinstance(item, Ratio) else item

        return {
            "model": self.case.name,
            "tool": self.tool,
            "real": self.case.real,
            "failure": self.failure,
            "skipped": self.skipped,
            **self.conversion,
            "size_bytes": self.size_bytes,
            "agreement": plain(self.agreement),
            "same": None if self.same is None else "".join("1" if item else "0" for item in self.same),
            "sqnr_db": plain(self.sqnr_db),
            "metric": None if self.right is None else dict(zip(("float", "int8", "drop"), map(plain, self.right), strict=True)),
            "against": None
            if self.against is None
            else {
                **{key: plain(value) for key, value in vars(self.against).items()},
                "significantly_worse": self.against.significantly_worse,
                "noisier": self.against.noisier,
            },
            "latency_of_float": plain(self.latency),
            "latency_of_fastest_peer": plain(self.latency_of_peer),
            "tflite_runtime": self.old_runtime,
            "partitions": self.partitions,
        }  # fmt: skip


def compare(
    exact: Array, seen: Array, labels: Array | None, *, boxes: bool
) -> tuple[Array, tuple[Interval, Interval, Interval] | None]:
    """Whether two models say the same of each sample, and how often each is right.

    Args:
        exact: the float model's outputs, classes ``[n, k]`` or boxes ``[n, cells, 5]``.
        seen: the other's.
        labels: ``[n]`` classes, or ``[n, 4]`` boxes.
        boxes: which of the two.

    Returns:
        Success of each sample, and the shares of right answers: float, the other, and what was lost.
    """
    if boxes:
        first, second = hard_models.found_box(exact), hard_models.found_box(seen)
        same = hard_models.overlap(first, second) >= _SAME_BOX
        hits = (
            [hard_models.overlap(found, labels) >= _RIGHT_BOX for found in (first, second)]
            if labels is not None
            else []
        )
    else:
        first, second = exact.argmax(axis=1), seen.argmax(axis=1)
        same = first == second
        hits = [first == labels, second == labels] if labels is not None else []
    if not hits:
        return same, None
    shares = [wilson(int(hit.sum()), len(hit)) for hit in hits]
    return same, (shares[0], shares[1], paired_drop(hits[0], hits[1]))


def beside_peers(row: Row, rows: Sequence[Row]) -> Row:
    """Add how one of edgekit's files stands beside the best peer's."""
    peers = [other for other in rows if other.tool in PEERS and other.same is not None and other.sqnr_db is not None]
    if row.tool not in OURS or row.same is None or row.sqnr_db is None or not peers:
        return row
    closest = max(peers, key=lambda other: float(np.mean(other.same)))  # type: ignore[arg-type]  # peers have it
    clearest = max(peers, key=lambda other: other.sqnr_db.value)  # type: ignore[union-attr]  # as above
    assert closest.same is not None
    assert clearest.sqnr_db is not None
    difference = paired_drop(row.same, closest.same)
    sqnr = row.sqnr_db.value - clearest.sqnr_db.value
    return dataclasses.replace(row, against=Against(closest.tool, difference, clearest.tool, sqnr))


def total_disagreement(rows: Sequence[Row]) -> dict[str, tuple[int, float]]:
    """Disagreement with float summed over the real models that TFLiteConverter and every counted tool converted.

    Args:
        rows: of all models.

    Returns:
        By tool: samples that differ, and the sum of the models' shares of differing samples. A tool that failed on a
        model that TFLiteConverter converted is left out.
    """
    real = [row for row in rows if row.case.real and row.same is not None]
    models = {row.case.name for row in real if row.tool == "TFLiteConverter"}
    totals = {}
    for tool in dict.fromkeys(row.tool for row in real):
        own = {row.case.name: row.same for row in real if row.tool == tool and row.case.name in models}
        kept = [same for same in own.values() if same is not None]
        if models and set(own) == models:
            totals[tool] = (sum(int((~same).sum()) for same in kept), sum(float(np.mean(~same)) for same in kept))
    return totals

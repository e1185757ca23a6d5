"""Both models on the same data, and what follows from their outputs: figures with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import DataError, OptionError
from edgekit.runtime.session import Session
from edgekit.tensors import Array, TensorSpec
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import load_function
from edgekit_convert.verify.intervals import Interval, paired_drop, sqnr_db, wilson


@dataclass(frozen=True)
class OutputFigures:
    """How close one output of the int8 model is to the float model's.

    Attributes:
        name: the output.
        sqnr_db: 10·log10(Σ float² / Σ (float - int8)²) over all values, in dB; interval by bootstrap over samples.
        agreement: share of samples with the same top class, for outputs that are class scores; Wilson interval.
        max_abs_error: the largest difference of any value.
    """

    name: str
    sqnr_db: Interval
    agreement: Interval | None
    max_abs_error: float

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "name": self.name,
            "sqnr_db": self.sqnr_db.to_json(),
            "agreement": self.agreement.to_json() if self.agreement else None,
            "max_abs_error": self.max_abs_error,
        }


@dataclass(frozen=True)
class Metric:
    """The task's own figure, where there are labels.

    Attributes:
        name: ``accuracy``, or the function's name.
        float_model: the float model's.
        int8_model: the int8 model's.
        drop: float minus int8, with the interval of the paired difference.
    """

    name: str
    float_model: Interval
    int8_model: Interval
    drop: Interval

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "name": self.name,
            "float": self.float_model.to_json(),
            "int8": self.int8_model.to_json(),
            "drop": self.drop.to_json(),
        }


@dataclass(frozen=True)
class SetFigures:
    """The figures on one data set.

    Attributes:
        origin: where the data came from.
        count: samples.
        outputs: one entry for each output.
        metric: where there are labels.
    """

    origin: str
    count: int
    outputs: tuple[OutputFigures, ...]
    metric: Metric | None

    @property
    def agreement(self) -> Interval | None:
        """The first output's agreement."""
        return self.outputs[0].agreement

    @property
    def sqnr_db(self) -> Interval:
        """The first output's SQNR."""
        return self.outputs[0].sqnr_db

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "origin": self.origin,
            "count": self.count,
            "outputs": [output.to_json() for output in self.outputs],
            "metric": self.metric.to_json() if self.metric else None,
        }


@dataclass(frozen=True)
class Runs:
    """Both models' outputs on one data set.

    Attributes:
        float_outputs: one array ``[n, …]`` for each output.
        int8_outputs: likewise.
        labels: as the data gave them, or ``None``.
    """

    float_outputs: list[Array]
    int8_outputs: list[Array]
    labels: Array | None


def run_both(
    float_session: Session, int8_session: Session, data: CalibrationSet, progress: Callable[[int], None]
) -> Runs:
    """Run both models on every sample. Inputs and outputs correspond by name where the names agree, else by place.

    Args:
        float_session: the float model.
        int8_session: the exported file.
        data: what to run on.
        progress: called with the number of samples done.
    """
    collected: tuple[list[list[Array]], list[list[Array]]] = ([], [])
    inputs = corresponding(float_session.inputs, int8_session.inputs)
    outputs = corresponding(float_session.outputs, int8_session.outputs)
    order = [spec.name for spec in float_session.outputs]
    labels: list[Any] = []
    with ThreadPoolExecutor(1) as beside:  # each model on a core of its own
        for number, ready in enumerate(data, 1):
            waiting = beside.submit(int8_session.run, {inputs[name]: value for name, value in ready.inputs.items()})
            exact = float_session.run(ready.inputs)
            rounded = waiting.result()
            collected[0].append([exact] if len(order) == 1 else [exact[name] for name in order])
            collected[1].append([rounded] if len(order) == 1 else [rounded[outputs[name]] for name in order])
            labels.append(ready.label)
            progress(number)
    if not labels:
        raise DataError(f"{data.source.origin} gave no sample.")

    def stack(rows: list[list[Array]]) -> list[Array]:
        return [np.concatenate([np.atleast_1d(row[position]) for row in rows]) for position in range(len(rows[0]))]

    known = [label is not None for label in labels]
    try:
        stacked = np.asarray(labels) if all(known) else None
    except ValueError as error:
        raise DataError(f"{data.source.origin}: the labels are of different shapes: {error}") from error
    # Sums and bootstrap intervals must not depend on the order that the data came in.
    keys = [b"".join(value.tobytes() for value in row) for row in collected[0]]
    places: list[int] = sorted(range(len(keys)), key=keys.__getitem__)
    exact_rows, rounded_rows = ([rows[place] for place in places] for rows in collected)
    return Runs(stack(exact_rows), stack(rounded_rows), stacked[places] if stacked is not None else None)


def corresponding(ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> dict[str, str]:
    """Which of their inputs (or outputs) is which of ours: by name where the names agree, else by place.

    Args:
        ours: one model's.
        theirs: as many of another model.
    """
    if {spec.name for spec in ours} == {spec.name for spec in theirs}:
        return {spec.name: spec.name for spec in ours}
    return {a.name: b.name for a, b in zip(ours, theirs, strict=True)}


def looks_like_classes(output: Array, inputs: CalibrationSet) -> bool:
    """Whether an output is class scores: ``[n, classes]``, and not a reconstruction of the input."""
    if output.ndim != 2 or output.shape[1] < 2 or output.dtype.kind != "f":
        return False
    return all(spec.shape[1:] != output.shape[1:] for spec in inputs.inputs)


def figures(runs: Runs, data: CalibrationSet, names: Sequence[str], metric: Any) -> SetFigures:
    """Compare what ``run_both`` collected.

    Args:
        runs: both models' outputs.
        data: what they ran on.
        names: the outputs' names.
        metric: ``"accuracy"``, a function ``(outputs, labels) -> float``, or its text form.

    Raises:
        DataError: the labels do not fit the outputs.
    """
    outputs = []
    for name, exact, rounded in zip(names, runs.float_outputs, runs.int8_outputs, strict=True):
        a = exact.reshape(len(exact), -1).astype(np.float64)
        difference = a - rounded.reshape(len(rounded), -1)
        agreement = None
        if looks_like_classes(exact, data):
            same = int((exact.argmax(axis=1) == rounded.argmax(axis=1)).sum())
            agreement = wilson(same, len(exact))
        outputs.append(
            OutputFigures(
                name,
                sqnr_db((a**2).sum(axis=1), (difference**2).sum(axis=1)),
                agreement,
                float(np.abs(difference).max()),
            )
        )
    measured = _metric(runs, metric, data.source.origin) if runs.labels is not None else None
    return SetFigures(data.source.origin, len(runs.float_outputs[0]), tuple(outputs), measured)


def _metric(runs: Runs, metric: Any, origin: str) -> Metric:
    labels = runs.labels
    assert labels is not None  # the caller has looked
    if callable(metric) or metric != "accuracy":
        return _own_metric(runs, labels, metric)
    exact, rounded = runs.float_outputs[0], runs.int8_outputs[0]
    if exact.ndim != 2 or exact.shape[1] < 2:
        raise DataError(
            f"accuracy needs class scores, and the first output has shape {list(exact.shape[1:])}: pass --metric, or leave the labels out."
        )
    if labels.ndim == 2 and labels.shape[1] == exact.shape[1]:
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1)
    if len(labels) != len(exact) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{origin}: labels of shape {list(labels.shape)} {labels.dtype}: one class number per sample was expected."
        )
    if labels.min() < 0 or labels.max() >= exact.shape[1]:
        raise DataError(
            f"{origin}: labels from {labels.min()} to {labels.max()}, the model has {exact.shape[1]} classes (0 to "
            f"{exact.shape[1] - 1}). Are these the labels of this model?"
        )
    first, second = exact.argmax(axis=1) == labels, rounded.argmax(axis=1) == labels
    return Metric(
        "accuracy",
        wilson(int(first.sum()), len(first)),
        wilson(int(second.sum()), len(second)),
        paired_drop(first, second),
    )


def _own_metric(runs: Runs, labels: Array, metric: Any) -> Metric:
    """A caller's metric, its intervals by bootstrap over samples."""
    if isinstance(metric, str):
        if ":" not in metric:
            raise OptionError(f"unknown metric {metric!r}: accuracy or module:function was expected.")
        metric = load_function(metric)

    def score(outputs: list[Array], rows: Array) -> float:
        chosen = [output[rows] for output in outputs]
        try:
            return float(metric(chosen[0] if len(chosen) == 1 else chosen, labels[rows]))
        except Exception as error:  # the caller's code may raise anything
            raise OptionError(
                f"the metric {getattr(metric, '__name__', 'given')} raised {type(error).__name__}: {error}. A function "
                "(outputs, labels) that returns one number was expected."
            ) from error

    count = len(labels)
    everything = np.arange(count)
    random = np.random.default_rng(0)
    pairs = np.array(
        [
            (score(runs.float_outputs, rows), score(runs.int8_outputs, rows))
            for rows in (random.integers(0, count, count) for _ in range(200))
        ]
    )

    def interval(value: float, samples: Array) -> Interval:
        low, high = np.percentile(samples, [2.5, 97.5])
        return Interval(value, float(low), float(high))

    a, b = score(runs.float_outputs, everything), score(runs.int8_outputs, everything)
    name = getattr(metric, "__name__", "metric")
    return Metric(name, interval(a, pairs[:, 0]), interval(b, pairs[:, 1]), interval(a - b, pairs[:, 0] - pairs[:, 1]))

"""Gates: how good a conversion has to be, and the data that decide."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from edgekit.errors import DataError, EngineError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.verify import Runs, SetFigures, corresponding, figures, looks_like_classes
from edgekit_convert.verify.checks import Check
from edgekit_convert.verify.intervals import Interval


@dataclass(frozen=True)
class Gates:
    """What is asked of a conversion; ``None`` where nothing is.

    A gate is met by the measured figure itself, not by an end of its interval. With several outputs each has to meet it.

    Attributes:
        min_agreement: lowest share of samples with the same top class as the float model, above 0, at most 1.
        max_drop: largest loss of the task's figure: in points for ``accuracy`` (1 is one percentage point), in the figure's own
            unit for a function, of which more is better.
        min_sqnr: lowest signal to noise, in dB.
    """

    min_agreement: float | None = None
    max_drop: float | None = None
    min_sqnr: float | None = None

    @classmethod
    def from_options(
        cls, min_agreement: float | None = None, max_drop: float | None = None, min_sqnr: float | None = None
    ) -> Gates:
        """Read the options, in which an agreement may be in percent as well.

        Args:
            min_agreement: up to 1 a share, above 1 in percent: 0.99 and 99 are the same.
            max_drop: see ``Gates``.
            min_sqnr: see ``Gates``.

        Raises:
            OptionError: a value makes no sense.
        """
        if min_agreement is not None:
            if not 0 < min_agreement <= 100:
                raise OptionError(
                    f"a least agreement of {min_agreement:g}: a share (0.99) or per cent (99) was expected, at most 100."
                )
            min_agreement = min_agreement / 100 if min_agreement > 1 else min_agreement
        if max_drop is not None and not 0 <= max_drop < math.inf:
            raise OptionError(
                f"a largest drop of {max_drop:g}: points of the task's figure were expected, 0 or more (1 for one point)."
            )
        if min_sqnr is not None and not -math.inf < min_sqnr < math.inf:
            raise OptionError(f"a least SQNR of {min_sqnr:g}: decibels were expected, such as 20.")
        return cls(min_agreement, max_drop, min_sqnr)

    @property
    def any(self) -> bool:
        """Whether anything is asked."""
        return any(getattr(self, item.name) is not None for item in fields(self))

    def check_possible(self, pivot: ModelFile, calibration: CalibrationSet, verify: CalibrationSet | None) -> None:
        """Raise before the work starts when a gate could never be decided.

        Args:
            pivot: the float model.
            calibration: the representative data.
            verify: the data of ``--verify``, or ``None``.

        Raises:
            OptionError: agreement of a model without class scores.
            DataError: a drop without labels.
        """
        if self.max_drop is not None:
            if verify is None:
                raise DataError(
                    "--max-drop compares the task's figure, which needs labels: pass data with labels as --verify "
                    "(file.npz:x=KEY,y=KEY, or a folder with one sub-folder for each class)."
                )
            first = next(iter(verify), None)
            if first is not None and first.label is None:
                raise DataError(
                    f"--max-drop needs labels, and {verify.source.origin} has none: file.npz:x=KEY,y=KEY was expected, or a "
                    "folder with one sub-folder for each class."
                )
        if self.min_agreement is not None:
            floats = [spec for spec in pivot.outputs if spec.dtype == "float32"]
            empty = (np.empty([max(1, size) for size in spec.shape], np.float32) for spec in floats)
            if not any(looks_like_classes(item, calibration) for item in empty):
                outputs = ", ".join(str(spec) for spec in pivot.outputs)
                raise OptionError(
                    "--min-agreement is the share of samples with the same top class, and the model has no output of class "
                    f"scores ({outputs}): use --min-sqnr, or --max-drop with a --metric of your own."
                )

    def check(self, seen: SetFigures, on: str) -> tuple[Check, ...]:
        """One check for each gate.

        Args:
            seen: the figures that decide.
            on: the data that they were measured on, in words.
        """
        checks = []
        if self.min_agreement is not None:
            agreement = lowest_agreement(seen)
            text = "the model has no output of class scores"
            if agreement is not None:
                text = f"{_percent(agreement)}; asked for at least {100 * self.min_agreement:.6g} %"
            passed = agreement is not None and agreement.value >= self.min_agreement
            checks.append(Check("least agreement", passed, f"{text} ({seen.count} samples of {on})"))
        if self.max_drop is not None:
            drop = seen.metric.drop if seen.metric is not None else None
            text = "there are no labels"
            if drop is not None and seen.metric is not None:
                text = f"{seen.metric.name} {_points(seen, drop)}; asked for at most {self.max_drop:g}"
            passed = drop is not None and drop.value * _unit(seen) <= self.max_drop + 1e-9
            checks.append(Check("largest drop", passed, f"{text} ({seen.count} samples of {on})"))
        if self.min_sqnr is not None:
            sqnr = lowest_sqnr(seen)
            text = f"{sqnr.value:.2f} dB ({sqnr.low:.1f} to {sqnr.high:.1f}); asked for at least {self.min_sqnr:g} dB"
            checks.append(Check("least SQNR", sqnr.value >= self.min_sqnr, f"{text} ({seen.count} samples of {on})"))
        return tuple(checks)

    def met(self, seen: SetFigures) -> bool:
        """Whether some figures meet every gate."""
        return all(check.passed for check in self.check(seen, ""))

    def to_json(self) -> dict[str, float | None]:
        """The fields by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __str__(self) -> str:
        parts = []
        if self.min_agreement is not None:
            parts.append(f"agreement of at least {100 * self.min_agreement:.6g} %")
        if self.max_drop is not None:
            parts.append(f"a drop of at most {self.max_drop:g}")
        if self.min_sqnr is not None:
            parts.append(f"SQNR of at least {self.min_sqnr:g} dB")
        return ", ".join(parts) or "nothing"


def lowest_agreement(seen: SetFigures) -> Interval | None:
    """The agreement of the output that agrees least; ``None`` where no output is class scores."""
    found = [output.agreement for output in seen.outputs if output.agreement is not None]
    return min(found, key=lambda item: item.value) if found else None


def lowest_sqnr(seen: SetFigures) -> Interval:
    """The SQNR of the output with most noise, in dB."""
    return min((output.sqnr_db for output in seen.outputs), key=lambda item: item.value)


def in_words(seen: SetFigures) -> str:
    """The figures that gates ask for, in one line."""
    agreement, sqnr = lowest_agreement(seen), lowest_sqnr(seen)
    parts = [f"agreement {100 * agreement.value:.2f} %"] if agreement is not None else []
    parts.append(f"SQNR {sqnr.value:.2f} dB" if math.isfinite(sqnr.value) else "no error")
    if seen.metric is not None:
        parts.append(f"{seen.metric.name} drop {seen.metric.drop.value * _unit(seen):.3g}")
    return ", ".join(parts)


def _unit(seen: SetFigures) -> float:
    """Accuracy is a share, and asked for in points."""
    return 100.0 if seen.metric is not None and seen.metric.name == "accuracy" else 1.0


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.2f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _points(seen: SetFigures, drop: Interval) -> str:
    unit = _unit(seen)
    name = " points" if unit == 100 else ""
    return f"drops by {unit * drop.value:.3g}{name} ({unit * drop.low:.3g} to {unit * drop.high:.3g})"


class Prover:
    """The figures of one candidate after the other on the data that decide; the float model is run once.

    Args:
        float_model: the pivot.
        data: for its inputs.
        metric: see ``verify.figures``.
        spec: the delegate that runs both.
        only: places of the samples to use, counted from 0; empty for all.
        progress: called as ``progress(done, total)`` for each candidate.

    Raises:
        DataError: there is no sample.
        EngineError: the interpreter cannot run the float model.
    """

    def __init__(
        self,
        float_model: bytes,
        data: CalibrationSet,
        *,
        metric: Any,
        spec: DelegateSpec,
        only: frozenset[int] = frozenset(),
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._data, self._metric, self._only, self._tell = data, metric, only, progress
        self._choice = DelegateChoice(spec, "deciding by the gates")
        self._pivot = ModelFile.read(float_model)
        rows, labels = self._run(self._pivot)
        if not rows:
            raise DataError(f"{data.source.origin} gave no sample.")
        keys = [b"".join(value.tobytes() for value in row) for row in rows]
        #: Sums and intervals do not depend on the order that the data came in.
        self._order = sorted(range(len(keys)), key=lambda number: keys[number])
        self._exact = self._stacked(rows)
        known = all(label is not None for label in labels)
        self._labels = np.asarray(labels)[self._order] if known else None

    def __call__(self, candidate: bytes) -> SetFigures | None:
        """A candidate's figures; ``None`` where the interpreter cannot run it."""
        try:
            rows, _ = self._run(ModelFile.read(candidate))
        except EngineError:
            return None
        runs = Runs(self._exact, self._stacked(rows), self._labels)
        return figures(runs, self._data, [spec.name for spec in self._pivot.outputs], self._metric)

    def _stacked(self, rows: list[list[Array]]) -> list[Array]:
        return [
            np.concatenate([rows[number][place] for number in self._order]) for place in range(len(self._pivot.outputs))
        ]

    def _run(self, model: ModelFile) -> tuple[list[list[Array]], list[Any]]:
        inputs = corresponding(self._pivot.inputs, model.inputs)
        outputs = corresponding(self._pivot.outputs, model.outputs)
        rows, labels = [], []
        total = len(self._only) or self._data.source.total or 0
        with Session(model, self._choice) as session:
            for number, ready in enumerate(self._data):
                if self._only and number not in self._only:
                    continue
                result = session.run({inputs[name]: value for name, value in ready.inputs.items()})
                by_name = result if isinstance(result, dict) else {model.outputs[0].name: result}
                rows.append([by_name[outputs[spec.name]] for spec in self._pivot.outputs])
                labels.append(ready.label)
                self._tell(len(rows), total)
        return rows, labels

"""Many samples through one model: along its batch axis where it has one, else one by one.

A model has a batch axis when the first size of all its inputs and outputs is open, or is the same number above 1. Which of
an item's sizes is meant is told by its rank: an item of one axis less than the input, or of size 1 there, is one sample;
anything else is an input of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from edgekit.errors import DataError, EngineError, OptionError
from edgekit.records import Record
from edgekit.tensors import Array, TensorSpec

#: Samples of one run where the model leaves the size open and the caller names none: what a run costs besides arithmetic
#: is spread over eight samples then, and more would only need more memory.
DEFAULT_SIZE = 8
#: Above this a batch is a mistake rather than a wish.
MAX_SIZE = 65_536

#: A sample: the arrays by input name, each with the batch axis.
Sample: TypeAlias = "dict[str, Array]"


class Runs(Protocol):
    """What batches, streams and pools need of a model: ``Session``'s face."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What goes in."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What comes out."""

    def run(self, value: Any, /) -> Any:
        """Run the model once."""

    def run_queued(self, value: Any, since_ns: int) -> Any:
        """Run the model once on what has waited since then."""

    def close(self) -> None:
        """Free it."""


class BatchAxis(Record):
    """How many samples of a model go into one run.

    Attributes:
        size: the most samples; 1 when they run one by one.
        fixed: whether each run takes exactly ``size`` of them, so that an incomplete one is padded.
        inputs: the model's inputs.
        outputs: the model's outputs.
    """

    size: int
    fixed: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, model: Runs, size: int | None = None) -> BatchAxis:
        """Find a model's batch axis.

        Args:
            model: a session, or what has its face.
            size: samples of a run; ``None`` for the model's own number, or ``DEFAULT_SIZE`` where it leaves that open.

        Raises:
            OptionError: the model does not take that many.
        """
        if size is not None and not 1 <= size <= MAX_SIZE:
            raise OptionError(f"batches of {size} samples: from 1 to {MAX_SIZE} were expected.")
        inputs, outputs = tuple(model.inputs), tuple(model.outputs)
        firsts = {spec.shape[0] if spec.shape else 1 for spec in (*inputs, *outputs)}
        first = firsts.pop() if len(firsts) == 1 else 1
        if first == -1:
            return cls(size or DEFAULT_SIZE, False, inputs, outputs)
        if size is not None and size != first:
            raise OptionError(
                f"batches of {size} samples: this model takes {first} in a run. Leave the size out, or convert the model "
                "with an open batch size."
            )
        return cls(first, first > 1, inputs, outputs)

    def sample(self, value: Any) -> Sample | None:
        """One item as a sample of size 1 along the batch axis.

        Args:
            value: an array, or a mapping of arrays by input name.

        Returns:
            The arrays by name, or ``None`` for an item that is not one sample: it runs as it is.
        """
        if isinstance(value, Mapping):
            if {spec.name for spec in self.inputs} != set(value):
                return None
            pairs = [(spec, value[spec.name]) for spec in self.inputs]
        elif len(self.inputs) == 1:
            pairs = [(self.inputs[0], value)]
        else:
            return None
        sample: Sample = {}
        for spec, item in pairs:
            try:
                array: Array = np.asarray(item)
            except (TypeError, ValueError):  # the session says what is wrong with it
                return None
            if array.ndim == len(spec.shape) - 1:
                sample[spec.name] = array[None]
            elif array.ndim and array.ndim == len(spec.shape) and array.shape[0] == 1:
                sample[spec.name] = array
            else:
                return None
        return sample

    def join(self, samples: Sequence[Sample]) -> Any:
        """Put samples of equal shapes together, padded with the last one where the model takes a fixed number.

        Returns:
            What ``run`` takes.
        """
        rows = [*samples]
        if self.fixed:
            rows += [samples[-1]] * (self.size - len(rows))
        if len(rows) == 1:
            joined = rows[0]
        else:
            joined = {spec.name: np.concatenate([row[spec.name] for row in rows]) for spec in self.inputs}
        return joined if len(self.inputs) > 1 else joined[self.inputs[0].name]

    def split(self, output: Any, count: int) -> list[Any]:
        """Take a run's result apart.

        Args:
            output: what ``run`` returned.
            count: samples that went in.

        Returns:
            For each sample what ``run`` would have returned for it alone; arrays of their own.

        Raises:
            EngineError: the result has another number of rows than the input.
        """
        rows = self.size if self.fixed else count
        if rows == 1:
            return [_own(output)]
        arrays: Mapping[str, Array] = output if isinstance(output, Mapping) else {"": output}
        for name, array in arrays.items():
            if array.ndim == 0 or array.shape[0] != rows:
                raise EngineError(
                    f"{rows} samples went in, and output {name or self.outputs[0].name!r} came back with shape "
                    f"{list(array.shape)}: this model's first axis is no batch axis. Run its samples one by one (size=1)."
                )
        if not isinstance(output, Mapping):
            return [output[index : index + 1].copy() for index in range(count)]
        return [{name: array[index : index + 1].copy() for name, array in arrays.items()} for index in range(count)]


def batch(model: Runs, iterable: Iterable[Any], *, size: int | None = None) -> Iterator[Any]:
    """Run every item of an iterable, several in a run where the model's batch axis takes them.

    Items are taken as results are asked for, never more than one batch ahead.

    Args:
        model: a session, or what has its face.
        iterable: samples: arrays with or without the batch axis, or mappings of them by input name. An item that is no
            single sample, such as one that fills the batch axis itself, runs alone and as it is.
        size: samples of a run; ``None`` for the model's own number, or ``DEFAULT_SIZE`` where it leaves that open; 1 for one by one.

    Returns:
        An iterator over what ``run`` would return for each item alone, in order; the caller owns the arrays.

    Raises:
        OptionError: the model does not take that many.
        DataError: what was given cannot be iterated.
        TensorError: an item does not fit the model.
        EngineError: a run failed.
    """
    axis = BatchAxis.of(model, size)
    if isinstance(iterable, str | bytes | Mapping):
        raise DataError(f"a {type(iterable).__name__} was given as samples: an iterable of arrays was expected.")
    try:
        items = iter(iterable)
    except TypeError as error:
        raise DataError(
            f"a {type(iterable).__name__} was given as samples: an iterable of arrays was expected."
        ) from error
    return _batches(model, items, axis)


def _batches(model: Runs, items: Iterator[Any], axis: BatchAxis) -> Iterator[Any]:
    together = Together(model, axis)
    group: list[Sample] = []
    for item in items:
        sample = axis.sample(item)
        if group and (sample is None or not same_form(group[0], sample)):
            yield from together.run(group)
            group = []
        if sample is None:
            yield _own(model.run(item))
            continue
        group.append(sample)
        if len(group) == together.size:
            yield from together.run(group)
            group = []
    if group:
        yield from together.run(group)


class Together:
    """Runs samples together as long as the model takes that.

    Some models announce an open batch size and hold a fixed one inside. What such a model refuses together is run one by
    one, and so is all that follows.

    Args:
        model: a session, or what has its face.
        axis: its batch axis.

    Attributes:
        size: the most samples of a run, from now on.
    """

    def __init__(self, model: Runs, axis: BatchAxis) -> None:
        self._model = model
        self._axis = axis
        self.size = axis.size

    def run(self, samples: Sequence[Sample], since_ns: int | None = None) -> list[Any]:
        """Run samples of equal shapes.

        Args:
            samples: at most ``size`` of them.
            since_ns: when the first of them was queued, or ``None`` when none was.

        Returns:
            A result for each.

        Raises:
            TensorError: a sample does not fit the model.
            EngineError: a run failed.
        """
        axis = self._axis
        if len(samples) > 1 and not axis.fixed:
            if self.size > 1:
                try:
                    return axis.split(self._call(axis.join(samples), since_ns), len(samples))
                except EngineError:
                    # The inside may be fixed. When single samples fail as well, they say why.
                    results = [self._single(sample, since_ns) for sample in samples]
                    self.size = 1
                    return results
            return [self._single(sample, since_ns) for sample in samples]
        return axis.split(self._call(axis.join(samples), since_ns), len(samples))

    def _single(self, sample: Sample, since_ns: int | None) -> Any:
        return self._axis.split(self._call(self._axis.join([sample]), since_ns), 1)[0]

    def _call(self, value: Any, since_ns: int | None) -> Any:
        return self._model.run(value) if since_ns is None else self._model.run_queued(value, since_ns)


def same_form(first: Sample, second: Sample) -> bool:
    """Whether two samples can be put together: equal shapes and dtypes."""
    return all(array.shape == second[name].shape and array.dtype == second[name].dtype for name, array in first.items())


def _own(output: Any) -> Any:
    """A result whose memory is its own, so that the next run does not change it."""
    if isinstance(output, Mapping):
        return {name: _own(array) for name, array in output.items()}
    if isinstance(output, np.ndarray) and output.base is not None:
        return output.copy()
    return output

"""Input shapes that the caller fixes, for every frontend."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgekit.errors import OptionError
from edgekit.tensors import Array, TensorSpec
from edgekit_convert.frontends.source import Source
from edgekit_convert.graph.batch import rebatched

#: Above this a batch is a mistake rather than a wish.
_MOST_SAMPLES = 4096


def fixed_shapes(shapes: Mapping[str, Sequence[int]] | Sequence[int] | None) -> dict[str, tuple[int, ...]]:
    """Shapes by input name as ``Opening`` has them.

    Args:
        shapes: by input name, or one shape for the only input, or ``None``.

    Raises:
        OptionError: a size is no whole number above 0.
    """
    if shapes is None:
        return {}
    named = shapes if isinstance(shapes, Mapping) else {"": shapes}
    return {str(name): _sizes(str(name), shape) for name, shape in named.items()}


def _sizes(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    try:
        if isinstance(shape, str) or any(isinstance(size, bool) for size in shape):
            raise TypeError
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        sizes = (0,)
    if any(size < 1 for size in sizes):
        given = shape if isinstance(shape, str) else list(shape) if isinstance(shape, Sequence) else shape
        raise OptionError(
            f"the shape {given}{f' for {name}' if name else ''}: whole numbers above 0 were expected, the batch first."
        )
    return sizes


def check_batch(batch: int | None) -> None:
    """See that a number of samples in one run makes sense.

    Args:
        batch: the number; ``None`` for no second signature.

    Raises:
        OptionError: it makes none.
    """
    if batch is None:
        return
    if isinstance(batch, bool) or not isinstance(batch, int) or not 2 <= batch <= _MOST_SAMPLES:
        raise OptionError(
            f"a batch of {batch}: a whole number from 2 to {_MOST_SAMPLES} was expected. The main signature runs one sample."
        )


def with_shapes(source: Source, shapes: Mapping[str, tuple[int, ...]]) -> Source:
    """Fix the sizes that a source leaves open.

    A first size that the source fixes above 1 may be given as 1: the converted model is rewritten for single samples then.

    Args:
        source: as its frontend opened it.
        shapes: by input name, ``""`` for the only input; in the order of the file's axes, or in the original's.

    Returns:
        The source with these sizes as its inputs'; the very object where nothing was given.

    Raises:
        OptionError: there is no such input, or it does not take these sizes.
    """
    if not shapes:
        return source
    named = _named(source, shapes)
    batches = {}
    fixed: list[TensorSpec] = []
    for spec in source.inputs:
        wanted = (
            _in_file_order(spec, named[spec.name], source.layouts.get(spec.name)) if spec.name in named else spec.shape
        )
        single = wanted[:1] == (1,) and len(spec.shape) > 1 and spec.shape[0] > 1
        if spec.name in named:
            _check(source, spec, (spec.shape[0], *wanted[1:]) if single else wanted)
        if single:
            batches[spec.name] = spec.shape[0]
        fixed.append(spec._replace(shape=wanted))
    if len(set(batches.values())) > 1 or (batches and len(batches) != len(source.inputs)):
        raise OptionError(
            f"{source.name}: single samples were asked for, and the inputs are {_inputs(source)}: for that all have to be given "
            "with a first size of 1, and all have to have the same one."
        )
    pinned = replace(source, inputs=tuple(fixed))
    return _single(pinned, next(iter(batches.values()))) if batches else pinned


def _named(source: Source, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes by the source's own input names."""
    named = dict(shapes)
    if "" in named:
        if len(source.inputs) != 1:
            raise OptionError(
                f"a shape without a name is for a model with one input, and {source.name} has {_inputs(source)}: "
                "write --shape NAME=N,N,..."
            )
        alone = named.pop("")
        if named.setdefault(source.inputs[0].name, alone) != alone:
            raise OptionError(f"two shapes were given for the input {source.inputs[0].name}: one was expected.")
    unknown = sorted(set(named) - {spec.name for spec in source.inputs})
    if unknown:
        raise OptionError(f"a shape for the unknown input {', '.join(unknown)}: {source.name} has {_inputs(source)}.")
    return named


def _in_file_order(spec: TensorSpec, shape: tuple[int, ...], axes: tuple[int, ...] | None) -> tuple[int, ...]:
    """A shape with its axes as the file has them; one that fits both ways is taken as it is."""
    any_batch = spec._replace(shape=(-1, *spec.shape[1:]))  # which may be fixed above 1, and be given as 1
    if axes is None or len(shape) != len(axes) or any_batch.accepts(shape):
        return shape
    turned = tuple(shape[axis] for axis in axes)
    return turned if any_batch.accepts(turned) else shape


def _check(source: Source, spec: TensorSpec, shape: tuple[int, ...]) -> None:
    if not spec.accepts(shape):
        what = f"{source.name} takes {spec}"
        if len(shape) != len(spec.shape):
            raise OptionError(
                f"the shape {list(shape)} for {spec.name}: {what}, {len(spec.shape)} sizes were expected."
            )
        raise OptionError(
            f"the shape {list(shape)} for {spec.name}: {what}, and only the sizes with a question mark are open. Export the "
            "model for other sizes."
        )
    if spec.shape[:1] == (-1,) and shape[0] != 1:
        raise OptionError(
            f"the shape {list(shape)} for {spec.name}: samples are calibrated and compared one by one, so that its first size "
            f"is 1. For {shape[0]} samples in one run add --batch {shape[0]}."
        )


def _inputs(source: Source) -> str:
    return ", ".join(str(spec) for spec in source.inputs)


def _single(source: Source, batch: int) -> Source:
    """A source that takes ``batch`` samples at once, for one: its converted model is rewritten."""

    def export(shapes: dict[str, tuple[int, ...]]) -> bytes:
        whole = source.export({name: (batch, *shape[1:]) for name, shape in shapes.items()})
        return rebatched(whole, batch, 1)

    reference: Callable[[dict[str, Array]], list[Array]] | None = None
    if source.reference is not None:
        original = source.reference

        def reference(values: dict[str, Array]) -> list[Array]:
            return [result[:1] for result in original({name: np.repeat(row, batch, 0) for name, row in values.items()})]

    note = f"made for {batch} samples in one run, and rewritten for one"
    return replace(source, export=export, reference=reference, notes=(*source.notes, note))

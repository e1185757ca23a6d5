"""Inputs whose axes the file has in another order than the original: channels last here, channels first there.

A model that was trained with the channels first comes out with the channels last, as the kernels of small devices want them. Data
may come either way: which one it is, the sizes of a sample tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgekit.preprocess import Preprocessing
from edgekit.tensors import Array, TensorSpec
from edgekit_convert.calibration.auditing import Finding
from edgekit_convert.calibration.data import DataSource, Sample
from edgekit_convert.frontends.source import Source

#: Names of the axes of a tensor with the channels first, by rank: batch, channels, depth, height, width; length.
_CHANNELS_FIRST: Mapping[int, str] = {3: "NCL", 4: "NCHW", 5: "NCDHW"}


def channels_last(rank: int) -> tuple[int, ...]:
    """Which axis of a tensor with the channels first each axis of the one with the channels last is.

    Args:
        rank: how many axes it has, the batch among them; 3 at least.
    """
    return (0, *range(2, rank), 1)


def turned_back(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The order that undoes ``axes``."""
    return tuple(axes.index(axis) for axis in range(len(axes)))


def names(axes: tuple[int, ...]) -> tuple[str, str]:
    """What the two orders are called: the original's and the file's, such as ``("NCHW", "NHWC")``; digits where they have no name."""
    letters = _CHANNELS_FIRST.get(len(axes), "")
    if axes != channels_last(len(axes)):
        letters = ""
    letters = letters or "".join(str(axis) for axis in range(len(axes)))
    return letters, "".join(letters[axis] for axis in axes)


def layouts_json(
    inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[str, Any]]:
    """What the manifest says of a source with its axes in another order: by tensor name, the axes and both orders' names.

    Args:
        inputs: see ``Source.layouts``.
        outputs: see ``Source.output_layouts``.
    """
    sides = {"layouts": inputs, "output_layouts": outputs}
    return {
        key: {
            name: {"axes": list(axes), "original": names(axes)[0], "file": names(axes)[1]}
            for name, axes in side.items()
        }
        for key, side in sides.items()
        if side
    }


def layouts_from_json(source: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Read the inputs' layouts from a manifest's ``source``; what is of another form is left out."""
    data = source.get("layouts")
    if not isinstance(data, Mapping):
        return {}
    found = {}
    for name, item in data.items():
        axes = item.get("axes") if isinstance(item, Mapping) else None
        if isinstance(axes, list) and set(axes) == set(range(len(axes))):
            found[str(name)] = tuple(axes)
    return found


def layout_findings(opened: Source) -> list[Finding]:
    """Say which inputs and outputs have their axes in another order than the original's."""
    sides = (("input", opened.layouts), ("output", opened.output_layouts))
    found = [
        f"the {what} {name!r} is {names(axes)[1]} in the file and {names(axes)[0]} in the original"
        for what, layouts in sides
        for name, axes in layouts.items()
    ]
    return [Finding("note", "layout", f"{text}.") for text in found]


@dataclass(frozen=True)
class _Seen:
    """What the sizes of one sample say.

    Attributes:
        as_file: whether they can be in the file's order.
        as_original: whether they can be in the original's.
    """

    as_file: bool
    as_original: bool


def in_file_layout(
    data: DataSource,
    inputs: tuple[TensorSpec, ...],
    layouts: Mapping[str, tuple[int, ...]],
    preprocessing: Mapping[str, Preprocessing],
) -> tuple[DataSource, tuple[Finding, ...]]:
    """Data as the file takes them, whichever of the two orders they come in.

    The first sample decides for all. Where its sizes fit both orders, it is taken to be in the file's.

    Args:
        data: raw samples.
        inputs: the model's, as the file has them.
        layouts: see ``Source``.
        preprocessing: by input name; images are resized by it, so that their sizes need not fit before.

    Returns:
        The data, and what was done to them or could not be told.
    """
    turned = {spec.name: spec for spec in inputs if spec.name in layouts}
    first = next(iter(data.read()), None) if turned else None
    if first is None:
        return data, ()
    orders: dict[str, tuple[int, ...]] = {}
    findings: list[Finding] = []
    for name, spec in turned.items():
        axes, item = layouts[name], preprocessing.get(name)
        shape = _sample_shape(first[0][name], spec)
        seen = _look(shape, spec, axes, any_size=item is not None and item.changes_size)
        theirs, ours = names(axes)
        if seen.as_file and seen.as_original:
            findings.append(
                Finding(
                    "warning",
                    "layout",
                    f"{data.origin}: a sample of shape {list(shape)} for the input {name!r} can be {ours}, as the file takes it, "
                    f"or {theirs}, as the original does; it was taken as {ours}. If it is {theirs}, transpose the data with "
                    f"numpy.transpose(data, {list(axes)}).",
                )
            )
        elif seen.as_original:
            orders[name] = axes
            findings.append(
                Finding(
                    "note",
                    "layout",
                    f"{data.origin}: the samples for the input {name!r} are {theirs}, as the original takes them (the first has "
                    f"shape {list(shape)}); each was transposed to {ours}, as the file takes it.",
                )
            )
    if not orders:
        return data, tuple(findings)

    def read() -> Iterator[Sample]:
        for raw, label in data.read():
            yield {name: _turn(value, orders.get(name)) for name, value in raw.items()}, label

    return replace(data, read=read), tuple(findings)


def _sample_shape(value: Array, spec: TensorSpec) -> tuple[int, ...]:
    """A sample's sizes without its batch axis, which it need not have."""
    return value.shape[1:] if value.ndim == len(spec.shape) else value.shape


def _look(shape: tuple[int, ...], spec: TensorSpec, axes: tuple[int, ...], *, any_size: bool) -> _Seen:
    """Compare a sample's sizes with both orders.

    Args:
        shape: the sample's, without the batch.
        spec: the input as the file has it.
        axes: which axis of the original each axis of the file is.
        any_size: whether all sizes but the channels' may differ, because the image is resized afterwards.
    """
    # The batch stays where it is; axis 1 of the original holds the channels.
    file = [-1 if any_size and axis != 1 else size for axis, size in zip(axes[1:], spec.shape[1:], strict=True)]
    original = [file[place - 1] for place in turned_back(axes)[1:]]
    return _Seen(_fits(shape, file), _fits(shape, original))


def _fits(shape: tuple[int, ...], sizes: list[int]) -> bool:
    return len(shape) == len(sizes) and all(size in (-1, seen) for seen, size in zip(shape, sizes, strict=True))


def _turn(value: Array, axes: tuple[int, ...] | None) -> Array:
    if axes is None:
        return value
    if value.ndim == len(axes) - 1:  # a sample without its batch axis
        axes = tuple(axis - 1 for axis in axes[1:])
    # What does not fit is named further on, where the model's inputs are known.
    return np.transpose(value, axes) if value.ndim == len(axes) else value

"""Changes to one operator, one thing at a time: what would have to be otherwise for a delegate to take it.

Each change keeps the operator what it is and alters one property. Whether the delegate takes the changed form is not decided here
but by the runtime, which also refuses what makes no sense; so a change may be tried where it cannot apply.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from edgekit_convert.delegate import number_changes
from edgekit_convert.delegate.number_changes import listed
from edgekit_convert.delegate.one_op import BINARY, Change, OneOp

#: So many inputs or outputs are tried at most, from the seen number down.
_MOST_COUNTED = 16
#: Likewise versions; no operator has had more.
_MOST_VERSIONS = 16
#: Options that say what an operator computes with; without them it would be another operator or none at all.
_NEEDED = frozenset(
    {"axis", "numSplits", "newShape", "blockSize", "strideH", "strideW", "filterHeight", "filterWidth", "num",
     "valuesCount", "depthMultiplier", "outDataType", "outType", "inDataType", "squeezeDims", "fusedActivationFunction",
     "padding", "epsilon", "seed", "seed2"}
)  # fmt: skip
_ACTIVATIONS = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}
_WEIGHTS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1, "PRELU": 1}
#: Operators whose arguments have a value for each axis.
_PER_AXIS = frozenset({"TRANSPOSE", "SLICE", "STRIDED_SLICE", "PAD", "PADV2", "MIRROR_PAD", "TILE", "BROADCAST_TO"})
_MASKS = ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask")
_REDUCTIONS = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"})


def changes(one: OneOp) -> list[Change]:
    """Every change that may help, the most telling first; ``one`` stays as it is."""
    ways = (
        _versions,
        _constants,
        number_changes.zero_points,
        number_changes.scales,
        _counts,
        _activation,
        _options,
        _axes,
        _broadcast,
        _rank,
        number_changes.types,
    )
    return [change for way in ways for change in _sound(way(one))]


def _sound(found: Iterator[Change]) -> Iterator[Change]:
    """Changes up to the first that cannot be made: an axis or a constant of the operator may be nonsense."""
    try:
        yield from found
    except (IndexError, ValueError, OverflowError, ZeroDivisionError):
        return


def _versions(one: OneOp) -> Iterator[Change]:
    seen = int(one.code.version)

    def ask(other: OneOp, version: int) -> None:
        other.code.version = version

    for version in range(seen - 1, max(0, seen - 1 - _MOST_VERSIONS), -1):
        changed = one.changed(partial(ask, version=version))
        yield Change("version", f"the file asks for version {seen} of the operator", f"with version {version}", changed)


def _constants(one: OneOp) -> Iterator[Change]:
    """Arguments and weights that are computed, as constants."""
    out = one.shape(one.outputs[0]) if one.outputs else []
    for place, raw in enumerate(one.op.inputs):
        index = int(raw)
        if index < 0 or one.is_constant(index):
            continue
        if place == _WEIGHTS.get(one.name):
            values: Any = np.zeros(one.shape(index))
            what = "weights are"
        else:
            values = _argument(one, place, index, out)
            what = "shape is" if one.name in ("RESHAPE", "BROADCAST_TO", "FILL") else f"input {place} is"
        if values is None:
            continue

        def fixed(other: OneOp, index: int = index, values: Any = values) -> None:
            other.set_constant(index, values)
            if other.name == "RESHAPE":
                other.set_shape(other.outputs[0], values)

        yield Change(
            "dynamic", f"its {what} computed while the model runs", "as a constant in the file", one.changed(fixed)
        )


def _argument(one: OneOp, place: int, index: int, out: list[int]) -> Any:
    """A value for a computed argument that makes the output as large as it is; ``None`` for data."""
    if one.dtype(index) not in ("int32", "int64") or one.scales(index):
        return None
    data = one.shape(one.inputs[0])
    arguments: dict[tuple[str, int], Any] = {
        # Of an output that has no fixed size the file holds a wrong one.
        ("RESHAPE", 1): out if math.prod(out) == math.prod(data) else data,
        ("BROADCAST_TO", 1): out,
        ("FILL", 0): out,
        ("SLICE", 1): [0] * len(out),
        ("SLICE", 2): out,
        ("STRIDED_SLICE", 1): [0] * len(data),
        ("STRIDED_SLICE", 2): data,
        ("STRIDED_SLICE", 3): [1] * len(data),
        ("PAD", 1): [[0, 0]] * len(data),
        ("PADV2", 1): [[0, 0]] * len(data),
        ("MIRROR_PAD", 1): [[0, 0]] * len(data),
        ("TRANSPOSE", 1): list(range(len(data))),
        ("TILE", 1): [1] * len(data),
        ("EXPAND_DIMS", 1): 0,
        ("SPLIT", 0): len(out) - 1,
        ("RESIZE_BILINEAR", 1): out[1:3],
        ("RESIZE_NEAREST_NEIGHBOR", 1): out[1:3],
        ("TRANSPOSE_CONV", 0): out,
        ("MEAN", 1): [1],
        ("SUM", 1): [1],
        ("REDUCE_MAX", 1): [1],
        ("REDUCE_MIN", 1): [1],
    }
    values = arguments.get((one.name, place))
    return None if values is None else np.array(values)


def _counts(one: OneOp) -> Iterator[Change]:
    """Fewer inputs of what puts together, fewer outputs of what takes apart."""
    if one.name == "CONCATENATION" and len(one.inputs) > 2:
        number = len(one.inputs)
        axis = int(one.option("axis", 0))

        def fewer(other: OneOp, count: int) -> None:
            kept = other.inputs[:count]
            other.op.inputs = kept
            other.main.inputs = [index for index in other.main.inputs if int(index) in kept]
            shape = other.shape(other.outputs[0])
            shape[axis] = sum(other.shape(index)[axis] for index in kept)
            other.set_shape(other.outputs[0], shape)

        for count in range(min(number - 1, _MOST_COUNTED), 1, -1):
            changed = one.changed(partial(fewer, count=count))
            yield Change("count", f"it has {number} inputs", f"with up to {count}", changed)
    if one.name == "SPLIT" and len(one.outputs) > 2:
        axes = one.values(one.inputs[0])
        if axes is None:
            return
        number, along = len(one.outputs), int(axes.reshape(-1)[0])

        def apart(other: OneOp, count: int) -> None:
            kept = other.outputs[:count]
            other.op.outputs = kept
            other.main.outputs = kept
            other.options.numSplits = count
            shape = other.shape(other.inputs[1])
            shape[along] = other.shape(kept[0])[along] * count
            other.set_shape(other.inputs[1], shape)

        for count in range(min(number - 1, _MOST_COUNTED), 1, -1):
            changed = one.changed(partial(apart, count=count))
            yield Change("count", f"it has {number} outputs", f"with up to {count}", changed)


def _activation(one: OneOp) -> Iterator[Change]:
    fused = int(one.option("fusedActivationFunction", 0))
    if fused:
        yield Change(
            "activation",
            f"it has {_ACTIVATIONS.get(fused, f'activation {fused}')} fused into it",
            "without",
            one.changed(partial(_set_option, field="fusedActivationFunction", value=0)),
        )


def _set_option(other: OneOp, field: str, value: Any) -> None:
    setattr(other.options, field, value)


def _options(one: OneOp) -> Iterator[Change]:
    if one.options is None:
        return
    yield from _windows(one)
    plain = type(one.options)()
    for field, value in sorted(vars(one.options).items()):
        usual = getattr(plain, field, None)
        if field in _NEEDED or isinstance(value, (bytes, str, list, tuple, np.ndarray)) or value == usual:
            continue
        usual = {"alpha": 0.1, "beta": 1.0}.get(field, usual)
        if field.startswith("dilation"):
            usual = 1
        if value == usual or usual is None:
            continue
        changed = one.changed(partial(_set_option, field=field, value=usual))
        yield Change("options", f"its option {_snake(field)} is {_plain(value)}", f"with {_plain(usual)}", changed)


def _windows(one: OneOp) -> Iterator[Change]:
    """Other strides and filters, the output as large as these make it."""
    height, width = one.option("strideH"), one.option("strideW")
    if not height or len(one.shape(one.inputs[0])) != 4 or one.name == "TRANSPOSE_CONV":
        return
    pool = one.option("filterHeight") is not None
    filters = [int(one.options.filterHeight), int(one.options.filterWidth)] if pool else one.shape(one.inputs[1])[1:3]
    strides = [int(height), int(width)]

    def change(other: OneOp, size: list[int], stride: list[int]) -> None:
        other.options.strideH, other.options.strideW = stride
        if pool:
            other.options.filterHeight, other.options.filterWidth = size
        shape = other.shape(other.outputs[0])
        for place in (0, 1):
            whole = other.shape(other.inputs[0])[1 + place]
            reach = size[place] - 1 if int(other.options.padding) == 1 else 0
            shape[1 + place] = max(1, -(-(whole - reach) // stride[place]))
        other.set_shape(other.outputs[0], shape)

    if strides != [1, 1]:
        seen = f"its stride is {strides[0]}x{strides[1]}"
        changed = one.changed(lambda other: change(other, filters, [1, 1]))
        yield Change("options", seen, "with stride 1x1", changed)
    if pool:
        whole = one.shape(one.inputs[0])[1:3]
        for size in (2, 3):
            if [size, size] != filters and min(whole) >= size:
                seen = f"its filter is {filters[0]}x{filters[1]} at stride {strides[0]}x{strides[1]}"
                changed = one.changed(partial(change, size=[size, size], stride=[size, size]))
                yield Change("options", seen, f"with filter and stride {size}x{size}", changed)


def _axes(one: OneOp) -> Iterator[Change]:
    """A reduction over other axes: those of an image, which is what most delegates have."""
    axes = one.values(one.inputs[1]) if one.name in _REDUCTIONS and len(one.inputs) > 1 else None
    data = one.shape(one.inputs[0]) if one.inputs else []
    if axes is None or not data:
        return
    seen = sorted(int(axis) % len(data) for axis in axes.reshape(-1))
    if len(data) == 4 and seen == [1, 2]:
        return

    def image(other: OneOp) -> None:
        kept = bool(other.option("keepDims"))
        other.set_shape(other.inputs[0], [1, 4, 4, data[-1]])
        other.set_constant(other.inputs[1], np.array([1, 2]))
        other.set_shape(other.outputs[0], [1, 1, 1, data[-1]] if kept else [1, data[-1]])

    text = f"it goes over axis {listed(seen)} of {len(data)}"
    yield Change("options", text, "over axes 1 and 2 of 4", one.changed(image))


def _broadcast(one: OneOp) -> Iterator[Change]:
    if not one.outputs or len(one.inputs) < 2:
        return
    out = one.shape(one.outputs[0])
    first, second = (one.shape(index) for index in one.inputs[:2])
    if one.name in BINARY and first != second:
        wanted = [out, out]
    elif one.name == "BATCH_MATMUL" and first[:-2] != second[:-2]:
        wanted = [[*out[:-2], *first[-2:]], [*out[:-2], *second[-2:]]]
    else:
        return

    def change(other: OneOp) -> None:
        for index, shape in zip(other.inputs[:2], wanted, strict=True):
            other.set_shape(index, shape)

    seen = f"it broadcasts {first} with {second}"
    yield Change("broadcast", seen, "with equal shapes", one.changed(change))
    if one.name == "PRELU":
        by_channel = [1] * (len(first) - 2) + first[-1:]
        changed = one.changed(lambda other: other.set_shape(other.inputs[1], by_channel))
        yield Change("broadcast", seen, "with a value for each channel", changed)


def _rank(one: OneOp) -> Iterator[Change]:
    """The leading axes made one, or axes of one place put in front."""
    activations = [index for index in one.used if not one.is_constant(index)]
    seen = max((len(one.shape(index)) for index in activations), default=0)

    def merged(other: OneOp, rank: int) -> None:
        for index in other.used:
            shape = other.shape(index)
            if len(shape) == seen and (other.name in BINARY or not other.is_constant(index)):
                lead = len(shape) - rank + 1
                other.set_shape(index, [math.prod(shape[:lead]), *shape[lead:]])
        for index in other.inputs[1:]:
            axes = other.values(index)
            if axes is not None and other.dtype(index) == "int32" and not other.scales(index):
                other.set_constant(index, np.where(axes < 0, axes, np.maximum(axes - (seen - rank), 0)))

    def longer(other: OneOp, rank: int) -> None:
        for index in activations:
            shape = other.shape(index)
            other.set_shape(index, [1] * (rank - len(shape)) + shape)
        for index in other.inputs[1:]:
            axes = other.values(index)
            if axes is not None and other.dtype(index) == "int32" and not other.scales(index):
                other.set_constant(index, np.where(axes < 0, axes, axes + (rank - seen)))

    def shorter(other: OneOp, rank: int) -> None:
        """The last axes alone, of operators whose arguments have a value for each axis."""
        for index in activations:
            other.set_shape(index, other.shape(index)[-rank:])
        for index in other.inputs[1:]:
            values = other.values(index)
            if values is None or other.dtype(index) not in ("int32", "int64") or len(values) != seen:
                continue
            if other.name == "TRANSPOSE":
                kept = np.array([axis - (seen - rank) for axis in values.tolist() if axis >= seen - rank])
                shape = other.shape(other.inputs[0])
                other.set_constant(index, kept)
                other.set_shape(other.outputs[0], [shape[axis] for axis in kept])
            else:
                other.set_constant(index, values[-rank:])
        for mask in _MASKS:
            if other.option(mask):
                setattr(other.options, mask, other.option(mask) >> (seen - rank))

    if one.name in ("RESHAPE", "SPLIT") or one.option("axis") is not None:  # axes are what they are about
        return
    shrink = shorter if one.name in _PER_AXIS else merged
    for rank in range(seen - 1, 2, -1):
        yield Change("rank", f"it has {seen} axes", f"with {rank}", one.changed(partial(shrink, rank=rank)))
    for rank in range(seen + 1, 5 if one.name not in _PER_AXIS else 0):
        yield Change("rank", f"it has {seen} axes", f"with {rank}", one.changed(partial(longer, rank=rank)))


def _plain(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return str(Fraction(float(value))) if float(value).is_integer() else f"{float(value):g}"
    return str(int(value)) if not isinstance(value, (bool, np.bool_)) else str(bool(value)).lower()


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)

"""How an operator computes the same with its tensors in another order: which constants and options change, and what cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.graph import Op
from edgekit.tensors import Array
from edgekit_convert.rewrite.delegate.draft import Draft
from edgekit_convert.rewrite.layout.kinds import BROADCASTING, REDUCING, ROWS, UNARY, is_value, named_axes
from edgekit_convert.rewrite.layout.orders import Order, flat_places, identity, permuted, through_reshape, without
from edgekit_convert.rewrite.layout.rows import Layers, layers_before, layers_behind

_PADDING = frozenset({"MIRROR_PAD", "PAD", "PADV2"})


@dataclass(frozen=True)
class Carried:
    """An operator with its tensors in another order.

    Attributes:
        orders: the order of each tensor that it reads or makes, by tensor index; the others stay as they are.
        constants: new values of constants, by their place among the inputs.
        options: new values of fields of its options.
        others: further operators whose constants change with it, each with new values by place.
    """

    orders: Mapping[int, Order]
    constants: Mapping[int, Array] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[tuple[Op, Mapping[int, Array]], ...] = ()


def carried(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    """What becomes of an operator when one of its tensors has another order.

    Args:
        draft: the graph.
        op: the operator.
        index: a tensor that it reads or makes.
        order: the tensor's new order.

    Returns:
        ``None`` where the operator has to have the tensor as it is.
    """
    make = _CARRIERS.get(op.name)
    found = make(draft, op, index, order) if make is not None and _plain(draft, op) else None
    if found is None:
        return None
    orders = {place: item for place, item in found.orders.items() if item != identity(len(item))}
    if any(len(item) != len(draft.shape(place)) or not is_value(draft, place) for place, item in orders.items()):
        return None
    return Carried(orders, found.constants, found.options, found.others)


def _plain(draft: Draft, op: Op) -> bool:
    tensors = [draft.tensor(index) for index in (*op.inputs, *op.outputs) if index >= 0]
    return not any(-1 in tensor.shape_signature or tensor.is_variable for tensor in tensors)


def _values(draft: Draft, op: Op) -> list[int]:
    """The tensors that are not constants, of those that an operator reads and makes."""
    return [index for index in (*op.inputs, *op.outputs) if index >= 0 and draft.tensor(index).data is None]


def _all(draft: Draft, op: Op, order: Order) -> dict[int, Order]:
    return dict.fromkeys(_values(draft, op), order)


def _moved(axes: Iterable[int], order: Order) -> list[int]:
    return [order.index(axis) for axis in axes]


def _unary(draft: Draft, op: Op, index: int, order: Order) -> Carried:
    return Carried(_all(draft, op, order))


def _broadcast(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    constants = {}
    for place, read in enumerate(op.inputs):
        if draft.tensor(read).data is None:
            continue
        values = draft.values(op, place)
        if values is None:
            return None
        if values.size > 1:
            constants[place] = _turned(values, order)
    return Carried(_all(draft, op, order), constants)


def _turned(values: Array, order: Order) -> Array:
    """A constant that is broadcast, in another order; ones in front are there only where they have to be."""
    whole = np.transpose(values.reshape((1,) * (len(order) - values.ndim) + values.shape), order)
    while whole.ndim > values.ndim and whole.shape[0] == 1:
        whole = whole[0]
    return np.ascontiguousarray(whole)


def _rows(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    return Carried(_all(draft, op, order)) if order[-1] == len(order) - 1 else None


def _concatenation(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    constants = {}
    for place, read in enumerate(op.inputs):
        if draft.tensor(read).data is not None:
            values = draft.values(op, place)
            if values is None:
                return None
            constants[place] = np.ascontiguousarray(np.transpose(values, order))
    axis = int(draft.option(op, "axis")) % len(order)
    return Carried(_all(draft, op, order), constants, {"axis": order.index(axis)})


def _reduction(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    source, result = op.inputs[0], op.outputs[0]
    axes = named_axes(draft, op, 1, len(draft.shape(source)))
    keeps = bool(draft.option(op, "keepDims", False))
    if axes is None or (index == result and not keeps):
        return None
    constants = {1: np.array(sorted(_moved(axes, order)), np.int32)}
    return Carried({source: order, result: order if keeps else without(order, axes)}, constants)


def _extreme(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    """ARG_MAX and ARG_MIN: the first of equal values is the same one as long as the axis runs the same way."""
    axes = named_axes(draft, op, 1, len(draft.shape(op.inputs[0])))
    if axes is None or index != op.inputs[0]:
        return None
    return Carried(
        {index: order, op.outputs[0]: without(order, axes)}, {1: _like(draft, op, 1, [order.index(axes[0])])}
    )


def _like(draft: Draft, op: Op, place: int, values: Sequence[int]) -> Array:
    """Values as a constant of an operator has them: its shape and type."""
    old = draft.values(op, place)
    assert old is not None  # the caller has looked
    return np.array(values, old.dtype).reshape(old.shape)


def _pad(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    frame = draft.values(op, 1)
    if frame is None or frame.shape != (len(order), 2):
        return None
    return Carried(_all(draft, op, order), {1: np.ascontiguousarray(frame[list(order)])})


def _slice(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    begin, size = draft.values(op, 1), draft.values(op, 2)
    if begin is None or size is None:
        return None
    return Carried(_all(draft, op, order), {1: begin[list(order)], 2: size[list(order)]})


def _strided_slice(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    source, result, rank = op.inputs[0], op.outputs[0], len(draft.shape(op.inputs[0]))
    numbers = [draft.values(op, place) for place in (1, 2, 3)]
    fancy = any(draft.option(op, name) for name in ("ellipsisMask", "newAxisMask", "offset"))
    shrinks = int(draft.option(op, "shrinkAxisMask"))
    if fancy or len(order) != rank or (index == result and shrinks):
        return None
    masks = {name: int(draft.option(op, name)) for name in ("beginMask", "endMask", "shrinkAxisMask")}
    constants = {}
    for place, values, rest in zip((1, 2, 3), numbers, (0, 0, 1), strict=True):
        if values is None or values.ndim != 1:
            return None
        named = len(values)
        constants[place] = np.append(values, np.full(rank - named, rest, values.dtype))[list(order)]
    for axis in range(named, rank):  # what is not named is taken whole
        masks["beginMask"] |= 1 << axis
        masks["endMask"] |= 1 << axis
    options = {
        name: sum(1 << place for place, axis in enumerate(order) if mask >> axis & 1) for name, mask in masks.items()
    }
    dropped = [axis for axis in range(rank) if shrinks >> axis & 1]
    return Carried({source: order, result: without(order, dropped)}, constants, options)


def _split(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    place = 0 if op.name == "SPLIT" else 2
    axes = named_axes(draft, op, place, len(order))
    if axes is None:
        return None
    return Carried(_all(draft, op, order), {place: _like(draft, op, place, _moved(axes, order))})


def _gather(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    places = draft.values(op, 1)
    source, result = op.inputs[0], op.outputs[0]
    if places is None or places.ndim > 1 or int(draft.option(op, "batchDims")) or draft.tensor(source).data is not None:
        return None
    axis = int(draft.option(op, "axis")) % len(draft.shape(source))
    if places.ndim == 1:
        return Carried({source: order, result: order}, {}, {"axis": order.index(axis)})
    if index == result:
        return None
    return Carried({source: order, result: without(order, [axis])}, {}, {"axis": order.index(axis)})


def _along_axes(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    """CUMSUM and REVERSE_V2: a constant names axes."""
    axes = named_axes(draft, op, 1, len(order))
    return None if axes is None else Carried(_all(draft, op, order), {1: _like(draft, op, 1, _moved(axes, order))})


def _for_each_axis(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    """TILE and BROADCAST_TO: a constant has a number for each axis."""
    numbers = draft.values(op, 1)
    if numbers is None or len(numbers) != len(order) or len(draft.shape(op.inputs[0])) != len(order):
        return None
    return Carried(_all(draft, op, order), {1: numbers[list(order)]})


def _dense(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    source, result = op.inputs[0], op.outputs[0]
    weights = draft.values(op, 1)
    if weights is None or any(draft.tensor(i).data is None for i in op.inputs[2:] if i >= 0):
        return None
    if draft.option(op, "keepNumDims", False) and len(draft.shape(source)) == len(draft.shape(result)):
        return _rows(draft, op, index, order)
    columns = flat_places(draft.shape(source), order, weights.shape[1]) if index == source else None
    return None if columns is None else Carried({source: order}, {1: np.ascontiguousarray(weights[:, columns])})


def _reshape(draft: Draft, op: Op, index: int, order: Order) -> Carried | None:
    source, result = op.inputs[0], op.outputs[0]
    shapes = draft.shape(source), draft.shape(result)
    if len(op.inputs) > 1 and draft.values(op, 1) is None:
        return None
    ours, theirs = shapes if index == source else shapes[::-1]
    other = through_reshape(ours, order, theirs)
    layers: Layers | None = []
    if other is None:
        layers = layers_behind(draft, op, order) if index == source else layers_before(draft, op, order)
        orders, after = {index: order}, order if index == result else identity(len(shapes[1]))
    else:
        orders = {index: order, (result if index == source else source): other}
        after = orders[result]
    if layers is None:
        return None
    shape = np.array(permuted(shapes[1], after), np.int32)
    options = {"newShape": shape.tolist()} if draft.options(op) is not None else {}
    return Carried(orders, {1: shape} if len(op.inputs) > 1 else {}, options, tuple(layers))


_CARRIERS: dict[str, Callable[[Draft, Op, int, Order], Carried | None]] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BROADCASTING, _broadcast),
    **dict.fromkeys(ROWS, _rows),
    **dict.fromkeys(REDUCING, _reduction),
    **dict.fromkeys(_PADDING, _pad),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), _extreme),
    **dict.fromkeys(("CUMSUM", "REVERSE_V2"), _along_axes),
    **dict.fromkeys(("TILE", "BROADCAST_TO"), _for_each_axis),
    **dict.fromkeys(("SPLIT", "SPLIT_V"), _split),
    "CONCATENATION": _concatenation,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "GATHER": _gather,
    "FULLY_CONNECTED": _dense,
    "RESHAPE": _reshape,
}

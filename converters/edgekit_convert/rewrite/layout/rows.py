"""An order that ends in a row: an image that is flattened for a dense layer, or made of what one gives. It goes into the weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.graph import Op
from edgekit.tensors import Array
from edgekit_convert.rewrite.delegate.draft import Draft
from edgekit_convert.rewrite.layout.kinds import BROADCASTING, REDUCING, ROWS, UNARY, is_value, named_axes
from edgekit_convert.rewrite.layout.orders import Order, flat_places

#: Operators whose constants change, each with new values by their place among its inputs.
Layers = list[tuple[Op, Mapping[int, Array]]]


def layers_behind(draft: Draft, op: Op, order: Order) -> Layers | None:
    """The layers behind a flattened tensor, with their weights for the new order; ``None`` where something else reads it."""
    result = op.outputs[0]
    count = draft.shape(result)[-1] if draft.shape(result) else 0
    places = flat_places(draft.shape(op.inputs[0]), order, count)
    if places is None:
        return None
    flat, readers = {result}, dict[int, Op]()
    waiting = [result]
    while waiting:
        index = waiting.pop()
        found = draft.wiring.read_by.get(index, [])
        if not found or index in draft.wiring.main.outputs or not is_value(draft, index):
            return None
        for reader in found:
            readers[reader.index] = reader
            if _ends_row(draft, reader, index, count):
                continue
            if reader.name not in UNARY | BROADCASTING | ROWS | {"RESHAPE"} or draft.shape(reader.outputs[0])[-1:] != (
                count,
            ):
                return None
            waiting += [i for i in reader.outputs if i not in flat]
            flat.update(reader.outputs)
    layers: Layers = []
    for reader in readers.values():
        changed = _in_row(draft, reader, flat, places)
        if changed is None:
            return None
        layers += [(reader, changed)] if changed else []
    return layers


def _ends_row(draft: Draft, op: Op, index: int, count: int) -> bool:
    """Whether an operator makes of a row something that has no order of it any more."""
    if op.name == "FULLY_CONNECTED":
        weights = draft.values(op, 1)
        return weights is not None and op.inputs[0] == index and weights.shape[1] == count
    rank = len(draft.shape(index))
    return op.name in REDUCING and rank - 1 in (named_axes(draft, op, 1, rank) or [])


def _in_row(draft: Draft, op: Op, flat: set[int], places: Array) -> dict[int, Array] | None:
    """The new constants of an operator that reads rows; ``None`` where it reads something in another order with them."""
    if op.name == "FULLY_CONNECTED":
        weights = draft.values(op, 1)
        assert weights is not None  # _ends_row has looked
        return {1: np.ascontiguousarray(weights[:, places])}
    if op.name not in BROADCASTING:
        return {}
    found = {}
    for place, read in enumerate(op.inputs):
        if read in flat or draft.shape(read)[-1:] in ((), (1,)):
            continue
        constant = draft.values(op, place)
        if constant is None or constant.shape[-1] != len(places):
            return None
        found[place] = np.ascontiguousarray(constant[..., places])
    return found


def layers_before(draft: Draft, op: Op, order: Order) -> Layers | None:
    """The layer before a tensor that is reshaped, with its weights for the new order; ``None`` where there is none."""
    index = op.inputs[0]
    count = draft.shape(index)[-1] if draft.shape(index) else 0
    # The layer's values are in the old order, so its rows are taken as the new one wants them.
    places = flat_places(draft.shape(op.outputs[0]), order, count)
    layers: Layers = []
    while places is not None and draft.inner(index):
        maker = draft.wiring.made_by.get(index)
        if maker is None:
            return None
        weights = draft.values(maker, 1) if maker.name == "FULLY_CONNECTED" else None
        if weights is not None and weights.shape[0] == count:
            biased = len(maker.inputs) > 2 and maker.inputs[2] >= 0
            bias = draft.values(maker, 2) if biased else None
            if biased and bias is None:
                return None
            rows = {1: np.ascontiguousarray(weights[places])} | ({} if bias is None else {2: bias[places]})
            return [*layers, (maker, rows)]
        before = [i for i in maker.inputs if i >= 0 and draft.tensor(i).data is None]
        if maker.name not in UNARY | BROADCASTING or [draft.shape(i) for i in before] != [draft.shape(index)]:
            return None
        changed = _in_row(draft, maker, set(before), places)
        if changed is None:
            return None
        layers += [(maker, changed)] if changed else []
        index = before[0]
    return None

"""Which operators are to compute with their axes in another order, so that the fewest values are moved by TRANSPOSEs.

From a TRANSPOSE one of its two tensors is given the other's order, and so is everything that hangs together with it by operators that
can work in either order. Of these the ones are chosen for which the TRANSPOSEs that are left, and those that are needed where the two
orders meet, move the fewest values: a smallest cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match
from edgekit_convert.rewrite.layout.carrying import Carried, carried
from edgekit_convert.rewrite.layout.cut import NEVER, SINK, SOURCE, Network
from edgekit_convert.rewrite.layout.orders import RESHAPE, Order, cost, identity, inverse, order_of, permuted, then


@dataclass
class Region:
    """What hangs together with a tensor in another order.

    Attributes:
        orders: the new order of each tensor.
        ops: each operator with what becomes of it.
        beside: operators whose constants change with one of those, by index.
    """

    orders: dict[int, Order] = field(default_factory=dict)
    ops: dict[int, tuple[Op, Carried]] = field(default_factory=dict)
    beside: set[int] = field(default_factory=set)

    def has(self, op: Op, index: int) -> bool:
        """Whether an operator can have a tensor in its new order."""
        return op.index in self.ops and index in self.ops[op.index][1].orders


def find(draft: Draft) -> list[Match]:
    """Every region that is cheaper in another order."""
    return list(_found(draft))


def _found(draft: Draft) -> Iterator[Match]:
    seen: list[dict[int, Order]] = []
    for op in draft.ops:
        order = order_of(draft, op)
        if order is None:
            continue
        for index, wanted in ((op.outputs[0], inverse(order)), (op.inputs[0], order)):
            if draft.tensor(index).data is not None or any(orders.get(index) == wanted for orders in seen):
                continue
            region = _grown(draft, index, wanted)
            seen.append(region.orders)
            chosen = _chosen(draft, region)
            if chosen:
                ops = _concerned(draft, region, chosen)
                yield Match(ops, partial(_change, region=region, chosen=chosen))


def _grown(draft: Draft, index: int, order: Order) -> Region:
    """All that can follow a tensor into another order; where two tensors would want different ones, the first has its way."""
    region = Region({index: order})
    waiting = deque([index])
    while waiting:
        here = waiting.popleft()
        maker = draft.wiring.made_by.get(here)
        for op in ([] if maker is None else [maker]) + draft.wiring.read_by.get(here, []):
            if op.name == "TRANSPOSE" or op.index in region.ops:
                continue
            item = carried(draft, op, here, region.orders[here])
            if item is None or any(region.orders.get(i, wanted) != wanted for i, wanted in item.orders.items()):
                continue
            beside = {other.index for other, _ in item.others}
            if op.index in region.beside or beside & (region.beside | set(region.ops)):
                continue
            region.ops[op.index] = (op, item)
            region.beside |= beside
            waiting += [i for i in item.orders if i not in region.orders]
            region.orders |= item.orders
    return region


def _chosen(draft: Draft, region: Region) -> frozenset[int]:
    """The operators that get the new order; none where that saves nothing."""
    network = Network()
    for index, order in region.orders.items():
        _price(draft, region, network, index, order)
    for op, item in region.ops.values():
        if op.name == "RESHAPE" and _does_nothing(draft, op, item):
            network.add(op.index, SINK, RESHAPE)
    base = network.base
    total, side = network.cut()
    return frozenset(node for node in side if isinstance(node, int)) if total < base else frozenset()


def _does_nothing(draft: Draft, op: Op, item: Carried) -> bool:
    """Whether a RESHAPE has nothing to do any more."""
    before, after = (
        permuted(draft.shape(i), item.orders.get(i, identity(len(draft.shape(i)))))
        for i in (op.inputs[0], op.outputs[0])
    )
    return before == after


def _price(draft: Draft, region: Region, network: Network, index: int, order: Order) -> None:
    """What the TRANSPOSEs around a tensor cost, by who has it in which order; the sink's side is the new one."""
    shape = draft.shape(index)
    turning = cost(order, shape)
    maker = draft.wiring.made_by.get(index)
    readers = draft.wiring.read_by.get(index, [])
    free = [op.index for op in readers if region.has(op, index)]
    turns = [(op, after) for op in readers if op.name == "TRANSPOSE" and (after := order_of(draft, op)) is not None]
    others = len(readers) - len(turns) - len(free)
    fixed = others > 0 or index in draft.wiring.main.outputs
    if maker is not None and region.has(maker, index):
        _either(network, index, maker.index, free, turning)
        if fixed:
            network.add(SOURCE, maker.index, turning)
        for _, after in turns:
            network.add(maker.index, SINK, cost(after, shape))
            network.add(SOURCE, maker.index, cost(then(inverse(order), after), permuted(shape, order)))
        return
    made = order_of(draft, maker) if maker is not None and maker.name == "TRANSPOSE" else None
    if maker is None or made is None:
        _any(network, (index, "new"), free, turning)
        return
    if not fixed and not turns:  # the TRANSPOSE goes where nobody wants what it makes
        for reader in free:
            network.add(reader, (index, "old"), NEVER)
        network.add((index, "old"), SINK, cost(made, draft.shape(maker.inputs[0])) if free else 0)
    _any(network, (index, "new"), free, cost(then(made, order), draft.shape(maker.inputs[0])))


def _either(network: Network, index: int, maker: int, readers: list[int], price: int) -> None:
    """A price for a maker on one side with any of its readers on the other, however many there are."""
    network.add(maker, (index, "new"), price)
    network.add((index, "old"), maker, price)
    for reader in readers:
        network.add((index, "new"), reader, NEVER)
        network.add(reader, (index, "old"), NEVER)


def _any(network: Network, node: tuple[int, str], readers: list[int], price: int) -> None:
    """A price for any reader on the sink's side."""
    network.add(SOURCE, node, price)
    for reader in readers:
        network.add(node, reader, NEVER)


def _concerned(draft: Draft, region: Region, chosen: frozenset[int]) -> tuple[Op, ...]:
    """The operators that change, and the TRANSPOSEs next to them, which the next search may change."""
    found: dict[int, Op] = {}
    for number in chosen:
        op, item = region.ops[number]
        found[number] = op
        found |= {other.index: other for other, _ in item.others}
        for index in item.orders:
            maker = draft.wiring.made_by.get(index)
            around = [*draft.wiring.read_by.get(index, []), *([] if maker is None else [maker])]
            found |= {near.index: near for near in around if near.name == "TRANSPOSE"}
    return tuple(found[number] for number in sorted(found))


def _change(draft: Draft, region: Region, chosen: frozenset[int]) -> None:
    new: dict[int, int] = {}
    for index, order in region.orders.items():
        maker = draft.wiring.made_by.get(index)
        made = maker is not None and maker.index in chosen and region.has(maker, index)
        readers = draft.wiring.read_by.get(index, [])
        wanted = [op for op in readers if op.index in chosen and region.has(op, index)]
        if not made and not wanted:
            continue
        new[index] = draft.activation(index, "moved", permuted(draft.shape(index), order))
        if not made:
            _transpose(draft, index, new[index], order)
        elif len(wanted) < len(readers) or index in draft.wiring.main.outputs:
            _transpose(draft, new[index], index, inverse(order))
    for number in sorted(chosen):
        op, item = region.ops[number]
        _respell(draft, op, item, {index: new[index] for index in item.orders})


def _transpose(draft: Draft, source: int, result: int, order: Order) -> None:
    draft.add("TRANSPOSE", [source, draft.constant(result, "order", np.array(order, np.int32))], result)


def _respell(draft: Draft, op: Op, item: Carried, new: Mapping[int, int]) -> None:
    inputs = [new.get(index, index) for index in draft.inputs(op)]
    for place, values in item.constants.items():
        inputs[place] = draft.constant(op.outputs[0], f"moved_{place}", values)
    draft.rewire(op, inputs=inputs, outputs=[new.get(index, index) for index in op.outputs])
    if item.options:
        draft.set_options(op, **item.options)
    for other, constants in item.others:
        changed = draft.inputs(other)
        for place, values in constants.items():
            changed[place] = draft.constant(other.outputs[0], f"moved_{place}", values)
        draft.rewire(other, inputs=changed)

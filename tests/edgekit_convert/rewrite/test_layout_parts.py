"""Orders through a RESHAPE, and the cheapest cut, against numpy and against trying everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from delegate_patterns import binary, transpose
from small_nets import Net, main_of, outputs, samples

from edgekit_convert.rewrite.delegate.draft import applied
from edgekit_convert.rewrite.layout import chains
from edgekit_convert.rewrite.layout.cut import NEVER, SINK, SOURCE, Network
from edgekit_convert.rewrite.layout.orders import (
    flat_places,
    identity,
    in_place,
    inverse,
    permuted,
    then,
    through_reshape,
    without,
)

SHAPES = [
    ((1, 6, 4, 5), (1, 6, 20)),
    ((1, 6, 4, 5), (1, 2, 3, 4, 5)),
    ((1, 6, 4, 5), (6, 4, 5)),
    ((1, 6, 4, 5), (1, 6, 1, 4, 1, 5)),
    ((2, 6, 1, 5), (2, 6, 5)),
    ((1, 6, 1, 1), (1, 6)),
    ((4, 6), (2, 2, 3, 2)),
    ((2, 3, 4), (4, 3, 2)),
]


@pytest.mark.parametrize(("shape", "other"), [*SHAPES, *((b, a) for a, b in SHAPES)])
def test_an_order_through_a_reshape(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Turned and reshaped is the same as reshaped and turned; where no order is given, none does that."""
    values = np.arange(np.prod(shape)).reshape(shape)
    for order in itertools.permutations(range(len(shape))):
        turned = np.transpose(values, order).reshape(-1)
        found = through_reshape(shape, order, other)
        if found is not None:
            np.testing.assert_array_equal(turned, np.transpose(values.reshape(other), found).reshape(-1))
            continue
        others = itertools.permutations(range(len(other)))
        assert not any(np.array_equal(turned, np.transpose(values.reshape(other), item).reshape(-1)) for item in others)


def test_which_of_several_orders() -> None:
    """Axes of size 1 go where the channels-last form of the same tensor has them."""
    assert (0, 2, 3, 1) == through_reshape((1, 6, 5), (0, 2, 1), (1, 6, 1, 5))
    assert (0, 2, 3, 1) == through_reshape((1, 6, 5), (0, 2, 1), (1, 6, 5, 1))
    assert (0, 2, 1) == through_reshape((1, 6, 4, 5), (0, 2, 3, 1), (1, 6, 20))
    assert (0, 3, 4, 1, 2) == through_reshape((1, 6, 4, 5), (0, 2, 3, 1), (1, 2, 3, 4, 5))


def test_orders() -> None:
    """Each is what numpy.transpose makes of it."""
    x = np.arange(120).reshape(2, 3, 4, 5)
    for order in itertools.permutations(range(4)):
        turned = np.transpose(x, order)
        assert turned.shape == permuted(x.shape, order)
        np.testing.assert_array_equal(x, np.transpose(turned, inverse(order)))
        second = (0, 2, 3, 1)
        np.testing.assert_array_equal(np.transpose(turned, second), np.transpose(x, then(order, second)))
        np.testing.assert_array_equal(turned.sum(order.index(1)), np.transpose(x.sum(1), without(order, [1])))
    assert in_place((0, 2, 1, 3), (1, 3, 1, 5))
    assert not in_place((0, 3, 2, 1), (1, 3, 1, 5))
    assert (0, 1, 2) == identity(3)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_places_in_a_flattened_tensor(order: tuple[int, ...]) -> None:
    """The old place of each value of a row; no answer where values change rows."""
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    found = flat_places(x.shape, order, 60)
    assert (order[0] == 0) == (found is not None)
    if found is not None:
        np.testing.assert_array_equal(np.transpose(x, order).reshape(2, 60), x.reshape(2, 60)[:, found])


@pytest.mark.parametrize("seed", range(60))
def test_the_cheapest_cut(seed: int) -> None:
    """The price is the lowest of all ways to divide the nodes, and the side that is given has it."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 8))
    nodes = [SOURCE, SINK, *range(count)]
    edges = [
        (a, b, NEVER if random.random() < 0.1 and SOURCE not in (a, b) and SINK not in (a, b) else int(price))
        for a, b in itertools.permutations(nodes, 2)
        if b != SOURCE and a != SINK and random.random() < 0.5 and (price := random.integers(0, 9)) >= 0
    ]
    network = Network()
    for edge in edges:
        network.add(*edge)

    def paid(side: set[object]) -> int:
        return sum(price for a, b, price in edges if a not in side and b in side)

    sides = [
        {SINK, *chosen} for size in range(count + 1) for chosen in itertools.combinations(range(count), size)
    ]  # fmt: skip
    assert paid({SINK}) == network.base
    total, side = network.cut()
    assert min(paid(item) for item in sides) == total
    assert total == paid({SINK, *side})


@pytest.mark.parametrize("seed", range(40))
def test_a_chain_as_one(seed: int) -> None:
    """TRANSPOSE, RESHAPE, TRANSPOSE of random sizes: at most one TRANSPOSE is left where there is a way, and the values are the same."""
    random = np.random.default_rng(seed)
    net = Net()
    shape = tuple(int(size) for size in random.choice([1, 2, 3, 4, 6], 4))
    orders = [random.permutation(4).tolist() for _ in range(2)]
    y = transpose(net, binary(net, "ADD", net.input(*shape), net.constant(1.0)), *orders[0])
    other = [*net.shape(y)]
    if random.random() < 0.5:
        other = [other[0] * other[1], 1, other[2], other[3]]
    elif other[2] % 2 == 0:
        other = [other[0], other[1] * 2, other[2] // 2, other[3]]
    y = transpose(net, net.reshape(y, *other), *orders[1])
    content = net.finish(binary(net, "MUL", y, net.constant(2.0)))
    result, count = applied(content, chains.find)
    assert count <= 1
    names = [op.name for op in main_of(result).ops]
    assert names.count("TRANSPOSE") <= 2 - count
    inputs = samples(content, 2)
    np.testing.assert_array_equal(outputs(content, inputs), outputs(result, inputs))

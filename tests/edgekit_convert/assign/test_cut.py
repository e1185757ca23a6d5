"""``edgekit_convert.assign.cut``: the cheapest assignment of two types."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from edgekit_convert.assign.cut import FIRST, SECOND, Link, cheapest


def cost(row: tuple[bool, ...], first: list[float], second: list[float], links: list[Link]) -> float:
    """What an assignment costs, counted directly."""
    total = sum(b if chosen else a for chosen, a, b in zip(row, first, second, strict=True))

    def is_second(end: int) -> bool:
        return end == SECOND if end < 0 else row[end]

    for link in links:
        read = {is_second(reader) for reader in link.readers}
        if not is_second(link.maker) and True in read:
            total += link.forth_ns
        if is_second(link.maker) and False in read:
            total += link.back_ns
    return total


def network(seed: int) -> tuple[list[float], list[float], list[Link]]:
    """A random network of a few operators with several readers and fixed ends; times are whole, so that sums are exact."""
    draw = random.Random(seed)
    count = draw.randint(1, 8)
    first = [float(draw.randint(0, 20)) if draw.random() > 0.1 else math.inf for _ in range(count)]
    second = [float(draw.randint(0, 20)) if a == math.inf or draw.random() > 0.1 else math.inf for a in first]
    links = []
    for maker in range(-2, count):
        readers = tuple(n for n in range(max(0, maker + 1), count) if draw.random() < 0.4)
        ends = tuple(end for end in (FIRST, SECOND) if maker >= 0 and draw.random() < 0.1)
        links.append(Link(maker, readers + ends, float(draw.randint(0, 9)), float(draw.randint(0, 9))))
    return first, second, links


@pytest.mark.parametrize("seed", range(60))
def test_no_assignment_is_cheaper(seed: int) -> None:
    """Of all assignments of a small network none costs less."""
    first, second, links = network(seed)
    found = tuple(cheapest(first, second, links))
    every = itertools.product((False, True), repeat=len(first))
    assert min(cost(row, first, second, links) for row in every) == cost(found, first, second, links)


def test_of_equal_assignments_the_first_type_is_taken() -> None:
    """Where nothing is gained, nothing changes."""
    links = [Link(FIRST, (0,), 0.0, 0.0), Link(0, (1,), 0.0, 0.0)]
    assert [False, False] == cheapest([5.0, 5.0], [5.0, 5.0], links)


def test_a_change_is_paid_once_for_all_readers() -> None:
    """Three readers that gain a little each are worth one change together."""
    links = [Link(FIRST, (0, 1, 2), 10.0, 10.0)]
    assert [True, True, True] == cheapest([9.0] * 3, [5.0] * 3, links)
    assert [False] == cheapest([9.0], [5.0], [Link(FIRST, (0,), 10.0, 10.0)])


def test_a_deep_network_is_no_trouble() -> None:
    """Thousands of operators in a row, every other one much faster in the second type."""
    count = 3000
    links = [Link(number - 1 if number else FIRST, (number,), 1.0, 1.0) for number in range(count)]
    found = cheapest(
        [9.0 if n % 2 else 1.0 for n in range(count)], [1.0 if n % 2 else 9.0 for n in range(count)], links
    )
    assert [bool(n % 2) for n in range(count)] == found

"""``edgekit.runtime.workers``: which worker an input goes to."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edgekit.runtime.workers import Hand, Item, choose

NOW = 10**12


@dataclass(frozen=True)
class Worker:
    """What a worker is doing: its service time, and for how long it has been busy (``None``: it is free)."""

    service_ns: int
    busy_ns: int | None = None
    out: bool = False


def hands_of(workers: list[Worker]) -> list[Hand]:
    """Workers in that state, which have run a moment ago."""
    hands = []
    for number, worker in enumerate(workers):
        hand = Hand(f"worker {number}", None, None)  # type: ignore[arg-type]  # nothing is run
        hand.service_ns, hand.ended_ns = worker.service_ns, NOW - 1
        if worker.busy_ns is not None:
            hand.item, hand.began_ns = Item(None, 0), NOW - worker.busy_ns
        if worker.out:
            hand.error = "out"
        hands.append(hand)
    return hands


def chosen(workers: list[Worker], waiting: int) -> tuple[int, int] | None:
    """The position of the item and the number of the worker."""
    hands = hands_of(workers)
    found = choose(hands, [Item(None, 0) for _ in range(waiting)], NOW)
    return None if found is None else (found[0], hands.index(found[1]))


@pytest.mark.parametrize(
    ("workers", "waiting", "expected"),
    [
        ([Worker(20), Worker(10)], 1, (0, 1)),
        ([Worker(10), Worker(10)], 1, (0, 0)),
        ([Worker(10, busy_ns=5), Worker(10)], 1, (0, 1)),
        ([Worker(10, busy_ns=5), Worker(100)], 1, None),
        ([Worker(10, busy_ns=5), Worker(100)], 4, None),
        ([Worker(10, busy_ns=5), Worker(100)], 5, (4, 1)),
        ([Worker(10, busy_ns=10), Worker(19)], 1, (0, 1)),
        ([Worker(0, busy_ns=1), Worker(19)], 1, (0, 1)),
        ([Worker(10, busy_ns=1010), Worker(100)], 1, (0, 1)),
        ([Worker(10, busy_ns=5), Worker(0)], 1, (0, 1)),
        ([Worker(10, busy_ns=5), Worker(10, busy_ns=5)], 3, None),
        ([Worker(10, out=True), Worker(100)], 1, (0, 1)),
        ([Worker(10, out=True), Worker(100, busy_ns=1)], 1, None),
        ([Worker(10), Worker(100)], 0, None),
        ([Worker(10, busy_ns=5), Worker(10**6)], 1000, None),
    ],
    ids=[
        "the faster", "the first of equals", "the free one", "waiting is faster", "so it is for four", "not for the fifth",
        "waiting would not halve it", "nobody waits for what was never measured",
        "not behind one that hangs", "one that was never tried", "all are busy", "not one that is out", "the other is busy",
        "nothing waits", "too slow for any",
    ],
)  # fmt: skip
def test_the_least_expected_completion(workers: list[Worker], waiting: int, expected: tuple[int, int] | None) -> None:
    """An item goes to the worker that would finish it first with what that has to do before."""
    assert expected == chosen(workers, waiting)


def test_an_item_goes_where_it_has_not_failed() -> None:
    """The worker that failed on it comes last."""
    hands = hands_of([Worker(10), Worker(1000)])
    item = Item(None, 0)
    item.faulted = (hands[0],)
    assert (0, hands[1]) == choose(hands, [item], NOW)
    item.faulted = (hands[0], hands[1])
    assert (0, hands[0]) == choose(hands, [item], NOW)


def test_a_service_time_is_forgotten() -> None:
    """A worker that has not run for a minute is tried again, however slow it was."""
    hands = hands_of([Worker(10), Worker(1000)])
    hands[1].ended_ns = NOW - 61 * 10**9
    assert (0, hands[1]) == choose(hands, [Item(None, 0)], NOW)
    hands[1].note(7, NOW)
    assert 7 == hands[1].service_ns


def test_the_service_time_follows() -> None:
    """Slow first runs are forgiven; later it moves an eighth of the way."""
    hand = hands_of([Worker(0)])[0]
    for elapsed in (5000, 900, 800, 1200):
        hand.note(elapsed, NOW)
    assert 800 == hand.service_ns
    hand.note(1600, NOW)
    assert 900 == hand.service_ns

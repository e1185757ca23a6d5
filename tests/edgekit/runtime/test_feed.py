"""``edgekit.runtime.feed``: what waits, what is dropped, and that the counts add up."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from edgekit.runtime.feed import Feed, StreamCounts

FOREVER_NS = 10**15


def feed(policy: str, limit: int = 3, batch: int = 1, deadline_ns: int | None = None, max_wait_ns: int = 0) -> Feed:
    """A feed."""
    return Feed(policy, limit, batch, deadline_ns, max_wait_ns)


def put(where: Feed, *values: Any) -> None:
    """Offer items that need not wait for room."""
    for value in values:
        assert where.try_offer(where.capture(value))


def taken(where: Feed) -> list[Any]:
    """The values of what is taken now."""
    return [item.value for item in where.try_take()[0]]


def total(counts: StreamCounts) -> int:
    """What ``taken`` must be the sum of."""
    return counts.run + counts.dropped + counts.late + counts.failed + counts.waiting + counts.running + counts.closed


def test_latest_keeps_the_newest() -> None:
    """Each new item takes the place of the one that waits."""
    one = feed("latest", 1)
    put(one, "a", "b", "c")
    assert ["c"] == taken(one)
    assert (3, 2, 1) == (one.counts().taken, one.counts().dropped, one.counts().running)


def test_drop_oldest_keeps_the_newest_few() -> None:
    """The oldest makes room."""
    one = feed("drop_oldest")
    put(one, *"abcde")
    assert [["c"], ["d"], ["e"], []] == [taken(one) for _ in range(4)]
    assert 2 == one.counts().dropped


def test_all_holds_the_source() -> None:
    """A full queue refuses, until something was taken; the time is counted."""
    one = feed("all")
    items = []
    for value in "abc":
        items.append(one.capture(value))
        assert one.try_offer(items[-1])
    items.append(one.capture("d"))
    assert not one.try_offer(items[-1])
    assert 4 == one.counts().waiting
    assert ["a"] == taken(one)
    assert one.try_offer(items[-1])
    assert sum(item.queued_ns - item.captured_ns for item in items) == one.counts().held_ns
    assert 0 == one.counts().dropped


def test_all_wakes_the_source_that_waits() -> None:
    """``offer`` returns once there is room."""
    one = feed("all", 1)
    put(one, "a")
    thread = threading.Thread(target=lambda: one.offer(one.capture("b")))
    thread.start()
    assert ["a"] == [item.value for item in one.take()]
    assert ["b"] == [item.value for item in one.take()]
    thread.join()


def test_what_is_too_old_is_late() -> None:
    """It is counted, not run; what is young enough is."""
    one = feed("all", deadline_ns=1)
    put(one, "a", "b")
    assert [] == taken(one)
    assert (2, 0) == (one.counts().late, one.counts().waiting)
    other = feed("all", deadline_ns=FOREVER_NS)
    put(other, "a")
    assert ["a"] == taken(other)


def test_a_micro_batch_waits_for_company() -> None:
    """Until it is full, its time is up, or nothing more comes."""
    one = feed("all", 8, batch=3, max_wait_ns=FOREVER_NS)
    put(one, "a", "b")
    items, again_ns = one.try_take()
    assert [] == items
    assert again_ns == one._waiting[0].queued_ns + FOREVER_NS
    put(one, "c", "d")
    assert ["a", "b", "c"] == taken(one)
    assert [] == taken(one)
    one.end()
    assert ["d"] == taken(one)
    hasty = feed("all", 8, batch=3, max_wait_ns=0)
    put(hasty, "a")
    assert ["a"] == taken(hasty)


def test_a_micro_batch_waits_no_longer_than_its_first_item_may() -> None:
    """The deadline of the first item ends the wait, and that item is run."""
    one = feed("all", 8, batch=3, deadline_ns=FOREVER_NS, max_wait_ns=2 * FOREVER_NS)
    put(one, "a")
    assert one.try_take()[1] == one._waiting[0].captured_ns + FOREVER_NS
    one.deadline_ns = 1  # as if that time had passed
    assert ["a"] == taken(one)
    assert 0 == one.counts().late


def test_the_end() -> None:
    """What waits is still given, then nothing, and nobody waits for more."""
    one = feed("all")
    put(one, "a")
    one.end()
    assert ["a"] == [item.value for item in one.take()]
    assert [] == one.take()


def test_closing() -> None:
    """What waits is forgotten and counted; who waits on either side is let go; what comes later is counted as well."""
    one = feed("all", 1)
    put(one, "a")
    held = one.capture("b")
    thread = threading.Thread(target=one.offer, args=(held,))
    thread.start()
    one.close()
    thread.join()
    assert [] == one.take()
    one.offer(one.capture("c"))
    assert (3, 3, 0) == (one.counts().taken, one.counts().closed, one.counts().waiting)


def test_a_taker_is_let_go_by_closing() -> None:
    """``take`` returns nothing."""
    one = feed("all")
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(one.take()))
    thread.start()
    one.close()
    thread.join()
    assert [[]] == got


def test_listeners_hear_of_changes() -> None:
    """Of items, of room, of the end and of closing."""
    one = feed("all")
    heard: list[int] = []
    one.listen(lambda: heard.append(1))
    put(one, "a")
    taken(one)
    one.end()
    one.close()
    assert [1] * 4 == heard


@pytest.mark.parametrize("policy", ["latest", "drop_oldest", "all"])
@pytest.mark.parametrize("seed", range(40))
def test_the_counts_add_up_at_any_moment(policy: str, seed: int) -> None:
    """Whatever happens in whatever order."""
    dice = random.Random(seed)
    one = feed(
        policy, dice.randint(1, 4), dice.randint(1, 3), dice.choice([None, 1, FOREVER_NS]), dice.choice([0, FOREVER_NS])
    )
    running, held = 0, None
    for step in range(300):
        what = dice.random()
        if what < 0.45:
            held = held or one.capture(step)
            if one.try_offer(held):
                held = None
        elif what < 0.7:
            running += len(one.try_take()[0])
        elif what < 0.98 and running:
            bad = dice.randint(0, running)
            one.finished(running - bad, bad)
            running = 0
        elif what >= 0.995:
            one.end() if dice.random() < 0.5 else one.close()
        counts = one.counts()
        assert counts.taken == total(counts)
        assert running == counts.running
        assert (policy == "all") >= (counts.held_ns > 0)
        assert not (policy == "all" and counts.dropped)

"""``edgekit.runtime.turns``: one at a time, and nobody waits for ever."""

from __future__ import annotations

import threading

from edgekit.runtime.turns import Turns


def test_one_at_a_time() -> None:
    """Eight threads count without losing one, whoever meets whom."""
    turns, count = Turns(), [0]

    def work() -> None:
        for _ in range(3000):
            with turns:
                seen = count[0]
                count[0] = seen + 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [24000] == count
    assert not turns.waiting


def test_first_come_first() -> None:
    """Those that wait get the turn in the order in which they came."""
    turns, order, threads = Turns(), [], []
    turns.enter()
    for number in range(5):

        def work(number: int = number) -> None:
            with turns:
                order.append(number)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        while len(turns.waiting) <= number:
            pass
    turns.leave()
    for thread in threads:
        thread.join()
    assert [0, 1, 2, 3, 4] == order


def test_a_busy_thread_does_not_keep_others_out() -> None:
    """One that takes the turn over and over lets a waiting one have it."""
    turns, stop = Turns(), threading.Event()

    def greedy() -> None:
        while not stop.is_set():
            with turns:
                pass

    thread = threading.Thread(target=greedy)
    thread.start()
    for _ in range(200):
        with turns:
            pass
    stop.set()
    thread.join()
    assert not turns.waiting

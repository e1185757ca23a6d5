"""The cheapest of all ways to give operators one of two types, where a tensor that changes its type costs something.

Each operator has a time in either type, and each tensor one for either change, paid once however many operators read the changed
form. The cheapest assignment is a minimum cut (L. R. Ford and D. R. Fulkerson, Flows in Networks, 1962; the
auxiliary nodes by which a tensor pays once are the usual ones for a hyperedge); it is found by E. A. Dinic's algorithm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

#: Times are counted in these parts of a nanosecond, as whole numbers.
_PARTS = 16
_ENDLESS = 1 << 60


@dataclass(frozen=True)
class Link:
    """A tensor between operators.

    Attributes:
        maker: the operator that writes it, or a fixed type.
        readers: the operators that read it, and fixed types that it must have.
        forth_ns: time of its change from the first type to the second.
        back_ns: time of the other change.
    """

    maker: int
    readers: tuple[int, ...]
    forth_ns: float
    back_ns: float


#: Ends of a link that have a type of their own: an input or output of the model.
FIRST, SECOND = -1, -2


def cheapest(first_ns: Sequence[float], second_ns: Sequence[float], links: Sequence[Link]) -> list[bool]:
    """Which operators get the second type.

    Args:
        first_ns: each operator's time in the first type; infinite where it has none.
        second_ns: likewise in the second.
        links: the tensors between them.

    Returns:
        For each operator whether it gets the second type; where both cost the same, the first.
    """
    count = len(first_ns)
    source, sink = count, count + 1
    network = _Flow(count + 2)

    def node(end: int) -> int:
        return {FIRST: source, SECOND: sink}.get(end, end)

    for number in range(count):
        network.add(source, number, _whole(second_ns[number]))
        network.add(number, sink, _whole(first_ns[number]))
    for link in links:
        maker, readers = node(link.maker), [node(reader) for reader in link.readers]
        if not readers:
            continue
        forth, back = network.node(), network.node()
        network.add(maker, forth, _whole(link.forth_ns))
        network.add(back, maker, _whole(link.back_ns))
        for reader in readers:
            network.add(forth, reader, _ENDLESS)
            network.add(reader, back, _ENDLESS)
    network.fill(source, sink)
    # What still reaches the sink has the second type, so that of equal cuts the one with most of the first is taken.
    reaching = network.reaching(sink)
    return [number in reaching for number in range(count)]


def _whole(time_ns: float) -> int:
    return _ENDLESS if time_ns == float("inf") else round(max(0.0, time_ns) * _PARTS)


class _Flow:
    """A network of whole capacities; edge ``2k`` and ``2k + 1`` are each other's way back."""

    def __init__(self, nodes: int) -> None:
        self._edges: list[list[int]] = [[] for _ in range(nodes)]
        self._to: list[int] = []
        self._left: list[int] = []

    def node(self) -> int:
        self._edges.append([])
        return len(self._edges) - 1

    def add(self, start: int, end: int, capacity: int) -> None:
        if start == end:
            return
        for a, b, left in ((start, end, capacity), (end, start, 0)):
            self._edges[a].append(len(self._to))
            self._to.append(b)
            self._left.append(left)

    def fill(self, source: int, sink: int) -> None:
        """Push until nothing goes through any more."""
        while (levels := self._levels(source))[sink] >= 0:
            tried = [0] * len(self._edges)
            while self._push(source, sink, levels, tried):
                pass

    def _levels(self, source: int) -> list[int]:
        levels = [-1] * len(self._edges)
        levels[source] = 0
        waiting = deque([source])
        while waiting:
            here = waiting.popleft()
            for edge in self._edges[here]:
                if self._left[edge] and levels[self._to[edge]] < 0:
                    levels[self._to[edge]] = levels[here] + 1
                    waiting.append(self._to[edge])
        return levels

    def _push(self, source: int, sink: int, levels: list[int], tried: list[int]) -> int:
        """Push along one path, and say how much."""
        path: list[int] = []
        here = source
        while here != sink:
            while tried[here] < len(self._edges[here]):
                edge = self._edges[here][tried[here]]
                if self._left[edge] and levels[self._to[edge]] == levels[here] + 1:
                    break
                tried[here] += 1
            else:
                if not path:
                    return 0
                edge = path.pop()
                here = self._to[edge ^ 1]
                tried[here] += 1
                continue
            path.append(edge)
            here = self._to[edge]
        amount = min(self._left[edge] for edge in path)
        for edge in path:
            self._left[edge] -= amount
            self._left[edge ^ 1] += amount
        return amount

    def reaching(self, sink: int) -> set[int]:
        """Nodes from which something could still flow to the sink."""
        found, waiting = {sink}, [sink]
        while waiting:
            for edge in self._edges[waiting.pop()]:
                start = self._to[edge]
                if self._left[edge ^ 1] and start not in found:
                    found.add(start)
                    waiting.append(start)
        return found

"""The cheapest way to divide a graph in two, by way of the largest flow through it (Dinic's algorithm)."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

#: The two nodes that end up on different sides.
SOURCE, SINK = "source", "sink"
#: More than any sum of prices.
NEVER = 1 << 60


@dataclass
class Network:
    """Nodes, and what it costs to have one on the source's side and another on the sink's.

    Attributes:
        prices: what is still to be paid, by node and by the node that it leads to.
        base: what is paid where all nodes are on the source's side.
    """

    prices: dict[Hashable, dict[Hashable, int]] = field(default_factory=lambda: {SOURCE: {}, SINK: {}})
    base: int = 0

    def add(self, here: Hashable, there: Hashable, price: int) -> None:
        """Ask a price for ``here`` on the source's side with ``there`` on the sink's."""
        if here == there or price == 0:
            return
        forth = self.prices.setdefault(here, {})
        back = self.prices.setdefault(there, {})
        forth[there] = forth.get(there, 0) + price
        back.setdefault(here, 0)
        self.base += price if there == SINK else 0

    def cut(self) -> tuple[int, set[Hashable]]:
        """The lowest price of all, and the nodes on the sink's side: as few as have it. What is still to be paid is used up."""
        total = 0
        while (depths := self._depths()) is not None:
            while (path := self._path(depths)) is not None:
                amount = min(self.prices[here][there] for here, there in path)
                for here, there in path:
                    self.prices[here][there] -= amount
                    self.prices[there][here] += amount
                total += amount
        return total, set(self._before_sink())

    def _depths(self) -> dict[Hashable, int] | None:
        """How many steps each node is from the source; ``None`` where the sink cannot be reached any more."""
        depths: dict[Hashable, int] = {SOURCE: 0}
        queue: deque[Hashable] = deque([SOURCE])
        while queue:
            here = queue.popleft()
            for there, left in self.prices[here].items():
                if left > 0 and there not in depths:
                    depths[there] = depths[here] + 1
                    queue.append(there)
        return depths if SINK in depths else None

    def _path(self, depths: dict[Hashable, int]) -> list[tuple[Hashable, Hashable]] | None:
        """A way from the source to the sink, each step one deeper; nodes from which there is none are forgotten."""
        path: list[tuple[Hashable, Hashable]] = []
        here: Hashable = SOURCE
        while here != SINK:
            found = next(
                (
                    there
                    for there, left in self.prices[here].items()
                    if left > 0 and depths.get(there) == depths[here] + 1
                ),
                None,
            )
            if found is not None:
                path.append((here, found))
                here = found
            elif not path:
                return None
            else:
                del depths[here]
                here = path.pop()[0]
        return path

    def _before_sink(self) -> Iterable[Hashable]:
        """The nodes from which the sink can still be reached, itself left out."""
        seen: set[Hashable] = {SINK}
        queue: deque[Hashable] = deque([SINK])
        while queue:
            here = queue.popleft()
            for there in self.prices[here]:  # each step has one back
                if there not in seen and self.prices[there].get(here, 0) > 0:
                    seen.add(there)
                    queue.append(there)
        return seen - {SINK}

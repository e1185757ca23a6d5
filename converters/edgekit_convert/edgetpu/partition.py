"""How TensorFlow Lite divides a graph between a delegate and the CPU, which is how the Edge TPU compiler divides it.

A part takes, in the file's order and again until nothing is added, every operator of its own kind whose inputs are all there
(tensorflow/lite/graph_info.cc, ``PartitionGraphIntoIndependentNodeSubsets``). The first operator that can run decides the kind
of the first part. So a branch that does not pass through the CPU belongs to the first part, wherever its operators stand in the
file, and what needs a result of the CPU does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.graph import Subgraph


def divide(main: Subgraph, taken: Sequence[bool]) -> tuple[tuple[bool, tuple[int, ...]], ...]:
    """Divide a graph.

    Args:
        main: the graph.
        taken: for each operator whether the delegate would take it.

    Returns:
        The parts in the order in which they run: whether it is the delegate's, and its operators.
    """
    missing = {index for op in main.ops for index in op.outputs}
    left = list(main.ops)
    parts: list[tuple[bool, tuple[int, ...]]] = []
    while left:
        kind: bool | None = None
        members: list[int] = []
        grown = True
        while grown:
            grown, waiting = False, []
            for op in left:
                ready = not any(index in missing for index in op.inputs)
                if ready and kind is None:
                    kind = taken[op.index]
                if ready and kind == taken[op.index]:
                    missing.difference_update(op.outputs)
                    members.append(op.index)
                    grown = True
                else:
                    waiting.append(op)
            left = waiting
        if not members:  # a cycle; the structural check lets no such file pass
            break
        parts.append((bool(kind), tuple(sorted(members))))
    return tuple(parts)


def behind(main: Subgraph, outside: Sequence[bool]) -> dict[int, int]:
    """For each operator that needs a result of the CPU, the nearest operator there that it needs.

    Args:
        main: the graph.
        outside: for each operator whether the delegate would not take it.
    """
    made_by = {index: op.index for op in main.ops for index in op.outputs}
    found: dict[int, int] = {}
    for op in main.ops:
        makers = [made_by[index] for index in op.inputs if index in made_by]
        near = [maker for maker in makers if outside[maker]]
        far = [found[maker] for maker in makers if maker in found]
        if near or far:
            found[op.index] = max(near) if near else max(far)
    return found

"""Which inputs and outputs of a PyTorch network are images with the channels first.

The sizes do not tell, and the operators do: what a convolution or pooling takes has its channels in axis 1, and operators that
work element by element leave the axes where they are. What passes through a reshape or a transposition is not followed further.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

#: Operators that take axis 1 for the channels and what follows for places.
_SPATIAL = re.compile(
    r"conv|pool|batch_norm|instance_norm|group_norm|upsample|interpolate|pixel_(un)?shuffle|grid_sampler|channel_shuffle|feature_dropout"
)
#: Operators behind which axis 1 need not be what it was.
_MOVING = re.compile(
    r"(^|_)(view|reshape|permute|transpose|movedim|swapaxes|flatten|unflatten|squeeze|unsqueeze|t|matmul|bmm|baddbmm|mm|addmm|linear"
    r"|einsum|embedding|index|gather|stack|rot90|unfold|im2col|col2im|expand|repeat|roll|attention)(_|$)"
)


def image_inputs(program: Any, ranks: Iterable[int]) -> frozenset[int]:
    """Which user inputs are images, by place.

    Args:
        program: an exported program.
        ranks: how many axes count as an image.
    """
    wanted = frozenset(ranks)
    names = [_name(item) for item in program.graph_signature.user_inputs]
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return frozenset(
        place
        for place, name in enumerate(names)
        if name in nodes and _rank(nodes[name]) in wanted and _reaches(nodes[name])
    )


def image_outputs(program: Any, ranks: Iterable[int]) -> frozenset[int]:
    """Which user outputs are images, by place; the arguments are as those of ``image_inputs``."""
    wanted = frozenset(ranks)
    nodes = {node.name: node for node in program.graph.nodes}
    names = [_name(item) for item in program.graph_signature.user_outputs]
    return frozenset(
        place
        for place, name in enumerate(names)
        if name in nodes and _rank(nodes[name]) in wanted and _comes_from(nodes[name])
    )


def _reaches(start: Any) -> bool:
    """Whether a spatial operator takes the tensor itself, or one with the same axes that was made from it."""
    rank, seen, waiting = _rank(start), {start}, [start]
    while waiting:
        before = waiting.pop()
        for node in before.users:
            if node in seen or node.op != "call_function":
                continue
            operator = _operator(node)
            if _SPATIAL.search(operator):
                # What it computes on is its first argument; the others are weights, or places on a grid.
                if node.args and node.args[0] is before:
                    return True
                continue
            seen.add(node)
            if not _MOVING.search(operator) and _rank(node) == rank:
                waiting.append(node)
    return False


def _comes_from(end: Any) -> bool:
    """Whether a spatial operator made the tensor, or one with the same axes that it was made from."""
    rank, seen, waiting = _rank(end), {end}, [end]
    while waiting:
        node = waiting.pop()
        if node.op != "call_function":
            continue
        operator = _operator(node)
        if _SPATIAL.search(operator):
            return True
        if _MOVING.search(operator):
            continue
        for before in node.all_input_nodes:
            # A part of several results has the rank of one of them; the operator behind it is what counts.
            if before not in seen and _rank(before) in (rank, None):
                seen.add(before)
                waiting.append(before)
    return False


def _name(item: Any) -> str:
    return str(getattr(item, "name", item))


def _operator(node: Any) -> str:
    """An operator's name without namespace and overload: ``conv2d`` for ``aten.conv2d.default``."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    return str(schema.name).partition("::")[2]


def _rank(node: Any) -> int | None:
    value = node.meta.get("val")
    return len(value.shape) if hasattr(value, "shape") else None

"""Which axes an input's channels lie on, read from the operators that it reaches first.

A layout says for each axis of an array which axis of the original it is: ``(0, 2, 3, 1)`` for an image whose channels went
from second to last. ``tuple(range(rank))`` is the original itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Operators whose first input has its channels second, by the definition of ONNX.
_CHANNELS_SECOND = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "DeformConv", "FusedConv", "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool"}
    | {"GlobalAveragePool", "GlobalLpPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"}
    | {"DepthToSpace", "SpaceToDepth", "Resize", "Upsample", "GridSample", "MaxUnpool"}
)  # fmt: skip

#: Operators that leave the axes where they are.
_KEEPING = frozenset(
    {"Identity", "Cast", "Dropout", "Clip", "Abs", "Neg", "Sqrt", "Exp", "Log", "Pow", "Relu", "LeakyRelu", "PRelu", "Sigmoid"}
    | {"Tanh", "Elu", "Selu", "HardSigmoid", "HardSwish", "Erf", "Round", "Floor", "Ceil", "Add", "Sub", "Mul", "Div", "Min", "Max"}
    | {"Pad", "Concat", "Slice", "Split", "Where"}
)  # fmt: skip


def channels_last(rank: int) -> tuple[int, ...]:
    """The layout with the channels last."""
    return (0, *range(2, rank), 1)


def original(rank: int) -> tuple[int, ...]:
    """The layout of the original."""
    return tuple(range(rank))


def between(source: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that brings an array of one layout into another."""
    return tuple(list(source).index(axis) for axis in target)


def arrange(sizes: Sequence[int], layout: Sequence[int]) -> list[int]:
    """Sizes of the original in a layout."""
    return [sizes[axis] for axis in layout]


def restore(sizes: Sequence[int], layout: Sequence[int]) -> list[int]:
    """Sizes in a layout as the original has them."""
    return arrange(sizes, between(layout, original(len(sizes))))


def place_of_channels(model: Any, name: str, rank: int) -> str:
    """Where an input has its channels.

    Args:
        model: the ``ModelProto``.
        name: the input's.
        rank: how many sizes it has.

    Returns:
        ``"first"`` for images and the like with the channels second, ``"last"`` when the model itself turns them there,
        ``"other"`` when nothing says that it has channels.
    """
    if rank not in (3, 4, 5):
        return "other"
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for item in node.input:
            readers.setdefault(item, []).append(node)
    seen, waiting, votes = {name}, [name], set()
    while waiting:
        tensor = waiting.pop()
        for node in readers.get(tensor, []):
            if node.op_type in _CHANNELS_SECOND and node.input[0] == tensor:
                votes.add("first")
            elif turns_to_second(node, rank):
                votes.add("last")
            elif node.op_type in _KEEPING:
                for output in node.output:
                    if output and output not in seen:
                        seen.add(output)
                        waiting.append(output)
    return votes.pop() if len(votes) == 1 else "first" if "first" in votes else "other"


def turns_to_second(node: Any, rank: int) -> bool:
    """Whether an operator turns an array with the channels last into one with the channels second."""
    if node.op_type != "Transpose":
        return False
    order = next((list(item.ints) for item in node.attribute if item.name == "perm"), None)
    return order == [0, rank - 1, *range(1, rank - 1)] and rank > 2


def take_turn_away(model: Any, name: str) -> bool:
    """Let an input have its channels second where the model turns it there anyway, in place.

    Args:
        model: the ``ModelProto``.
        name: the input's.

    Returns:
        Whether that could be done: every operator that reads the input turns it so.
    """
    value = next(item for item in model.graph.input if item.name == name)
    sizes = list(value.type.tensor_type.shape.dim)
    rank = len(sizes)
    turns = [node for node in model.graph.node if name in node.input]
    results = {node.output[0] for node in turns}
    if not turns or not all(turns_to_second(node, rank) for node in turns):
        return False
    if results & {item.name for item in model.graph.output}:
        return False
    for node in turns:
        model.graph.node.remove(node)
    for node in model.graph.node:
        for place, item in enumerate(node.input):
            if item in results:
                node.input[place] = name
    dimensions = [type(item)() for item in sizes]
    for place, axis in enumerate([0, rank - 1, *range(1, rank - 1)]):
        dimensions[place].CopyFrom(sizes[axis])
    del value.type.tensor_type.shape.dim[:]
    value.type.tensor_type.shape.dim.extend(dimensions)
    return True

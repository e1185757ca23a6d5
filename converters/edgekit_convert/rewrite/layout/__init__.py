"""TRANSPOSEs that are left of a model whose channels came first → operators that work with the channels last.

A converter puts one before each convolution and one behind it, or leaves some where it did not know better. They are moved past what can
work in either order (elementwise operators, PAD, CONCATENATION, SPLIT, SLICE, MEAN, RESHAPE, …) until they meet and cancel, or end in
the weights of a dense layer. What is left are those that the network really needs, as in attention or a shuffle of channels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing
from edgekit_convert.rewrite.delegate import repeated, reshapes, transposes
from edgekit_convert.rewrite.delegate.draft import Draft, applied
from edgekit_convert.rewrite.layout import chains, region
from edgekit_convert.rewrite.layout.orders import in_place, order_of

#: Orders are sought again in what became of a graph at most so often; each time fewer values are moved than before.
_PASSES = 40


def apply(model: Any, types: Any) -> int:
    """Move TRANSPOSEs in a ``ModelT`` object until fewer values are moved; returns how many operators are gone."""
    content = editing.write(model)
    result = straightened(content)
    if result is content:
        return 0
    vars(model).update(vars(editing.read(result)))
    before, after = moved(content), moved(result)
    return max(1, before.transposes + before.reshapes - after.transposes - after.reshapes)


class Moved(NamedTuple):
    """What an order of axes costs in a graph.

    Attributes:
        values: how many values TRANSPOSEs move.
        transposes: how many TRANSPOSEs move values.
        reshapes: how many operators only move axes of size 1, in which no value changes its place.
    """

    values: int
    transposes: int
    reshapes: int


def straightened(content: bytes) -> bytes:
    """A model whose TRANSPOSEs move as few values as was found to be possible; the same object where none can be saved.

    Args:
        content: a float model.
    """
    if len(ModelFile.read(content).graph.subgraphs) > 1 or not any(moved(content)):
        return content
    best = _tidied(content)
    for _ in range(_PASSES):
        better = _better(best)
        if better is None:
            break
        best = better
    return best if moved(best) < moved(content) else content


def moved(content: bytes) -> Moved:
    """What the order of axes costs in a model."""
    draft = Draft(content)
    sizes, reshapes = [], 0
    for op in draft.ops:
        order = order_of(draft, op)
        if order is None:
            continue
        shape = draft.shape(op.inputs[0])
        if in_place(order, shape):
            reshapes += 1
        else:
            sizes.append(math.prod(shape))
    return Moved(sum(sizes), len(sizes), reshapes)


def _better(content: bytes) -> bytes | None:
    """The model with some regions in another order, all that were found or else one; ``None`` where that saves nothing."""
    matches = region.find(Draft(content))
    # What was estimated of a region is checked on the graph that comes of it.
    for some in [matches, *([match] for match in matches if len(matches) > 1)]:
        draft = Draft(content)
        changed: set[int] = set()
        for match in some:
            if not changed.intersection(op.index for op in match.ops):
                changed.update(op.index for op in match.ops)
                draft.begin(match)
                match.change(draft)
        candidate = _tidied(draft.finish()) if changed else content
        if moved(candidate) < moved(content):
            return candidate
    return None


def _tidied(content: bytes) -> bytes:
    """TRANSPOSEs and RESHAPEs in a row as one or none, and those that are there twice as one."""
    for _ in range(_PASSES):
        count = 0
        for rule in (transposes.find, reshapes.find, repeated.find, chains.find):
            content, changes = applied(content, rule)
            count += changes
        if count == 0:
            break
    return content

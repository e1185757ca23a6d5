"""A mask that is far too large before a SOFTMAX → one that is just large enough.

Attention hides positions by adding -1e9 (or by selecting -infinity) before the softmax. In int8 that number sets the
tensor's scale: a range from -1e9 to 10 has steps of four million, and everything that was not hidden becomes the
same value. What is hidden need only lie so far below the rest that its exponential vanishes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph import Graph, Op
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.graph.wiring import SHAPE_ONLY, Wiring
from edgekit_convert.ranges.extremes import Extremes

#: Beyond this a number added before a softmax can only be meant as a mask: exp(-104) is 0 in float32 already.
LARGE = 1000.0
#: How far below the lowest value that is not hidden a hidden one must lie: exp(-16) is 1.1e-7, the last bit of float32.
MARGIN = 16.0
_GATE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Mask:
    """A constant that hides positions.

    Attributes:
        softmax: the SOFTMAX that it is for.
        constant: the tensor index of the constant.
        logits: the tensor index of what it hides parts of.
        gate: the tensor index of what the constant is multiplied by, or ``None``.
        sign: 1 where the constant is added, -1 where it is subtracted.
        path: places of the operators between the constant and the tensor that it is joined with.
    """

    softmax: Op
    constant: int
    logits: int
    gate: int | None
    sign: int
    path: tuple[int, ...]


def find(graph: Graph) -> tuple[Mask, ...]:
    """Every constant beyond ``LARGE`` that is joined to the input of a SOFTMAX."""
    wiring = Wiring(graph)
    found: list[Mask] = []
    for op in graph.main.ops:
        if op.name != "SOFTMAX":
            continue
        logits, masks = _walk(wiring, op.inputs[0])
        found += [Mask(op, constant, logits, gate, sign, path) for constant, gate, sign, path in masks]
    return tuple(found)


_Found = tuple[int, int | None, int, tuple[int, ...]]


def _walk(wiring: Wiring, index: int) -> tuple[int, list[_Found]]:
    """What is under all the masks, and the masks."""
    index = wiring.before_shapes(index)
    op = wiring.made_by.get(index)
    if op is None:
        return index, []
    if op.name in ("ADD", "SUB"):
        for place in (1, 0) if op.name == "ADD" else (1,):
            mask = _large(wiring, op.inputs[place], 1 if op.name == "ADD" else -1)
            if mask is not None:
                logits, more = _walk(wiring, op.inputs[1 - place])
                return logits, [(*mask[:3], (*mask[3], op.index)), *more]
    if op.name in ("SELECT", "SELECT_V2"):
        for place in (1, 2):
            values = wiring.constant(op.inputs[place])
            if values is not None and values.dtype == np.float32 and values.size and values.max() <= -LARGE:
                logits, more = _walk(wiring, op.inputs[3 - place])
                return logits, [(op.inputs[place], None, 1, (op.index,)), *more]
    return index, []


def _large(wiring: Wiring, index: int, sign: int) -> _Found | None:
    """The large constant that an added tensor comes from."""
    if _has_large(wiring.constant(index), sign):
        return index, None, sign, ()
    op = wiring.made_by.get(index)
    if op is None:
        return None
    if op.name in SHAPE_ONLY:
        found = _large(wiring, op.inputs[0], sign)
        return found and (*found[:3], (*found[3], op.index))
    if op.name == "MUL":
        for place in (0, 1):
            values = wiring.constant(op.inputs[place])
            # Its sign is the gate's affair: (1 - m)·-1e9 and (m - 1)·1e9 are the same mask.
            if values is not None and values.size == 1 and _has_large(-np.abs(values), 1):
                return op.inputs[place], op.inputs[1 - place], sign, (op.index,)
    if op.name in ("SELECT", "SELECT_V2"):
        for place in (1, 2):
            if _has_large(wiring.constant(op.inputs[place]), sign):
                return op.inputs[place], None, sign, (op.index,)
    return None


def _has_large(values: Array | None, sign: int) -> bool:
    return values is not None and values.dtype == np.float32 and values.size > 0 and (sign * values).min() <= -LARGE


def watch(graph: Graph) -> tuple[str, ...]:
    """What must be measured: the tensors that are masked, and what a mask is multiplied by."""
    tensors = graph.main.tensors
    wanted = (index for mask in find(graph) for index in (mask.logits, mask.gate) if index is not None)
    return tuple(dict.fromkeys(tensors[index].name for index in wanted))


def needed(mask: Mask, graph: Graph, measured: Extremes) -> float | None:
    """How large the mask must be, or ``None`` where that is not known."""
    low, high = measured.get(graph.main.tensors[mask.logits].name, (math.nan, math.nan))
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    if mask.gate is not None:  # the mask is whole only where the gate is 1 or -1
        off, on = measured.get(graph.main.tensors[mask.gate].name, (math.nan, math.nan))
        size = max(abs(off), abs(on))
        if not (abs(size - 1) <= _GATE_TOLERANCE or size <= _GATE_TOLERANCE):
            return None
    return high - low + MARGIN


def apply(model: Any, graph: Graph, measured: Extremes) -> int:
    """Make each mask as large as the measured values need; returns how many constants were changed."""
    wiring = Wiring(graph)
    by_constant: dict[int, list[Mask]] = {}
    for mask in find(graph):
        by_constant.setdefault(mask.constant, []).append(mask)
    count = 0
    for constant, masks in by_constant.items():
        sizes = [needed(mask, graph, measured) for mask in masks]
        path = {place for mask in masks for place in mask.path}
        between = {index for mask in masks for place in mask.path[:-1] for index in graph.main.ops[place].outputs}
        elsewhere = any(op.index not in path for op in wiring.readers([constant, *between]))
        if elsewhere or constant in graph.main.outputs:
            continue  # something else lives on the large value
        known = [size for size in sizes if size is not None]
        values = wiring.constant(constant)
        if len(known) < len(sizes) or values is None:
            continue
        size = max(known)
        if size >= np.abs(values).max():
            continue
        editing.set_constant(model, constant, np.clip(values, -size, size).astype(np.float32))
        count += 1
    return count

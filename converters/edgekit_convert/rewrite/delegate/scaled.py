"""MUL, ADD, SUB and DIV by constants before a layer with weights → its weights, and one ADD where something is added.

A model that scales its own input, as Keras' applications do, begins with a MUL and an ADD over the whole image. f·x + s is f·(x + s / f),
and f goes into the weights, whatever the layer's padding: a padded zero stays one.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit.tensors import Array
from edgekit_convert.rewrite.delegate.affine import STEPS, factor_and_summand
from edgekit_convert.rewrite.delegate.draft import NONE, Draft, Match

#: Layers with weights, and the axis of the weights that counts the inputs.
_LAYERS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}


def find(draft: Draft) -> list[Match]:
    """Every layer behind such operators, where fewer of them are enough."""
    found = []
    for op in draft.ops:
        if not draft.float_op(op, *_LAYERS) or draft.values(op, 1) is None or not _plain(draft, op):
            continue
        chain: list[Op] = []
        index = op.inputs[0]
        while (maker := draft.before(index, *STEPS)) is not None and draft.act(maker) == NONE:
            place = next((p for p in (0, 1) if draft.values(maker, p) is None), 0)
            if factor_and_summand(draft, maker, maker.inputs[place]) is None:
                break
            chain.insert(0, maker)
            index = maker.inputs[place]
        if not chain:
            continue
        factor, summand = _together(draft, chain, index)
        added = bool(np.any(summand))
        if np.all(factor) and np.isfinite(summand / factor).all() and len(chain) > added:
            change = partial(_fold, layer=op, chain=tuple(chain), source=index, factor=factor, summand=summand)
            found.append(Match((*chain, op), change))
    return found


def _plain(draft: Draft, op: Op) -> bool:
    """Whether each weight has one input channel to be scaled by."""
    weights, channels = draft.values(op, 1), draft.shape(op.inputs[0])[-1]
    assert weights is not None  # find has looked
    size = int(weights.shape[_LAYERS[op.name]])
    return size % channels == 0 if op.name == "DEPTHWISE_CONV_2D" else size == channels


def _together(draft: Draft, chain: list[Op], index: int) -> tuple[Array, Array]:
    channels = draft.shape(index)[-1]
    factor, summand = np.ones(channels), np.zeros(channels)
    for op in chain:
        step = factor_and_summand(draft, op, index)
        assert step is not None  # find has looked
        factor, summand = factor * step[0], summand * step[0] + step[1]
        index = op.outputs[0]
    return factor, summand


def _fold(draft: Draft, layer: Op, chain: tuple[Op, ...], source: int, factor: Array, summand: Array) -> None:
    weights, axis = draft.values(layer, 1), _LAYERS[layer.name]
    assert weights is not None  # find has looked
    scale = np.repeat(factor, weights.shape[axis] // len(factor))
    shape = [weights.shape[axis] if place == axis else 1 for place in range(weights.ndim)]
    inputs = draft.inputs(layer)
    inputs[1] = draft.constant(layer.outputs[0], "weights", (weights * scale.reshape(shape)).astype(np.float32))
    inputs[0] = source
    if np.any(summand):
        inputs[0] = draft.activation(chain[-1].outputs[0], "shifted")
        shift = (summand / factor).astype(np.float32)
        same = np.unique(shift)
        draft.add(
            "ADD", [source, draft.constant(layer.outputs[0], "shift", same if len(same) == 1 else shift)], inputs[0]
        )
    draft.rewire(layer, inputs=inputs)
    draft.remove(*chain)

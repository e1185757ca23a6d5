"""MUL, ADD, SUB and DIV by constants behind a layer with weights → its weights and bias.

Batch normalisation that the exporter left standing is a MUL and an ADD with a number for each channel. In int8 each of them costs a
pass over the tensor and rounds it once more.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit.tensors import Array
from edgekit_convert.rewrite.delegate.draft import NONE, Draft, Match

#: Layers with weights: where their bias is, and the axis of the weights that counts the outputs.
_LAYERS = {"CONV_2D": (2, 0), "DEPTHWISE_CONV_2D": (2, 3), "FULLY_CONNECTED": (2, 0), "TRANSPOSE_CONV": (3, 0)}
STEPS = ("MUL", "ADD", "SUB", "DIV")


def find(draft: Draft) -> list[Match]:
    """Every layer with weights that such operators follow, all of them at once."""
    found = []
    for op in draft.ops:
        if not draft.float_op(op, *_LAYERS) or draft.values(op, 1) is None or not _bias_known(draft, op):
            continue
        if draft.act(op) != NONE:
            continue
        chain: list[Op] = []
        index = op.outputs[0]
        while draft.inner(index) and (not chain or draft.act(chain[-1]) == NONE):
            reader = draft.wiring.read_by[index][0]
            if not draft.float_op(reader, *STEPS) or factor_and_summand(draft, reader, index) is None:
                break
            chain.append(reader)
            index = reader.outputs[0]
        if chain:
            found.append(Match((op, *chain), partial(_fold, layer=op, chain=tuple(chain))))
    return found


def _bias_known(draft: Draft, op: Op) -> bool:
    place = _LAYERS[op.name][0]
    return len(op.inputs) <= place or op.inputs[place] < 0 or draft.values(op, place) is not None


def factor_and_summand(draft: Draft, op: Op, index: int) -> tuple[Array, Array] | None:
    """What an operator multiplies each channel by and adds to it; ``None`` where it is more than that."""
    place = 0 if op.inputs[0] == index else 1
    values = draft.values(op, 1 - place)
    if values is None or values.dtype != np.float32 or draft.shape(op.outputs[0]) != draft.shape(index):
        return None
    channels = draft.shape(index)[-1]
    if values.size not in (1, channels) or (values.size > 1 and values.shape[-1] != channels):
        return None
    if op.name == "DIV" and (place == 1 or not np.all(values)):
        return None
    flat = np.broadcast_to(values.reshape(-1).astype(np.float64), (channels,))
    one, zero = np.ones(channels), np.zeros(channels)
    if op.name == "SUB":
        return (one, -flat) if place == 0 else (-one, flat)
    return {"MUL": (flat, zero), "DIV": (1 / flat if op.name == "DIV" else one, zero), "ADD": (one, flat)}[op.name]


def _fold(draft: Draft, layer: Op, chain: tuple[Op, ...]) -> None:
    bias_at, axis = _LAYERS[layer.name]
    weights = draft.values(layer, 1)
    assert weights is not None  # find has looked
    index = layer.outputs[0]
    channels = draft.shape(index)[-1]
    factor, summand = np.ones(channels), np.zeros(channels)
    held = draft.values(layer, bias_at) if len(layer.inputs) > bias_at and layer.inputs[bias_at] >= 0 else None
    if held is not None:
        summand = held.astype(np.float64).reshape(-1)
    for op in chain:
        step = factor_and_summand(draft, op, index)
        assert step is not None  # find has looked
        factor, summand = factor * step[0], summand * step[0] + step[1]
        index = op.outputs[0]
    shape = [channels if place == axis else 1 for place in range(weights.ndim)]
    inputs = draft.inputs(layer)[:bias_at]
    inputs[1] = draft.constant(layer.outputs[0], "weights", (weights * factor.reshape(shape)).astype(np.float32))
    inputs.append(draft.constant(layer.outputs[0], "bias", summand.astype(np.float32)))
    draft.rewire(layer, inputs=inputs, outputs=[index])
    draft.set_options(layer, act=draft.act(chain[-1]))
    draft.remove(*chain)

"""Channel equalisation: each channel of an activation gets the int8 grid's whole width.

An activation has one scale for all its channels, so that a channel with small values uses few of the 256 steps. Between a layer
that makes a channel and the layers that read it nothing but the factor changes as long as what lies between is positively
homogeneous (ReLU, pools, sums): the maker's weights and bias are multiplied by the factor, the readers' weights divided
(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1; there the factors come from the
weights' ranges, here from the activations' own, because weights have a scale for each channel already).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.graph import Op, Subgraph
from edgekit.tensors import Array
from edgekit_convert import graph as editing
from edgekit_convert.graph.slices import Runner, Sliceable, activations, consumers, producers

#: A channel is enlarged at most so many times: one that was quiet on the calibration data may wake up later.
_MOST = 16.0
#: Room above a channel's largest value, for data that was not seen.
_ROOM = 1.1
#: schema.fbs, enum ActivationFunctionType.
_NONE, _RELU, _RELU6 = 0, 1, 3
#: Where the fused activation stands in each layer's options (schema.fbs).
_FUSED = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "FULLY_CONNECTED": 0, "ADD": 0, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5}
_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
#: Operators that hand on each channel, times its factor. The rest stops a group.
_TRANSPARENT = ("AVERAGE_POOL_2D", "LEAKY_RELU", "MAX_POOL_2D", "MEAN", "PAD", "PRELU", "RELU", "RESHAPE", "RESIZE_BILINEAR",
                "RESIZE_NEAREST_NEIGHBOR", "SQUEEZE", "SUM")  # fmt: skip

ChannelRanges = dict[str, tuple[Array, Array]]


@dataclass
class _Group:
    """Activations whose channels must be scaled alike, with the layers at both ends.

    Attributes:
        channels: how many.
        tensors: the activations.
        makers: layers that compute one of them.
        readers: layers that read one of them.
        added: constants of ADD that have a value for each channel.
    """

    channels: int
    tensors: list[int] = field(default_factory=list)
    makers: list[Op] = field(default_factory=list)
    readers: list[Op] = field(default_factory=list)
    added: list[int] = field(default_factory=list)


def channel_ranges(float_model: bytes, samples: Sequence[Sequence[Array]]) -> ChannelRanges:
    """Lowest and highest value of each channel (the last axis), by tensor name; zero is inside.

    Tensors whose shape depends on the values are left out.

    Args:
        float_model: the pivot.
        samples: inputs in the graph's order.
    """
    whole = Sliceable(float_model)
    main = whole.main
    shown = [index for index in activations(main) if index not in main.inputs and main.tensors[index].shape]
    runner = Runner(whole.cut(range(len(main.ops)), shown, main.inputs).content)
    found: ChannelRanges = {}
    uneven = set()
    for sample in samples:
        for index, value in zip(shown, runner.run(sample), strict=True):
            tensor = main.tensors[index]
            if value.shape != tensor.shape or not value.size:
                uneven.add(tensor.name)
                continue
            flat = value.reshape(-1, value.shape[-1])
            low, high = found.get(tensor.name, (np.zeros(flat.shape[1]), np.zeros(flat.shape[1])))
            found[tensor.name] = np.minimum(low, flat.min(axis=0)), np.maximum(high, flat.max(axis=0))
    return {name: pair for name, pair in found.items() if name not in uneven}


def equalize(float_model: bytes, ranges: Mapping[str, tuple[Array, Array]], strength: float) -> tuple[bytes, int]:
    """Scale channels so that each uses more of its activation's range.

    Args:
        float_model: the pivot, all sizes fixed.
        ranges: of each channel, from ``channel_ranges``.
        strength: exponent on the factors: 1 gives each channel the whole range, 0 changes nothing.

    Returns:
        A float model that computes the same, and how many channels were scaled.
    """
    whole = Sliceable(float_model)
    main = whole.main
    edited = editing.read(float_model)
    scaled = 0
    values: dict[int, Array] = {}
    for group in _groups(main):
        factors = _factors(main, group, ranges) ** strength
        if not np.any(factors > 1.01):
            continue
        scaled += int(np.count_nonzero(factors > 1.01))
        for op in group.makers:
            _scale_maker(main, values, op, factors)
        for op in group.readers:
            _scale_reader(main, values, op, factors)
        for index in group.added:
            _multiply(main, values, index, np.tile(factors, main.tensors[index].shape[-1] // len(factors)))
    for index, value in values.items():
        editing.set_constant(edited, index, value.astype(np.float32))
    return (editing.write(edited) if values else float_model), scaled


def _factors(main: Subgraph, group: _Group, ranges: Mapping[str, tuple[Array, Array]]) -> Array:
    """The largest factor of each channel under which no activation's range grows."""
    factors = np.full(group.channels, _MOST)
    for index in group.tensors:
        if main.tensors[index].name not in ranges:
            return np.ones(group.channels)
        low, high = ranges[main.tensors[index].name]
        least, most = low.min(), high.max()
        low, high = low.reshape(-1, group.channels).min(axis=0), high.reshape(-1, group.channels).max(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            up = np.where(high > 0, most / (high * _ROOM), np.inf)
            down = np.where(low < 0, least / (low * _ROOM), np.inf)
        factors = np.minimum(factors, np.minimum(up, down))
    return np.asarray(np.maximum(factors, 1.0))


def _scale_maker(main: Subgraph, values: dict[int, Array], op: Op, factors: Array) -> None:
    weights = op.inputs[1]
    outputs = main.tensors[op.outputs[0]].shape[-1]
    tiled = np.tile(factors, outputs // len(factors))
    shape = (1, 1, 1, -1) if op.name == "DEPTHWISE_CONV_2D" else (-1, *[1] * (len(main.tensors[weights].shape) - 1))
    _multiply(main, values, weights, tiled.reshape(shape))
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        _multiply(main, values, op.inputs[2], tiled)


def _scale_reader(main: Subgraph, values: dict[int, Array], op: Op, factors: Array) -> None:
    weights = op.inputs[1]
    shape = main.tensors[weights].shape
    if op.name == "DEPTHWISE_CONV_2D":
        multiplier = shape[3] // main.tensors[op.inputs[0]].shape[-1]
        tiled = np.tile(factors, main.tensors[op.inputs[0]].shape[-1] // len(factors))
        _multiply(main, values, weights, 1 / np.repeat(tiled, multiplier))
    else:
        _multiply(main, values, weights, 1 / np.tile(factors, shape[-1] // len(factors)))


def _multiply(main: Subgraph, values: dict[int, Array], index: int, factor: Array) -> None:
    known = values.get(index)
    values[index] = (main.tensors[index].array().astype(np.float64) if known is None else known) * factor


def _groups(main: Subgraph) -> list[_Group]:
    """Activations that can be scaled together, none of them the model's input or output."""
    parent: dict[int, int] = {index: index for index in activations(main)}
    stopped: set[int] = {*main.inputs, *main.outputs}
    uses: dict[int, int] = {}
    for op in main.ops:
        for index in op.inputs:
            uses[index] = uses.get(index, 0) + 1

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def own(op: Op) -> bool:
        """Whether a layer's constants are floats of its own."""
        constants = [index for index in op.inputs[1:3] if index >= 0]
        return all(
            main.tensors[i].data is not None and main.tensors[i].dtype == "float32" and uses[i] == 1 for i in constants
        )

    for op in main.ops:
        ends = [index for index in (*op.inputs, *op.outputs) if index in parent]
        fused = op.option(_FUSED[op.name], "b", 0) if op.name in _FUSED else _NONE
        if op.name in _LAYERS:
            grouped = (
                op.name == "CONV_2D" and main.tensors[op.inputs[1]].shape[3] != main.tensors[op.inputs[0]].shape[-1]
            )
            if not own(op) or grouped or not _splits_evenly(main, op):
                stopped.update(ends)
            elif fused not in (_NONE, _RELU, _RELU6):
                stopped.update(op.outputs)
            continue
        if op.name == "ADD" and fused in (_NONE, _RELU):
            shapes = {main.tensors[index].shape for index in ends}
            constants = [index for index in op.inputs if index not in parent]
            if len(shapes) == 1 and all(_per_channel(main, index, ends[0]) and uses[index] == 1 for index in constants):
                for other in ends[1:]:
                    parent[root(other)] = root(ends[0])
                continue
        # A slope of PRELU may be computed as well, and then is not to be scaled.
        given = [index for index in op.inputs if index in parent]
        if (
            op.name in _TRANSPARENT
            and fused in (_NONE, _RELU)
            and given == [op.inputs[0]]
            and _keeps_channels(main, op)
        ):
            parent[root(op.outputs[0])] = root(op.inputs[0])
            continue
        stopped.update(ends)
    return _collect(main, parent, stopped, root)


def _per_channel(main: Subgraph, index: int, like: int) -> bool:
    tensor = main.tensors[index]
    return (
        tensor.data is not None and tensor.dtype == "float32" and bool(tensor.shape)
        and tensor.shape[-1:] == main.tensors[like].shape[-1:] and int(np.prod(tensor.shape)) == tensor.shape[-1]
    )  # fmt: skip


def _splits_evenly(main: Subgraph, op: Op) -> bool:
    """Whether each row that a dense layer reads is made of whole last axes of its input, and its output's last axis are its units."""
    if op.name != "FULLY_CONNECTED":
        return True
    source, weights, result = (main.tensors[index].shape for index in (*op.inputs[:2], op.outputs[0]))
    return bool(source) and weights[-1] % max(1, source[-1]) == 0 and result[-1:] == weights[:1]


def _keeps_channels(main: Subgraph, op: Op) -> bool:
    """Whether the last axis of an operator's output is its input's, or a whole image of it flattened."""
    source, result = main.tensors[op.inputs[0]].shape, main.tensors[op.outputs[0]].shape
    if not source or not result:
        return False
    if op.name in ("MEAN", "SUM"):
        axes = main.tensors[op.inputs[1]]
        if axes.data is None:
            return False
        return all(int(axis) % len(source) != len(source) - 1 for axis in np.atleast_1d(axes.array()))
    if op.name == "PAD":
        paddings = main.tensors[op.inputs[1]]
        return paddings.data is not None and not paddings.array()[-1].any()
    if op.name in ("RESHAPE", "SQUEEZE"):
        return result[-1] % source[-1] == 0 and (result[-1] == source[-1] or int(np.prod(source[1:])) == result[-1])
    return source[-1] == result[-1]


def _collect(main: Subgraph, parent: Mapping[int, int], stopped: set[int], root: Any) -> list[_Group]:
    made_by, read_by = producers(main), consumers(main)
    halted = {root(index) for index in stopped if index in parent}
    members: dict[int, list[int]] = {}
    for index in parent:
        if root(index) not in halted:
            members.setdefault(root(index), []).append(index)
    found = []
    for tensors in members.values():
        sizes = [main.tensors[index].shape[-1:] for index in tensors]
        channels = min(sizes)[0] if all(sizes) else 0
        if not channels or any(size % channels for (size,) in sizes):
            continue
        group = _Group(channels, tensors)
        for index in tensors:
            op = made_by[index]
            if op.name in _LAYERS:
                group.makers.append(op)
            elif op.name == "ADD":
                group.added += [i for i in op.inputs if i not in parent and i >= 0]
            group.readers += [op for op in read_by.get(index, ()) if op.name in _LAYERS]
        if group.makers and group.readers:
            found.append(group)
    return found

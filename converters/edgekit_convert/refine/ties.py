"""Tensors that must share one scale and zero point, because an int8 kernel between them copies values as they are."""

from __future__ import annotations

from edgekit.graph import Op, Subgraph

#: Operators whose int8 kernels give the values of their inputs unchanged, and which of their inputs are values.
#: TensorFlow Lite 8-bit quantization specification ("Input and outputs must all have same scale/zero_point"), and for
#: those it does not list litert-quantizer 0.11, which makes them so.
_VALUES: dict[str, slice] = {
    "AVERAGE_POOL_2D": slice(0, 1), "BROADCAST_TO": slice(0, 1), "CONCATENATION": slice(None), "DEPTH_TO_SPACE": slice(0, 1),
    "DYNAMIC_UPDATE_SLICE": slice(0, 2), "EXPAND_DIMS": slice(0, 1), "GATHER": slice(0, 1), "GATHER_ND": slice(0, 1),
    "MAXIMUM": slice(None), "MAX_POOL_2D": slice(0, 1), "MINIMUM": slice(None), "MIRROR_PAD": slice(0, 1),
    "PACK": slice(None), "PAD": slice(0, 1), "PADV2": slice(0, 1), "REDUCE_MAX": slice(0, 1), "REDUCE_MIN": slice(0, 1),
    "RESHAPE": slice(0, 1), "RESIZE_BILINEAR": slice(0, 1), "RESIZE_NEAREST_NEIGHBOR": slice(0, 1), "SELECT": slice(1, 3),
    "SELECT_V2": slice(1, 3), "SLICE": slice(0, 1), "SPACE_TO_DEPTH": slice(0, 1), "SPLIT": slice(1, 2),
    "SQUEEZE": slice(0, 1), "STRIDED_SLICE": slice(0, 1), "TILE": slice(0, 1), "TRANSPOSE": slice(0, 1),
    "UNPACK": slice(0, 1),
}  # fmt: skip


def copied(op: Op) -> tuple[int, ...]:
    """The inputs of an operator whose values its int8 kernel hands on unchanged; empty for one that computes."""
    part = _VALUES.get(op.name)
    return tuple(index for index in op.inputs[part] if index >= 0) if part is not None else ()


def tied(main: Subgraph) -> list[list[int]]:
    """Groups of float activations that must share a range, each in the graph's order, single ones among them."""
    parent: dict[int, int] = {}

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    order = dict.fromkeys([*main.inputs, *(index for op in main.ops for index in op.outputs)])
    members = [index for index in order if main.tensors[index].dtype == "float32"]
    parent.update({index: index for index in members})
    for op in main.ops:
        group = [index for index in (*copied(op), *op.outputs) if index in parent] if copied(op) else []
        for other in group[1:]:
            parent[root(other)] = root(group[0])
    groups: dict[int, list[int]] = {}
    for index in members:
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def origins(main: Subgraph, group: list[int]) -> list[int]:
    """The members of a group that are not copies of other members: where values take the group's grid first."""
    inside = set(group)
    copies = {
        index for op in main.ops for index in op.outputs if copied(op) and any(item in inside for item in copied(op))
    }
    return [index for index in group if index not in copies]

"""A model with open sizes becomes one whose sizes are all known, without the operators that only work them out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from edgekit_convert.frontends.onnx_child.gelu import order_gelu
from edgekit_convert.frontends.onnx_child.layouts import original, take_turn_away
from edgekit_convert.frontends.onnx_child.reading import graphs, label
from edgekit_convert.frontends.onnx_child.respelling import fill_dilated, respell, with_pad_values

_SIMPLIFY = (
    "import sys, onnx, onnxsim\n"
    "model, _ = onnxsim.simplify(onnx.load(sys.argv[1]), check_n=0)\n"
    "onnx.save(model, sys.argv[2])\n"
)


@dataclass(frozen=True)
class Prepared:
    """A model as the converter takes it.

    Attributes:
        model: the ``ModelProto``: sizes known, plain names.
        names: its names of tensors and operators, to those of the original.
        inputs: the original's names of its inputs, in order.
        layouts: for each input, which axis of the original's input each of its axes is.
        channels_second: for each input, whether it has its channels second.
    """

    model: Any
    names: dict[str, str]
    inputs: tuple[str, ...]
    layouts: tuple[tuple[int, ...], ...]
    channels_second: tuple[bool, ...]

    def original_names(self, text: str) -> str:
        """A message with the original's operators and names in place of the plain names in quotes."""
        named = {node.name: label(self._as_it_was(node)) for node in self.model.graph.node}
        return re.sub(
            r"'(\w+)'",
            lambda match: named.get(match.group(1)) or repr(self.names.get(match.group(1), match.group(1))),
            text,
        )

    def operators_at(self, places: Sequence[str]) -> list[str]:
        """The original's operators that lie at places of the TensorFlow function, such as ``model/conv_1/Erf``."""
        parts = {part for place in places for part in place.split("/")}
        return [
            label(self._as_it_was(node))
            for node in self.model.graph.node
            if node.name in parts or parts.intersection(node.output)
        ]

    def _as_it_was(self, node: Any) -> Any:
        """An operator with the names that the original has."""
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = self.names.get(node.name, node.name)
        copy.output[:] = [self.names.get(item, item) for item in node.output]
        return copy


def prepare(
    model: Any, shapes: Mapping[str, Sequence[int]], places: Mapping[str, str], folder: str, *, simplify: bool
) -> Prepared:
    """Fix the sizes, fold what follows from them, and give plain names.

    Args:
        model: the ``ModelProto``.
        shapes: of the inputs by name, as the original has them.
        places: where each input has its channels, see ``layouts.place_of_channels``.
        folder: for files in between.
        simplify: whether constants are folded; else only sizes are worked out.
    """
    pinned = fixed(model, shapes)
    pinned = with_pad_values(worked_out(pinned))
    respell(pinned)
    result = simplified(pinned, folder) if simplify else worked_out(pinned)
    if any(
        node.op_type == "If" for node in result.graph.node
    ):  # conditions that followed from the sizes are constants now
        respell(result)
        result = simplified(result, folder) if simplify else worked_out(result)
    fill_dilated(result)
    order_gelu(result)
    own: list[tuple[int, ...]] = []
    second: list[bool] = []
    inputs = [item.name for item in result.graph.input if item.name in shapes]
    for name in inputs:
        rank = len(shapes[name])
        turned = places[name] == "last" and take_turn_away(result, name)
        own.append((0, rank - 1, *range(1, rank - 1)) if turned else original(rank))
        second.append(turned or places[name] == "first")
    return Prepared(result, plain_names(result), tuple(inputs), tuple(own), tuple(second))


def fixed(model: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
    """A copy with the inputs' sizes fixed, and without what was written down of the others.

    Args:
        model: the ``ModelProto``.
        shapes: by input name, as the original has them.
    """
    result = type(model)()
    result.CopyFrom(model)
    for value in result.graph.input:
        if value.name in shapes:
            del value.type.tensor_type.shape.dim[:]
            for size in shapes[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = size
    # Sizes of the inside and of the outputs follow from those of the inputs.
    for graph in graphs(result.graph):
        del graph.value_info[:]
    for value in result.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return result


def simplified(model: Any, folder: str) -> Any:
    """A copy with constants folded and sizes worked out; only the latter where the simplifier fails.

    Args:
        model: the ``ModelProto``, its inputs' sizes fixed.
        folder: for files in between.
    """
    before, after = os.path.join(folder, "before.onnx"), os.path.join(folder, "after.onnx")
    onnx.save(model, before)
    # In a process of its own: it is native code, and some models end it.
    done = subprocess.run(
        [sys.executable, "-I", "-c", _SIMPLIFY, before, after], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
    )
    os.unlink(before)
    if done.returncode == 0 and os.path.exists(after):
        result = onnx.load(after)
        os.unlink(after)
        return result
    return worked_out(model)


def worked_out(model: Any) -> Any:
    """A copy with the sizes that onnx itself can work out."""
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # onnx has no common base for what it raises here; the sizes stay unknown
        return model


def plain_names(model: Any) -> dict[str, str]:
    """Give tensors and operators names that TensorFlow takes, in place.

    Args:
        model: the ``ModelProto``.

    Returns:
        The old name by the new one, for both.
    """
    taken: dict[str, str] = {}
    known: dict[str, str] = {"": ""}

    def plain(name: str, fallback: str) -> str:
        cleaned = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or fallback
        if not cleaned[0].isalpha():
            cleaned = f"t_{cleaned}"
        unique, number = cleaned, 1
        # TensorFlow's scopes do not tell large and small letters apart.
        while unique.lower() in lower:
            number += 1
            unique = f"{cleaned}_{number}"
        lower.add(unique.lower())
        taken[unique] = name
        return unique

    def tensor(name: str) -> str:
        if name not in known:
            known[name] = plain(name, "tensor")
        return known[name]

    lower: set[str] = set()
    for graph in graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = tensor(value.name)
        for number, node in enumerate(graph.node):
            for side in (node.input, node.output):
                side[:] = [tensor(item) for item in side]
            node.name = plain(node.name, f"{node.op_type}_{number}")
    return taken

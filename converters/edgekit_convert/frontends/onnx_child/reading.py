"""An ``.onnx`` file becomes a model that is whole: weights brought in, functions inlined, floats in float32."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgekit_convert.frontends.onnx_child.refusal import RefusedError, first_line
from edgekit_convert.frontends.onnx_child.upgrading import OLDEST_OPSET, brought_to, opset_of

#: What one protobuf message, and one .tflite file, can hold.
_MOST_BYTES = 2**31 - 1

#: Types of numbers that become float32, with their names.
_FLOATS = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16", TensorProto.DOUBLE: "float64"}


def read(path: str) -> tuple[Any, tuple[str, ...]]:
    """Read a model whole.

    Args:
        path: the file; weights that lie in files of their own are looked for beside it.

    Returns:
        The ``ModelProto``, and what was done to it that the user should know.

    Raises:
        RefusedError: it is damaged, of no use, or too large.
    """
    name = os.path.basename(path)
    if os.path.getsize(path) > _MOST_BYTES:
        raise RefusedError("conversion", _too_large(name, os.path.getsize(path)))
    try:
        with open(path, "rb") as file:
            model = onnx.load_model_from_string(file.read())
    except Exception as error:  # protobuf's own errors have no common base
        raise RefusedError(
            "file", f"{name} is damaged or no ONNX model: {first_line(error)}. Copy it again, or export it again."
        ) from error
    if not model.opset_import or not model.graph.node:
        raise RefusedError(
            "file", f"{name} is damaged or no ONNX model: it has no operators. Copy it again, or export it again."
        )
    _bring_weights(model, path)
    notes = []
    if opset_of(model) < OLDEST_OPSET:
        before, model = opset_of(model), brought_to(model, OLDEST_OPSET)
        if opset_of(model) >= OLDEST_OPSET:
            notes.append(
                f"it is written for ONNX's operators of version {before}, and was brought to version {OLDEST_OPSET}."
            )
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    # Before 2018 the constants had to be listed as inputs too.
    constants = {tensor.name for tensor in model.graph.initializer}
    for item in [value for value in model.graph.input if value.name in constants]:
        model.graph.input.remove(item)
    if constants:  # the first version of the format in which they need not be
        model.ir_version = max(model.ir_version, 4)
    changed = to_float32(model)
    if changed:
        notes.append(f"its {' and '.join(sorted(changed))} numbers were made float32, and it is compared as such.")
    return model, tuple(notes)


def leave_out_unread(model: Any) -> None:
    """Leave out operators that no output depends on, in place: an input that only they read is none.

    Args:
        model: the ``ModelProto``, its operators in the order in which they are run.
    """
    wanted = {item.name for item in model.graph.output}
    unread = []
    for node in reversed(model.graph.node):
        if not wanted.intersection(node.output):
            unread.append(node)
            continue
        wanted.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                for graph in graphs(inner):  # branches read what lies around them
                    wanted.update(item.name for item in graph.output)
                    wanted.update(name for item in graph.node for name in item.input)
    for node in unread:
        model.graph.node.remove(node)


def graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its operators (branches, loop bodies)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for inner in attribute.graphs:
                    yield from graphs(inner)


def nodes(model: Any) -> Iterator[Any]:
    """Every operator, those in branches and loops among them."""
    for graph in graphs(model.graph):
        yield from graph.node


def label(node: Any) -> str:
    """What to call an operator in messages."""
    kind = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    if node.name:
        return f"{kind} {node.name!r}"
    return f"{kind} (that makes {next((item for item in node.output if item), 'nothing')!r})"


def _tensors(model: Any) -> Iterator[Any]:
    """Every constant tensor: initializers, and those in attributes."""
    for graph in graphs(model.graph):
        yield from graph.initializer
        for node in graph.node:
            yield from _attribute_tensors(node)
    for function in model.functions:
        for node in function.node:
            yield from _attribute_tensors(node)


def _attribute_tensors(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.t
        elif attribute.type == onnx.AttributeProto.TENSORS:
            yield from attribute.tensors


def _too_large(name: str, size: int) -> str:
    return f"{name} has {size / 1e9:.1f} GB of weights, and neither one protobuf message nor one .tflite file holds more than 2.1 GB."


def _bring_weights(model: Any, path: str) -> None:
    """Load weights from the files beside the model; a model may name files in its own folder only."""
    folder = os.path.realpath(os.path.dirname(path))
    name = os.path.basename(path)
    total = 0
    outside = [item for item in _tensors(model) if item.data_location == TensorProto.EXTERNAL]
    for tensor in outside:
        entries = {item.key: item.value for item in tensor.external_data}
        location = entries.get("location", "")
        place = os.path.realpath(os.path.join(folder, location))
        if not location or os.path.isabs(location) or os.path.commonpath([folder, place]) != folder:
            raise RefusedError(
                "file",
                f"{name} has the weights {tensor.name!r} in {location!r}, which is not in its own folder. edgekit reads weights "
                "beside the model only: save it with its weights inside, or beside it.",
            )
        if not os.path.isfile(place):
            raise RefusedError(
                "file",
                f"{name} has weights in the file {location!r}, which is not beside it. Copy that file into the same folder: the "
                "model is of no use without it.",
            )
        begin = int(entries.get("offset", 0) or 0)
        length = int(entries.get("length", 0) or 0) or os.path.getsize(place) - begin
        if begin < 0 or length < 0 or begin + length > os.path.getsize(place):
            raise RefusedError(
                "file",
                f"{name} has the weights {tensor.name!r} at bytes {begin} to {begin + length} of {location!r}, which has "
                f"{os.path.getsize(place)}: it was cut short. Copy it again.",
            )
        total += length
    if total > _MOST_BYTES:
        raise RefusedError("conversion", _too_large(name, total))
    if outside:
        try:
            onnx.external_data_helper.load_external_data_for_model(model, folder)
        except Exception as error:  # onnx's own checks of places and lengths, and the system's
            raise RefusedError("file", f"{name}: its weights cannot be read: {first_line(error)}.") from error


def to_float32(model: Any) -> set[str]:
    """Make every float of another width a float32, in place.

    Args:
        model: the ``ModelProto``.

    Returns:
        The names of the types that were there.
    """
    found: set[str] = set()
    for tensor in _tensors(model):
        if tensor.data_type in _FLOATS:
            found.add(_FLOATS[tensor.data_type])
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for graph in graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type.tensor_type
            if value.type.HasField("tensor_type") and kind.elem_type in _FLOATS:
                found.add(_FLOATS[kind.elem_type])
                kind.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                # Cast has "to"; random numbers, EyeLike and the like have "dtype".
                if attribute.name in ("to", "dtype") and attribute.i in _FLOATS:
                    attribute.i = TensorProto.FLOAT
    return found

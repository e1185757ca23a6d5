"""Which layer of a converted model is the first whose result differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from edgekit_convert.frontends.onnx_child.comparing import TOLERANCE, best_layout
from edgekit_convert.frontends.onnx_child.converting import NotConvertedError, run_tflite, to_network, to_tflite
from edgekit_convert.frontends.onnx_child.layouts import original
from edgekit_convert.frontends.onnx_child.refusal import RefusedError, first_line
from edgekit_convert.frontends.onnx_child.shaping import Prepared, worked_out

#: Results that are compared at once: each is an output of a model that is made for it.
_AT_ONCE = 200


def first_layer_apart(prepared: Prepared, values: dict[str, Any], *, turn: bool, folder: str) -> str:
    """Name the first layer whose result differs, in a sentence.

    Every layer's result is made an output of the model, that is converted in the same way, and the outputs are compared in the
    order in which they are worked out.

    Args:
        prepared: the model.
        values: inputs by name, in the original's layouts, on which it differs.
        turn: how it was converted.
        folder: for files in between.
    """
    try:
        layers = _layers(worked_out(prepared.model))
        feeds = {
            item.name: np.ascontiguousarray(np.transpose(values[name], layout))
            for item, name, layout in zip(prepared.model.graph.input, prepared.inputs, prepared.layouts, strict=True)
        }
        for begin in range(0, len(layers), _AT_ONCE):
            part = layers[begin : begin + _AT_ONCE]
            for (node, value), apart in zip(
                part, _compare(prepared, feeds, part, turn=turn, folder=folder), strict=True
            ):
                if apart > TOLERANCE:
                    named = prepared.names.get(node.name, node.name) or prepared.names.get(value.name, value.name)
                    by = (
                        f"by {apart:.1e} of its size" if np.isfinite(apart) else "in shape or in having no finite value"
                    )
                    return f"The first layer that differs is {node.op_type} {named!r}, {by}."
    except (NotConvertedError, RefusedError) as error:
        return f"Which layer differs first could not be found: {prepared.original_names(first_line(error))}."
    except Exception as error:  # whatever the libraries raise for a model that is cut in unusual places
        return f"Which layer differs first could not be found: {type(error).__name__}: {first_line(error)}."
    return "No single layer differs when each is looked at by itself: it is their joining that changes the values."


def _layers(model: Any) -> list[tuple[Any, Any]]:
    """Each operator with a float result whose size is known, in order."""
    known = {item.name: item for item in (*model.graph.value_info, *model.graph.output)}
    found = []
    for node in model.graph.node:
        for name in node.output:
            value = known.get(name)
            if value is None or value.type.tensor_type.elem_type != TensorProto.FLOAT:
                continue
            if value.type.tensor_type.HasField("shape") and all(
                item.dim_value > 0 for item in value.type.tensor_type.shape.dim
            ):
                found.append((node, value))
    return found


def _compare(
    prepared: Prepared, feeds: dict[str, Any], part: list[tuple[Any, Any]], *, turn: bool, folder: str
) -> list[float]:
    """How far each result is from onnxruntime's."""
    model = type(prepared.model)()
    model.CopyFrom(prepared.model)
    del model.graph.output[:]
    names = [value.name for _, value in part]
    for name, (_, value) in zip(names, part, strict=True):
        shape = [item.dim_value for item in value.type.tensor_type.shape.dim]
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As written: a fused operator has no result in between.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = session.run(names, feeds)
    second = [item.name for item, yes in zip(model.graph.input, prepared.channels_second, strict=True) if yes]
    network = to_network(model, second, turn=turn, folder=folder)
    inputs = [(f"input_{place}", layout) for place, layout in enumerate(network.layouts)]
    outputs = [
        (f"output_{place}", original(len(tensor.shape)), original(len(tensor.shape)))
        for place, tensor in enumerate(network.keras.outputs)
    ]
    content = to_tflite(network, inputs, outputs)
    given = {
        f"input_{place}": np.ascontiguousarray(np.transpose(feeds[item.name], layout))
        for place, (item, layout) in enumerate(zip(model.graph.input, network.layouts, strict=True))
    }
    results = run_tflite(content, given)
    return [best_layout(value, results[f"output_{place}"])[1] for place, value in enumerate(expected)]

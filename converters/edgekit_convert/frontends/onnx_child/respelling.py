"""Small things that a model may leave out or say in a roundabout way, spelled as the converter expects them."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import AttributeProto, helper, numpy_helper

from edgekit_convert.frontends.onnx_child.upgrading import brought_to, opset_of

#: Parts of the bias of a recurrent operator for each hidden unit: those of the input and of the recurrence, by gate.
_BIASES = {"LSTM": 8, "GRU": 6, "RNN": 2}


def respell(model: Any) -> None:
    """Write out what was left out, and take branches whose condition is a constant, in place.

    Args:
        model: the ``ModelProto``.
    """
    _write_out_biases(model)
    while _take_one_branch(model):
        pass


#: From this version on Pad takes its value as an input; the converter reads no other.
_PAD_WITH_INPUTS = 11


def with_pad_values(model: Any) -> Any:
    """A model whose padding values lie where the converter looks for them; the very object where they do.

    Args:
        model: the ``ModelProto``.
    """
    valued = any(
        node.op_type == "Pad" and any(item.name == "value" and item.f for item in node.attribute)
        for node in model.graph.node
    )
    return brought_to(model, _PAD_WITH_INPUTS) if valued and opset_of(model) < _PAD_WITH_INPUTS else model


def fill_dilated(model: Any) -> None:
    """Write zeros between the weights of dilated convolutions that TensorFlow or TFLite has no form for, in place.

    TensorFlow takes no steps above 1 beside dilation (``tf.nn.convolution``: "strides > 1 not supported in conjunction with
    dilation_rate > 1"), and TFLite none for volumes.

    Args:
        model: the ``ModelProto``, constants folded.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for number, node in enumerate(model.graph.node):
        if node.op_type not in ("Conv", "ConvTranspose") or node.input[1] not in constants:
            continue
        attributes = {item.name: item for item in node.attribute}
        dilations = list(attributes["dilations"].ints) if "dilations" in attributes else [1]
        strides = list(attributes["strides"].ints) if "strides" in attributes else [1]
        if max(dilations) == 1 or (max(strides) == 1 and len(dilations) < 3):
            continue
        weights = numpy_helper.to_array(constants[node.input[1]])
        sizes = [(size - 1) * step + 1 for size, step in zip(weights.shape[2:], dilations, strict=True)]
        filled = np.zeros((*weights.shape[:2], *sizes), weights.dtype)
        filled[tuple([slice(None)] * 2 + [slice(None, None, step) for step in dilations])] = weights
        name = f"edgekit_filled_{number}"
        model.graph.initializer.append(numpy_helper.from_array(filled, name))
        node.input[1] = name
        kept = [item for key, item in attributes.items() if key not in ("dilations", "kernel_shape")]
        kept.append(helper.make_attribute("kernel_shape", sizes))
        del node.attribute[:]
        node.attribute.extend(kept)


def _write_out_biases(model: Any) -> None:
    """Recurrent operators without bias or first states get zeros, which is what ONNX says that they mean."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    known = {item.name: item.type.tensor_type.shape for item in (*model.graph.input, *model.graph.value_info)}
    for number, node in enumerate(model.graph.node):
        weights = constants.get(node.input[1]) if node.op_type in _BIASES else None
        hidden = next((item.i for item in node.attribute if item.name == "hidden_size"), 0)
        if weights is None or not hidden:
            continue
        directions = weights.dims[0]
        wanted: dict[int, tuple[int, ...]] = {3: (directions, _BIASES[node.op_type] * hidden)}
        sizes = [item.dim_value for item in known[node.input[0]].dim] if node.input[0] in known else []
        if len(sizes) == 3 and all(sizes) and not any(item.name == "layout" and item.i for item in node.attribute):
            wanted[5] = (directions, sizes[1], hidden)
            if node.op_type == "LSTM":
                wanted[6] = wanted[5]
        for place, shape in wanted.items():
            while len(node.input) <= place:
                node.input.append("")
            if not node.input[place]:
                name = f"edgekit_zeros_{number}_{place}"
                model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
                node.input[place] = name


def _take_one_branch(model: Any) -> bool:
    """Put the branch of an ``If`` with a constant condition in its place.

    Returns:
        Whether there was one.
    """
    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors = [item.t for item in node.attribute if item.type == AttributeProto.TENSOR]
            values.update(dict.fromkeys(node.output, tensors[0]) if tensors else {})
    for place, node in enumerate(graph.node):
        if node.op_type != "If" or node.input[0] not in values:
            continue
        taken = "then_branch" if bool(numpy_helper.to_array(values[node.input[0]]).item()) else "else_branch"
        branch = next(item.g for item in node.attribute if item.name == taken)
        # Names inside are those of its own scope; the outputs take the names that the rest of the graph knows.
        names = {name: f"{name}_edgekit_{place}" for inner in branch.node for name in inner.output if name} | {
            tensor.name: f"{tensor.name}_edgekit_{place}" for tensor in branch.initializer
        }
        names |= {
            inner.name: outer for inner, outer in zip(branch.output, node.output, strict=True) if inner.name in names
        }
        added = []
        for inner in branch.node:
            copy = type(inner)()
            copy.CopyFrom(inner)
            _rename(copy, names)
            added.append(copy)
        for inner, outer in zip(branch.output, node.output, strict=True):
            if names.get(inner.name) != outer:  # handed through, or given twice
                copy = type(node)(op_type="Identity", name=f"{node.name}_{outer}")
                copy.input.append(names.get(inner.name, inner.name))
                copy.output.append(outer)
                added.append(copy)
        for tensor in branch.initializer:
            copy = type(tensor)()
            copy.CopyFrom(tensor)
            copy.name = names[tensor.name]
            graph.initializer.append(copy)
        kept = [*graph.node[:place], *added, *graph.node[place + 1 :]]
        copies = [type(item)() for item in kept]
        for copy, item in zip(copies, kept, strict=True):
            copy.CopyFrom(item)
        del graph.node[:]
        graph.node.extend(copies)
        return True
    return False


def _rename(node: Any, names: dict[str, str]) -> None:
    """Give the tensors of an operator, and of the graphs inside it, other names."""
    for side in (node.input, node.output):
        side[:] = [names.get(item, item) for item in side]
    for attribute in node.attribute:
        for graph in (attribute.g,) if attribute.type == AttributeProto.GRAPH else attribute.graphs:
            for inner in graph.node:
                _rename(inner, names)
            for value in (*graph.output, *graph.initializer):
                value.name = names.get(value.name, value.name)

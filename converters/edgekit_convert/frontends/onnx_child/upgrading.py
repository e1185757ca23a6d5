"""Models that are written for old versions of ONNX's operators are brought to newer ones."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

#: The oldest version of ONNX's operators that onnxruntime has whole (its docs/Versioning.md). Of older ones it has some.
OLDEST_OPSET = 7

#: Operators with two inputs that had to say, before version 7, along which axes the second is repeated.
_TWO_SIDED = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"})


def opset_of(model: Any) -> int:
    """Which version of ONNX's own operators a model is written for.

    Args:
        model: the ``ModelProto``.

    Returns:
        The version; the newest that is known here where the model uses none of these.
    """
    versions: list[int] = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    return max(versions, default=onnx.defs.onnx_opset_version())


def brought_to(model: Any, version: int) -> Any:
    """A model written for a newer version of ONNX's operators; the very object where that cannot be done.

    Args:
        model: the ``ModelProto``.
        version: the newer one.
    """
    result = type(model)()
    result.CopyFrom(model)
    if opset_of(model) < OLDEST_OPSET <= version and not _write_out_axes(result):
        return model
    try:
        result = onnx.version_converter.convert_version(result, version)
    except Exception:  # what native code raises has no common base; what is missed is said by who misses it
        return model
    # Of tensors that it adds it does not say the type, which onnxruntime does not take.
    for value in [item for item in result.graph.value_info if not item.type.tensor_type.elem_type]:
        result.graph.value_info.remove(value)
    return result


def _write_out_axes(model: Any) -> bool:
    """Give second inputs the axes along which they are repeated, in place, as operators since version 7 want them.

    onnx's own converter (1.19) adds one axis too many where an axis was named, and none to the slopes of PRelu.

    Returns:
        Whether it could be done: not where the number of axes is not known.
    """
    graph = model.graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    nodes = []
    for number, node in enumerate(graph.node):
        axis = next((item.i for item in node.attribute if item.name == "axis"), None)
        repeated = any(item.name == "broadcast" and item.i for item in node.attribute)
        two_sided = node.op_type in _TWO_SIDED and repeated and axis is not None
        if two_sided or node.op_type == "PRelu":
            first, second = (_rank(model, ranks, name) for name in node.input)
            if first is None or second is None:
                return False
            begin = axis % first if two_sided and axis is not None else 1
            missing = first - begin - second
            if missing > 0 and second > 0 and not (node.op_type == "PRelu" and second != 1):
                wide = f"{node.input[1]}_edgekit_wide_{number}"
                axes = list(range(second, second + missing))
                nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [wide], axes=axes))
                node.input[1] = wide
            for item in [item for item in node.attribute if item.name == "axis"]:
                node.attribute.remove(item)
        if node.op_type in _TWO_SIDED and node.output[0] not in ranks:
            rank = _rank(model, ranks, node.input[0])
            if rank is not None:
                ranks[node.output[0]] = rank
        nodes.append(node)
    copies = [type(item)() for item in nodes]
    for copy, item in zip(copies, nodes, strict=True):
        copy.CopyFrom(item)
    del graph.node[:]
    graph.node.extend(copies)
    return True


def _rank(model: Any, ranks: dict[str, int], name: str) -> int | None:
    """How many axes a tensor has; ``None`` where onnx cannot tell."""
    if name not in ranks:
        known = type(model)()
        known.CopyFrom(model)
        for tensor, rank in ranks.items():  # operators of old versions do not tell their results' sizes
            known.graph.value_info.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [None] * rank))
        inferred = onnx.shape_inference.infer_shapes(known).graph
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            if value.type.tensor_type.HasField("shape"):
                ranks.setdefault(value.name, len(value.type.tensor_type.shape.dim))
    return ranks.get(name)

"""An exact GELU that was written with the error function is spelled so that TensorFlow's converter makes it one operator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

#: Names of constants.
_HALF, _ROOT = "edgekit_half", "edgekit_root"


def order_gelu(model: Any) -> None:
    """Let an exact GELU be ``(x / 2) · (1 + erf(x / √2))``, in place, as ``tf.nn.gelu`` has it, whatever was multiplied first.

    In that order TensorFlow's converter makes it TFLite's GELU; in others, such as PyTorch's ``(x · (1 + erf)) / 2``, the error
    function is left over, which TFLite does not have.

    Args:
        model: the ``ModelProto``, constants folded.
    """
    graph = model.graph
    numbers = _single_numbers(model)
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for item in node.input:
            readers.setdefault(item, []).append(node)

    made: dict[str, tuple[str, str]] = {}
    divided: dict[str, str] = {}
    for node in graph.node:
        source = _divided_by_root(graph, node, numbers) if node.op_type == "Erf" else None
        if source is None:
            continue
        for add in readers.get(node.output[0], []):
            if add.op_type != "Add" or not any(_near(numbers.get(item), 1) for item in add.input):
                continue
            plus = add.output[0]
            products = _times(readers, numbers, plus, source)
            results = [result for product in products for result in _times(readers, numbers, product, 0.5)]
            halves = _times(readers, numbers, plus, 0.5)
            results += [result for half in halves for result in _times(readers, numbers, half, source)]
            halves = _times(readers, numbers, source, 0.5)
            results += [result for half in halves for result in _times(readers, numbers, half, plus)]
            made.update(dict.fromkeys(results, (source, plus)))
            if results:
                divided[node.output[0]] = source
    if not made:
        return
    sizes = {item.name: item for item in (*graph.value_info, *graph.output)}
    graph.initializer.append(numpy_helper.from_array(np.float32(0.5), _HALF))
    graph.initializer.append(numpy_helper.from_array(np.float32(math.sqrt(2)), _ROOT))
    nodes = []

    def put(kind: str, source: str, constant: str, output: str, like: str) -> None:
        """An operator with a constant, its result as large as another."""
        nodes.append(helper.make_node(kind, [source, constant], [output], name=output))
        if like in sizes:
            value = graph.value_info.add()
            value.CopyFrom(sizes[like])
            value.name = output

    for node in graph.node:
        result = node.output[0]
        if result in made:
            source, plus = made[result]
            half = f"{result}_edgekit_half"
            put("Mul", source, _HALF, half, result)
            del node.attribute[:]
            node.op_type = "Mul"
            node.input[:] = [half, plus]
        elif result in divided:
            put("Div", divided[result], _ROOT, f"{result}_edgekit_small", result)
            node.input[:] = [f"{result}_edgekit_small"]
        nodes.append(node)
    read = {item.name for item in graph.output} | {name for node in nodes for name in node.input}
    copies = []
    for item in nodes:
        if read.intersection(item.output):  # the product in between is of no use any more
            copies.append(type(item)())
            copies[-1].CopyFrom(item)
    del graph.node[:]
    graph.node.extend(copies)


def _times(
    readers: Mapping[str, list[Any]], numbers: Mapping[str, float], name: str, other: str | float
) -> Iterator[str]:
    """The products of a tensor and another, or a number; division by its inverse counts as one."""
    for node in readers.get(name, []):
        if node.op_type not in ("Mul", "Div") or len(node.input) != 2:
            continue
        own, factor = node.input if node.input[0] == name else reversed(node.input)
        if isinstance(other, str):
            found = node.op_type == "Mul" and factor == other
        elif node.op_type == "Mul":
            found = _near(numbers.get(factor), other)
        else:
            found = own == node.input[0] and _near(numbers.get(factor), 1 / other)
        if found:
            yield node.output[0]


def _divided_by_root(graph: Any, node: Any, numbers: Mapping[str, float]) -> str | None:
    """What an operator's input is √2 times of; ``None`` where it is not made so."""
    maker = next((item for item in graph.node if node.input[0] in item.output), None)
    if maker is None or len(maker.input) != 2:
        return None
    first, second = maker.input
    if maker.op_type == "Div" and _near(numbers.get(second), math.sqrt(2)):
        return str(first)
    if maker.op_type == "Mul":
        for own, factor in ((first, second), (second, first)):
            if _near(numbers.get(factor), math.sqrt(0.5)):
                return str(own)
    return None


def _single_numbers(model: Any) -> dict[str, float]:
    """The values of constants that hold one number, by name."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            held = [item.t for item in node.attribute if item.type == AttributeProto.TENSOR]
            tensors.update(zip(node.output, held, strict=False))  # none where it holds no tensor
    return {
        name: float(numpy_helper.to_array(tensor).item())
        for name, tensor in tensors.items()
        if math.prod(tensor.dims) == 1 and tensor.data_type == TensorProto.FLOAT
    }


def _near(value: float | None, expected: float) -> bool:
    """Whether a number is another one, as float16 may have stored it."""
    return value is not None and abs(value - expected) <= 1e-3 * expected

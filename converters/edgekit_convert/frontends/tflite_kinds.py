"""How a ``.tflite`` file is quantised, in words, and what of it is float in other clothes."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.graph import Subgraph, Tensor
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import EDGETPU_OPERATOR

#: Types of quantised values; int32 ones are biases and go with the others.
_INTEGERS = frozenset({"int8", "uint8", "int16", "int4", "uint4", "int2"})
#: Types of weights that have no other use than quantised ones, with a scale or, in blocks, without one of their own.
_NARROW = frozenset({"int4", "uint4", "int2"})
_HALVES = frozenset({"float16", "bfloat16"})
#: Operators that hold ranges from training in a float graph (schema.fbs, ``FakeQuantOptions``).
_SIMULATED = "FAKE_QUANT"


def quantised_kind(model: ModelFile) -> str | None:
    """How a file is quantised, in words; ``None`` for a float model, whose weights may be stored as half floats or sparsely."""
    subgraphs = model.graph.subgraphs
    tensors = [tensor for subgraph in subgraphs for tensor in subgraph.tensors]
    by_whom = _maker(model)
    if any(op.custom and op.name == EDGETPU_OPERATOR for subgraph in subgraphs for op in subgraph.ops):
        return f"compiled for the Edge TPU, which takes int8 and uint8 models{by_whom}"
    quantised = [tensor for tensor in tensors if _has_scale(tensor)]
    filled_up = {id(tensor) for subgraph in subgraphs for tensor in _filled_up(subgraph)}
    activations = [tensor for tensor in quantised if tensor.data is None and id(tensor) not in filled_up]
    if activations:
        return f"{_static(activations, quantised)}{by_whom}"
    if quantised:
        return f"{_stored(subgraphs, quantised)}{by_whom}"
    simulated = sum(op.name == _SIMULATED for subgraph in subgraphs for op in subgraph.ops)
    if simulated:
        return (
            f"trained for it (quantisation-aware): {simulated} {_SIMULATED} operators round its activations as integers would "
            "be"
        )
    return None


def stored_kinds(model: ModelFile) -> frozenset[str]:
    """In which other clothes a float file has constants or activations: ``"float16"``, ``"bfloat16"``, ``"sparse"``."""
    tensors = [tensor for subgraph in model.graph.subgraphs for tensor in subgraph.tensors]
    halves = {tensor.dtype for tensor in tensors if tensor.dtype in _HALVES}
    return frozenset(halves | ({"sparse"} if any(tensor.sparse for tensor in tensors) else set()))


def _filled_up(subgraph: Subgraph) -> list[Tensor]:
    """Constants that were sparse: what DENSIFY makes of them."""
    return [subgraph.tensors[index] for op in subgraph.ops if op.name == "DENSIFY" for index in op.outputs]


def _has_scale(tensor: Tensor) -> bool:
    """Whether its integers stand for real numbers; plain integers, such as raw pixels and indices, have no scale."""
    if tensor.dtype in _NARROW:
        return tensor.data is not None or tensor.quant is not None
    return tensor.dtype in _INTEGERS and tensor.quant is not None and tensor.quant.any_scale


def _maker(model: ModelFile) -> str:
    """Who quantised it, where edgekit did."""
    if model.manifest is None:
        return ""
    recipe = model.manifest.recipe.get("name")
    return f", by edgekit{f' (recipe {recipe})' if recipe else ''}"


def _static(activations: list[Tensor], quantised: list[Tensor]) -> str:
    types = sorted({tensor.dtype for tensor in activations})
    text = f"static, {' and '.join(types)} activations ({len(activations)} tensors)"
    weights = {tensor.dtype for tensor in quantised if tensor.data is not None}
    if types == ["int16"] and "int8" in weights:
        text += " with int8 weights (int16x8)"
    elif types == ["uint8"]:
        text += ", as TensorFlow 1 and its quantisation-aware training made them"
    return text


def _stored(subgraphs: Iterable[Subgraph], constants: list[Tensor]) -> str:
    """Whether quantised constants are turned to floats before use, or multiplied with activations quantised at run time."""
    unpacked = direct = 0
    for subgraph in subgraphs:
        held = {tensor.index for tensor in subgraph.tensors if tensor.data is not None and _has_scale(tensor)}
        held |= {tensor.index for tensor in _filled_up(subgraph) if _has_scale(tensor)}
        for op in subgraph.ops:
            if op.name != "DENSIFY" and held.intersection(op.inputs):
                unpacked += op.name == "DEQUANTIZE"
                direct += op.name != "DEQUANTIZE"
    types = " and ".join(sorted({tensor.dtype for tensor in constants}))
    number = sum(tensor.data is not None for tensor in constants)
    count = f"{number} {types} constant{'s' if number > 1 else ''}"
    if direct and not unpacked:
        return f"dynamic range ({count}, activations quantised while it runs)"
    if unpacked and not direct:
        return f"weights only ({count}, turned to floats while it runs)"
    return f"weights only or dynamic range ({count})"

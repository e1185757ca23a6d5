"""What keeps a model from being converted, and is named before the work starts."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from onnx import TensorProto

from edgekit_convert.frontends.onnx_child.reading import label, nodes
from edgekit_convert.frontends.onnx_child.refusal import RefusedError

#: Types that a .tflite input can have, by ONNX's number.
_DTYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.INT16: "int16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT32: "uint32",
    TensorProto.BOOL: "bool",
}

_CONTROL = frozenset({"If", "Loop", "Scan"})
_SEQUENCES = frozenset(
    {"SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap"}
    | {"SplitToSequence", "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement"}
)  # fmt: skip
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
#: How many values come out depends on the values that go in.
_OPEN_ENDED = frozenset({"NonZero", "NonMaxSuppression", "Unique", "Compress"})
_TEXT = frozenset({"StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer"})


def inputs_of(model: Any, name: str) -> list[dict[str, Any]]:
    """The inputs.

    Args:
        model: the ``ModelProto``.
        name: the file's, for messages.

    Returns:
        Name, sizes (-1 for open ones) and type of each.

    Raises:
        RefusedError: one is no tensor of numbers, or its number of sizes is not known.
    """
    found = []
    for value in model.graph.input:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            what = (kind or "no type").removesuffix("_type")
            raise _refused(f"{name}: the input {value.name!r} is a {what}, only tensors of numbers can be converted.")
        dtype = value.type.tensor_type.elem_type
        if dtype not in _DTYPES:
            known = TensorProto.DataType.Name(dtype).lower() if dtype in TensorProto.DataType.values() else str(dtype)
            raise _refused(
                f"{name}: the input {value.name!r} is of type {known}, only tensors of numbers can be converted."
            )
        if not value.type.tensor_type.HasField("shape"):
            raise _refused(f"{name}: the input {value.name!r} has no known number of sizes: export the model with one.")
        sizes = [item.dim_value if item.dim_value > 0 else -1 for item in value.type.tensor_type.shape.dim]
        found.append({"name": value.name, "shape": sizes, "dtype": _DTYPES[dtype]})
    if not found:
        raise _refused(f"{name} has no inputs: there is nothing to convert.")
    return found


def check_outputs(model: Any, name: str) -> None:
    """Refuse outputs that nothing is computed for.

    Args:
        model: the ``ModelProto``.
        name: the file's, for messages.

    Raises:
        RefusedError: one is no tensor of numbers, or an input or a constant itself, or listed twice.
    """
    inputs = {value.name for value in model.graph.input}
    constants = {tensor.name for tensor in model.graph.initializer}
    seen: set[str] = set()
    for value in model.graph.output:
        what = ""
        if value.type.WhichOneof("value") not in ("tensor_type", None):
            raise _refused(f"{name}: the output {value.name!r} is no tensor of numbers.")
        if value.name in inputs:
            what = "one of the inputs, handed through"
        elif value.name in constants:
            what = "a constant, the same for all inputs"
        elif value.name in seen:
            what = "listed twice"
        if what:
            raise _refused(f"{name}: the output {value.name!r} is {what}: export the model without it.")
        seen.add(value.name)


def check_operators(model: Any, name: str, *, simplified: bool = False) -> None:
    """Refuse operators that have no form in TFLite.

    Args:
        model: the ``ModelProto``.
        name: the file's, for messages.
        simplified: whether its shapes are fixed and its constants folded: what is still there then is there to stay.

    Raises:
        RefusedError: it is quantised, or has an operator that cannot be taken.
    """
    every = list(nodes(model))
    quantised = quantised_kind(every)
    if quantised is not None:
        raise RefusedError(
            "quantised",
            f"{name} is quantised already: {quantised}. A float model was expected: convert the original that this file was "
            "made from.",
        )
    known = supported()
    foreign = [node for node in every if node.domain not in ("", "ai.onnx") and not _known_foreign(node, known)]
    remedy = "Export the model without them, or replace what makes them by other layers"
    _refuse(foreign, name, f"operators of a domain of their own, which only their makers' runtimes have. {remedy}")
    unknown = (node for node in every if node.op_type not in known)
    _refuse(unknown, name, f"operators that the converter does not have. {remedy}")
    _refuse((node for node in every if node.op_type in _TEXT), name, "operators on text, which int8 has no use for")
    _refuse((node for node in every if node.op_type in _RANDOM), name, "random numbers, which no comparison can prove")
    _refuse((node for node in every if node.op_type in _SEQUENCES), name, "sequences, which TFLite does not have")
    if simplified:
        _refuse(
            (node for node in every if node.op_type in _CONTROL), name,
            "control flow that depends on values. Export it without (torch.onnx.export traces; scripted parts keep it)",
        )  # fmt: skip
        _refuse(
            (node for node in every if node.op_type in _OPEN_ENDED), name,
            "operators whose result has as many values as the data say. Cut the model before them, and do that step outside",
        )  # fmt: skip


def supported() -> frozenset[str]:
    """The operators that the converter has a form for: a module each."""
    spec = importlib.util.find_spec("onnx2tf")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("onnx2tf is not in this environment")
    folder = os.path.join(next(iter(spec.submodule_search_locations)), "ops")
    return frozenset(file[:-3] for file in os.listdir(folder) if file.endswith(".py") and not file.startswith("_"))


def _known_foreign(node: Any, known: frozenset[str]) -> bool:
    """Whether it is one of onnxruntime's fused operators that the converter has as well."""
    return node.domain == "com.microsoft" and node.op_type in known


def quantised_kind(every: Iterable[Any]) -> str | None:
    """How a model is quantised, in words; ``None`` for a float one.

    Args:
        every: its operators.
    """
    counts = Counter(node.op_type for node in every)
    linear = {kind: count for kind, count in counts.items() if kind.startswith(("QLinear", "QGemm", "QAttention"))}
    if linear:
        return f"static, QLinear operators ({sum(linear.values())})"
    dynamic = {
        kind: count
        for kind, count in counts.items()
        if kind in ("ConvInteger", "MatMulInteger") or kind.startswith(("DynamicQuantize", "MatMulIntegerToFloat"))
    }
    if dynamic:
        return f"dynamic range ({', '.join(f'{count} {kind}' for kind, count in sorted(dynamic.items()))})"
    if counts["QuantizeLinear"]:
        return f"static or by training, {counts['QuantizeLinear']} QuantizeLinear and {counts['DequantizeLinear']} DequantizeLinear"
    blocks = {
        kind: count for kind, count in counts.items() if kind in ("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized")
    }
    if counts["DequantizeLinear"] or blocks:
        return f"weights only ({counts['DequantizeLinear'] + sum(blocks.values())} constants)"
    return None


def _refuse(found: Iterable[Any], name: str, why: str) -> None:
    """Refuse a model for some of its operators, where there are any."""
    listed = list(found)
    if not listed:
        return
    shown = ", ".join(label(node) for node in listed[:5])
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    raise _refused(f"{name} cannot become a .tflite: {shown}{more}: {why}.")


def _refused(text: str) -> RefusedError:
    return RefusedError("conversion", text)

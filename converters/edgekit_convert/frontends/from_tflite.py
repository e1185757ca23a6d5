"""Float ``.tflite`` files: the pivot format itself, old files repaired."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import AlreadyQuantisedError
from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing
from edgekit_convert.frontends.source import Source


def open_model(source: Path | bytes) -> Source:
    """Open a float ``.tflite`` file, or its bytes.

    Raises:
        ModelFileError: it is damaged.
        AlreadyQuantisedError: it is quantised, by whomever.
    """
    model = ModelFile.read(source)
    kind = quantised_kind(model)
    if kind is not None:
        raise AlreadyQuantisedError(
            f"{model.name} is quantised already: {kind}. A float model was expected: convert the original that this file "
            "was made from."
        )
    edited, notes = editing.repair(model)

    def export(shapes: dict[str, tuple[int, ...]]) -> bytes:
        return editing.pin_shapes(edited, shapes)

    name = model.path.name if model.path is not None else "the model"
    return Source("tflite", name, ModelFile.read(edited).inputs, export, None, notes)


def quantised_kind(model: ModelFile) -> str | None:
    """How a file is quantised, in words; ``None`` for a float model."""
    tensors = [tensor for subgraph in model.graph.subgraphs for tensor in subgraph.tensors]
    quantised = [
        tensor for tensor in tensors if tensor.quant is not None and tensor.dtype in ("int8", "uint8", "int16", "int4")
    ]
    activations = [tensor for tensor in quantised if tensor.data is None]
    if activations:
        types = sorted({tensor.dtype for tensor in activations})
        return f"static, {' and '.join(types)} activations ({len(activations)} tensors)"
    if quantised:
        return f"weights only or dynamic range ({len(quantised)} {quantised[0].dtype} constants)"
    halves = [tensor for tensor in tensors if tensor.dtype in ("float16", "bfloat16") and tensor.data is not None]
    if halves:
        return f"{halves[0].dtype} weights ({len(halves)} constants)"
    if any(tensor.sparse for tensor in tensors):
        return "sparse weights"
    return None

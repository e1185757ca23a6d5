"""Signatures: a model's named entry points, and the tensors that they stand for."""

from __future__ import annotations

from edgekit.errors import ModelFileError
from edgekit.graph import Tensor
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.tensors import QUANTISED_TYPES, TensorSpec


class Entry(Record):
    """What one signature takes and gives.

    Attributes:
        key: the signature's name.
        subgraph: the subgraph that it runs; 0 is the main one.
        inputs: what goes in, in the signature's order.
        outputs: what comes out.
        input_tensors: the inputs' tensor indices in that subgraph.
        output_tensors: the outputs'.
    """

    key: str
    subgraph: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_tensors: tuple[int, ...]
    output_tensors: tuple[int, ...]


def entry(model: ModelFile, key: str) -> Entry:
    """Find a signature.

    Args:
        model: a checked model.
        key: the signature's name.

    Raises:
        ModelFileError: there is no such signature.
    """
    for found in model.graph.signatures:
        if found.key == key:
            tensors = model.graph.subgraphs[found.subgraph].tensors
            return Entry(
                key,
                found.subgraph,
                tuple(_spec(tensors[index], name) for name, index in found.inputs),
                tuple(_spec(tensors[index], name) for name, index in found.outputs),
                tuple(index for _, index in found.inputs),
                tuple(index for _, index in found.outputs),
            )
    names = ", ".join(repr(found.key) for found in model.graph.signatures) or "none"
    raise ModelFileError(f"{model.name} has no signature {key!r}. It has: {names}.")


def _spec(tensor: Tensor, name: str) -> TensorSpec:
    quant = tensor.quant if tensor.dtype in QUANTISED_TYPES else None
    return TensorSpec(name, tensor.shape_signature, tensor.dtype, quant)

"""Other numbers of samples in one run: a graph made for one number, rewritten for another.

Most operators take whatever first size comes in. Those that have it written down get it scaled, see ``scaling``; the interpreter
works out all other sizes. That samples stay apart
is not assumed but shown: ``verify.batches`` runs both on data.
"""

from __future__ import annotations

import copy
from typing import Any

from edgekit.errors import ConversionError
from edgekit.modelfile import batch_key
from edgekit.operators import RUN_SUBGRAPHS
from edgekit_convert import graph as editing
from edgekit_convert.graph.scaling import Scaling
from edgekit_convert.graph.sizes import fit_sizes, operator_name


def with_batch(flatbuffer: bytes, size: int, *, moved: bool = False) -> bytes:
    """Give a model a second signature for several samples in one run; both share all weights.

    Args:
        flatbuffer: a model with all sizes fixed, its inputs' first ones at 1.
        size: samples in one run.
        moved: how to read a RESHAPE that carries the samples' axis elsewhere, see ``Scaling``.

    Raises:
        ConversionError: the graph does not work so; the operator is named.
    """
    edited = editing.read(flatbuffer)
    second = _scaled(edited, 1, size, moved=moved)
    second.name = batch_key(size).encode()
    signature = copy.deepcopy(edited.signatureDefs[0])
    signature.signatureKey, signature.subgraphIndex = batch_key(size).encode(), len(edited.subgraphs)
    edited.subgraphs.append(second)
    edited.signatureDefs.append(signature)
    return editing.write(edited)


def rebatched(flatbuffer: bytes, old: int, new: int) -> bytes:
    """The same model for another number of samples in one run.

    Args:
        flatbuffer: a model with all sizes fixed.
        old: the inputs' first size.
        new: what it becomes.

    Raises:
        ConversionError: the graph does not work so; the operator is named.
    """
    edited = editing.read(flatbuffer)
    edited.subgraphs = [_scaled(edited, old, new)]
    editing.drop_unused(edited)
    return editing.write(edited)


def _scaled(edited: Any, old: int, new: int, *, moved: bool = False) -> Any:
    """A copy of the main subgraph for another first size; its constants are the same, or new ones behind the others."""
    if len(edited.subgraphs) != 1 or any(
        operator_name(edited, op) in RUN_SUBGRAPHS for op in edited.subgraphs[0].operators
    ):
        raise ConversionError(
            f"{in_one_run(new)}: the model runs other subgraphs (control flow), whose sizes are not known before they run."
        )
    main = _copied(edited.subgraphs[0])
    shapes = {}
    for index in (int(index) for index in main.inputs):
        shape = [int(size) for size in main.tensors[index].shape]
        if not shape or shape[0] != old:
            name = main.tensors[index].name.decode(errors="replace")
            raise ConversionError(
                f"{in_one_run(new)}: the input {name!r} has sizes {shape}, and a first size of {old} was expected, the samples."
            )
        shapes[index] = [new, *shape[1:]]
    Scaling(edited, main, old, new, moved=moved).run()
    alone = copy.copy(edited)
    alone.subgraphs = [main]
    try:
        fit_sizes(alone, shapes)
    except ConversionError as error:
        raise ConversionError(f"{in_one_run(new)}: {error}") from error
    return main


def in_one_run(size: int) -> str:
    """So many samples, for messages."""
    return f"{size} sample{'s' if size > 1 else ''} in one run"


def _copied(subgraph: Any) -> Any:
    """A subgraph whose tensors, operators and lists are its own."""
    made = copy.copy(subgraph)
    made.tensors = [copy.copy(tensor) for tensor in subgraph.tensors]
    made.operators = [copy.copy(op) for op in subgraph.operators]
    for op in made.operators:
        op.inputs, op.outputs = list(op.inputs), list(op.outputs)
        op.builtinOptions = copy.copy(op.builtinOptions)
    made.inputs, made.outputs = list(subgraph.inputs), list(subgraph.outputs)
    return made

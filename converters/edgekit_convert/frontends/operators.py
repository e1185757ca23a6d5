"""Operators of a float ``.tflite`` that a conversion cannot go on with: named before anything else is done."""

from __future__ import annotations

from edgekit.errors import ConversionError, EngineError
from edgekit.graph import Op, Subgraph
from edgekit.modelfile import ModelFile
from edgekit.operators import CALLS
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import open_engine

#: Operators that keep values from one run to the next beside the graph's own tensors (schema.fbs).
_KEEPING = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})


def check_operators(pivot: ModelFile, origin: str) -> None:
    """See that ranges can be measured on every operator.

    Args:
        pivot: the float model, all sizes fixed.
        origin: what to call the source in messages.

    Raises:
        ConversionError: an operator needs TensorFlow's Flex delegate, is a custom one that no interpreter here has, runs other
            subgraphs or keeps variables.
    """
    everything = [(op, subgraph) for subgraph in pivot.graph.subgraphs for op in subgraph.ops]
    flex = [(op, subgraph) for op, subgraph in everything if op.is_flex]
    if flex:
        raise ConversionError(
            f"{origin} uses operators of TensorFlow that TFLite does not have (Flex): {_named(flex)}. The interpreters that pip "
            "installs cannot run them; replace the layers that make them with others, and convert without SELECT_TF_OPS."
        )
    custom = [(op, subgraph) for op, subgraph in everything if op.custom]
    if custom:
        try:
            open_engine(pivot, DelegateSpec("none", 1)).close()
        except EngineError as error:
            raise ConversionError(
                f"{origin} has custom operators that no interpreter here can run: {_named(custom)}. They cannot be calibrated or "
                "compared: replace the layers that make them with others, or cut the model before them."
            ) from error
    kept = [(op, subgraph) for op, subgraph in everything if op.name in _KEEPING]
    if kept:
        raise ConversionError(
            f"{origin} has variables that are set while it runs: {_named(kept)}. Freeze the weights into the file (convert a "
            "SavedModel or a Keras model, not a function of it), and make state an input and an output."
        )
    flow = [(op, subgraph) for op, subgraph in everything if op.name in CALLS]
    if flow:
        raise ConversionError(
            f"{origin} has control flow, whose inner ranges cannot be measured: {_named(flow)}. Recurrent layers convert when they "
            "are unrolled (`unroll=True`); a branch has to be decided before the model is exported."
        )
    if len(pivot.graph.subgraphs) > 1:
        raise ConversionError(
            f"{origin} has {len(pivot.graph.subgraphs)} subgraphs that its main one does not run: please report this model."
        )


def _named(found: list[tuple[Op, Subgraph]]) -> str:
    """Operators with the first place of each: the tensor's name holds the layer's."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for op, subgraph in found:
        name = op.name.removeprefix("Flex") if op.is_flex else op.name
        place = subgraph.tensors[op.outputs[0]].name if op.outputs else subgraph.name or "the main graph"
        first.setdefault(name, place)
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(
        f"{name} at {place!r}{f' and {counts[name] - 1} more' if counts[name] > 1 else ''}"
        for name, place in first.items()
    )

"""Operators of a float ``.tflite`` that a conversion cannot go on with: named before anything else is done."""

from __future__ import annotations

from edgekit.errors import ConversionError, EngineError
from edgekit.graph import Op, Subgraph
from edgekit.modelfile import ModelFile
from edgekit.operators import CALLS, RUN_SUBGRAPHS, SHAPE_KEEPING
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.engines import open_engine

#: Operators that keep values from one run to the next beside the graph's own tensors (schema.fbs).
_KEEPING = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})
#: Operators that make other numbers in every run (schema.fbs): nothing can be compared behind them.
_RANDOM = frozenset({"RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR"})
#: Operators whose results are as long as the data say (schema.fbs).
_OPEN_ENDED = frozenset({"WHERE", "UNIQUE"})
#: Operators whose result is as long as what they read, or as its list of places.
_LENGTH_KEEPING = SHAPE_KEEPING | {"GATHER", "GATHER_ND", "SQUEEZE", "TRANSPOSE"}


def check_operators(pivot: ModelFile, origin: str) -> None:
    """See that ranges can be measured on every operator.

    Args:
        pivot: the float model, all sizes fixed.
        origin: what to call the source in messages.

    Raises:
        ConversionError: an operator needs TensorFlow's Flex delegate, is a custom one that no interpreter here has, runs other
            subgraphs, keeps variables or makes random numbers, or an output is as long as the data say.
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
    random = [(op, subgraph) for op, subgraph in everything if op.name in _RANDOM]
    if random:
        raise ConversionError(
            f"{origin} makes random numbers while it runs: {_named(random)}. No two runs give the same, so that nothing can be calibrated "
            "or compared: export it for inference, without noise and sampling, or make the random numbers an input."
        )
    _check_lengths(pivot, origin)
    flow = [(op, subgraph) for op, subgraph in everything if op.name in CALLS]
    if flow:
        raise ConversionError(
            f"{origin} has control flow, whose inner ranges cannot be measured: {_named(flow)}. Recurrent layers convert when they "
            "are unrolled (`unroll=True`); a branch has to be decided before the model is exported."
        )
    inner = [(op, subgraph) for op, subgraph in everything if op.name in RUN_SUBGRAPHS]
    if inner or len(pivot.graph.subgraphs) > 1:
        named = _named(inner) or f"{len(pivot.graph.subgraphs)} subgraphs"
        raise ConversionError(
            f"{origin} has operators with functions of their own, whose inner ranges cannot be measured: {named}. Replace the layers "
            "that make them with others (the best k values can be taken with top_k, a sort cannot), or cut the model before them."
        )


def _check_lengths(pivot: ModelFile, origin: str) -> None:
    """See that outputs have the same sizes in every run, as those of a quantised file and of its proof have to."""
    main = pivot.graph.main
    behind: dict[int, Op] = {}
    certain: set[int] = set()
    for op in main.ops:
        maker = op if op.name in _OPEN_ENDED else next((behind[index] for index in op.inputs if index in behind), None)
        if maker is not None:
            behind.update(dict.fromkeys(op.outputs, maker))
        if maker is op or (op.name in _LENGTH_KEEPING and not certain.isdisjoint(op.inputs)):
            certain.update(op.outputs)
    for index, spec in zip(main.outputs, pivot.outputs, strict=True):
        # A file that was made so does not always say that the size is open.
        if index in certain or (index in behind and -1 in spec.shape):
            maker = behind[index]
            raise ConversionError(
                f"{origin}: the output {spec.name!r} is as long as the data say: {_named([(maker, main)])}. Outputs of fixed sizes "
                "were expected: give the whole tensor out, or a fixed number of its best values (top_k), and choose behind the model."
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

"""Whether a file's second signature, for several samples in one run, gives what single runs give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, EngineError
from edgekit.graph import Graph
from edgekit.modelfile import ModelFile, batch_key
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import Array, TensorSpec
from edgekit_convert.graph.batch import in_one_run, with_batch

#: Single runs that a batch is compared with, at most; at least one batch is run.
MOST_COMPARED = 64
#: By so much, relative to the output's size, floats of the two may differ: kernels add up in another order.
_FLOAT_TOLERANCE = 1e-4


def check_batch_possible(flatbuffer: bytes, size: int) -> None:
    """See that a graph works for several samples in one run; what it computes then is not looked at.

    Args:
        flatbuffer: a model with all sizes fixed, its inputs' first ones at 1.
        size: samples in one run.

    Raises:
        ConversionError: it does not; the operator is named.
    """
    try:
        with_batch(flatbuffer, size)
    except ConversionError as error:
        try:
            with_batch(flatbuffer, size, moved=True)
        except ConversionError:
            raise error from None


def with_proven_batch(
    flatbuffer: bytes, size: int, samples: Sequence[dict[str, Array]], spec: DelegateSpec
) -> tuple[bytes, str]:
    """Give a model a second signature that was seen to give what single runs give.

    Args:
        flatbuffer: a model with all sizes fixed, its inputs' first ones at 1.
        size: samples in one run.
        samples: see ``prove_batch``.
        spec: the delegate.

    Returns:
        The model with both signatures, and what was seen.

    Raises:
        ConversionError: there is no such signature; the reason is that of the graph as it stands.
    """
    try:
        model = with_batch(flatbuffer, size)
        return model, prove_batch(model, size, samples, spec)
    except ConversionError as error:
        try:
            model = with_batch(flatbuffer, size, moved=True)
            return model, prove_batch(model, size, samples, spec)
        except ConversionError:
            raise error from None


def prove_batch(flatbuffer: bytes, size: int, samples: Sequence[dict[str, Array]], spec: DelegateSpec) -> str:
    """Run both signatures of a model on the same samples.

    Args:
        flatbuffer: what ``with_batch`` gave.
        size: samples in one run.
        samples: inputs by name, each with a first size of 1; fewer than ``size`` are repeated.
        spec: the delegate.

    Returns:
        What was seen, in words.

    Raises:
        ConversionError: the signature does not run, or several samples together come out otherwise than one by one.
    """
    model, choice = ModelFile.read(flatbuffer), DelegateChoice(spec, "a batch against single runs")
    count = max(size, min(len(samples), MOST_COMPARED) // size * size)
    rows = [samples[number % len(samples)] for number in range(count)]
    worst, exact = 0.0, True
    try:
        with Session(model, choice) as one, Session(model, choice, signature=batch_key(size)) as many:
            for start in range(0, count, size):
                group = rows[start : start + size]
                singles = []
                for row in group:
                    one.reset()
                    singles.append(_named(one.run(row), one.outputs))
                many.reset()
                joined = {name: np.concatenate([row[name] for row in group]) for name in group[0]}
                together = _named(many.run(joined), many.outputs)
                for output in one.outputs:
                    found, same = _difference(
                        model.graph, output, [item[output.name] for item in singles], together[output.name], size
                    )
                    worst, exact = max(worst, found), exact and same
    except EngineError as error:
        raise ConversionError(f"{in_one_run(size)}: {error}") from error
    seen = "the very values" if exact else f"within {worst:.1g} of the output's size of what"
    return f"signature {batch_key(size)}: {size} samples in one run give {seen} {'that ' if exact else ''}they give one by one"


def _named(result: Any, outputs: Sequence[TensorSpec]) -> dict[str, Array]:
    return dict(result) if isinstance(result, dict) else {outputs[0].name: result}


def _difference(graph: Graph, spec: TensorSpec, singles: list[Array], together: Array, size: int) -> tuple[float, bool]:
    """By how much a batch differs from single runs, relative to the output's size, and whether it does at all."""
    if _constant(graph, spec):
        return 0.0, np.array_equal(singles[0], together)
    if any(single.ndim == 0 for single in singles) or together.shape != np.concatenate(singles).shape:
        raise ConversionError(
            f"{in_one_run(size)}: the output {spec.name!r} has sizes {list(together.shape)}, and {list(singles[0].shape)} for one "
            f"sample: its first size does not count samples{_culprit(graph)}."
        )
    expected = np.concatenate(singles)
    if expected.dtype.kind not in "fiu":
        if not np.array_equal(expected, together):
            raise _apart(graph, spec, size)
        return 0.0, True
    apart = np.abs(np.asarray(expected, np.float64) - together)
    largest, extent = float(apart.max(initial=0.0)), float(np.abs(expected).max(initial=0.0)) or 1.0
    # One step where an output is integers: floats inside, which differ by rounding, may fall on either side.
    allowed = max(spec.quant.scales) * 1.001 if spec.quant is not None else _FLOAT_TOLERANCE * extent
    if not largest <= allowed:
        raise _apart(graph, spec, size)
    return largest / extent, largest == 0


def _constant(graph: Graph, spec: TensorSpec) -> bool:
    """Whether an output is a constant of the file, which is the same for any number of samples."""
    main = graph.main
    named = {name: index for item in graph.signatures if item.subgraph == 0 for name, index in item.outputs}
    return spec.name in named and main.tensors[named[spec.name]].data is not None


def _apart(graph: Graph, spec: TensorSpec, size: int) -> ConversionError:
    return ConversionError(
        f"{in_one_run(size)}: the output {spec.name!r} is another than that of single runs, so samples are mixed{_culprit(graph)}."
    )


def _culprit(graph: Graph) -> str:
    """The first operator whose result does not have just the scaled first size."""
    one, many = graph.subgraphs[0], graph.subgraphs[1]
    scale = many.tensors[many.inputs[0]].shape[0]
    for op in one.ops:
        for index in op.outputs:
            before, after = one.tensors[index].shape, many.tensors[index].shape
            if after != ((before[0] * scale, *before[1:]) if before else ()):
                return f" (first at {op.name} {one.tensors[index].name!r}: {list(before)} became {list(after)})"
    return ""

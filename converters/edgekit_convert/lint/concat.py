"""Tensors of very different size joined into one, such as boxes and scores in one output."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit_convert.graph.wiring import SHAPE_ONLY
from edgekit_convert.lint.finding import LintFinding, listed
from edgekit_convert.lint.seen import Seen, steps, steps_left, words

#: With fewer steps than this a part's own signal-to-noise ratio is below 6.02 dB x log2(32) = 30 dB whatever else is done,
#: which is what whole int8 models keep: from there on the join is the worst place of the graph.
FEWEST_STEPS = 32
_JOINS = frozenset({"CONCATENATION", "PACK"})


def find(seen: Seen) -> Iterator[LintFinding]:
    """Each join that leaves one of its parts too few steps. Needs ranges."""
    wiring = seen.wiring
    for op in wiring.main.ops:
        if op.name not in _JOINS or not wiring.is_activation(op.outputs[0]):
            continue
        parts = {index: span for index in op.inputs if (span := seen.span(index)) is not None}
        if not parts:
            continue
        whole = (min(span[0] for span in parts.values()), max(span[1] for span in parts.values()))
        poor = [index for index, span in parts.items() if span[0] < span[1] and steps(span, whole) < FEWEST_STEPS]
        if not poor:
            continue
        name = wiring.name(op)
        detail = ", ".join(
            f"{wiring.tensor(index).name!r} ({words(parts[index])}) keeps {steps_left(steps(parts[index], whole))}"
            for index in poor
        )
        text = f"{op.name} {name!r} joins tensors of very different ranges into one of {words(whole)}, and int8 has one scale for all: {detail}."
        if wiring.reaches_output(op.outputs[0], SHAPE_ONLY | _JOINS):
            chain = _chain(seen, op.outputs[0])
            fix = (
                f"Its values leave the model: use float32 outputs (--io float32) and leave {listed(chain)} in float, so that "
                "each part keeps a scale of its own; or export the parts as separate outputs."
            )
        else:
            chain = tuple(dict.fromkeys([name, *(wiring.name(reader) for reader in wiring.readers(op.outputs))]))
            fix = (
                "Scale the parts alike in the model (the weights of the next layer can take the factor back), or leave "
                f"{listed(chain)} in int16 or float."
            )
        yield LintFinding(
            "warning", "mixed-concat", (name, *(wiring.tensor(index).name for index in poor)), text, fix, chain
        )


def _chain(seen: Seen, index: int) -> tuple[str, ...]:
    """The join and what follows it up to the output."""
    wiring = seen.wiring
    names = [wiring.tensor(index).name]
    pending = [index]
    while pending:
        for reader in wiring.read_by.get(pending.pop(), ()):
            names.append(wiring.name(reader))
            pending += reader.outputs
    return tuple(dict.fromkeys(names))

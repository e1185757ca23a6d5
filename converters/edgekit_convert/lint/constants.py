"""Operators on constants alone, and inputs that do nothing."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit_convert.lint.finding import LintFinding, listed, mended
from edgekit_convert.lint.seen import Seen
from edgekit_convert.rewrite import fold


def find(seen: Seen) -> Iterator[LintFinding]:
    """One finding for what can be computed beforehand, and one for each input that is unused or never changes."""
    wiring = seen.wiring
    main = wiring.main
    folded = fold.find(seen.graph)
    if folded:
        names = tuple(wiring.name(op) for op in folded)
        kinds = ", ".join(sorted({op.name for op in folded}))
        text = (
            f"{len(folded)} operators ({kinds}: {listed(names)}) have only constant inputs: they compute the same at every run, and "
            "in int8 their results are rounded twice."
        )
        if len(folded) == 1:
            text = (
                f"{kinds} {names[0]!r} has only constant inputs: it computes the same at every run, and in int8 its result is "
                "rounded twice."
            )
        rule = seen.mends("fold")
        fix = mended(rule) if rule else "Put the result into the model in its place."
        yield LintFinding("note" if rule else "warning", "constant-operator", names, text, fix, (), rule)
    for index in main.inputs:
        name = main.tensors[index].name
        span = seen.extent(index)
        if index not in wiring.read_by and index not in main.outputs:
            text = f"input {name!r} is read by no operator: whatever it is given changes nothing."
            yield LintFinding("warning", "unused-input", (name,), text, "Export the model without it.")
        elif span is not None and span[0] == span[1]:
            text = (
                f"input {name!r} is {span[0]:.4g} everywhere in all calibration samples: its int8 range is made for that one number, "
                "and any other is cut off."
            )
            fix = (
                "Give calibration data in which it varies as it will on the device, or make it a constant of the model."
            )
            yield LintFinding("warning", "fixed-input", (name,), text, fix)

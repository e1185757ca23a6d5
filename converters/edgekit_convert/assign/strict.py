"""What it costs that every operator is in int8: recipe ``int8``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.errors import EngineError
from edgekit.modelfile import ModelFile
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.placement import GAIN, LEAST_NS, in_words
from edgekit_convert.calibration import Finding


@dataclass(frozen=True)
class StrictCost:
    """What it costs that every operator is in int8.

    Attributes:
        outside: how many operators of each name the delegate leaves to the interpreter's own kernels.
        int8_ns: one run; ``None`` where it cannot be run, or where nothing is outside and there was no reason to measure.
        float_ns: one run of the float model, measured beside it.
    """

    outside: dict[str, int]
    int8_ns: float | None
    float_ns: float | None

    def findings(self) -> tuple[Finding, ...]:
        """The price, where there is one."""
        if self.int8_ns is None or self.float_ns is None:
            return ()
        ratio = self.int8_ns / self.float_ns
        slower = self.int8_ns > max((1 + GAIN) * self.float_ns, self.float_ns + LEAST_NS)
        names = ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in self.outside.items())
        text = f"strictly int8: {in_words(self.int8_ns)}, {ratio:.2f} times the float model's {in_words(self.float_ns)}"
        if names:
            text += f". The delegate does not take {names}"
        if slower:
            text += ". The recipe auto leaves operators in float where that is faster"
        return (Finding("warning" if slower else "note", "strict-int8", f"{text}."),)

    def to_json(self) -> dict[str, Any]:
        """The manifest's form; without times, which differ each time."""
        return {"outside": self.outside}


def strict_cost(quantised: bytes, baseline: bytes, costs: CostTable) -> StrictCost:
    """Measure what it costs that every operator is in int8, where the delegate does not take all of them.

    Args:
        quantised: the int8 flatbuffer.
        baseline: the float model as the user has it.
        costs: times on the delegate that will run the model.
    """
    try:
        outside = costs.timer.outside(quantised)
    except EngineError:  # the proof says what does not load
        return StrictCost({}, None, None)
    if not outside:
        return StrictCost({}, None, None)
    counts: dict[str, int] = {}
    main = ModelFile.read(quantised).graph.main
    for op in main.ops:
        if op.outputs and main.tensors[op.outputs[0]].name in outside:
            counts[op.name] = counts.get(op.name, 0) + 1
    times = costs.beside({"int8": quantised, "float": baseline})
    return StrictCost(dict(sorted(counts.items())), times["int8"], times["float"])

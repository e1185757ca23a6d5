"""``check``: which operators of a model the Edge TPU compiler would map, before it is run."""

from __future__ import annotations

from edgekit.errors import OptionError
from edgekit.graph import Op, Subgraph
from edgekit.inspection import count_macs
from edgekit.modelfile import ModelFile
from edgekit_convert.edgetpu.limits import Obstacle
from edgekit_convert.edgetpu.obstacles import obstacle, refusal
from edgekit_convert.edgetpu.operators import NEWEST_RUNTIME, OLDEST_RUNTIME
from edgekit_convert.edgetpu.partition import behind, divide
from edgekit_convert.edgetpu.report import BEHIND, REFUSED, EdgetpuOp, EdgetpuReport
from edgekit_convert.edgetpu.sources import COMPILING, issue


def check(model: ModelFile, *, runtime: int = NEWEST_RUNTIME, multiple: bool = False) -> EdgetpuReport:
    """Predict what the Edge TPU compiler would make of a model.

    The rules are those that Google published, and what the compiler was seen to do where they leave a question open
    (docs/edge-tpu.md). The compiler maps one part of the graph: the operators that it can map without passing through one
    that it cannot. Everything behind stays on the CPU.

    Args:
        model: a quantised model that was not compiled yet.
        runtime: the oldest Edge TPU runtime that it has to run on (the compiler's ``--min_runtime_version``), from 10 to 14.
        multiple: whether further parts are compiled as well (the compiler's experimental option ``-a``).

    Raises:
        OptionError: there is no such runtime.
    """
    if not OLDEST_RUNTIME <= runtime <= NEWEST_RUNTIME:
        raise OptionError(f"Edge TPU runtime {runtime}: from {OLDEST_RUNTIME} to {NEWEST_RUNTIME} were expected.")
    main = model.graph.main
    found = [obstacle(op, main, runtime) for op in main.ops]
    outside = [item is not None and item.blocks for item in found]
    refused = refusal(model.graph, model.data)
    parts = [members for ours, members in divide(main, [not blocked for blocked in outside]) if ours]
    kept = [] if refused is not None else parts if multiple else parts[:1]
    mapped = {index for members in kept for index in members}
    blockers = behind(main, outside)
    ops = tuple(
        _judged(main, op, found[op.index], op.index in mapped, blockers.get(op.index), refused) for op in main.ops
    )
    return EdgetpuReport(runtime, multiple, refused.text if refused is not None else None, len(kept), ops)


def _judged(
    main: Subgraph, op: Op, found: Obstacle | None, mapped: bool, blocker: int | None, refused: Obstacle | None
) -> EdgetpuOp:
    code, reason, source, certain = None, None, None, True
    if found is not None:
        reason, source, certain = found.text, found.source, found.certain
        code = found.code if found.blocks else None
    if not mapped and code is None:
        if refused is not None:
            code, reason, source, certain = (
                REFUSED,
                f"the compiler refuses the file: {refused.text}",
                refused.source,
                True,
            )
        else:
            code, reason, source, certain = BEHIND, _behind(main, blocker), f"{COMPILING}; {issue(461)}", True
    output = main.tensors[op.outputs[0]].name if op.outputs else ""
    return EdgetpuOp(op.index, op.name, output, mapped, code, reason, source, certain, count_macs(main, op))


def _behind(main: Subgraph, blocker: int | None) -> str:
    if blocker is None:
        return "the compiler maps one part of the graph, and it is not in the first"
    return (
        f"it could run there, and needs the result of operator {blocker} ({main.ops[blocker].name}), which stays on the CPU: "
        "the compiler maps one part, everything behind the cut is left"
    )

"""The whole conversion, readable in one function; each stage is a module of ``stages``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit_convert.conversion import Conversion
from edgekit_convert.frontends import Opening
from edgekit_convert.options import Demands, Files, Progress, Reading, Recipe, Target
from edgekit_convert.stages.compiling import check_possible, compile_for_target
from edgekit_convert.stages.exporting import export
from edgekit_convert.stages.finishing import finish
from edgekit_convert.stages.gating import meet_gates
from edgekit_convert.stages.measuring import measure_graph
from edgekit_convert.stages.preparing import prepare
from edgekit_convert.stages.proving import prove
from edgekit_convert.stages.quantising import quantise
from edgekit_convert.stages.rewriting import rewrite_graph


def convert(
    source: Any,
    calibration: Any,
    *,
    recipe: Recipe,
    reading: Reading,
    target: Target,
    demands: Demands,
    files: Files,
    opening: Opening | None = None,
    verify: Any = None,
    labels: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Convert and prove.

    Args:
        source: the trained model.
        calibration: representative data.
        recipe: what to quantise to.
        reading: how data become what the model was trained on.
        target: what the file is to run on.
        demands: what it has to hold to.
        files: what is read and written.
        opening: how the source is opened.
        verify: further data that the proof runs on.
        labels: class names, in output order.
        progress: called as ``progress(step, done, total)``.

    Raises:
        EdgekitError: the source, the data or an option is not usable, or the result fails a gate.
    """
    tell: Progress = progress or (lambda step, done, total: None)
    check_possible(recipe, target, files)

    # Trained model → float .tflite, the one pivot format; data that were looked through.
    prepared = prepare(
        source, calibration, verify, opening=opening or Opening(), reading=reading, target=target, gates=demands.gates,
        files=files, tell=tell,
    )  # fmt: skip
    # The same network, spelled as int8 and the delegate like it.
    graph = rewrite_graph(prepared, recipe, target, tell)
    # Calibrate → ranges, and what of them will hurt.
    measured = measure_graph(prepared, graph.model, files.statistics, tell)
    # Quantise → int8 graph, float where that is faster; refine → better constants, same kernels.
    quantised = quantise(prepared, graph.model, measured, recipe=recipe, target=target, tell=tell)
    # Where plain int8 misses a gate, the cheapest operators leave it.
    gated = meet_gates(prepared, quantised, measured.prefer, recipe=recipe, demands=demands, tell=tell)
    if files.cost_table is not None and recipe.measures_times:
        prepared.costs.save(files.cost_table)
    # The file: edges, labels, metadata.
    exported = export(prepared, gated.model, recipe.io, labels)
    # Verify: float against int8, gates, proof.
    proven = prove(prepared, quantised, gated, exported, recipe=recipe, target=target, demands=demands, tell=tell)
    # int8 model.tflite with its manifest inside.
    asked = {"name": recipe.name, "io": recipe.io, "device": target.choice.profile_id, "effort": recipe.effort}
    conversion = finish(
        prepared,
        exported,
        proven.report,
        recipe={**asked, **graph.to_json(), **quantised.to_json(), **gated.to_json()},
        findings=[
            finding
            for stage in (prepared, graph, measured, quantised, gated, exported, proven)
            for finding in stage.findings
        ],
        target=target,
        keep_failing=demands.keep_failing,
    )
    # For an Edge TPU: which operators its compiler maps, and the compiler where it is installed.
    conversion = compile_for_target(conversion, target, tell)
    if files.output is not None:
        conversion.save(files.output, overwrite=files.overwrite)
    return conversion

"""Seventh stage: the proof on the exported file, and what the delegate leaves outside of it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit import manifest as packing
from edgekit.errors import EdgekitError
from edgekit.files import write_whole
from edgekit.manifest import Manifest
from edgekit.modelfile import ModelFile
from edgekit_convert.assign.placement import in_words
from edgekit_convert.calibration import Finding
from edgekit_convert.delegate.learned import Capabilities
from edgekit_convert.delegate.report import delegate_report
from edgekit_convert.options import Demands, Progress, Recipe, Target
from edgekit_convert.quantize import operators_of
from edgekit_convert.stages.exporting import Exported
from edgekit_convert.stages.gating import Gated
from edgekit_convert.stages.preparing import Prepared
from edgekit_convert.stages.quantising import Quantised
from edgekit_convert.verify import VerifyReport, verify


@dataclass(frozen=True)
class Proven:
    """The proof.

    Attributes:
        report: what was checked and compared.
        findings: what the delegate leaves outside, and whether the float model is any good.
    """

    report: VerifyReport
    findings: tuple[Finding, ...]


def prove(
    prepared: Prepared,
    quantised: Quantised,
    gated: Gated,
    exported: Exported,
    *,
    recipe: Recipe,
    target: Target,
    demands: Demands,
    tell: Progress,
) -> Proven:
    """Compare the exported file with the pivot on all data, and check it against what was asked.

    Args:
        prepared: the pivot and the data.
        quantised: for what left int8 for speed.
        gated: for what left int8 for a gate, and the gates themselves.
        exported: the file.
        recipe: what it claims to be.
        target: what it is to run on.
        demands: what it has to hold to.
        tell: called as ``tell(step, done, total)``.
    """
    placed, rescued = quantised.placed, gated.rescued
    given_up = {
        **({item.name: item.reason for item in placed.left_out} if placed is not None else {}),
        **(dict.fromkeys(rescued.layers, "given up for the gate") if rescued is not None else {}),
    }
    report = _verify_exported(prepared, exported.flatbuffer, recipe, target, demands, given_up, tell)
    partitions = _partitions(prepared, exported.model, target)
    decided_on = "the verification data" if "verify" in prepared.sets else "held-out calibration data"
    report = gated.with_checks(report, exported.model, decided_on)
    return Proven(report, (*partitions, *_chance(report, prepared.pivot)))


def _verify_exported(
    prepared: Prepared,
    flatbuffer: bytes,
    recipe: Recipe,
    target: Target,
    demands: Demands,
    given_up: Mapping[str, str],
    tell: Progress,
) -> VerifyReport:
    """Write the file, read it back, and check what was read."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "model.tflite"
        draft = packing.append(flatbuffer, Manifest(hashlib.sha256(flatbuffer).hexdigest()))
        write_whole(path, draft, overwrite=False)
        return verify(
            prepared.float_model,
            ModelFile.read(path)._replace(location=None),  # the temporary name means nothing to anyone
            prepared.sets,
            io_type=recipe.io,
            strict=recipe.name == "int8",
            allow_custom=demands.allow_custom,
            int8_operators=operators_of(recipe.name),
            metric=demands.metric,
            choice=target.choice,
            progress=tell,
            recipe=recipe.name,
            given_up=given_up,
        )


def _partitions(prepared: Prepared, model: bytes, target: Target) -> list[Finding]:
    """What the delegate leaves outside of the finished file, and why."""
    try:
        if target.edgetpu or prepared.spec.kind != "xnnpack" or not prepared.costs.timer.outside(model):
            return []
        python = target.runtime_python
        report = delegate_report(
            ModelFile.read(model),
            prepared.spec,
            costs=prepared.costs,
            measure=target.elsewhere is None and python is None and prepared.costs.of_this_machine,
            learned=Capabilities(prepared.spec.kind, python=python) if python is not None else None,
            target=target.elsewhere,
        )
    except EdgekitError:  # the proof says what does not load
        return []
    rows = [
        f"{group.name}{f' ×{group.count}' if group.count > 1 else ''} outside the delegate"
        f"{'' if group.ns is None else f', {in_words(group.ns)}'}: {group.text}."
        for group in report.groups()
        if group.text is not None
    ]
    return [Finding("note", "partitions", text) for text in (f"{report.summary()}.", *rows)]


def _chance(report: VerifyReport, pivot: ModelFile) -> list[Finding]:
    """A float model that guesses is a model whose inputs are not what it was trained on."""
    found = []
    classes = pivot.outputs[0].shape[-1] if pivot.outputs[0].shape else 1
    for name, figures in report.on.items():
        if figures.metric is None or figures.metric.name != "accuracy" or figures.count < 30:
            continue
        share = figures.metric.float_model
        if share.high < 1.5 / classes or share.low <= 1 / classes <= share.high:
            found.append(
                Finding(
                    "warning",
                    "float-at-chance",
                    f"the float model itself is right on {100 * share.value:.1f} % of the {name} data, about chance for "
                    f"{classes} classes. Its inputs are probably not what it was trained on: check --normalize, --color and "
                    "the order of the labels.",
                )
            )
    return found

"""The whole conversion, readable in one function."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import manifest as packing
from edgekit.errors import ConversionError, EdgekitError, EngineError, OptionError, one_of
from edgekit.files import check_writable, write_whole
from edgekit.golden import Golden
from edgekit.manifest import Manifest
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing, from_options
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.tensors import Array
from edgekit.version import __version__
from edgekit_convert import graph as editing
from edgekit_convert.assign import rescue
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.assign.gates import Gates, Prover
from edgekit_convert.assign.placement import place, strict_cost
from edgekit_convert.assign.timer import Elsewhere
from edgekit_convert.calibration import CalibrationSet, Finding, Ready, audit, preprocessing_for
from edgekit_convert.calibration.data import open_data
from edgekit_convert.conversion import Conversion
from edgekit_convert.delegate.report import delegate_report
from edgekit_convert.frontends import Source, open_source
from edgekit_convert.lint import lint
from edgekit_convert.package import ENTRY as STANDARD_ENTRY
from edgekit_convert.package import golden_data, standard_metadata
from edgekit_convert.package.oldest import oldest_runtime
from edgekit_convert.package.versions import with_versions
from edgekit_convert.quantize import int8_operators, io_for, operators_of, quantize
from edgekit_convert.ranges import Statistics, measure, statistics_file
from edgekit_convert.refine.judge import Judge
from edgekit_convert.refine.scales import fit_biases
from edgekit_convert.refine.steps import EFFORTS, Refinery
from edgekit_convert.rewrite import Rewritten, rewrite
from edgekit_convert.rewrite.delegate import DelegateRewritten, in_one_line, rewrite_for_delegate
from edgekit_convert.verify import VerifyReport, runnable_here
from edgekit_convert.verify import verify as prove

Progress = Callable[[str, int, int], None]
#: The float stage may differ from the original framework by rounding only.
_FLOAT_TOLERANCE = 1e-3
_FLOAT_SAMPLES = 8
#: Samples that the rescue estimates on, and those that decide between types that are about as fast.
_RESCUE_SAMPLES, _PLACEMENT_SAMPLES = 32, 16


def convert(
    source: Any,
    calibration: Any,
    *,
    output: Path | None,
    recipe: str,
    effort: str,
    io: str | None,
    normalize: Sequence[float] | str | None,
    resize: tuple[int, int] | str | None,
    color: str | None,
    preprocessing: Mapping[str, Preprocessing] | None,
    labels: Sequence[str] | None,
    choice: DelegateChoice,
    target: str | None,
    delegate_rules: bool,
    verify: Any,
    metric: Any,
    gates: Gates,
    keep_failing: bool,
    cost_table: Path | None,
    runtime_python: str | None,
    statistics_path: Path | None,
    samples: int,
    allow_custom: tuple[str, ...],
    overwrite: bool,
    progress: Progress | None,
) -> Conversion:
    """Convert and prove.

    ``edgekit.convert`` documents the arguments; ``choice`` is the target's delegate, ``target`` its name where it is not this machine.
    """
    tell: Progress = progress or (lambda step, done, total: None)
    io = io_for(recipe, io)
    one_of(effort, EFFORTS, "effort")
    options = from_options(normalize, resize, color)
    if preprocessing is not None and options != Preprocessing():
        raise OptionError("both preprocessing and one of normalize, resize, color were given: use one of the two ways.")
    if output is not None:
        check_writable(output, overwrite=overwrite)
    if statistics_path is not None and not statistics_path.exists():
        check_writable(statistics_path, overwrite=False)

    tell("Reading the model", 0, 0)
    opened = open_source(source)
    prepared = dict(preprocessing) if preprocessing is not None else preprocessing_for(opened.inputs, options)
    _check_names(prepared, opened)
    data = CalibrationSet(open_data(calibration, opened.inputs, samples, "calibration"), opened.inputs, prepared)
    sets = {"calibration": data}
    if verify is not None:
        sets["verify"] = CalibrationSet(
            open_data(verify, opened.inputs, samples, "verification"), opened.inputs, prepared
        )

    tell("Making the float .tflite", 0, 0)
    float_model = opened.export(data.pinned())
    pivot = ModelFile.read(float_model)
    by_name, by_place = {spec.name for spec in pivot.inputs}, [spec.name for spec in opened.inputs]
    if by_name != set(by_place):
        raise ConversionError(
            f"the float model's inputs are {sorted(by_name)}, the source's {by_place}: please report this model."
        )
    data, sets = _fixed(sets, pivot)
    gates.check_possible(pivot, data, sets.get("verify"))
    spec = runnable_here(choice)
    costs = CostTable.open(cost_table, spec, Elsewhere(spec, runtime_python) if runtime_python is not None else None)
    if runtime_python is not None:
        costs.check_timer()
    if cost_table is not None:
        check_writable(cost_table, overwrite=True)
    found = audit(
        data,
        said_raw=normalize == "none",
        graph=pivot.graph,
        input_scale=opened.input_scale,
        progress=lambda done, total: tell("Auditing the calibration data", done, total),
    )
    findings = [*found.findings, *(Finding("note", "source", note) for note in opened.notes)]
    findings += _compare_float_stage(opened, pivot, data)

    tell("Rewriting the graph", 0, 0)
    rewritten, rules = rewrite(float_model, data)
    findings += [_rule_finding(item) for item in rules]

    respelled: tuple[DelegateRewritten, ...] = ()
    if delegate_rules and choice.spec.kind == "xnnpack":
        rewritten, respelled = rewrite_for_delegate(
            rewritten, data, recipe=recipe, io=io, spec=spec, ranges=None, costs=costs, progress=tell
        )
        line = in_one_line(respelled)
        findings += [Finding("note", "delegate-rewrite", f"{line}.")] if line is not None else []

    held_out = found.parts.held_out_numbers

    def measured(model: bytes, step: str) -> Statistics:
        return measure(model, data, lambda done: tell(step, done, found.count), apart=held_out)

    statistics, reused = _statistics(rewritten, found.fingerprint, statistics_path, measured)
    findings += reused
    linted = lint(
        ModelFile.read(rewritten).graph,
        statistics,
        int8_operators(),
        extremes=statistics.extremes,
        rules_ran=True,
    )
    placed = None
    if recipe == "auto" and choice.spec.kind == "xnnpack":
        plain, _ = fit_biases(quantize(rewritten, statistics.ranges, io), rewritten)
        placed = place(
            plain,
            rewritten,
            statistics.ranges,
            baseline=float_model,
            costs=costs,
            noise=_judged_by(rewritten, _in_order(found.parts.refining[:_PLACEMENT_SAMPLES], pivot), spec),
            prefer=[name for item in linted for name in item.leave_out],
            progress=tell,
        )
        findings += placed.findings(target)
    apart = placed.layers if placed is not None else {}
    # What was found in operators that stay in float anyway hurts nobody.
    findings += [item.as_finding() for item in linted if not (item.leave_out and apart.keys() >= set(item.leave_out))]
    refinery = Refinery(
        refining=_in_order(found.parts.refining, pivot),
        held_out=_in_order(found.parts.held_out, pivot),
        io=io,
        recipe=recipe,
        spec=spec,
        remeasure=lambda model: measured(model, "Measuring ranges after equalisation"),
        progress=tell,
        layers=placed.layers if placed is not None else None,
    )
    refined = refinery.run(rewritten, statistics, effort)
    findings += [step.finding() for step in refined.steps] + list(refined.findings)
    quantised = refined.model
    if recipe == "int8" and choice.spec.kind == "xnnpack":
        findings += strict_cost(quantised, float_model, costs).findings()
    prover = rescued = None
    if gates.any:
        only = frozenset() if "verify" in sets else held_out
        with contextlib.suppress(EngineError):  # the proof will say that the float model does not run
            prover = Prover(float_model, sets.get("verify", data), metric=metric, spec=spec, only=only)
    if prover is not None and recipe == "auto":
        rescued = rescue(
            quantised,
            refined.float_model,
            refined.ranges,
            gates=gates,
            prove=prover,
            samples=_in_order(found.parts.refining[:_RESCUE_SAMPLES], pivot),
            costs=costs,
            io=io,
            prefer=[name for item in linted for name in item.leave_out],
            progress=tell,
        )
        quantised = rescued.model
        findings += rescued.findings()
    if cost_table is not None and recipe in ("auto", "int8"):
        costs.save(cost_table)
    if io == "uint8":
        quantised = editing.uint8_edges(quantised)

    names = _labels(labels, sets.get("verify", data).source.label_names or data.source.label_names)
    if names and len(names) not in {spec.shape[-1] for spec in pivot.outputs if spec.shape}:
        text = f"{len(names)} labels, and no output has as many values ({_outputs(pivot)}): are they this model's?"
        findings.append(Finding("warning", "label-count", text))
    flatbuffer = _finish(quantised, opened, prepared, names)
    report = _verify_exported(
        float_model,
        flatbuffer,
        sets,
        io=io,
        recipe=recipe,
        allow_custom=allow_custom,
        metric=metric,
        choice=choice,
        given_up={
            **({item.name: item.reason for item in placed.left_out} if placed is not None else {}),
            **(dict.fromkeys(rescued.layers, "given up for the gate") if rescued is not None else {}),
        },
        tell=tell,
    )
    partitions = _partitions(quantised, spec, target, costs)
    findings += partitions
    decided_on = "the verification data" if "verify" in sets else "held-out calibration data"
    report = _with_gates(report, gates, prover, quantised, decided_on)
    findings += _chance(report, pivot)
    golden, runtime = _golden(flatbuffer, found.parts.held_out, choice, report)
    manifest = Manifest(
        sha256=hashlib.sha256(flatbuffer).hexdigest(),
        preprocessing=prepared,
        labels=names,
        recipe={
            "name": recipe,
            "io": io,
            "device": choice.profile_id,
            "effort": effort,
            "rewrites": {item.rule.name: item.count for item in rules if item.kept},
            **({"delegate_rewrites": [item.to_json() for item in respelled]} if respelled else {}),
            "refinements": [step.to_json() for step in refined.steps],
            **({"placement": placed.to_json()} if placed is not None else {}),
            **({"gates": gates.to_json()} if gates.any else {}),
            **({"rescue": rescued.to_json()} if rescued is not None else {}),
        },
        source={"kind": opened.kind, "name": opened.name, "float_sha256": pivot.sha256},
        calibration=found.to_json(),
        verification=report.to_json(),
        runtime=runtime,
        tools=_tools(),
        golden=golden.to_json() if golden is not None else {},
    )
    if not (report.passed or keep_failing):
        report.require()
    model = ModelFile.read(packing.append(flatbuffer, manifest, golden.content if golden is not None else None))
    conversion = Conversion(model, float_model, report, found, tuple(findings))
    if output is not None:
        conversion.save(output, overwrite=overwrite)
    return conversion


def _statistics(
    model: bytes, fingerprint: str, path: Path | None, measured: Callable[[bytes, str], Statistics]
) -> tuple[Statistics, list[Finding]]:
    """What was measured on the float model: read from the file where there is one, else measured and written there."""
    step, sha256 = "Measuring ranges", hashlib.sha256(model).hexdigest()
    if path is None:
        return measured(model, step), []
    if path.exists():
        statistics = statistics_file.load(path, fingerprint=fingerprint, model_sha256=sha256)
        return statistics, [
            Finding("note", "statistics", f"activation statistics read from {path}, not measured again.")
        ]
    statistics = measured(model, step)
    statistics_file.save(path, statistics, fingerprint=fingerprint, model_sha256=sha256)
    return statistics, []


def _judged_by(float_model: bytes, samples: Sequence[Sequence[Array]], spec: DelegateSpec) -> Callable[[bytes], float]:
    """What tells a file's noise share on some samples; nothing is run before it is asked."""
    judge = functools.cache(lambda: Judge(float_model, samples, spec))
    return lambda model: float(judge().noise(model).mean())


def _partitions(model: bytes, spec: DelegateSpec, target: str | None, costs: CostTable) -> list[Finding]:
    """What the delegate leaves outside of the finished file, and why."""
    try:
        if spec.kind != "xnnpack" or not costs.timer.outside(model):
            return []
        report = delegate_report(ModelFile.read(model), spec, target=target)
    except EdgekitError:  # the proof says what does not load
        return []
    rows = [
        f"{group.name} ×{group.count} outside the delegate: {group.text}"
        for group in report.groups()
        if group.text is not None
    ]
    return [Finding("note", "partitions", text) for text in (f"{report.summary()}.", *rows)]


def _with_gates(report: VerifyReport, gates: Gates, prover: Prover | None, model: bytes, on: str) -> VerifyReport:
    """The report with a check for each gate."""
    seen = prover(model) if prover is not None else None
    if seen is None:  # nothing was asked, or the file does not run, which the report says
        return report
    return replace(report, checks=(*report.checks, *gates.check(seen, on)))


def _labels(given: Sequence[str] | None, found: Sequence[str]) -> tuple[str, ...]:
    """Labels as they go into ``labels.txt``, which has one a line; those given win over those found in the data."""
    if isinstance(given, str):
        raise OptionError(f"labels is the text {given!r}: a list of class names was expected.")
    labels = tuple(found if given is None or len(given) == 0 else given)
    for label in labels:
        if not isinstance(label, str) or len(label.splitlines()) != 1:
            raise OptionError(f"the label {label!r} is not one line of text, which labels.txt needs.")
    return tuple(str(label) for label in labels)


def _outputs(model: ModelFile) -> str:
    return ", ".join(str(spec) for spec in model.outputs)


def _check_names(prepared: Mapping[str, Preprocessing], opened: Source) -> None:
    unknown = sorted(set(prepared) - {spec.name for spec in opened.inputs})
    if unknown:
        known = ", ".join(spec.name for spec in opened.inputs)
        raise OptionError(f"preprocessing for the unknown input {', '.join(unknown)}: the model has {known}.")


def _fixed(sets: dict[str, CalibrationSet], pivot: ModelFile) -> tuple[CalibrationSet, dict[str, CalibrationSet]]:
    """The same data for the pivot's fixed sizes, so that each sample is held to them."""
    fixed = {name: CalibrationSet(item.source, pivot.inputs, item.preprocessing) for name, item in sets.items()}
    return fixed["calibration"], fixed


def _compare_float_stage(opened: Source, pivot: ModelFile, data: CalibrationSet) -> list[Finding]:
    """Compare the pivot with the original framework on a few samples."""
    if opened.reference is None:
        return []
    worst = 0.0
    with Session(pivot, DelegateChoice(DelegateSpec("none", 1), "comparing with the source")) as session:
        order = sorted(spec.name for spec in session.outputs)
        for number, ready in enumerate(data):
            if number == _FLOAT_SAMPLES:
                break
            expected = opened.reference(ready.inputs)
            result = session.run(ready.inputs)
            actual = [result[name] for name in order] if isinstance(result, dict) else [result]
            for a, b in zip(expected, actual, strict=True):
                size = float(np.abs(a).max()) or 1.0
                worst = max(worst, float(np.abs(np.asarray(a, np.float64) - b).max()) / size)
    text = f"the float .tflite differs from the original by at most {worst:.1e} of the output's size"
    if worst > _FLOAT_TOLERANCE:
        return [
            Finding(
                "warning",
                "float-stage",
                f"{text}, more than {_FLOAT_TOLERANCE:.0e}: the conversion to float is not faithful.",
            )
        ]
    return [Finding("note", "float-stage", f"{text}.")]


def _in_order(samples: Sequence[Ready], pivot: ModelFile) -> list[list[Array]]:
    """Inputs in the graph's order."""
    return [[ready.inputs[spec.name] for spec in pivot.inputs] for ready in samples]


def _golden(
    flatbuffer: bytes, samples: Sequence[Ready], choice: DelegateChoice, report: VerifyReport
) -> tuple[Golden | None, dict[str, Any]]:
    """Golden inputs and outputs, and the oldest runtime that runs them; neither where the model does not run here."""
    try:
        golden = golden_data.make(flatbuffer, (ready.inputs for ready in samples), runnable_here(choice))
        return golden, oldest_runtime(flatbuffer, golden).to_json()
    except (ConversionError, EngineError):  # the proof has said so
        return None, {"proven": report.engine}


def _rule_finding(item: Rewritten) -> Finding:
    times = "once" if item.count == 1 else f"{item.count} times"
    if item.kept:
        equal = f"differ by at most {item.difference:.0e}" if item.difference else "are identical"
        return Finding("note", "rewrite", f"{item.rule.text} ({times}; the float outputs {equal}).")
    return Finding(
        "note", "rewrite", f"rule {item.rule.name!r} not applied: it would change an output by {item.difference:.1e}."
    )


def _finish(quantised: bytes, opened: Source, prepared: Mapping[str, Preprocessing], labels: tuple[str, ...]) -> bytes:
    quantised = with_versions(quantised)
    specs = ModelFile.read(quantised)
    standard = standard_metadata(opened.name, specs.inputs, specs.outputs, prepared, labels)
    return editing.with_metadata(quantised, f"edgekit {__version__}", {STANDARD_ENTRY: standard})


def _verify_exported(
    float_model: bytes,
    flatbuffer: bytes,
    sets: dict[str, CalibrationSet],
    *,
    io: str,
    recipe: str,
    allow_custom: tuple[str, ...],
    metric: Any,
    choice: DelegateChoice,
    given_up: Mapping[str, str],
    tell: Progress,
) -> VerifyReport:
    """Write the file, read it back, and check what was read."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "model.tflite"
        draft = packing.append(flatbuffer, Manifest(hashlib.sha256(flatbuffer).hexdigest()))
        write_whole(path, draft, overwrite=False)
        return prove(
            float_model,
            ModelFile.read(path)._replace(location=None),  # the temporary name means nothing to anyone
            sets,
            io_type=io,
            strict=recipe == "int8",
            allow_custom=allow_custom,
            int8_operators=operators_of(recipe),
            metric=metric,
            choice=choice,
            progress=tell,
            recipe=recipe,
            given_up=given_up,
        )


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


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _tools() -> dict[str, str]:
    import sys

    names = ["litert-quantizer", "ai-edge-litert", "numpy"]
    names += [name for name in ("tensorflow", "keras", "tf-keras") if name.replace("-", "_") in sys.modules]
    return {"edgekit": __version__, **{name: _version(name) for name in names}}

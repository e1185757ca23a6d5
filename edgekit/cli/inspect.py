"""``edgekit inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from edgekit.cli.compatible import Compatible, compare, print_compatible
from edgekit.cli.delegated import Seen, look, print_outside
from edgekit.cli.output import console, print_json, print_pairs, progress_bar
from edgekit.cli.proof import print_findings, print_verification
from edgekit.errors import ModelFileError
from edgekit.inspection import Inspection
from edgekit.manifest import Manifest
from edgekit.preprocess import Preprocessing
from edgekit.report.units import size_text

#: What a file is called whose layers are all quantised in one way.
_SCHEMES = {
    "int16x8": "int16 activations, int8 weights",
    "dynamic": "int8 weights, activations quantised at run time",
    "weights": "int8 weights, computed in float",
    "float16": "float16 weights, computed in float",
}


@click.command("inspect")
@click.argument("file")
@click.option(
    "--costs", is_flag=True, help="Measure what the operators cost that the delegate leaves outside; takes seconds."
)
@click.option(
    "--runtime-python",
    metavar="PYTHON",
    help="Ask the runtime of another Python what XNNPACK takes there: tflite-runtime, or another LiteRT.",
)
@click.option(
    "--device",
    metavar="ID",
    help="Say whether this device's runtimes have every operator, and which oldest one does; exit with 1 when none has.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(
    ctx: click.Context, file: str, costs: bool, runtime_python: str | None, device: str | None, as_json: bool
) -> None:
    """Show what a .tflite file holds and what a delegate takes of it.

    Why XNNPACK leaves operators outside is tried out, one operator at a time, and remembered.
    """
    from edgekit.inspection import inspect
    from edgekit.modelfile import ModelFile
    from edgekit.runtime.delegates import DelegateSpec

    model = ModelFile.read(file)
    compatible = compare(model, device) if device is not None else None
    seen = inspect(model)
    with progress_bar(enabled=costs) as progress:
        spec = DelegateSpec("xnnpack", threads=1)
        delegated = look(model, spec, measure=costs, python=runtime_python, progress=progress)
    if as_json:
        on_device = compatible.to_json() if compatible is not None else None
        print_json({**seen.to_json(), "delegate": delegated.to_json(), "compatibility": on_device})
    else:
        _print(seen, delegated, compatible, asked=runtime_python is not None)
    if compatible is not None and not compatible.passed:
        ctx.exit(1)


def _print(seen: Inspection, delegated: Seen, compatible: Compatible | None, *, asked: bool) -> None:
    print_pairs(seen.path, _pairs(seen, delegated, asked=asked))
    if compatible is not None:
        print_compatible(compatible)
    print_outside(delegated)
    if seen.manifest is None:
        console().print("No edgekit manifest in the file: calibration and proof are not known.", style="dim")
    else:
        try:
            print_pairs("Manifest", _manifest_pairs(seen.manifest))
            print_findings(seen.manifest.calibration.get("findings", []))
            print_verification(seen.manifest.verification)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ModelFileError(
                f"{seen.path}: its manifest's figures are not as edgekit writes them ({error!r}). Was it edited by hand? "
                "Convert the model again."
            ) from error


def _pairs(seen: Inspection, delegated: Seen, *, asked: bool) -> list[tuple[str, str]]:
    share = seen.int8_mac_share
    kind = "fully int8" if seen.fully_int8 else "float" if share in (0, None) and seen.float_ops else "mixed"
    schemes = seen.schemes()
    if "dynamic" in schemes and set(schemes) <= {"dynamic", "weights"}:
        kind = _SCHEMES["dynamic"]
    elif len(schemes) == 1 and not seen.fully_int8:
        kind = _SCHEMES.get(next(iter(schemes)), kind)
    elif not seen.float_ops and not seen.int16_ops and not seen.fully_int8:
        kind = "no arithmetic of its own"
    counts = ", ".join(name if count == 1 else f"{name} x{count}" for name, count in seen.op_counts().items())
    left = sorted({op.name for op in seen.float_ops})
    return [
        ("type", kind),
        ("size", f"{size_text(seen.size_bytes)} ({seen.size_bytes:,} bytes)"),
        ("sha256", seen.sha256),
        ("made by", seen.description or "unknown"),
        *(("input", str(spec)) for spec in seen.inputs),
        *(("output", str(spec)) for spec in seen.outputs),
        ("signatures", ", ".join(seen.signatures) or "none (a file from before TensorFlow 2.5)"),
        ("operators", f"{len(seen.ops)}: {counts}"),
        ("multiply-accumulates", _macs(seen)),
        ("layers with weights", ", ".join(f"{name} x{count}" for name, count in schemes.items()) or "none"),
        ("operators in float", ", ".join(left) or "none"),
        ("custom and Flex operators", ", ".join([*seen.custom_ops, *seen.flex_ops]) or "none"),
        ("loads in", seen.engine or f"nothing here: {delegated.problem or seen.load_error}"),
        ("delegated", _delegated(seen, delegated, asked=asked)),
        *(
            [("note", "operator codes are in the form of TensorFlow before 2.4; some tools misread the file")]
            if seen.old_operator_codes
            else []
        ),
    ]


def _delegated(seen: Inspection, delegated: Seen, *, asked: bool) -> str:
    """What the runtime takes that was asked: the one here, or another Python's."""
    if asked and delegated.problem is not None:
        return f"not loaded: {delegated.problem}"
    if delegated.report is not None:
        return f"{delegated.report.summary()}{f' ({delegated.report.runtime})' if asked else ''}"
    return str(seen.partitions) if seen.partitions else "not known"


def _macs(seen: Inspection) -> str:
    share, wide = seen.int8_mac_share, seen.int16_mac_share
    text = "none" if share is None else f"{seen.macs:,} per run, {100 * share:.1f} % in int8"
    return f"{text}, {100 * wide:.1f} % with int16 activations" if wide else text


def _manifest_pairs(manifest: Manifest) -> list[tuple[str, str]]:
    recipe: Any = manifest.recipe
    calibration: Any = manifest.calibration
    rows = [
        (
            "recipe",
            f"{recipe.get('name')}, effort {recipe.get('effort', 'unknown')}, io {recipe.get('io')}, for "
            f"{recipe.get('device') or 'no particular device'}",
        ),
        (
            "refinements",
            ", ".join(step["name"] for step in recipe.get("refinements", ()) if step.get("kept")) or "none",
        ),
        *((("gates", _gates(recipe)),) if recipe.get("gates") else ()),
        ("rewrites", ", ".join(f"{name} x{count}" for name, count in recipe.get("rewrites", {}).items()) or "none"),
        ("source", f"{manifest.source.get('kind')} {manifest.source.get('name')}"),
        *_layouts(manifest.source),
        ("calibration", f"{calibration.get('count')} samples, fingerprint {str(calibration.get('fingerprint'))[:16]}…"),
        *((f"preprocessing of {name}", _preprocessing(item)) for name, item in manifest.preprocessing.items()),
        ("labels", _labels(manifest.labels)),
        ("runs in", _runtime(manifest.runtime)),
        ("golden data", _golden(manifest.golden)),
        ("made with", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
    ]
    return rows


def _layouts(source: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which inputs and outputs have their axes in another order than the model that the file was made from."""
    rows = []
    for what, key in (("input", "layouts"), ("output", "output_layouts")):
        for name, item in dict(source.get(key, {})).items():
            rows.append((f"axes of the {what} {name}", f"{item.get('file')}; {item.get('original')} in the original"))
    return rows


def _runtime(runtime: Mapping[str, Any]) -> str:
    text = str(runtime.get("proven"))
    if "oldest" in runtime:
        text += f"; the oldest: {runtime['oldest']} ({runtime['by']})"
    return text


def _golden(golden: Mapping[str, Any]) -> str:
    if not golden:
        return "none"
    return f"{golden['count']} samples, kernels: {', '.join(golden['sets'])} (`edgekit verify --golden` runs them)"


def _preprocessing(item: Preprocessing) -> str:
    parts = []
    if item.color:
        parts.append(item.color.upper())
    if item.resize:
        parts.append(f"resize to {item.resize[0]}x{item.resize[1]}")
    if item.resize_shorter:
        parts.append(f"resize the shorter side to {item.resize_shorter}")
    if item.crop:
        parts.append(f"crop the centre to {item.crop[0]}x{item.crop[1]}")
    if item.mean:
        parts.append(
            f"(x - {', '.join(f'{value:g}' for value in item.mean)}) / {', '.join(f'{value:g}' for value in item.std)}"
        )
    return ", then ".join(parts) or "none"


def _labels(labels: tuple[str, ...]) -> str:
    if not labels:
        return "none"
    return f"{len(labels)}: {', '.join(labels[:8])}{', …' if len(labels) > 8 else ''}"


def _gates(recipe: Mapping[str, Any]) -> str:
    """What was asked, and what was given up for it."""
    asked = ", ".join(f"{name} {value:g}" for name, value in recipe["gates"].items() if value is not None)
    layers = recipe.get("rescue", {}).get("layers", {})
    return f"{asked}; {len(layers)} operators left int8 for it" if layers else asked

"""``edgekit inspect``."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.output import console, print_json, print_pairs
from edgekit.cli.proof import print_findings, print_verification
from edgekit.errors import ModelFileError
from edgekit.inspection import Inspection
from edgekit.manifest import Manifest
from edgekit.preprocess import Preprocessing
from edgekit.report.units import size_text


@click.command("inspect")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(file: str, as_json: bool) -> None:
    """Show what a .tflite file holds and what a delegate takes of it."""
    from edgekit.inspection import inspect

    seen = inspect(file)
    if as_json:
        print_json(seen.to_json())
        return
    print_pairs(seen.path, _pairs(seen))
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


def _pairs(seen: Inspection) -> list[tuple[str, str]]:
    share = seen.int8_mac_share
    kind = "fully int8" if seen.fully_int8 else "float" if share in (0, None) and seen.float_ops else "mixed"
    if not seen.float_ops and not seen.fully_int8:
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
        ("operators in float", ", ".join(left) or "none"),
        ("custom and Flex operators", ", ".join([*seen.custom_ops, *seen.flex_ops]) or "none"),
        ("loads in", seen.engine or f"nothing here: {seen.load_error}"),
        ("delegated", str(seen.partitions) if seen.partitions else "not known"),
        *(
            [("note", "operator codes are in the form of TensorFlow before 2.4; some tools misread the file")]
            if seen.old_operator_codes
            else []
        ),
    ]


def _macs(seen: Inspection) -> str:
    share = seen.int8_mac_share
    return "none" if share is None else f"{seen.macs:,} per run, {100 * share:.1f} % in int8"


def _manifest_pairs(manifest: Manifest) -> list[tuple[str, str]]:
    recipe: Any = manifest.recipe
    calibration: Any = manifest.calibration
    rows = [
        (
            "recipe",
            f"{recipe.get('name')}, io {recipe.get('io')}, for {recipe.get('device') or 'no particular device'}",
        ),
        ("rewrites", ", ".join(f"{name} x{count}" for name, count in recipe.get("rewrites", {}).items()) or "none"),
        ("source", f"{manifest.source.get('kind')} {manifest.source.get('name')}"),
        ("calibration", f"{calibration.get('count')} samples, fingerprint {str(calibration.get('fingerprint'))[:16]}…"),
        *((f"preprocessing of {name}", _preprocessing(item)) for name, item in manifest.preprocessing.items()),
        ("labels", _labels(manifest.labels)),
        ("runs in", str(manifest.runtime.get("proven"))),
        ("made with", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
    ]
    return rows


def _preprocessing(item: Preprocessing) -> str:
    parts = []
    if item.color:
        parts.append(item.color.upper())
    if item.resize:
        parts.append(f"resize to {item.resize[0]}x{item.resize[1]}")
    if item.mean:
        parts.append(
            f"(x - {', '.join(f'{value:g}' for value in item.mean)}) / {', '.join(f'{value:g}' for value in item.std)}"
        )
    return ", then ".join(parts) or "none"


def _labels(labels: tuple[str, ...]) -> str:
    if not labels:
        return "none"
    return f"{len(labels)}: {', '.join(labels[:8])}{', …' if len(labels) > 8 else ''}"

"""Last stage: the manifest and the golden data in the file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Any

from edgekit import manifest as packing
from edgekit.errors import ConversionError, EngineError
from edgekit.golden import Golden
from edgekit.manifest import Manifest
from edgekit.modelfile import ModelFile
from edgekit.version import __version__
from edgekit_convert.calibration import Finding, Ready
from edgekit_convert.conversion import Conversion
from edgekit_convert.frontends.layout import layouts_json
from edgekit_convert.options import Target
from edgekit_convert.package import golden_data
from edgekit_convert.package.oldest import oldest_runtime
from edgekit_convert.stages.exporting import Exported
from edgekit_convert.stages.preparing import Prepared
from edgekit_convert.verify import VerifyReport


def finish(
    prepared: Prepared,
    exported: Exported,
    report: VerifyReport,
    *,
    recipe: dict[str, Any],
    findings: Sequence[Finding],
    target: Target,
    keep_failing: bool,
) -> Conversion:
    """Put the manifest and the golden data into the file.

    Args:
        prepared: the source and the calibration data.
        exported: the file.
        report: its proof.
        recipe: what was asked and done, for the manifest.
        findings: what was noticed on the way.
        target: what it is to run on.
        keep_failing: whether a file that fails a check is finished all the same.

    Raises:
        GateError: a check failed.
    """
    flatbuffer = exported.flatbuffer
    golden, runtime = _golden(flatbuffer, prepared.audit.parts.held_out, target, report)
    opened = prepared.opened
    manifest = Manifest(
        sha256=hashlib.sha256(flatbuffer).hexdigest(),
        preprocessing=prepared.preprocessing,
        labels=exported.labels,
        recipe=recipe,
        source={
            "kind": opened.kind,
            "name": opened.name,
            "float_sha256": prepared.pivot.sha256,
            **layouts_json(opened.layouts, opened.output_layouts),
        },
        calibration=prepared.audit.to_json(),
        verification=report.to_json(),
        runtime=runtime,
        tools=_tools(),
        golden=golden.to_json() if golden is not None else {},
    )
    if not (report.passed or keep_failing):
        report.require()
    model = ModelFile.read(packing.append(flatbuffer, manifest, golden.content if golden is not None else None))
    return Conversion(model, prepared.float_model, report, prepared.audit, tuple(findings))


def _golden(
    flatbuffer: bytes, samples: Sequence[Ready], target: Target, report: VerifyReport
) -> tuple[Golden | None, dict[str, Any]]:
    """Golden inputs and outputs, and the oldest runtime that runs them; neither where the model does not run here."""
    try:
        golden = golden_data.make(flatbuffer, (ready.inputs for ready in samples), target.spec)
        return golden, oldest_runtime(flatbuffer, golden).to_json()
    except (ConversionError, EngineError):  # the proof has said so
        return None, {"proven": report.engine}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _tools() -> dict[str, str]:
    names = ["litert-quantizer", "ai-edge-litert", "numpy"]
    imported = ("tensorflow", "keras", "tf-keras", "torch", "litert-torch")
    names += [name for name in imported if name.replace("-", "_") in sys.modules]
    return {"edgekit": __version__, **{name: _version(name) for name in names}}

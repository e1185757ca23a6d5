"""Sixth stage: the finished flatbuffer, with its edges, labels and standard metadata."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.errors import OptionError
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing
from edgekit.version import __version__
from edgekit_convert import graph as editing
from edgekit_convert.calibration import Finding
from edgekit_convert.frontends import Source
from edgekit_convert.package import ENTRY as STANDARD_ENTRY
from edgekit_convert.package import standard_metadata
from edgekit_convert.package.versions import with_versions
from edgekit_convert.stages.preparing import Prepared
from edgekit_convert.verify.batches import MOST_COMPARED, with_proven_batch


@dataclass(frozen=True)
class Exported:
    """The model as it goes into the file.

    Attributes:
        model: the flatbuffer without metadata.
        flatbuffer: the same with all of it.
        labels: class names in output order.
        findings: whether they fit.
    """

    model: bytes
    flatbuffer: bytes
    labels: tuple[str, ...]
    findings: tuple[Finding, ...]


def export(prepared: Prepared, quantised: bytes, io: str, labels: Sequence[str] | None) -> Exported:
    """Give the model its edges, versions and metadata.

    Args:
        prepared: the source, its preprocessing, and labels that the data have.
        quantised: the model, with int8 or float32 edges.
        io: what its inputs and outputs are to be.
        labels: class names in output order; ``None`` for those of the data.

    Raises:
        OptionError: a label is not one line of text.
        ConversionError: the second signature, for several samples in one run, does not give what single runs give.
    """
    model = editing.uint8_edges(quantised) if io == "uint8" else quantised
    pivot, findings = prepared.pivot, []
    if prepared.batch is not None:
        samples = [ready.inputs for ready in itertools.islice(prepared.deciding, MOST_COMPARED)]
        model, seen = with_proven_batch(model, prepared.batch, samples, prepared.spec)
        findings.append(Finding("note", "batch", seen))
    names = _labels(labels, prepared.deciding.source.label_names or prepared.data.source.label_names)
    if names and len(names) not in {spec.shape[-1] for spec in pivot.outputs if spec.shape}:
        text = f"{len(names)} labels, and no output has as many values ({_outputs(pivot)}): are they this model's?"
        findings.append(Finding("warning", "label-count", text))
    flatbuffer = _with_metadata(model, prepared.opened, prepared.preprocessing, names)
    return Exported(model, flatbuffer, names, tuple(findings))


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


def _with_metadata(
    model: bytes, opened: Source, preprocessing: Mapping[str, Preprocessing], labels: tuple[str, ...]
) -> bytes:
    model = with_versions(model)
    specs = ModelFile.read(model)
    standard = standard_metadata(opened.name, specs.inputs, specs.outputs, preprocessing, labels)
    return editing.with_metadata(model, f"edgekit {__version__}", {STANDARD_ENTRY: standard})

"""A model on its way through the compiler: without edgekit's part before it, with it again behind it."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

from edgekit import manifest as packing
from edgekit.errors import ConversionError
from edgekit.manifest import ENTRY
from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing


def plain(model: ModelFile) -> bytes:
    """The flatbuffer alone, all constants inside, without the entry that announces a manifest: the compiler keeps neither."""
    edited = editing.read(model.content)  # which brings in constants that lie behind the flatbuffer
    edited.metadata = [item for item in edited.metadata or [] if _text(item.name) != ENTRY]
    return editing.write(edited)


def attached(compiled: bytes, source: ModelFile, *, compiler: str | None = None) -> ModelFile:
    """Give a compiled model what the compiler dropped: the names of its inputs and outputs, the metadata, the manifest.

    The compiled part itself is not touched. Golden data are left out: they are of the CPU's kernels, and the Edge TPU rounds in
    its own way.

    Args:
        compiled: as it came from the compiler.
        source: the model that the compiler was given.
        compiler: its version, for the manifest's list of tools.

    Raises:
        ConversionError: the inputs or outputs of the two are not the same.
    """
    edited, before = editing.read(compiled), editing.read(source.content)
    _check_ends(ModelFile.read(compiled), source)
    parts = _parts(edited)
    if not edited.signatureDefs:
        edited.signatureDefs = _signatures(before, edited)
    names = {_text(item.name) for item in edited.metadata or []}
    entries = {
        name: data for name, data in source.graph.metadata.items() if name not in (ENTRY, "min_runtime_version", *names)
    }
    description = _text(edited.description)
    flatbuffer = editing.with_metadata(editing.write(edited), description, entries)
    if _parts(editing.read(flatbuffer)) != parts:
        raise ConversionError("the compiled part of the model did not survive packing: please report this model.")
    if source.manifest is None:
        raise ConversionError(f"{source.name} has no manifest that could be attached to the compiled model.")
    tools = {**source.manifest.tools, "edgetpu_compiler": compiler or "unknown"}
    digest = hashlib.sha256(flatbuffer).hexdigest()
    manifest = source.manifest._replace(sha256=digest, golden={}, runtime={}, tools=tools)
    return ModelFile.read(packing.append(flatbuffer, manifest))


def _check_ends(compiled: ModelFile, source: ModelFile) -> None:
    for side in ("inputs", "outputs"):
        given = [(spec.shape, spec.dtype) for spec in getattr(source, side)]
        made = [(spec.shape, spec.dtype) for spec in getattr(compiled, side)]
        if given != made:
            raise ConversionError(f"the compiled model has other {side} than its source: {made}, expected {given}.")


def _signatures(before: Any, edited: Any) -> list[Any]:
    """The source's signatures on the compiled graph, whose inputs and outputs are in the same order."""
    old, new = before.subgraphs[0], edited.subgraphs[0]
    places = {
        **dict(zip(map(int, old.inputs), map(int, new.inputs), strict=True)),
        **dict(zip(map(int, old.outputs), map(int, new.outputs), strict=True)),
    }
    found = []
    for signature in before.signatureDefs or []:
        if signature.subgraphIndex != 0:
            continue
        moved = copy.deepcopy(signature)
        for item in [*(moved.inputs or []), *(moved.outputs or [])]:
            item.tensorIndex = places[int(item.tensorIndex)]
        found.append(moved)
    return found


def _parts(edited: Any) -> list[bytes]:
    """What the compiled parts hold."""
    ops = [op for subgraph in edited.subgraphs for op in subgraph.operators]
    return [bytes(bytearray(op.customOptions)) for op in ops if op.customOptions is not None]


def _text(name: bytes | str | None) -> str:
    return name.decode() if isinstance(name, bytes) else name or ""

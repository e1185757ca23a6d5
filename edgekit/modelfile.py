"""``ModelFile``: a model's bytes, what they describe, and the manifest that came with them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edgekit import manifest as _manifest
from edgekit.errors import ModelFileError, from_os_error
from edgekit.graph import Graph, Tensor, parse
from edgekit.manifest import Manifest
from edgekit.records import Record
from edgekit.tensors import QUANTISED_TYPES, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


class ModelFile(Record):
    """A checked ``.tflite`` model; never changes.

    Attributes:
        content: the whole file.
        sha256: of the flatbuffer part.
        graph: the structure, as parsed.
        manifest: what edgekit wrote into the file, or ``None``.
        location: the path that it was read from, as text, or ``None`` for bytes.
    """

    content: bytes
    sha256: str
    graph: Graph
    manifest: Manifest | None
    location: str | None

    def __repr__(self) -> str:
        return f"ModelFile({self.location!r}, {len(self.content)} bytes, sha256 {self.sha256})"

    @classmethod
    def read(cls, source: str | os.PathLike[str] | bytes) -> ModelFile:
        """Read and check a model.

        Args:
            source: a path, or a whole file's bytes.

        Raises:
            ModelFileError: missing, unreadable, damaged, or not a TFLite model.
        """
        if isinstance(source, bytes | bytearray | memoryview):
            location, content = None, bytes(source)
        else:
            location = os.fspath(source)
            try:
                with open(location, "rb") as file:  # pathlib takes longer to import than the file to read
                    content = file.read()
            except OSError as error:
                raise from_os_error(error, location, "read") from error
            except ValueError as error:  # a NUL in the name
                raise ModelFileError(f"cannot read {location!r}: {error}.") from error
        origin = location or "the model"
        graph = parse(content, origin)
        manifest, sha256 = _manifest.read(content, graph.metadata.get(_manifest.ENTRY), origin)
        return cls(content, sha256, graph, manifest, location)

    @property
    def path(self) -> Path | None:
        """Where it was read from, or ``None`` for bytes."""
        from pathlib import Path

        return Path(self.location) if self.location is not None else None

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self.location or "the model"

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, in the main subgraph's order."""
        return self._specs("inputs")

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the main subgraph's order."""
        return self._specs("outputs")

    def _specs(self, side: str) -> tuple[TensorSpec, ...]:
        main = self.graph.main
        names: dict[int, str] = {}
        for signature in self.graph.signatures:
            if signature.subgraph == 0:
                names = {index: name for name, index in getattr(signature, side)}
                break
        return tuple(_spec(main.tensors[index], names.get(index)) for index in getattr(main, side))

    def output(self, name: str) -> TensorSpec:
        """One output by name.

        Raises:
            ModelFileError: there is no such output.
        """
        for spec in self.outputs:
            if spec.name == name:
                return spec
        raise ModelFileError(f"{self.name} has no output {name!r}: {', '.join(spec.name for spec in self.outputs)}.")


def _spec(tensor: Tensor, name: str | None) -> TensorSpec:
    quant = tensor.quant if tensor.dtype in QUANTISED_TYPES else None
    return TensorSpec(name or tensor.name, tensor.shape_signature, tensor.dtype, quant)

"""``ModelFile``: a model's bytes, what they describe, and the manifest that came with them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edgekit import manifest as _manifest
from edgekit.digest import sha256_hex, sha256_meanwhile
from edgekit.errors import ModelFileError
from edgekit.graph import Graph, Tensor, parse
from edgekit.manifest import Manifest
from edgekit.mapped import MappedFile
from edgekit.records import Record
from edgekit.soundness import check_sound
from edgekit.tensors import QUANTISED_TYPES, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgekit.flatbuffer import Content


#: Hashes of files that passed ``soundness.check`` in this process: looking again would find the same.
_SOUND: set[str] = set()


class ModelFile(Record):
    """A checked ``.tflite`` model; never changes. One that was read from a path stays mapped, and is not copied.

    Attributes:
        held: where the bytes are: the mapped file, or the bytes themselves.
        graph: the structure, as parsed.
        manifest: what edgekit wrote into the file, or ``None``.
        location: the path that it was read from, as text, or ``None`` for bytes.
    """

    held: MappedFile | bytes
    graph: Graph
    manifest: Manifest | None
    location: str | None

    def __repr__(self) -> str:
        return f"ModelFile({self.location!r}, {self.size_bytes} bytes, sha256 {self.sha256})"

    @classmethod
    def read(
        cls, source: str | os.PathLike[str] | bytes, *, meanwhile: Callable[[], object] | None = None
    ) -> ModelFile:
        """Read and check a model.

        Args:
            source: a path, or a whole file's bytes.
            meanwhile: called while a large file is hashed on another core; what it does must not depend on the file.

        Raises:
            ModelFileError: missing, unreadable, damaged, not a TFLite model, or one that would crash an interpreter.
        """
        location: str | None = None
        if isinstance(source, bytes | bytearray | memoryview):
            held: MappedFile | bytes = bytes(source)
        else:
            location = os.fspath(source)
            held = MappedFile(location)
        content = held.content if isinstance(held, MappedFile) else held
        origin = location or "the model"
        hashed: list[Callable[[], str]] = []

        def begin(metadata: dict[str, bytes]) -> None:
            length = _manifest.announced_bytes(metadata)
            if 0 < length <= len(content):
                hashed.append(sha256_meanwhile(memoryview(content)[:length]))

        graph = parse(content, origin, begin)
        manifest = _manifest.read_claims(content, graph.metadata, origin)

        def check_hash() -> None:
            if manifest is not None:
                _manifest.check_hash(manifest, hashed[0]() if hashed else "", origin)

        # Without a manifest there is no hash yet, and making one would take longer than looking again.
        known = manifest.sha256 if manifest is not None else None
        if known not in _SOUND:
            try:
                check_sound(graph, origin)
            except ModelFileError:
                check_hash()  # says more exactly what happened to the file
                raise
        if meanwhile is not None:
            meanwhile()
        check_hash()
        if known is not None:
            _SOUND.add(known)
        if isinstance(held, MappedFile):
            held.check_unchanged()
        return cls(held, graph, manifest, location)

    @property
    def sha256(self) -> str:
        """Of the flatbuffer part, as the manifest has it; of the whole file where there is no manifest, made when first asked for.

        Raises:
            ModelFileError: the file was changed in place since it was checked.
        """
        if self.manifest is not None:
            return self.manifest.sha256
        made: str | None = self.__dict__.get("_sha256")
        if made is None:
            if isinstance(self.held, MappedFile):
                self.held.check_unchanged()
            made = self.__dict__["_sha256"] = sha256_hex(self.data)
            if isinstance(self.held, MappedFile):
                self.held.check_unchanged()
        return made

    @property
    def data(self) -> Content:
        """The whole file without a copy: its mapping, or its bytes. For reading at once, as a mapping follows the file."""
        return self.held.content if isinstance(self.held, MappedFile) else self.held

    @property
    def size_bytes(self) -> int:
        """The whole file's length."""
        return len(self.data)

    @property
    def content(self) -> bytes:
        """The whole file as bytes: of a mapped one a copy, made anew each time.

        Raises:
            ModelFileError: the file was changed in place since it was checked.
        """
        if not isinstance(self.held, MappedFile):
            return self.held
        self.held.check_unchanged()
        content = bytes(self.held.content)
        self.held.check_unchanged()
        return content

    def native_path(self) -> str | None:
        """A path that leads native code to the very file that was checked, good while this object lives; ``None`` for bytes.

        Raises:
            ModelFileError: the file was changed in place since it was checked.
        """
        if not isinstance(self.held, MappedFile):
            return None
        return self.held.native_path()

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

    def batch_signature(self, size: int) -> str | None:
        """The signature that takes so many samples in one run, see ``batch_key``; ``None`` where there is none.

        Args:
            size: samples in one run.
        """
        key = batch_key(size)
        return key if any(signature.key == key for signature in self.graph.signatures) else None

    def output(self, name: str) -> TensorSpec:
        """One output by name.

        Raises:
            ModelFileError: there is no such output.
        """
        for spec in self.outputs:
            if spec.name == name:
                return spec
        raise ModelFileError(f"{self.name} has no output {name!r}: {', '.join(spec.name for spec in self.outputs)}.")


def batch_key(size: int) -> str:
    """The name of the signature that a conversion with ``batch`` makes.

    Args:
        size: samples in one run.
    """
    return f"batch_{size}"


def _spec(tensor: Tensor, name: str | None) -> TensorSpec:
    quant = tensor.quant if tensor.dtype in QUANTISED_TYPES else None
    return TensorSpec(name or tensor.name, tensor.shape_signature, tensor.dtype, quant)

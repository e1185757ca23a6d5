"""``Conversion``: what a conversion made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.files import check_writable, write_whole
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit_convert.calibration import Audit, Finding
from edgekit_convert.edgetpu.compiler import compiled_path
from edgekit_convert.edgetpu.step import ForEdgetpu
from edgekit_convert.verify import VerifyReport


@dataclass(frozen=True)
class Conversion:
    """What a conversion made.

    Attributes:
        model: the int8 model with its manifest.
        float_model: the pivot, a float ``.tflite``, all sizes fixed.
        report: the proof.
        audit: what the representative data are.
        findings: everything worth knowing: the audit's findings and what was noticed on the way.
        edgetpu: the operator check and the compiled model, for a device that has an Edge TPU; else ``None``.
    """

    model: ModelFile
    float_model: bytes
    report: VerifyReport
    audit: Audit
    findings: tuple[Finding, ...]
    edgetpu: ForEdgetpu | None = None

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model file, and run what was written before it gets its name.

        Where the model was compiled for an Edge TPU, that one is written beside it as ``…_edgetpu.tflite``.

        Args:
            path: where to.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            OutputError: it exists, or cannot be written.
        """
        path = Path(path)
        compiled = self.edgetpu.compiled if self.edgetpu is not None else None
        if compiled is not None:  # first, so that nothing is written where one of the two cannot be
            check_writable(path, overwrite=overwrite)
            write_whole(compiled_path(path), compiled.content, overwrite=overwrite, check=_readable)
        write_whole(path, self.model.content, overwrite=overwrite, check=self._check_written)
        return path

    def _check_written(self, written: Path) -> None:
        again = ModelFile.read(written)
        if again.sha256 != self.model.sha256:
            raise ConversionError(f"what was written to {written.parent} is not what was converted: check the disk.")
        with Session(
            again, DelegateChoice(DelegateSpec("xnnpack", 1), "loading what was written"), io="native"
        ) as session:
            session.run(
                {spec.name: np.zeros([max(1, size) for size in spec.shape], spec.dtype) for spec in session.inputs}
            )

    def to_json(self) -> dict[str, Any]:
        """Everything but the bytes, for ``--json``."""
        assert self.model.manifest is not None  # a conversion always writes one
        return {
            "model_bytes": len(self.model.content),
            "findings": [finding.to_json() for finding in self.findings],
            "passed": self.report.passed,
            "manifest": self.model.manifest.to_json(),
            **({"edgetpu": self.edgetpu.to_json()} if self.edgetpu is not None else {}),
        }


def _readable(written: Path) -> None:
    """A compiled model cannot be run without its Edge TPU; that it can be read whole is what can be seen."""
    ModelFile.read(written)

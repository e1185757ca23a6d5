"""What a conversion for an Edge TPU does at its end: the operator check, and the compiler where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, ModelFileError
from edgekit.modelfile import ModelFile
from edgekit_convert.calibration import Finding
from edgekit_convert.edgetpu.attach import attached
from edgekit_convert.edgetpu.checking import check
from edgekit_convert.edgetpu.compiled import mapped_in
from edgekit_convert.edgetpu.compiler import INSTALL, command, compile_model, find_compiler
from edgekit_convert.edgetpu.log import CompilerReport
from edgekit_convert.edgetpu.report import EdgetpuReport, in_words

#: Lines about operators on the CPU that a conversion prints; the JSON has all of them.
_MOST_LINES = 8


@dataclass(frozen=True)
class ForEdgetpu:
    """A converted model and the Edge TPU.

    Attributes:
        predicted: what the operator check says.
        compiled: the compiled model with its manifest; ``None`` where there is no compiler, or it made none.
        compiler: what the compiler said; ``None`` likewise.
        mapped: for each operator whether the compiler mapped it; ``None`` likewise.
        failure: why the compiler made no model; ``None`` where it did, or is not installed.
    """

    predicted: EdgetpuReport
    compiled: ModelFile | None = None
    compiler: CompilerReport | None = None
    mapped: tuple[bool, ...] | None = None
    failure: str | None = None

    @property
    def surprises(self) -> tuple[int, ...]:
        """The operators of which the check said something else than what the compiler then did."""
        if self.mapped is None:
            return ()
        pairs = zip(self.predicted.ops, self.mapped, strict=True)
        return tuple(op.index for op, mapped in pairs if op.mapped != mapped)

    def command(self, path: Path) -> str:
        """The command that compiles the model, for a machine that has the compiler.

        Args:
            path: where the model is.
        """
        return command(path, runtime=self.predicted.runtime)

    def findings(self) -> list[Finding]:
        """What is worth knowing: what was predicted, and what the compiler did."""
        if self.failure is not None:
            return [Finding("warning", "edgetpu-compiler", self.failure)]
        found = [] if self.mapped is not None else self._predictions()
        if self.compiler is not None and self.mapped is not None:
            count = sum(self.mapped)
            text = (
                f"compiled for the Edge TPU: it runs {count} of {len(self.mapped)} operators{_memory(self.compiler)}."
            )
            found.append(Finding("note", "edgetpu-compiler", text))
            found += [
                Finding("note", "edgetpu-operators", line)
                for line in in_words(self.predicted.groups() if not self.surprises else ())[:_MOST_LINES]
            ]
        if self.surprises:
            ops = ", ".join(f"{index} ({self.predicted.ops[index].name})" for index in self.surprises[:4])
            text = (
                f"the compiler did otherwise than the operator check said for {len(self.surprises)} operators: {ops}."
            )
            found.append(Finding("note", "edgetpu-check", text))
        return found

    def _predictions(self) -> list[Finding]:
        level = "warning" if self.predicted.refused is not None or not self.predicted.mapped else "note"
        found = [Finding(level, "edgetpu-check", f"{self.predicted.summary()}.")]
        if self.predicted.refused is not None:
            return found
        lines = in_words(self.predicted.groups())[:_MOST_LINES]
        found += [Finding("note", "edgetpu-operators", line) for line in lines]
        doubtful = self.predicted.doubtful
        if doubtful:
            first = doubtful[0]
            text = f"where {len(doubtful)} operators run is doubtful, first operator {first.index} ({first.name}): {first.reason}."
            found.append(Finding("note", "edgetpu-doubt", text))
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything but the bytes."""
        return {
            "predicted": self.predicted.to_json(),
            "compiler": self.compiler.to_json() if self.compiler is not None else None,
            "mapped": [index for index, mapped in enumerate(self.mapped) if mapped]
            if self.mapped is not None
            else None,
            "surprises": list(self.surprises),
            "failure": self.failure,
        }


def _memory(report: CompilerReport) -> str:
    if not report.streamed_bytes:
        return ""
    return (
        f"; {report.streamed_bytes / 2**20:.2f} MiB of its parameters do not fit into the Edge TPU's memory and are sent "
        "anew for each run"
    )


def for_edgetpu(model: ModelFile, tell: Callable[[str, int, int], None]) -> ForEdgetpu:
    """Check a converted model's operators, and compile it where the compiler is installed.

    Args:
        model: an int8 model with its manifest.
        tell: called as ``tell(step, done, total)``.
    """
    tell("Checking operators for the Edge TPU", 0, 0)
    predicted = check(model)
    if find_compiler() is None:
        return ForEdgetpu(predicted)
    tell("Compiling for the Edge TPU", 0, 0)
    try:
        made = compile_model(model)
        compiled = attached(made.content, model, compiler=made.report.version)
        return ForEdgetpu(predicted, compiled, made.report, mapped_in(model, compiled))
    except ConversionError as error:
        return ForEdgetpu(predicted, failure=str(error))
    except ModelFileError as error:
        return ForEdgetpu(predicted, failure=f"what edgetpu_compiler made cannot be used: {error}")


def how_to_compile(path: Path, wanted: ForEdgetpu) -> str:
    """What to do where there is no compiler, in one sentence and the command.

    Args:
        path: where the int8 model is.
        wanted: what the conversion found out.
    """
    return f"{INSTALL}. Where it is installed, run: {wanted.command(path)}"

"""Float against int8 on the exported file itself: figures with 95 % intervals, checks, gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgekit.errors import EngineError, GateError
from edgekit.inspection import EDGE_OPERATORS, inspect
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.verify.checks import Check as Check
from edgekit_convert.verify.checks import check_file, reasons
from edgekit_convert.verify.comparing import Metric as Metric
from edgekit_convert.verify.comparing import OutputFigures as OutputFigures
from edgekit_convert.verify.comparing import Runs as Runs
from edgekit_convert.verify.comparing import SetFigures as SetFigures
from edgekit_convert.verify.comparing import corresponding as corresponding
from edgekit_convert.verify.comparing import figures as figures
from edgekit_convert.verify.comparing import looks_like_classes as looks_like_classes
from edgekit_convert.verify.comparing import run_both as run_both

if TYPE_CHECKING:
    from edgekit_convert.verify.layers import LayerReport


@dataclass(frozen=True)
class VerifyReport:
    """The proof.

    Attributes:
        checks: what the file was checked for.
        on: figures by data set: ``"calibration"``, and ``"verify"`` where such data were given.
        engine: the interpreter that ran both models.
        delegate: the delegate that ran both models.
        float_bytes: size of the float model.
        int8_bytes: size of the int8 model's flatbuffer.
        int8_mac_share: share of multiply-accumulates on int8; ``None`` where the model has none.
        float_ops: operators that still compute on floats, with the reason.
        layers: the network tensor by tensor; ``None`` where that was not asked for or could not be had.
    """

    checks: tuple[Check, ...]
    on: dict[str, SetFigures]
    engine: str
    delegate: str
    float_bytes: int
    int8_bytes: int
    int8_mac_share: float | None
    float_ops: tuple[tuple[str, str], ...]
    layers: LayerReport | None = None

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def require(self) -> None:
        """Raise when a check failed.

        Raises:
            GateError: naming each failed check.
        """
        failed = [f"{check.name}: {check.text}" for check in self.checks if check.passed is False]
        if failed:
            raise GateError(f"the converted model does not pass: {'; '.join(failed)}.")

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "checks": [check.to_json() for check in self.checks],
            "on": {name: figures.to_json() for name, figures in self.on.items()},
            "engine": self.engine,
            "delegate": self.delegate,
            "float_bytes": self.float_bytes,
            "int8_bytes": self.int8_bytes,
            "int8_mac_share": self.int8_mac_share,
            "float_ops": [{"operator": name, "why": why} for name, why in self.float_ops],
            "layers": self.layers.to_json() if self.layers is not None else None,
        }


def verify(
    float_model: bytes,
    exported: ModelFile,
    sets: dict[str, CalibrationSet],
    *,
    io_type: str | None,
    strict: bool,
    allow_custom: tuple[str, ...],
    int8_operators: frozenset[str],
    metric: Any,
    choice: DelegateChoice,
    progress: Callable[[str, int, int], None],
    recipe: str = "auto",
    given_up: Mapping[str, str] = MappingProxyType({}),
) -> VerifyReport:
    """Check the exported file and compare it with the float model.

    Args:
        float_model: the pivot.
        exported: the file as it was written and read back.
        sets: data by name.
        io_type: what the inputs and outputs should be; ``None`` where anything is right.
        strict: whether an operator on floats or 16-bit integers is a failure (recipe ``int8``).
        allow_custom: custom operators that may be there.
        int8_operators: what the quantizer has a form for under the recipe, to say why an operator stayed float.
        metric: see ``figures``.
        choice: the target's delegate; one that cannot run a model here is replaced by XNNPACK.
        progress: called as ``progress(step, done, total)``.
        recipe: what the file claims to be, and is checked for.
        given_up: why operators left int8, by the name of their first output.
    """
    spec = runnable_here(choice)
    runnable = DelegateChoice(spec, choice.reason)
    seen = inspect(exported)
    on: dict[str, SetFigures] = {}
    engine = "none"
    failure: str | None = None
    try:
        with Session(ModelFile.read(float_model), runnable) as exact, Session(exported, runnable) as rounded:
            engine = rounded.engine
            partitions = str(rounded.partitions)
            for name, data in sets.items():
                step, total = f"Comparing float and int8 ({name} data)", data.source.total or 0
                runs = run_both(
                    exact,
                    rounded,
                    data,
                    lambda done, step=step, total=total: progress(step, done, total),  # type: ignore[misc]
                )
                on[name] = figures(runs, data, [output.name for output in exact.outputs], metric)
    except EngineError as error:
        failure, partitions = str(error), "none"
    main = exported.graph.main
    left = {
        number: given_up[name]
        for number, op in enumerate(main.ops)
        for name in _int8_names(main.tensors[op.outputs[0]].name if op.outputs else "")
        if name in given_up and op.name not in EDGE_OPERATORS
    }
    float_ops = reasons(seen, int8_operators, recipe, left)
    return VerifyReport(
        checks=(
            *check_file(seen, exported, io_type, recipe, strict, allow_custom, float_ops),
            Check("loads and runs", failure is None, failure or engine),
            Check("delegated", None, partitions),
        ),
        on=on,
        engine=engine,
        delegate=spec.kind,
        float_bytes=len(float_model),
        int8_bytes=len(exported.content),
        int8_mac_share=seen.int8_mac_share,
        float_ops=float_ops,
    )


def _int8_names(name: str) -> tuple[str, ...]:
    """A tensor's name, and what ``quantize.mixed`` made it from."""
    return (name, *(name.removesuffix(ending) for ending in ("_float32", "_int16") if name.endswith(ending)))


def runnable_here(choice: DelegateChoice) -> DelegateSpec:
    """The target's delegate where this machine can run a model on it, else XNNPACK with as many threads."""
    return choice.spec if choice.spec.kind in ("xnnpack", "none") else DelegateSpec("xnnpack", choice.spec.threads)

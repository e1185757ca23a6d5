"""The GPU through LiteRT's CompiledModel: asked for, tried in a process of its own, and trusted when its numbers are right.

Drivers crash and hang, and some give wrong numbers without a word (LiteRT issues 5937 and 8065; measured here with SwiftShader:
ai-edge-litert 2.1.6, 2.2.0 and 2.3.0 compute an int8 ResNet-8 wrongly, 77 % right of 60 pictures where the CPU has 90 %). So a model
runs on the GPU in this process only after another process compiled it there, ran it several times, and got what the CPU gets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from edgekit.errors import DelegateError, EdgekitError, one_of
from edgekit.graph import Subgraph
from edgekit.modelfile import ModelFile
from edgekit.records import Record
from edgekit.runtime import vulkan
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.trial import Trial, run_trial

PRECISIONS: tuple[str, ...] = ("fp32", "fp16")
#: The largest difference from the CPU that is right, relative to the output's range, where the caller names none. Measured with
#: SwiftShader on four float networks: at most 5e-06 in fp32. fp16 has 11 significant bits (IEEE 754), and rounding adds up over layers.
TOLERANCES: dict[str, float] = {"fp32": 1e-3, "fp16": 2e-2}
#: The same for graphs with integers: twice what the CPU's own two kernel sets differ by on the same inputs, within these limits.
#: Rounding differs in each layer there (see ``edgekit.golden``); the upper one is a noise of 12 dB, as there.
QUANTISED_TOLERANCES: tuple[float, float] = (0.05, 0.25)
TIMEOUT_SECONDS = 60.0
#: Options of LiteRT's GPU accelerator that are on or off (``ai_edge_litert.compiled_model.GpuOptions``).
SWITCHES: tuple[str, ...] = (
    "allow_src_quantized_fc_conv_ops", "constant_tensor_sharing", "hint_waiting_for_completion", "infinite_float_capping",
)  # fmt: skip
_CPU_INSTEAD = "The model runs on the CPU: --delegate xnnpack"
#: What was found good in this process: the same question is not asked twice.
_TRUSTED: dict[tuple[Any, ...], GpuProbe] = {}


class GpuSettings(Record):
    """How the GPU is used: what ``DelegateSpec("gpu", options={…})`` says.

    Attributes:
        precision: ``"fp32"``, or ``"fp16"`` to let it compute with half the bits where it can.
        check: whether it is tried in another process first.
        tolerance: as for ``probe_gpu``.
        timeout_s: seconds for that try.
        switches: further options of the accelerator that are on.
    """

    precision: str = "fp32"
    check: bool = True
    tolerance: float | None = None
    timeout_s: float = TIMEOUT_SECONDS
    switches: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: Mapping[str, str]) -> GpuSettings:
        """Read a delegate's options.

        Raises:
            DelegateError: one is unknown, or its value makes no sense.
        """
        known = ("precision", "check", "tolerance", "timeout_s", *SWITCHES)
        for name in options:
            if name not in known:
                raise DelegateError(f"unknown option {name!r} of the delegate gpu: expected one of {', '.join(known)}.")
        try:
            precision = one_of(options.get("precision", "fp32"), PRECISIONS, "precision of the delegate gpu")
            switched = {name: _switch(options[name], name) for name in (*SWITCHES, "check") if name in options}
        except EdgekitError as error:
            raise DelegateError(str(error)) from error
        tolerance = _positive(options, "tolerance")
        return cls(
            precision,
            switched.pop("check", True),
            tolerance,
            _positive(options, "timeout_s") or TIMEOUT_SECONDS,
            tuple(name for name, on in sorted(switched.items()) if on),
        )


def _switch(value: str, name: str) -> bool:
    return one_of(value, ("on", "off"), f"value of the gpu's option {name}") == "on"


def _positive(options: Mapping[str, str], name: str) -> float | None:
    if name not in options:
        return None
    try:
        value = float(options[name])
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise DelegateError(f"the gpu's option {name} is {options[name]!r}: a number above 0 was expected.")
    return value


class GpuProbe(Record):
    """What a try of a model on the GPU showed.

    Attributes:
        usable: whether the GPU takes at least a part of the model, and gives what the CPU gives.
        reason: why, or why not, in a sentence that names the remedy.
        native: what the runtime and the driver said of the failure; ``None`` when they said nothing.
        fully_accelerated: whether the GPU takes every operator; ``None`` when it did not come so far.
        max_difference: the largest difference from the CPU, relative to the output's range; of integers without a scale the share
            that differs; infinite where the GPU gives NaN and the CPU a number; ``None`` when it did not come so far.
        tolerance: what was allowed.
        compile_ms: milliseconds to compile the model for the GPU in a new process.
        run_ms: the median of a run there, in milliseconds, copying in and out included.
        cpu_run_ms: the same on the CPU, through XNNPACK with as many threads as were asked for.
        device: the GPU, as its driver names it; drivers that compute on the CPU are called so.
        precision: ``"fp32"`` or ``"fp16"``, as it was asked for. A GPU without 16-bit arithmetic computes with 32 all the same.
        operators: how many the model has.
        taken: how many of them the GPU takes; ``None`` when the runtime did not say.
        left: what the runtime said of operators that it leaves to the CPU, such as ``"SQUEEZE: Operation is not supported."``.
    """

    usable: bool
    reason: str
    native: str | None
    fully_accelerated: bool | None
    max_difference: float | None
    tolerance: float
    compile_ms: float | None
    run_ms: float | None
    cpu_run_ms: float | None
    device: str | None
    precision: str
    operators: int = 0
    taken: int | None = None
    left: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields by name; an infinite difference as text."""
        found = self._asdict()
        if self.max_difference == float("inf"):
            found["max_difference"] = "infinite"
        return found


def probe_gpu(
    model: ModelFile,
    *,
    precision: str = "fp32",
    tolerance: float | None = None,
    timeout_s: float = TIMEOUT_SECONDS,
    threads: int | None = None,
    signature: str | None = None,
    switches: tuple[str, ...] = (),
) -> GpuProbe:
    """Try a model on the GPU, in a process of its own.

    It is compiled there and run on a few inputs, the first of them once more at the end: the golden inputs that the file carries, else
    seeded ones of the range that its inputs have. Whatever happens to that process, this one goes on.

    Args:
        model: a checked model.
        precision: ``"fp32"`` or ``"fp16"``.
        tolerance: the largest difference from the CPU that is right, relative to the output's range; ``None`` for ``TOLERANCES``, and
            ``QUANTISED_TOLERANCES`` where the graph has integers.
        timeout_s: seconds for all of it.
        threads: CPU threads for what the GPU leaves, and for the comparison; ``None`` means 1.
        signature: the signature to run; ``None`` for the main one.
        switches: of ``SWITCHES``, those to turn on.

    Raises:
        OptionError: the precision is unknown.
        ModelFileError: the file was changed in place since it was checked.
        EngineError: no process can be started.
    """
    one_of(precision, PRECISIONS, "precision")
    blank = GpuProbe(
        usable=False,
        reason="",
        native=None,
        fully_accelerated=None,
        max_difference=None,
        tolerance=tolerance if tolerance is not None else TOLERANCES[precision],
        compile_ms=None,
        run_ms=None,
        cpu_run_ms=None,
        device=None,
        precision=precision,
        operators=len(model.graph.main.ops),
    )
    missing = _no_engine()
    if missing is not None:
        return blank._replace(reason=missing)
    about = {
        "name": model.location,
        "precision": precision,
        "tolerance": tolerance,
        "threads": threads,
        "signature": signature,
        "switches": list(switches),
    }
    trial = run_trial("edgekit.runtime.gpu_child", about, model.content, timeout_s=timeout_s)
    return _judged(blank, trial, timeout_s)


def _no_engine() -> str | None:
    import importlib.util

    if importlib.util.find_spec("ai_edge_litert") is None:
        return (
            "the GPU is reached through LiteRT's CompiledModel, and ai-edge-litert is not installed (`pip install ai-edge-litert`: "
            f"x86-64 and arm64). {_CPU_INSTEAD}"
        )
    return None


def _judged(probe: GpuProbe, trial: Trial, timeout_s: float) -> GpuProbe:
    """What came of the try, as a verdict."""
    taken, left = _left_to_cpu(trial.said)
    probe = probe._replace(device=vulkan.device(trial.said), taken=taken, left=left)
    native = vulkan.significant(trial.said)
    found = trial.result
    if found is None and trial.code == 1 and "Traceback" in trial.said:
        last = trial.said.strip().splitlines()[-1]
        return probe._replace(
            reason=f"the try itself failed, which is a fault of edgekit and not of the GPU ({last}). {_CPU_INSTEAD}"
        )
    if found is None:
        how = f"the process that tried the GPU is lost: {trial.how_it_ended()}"
        if trial.timed_out:
            how = f"the GPU did not answer: {trial.how_it_ended()} (limit {timeout_s:g} s)"
        remedy = "Update the driver; this program was not harmed"
        return probe._replace(reason=f"{how}. {remedy}. {_CPU_INSTEAD}", native=native)
    if "refused" in found:
        text = str(found["refused"]).rstrip(".")
        if trial.stage == "ran the model on the CPU":
            return probe._replace(reason=f"the CPU's results, which the GPU's are compared with, are missing: {text}")
        why = vulkan.explain(trial.said)
        return probe._replace(reason=text if why is None else f"{why}. {_CPU_INSTEAD}", native=native)
    probe = probe._replace(**found)
    if probe.fully_accelerated:
        probe = probe._replace(taken=probe.operators, left=())
    elif not probe.taken:  # and the CPU ran it all: "fully" counts what the CPU's accelerator leaves as well
        why = (
            vulkan.explain(trial.said)
            or f"the GPU takes none of the model's operators ({' '.join(left) or 'no reason'})"
        )
        return probe._replace(reason=f"{why}. {_CPU_INSTEAD}", native=native)
    difference = probe.max_difference
    limit = f"{_percent(probe.tolerance)} is allowed"
    if difference is None or not difference <= probe.tolerance:
        differ = "NaN or infinity where the CPU gives numbers"
        if difference is not None and difference != float("inf"):
            differ = f"they differ from the CPU's by {_percent(difference)} of the output's range, {limit}"
        remedy = "With fp32 it may be right" if probe.precision == "fp16" else "Update the driver and ai-edge-litert"
        return probe._replace(reason=f"the GPU gives wrong numbers: {differ}. {remedy}. {_CPU_INSTEAD}", native=native)
    all_or = f"all {probe.operators}" if probe.fully_accelerated else f"{probe.taken} of {probe.operators}"
    name = f"the GPU ({probe.device})" if probe.device is not None else "the GPU"
    return probe._replace(
        usable=True,
        reason=f"{name} takes {all_or} operators and gives what the CPU gives (largest difference {_percent(difference)} of the output's range, {limit})",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _left_to_cpu(said: str) -> tuple[int | None, tuple[str, ...]]:
    """How many operators the accelerator takes, and what it says of the others (log of ai-edge-litert 2.3.0)."""
    counts = re.findall(r"^(\d+|No) operations will run on the GPU", said, re.MULTILINE)
    blocks = re.findall(r"operations are not supported by GPU delegate:\n((?:[A-Z][A-Z0-9_]*: .*\n)+)", said)
    left = tuple(dict.fromkeys(line.strip() for line in blocks[-1].splitlines())) if blocks else ()
    if not counts:
        return None, left
    return (0 if counts[-1] == "No" else int(counts[-1])), left


def placement(graph: Subgraph, taken: int, left: tuple[str, ...]) -> tuple[int, ...] | None:
    """The operators that the GPU takes, from what the runtime says of them; ``None`` where that does not determine them.

    The runtime names the kinds of operators that it refuses and says how many of the others it takes. Measured with
    ai-edge-litert 2.3.0: it takes one part without a refused operator in between, the largest, and leaves the rest.

    Args:
        graph: the model's main subgraph.
        taken: how many it takes.
        left: as in ``GpuProbe``.
    """
    refused = {line.split(":", 1)[0] for line in left}
    able = [op.index for op in graph.ops if op.name not in refused]
    if len(able) == taken:
        return tuple(able)
    parts: list[list[int]] = []
    for index in able:
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    fitting = [part for part in parts if len(part) == taken == max(map(len, parts))]
    return tuple(fitting[0]) if len(fitting) == 1 else None


def trusted(model: ModelFile, spec: DelegateSpec, signature: str | None = None) -> GpuProbe | None:
    """Try the model on the GPU unless that was done in this process, and raise when it is not to be used.

    Args:
        model: a checked model.
        spec: ``gpu`` with its options; with ``check=off`` nothing is tried.
        signature: the signature that will run; ``None`` for the main one.

    Returns:
        What the try showed; ``None`` with ``check=off``.

    Raises:
        DelegateError: the GPU is missing, fails, or gives wrong numbers; the message says which.
    """
    settings = GpuSettings.of(spec.options)
    if not settings.check:
        return None
    drivers = tuple(os.environ.get(name) for name in vulkan.DRIVER_VARIABLES)
    key = (model.sha256, spec.threads, settings, signature, drivers)
    probe = _TRUSTED.get(key)
    if probe is None:
        probe = probe_gpu(
            model,
            precision=settings.precision,
            tolerance=settings.tolerance,
            timeout_s=settings.timeout_s,
            threads=spec.threads,
            signature=signature,
            switches=settings.switches,
        )
        if not probe.usable:
            said = f" The runtime said: {probe.native}." if probe.native else ""
            raise DelegateError(f"{model.name} cannot run on the GPU: {probe.reason}.{said}")
        _TRUSTED[key] = probe
    return probe

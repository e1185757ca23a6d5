"""Golden data: a few inputs with the outputs that are right for them travel in the file, and a device checks itself.

What runs a file on a device is another interpreter, delegate and processor than at conversion. The file therefore carries up
to eight inputs in its own types and what came out at conversion (``edgekit_convert.package.golden_data`` records them), once for each
kernel set: XNNPACK's, and the interpreter's own kernels (``none``). ``check`` runs the inputs here and compares with the set
that ran. Of large outputs every n-th value is kept.

Two tolerances are stated in the manifest, because right kernels differ in how they round:

* **steps**, where kernel set, engine, version and processor architecture are those of the conversion: at most one step of
  the output's own integers. Measured on keyword spotting, ResNet-8 and MobileNetV1 (60 samples each): 0 steps between 1, 2
  and 4 threads, in both sets. A graph that mixes floats and integers has no such tolerance: the last bit of a float differs
  from processor to processor, and decides which way a QUANTIZE rounds.
* **sqnr_db**, everywhere else: rounding differs in each layer and adds up. On the same three models XNNPACK and the
  interpreter's own kernels were 25 to 32 dB and up to 18 steps apart, the own kernels of tflite-runtime 2.14.0 and
  ai-edge-litert 2.3.0 18 to 43 dB and up to 31 steps. The limit is what the two sets differ by on these very inputs, less
  6 dB (twice the noise amplitude), and never above 12 dB. A kernel that misread its weights (FULLY_CONNECTED with a scale for
  each row, float activations, in tflite-runtime 2.14.0) gave 1 to 2 dB.
"""

from __future__ import annotations

import io
import math
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.digest import sha256_hex
from edgekit.errors import ConversionError, ModelFileError
from edgekit.manifest import ENTRY, read_golden
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice
from edgekit.runtime.session import Session
from edgekit.tensors import Array, TensorSpec, dequantize

#: The kernel sets that are recorded: what a session can get on any machine.
KERNEL_SETS: tuple[str, ...] = ("xnnpack", "none")
#: Of one output of one sample; of a larger one every n-th value is kept.
_MAX_OUTPUT_BYTES = 4 * 1024
#: See the module's docstring.
STEPS = 1
#: A signal of zero has no SQNR; this stands for it.
_LOWEST_DB = -100.0
#: Class numbers and other integers without a scale: kernels that round otherwise may tip some, not most.
_MIN_EQUAL = 0.5


@dataclass(frozen=True)
class Golden:
    """Golden data as they go into a file.

    Attributes:
        content: ``golden.npz``: arrays ``input_<place>`` ``[count, …]`` and ``<kernel set>_<place>`` ``[count, values]``.
        about: the manifest's ``golden`` block.
    """

    content: bytes
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The manifest's ``golden`` block."""
        return dict(self.about)


@dataclass(frozen=True)
class Recorded:
    """Golden data as they were read from a file, or just made.

    Attributes:
        inputs: one array ``[count, …]`` for each input, in the file's own types.
        outputs: by kernel set, one array ``[count, values]`` for each output; every n-th value of a large one.
        about: the manifest's ``golden`` block.
    """

    inputs: tuple[Array, ...]
    outputs: Mapping[str, tuple[Array, ...]]
    about: Mapping[str, Any]

    @property
    def count(self) -> int:
        """How many samples there are."""
        return int(self.about["count"])


@dataclass(frozen=True)
class GoldenOutput:
    """One output, compared with what was recorded.

    Attributes:
        name: the output.
        steps: the largest difference, in steps of the output's integers; for floats in steps of the integers that they
            come from, or of 1/255 of their range.
        sqnr_db: 10·log10(Σ expected² / Σ (expected - actual)²) in dB; ``None`` when nothing differs, or for integers
            without a scale.
        equal: share of values that are equal.
        not_finite: how many values are NaN or infinite where the other side's are not.
        tolerance: what was allowed, as text.
        passed: whether it is within the tolerance.
    """

    name: str
    steps: float
    sqnr_db: float | None
    equal: float
    not_finite: int
    tolerance: str
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class GoldenReport:
    """Whether a model gives here what it gave when it was converted.

    Attributes:
        model: the file.
        count: samples.
        kernel_set: what ran the model here: ``xnnpack``, ``none`` or another delegate.
        against: the recorded kernel set that it was compared with.
        strict: whether the tolerance in steps applies; if not, the one in dB.
        reason: why that tolerance.
        engine: the interpreter here.
        recorded_engine: the interpreter at conversion.
        outputs: one entry for each output.
    """

    model: str
    count: int
    kernel_set: str
    against: str
    strict: bool
    reason: str
    engine: str
    recorded_engine: str
    outputs: tuple[GoldenOutput, ...]

    @property
    def passed(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(output.passed for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """The fields by name, and ``passed``."""
        return {
            "passed": self.passed,
            **vars(self),
            "outputs": [output.to_json() for output in self.outputs],
        }


@dataclass(frozen=True)
class Run:
    """What one session gave for the golden inputs.

    Attributes:
        kernel_set: what ran the model: a delegate, or ``none``.
        engine: the interpreter's package and version.
        delegated: what the delegate took, as ``PartitionReport`` says it, or ``"nothing"``.
        outputs: one list of arrays for each sample, in the file's own types.
    """

    kernel_set: str
    engine: str
    delegated: str
    outputs: list[list[Array]]


def _stride(values: int, sample: Array) -> int:
    """Which part of an output of so many values is kept: every n-th, n without a divisor that the last axis has too."""
    stride = max(1, -(-values * sample.itemsize // _MAX_OUTPUT_BYTES))
    channels = sample.shape[-1] if sample.ndim else 1
    while stride > 1 and math.gcd(stride, channels) > 1:
        stride += 1
    return stride


def thinned(rows: Sequence[Sequence[Array]], model: ModelFile) -> tuple[Array, ...]:
    """Outputs as they are recorded and compared: ``[count, values]``."""
    flat = [[array.reshape(-1)[:: _stride(array.size, array)] for array in row] for row in rows]
    return stacked(flat, model)


def run_samples(
    model: ModelFile, choice: DelegateChoice, inputs: Sequence[Sequence[Array]], engine: str | None = None
) -> Run:
    """Run every sample in order in a new session, as for a model with a memory."""
    names = [item.name for item in model.inputs]
    order = [item.name for item in model.outputs]
    outputs = []
    with Session(model, choice, engine=engine, io="native") as session:
        for sample in inputs:
            result = session.run(dict(zip(names, sample, strict=True)))
            outputs.append([result[name] for name in order] if len(order) > 1 else [result])
        taken = str(session.partitions) if session.got != "none" else "nothing"
        return Run(session.got, session.engine, taken, outputs)


def stacked(rows: Sequence[Sequence[Array]], model: ModelFile) -> tuple[Array, ...]:
    """One array for each place in the rows, samples along the first axis.

    Raises:
        ConversionError: their shapes differ from sample to sample.
    """
    try:
        return tuple(np.stack([row[place] for row in rows]) for place in range(len(rows[0])))
    except ValueError as error:
        raise ConversionError(
            f"{model.name}: no golden data for a model whose sizes differ from sample to sample ({error})."
        ) from error


@dataclass(frozen=True)
class Difference:
    """How far two arrays are apart; see ``GoldenOutput``."""

    steps: float
    sqnr_db: float | None
    equal: float
    not_finite: int


def difference(spec: TensorSpec, expected: Array, actual: Array, step: float | None) -> Difference:
    """Compare two arrays of one output.

    Args:
        spec: the output.
        expected: in the file's own type.
        actual: likewise, of the same shape.
        step: the size of a step of a float output; ``None`` for integers.
    """
    a, b = (_real(spec, array) for array in (expected, actual))
    finite = np.isfinite(a) & np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    broken = int(np.count_nonzero(~finite & ~same))
    distance = np.where(finite, np.abs(np.where(finite, a, 0.0) - np.where(finite, b, 0.0)), 0.0)
    size = step if step is not None else spec.quant.scales[0] if _scaled(spec) and spec.quant is not None else 1.0
    noise, signal = float((distance**2).sum()), float((a[finite] ** 2).sum())
    sqnr: float | None = None
    if noise > 0 and (_scaled(spec) or step is not None):
        sqnr = 10 * math.log10(signal / noise) if signal > 0 else _LOWEST_DB
    # Steps of integers are whole, whatever rounding the division by the scale leaves.
    steps = round(float(distance.max(initial=0.0)) / size, 4)
    return Difference(steps, sqnr, float(np.mean(same)) if same.size else 1.0, broken)


def _scaled(spec: TensorSpec) -> bool:
    return spec.quant is not None and spec.quant.per_tensor


def _real(spec: TensorSpec, array: Array) -> Array:
    if spec.quant is not None and _scaled(spec):
        array = dequantize(array, spec.quant)
    result: Array = array.astype(np.float64)
    return result


def unpack(content: bytes, about: Mapping[str, Any], model: ModelFile) -> Recorded:
    """Read golden data.

    Args:
        content: ``golden.npz``.
        about: the manifest's ``golden`` block.
        model: the model that they are for.

    Raises:
        ModelFileError: they are damaged, or another model's.
    """
    again = "Copy the file again, or convert the model again."
    digest = sha256_hex(content)
    if digest != about.get("sha256"):
        raise ModelFileError(
            f"{model.name}: its golden data are damaged: sha256 {digest[:16]}…, the manifest says "
            f"{str(about.get('sha256'))[:16]}…. {again}"
        )
    if about.get("model_sha256") != model.sha256:
        raise ModelFileError(
            f"{model.name}: its golden data are those of another model (sha256 {str(about.get('model_sha256'))[:16]}…, this "
            f"one has {model.sha256[:16]}…). {again}"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            inputs = tuple(arrays[f"input_{place}"] for place in range(len(model.inputs)))
            places = range(len(model.outputs))
            outputs = {name: tuple(arrays[f"{name}_{place}"] for place in places) for name in about["sets"]}
        fits = [array.dtype == spec.dtype for array, spec in zip(inputs, model.inputs, strict=True)]
        if not (all(fits) and outputs and all(len(array) == about["count"] for array in inputs)):
            raise ValueError("types or counts differ")
        if len(about["tolerance"]["outputs"]) != len(model.outputs):
            raise ValueError(f"{len(about['tolerance']['outputs'])} tolerances for {len(model.outputs)} outputs")
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ModelFileError(
            f"{model.name}: its golden data are not as edgekit writes them ({error!r}). {again}"
        ) from error
    return Recorded(inputs, outputs, about)


def read(model: ModelFile) -> Recorded:
    """The golden data of a file.

    Raises:
        ModelFileError: there are none, they are damaged, or another model's.
    """
    if model.manifest is None or not model.manifest.golden:
        raise ModelFileError(
            f"{model.name} carries no golden data, so that there is nothing to compare with. `edgekit convert` writes them: "
            "convert the model again."
        )
    try:
        content = read_golden(model.data, model.graph.metadata.get(ENTRY))
    except ValueError as error:
        raise ModelFileError(
            f"{model.name}: its golden data are damaged ({error}). Copy the file again, or convert the model again."
        ) from error
    if content is None:
        raise ModelFileError(
            f"{model.name}: its manifest tells of golden data, and there are none in the file. Copy the file again."
        )
    return unpack(content, model.manifest.golden, model)


def check(model: ModelFile, choice: DelegateChoice, *, engine: str | None = None) -> GoldenReport:
    """Run a file's golden inputs here and compare with what came out at conversion.

    Args:
        model: a file with golden data.
        choice: the delegate to run on.
        engine: an engine's name; ``None`` for the first that is installed.

    Raises:
        ModelFileError: the file has no golden data, they are damaged, or another model's.
        EngineError: no interpreter, or it refused the model.
        DelegateError: the delegate cannot be loaded.
    """
    recorded = read(model)
    samples = [[array[number] for array in recorded.inputs] for number in range(recorded.count)]
    run = run_samples(model, choice, samples, engine)
    return judge(recorded, model, run.kernel_set, run.outputs, engine=run.engine, delegated=run.delegated)


def judge(
    recorded: Recorded,
    model: ModelFile,
    kernel_set: str,
    outputs: Sequence[Sequence[Array]],
    *,
    engine: str,
    delegated: str = "nothing",
) -> GoldenReport:
    """Compare outputs for the golden inputs with the recorded ones.

    Args:
        recorded: see ``read``.
        model: the model.
        kernel_set: what ran it.
        outputs: one list of arrays for each sample, in the file's own types.
        engine: the interpreter that ran it.
        delegated: what the delegate took, as ``PartitionReport`` says it, or ``"nothing"``.

    Raises:
        ModelFileError: the golden data are another model's.
    """
    about = recorded.about
    known = kernel_set in recorded.outputs
    against = (
        kernel_set if known else next(name for name in (*KERNEL_SETS, *recorded.outputs) if name in recorded.outputs)
    )
    past = about["sets"][against]
    strict, reason = _which(known, kernel_set, engine, delegated, about, past)
    compared = []
    kept = thinned(outputs, model)
    for place, spec in enumerate(model.outputs):
        expected, actual = recorded.outputs[against][place], kept[place]
        if (expected.shape, expected.dtype) != (actual.shape, actual.dtype):
            raise ModelFileError(
                f"{model.name}: the golden data for {spec.name!r} are {expected.dtype}{list(expected.shape)}, "
                f"{actual.dtype}{list(actual.shape)} came out: they are another model's. Convert the model again."
            )
        limits = about["tolerance"]["outputs"][place]
        compared.append(_judged(spec, difference(spec, expected, actual, limits["step"]), limits, strict, about))
    return GoldenReport(
        model.name, len(outputs), kernel_set, against, strict, reason, engine, str(past["engine"]), tuple(compared)
    )


def _which(
    known: bool, kernel_set: str, engine: str, delegated: str, about: Mapping[str, Any], past: Mapping[str, Any]
) -> tuple[bool, str]:
    """Whether the tolerance in steps applies, and why or why not."""
    if not known:
        return False, f"{kernel_set} was not recorded at conversion, and its kernels round otherwise"
    if engine != past["engine"]:
        return False, f"recorded with {past['engine']}, run with {engine}, whose kernels may round otherwise"
    if platform.machine() != about["machine"]:
        return False, f"recorded on {about['machine']}, run on {platform.machine()}, whose kernels may round otherwise"
    if delegated != past["delegated"]:
        return False, f"at conversion the delegate took another part of the graph ({past['delegated']})"
    if about["tolerance"]["steps"] is None:
        return False, "the graph mixes integers and floats, whose last bits differ from processor to processor"
    return True, "same kernels, engine and processor architecture as at conversion"


def _judged(
    spec: TensorSpec, seen: Difference, limits: Mapping[str, Any], strict: bool, about: Mapping[str, Any]
) -> GoldenOutput:
    index = spec.quant is None and limits["step"] is None  # class numbers, counts, booleans
    steps = 0 if index else STEPS
    if strict:
        steps = 0 if index else about["tolerance"]["steps"]
        text = "equal" if index else f"at most {steps} step{'s' if steps != 1 else ''}"
        good = seen.steps <= steps
    elif index:
        text, good = f"at least {100 * _MIN_EQUAL:.0f} % equal", seen.equal >= _MIN_EQUAL
    else:
        # A small output of few values has a poor SQNR after a single step, which is nobody's fault.
        text = f"at least {limits['sqnr_db']:g} dB, or at most {STEPS} step"
        good = seen.sqnr_db is None or seen.sqnr_db >= limits["sqnr_db"] or seen.steps <= steps
    passed = bool(good and seen.not_finite == 0)
    return GoldenOutput(
        spec.name,
        seen.steps,
        None if seen.sqnr_db is None else round(seen.sqnr_db, 2),
        seen.equal,
        seen.not_finite,
        text,
        passed,
    )

"""The oldest runtime that loads and runs a finished file: seen where one is at hand, computed where not.

The environment variable ``EDGEKIT_TFLITE_RUNTIME_PYTHON`` names a Python that has tflite-runtime, the oldest runtime that
devices of today still use. It loads the file and runs its golden inputs in a process of its own, which may crash. Without it
the operator versions say since when TensorFlow Lite has the operators.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import golden
from edgekit.golden import Golden, GoldenReport
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.tensors import Array, TensorSpec, dequantize
from edgekit_convert.package import golden_data
from edgekit_convert.package.versions import required_runtime

VARIABLE = "EDGEKIT_TFLITE_RUNTIME_PYTHON"
LOADED, VERSIONS = "loaded and agreed", "operator versions"
#: Far above what loading and a few runs take: what hangs must end.
_LIMIT_SECONDS = 120
_SAMPLES = 3


@dataclass(frozen=True)
class OldestRuntime:
    """How far back a file runs.

    Attributes:
        proven: the newest of the runtimes that were seen to run it: the one of the conversion.
        oldest: the oldest that is known to.
        by: how that is known: ``LOADED`` when it ran the golden inputs, ``VERSIONS`` when it has all operators.
        required: the oldest TensorFlow Lite that has all operators in the versions needed; ``None`` where that is not known.
        refused: the runtime that was tried and did not run it, and why; ``None`` where all did.
    """

    proven: str
    oldest: str
    by: str
    required: str | None
    refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The manifest's ``runtime`` block."""
        return {
            "proven": self.proven,
            "oldest": self.oldest,
            "by": self.by,
            "operators_since": self.required and f"TensorFlow Lite {self.required}",
            "refused": self.refused,
        }


def oldest_runtime(flatbuffer: bytes, data: Golden | None = None, *, python: str | None = None) -> OldestRuntime:
    """Find the oldest runtime for a file.

    Args:
        flatbuffer: the finished model, with or without the announcement of a manifest.
        data: its golden data, to compare with; without them random inputs are used.
        python: a Python that has tflite-runtime; ``None`` for what ``EDGEKIT_TFLITE_RUNTIME_PYTHON`` names, if it does.

    Raises:
        EngineError: the runtime here does not run the model.
    """
    model = golden_data.opened(flatbuffer)
    if data is None:
        data = golden_data.make(flatbuffer, _random_samples(model.inputs), DelegateSpec("xnnpack", 1))
    proven = next(str(item["engine"]) for item in data.about["sets"].values())
    required = required_runtime(flatbuffer)
    python = python or os.environ.get(VARIABLE)
    if python:
        runtime, failure = _try(python, flatbuffer, data, model)
        if failure is None:
            return OldestRuntime(proven, runtime, LOADED, required)
        return OldestRuntime(proven, proven, LOADED, required, f"{runtime}: {failure}")
    if required is None:
        return OldestRuntime(proven, proven, LOADED, None)
    return OldestRuntime(proven, f"TensorFlow Lite {required}", VERSIONS, required)


def _random_samples(inputs: tuple[TensorSpec, ...]) -> list[dict[str, Array]]:
    random = np.random.default_rng(0)
    return [{spec.name: _random(spec, random) for spec in inputs} for _ in range(_SAMPLES)]


def _random(spec: TensorSpec, random: np.random.Generator) -> Array:
    """Real numbers that the input's type can hold: over its whole range for quantised ones."""
    shape = tuple(max(1, size) for size in spec.shape)
    if spec.quant is not None:
        limits = np.iinfo(spec.dtype)
        return dequantize(random.integers(limits.min, limits.max, shape, dtype=spec.dtype, endpoint=True), spec.quant)
    if spec.dtype.startswith("float"):
        return random.normal(0, 1, shape).astype(np.float32)
    return np.zeros(shape, spec.dtype)


def _try(python: str, flatbuffer: bytes, data: Golden, model: ModelFile) -> tuple[str, str | None]:
    """Run the golden inputs in another Python: its runtime, and why the file does not work there, or ``None``."""
    with tempfile.TemporaryDirectory(prefix="edgekit-oldest-") as folder:
        paths = [Path(folder) / name for name in ("model.tflite", "golden.npz", "outputs.npz")]
        paths[0].write_bytes(flatbuffer)
        paths[1].write_bytes(data.content)
        child = Path(__file__).with_name("oldest_child.py")
        # Isolated: this process's PYTHONPATH leads to packages for another numpy.
        command = [python, "-I", str(child), *(str(path) for path in paths)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_LIMIT_SECONDS)
        except OSError as error:
            return python, f"could not be started ({error.strerror})"
        except subprocess.TimeoutExpired as error:
            return _runtime(error.stdout, python), f"not done after {_LIMIT_SECONDS} seconds"
        runtime = _runtime(done.stdout, python)
        if done.returncode != 0:
            return runtime, _why(done)
        with np.load(paths[2], allow_pickle=False) as arrays:
            results = {name: arrays[name] for name in arrays.files}
    recorded = golden.unpack(data.content, data.about, model)
    for kind in golden.KERNEL_SETS:
        rows = [
            [results[f"{kind}_{sample}_{place}"] for place in range(len(model.outputs))]
            for sample in range(recorded.count)
        ]
        report = golden.judge(recorded, model, kind, rows, engine=runtime)
        if not report.passed:
            return runtime, f"it runs, and gives other outputs ({_apart(report)})"
    return runtime, None


def _runtime(output: str | bytes | None, python: str) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return next((line for line in text.splitlines() if line.startswith("tflite-runtime ")), python)


def _why(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"it crashed ({signal.Signals(-done.returncode).name})"
    # The exception's own lines are the last of a traceback, from the one that names its type.
    start = done.stderr.rfind("Error: ")
    text = " ".join(done.stderr[max(0, start) :].removeprefix("Error: ").split())
    return text[:300] or f"exit code {done.returncode}"


def _apart(report: GoldenReport) -> str:
    return ", ".join(
        f"{item.name}: {'nothing finite' if item.sqnr_db is None else f'{item.sqnr_db:.1f} dB'}"
        for item in report.outputs
        if not item.passed
    )

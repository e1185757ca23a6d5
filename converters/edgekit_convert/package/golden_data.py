"""Golden data: inputs and right outputs are recorded when a model is finished; ``edgekit.golden`` compares on the device.

So that a small model does not double in size, large images are recorded in blocks of equal pixels, which compress.
"""

from __future__ import annotations

import io
import itertools
import platform
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.digest import sha256_hex
from edgekit.errors import ConversionError, EngineError, ModelFileError, TensorError
from edgekit.golden import KERNEL_SETS, STEPS, Golden, difference, run_samples, stacked, thinned
from edgekit.inspection import inspect
from edgekit.manifest import Manifest, append
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.tensors import Array, TensorSpec, quantize

MAX_SAMPLES = 8
#: What golden data may add to a file, compressed: this share of the flatbuffer within these limits. One sample is always kept.
SHARE = 1 / 20
MIN_BYTES, MAX_BYTES = 16 * 1024, 256 * 1024
#: Edges in pixels of the blocks that large images are recorded in, until ``_WANTED`` of them fit.
_BLOCKS = (1, 2, 4, 8, 16)
_WANTED = 3
#: The limits in dB; see ``edgekit.golden``.
FLOOR_DB = 12.0
MARGIN_DB = 6.0
#: Below this the noise is nearly as large as the signal, and nothing is being checked.
_LEAST_DB = 3.0
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def make(flatbuffer: bytes, samples: Iterable[Mapping[str, Array]], spec: DelegateSpec) -> Golden:
    """Run a finished model on a few samples and record inputs and outputs.

    Args:
        flatbuffer: the model as it will be written, with or without the announcement of a manifest.
        samples: prepared real numbers by input name, with the batch axis; only the first ``MAX_SAMPLES`` are looked at.
        spec: the target's delegate; its threads are used.

    Returns:
        As many samples as fit into the budget (``SHARE`` of the flatbuffer), at least one.

    Raises:
        ConversionError: there is no sample, or the outputs' sizes differ from sample to sample.
        EngineError: the interpreter here does not run the model.
        TensorError: a sample does not fit the model.
    """
    model = opened(flatbuffer)
    whole = [
        [_native(item, sample) for item in model.inputs] for sample in itertools.islice(iter(samples), MAX_SAMPLES)
    ]
    if not whole:
        raise ConversionError("golden data need at least one sample, and none was given.")
    budget = int(min(MAX_BYTES, max(MIN_BYTES, SHARE * len(flatbuffer))))
    block, inputs = _coarsened(whole, budget, model)
    runs, refusals = [], []
    for kind in KERNEL_SETS:
        try:
            runs.append(
                run_samples(model, DelegateChoice(DelegateSpec(kind, spec.threads or 1), "golden data"), inputs)
            )
        except EngineError as error:
            refusals.append(error)
    if not runs:
        raise refusals[0]
    # When XNNPACK takes nothing both runs are of the same set, and the later one is as good as the first.
    outputs = {run.kernel_set: thinned(run.outputs, model) for run in runs}
    whole_inputs = stacked(inputs, model)
    for count in range(len(inputs), 0, -1):
        content = _packed(_arrays([array[:count] for array in whole_inputs], outputs, count))
        if len(zlib.compress(content, 9)) <= budget:
            break
    about = {
        "count": count,
        "bytes": len(content),
        "sha256": sha256_hex(content),
        "model_sha256": model.sha256,
        "machine": platform.machine(),
        "block": block,
        "sets": {
            run.kernel_set: {"engine": run.engine, "threads": spec.threads or 1, "delegated": run.delegated}
            for run in runs
        },
        "tolerance": {
            "steps": None if _mixed(model) else STEPS,
            "outputs": [_tolerance(model, place, outputs) for place in range(len(model.outputs))],
        },
    }
    return Golden(content, about)


def _coarsened(samples: list[list[Array]], budget: int, model: ModelFile) -> tuple[int, list[list[Array]]]:
    """Images in blocks of equal pixels, so large that a few fit into three quarters of ``budget``; and the blocks' edge."""
    for block in _BLOCKS:
        coarse = [[_in_blocks(array, block) for array in sample] for sample in samples]
        some = stacked(coarse[:_WANTED], model)
        if len(zlib.compress(b"".join(array.tobytes() for array in some), 9)) <= 0.75 * budget:
            break
    return block, coarse


def _in_blocks(array: Array, block: int) -> Array:
    """An image ``[1, height, width, channels]`` of which each block has the colour of its first pixel; others as they are."""
    if block == 1 or array.ndim != 4:
        return array
    height, width = array.shape[1:3]
    rows, columns = (np.arange(size) // block * block for size in (height, width))
    return np.ascontiguousarray(array[:, rows][:, :, columns])


def opened(flatbuffer: bytes) -> ModelFile:
    """A model from its flatbuffer; one that announces a manifest gets an empty one, or it would count as damaged."""
    try:
        return ModelFile.read(flatbuffer)
    except ModelFileError:
        return ModelFile.read(append(flatbuffer, Manifest(sha256_hex(flatbuffer))))


def _native(spec: TensorSpec, sample: Mapping[str, Array]) -> Array:
    """One input in the file's own type."""
    if spec.name not in sample:
        raise TensorError(
            f"a golden sample has {', '.join(sample) or 'nothing'}, the model's input {spec.name!r} is missing."
        )
    value = np.asarray(sample[spec.name])
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise TensorError(
            f"a golden sample for {spec.name!r} holds NaN or infinite values: finite numbers were expected."
        )
    return quantize(value, spec.quant, spec.dtype) if spec.quant is not None else value.astype(spec.dtype)


def _arrays(inputs: Sequence[Array], outputs: Mapping[str, tuple[Array, ...]], count: int) -> dict[str, Array]:
    """The arrays of ``golden.npz`` by name."""
    arrays = {f"input_{place}": array for place, array in enumerate(inputs)}
    for name, values in outputs.items():
        arrays |= {f"{name}_{place}": array[:count] for place, array in enumerate(values)}
    return arrays


def _packed(arrays: Mapping[str, Array]) -> bytes:
    """An ``.npz`` file: the same arrays give the same bytes; what holds it compresses it where that pays."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE), member.getvalue())
    return stream.getvalue()


def _mixed(model: ModelFile) -> bool:
    """Whether some operators compute on integers and some on floats."""
    seen = inspect(model, partitions=False)
    return bool(seen.float_ops) and any(op.type in ("int8", "hybrid") for op in seen.ops)


def _tolerance(model: ModelFile, place: int, outputs: Mapping[str, tuple[Array, ...]]) -> dict[str, Any]:
    """The tolerance for one output: the size of a step for floats, and the limit for other kernels."""
    spec = model.outputs[place]
    arrays = [values[place] for values in outputs.values()]
    step = _float_step(model, place, arrays[0]) if arrays[0].dtype.kind == "f" else None
    apart = difference(spec, arrays[0], arrays[-1], step).sqnr_db
    limit = FLOOR_DB if apart is None else min(FLOOR_DB, max(_LEAST_DB, apart - MARGIN_DB))
    return {"name": spec.name, "step": step, "sets_apart_db": _rounded(apart), "sqnr_db": _rounded(limit)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _float_step(model: ModelFile, place: int, expected: Array) -> float:
    """What one step is for a float output: that of the integers it comes from, else 1/255 of its range."""
    main = model.graph.main
    for op in main.ops:
        if main.outputs[place] in op.outputs and op.name == "DEQUANTIZE":
            quant = main.tensors[op.inputs[0]].quant
            if quant is not None and quant.per_tensor and quant.scales[0] > 0:
                return float(quant.scales[0])
    finite = expected[np.isfinite(expected)]
    width = float(finite.max() - min(0.0, float(finite.min()))) if finite.size else 0.0
    return width / 255 if width > 0 else 1.0

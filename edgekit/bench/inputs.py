"""What the runs of a benchmark get: real samples in the file's own types, or valid random ones.

Any random value is one that the model could be given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DataError, EdgekitError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.preprocess import Preprocessing
from edgekit.runtime.values import Values
from edgekit.tensors import Array, TensorSpec

#: Real samples are kept in memory, and run in turn: so many, and so much memory, at most.
MOST_SAMPLES = 64
_MOST_BYTES = 256_000_000


def random_inputs(specs: Sequence[TensorSpec], seed: int = 0, batch: int | None = None) -> dict[str, Array]:
    """One array for each input, in the file's own type.

    Quantised inputs use every integer of their type, which is exactly the range of real values that the file can
    hold. Floats are uniform in -1..1. Integers without scale are most often indices into something whose size is not
    known, so they are 0 or 1.

    Args:
        specs: the inputs; an open size becomes 1.
        seed: the same seed gives the same arrays.
        batch: the first size of each input, or ``None`` for the model's own.

    Returns:
        Arrays by input name.

    Raises:
        OptionError: a model's first size is fixed at another number than ``batch``.
    """
    random = np.random.default_rng(seed)
    if batch is not None:
        check_batch(specs, batch)
    return {spec.name: _values(spec, random, batch) for spec in specs}


def check_batch(specs: Sequence[TensorSpec], batch: int) -> None:
    """Refuse a batch that the model has no room for.

    Args:
        specs: the inputs.
        batch: the first size of each.

    Raises:
        OptionError: an input's first size is fixed at another number.
    """
    for spec in specs:
        if not spec.shape or spec.shape[0] not in (-1, batch):
            raise OptionError(
                f"a batch of {batch}: the model's input {spec} does not leave its first size open. `edgekit convert --batch {batch}` "
                "gives a model a second signature for it."
            )


def _values(spec: TensorSpec, random: np.random.Generator, batch: int | None) -> Array:
    shape = tuple(1 if size == -1 else size for size in spec.shape)
    if batch is not None:
        shape = (batch, *shape[1:])
    kind = np.dtype(spec.dtype)
    if kind.kind in "iu" and spec.quant is not None:
        limits = np.iinfo(kind)
        return random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    if kind.kind in "iub":
        return random.integers(0, 2, shape).astype(kind)
    return random.uniform(-1, 1, shape).astype(kind)


def native_samples(
    model: ModelFile, data: Any, *, batch: int | None = None, preprocessing: Mapping[str, Preprocessing] | None = None
) -> list[dict[str, Array]]:
    """Real samples as the file's inputs take them: preprocessed, checked and quantised once, before anything is timed.

    Args:
        model: the model.
        data: samples as ``Session.run`` takes them, in a list; or arrays ``[n, …]`` by input name; or one such array.
        batch: so many of them make one run; ``None`` for one.
        preprocessing: by input name; ``None`` for what the model's manifest says.

    Returns:
        At most 64 inputs, each a dict by input name.

    Raises:
        DataError: there is no sample, or one does not fit the model.
        OptionError: the model has no room for the batch.
    """
    specs = model.inputs
    if batch is not None and model.batch_signature(batch) is None:
        check_batch(specs, batch)
    if preprocessing is None:
        preprocessing = model.manifest.preprocessing if model.manifest is not None else {}
    # Of a batch each sample is made ready by itself; the model's first size is open then.
    values = Values(model, specs, model.outputs, native=False, preprocess=False, non_finite="allow")
    samples: list[dict[str, Array]] = []
    room = _MOST_BYTES
    for number, item in enumerate(_items(specs, data)):
        if len(samples) >= MOST_SAMPLES * (batch or 1) or room < 0:
            break
        try:
            given = {spec.name: _prepared(spec, item, preprocessing.get(spec.name)) for spec in specs}
            arrays = [np.array(array) for array in values.arrays(given, {})]  # the originals' memory is used again
        except EdgekitError as error:
            raise DataError(f"sample {number} of the benchmark's data: {error}") from error
        samples.append({spec.name: array for spec, array in zip(specs, arrays, strict=True)})
        room -= sum(array.nbytes for array in arrays)
    if not samples:
        raise DataError("the benchmark's data hold no sample: at least one was expected.")
    if batch is None:
        return samples
    rows = [samples[place % len(samples)] for place in range(batch * max(1, len(samples) // batch))]
    return [
        {spec.name: np.concatenate([row[spec.name] for row in rows[start : start + batch]]) for spec in specs}
        for start in range(0, len(rows), batch)
    ]


def _prepared(spec: TensorSpec, item: Mapping[str, Any], preprocessing: Preprocessing | None) -> Array:
    if spec.name not in item:
        raise DataError(f"it lacks the input {spec.name!r} and has {', '.join(map(str, item)) or 'nothing'}.")
    array = np.asarray(item[spec.name])
    if preprocessing is not None:
        array = preprocessing.apply(array)
    return array[None] if array.ndim == len(spec.shape) - 1 and spec.accepts((1, *array.shape)) else array


def save_samples(path: Path, samples: Sequence[Mapping[str, Array]]) -> None:
    """Write samples for the process that measures.

    Args:
        path: an ``.npz`` file.
        samples: what ``native_samples`` gave.
    """
    # Numbers for names: an input may be called anything.
    arrays = {
        f"{number}_{place}": array for number, row in enumerate(samples) for place, array in enumerate(row.values())
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the arrays for its options


def load_samples(path: Path, specs: Sequence[TensorSpec]) -> list[dict[str, Array]]:
    """Read what ``save_samples`` wrote.

    Args:
        path: the file.
        specs: the model's inputs, in the same order.
    """
    with np.load(path, allow_pickle=False) as found:
        count = len(found.files) // len(specs)
        return [
            {spec.name: found[f"{number}_{place}"] for place, spec in enumerate(specs)} for number in range(count)
        ]  # fmt: skip


def _items(specs: Sequence[TensorSpec], data: Any) -> Iterable[Mapping[str, Any]]:
    """Samples one by one, by input name."""
    if isinstance(data, Mapping):
        missing = [spec.name for spec in specs if spec.name not in data]
        if missing:
            raise DataError(
                f"the benchmark's data lack the input {missing[0]!r}: they have {', '.join(map(str, data))}."
            )
        counts = {len(data[spec.name]) for spec in specs}
        if len(counts) != 1:
            raise DataError(f"the benchmark's arrays have different numbers of samples: {sorted(counts)}.")
        return ({spec.name: data[spec.name][number] for spec in specs} for number in range(counts.pop()))
    if not isinstance(data, Iterable) or isinstance(data, str | bytes):
        raise DataError(
            f"benchmark data of type {type(data).__name__}: an array [n, …], arrays by input name, or a list of samples was expected."
        )
    return (item if isinstance(item, Mapping) else _alone(specs, item) for item in data)


def _alone(specs: Sequence[TensorSpec], item: Any) -> dict[str, Any]:
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise DataError(f"the model has the inputs {names}: give the benchmark's data by input name.")
    return {specs[0].name: item}

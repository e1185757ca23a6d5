"""``CalibrationSet``: representative data, ready for the model, rewindable, bounded, fingerprinted and audited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.errors import DataError, TensorError
from edgekit.preprocess import Preprocessing
from edgekit.tensors import NUMPY_TYPES, Array, TensorSpec
from edgekit_convert.calibration.auditing import Audit as Audit
from edgekit_convert.calibration.auditing import Finding as Finding
from edgekit_convert.calibration.auditing import Parts as Parts
from edgekit_convert.calibration.auditing import audit as audit
from edgekit_convert.calibration.auditing import no_sample
from edgekit_convert.calibration.auditing import scales_its_input as scales_its_input
from edgekit_convert.calibration.data import DataSource

#: Prepared samples are kept for the next pass as long as all of them take no more than this.
_KEPT_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Ready:
    """One sample, ready for the model.

    Attributes:
        inputs: by name, each with its batch axis, in the input's own float or integer type.
        label: as the data gave it, or ``None``.
    """

    inputs: dict[str, Array]
    label: Any


class _Kept:
    """The prepared samples of one whole pass, where they fit: a conversion makes several passes."""

    def __init__(self) -> None:
        self.samples: list[Ready] = []
        self.complete = False
        self._bytes = 0

    def offer(self, ready: Ready) -> None:
        self._bytes += sum(value.nbytes for value in ready.inputs.values())
        if self._bytes <= _KEPT_BYTES:
            self.samples.append(ready)
        else:
            self.samples.clear()

    def finish(self, other: _Kept) -> None:
        """The pass is over: hand the samples on if all are there."""
        if self._bytes <= _KEPT_BYTES:
            other.samples, other.complete = self.samples, True


@dataclass(frozen=True)
class CalibrationSet:
    """Data for one model: each iteration is a new pass.

    Attributes:
        source: the raw samples.
        inputs: the float model's inputs; sizes may be open until ``pinned`` has been asked.
        preprocessing: by input name.
    """

    source: DataSource
    inputs: tuple[TensorSpec, ...]
    preprocessing: Mapping[str, Preprocessing]
    _kept: _Kept = field(default_factory=lambda: _Kept(), compare=False, repr=False)

    def __iter__(self) -> Iterator[Ready]:
        if self._kept.complete:
            yield from self._kept.samples
            return
        keeping = _Kept()
        for number, (raw, label) in enumerate(self.source.read()):
            # What is handed on is kept, and a generator may use its memory again.
            ready = self.prepare(number, {name: np.array(value) for name, value in raw.items()}, label)
            keeping.offer(ready)
            yield ready
        keeping.finish(self._kept)

    @property
    def kept(self) -> bool:
        """Whether the prepared samples are in memory, so that another pass reads and prepares nothing."""
        return self._kept.complete

    def __len__(self) -> int:
        if self._kept.complete:
            return len(self._kept.samples)
        return self.source.total if self.source.total is not None else sum(1 for _ in self.source.read())

    def prepare(self, number: int, raw: Mapping[str, Array], label: Any = None) -> Ready:
        """Make one raw sample ready; threads may do so at once.

        Args:
            number: its place in the data, counted from 0, for messages.
            raw: by input name.
            label: as the data gave it.

        Raises:
            DataError: it does not fit the model.
        """
        return Ready({spec.name: self._prepare(number, spec, raw[spec.name]) for spec in self.inputs}, label)

    def _prepare(self, number: int, spec: TensorSpec, raw: Array) -> Array:
        if spec.dtype not in NUMPY_TYPES:
            raise DataError(f"the model's input {spec}: only inputs of numbers can be converted.")
        if raw.dtype.kind not in "fiub":
            raise DataError(f"{self.source.origin}: sample {number} is of dtype {raw.dtype}: numbers were expected.")
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            bad = int(np.count_nonzero(~np.isfinite(raw)))
            raise DataError(
                f"{self.source.origin}: sample {number} holds {bad} NaN or infinite values of {raw.size}. "
                "Remove or mend that sample; one NaN makes every range meaningless."
            )
        item = self.preprocessing.get(spec.name)
        try:
            value = item.apply(raw) if item is not None and spec.dtype.startswith("float") else raw
        except TensorError as error:
            raise DataError(f"{self.source.origin}: sample {number}: {error}") from error
        with np.errstate(over="ignore", invalid="ignore"):  # looked for below
            given, value = value, np.ascontiguousarray(value, dtype=spec.dtype)
        kept = (
            np.isfinite(value).all() if value.dtype.kind == "f" else np.array_equal(value.reshape(given.shape), given)
        )
        if not kept:
            raise DataError(
                f"{self.source.origin}: sample {number} has values that the input {spec.name!r} of type {spec.dtype} cannot "
                f"hold: {raw.dtype} from {raw.min():.6g} to {raw.max():.6g}."
            )
        if value.ndim == len(spec.shape) - 1:
            value = value[None]
        if not spec.accepts(value.shape):
            # The batch axis is not the sample's; a sample of another rank has none.
            seen = value.shape[1:] if value.ndim == len(spec.shape) else value.shape
            raise DataError(self._shape_message(number, spec, seen))
        return value

    def _shape_message(self, number: int, spec: TensorSpec, seen: tuple[int, ...]) -> str:
        wanted = spec.shape[1:]
        text = (
            f"{self.source.origin}: sample {number} has shape {list(seen)}, the model's input {spec.name!r} takes "
            f"{['?' if size == -1 else size for size in wanted]}."
        )
        if seen == wanted:
            single = ",".join(str(size) for size in (1, *wanted))
            text += (
                f" Its batch is fixed at {spec.shape[0]}, and samples are run one by one: export the model with an open batch "
                f"or a batch of 1, or have it rewritten for one (--shape {spec.name}={single})."
            )
        elif len(seen) == 3 and len(wanted) == 3 and seen[-1] == wanted[-1] and -1 not in wanted:
            text += f" Pass --resize {wanted[1]}x{wanted[0]}, or resize the images yourself."
        elif len(seen) == 3 and len(wanted) == 3 and seen[-1] == wanted[0] and seen[0] != wanted[0]:
            text += (
                " The input has the channels first, and the data have them last: transpose them to channels, height, width; or, "
                "where you gave it, leave out --channels-first."
            )
        elif len(seen) == 3 and len(wanted) == 3 and seen[0] == wanted[-1]:
            text += " The data are channels-first: transpose them to height, width, channels."
        return text

    def pinned(self) -> dict[str, tuple[int, ...]]:
        """Each input's shape with open sizes taken from the first sample, batch 1.

        Raises:
            DataError: there is no sample, or it does not fit.
        """
        for ready in self:
            return {name: value.shape for name, value in ready.inputs.items()}
        raise DataError(no_sample(self.source.origin))


def preprocessing_for(inputs: Sequence[TensorSpec], one: Preprocessing) -> dict[str, Preprocessing]:
    """Say which input the options ``--normalize --resize --color --crop`` are for.

    Args:
        inputs: the model's inputs.
        one: what the options say.

    Raises:
        DataError: there are several inputs that it could be for.
    """
    if one == Preprocessing():
        return {}
    candidates = [spec for spec in inputs if spec.dtype.startswith("float")]
    if len(candidates) > 1:
        candidates = [spec for spec in candidates if len(spec.shape) == 4] or candidates
    if len(candidates) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(
            f"--normalize, --resize, --color and --crop are for one float input, and the model has {names}. "
            "Use edgekit.convert(preprocessing={name: Preprocessing(...)})."
        )
    return {candidates[0].name: one}

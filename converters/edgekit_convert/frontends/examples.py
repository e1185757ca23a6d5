"""``Examples``: first samples of the calibration data, for sources that do not say what their inputs look like.

A PyTorch module takes whatever its ``forward`` makes sense of; sizes and types follow from the data that it is to be calibrated
with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DataError, TensorError
from edgekit.preprocess import Preprocessing
from edgekit.tensors import Array, TensorSpec
from edgekit_convert.calibration.data import open_data

#: With more axes than any array has, what an iterator gives counts as one sample; with none, as a batch.
_WHOLE, _PARTED = (-1,) * 65, ()
#: Channels of images in a folder: colour first, then grey.
_IMAGES = ((-1, -1, -1, 3), (-1, -1, -1, 1))


@dataclass(frozen=True)
class Examples:
    """Calibration data that are looked at before the model is known.

    Attributes:
        data: as ``edgekit.convert`` takes them.
        preprocessing: what is done to the images of the only image input.
        named: the same by input name.
    """

    data: Any
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    named: Mapping[str, Preprocessing] = field(default_factory=dict)

    def input_names(self) -> tuple[str, ...]:
        """The names that the data carry, without labels; none where they carry none."""
        if isinstance(self.data, Mapping):
            names = [str(name) for name in self.data]
        elif isinstance(self.data, str | os.PathLike):
            _, mark, keys = os.fspath(self.data).partition(".npz:")
            names = [part.partition("=")[0] for part in keys.split(",") if "=" in part] if mark else []
        else:
            names = []
        return tuple(name for name in names if name not in ("x", "y"))

    def first(self, names: Sequence[str]) -> list[dict[str, Array]]:
        """What the first sample can be, the likelier reading first; each input without its batch axis.

        Whether an iterator gives samples or batches is not known before the model is.

        Args:
            names: the inputs'.

        Raises:
            DataError: the data cannot be read, or are for other inputs.
        """
        found: list[dict[str, Array]] = []
        for shape in self._readings():
            if found and min(value.ndim for value in found[0].values()) == 0:
                break  # a single number is no batch
            specs = tuple(TensorSpec(name, shape, "float32") for name in names)
            source = open_data(self.data, specs, 1, "calibration")
            sample = next(iter(source.read()), None)
            if sample is None:
                raise DataError(f"{source.origin} is empty: it has 0 samples.")
            ready = {name: self._prepare(name, np.asarray(sample[0][name]), len(names)) for name in names}
            shapes = [{name: value.shape for name, value in item.items()} for item in found]
            if {name: value.shape for name, value in ready.items()} not in shapes:
                found.append(ready)
        # Images are mostly given one by one, and rows of numbers by the batch.
        if len(found) == 2 and max(value.ndim for value in found[0].values()) in (2, 4):
            found.reverse()
        return found

    def _readings(self) -> Sequence[tuple[int, ...]]:
        if isinstance(self.data, str | os.PathLike) and Path(self.data).is_dir():
            return _IMAGES
        return _WHOLE, _PARTED

    def _prepare(self, name: str, value: Array, inputs: int) -> Array:
        item = self.named.get(name, self.preprocessing if inputs == 1 or value.ndim == 3 else Preprocessing())
        if not item.changes_size or value.ndim != 3:
            return value
        first = value.shape[0] in (1, 3, 4) and value.shape[-1] not in (1, 3, 4)
        try:
            return item.apply(np.moveaxis(value, 0, -1) if first else value)
        except TensorError as error:
            raise DataError(f"the calibration data: {error}") from error

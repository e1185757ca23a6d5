"""What goes into a model and what comes out: checked, preprocessed, quantised, dequantised.

``Values`` knows a model's inputs and how they are given. It makes arrays that an engine takes as they are: the input's own
dtype, an allowed shape, C order.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import TensorError
from edgekit.modelfile import ModelFile
from edgekit.tensors import NUMPY_TYPES, Array, TensorSpec, dequantize, quantize

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgekit.preprocess import Preprocessing
    from edgekit.runtime.shortway import Calls

#: Real numbers, or the file's own integers.
IO_MODES: tuple[str, ...] = ("float", "native")
#: What to do with NaN and infinity in an input of real numbers.
NON_FINITE: tuple[str, ...] = ("refuse", "allow")
#: Types that a quantised tensor has and that a table of all their values is small for.
_TABLE_TYPES = ("uint8", "int8")


class Values:
    """Makes a model's input arrays from what a caller gives, and real numbers from its outputs.

    Args:
        model: the model, for messages and for the manifest's preprocessing.
        inputs: what goes in.
        outputs: what comes out.
        native: whether values are the file's own integers instead of real numbers.
        preprocess: whether the manifest's preprocessing is applied.
        non_finite: ``"refuse"`` or ``"allow"``: NaN and infinity in inputs of real numbers.

    Raises:
        TensorError: the model's inputs or outputs are no numbers, or preprocessing is asked for and not known.
    """

    def __init__(
        self,
        model: ModelFile,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        *,
        native: bool,
        preprocess: bool,
        non_finite: str,
    ) -> None:
        if preprocess and native:
            raise TensorError("preprocessing gives real numbers: use io='float' with it, or preprocess yourself.")
        for spec in (*inputs, *outputs):
            if spec.dtype not in NUMPY_TYPES:
                raise TensorError(f"{model.name}: {spec.name!r} is of type {spec.dtype}, only numbers can be run.")
            if spec.quant is not None and 0 in spec.quant.scales:
                raise TensorError(f"{model.name}: {spec.name!r} has scale 0, so that its integers mean nothing.")
        self._name = model.name
        self._inputs, self._outputs = inputs, outputs
        self._native, self._preprocess = native, preprocess
        self._finite = non_finite == "refuse"
        self._manifest = model.manifest
        self._tables: dict[tuple[str, str], Array] = {}
        #: For each input: real numbers on their way to integers, and the integers. A run takes them over before the next one begins.
        self._scratch: dict[str, tuple[Array, Array]] = {}
        if preprocess:
            self._preprocessing()

    def _preprocessing(self) -> Mapping[str, Preprocessing]:
        if self._manifest is None:
            raise TensorError(f"{self._name} has no manifest, so its preprocessing is not known: preprocess yourself.")
        return self._manifest.preprocessing

    @property
    def alone(self) -> bool:
        """Whether there is one array in and one out, given as they are or as real numbers: what may have a short way."""
        return len(self._inputs) == len(self._outputs) == 1 and not self._preprocess

    def short_calls(self, calls: Calls, shape: tuple[int, ...]) -> Calls | None:
        """An engine's calls for arrays as the caller has them, where ``alone``.

        Args:
            calls: setting, running and getting, in the file's own dtypes.
            shape: the input's.

        Returns:
            The calls, quantising and dequantising; ``None`` where that takes more.
        """
        put, invoke, get = calls
        (given,), (wanted,) = self._inputs, self._outputs
        if self._native or (given.quant is None and wanted.quant is None):
            return calls
        from edgekit.runtime.shortway import dequantising, quantising

        if given.quant is not None:
            put = quantising(put, given.quant, given.dtype, shape)
        if wanted.quant is not None:
            if not wanted.quant.per_tensor:
                return None
            get = dequantising(get, wanted.quant)
        return None if put is None else (put, invoke, get)

    @property
    def looks_at_values(self) -> bool:
        """Whether real numbers are looked at for NaN and infinity, beside what quantising looks at."""
        return self._finite and not self._native and self._inputs[0].dtype in ("float32", "float16", "float64")

    def arrays(
        self, value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None, named: Mapping[str, npt.ArrayLike]
    ) -> list[Array]:
        """The inputs as an engine takes them.

        Args:
            value: the input of a one-input model, or a mapping from input names to arrays.
            named: inputs by name.

        Raises:
            TensorError: a name, shape, dtype or value does not fit.
        """
        given = self._gather(value, named)
        return [self._prepare(spec, item) for spec, item in zip(self._inputs, given, strict=True)]

    def preprocessed(self, value: npt.ArrayLike, name: str | None = None) -> Array:
        """The manifest's preprocessing of one input, with the batch axis where it was missing.

        Raises:
            TensorError: the file has no manifest, or the value does not fit.
        """
        spec = self._spec(name)
        item = self._preprocessing().get(spec.name)
        array = self._array(spec, value)
        if item is not None:
            array = item.apply(array)
        if array.ndim == len(spec.shape) - 1 and spec.shape[0] in (1, -1):
            array = array[None]
        return array

    def real(self, spec: TensorSpec, array: Array) -> Array:
        """An output as the caller gets it."""
        return array if self._native or spec.quant is None else dequantize(array, spec.quant)

    @staticmethod
    def _array(spec: TensorSpec, value: npt.ArrayLike) -> Array:
        try:
            return np.asarray(value)
        except (TypeError, ValueError) as error:
            raise TensorError(f"input {spec.name!r} is not an array: {error}.") from error

    def _spec(self, name: str | None) -> TensorSpec:
        if name is None:
            if len(self._inputs) != 1:
                raise TensorError(f"{self._name} has {len(self._inputs)} inputs, name one: {self._names()}.")
            return self._inputs[0]
        for spec in self._inputs:
            if spec.name == name:
                return spec
        raise TensorError(f"{self._name} has no input {name!r}. It has {self._names()}.")

    def _names(self) -> str:
        return ", ".join(str(spec) for spec in self._inputs)

    def _gather(
        self, value: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None, named: Mapping[str, npt.ArrayLike]
    ) -> list[npt.ArrayLike]:
        if value is not None and not isinstance(value, Mapping):
            if named:
                raise TensorError("inputs were given both by position and by name: use one of them.")
            if len(self._inputs) != 1:
                raise TensorError(
                    f"one array for {len(self._inputs)} inputs: pass them by name. It has {self._names()}."
                )
            return [value]
        given = {**(value or {}), **named}
        missing = [spec.name for spec in self._inputs if spec.name not in given]
        unknown = [name for name in given if all(spec.name != name for spec in self._inputs)]
        if missing or unknown:
            text = f"missing input {', '.join(missing)}" if missing else f"unknown input {', '.join(unknown)}"
            raise TensorError(f"{text}: {self._name} has {self._names()}.")
        return [given[spec.name] for spec in self._inputs]

    def _prepare(self, spec: TensorSpec, value: npt.ArrayLike) -> Array:
        array = self._array(spec, value)
        if self._preprocess:
            array = self.preprocessed(array, spec.name)
        if not spec.accepts(array.shape):
            raise TensorError(_shape_message(spec, array))
        if self._native:
            if array.dtype != spec.dtype:
                raise TensorError(
                    f"input {spec.name!r} is {array.dtype}, the file's own type {spec.dtype} was expected with "
                    "io='native'. Load with io='float' to pass real numbers."
                )
            return np.asarray(array, order="C")
        if array.dtype.kind not in "fiub":
            raise TensorError(f"input {spec.name!r} is of dtype {array.dtype}: numbers were expected.")
        if spec.quant is None and spec.dtype not in ("float32", "float16", "float64"):
            return _integers(spec, array)
        if spec.quant is None and array.dtype != spec.dtype:
            with np.errstate(over="ignore"):  # what this type cannot hold becomes infinite, and is found below
                array = array.astype(spec.dtype)
        if array.dtype.kind == "f" and (self._finite or spec.quant is not None):
            _check_finite(spec, array, self._finite)
        if spec.quant is not None:
            return self._quantised(spec, array)
        return np.asarray(array, order="C")

    def _quantised(self, spec: TensorSpec, array: Array) -> Array:
        quant = spec.quant
        assert quant is not None
        kind = array.dtype.name
        if not quant.per_tensor:
            return quantize(array, quant, spec.dtype)
        if kind in _TABLE_TYPES and array.size >= 256:
            # Bytes have 256 values: each is quantised once, and an image is a lookup.
            table = self._tables.get((spec.name, kind))
            if table is None:
                every = np.arange(256, dtype=np.uint8).view(kind)
                table = self._tables[spec.name, kind] = quantize(every, quant, spec.dtype)
            return np.asarray(table[np.asarray(array, order="C").view(np.uint8)])
        work, integers = self._scratch.get(spec.name, (None, None))
        if work is None or integers is None or work.shape != array.shape:
            work, integers = np.empty(array.shape, np.float32), np.empty(array.shape, spec.dtype)
            self._scratch[spec.name] = work, integers
        return quantize(array, quant, spec.dtype, work=work, out=integers)


def _shape_message(spec: TensorSpec, array: Array) -> str:
    text = f"input {spec.name!r} has shape {list(array.shape)}, expected {list(spec.shape)}."
    if spec.accepts((1, *array.shape)):
        text += " Add the batch axis: x[None]."
    elif spec.accepts((1, *array.shape[1:])) and len(array) > 1:
        text += " Run the samples one by one: the model's batch size is 1."
    elif array.ndim == len(spec.shape) and array.ndim == 4:
        text += " Resize the image first, or load with preprocess=True if the model was converted with --resize."
    return text


def _integers(spec: TensorSpec, array: Array) -> Array:
    if array.dtype == spec.dtype:
        return np.asarray(array, order="C")
    with np.errstate(invalid="ignore"):  # NaN and too large numbers differ afterwards
        cast = array.astype(spec.dtype)
    if not np.array_equal(cast, array):
        raise TensorError(
            f"input {spec.name!r} takes {spec.dtype}: values of {array.dtype} were given that it cannot hold."
        )
    return cast


def _check_finite(spec: TensorSpec, array: Array, refuse: bool) -> None:
    flat = array.reshape(-1)
    # One pass of BLAS, which raises no warnings, finds that something is not finite or overflowed; only then is it looked at exactly.
    if flat.dtype.itemsize >= 4 and isfinite(np.vdot(flat, flat)):
        return
    bad = np.isnan(flat) if not refuse else ~np.isfinite(flat)
    if bad.any():
        what = "NaN or infinite" if refuse else "NaN"
        why = "finite numbers were expected" if refuse else "an integer input has no form for them"
        raise TensorError(f"input {spec.name!r} holds {int(bad.sum())} {what} values of {flat.size}: {why}.")

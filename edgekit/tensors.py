"""What a tensor is (``TensorSpec``), and the affine map between its integers and real numbers.

The map is TensorFlow Lite's: ``real = scale * (integer - zero_point)``, per tensor or per slice of
one axis (TensorFlow Lite 8-bit quantization specification, "Specification summary").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgekit.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]
else:
    Array = np.ndarray  # numpy.typing takes a millisecond to import

#: TFLite's ``TensorType`` codes, by position (schema.fbs, ``enum TensorType``).
TENSOR_TYPES: tuple[str, ...] = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8",
    "float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16",
    "int2", "uint4", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip

#: Types that numpy holds as they are in the file.
NUMPY_TYPES: frozenset[str] = frozenset(
    {"float32", "float16", "int32", "uint8", "int64", "bool", "int16", "complex64", "int8", "float64",
     "complex128", "uint64", "uint32", "uint16"}
)  # fmt: skip

#: The least and greatest integer of each quantised type.
LIMITS: dict[str, tuple[np.float32, np.float32]] = {
    name: (np.float32(np.iinfo(name).min), np.float32(np.iinfo(name).max)) for name in ("int8", "uint8", "int16")
}
#: The highest float32 that an int32 holds; the next one is 2**31, which it does not.
LIMITS["int32"] = (np.float32(-(2**31)), np.float32(2**31 - 128))
#: Types whose scale and zero point mean something. Old converters left them on others as well.
QUANTISED_TYPES: frozenset[str] = frozenset(LIMITS)


class QuantParams(Record):
    """How a tensor's integers map to real numbers.

    Attributes:
        scales: one scale, or one for each slice of ``axis``.
        zero_points: as many integers, each the value that stands for 0.0.
        axis: the axis that the scales belong to; ignored when there is one scale.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0

    @classmethod
    def stored(
        cls, read: Callable[[], tuple[float, ...]], zero_points: tuple[int, ...], axis: int, *, any_scale: bool
    ) -> QuantParams:
        """One whose scales stay in the file until somebody asks.

        As Python's numbers, those of all channels of a network take a megabyte, and running it asks for none of them.

        Args:
            read: gives the scales.
            zero_points: the zero points.
            axis: the axis.
            any_scale: whether there is one above zero.
        """
        made = cls.__new__(cls)
        made.__dict__.update(zero_points=zero_points, axis=axis, _read=read, _any_scale=any_scale)
        return made

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> tuple[float, ...]:
            held = self.__dict__
            if name != "scales" or "_read" not in held:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            scales = held["scales"] = held.pop("_read")()
            return scales

    @property
    def any_scale(self) -> bool:
        """Whether there is a scale above zero."""
        known: bool | None = self.__dict__.get("_any_scale")
        return any(self.scales) if known is None else known

    @property
    def per_tensor(self) -> bool:
        """Whether one scale serves the whole tensor."""
        return len(self.zero_points) == 1


class TensorSpec(Record):
    """One input or output of a model.

    Attributes:
        name: the signature's name for it, or the tensor's own where the file has no signature.
        shape: sizes; -1 where the file leaves a size open.
        dtype: TFLite's name of the type, which is numpy's for all that numpy has.
        quant: scale and zero point where the tensor is quantised, else ``None``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: QuantParams | None = None

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of ``shape`` fits, an open size taking any positive number."""
        return len(shape) == len(self.shape) and all(
            seen == wanted or (wanted == -1 and seen > 0) for seen, wanted in zip(shape, self.shape, strict=True)
        )

    def __str__(self) -> str:
        text = f"{self.name} {self.dtype}[{','.join('?' if size == -1 else str(size) for size in self.shape)}]"
        if self.quant is not None and self.quant.per_tensor:
            text += f" scale={self.quant.scales[0]:.6g} zero_point={self.quant.zero_points[0]}"
        return text


def _broadcast(values: tuple[float, ...] | tuple[int, ...], rank: int, axis: int) -> Array | np.float32:
    if len(values) == 1:
        scalar: np.float32 = np.float32(values[0])
        return scalar
    array = np.asarray(values, dtype=np.float32)
    shape = [1] * rank
    shape[axis] = array.size
    return np.asarray(array.reshape(shape))


def quantize(
    values: Array, quant: QuantParams, dtype: str, *, work: Array | None = None, out: Array | None = None
) -> Array:
    """Turn real numbers into a tensor's integers: round half to even, then saturate.

    Args:
        values: real numbers, any shape and numeric dtype.
        quant: scale and zero point.
        dtype: an integer numpy type, such as ``"int8"``.
        work: a float32 array of the same shape to compute in, for callers that quantise often.
        out: an array of ``dtype`` and the same shape for the result.

    Returns:
        An array of ``dtype`` and the same shape, ``out`` where it was given. NaN must have been refused before.
    """
    low, high = LIMITS[dtype]
    rank = np.ndim(values)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and saturates like the rest
        work = np.asarray(np.divide(values, _broadcast(quant.scales, rank, quant.axis), out=work, dtype=np.float32))
    np.rint(work, out=work)
    if any(quant.zero_points):
        work += _broadcast(quant.zero_points, rank, quant.axis)
    work.clip(low, high, out=work)  # one pass, and in numpy 2 a third of the time of maximum and minimum
    if out is None:
        return work.astype(dtype)
    np.copyto(out, work, casting="unsafe")
    return out


def dequantize(values: Array, quant: QuantParams) -> Array:
    """Turn a tensor's integers into real numbers.

    Args:
        values: integers, any shape.
        quant: scale and zero point.

    Returns:
        A float32 array of the same shape.
    """
    rank = np.ndim(values)
    work: Array = np.asarray(np.subtract(values, _broadcast(quant.zero_points, rank, quant.axis), dtype=np.float32))
    work *= _broadcast(quant.scales, rank, quant.axis)
    return work

"""Models of one operator each, in forms that delegates take and in forms that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.tensors import Array, QuantParams


@dataclass(frozen=True)
class T:
    """A tensor: int8 with a scale and a zero point, float32 where the scale is 0, or a constant."""

    shape: tuple[int, ...]
    scale: float = 0.05
    zero_point: int = 0
    dtype: str | None = None
    data: Any = None

    @property
    def kind(self) -> str:
        """The type's name."""
        return self.dtype or ("int8" if self.scale else "float32")


def ints(*values: Any) -> T:
    """An int32 constant."""
    array = np.array(values[0] if len(values) == 1 else values, np.int32)
    return T(array.shape, 0.0, dtype="int32", data=array)


def options(name: str, **fields: Any) -> tuple[str, Any]:
    """The builtin options of this name with some fields set."""
    made = getattr(schema, f"{name}T")()
    for field, value in fields.items():
        setattr(made, field, value)
    return name, made


def one_op(
    name: str, inputs: Sequence[T], outputs: Sequence[T], chosen: tuple[str, Any] | None = None, *, version: int = 2
) -> bytes:
    """A model of one operator; its tensors are called ``in0``, ``out0`` and so on."""
    b = models.Builder()
    given = [_add(b, f"in{number}", item) for number, item in enumerate(inputs)]
    made = [_add(b, f"out{number}", item) for number, item in enumerate(outputs)]
    b.op(name, given, made, chosen, version=version)
    free = {f"in{number}": index for number, index in enumerate(given) if inputs[number].data is None}
    return b.build(free, {f"out{number}": index for number, index in enumerate(made)})


def _add(b: models.Builder, name: str, item: T) -> int:
    quant = QuantParams((item.scale,), (item.zero_point,)) if item.scale else None
    data: Array | None = None if item.data is None else np.asarray(item.data, item.kind)
    return b.tensor(name, item.shape, item.kind, data=data, quant=quant)


IMAGE = (1, 6, 6, 4)


def hard_swish(*, dtype: str = "int8") -> bytes:
    """HARD_SWISH on an image."""
    scale = 0.05 if dtype == "int8" else 0.0
    return one_op("HARD_SWISH", [T(IMAGE, scale)], [T(IMAGE, scale)], version=1)


def add(first: T, second: T, out: T, *, activation: int = 0, version: int = 2) -> bytes:
    """ADD."""
    return one_op(
        "ADD", [first, second], [out], options("AddOptions", fusedActivationFunction=activation), version=version
    )


def concatenation(count: int, *, first_scale: float = 0.05) -> bytes:
    """CONCATENATION of so many images."""
    out = T((*IMAGE[:3], IMAGE[3] * count))
    inputs = [T(IMAGE, first_scale), *[T(IMAGE)] * (count - 1)]
    return one_op("CONCATENATION", inputs, [out], options("ConcatenationOptions", axis=3))


def split(count: int) -> bytes:
    """SPLIT of an image into so many."""
    data = T((*IMAGE[:3], 2 * count))
    return one_op("SPLIT", [ints(3), data], [T((*IMAGE[:3], 2))] * count, options("SplitOptions", numSplits=count))


def conv(*, activation: int = 0, out_scale: float = 0.1) -> bytes:
    """CONV_2D of 1x1."""
    fields = dict.fromkeys(("strideH", "strideW", "dilationHFactor", "dilationWFactor"), 1)
    chosen = options("Conv2DOptions", **fields, fusedActivationFunction=activation)
    weights, bias = T((4, 1, 1, 4), 0.05, data=np.ones((4, 1, 1, 4))), T((4,), 0.0025, dtype="int32", data=np.zeros(4))
    return one_op("CONV_2D", [T(IMAGE), weights, bias], [T(IMAGE, out_scale)], chosen, version=3)


def batch_matmul(zero_point: int) -> bytes:
    """BATCH_MATMUL of two activations, the right one with this zero point."""
    inputs = [T((1, 4, 8)), T((1, 8, 4), 0.05, zero_point)]
    return one_op("BATCH_MATMUL", inputs, [T((1, 4, 4), 0.5)], options("BatchMatMulOptions"))


def reshape(*, computed: bool = False, out_scale: float = 0.05) -> bytes:
    """RESHAPE of an image to a row, its shape given in the file or computed."""
    shape = T((2,), 0.0, dtype="int32") if computed else ints(1, 144)
    return one_op("RESHAPE", [T(IMAGE), shape], [T((1, 144), out_scale)], version=1)


def max_pool(size: int) -> bytes:
    """MAX_POOL_2D at stride 2 with a filter of this size."""
    chosen = options("Pool2DOptions", strideH=2, strideW=2, filterHeight=size, filterWidth=size, padding=1)
    return one_op("MAX_POOL_2D", [T(IMAGE)], [T((1, 3, 3, 4))], chosen)


def leaky_relu(alpha: float) -> bytes:
    """LEAKY_RELU."""
    return one_op("LEAKY_RELU", [T(IMAGE)], [T(IMAGE)], options("LeakyReluOptions", alpha=alpha))


def argmax() -> bytes:
    """ARG_MAX over the last axis, a row of places."""
    out = T(IMAGE[:3], 0.0, dtype="int32")
    return one_op("ARG_MAX", [T(IMAGE), ints(3)], [out], options("ArgMaxOptions", outputType=2))

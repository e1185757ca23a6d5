"""A convolution as a model: what an interpreter does best, for the ceiling of its multiply-accumulates per second."""

from __future__ import annotations

import numpy as np

from edgekit.bench.tiny_flatbuffer import Fields, Numbers, Scalar, write

#: Numbers of schema.fbs, version 3.
_CONV_2D = 3
_CONV_2D_OPTIONS = 1
_TYPES = {"float32": 0, "int32": 2, "int8": 9}


def conv(dtype: str, size: int, channels: int, kernel: int) -> tuple[bytes, int]:
    """One convolution with as many channels out as in.

    Args:
        dtype: ``"float32"`` or ``"int8"``.
        size: rows and columns of input and output.
        channels: of input and output.
        kernel: rows and columns of a filter.

    Returns:
        The model, and the multiply-accumulates of one run.
    """
    random = np.random.default_rng(0)
    shape = (channels, kernel, kernel, channels)
    quantised = dtype == "int8"
    if quantised:
        weights = random.integers(-127, 128, shape).astype(np.int8).tobytes()
    else:
        weights = random.normal(0, 0.05, shape).astype(np.float32).tobytes()
    image = (1, size, size, channels)
    # The product's scale has to be small beside the output's, as in any real model.
    scales = (0.05, 0.01, 0.0005, 0.5)
    tensors = [
        _tensor("x", image, dtype, 0, scales[0] if quantised else None),
        _tensor("weights", shape, dtype, 1, scales[1] if quantised else None),
        _tensor("bias", (channels,), "int32" if quantised else dtype, 2, scales[2] if quantised else None),
        _tensor("y", image, dtype, 0, scales[3] if quantised else None),
    ]
    operator = Fields(
        {
            0: Scalar("I", 0),
            1: Numbers("i", (0, 1, 2)),
            2: Numbers("i", (3,)),
            3: Scalar("B", _CONV_2D_OPTIONS),
            4: Fields({0: Scalar("b", 0), 1: Scalar("i", 1), 2: Scalar("i", 1)}),
        }
    )
    subgraph = Fields({0: tensors, 1: Numbers("i", (0,)), 2: Numbers("i", (3,)), 3: [operator], 4: "main"})
    code = Fields({0: Scalar("b", _CONV_2D), 2: Scalar("i", 3 if quantised else 1), 3: Scalar("i", _CONV_2D)})
    buffers = [
        Fields({}),
        Fields({0: Numbers("B", weights, align=16)}),
        Fields({0: Numbers("B", bytes(4 * channels), align=16)}),
    ]
    model = Fields({0: Scalar("I", 3), 1: [code], 2: [subgraph], 3: "edgekit's ceiling", 4: buffers})
    return write(model), size * size * channels * channels * kernel * kernel


def _tensor(name: str, shape: tuple[int, ...], dtype: str, buffer: int, scale: float | None) -> Fields:
    fields: dict[int, Scalar | Numbers | str | Fields] = {
        0: Numbers("i", shape),
        1: Scalar("b", _TYPES[dtype]),
        2: Scalar("I", buffer),
        3: name,
    }
    if scale is not None:
        fields[4] = Fields({2: Numbers("f", (scale,)), 3: Numbers("q", (0,), align=8)})
    return Fields(fields)

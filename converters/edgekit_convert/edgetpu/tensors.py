"""Which of an operator's inputs carry data, and what the Edge TPU asks of those tensors."""

from __future__ import annotations

from edgekit.graph import Op, Subgraph, Tensor

#: Operators whose inputs are not all data: the places of weights, axes, sizes and other parameters.
_PARAMETERS: dict[str, tuple[int, ...]] = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (0, 1, 3),
    "PRELU": (1,),
    "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "SPLIT": (0,),
    **dict.fromkeys(
        ("PAD", "RESHAPE", "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "TRANSPOSE", "RESIZE_BILINEAR",
         "RESIZE_NEAREST_NEIGHBOR", "EXPAND_DIMS", "TILE"), (1,)
    ),
}  # fmt: skip
#: Recurrent operators: the first input is data, the states keep their values between runs, the rest are parameters.
_RECURRENT: dict[str, tuple[int, ...]] = {"UNIDIRECTIONAL_SEQUENCE_LSTM": (18, 19), "LSTM": (18, 19)}

#: What the Edge TPU computes on.
BYTES: tuple[str, ...] = ("int8", "uint8")


def data_inputs(op: Op, main: Subgraph) -> tuple[Tensor, ...]:
    """The tensors that an operator computes on; constants among them where they stand for data."""
    if op.name in _RECURRENT:
        return tuple(main.tensors[index] for index in op.inputs[:1] if index >= 0)
    places = _PARAMETERS.get(op.name, ())
    return tuple(main.tensors[index] for place, index in enumerate(op.inputs) if index >= 0 and place not in places)


def parameters(op: Op, main: Subgraph) -> tuple[Tensor, ...]:
    """Weights, axes, sizes and the like."""
    if op.name in _RECURRENT:
        left_out: tuple[int, ...] = (0, *_RECURRENT[op.name])
        return tuple(
            main.tensors[index] for place, index in enumerate(op.inputs) if index >= 0 and place not in left_out
        )
    places = _PARAMETERS.get(op.name, ())
    return tuple(main.tensors[index] for place, index in enumerate(op.inputs) if index >= 0 and place in places)


def outputs(op: Op, main: Subgraph) -> tuple[Tensor, ...]:
    """What an operator computes."""
    return tuple(main.tensors[index] for index in op.outputs)


def input_at(op: Op, main: Subgraph, place: int) -> Tensor | None:
    """One input by its place; ``None`` where the operator lacks it."""
    return main.tensors[op.inputs[place]] if place < len(op.inputs) and op.inputs[place] >= 0 else None


def numbers(tensor: Tensor | None) -> tuple[int, ...] | None:
    """The integers of a constant; ``None`` where it is not one."""
    if tensor is None or tensor.data is None or tensor.sparse or tensor.dtype not in ("int32", "int64"):
        return None
    return tuple(int(value) for value in tensor.array().reshape(-1))


def is_bytes(tensor: Tensor) -> bool:
    """Whether it holds 8-bit integers that stand for real numbers, with one scale for all."""
    return tensor.dtype in BYTES and tensor.quant is not None and tensor.quant.per_tensor


def outer_sizes(tensor: Tensor) -> tuple[int, ...]:
    """The sizes before the three innermost ones, which must all be 1."""
    return tensor.shape[:-3]


def is_zero(tensor: Tensor) -> bool:
    """Whether a quantised constant stands for 0.0 everywhere."""
    if tensor.data is None or tensor.sparse or tensor.quant is None or not tensor.quant.per_tensor:
        return False
    return bool((tensor.array() == tensor.quant.zero_points[0]).all())

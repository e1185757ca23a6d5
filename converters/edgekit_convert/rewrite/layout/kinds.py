"""Operators by what an order of axes is to them, and what is asked of their constants."""

from __future__ import annotations

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft

#: One value in, one value out, whatever stands beside it.
UNARY = frozenset(
    {"ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU",
     "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE", "TANH"}
)  # fmt: skip
#: Likewise of several tensors that are broadcast to each other.
BROADCASTING = frozenset(
    {"ADD", "DIV", "FLOOR_DIV", "FLOOR_MOD", "MAXIMUM", "MINIMUM", "MUL", "POW", "PRELU", "SQUARED_DIFFERENCE", "SUB"}
)
#: They work on rows along the last axis, which has to stay the last.
ROWS = frozenset({"L2_NORMALIZATION", "LOG_SOFTMAX", "SOFTMAX"})
#: They make one value of several along the axes that a constant names.
REDUCING = frozenset({"MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM"})


def is_value(draft: Draft, index: int) -> bool:
    """Whether a tensor holds real numbers that are computed or given."""
    tensor = draft.tensor(index)
    return tensor.data is None and tensor.dtype == "float32"


def named_axes(draft: Draft, op: Op, place: int, rank: int) -> list[int] | None:
    """Axes that a constant names, from the front."""
    found = draft.values(op, place)
    return None if found is None else [int(axis) % rank for axis in found.reshape(-1)]

"""The operators that the Edge TPU has, since which runtime, and the limit of each."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit_convert.edgetpu import limits
from edgekit_convert.edgetpu.limits import Limit
from edgekit_convert.edgetpu.sources import PAIRS, TABLE

#: The oldest and the newest Edge TPU runtime: 14 came with compiler 16.0, the last one.
OLDEST_RUNTIME, NEWEST_RUNTIME = 10, 14


@dataclass(frozen=True)
class Taken:
    """An operator that the Edge TPU has.

    Attributes:
        since: the oldest Edge TPU runtime that has it.
        limit: what it may not do; ``None`` for no limit.
        source: where that is known from.
        rows: whether it is left on the CPU where many values lie in rows.
    """

    since: int = OLDEST_RUNTIME
    limit: Limit | None = None
    source: str = TABLE
    rows: bool = False


#: By the operator's name in schema.fbs.
TAKEN: dict[str, Taken] = {
    "ADD": Taken(),
    "AVERAGE_POOL_2D": Taken(limit=limits.no_activation(5)),
    "CONCATENATION": Taken(limit=limits.concatenation, rows=True),
    "CONV_2D": Taken(limit=limits.conv),
    "DEPTHWISE_CONV_2D": Taken(limit=limits.depthwise),
    "EXPAND_DIMS": Taken(since=13, rows=True),
    "FULLY_CONNECTED": Taken(limit=limits.fully_connected),
    "L2_NORMALIZATION": Taken(),
    "LOGISTIC": Taken(rows=True),
    "LSTM": Taken(since=14),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Taken(since=14),
    "MAXIMUM": Taken(),
    "MAX_POOL_2D": Taken(limit=limits.no_activation(5)),
    "MEAN": Taken(limit=limits.mean),
    "MINIMUM": Taken(),
    "MUL": Taken(),
    "PACK": Taken(since=13, limit=limits.pack, rows=True),
    "PAD": Taken(limit=limits.pad),
    "PRELU": Taken(since=13, limit=limits.prelu),
    "QUANTIZE": Taken(since=13),
    "REDUCE_MAX": Taken(since=14, limit=limits.reduction),
    "REDUCE_MIN": Taken(since=14, limit=limits.reduction),
    "RELU": Taken(),
    "RELU6": Taken(),
    "RELU_N1_TO_1": Taken(),
    "RESHAPE": Taken(rows=True),
    "RESIZE_BILINEAR": Taken(limit=limits.resize_bilinear),
    "RESIZE_NEAREST_NEIGHBOR": Taken(limit=limits.resize_nearest),
    "RSQRT": Taken(since=14),
    "SLICE": Taken(rows=True),
    "SOFTMAX": Taken(limit=limits.softmax, rows=True),
    "SPACE_TO_DEPTH": Taken(rows=True),
    "SPLIT": Taken(limit=limits.split, rows=True),
    "SQUARED_DIFFERENCE": Taken(since=14),
    "SQUEEZE": Taken(limit=limits.squeeze, rows=True),
    "STRIDED_SLICE": Taken(limit=limits.strided_slice, rows=True),
    "SUB": Taken(),
    "SUM": Taken(since=13, limit=limits.reduction),
    "TANH": Taken(),
    # The page does not name it; the compiler took it in deeplab_mobilenet_edgetpu_slim_cityscapes_quant.
    "TILE": Taken(since=14, source=PAIRS, rows=True),
    "TRANSPOSE": Taken(since=14, limit=limits.transpose),
    "TRANSPOSE_CONV": Taken(since=13),
}

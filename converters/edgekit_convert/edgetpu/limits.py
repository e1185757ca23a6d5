"""What single operators may not do on the Edge TPU, each limit with where it is known from.

A limit looks at one operator of a graph and says what is in the way; ``None`` when nothing is. Limits that Google published are
certain. Where the page says no more than that "large" tensors may stay on the CPU, the sizes are those that the compiler was
seen to take and to leave; between the two the answer is marked as uncertain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgekit.graph import Op, Subgraph
from edgekit_convert.edgetpu.sources import PAIRS, TABLE, issue
from edgekit_convert.edgetpu.tensors import data_inputs, input_at, is_zero, numbers, outputs


@dataclass(frozen=True)
class Obstacle:
    """What keeps an operator from the Edge TPU.

    Attributes:
        code: a short name that stays the same between versions.
        text: what was seen and what would be needed, without a full stop.
        source: where the rule is known from.
        certain: whether the rule is published, or was seen to hold at this very size.
        blocks: whether the operator is counted as left on the CPU; with ``False`` it is only doubtful.
    """

    code: str
    text: str
    source: str
    certain: bool = True
    blocks: bool = True


#: Looks at an operator of a graph for an Edge TPU runtime.
Limit = Callable[[Op, Subgraph, int], Obstacle | None]

_DENSE_SOURCE = (
    "ricardodeazambuja/LibrEdgeTPU, dense_256.tflite before and after compiler 16.0; TensorFlow Lite 8-bit quantization "
    "specification of 2021, FULLY_CONNECTED"
)
#: What stands in the options for "no fused activation" (schema.fbs, ``ActivationFunctionType``).
_ACTIVATIONS = ("none", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")

#: Elements of a resized image: the smallest that the compiler was seen to leave, the largest that it was seen to take.
_RESIZE_LEFT, _RESIZE_TAKEN = 1024 * 1024 * 3, 128 * 128 * 32
#: By how much an edge may grow in RESIZE_BILINEAR: 16 was left, 2 was taken.
_GROWTH_LEFT, _GROWTH_TAKEN = 16.0, 2.0
#: Pixels that MEAN averages over: 256 x 128 were left, 64 x 128 were taken.
_MEAN_LEFT, _MEAN_TAKEN = 256 * 128, 64 * 128
#: Values along the axis of SOFTMAX: what the page says, and the most that the compiler was seen to take.
_SOFTMAX_MOST, _SOFTMAX_TAKEN = 16_000, 16_384
#: Values that TRANSPOSE moves, and values in rows that other operators move: the most that the compiler was seen to take, the
#: fewest that it was seen to leave. YOLOv5 at 224 x 224 has three TRANSPOSE, of 784, 196 and 49 rows of 3 x 85, of which it left
#: one, and left one RESHAPE; SSD MobileNet has CONCATENATION and LOGISTIC of 1917 x 91, which it took.
_TRANSPOSE_TAKEN, _TRANSPOSE_LEFT = 196 * 3 * 85, 784 * 3 * 85
_ROWS_TAKEN, _ROWS_LEFT = 1917 * 91, 784 * 3 * 85
_ROWS_SOURCE = f"{TABLE}; {PAIRS}; jveitchmichaelis/edgetpu-yolo, export.md; {issue(512)}"


def conv(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """CONV_2D."""
    return _dilation(op, main, 4) or _grouped(op, main)


def depthwise(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """DEPTHWISE_CONV_2D."""
    wide, high = op.option(5, "i", 1), op.option(6, "i", 1)
    if runtime < 13 and (wide > 1 or high > 1):
        return Obstacle("dilation", f"it is dilated by {high} x {wide}, which needs Edge TPU runtime 13", TABLE)
    return _dilation(op, main, 5)


def _dilation(op: Op, main: Subgraph, first: int) -> Obstacle | None:
    """Where a filter is one wide, its dilation in that direction changes nothing, and the compiler takes it."""
    wide, high = op.option(first, "i", 1), op.option(first + 1, "i", 1)
    weights = input_at(op, main, 1)
    if wide == high or (weights is not None and 1 in weights.shape[1:3]):
        return None
    return Obstacle("dilation", f"it is dilated by {high} x {wide}: the same in both directions was expected", TABLE)


def _grouped(op: Op, main: Subgraph) -> Obstacle | None:
    data, weights = input_at(op, main, 0), input_at(op, main, 1)
    if data is None or weights is None or data.shape[-1:] == weights.shape[-1:]:
        return None
    text = f"it is a convolution in groups ({data.shape[-1]} channels in, filters of {weights.shape[-1]})"
    return Obstacle("groups", text, f"{TABLE}: not listed", certain=False)


def fully_connected(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """FULLY_CONNECTED."""
    weights = input_at(op, main, 1)
    if op.option(1, "b", 0) != 0:
        return Obstacle("weights-format", "its weights are shuffled: the default format was expected", TABLE)
    many = [tensor for tensor in outputs(op, main) if math.prod(tensor.shape[:-1]) != 1]
    if many:
        text = f"its output is {list(many[0].shape)}: one row was expected"
        return Obstacle("rows", text, f"{TABLE}; {issue(27)}")
    if weights is not None and weights.quant is not None and not weights.quant.per_tensor:
        text = (
            f"its weights have {len(weights.quant.scales)} scales: the compiler maps it, and the TensorFlow Lite of its time reads "
            "one, so that its numbers may be wrong; `edgekit convert --device coral-usb` writes one"
        )
        return Obstacle("weights-per-channel", text, _DENSE_SOURCE, certain=False, blocks=False)
    return None


def no_activation(field: int) -> Limit:
    """A limit for operators that may have no fused activation.

    Args:
        field: the option's number in schema.fbs.
    """
    return lambda op, main, runtime: _fused(op, field)


def _fused(op: Op, field: int) -> Obstacle | None:
    kind = op.option(field, "b", 0)
    if kind == 0:
        return None
    name = _ACTIVATIONS[kind] if 0 <= kind < len(_ACTIVATIONS) else str(kind)
    return Obstacle("fused-activation", f"it has {name} fused into it: none was expected", TABLE)


def concatenation(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """CONCATENATION."""
    fused = _fused(op, 1)
    if fused is not None:
        return fused
    inputs = data_inputs(op, main)
    constants = [tensor for tensor in inputs if tensor.data is not None]
    if constants and not (len(inputs) == 2 and len(constants) == 1 and is_zero(constants[0])):
        text = f"{len(constants)} of its {len(inputs)} inputs are constants: with one there must be two, and it must be zero"
        return Obstacle("constant-input", text, TABLE)
    return None


def reduction(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """SUM, REDUCE_MAX, REDUCE_MIN."""
    return _reduced_batch(op, main)


def mean(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """MEAN."""
    batch = _reduced_batch(op, main)
    if batch is not None:
        return batch
    data, axes = data_inputs(op, main)[0], _axes(op, main)
    rank = len(data.shape)
    depth = rank - 1 in axes
    if depth and runtime < 13:
        return Obstacle("reduced-depth", "it averages over the channels, which needs Edge TPU runtime 13", TABLE)
    if depth and data.shape[-1] % 4:
        text = f"it averages over {data.shape[-1]} channels: a multiple of 4 was expected"
        return Obstacle("reduced-depth", text, TABLE)
    pixels = math.prod(data.shape[axis] for axis in axes if axis != rank - 1)
    if pixels > _MEAN_TAKEN:
        text = f"it averages over {pixels} pixels: {_MEAN_TAKEN} were seen to be taken, {_MEAN_LEFT} to be left"
        return Obstacle("size", text, issue(461), certain=pixels >= _MEAN_LEFT, blocks=pixels >= _MEAN_LEFT)
    return None


def _axes(op: Op, main: Subgraph) -> tuple[int, ...]:
    data = data_inputs(op, main)[0]
    given = numbers(input_at(op, main, 1)) or ()
    return tuple(axis % max(1, len(data.shape)) for axis in given)


def _reduced_batch(op: Op, main: Subgraph) -> Obstacle | None:
    data = data_inputs(op, main)[0]
    if len(data.shape) > 1 and 0 in _axes(op, main):
        return Obstacle("batch", "it reduces the batch axis", TABLE, certain=data.shape[0] > 1)
    return None


def pack(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """PACK."""
    made = outputs(op, main)[0]
    if op.option(1, "i", 0) % max(1, len(made.shape)) == 0:
        return Obstacle("batch", f"it packs along the batch axis of {list(made.shape)}", TABLE)
    return None


def pad(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """PAD."""
    data, amounts = data_inputs(op, main)[0], numbers(input_at(op, main, 1)) or ()
    pairs = list(zip(amounts[::2], amounts[1::2], strict=False))
    padded = [axis for axis, pair in enumerate(pairs) if any(pair)]
    rank = len(data.shape)
    if rank > 1 and 0 in padded:
        return Obstacle("batch", "it pads the batch axis", TABLE)
    if runtime < 13 and rank - 1 in padded:
        return Obstacle("padded-depth", "it pads the channels, which needs Edge TPU runtime 13", TABLE)
    return None


def prelu(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """PRELU."""
    alpha = input_at(op, main, 1)
    if alpha is not None and math.prod(alpha.shape[:-1]) != 1:
        text = f"its alpha is {list(alpha.shape)}: one number for each channel was expected (Keras: shared_axes=[1, 2])"
        return Obstacle("alpha", text, TABLE)
    return None


def split(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """SPLIT."""
    axis, data = numbers(input_at(op, main, 0)), data_inputs(op, main)[0]
    if axis and axis[0] % max(1, len(data.shape)) == 0:
        return Obstacle("batch", "it splits the batch axis", TABLE)
    return None


def squeeze(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """SQUEEZE."""
    shape = data_inputs(op, main)[0].shape
    leading = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    if runtime < 13 and 1 in shape[leading:]:
        text = f"it drops sizes of 1 inside {list(shape)}, which needs Edge TPU runtime 13"
        return Obstacle("relayout", text, TABLE)
    return None


def strided_slice(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """STRIDED_SLICE."""
    strides = numbers(input_at(op, main, 3)) or ()
    if any(stride != 1 for stride in strides):
        return Obstacle("strides", f"its strides are {list(strides)}: 1 everywhere was expected", TABLE)
    if op.option(2, "i", 0) or op.option(3, "i", 0):
        return Obstacle("masks", "it has an ellipsis or a new axis", TABLE)
    return None


def softmax(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """SOFTMAX."""
    shape = data_inputs(op, main)[0].shape
    if shape and shape[-1] > _SOFTMAX_TAKEN:
        return Obstacle("size", f"it has {shape[-1]} values: at most {_SOFTMAX_MOST} were expected", TABLE)
    rows = math.prod(shape[:-1])
    if rows == 1:
        return None
    text = f"it works on {rows} rows ({list(shape)}), and the page says one"
    seen = "logs of compiler 16 in jveitchmichaelis/edgetpu-yolo, which has such a SOFTMAX mapped"
    return Obstacle("rows", text, f"{TABLE}; {seen}", certain=False, blocks=runtime < 14)


def resize_bilinear(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """RESIZE_BILINEAR."""
    before, after = data_inputs(op, main)[0].shape, outputs(op, main)[0].shape
    growth = max((new / old for old, new in zip(before[1:3], after[1:3], strict=False) if old), default=1.0)
    # With align_corners the corners lie on each other, and the steps between them count.
    if op.option(2, "b", 0):
        steps = zip(before[1:3], after[1:3], strict=False)
        growth = max(((new - 1) / (old - 1) if old > 1 else float(new) for old, new in steps), default=1.0)
    if growth > _GROWTH_TAKEN:
        far = growth >= _GROWTH_LEFT
        text = (
            f"it enlarges {_image(before)} to {_image(after)}, {growth:.3g} times: twice was seen to be taken, 16 times to be left "
            "for want of precision"
        )
        return Obstacle("precision", text, f"{TABLE}; {PAIRS}", certain=far, blocks=growth > 4)
    return _resized(after)


def resize_nearest(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """RESIZE_NEAREST_NEIGHBOR."""
    return _resized(outputs(op, main)[0].shape)


def _resized(shape: tuple[int, ...]) -> Obstacle | None:
    size = math.prod(shape)
    if size <= _RESIZE_TAKEN:
        return None
    text = f"it makes {size} values: {_RESIZE_TAKEN} were seen to be taken, {_RESIZE_LEFT} to be left"
    left = size >= _RESIZE_LEFT
    return Obstacle("size", text, f"{TABLE}; {issue(31)}; {issue(597)}", certain=left, blocks=left)


def _image(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape[1:3])


def transpose(op: Op, main: Subgraph, runtime: int) -> Obstacle | None:
    """TRANSPOSE."""
    size = outputs(op, main)[0].elements
    if size <= _TRANSPOSE_TAKEN:
        return None
    text = f"it moves {size} values: {_TRANSPOSE_TAKEN} were seen to be taken, {_TRANSPOSE_LEFT} to be left"
    return Obstacle("size", text, _ROWS_SOURCE, certain=False, blocks=size >= _TRANSPOSE_LEFT)


def rows(op: Op, main: Subgraph) -> Obstacle | None:
    """Operators that the compiler takes, but was seen to leave some of where many values lie in rows, as detectors have them."""
    sizes = [tensor.elements for tensor in outputs(op, main) if sum(size > 1 for size in tensor.shape) <= 2]
    size = max(sizes, default=0)
    if size <= _ROWS_TAKEN:
        return None
    text = (
        f"it makes {size} values in rows: {_ROWS_TAKEN} were seen to be taken, and with {_ROWS_LEFT} and more some left"
    )
    return Obstacle("size", text, _ROWS_SOURCE, certain=False, blocks=False)

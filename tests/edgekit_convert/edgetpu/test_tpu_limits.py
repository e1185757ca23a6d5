"""The limit of each operator: a form that the Edge TPU takes, and one that it does not, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import tiny_models as models
from one_op_models import IMAGE, T, ints, one_op, options

from edgekit.modelfile import ModelFile
from edgekit.tensors import QuantParams
from edgekit_convert.edgetpu import check
from edgekit_convert.edgetpu.report import EdgetpuOp

ROW = T((1, 8))


def judge(content: bytes, runtime: int = 14) -> EdgetpuOp:
    """What the check says of the only operator of a model."""
    return check(ModelFile.read(content), runtime=runtime).ops[0]


def conv(
    *, dilation: tuple[int, int] = (1, 1), kernel: tuple[int, int] = (3, 3), channels: int = 4, **given: T
) -> bytes:
    """CONV_2D."""
    fields = {"strideH": 1, "strideW": 1, "dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
    weights = given.get("weights") or T((4, *kernel, channels), data=np.ones((4, *kernel, channels)))
    return one_op(
        "CONV_2D", [given.get("data", T(IMAGE)), weights], [T(IMAGE)], options("Conv2DOptions", **fields), version=3
    )


def depthwise(dilation: int) -> bytes:
    """DEPTHWISE_CONV_2D."""
    fields = {"strideH": 1, "strideW": 1, "depthMultiplier": 1}
    chosen = options("DepthwiseConv2DOptions", **fields, dilationHFactor=dilation, dilationWFactor=dilation)
    weights = T((1, 3, 3, 4), data=np.ones((1, 3, 3, 4)))
    bias = T((4,), 0.0025, dtype="int32", data=np.zeros(4))
    return one_op("DEPTHWISE_CONV_2D", [T(IMAGE), weights, bias], [T(IMAGE)], chosen, version=3)


def dense(rows: int = 1, *, shuffled: int = 0) -> bytes:
    """FULLY_CONNECTED of some rows."""
    chosen = options("FullyConnectedOptions", weightsFormat=shuffled)
    inputs = [T((rows, 8)), T((4, 8), data=np.ones((4, 8)))]
    return one_op("FULLY_CONNECTED", inputs, [T((rows, 4))], chosen, version=4)


def dense_per_channel() -> bytes:
    """FULLY_CONNECTED whose weights have a scale for each row."""
    b = models.Builder()
    x = b.tensor("x", (1, 8), "int8", quant=QuantParams((0.05,), (0,)))
    rows = QuantParams((0.1, 0.2, 0.3, 0.4), (0,) * 4)
    w = b.tensor("w", (4, 8), "int8", data=np.ones((4, 8), np.int8), quant=rows)
    y = b.tensor("y", (1, 4), "int8", quant=QuantParams((0.05,), (0,)))
    b.op("FULLY_CONNECTED", [x, w], [y], options("FullyConnectedOptions"), version=4)
    return b.build({"x": x}, {"y": y})


def pool(name: str, activation: int = 0) -> bytes:
    """A pooling operator."""
    fields = dict.fromkeys(("strideH", "strideW", "filterHeight", "filterWidth"), 2)
    chosen = options("Pool2DOptions", **fields, fusedActivationFunction=activation)
    return one_op(name, [T(IMAGE)], [T((1, 3, 3, 4))], chosen)


def concatenation(*inputs: T, activation: int = 0) -> bytes:
    """CONCATENATION of images."""
    depth = sum(item.shape[-1] for item in inputs)
    chosen = options("ConcatenationOptions", axis=3, fusedActivationFunction=activation)
    return one_op("CONCATENATION", inputs, [T((*IMAGE[:3], depth))], chosen)


def mean(axes: tuple[int, ...], shape: tuple[int, ...] = IMAGE, name: str = "MEAN") -> bytes:
    """A reduction."""
    out = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return one_op(name, [T(shape), ints(list(axes))], [T(out)], options("ReducerOptions", keepDims=True))


def pad(*pairs: tuple[int, int]) -> bytes:
    """PAD of an image."""
    out = tuple(size + sum(pair) for size, pair in zip(IMAGE, pairs, strict=True))
    return one_op("PAD", [T(IMAGE), ints(list(pairs))], [T(out)], options("PadOptions"))


def resize(name: str, before: int, after: int, *, channels: int = 4, align: bool = False) -> bytes:
    """A square image resized."""
    chosen = options(
        "ResizeBilinearOptions" if "BILINEAR" in name else "ResizeNearestNeighborOptions", alignCorners=align
    )
    inputs = [T((1, before, before, channels)), ints(after, after)]
    return one_op(name, inputs, [T((1, after, after, channels))], chosen)


def strided(strides: tuple[int, ...], **masks: int) -> bytes:
    """STRIDED_SLICE of an image."""
    places = [ints([0] * 4), ints(list(IMAGE)), ints(list(strides))]
    out = tuple(-(-size // stride) for size, stride in zip(IMAGE, strides, strict=True))
    return one_op("STRIDED_SLICE", [T(IMAGE), *places], [T(out)], options("StridedSliceOptions", **masks))


def transposed(*order: int) -> bytes:
    """TRANSPOSE of an image."""
    out = tuple(IMAGE[axis] for axis in order)
    return one_op("TRANSPOSE", [T(IMAGE), ints(list(order))], [T(out)], options("TransposeOptions"))


def moved(rows: int) -> bytes:
    """TRANSPOSE of rows of a detector."""
    shape, out = (1, rows, 3, 85), (1, 3, rows, 85)
    return one_op("TRANSPOSE", [T(shape), ints(0, 2, 1, 3)], [T(out)], options("TransposeOptions"))


def padding_int64() -> bytes:
    """PAD whose amounts are int64, as PyTorch's converter writes them."""
    amounts = T((4, 2), 0.0, dtype="int64", data=np.array([(0, 0), (1, 1), (1, 1), (0, 0)]))
    return one_op("PAD", [T(IMAGE), amounts], [T((1, 8, 8, 4))], options("PadOptions"))


@dataclass(frozen=True)
class Case:
    """One operator in one form.

    Attributes:
        content: the model.
        code: what is in the way; ``None`` when it is mapped.
        words: part of the reason; empty for no reason at all.
        runtime: the Edge TPU runtime.
        certain: whether the answer is.
        id: the test's name.
    """

    id: str
    content: bytes
    code: str | None = None
    words: str = ""
    runtime: int = 14
    certain: bool = True


ZERO, ONE = T(IMAGE, data=np.zeros(IMAGE)), T(IMAGE, data=np.ones(IMAGE))
CASES = [
    Case("conv", conv()),
    Case("conv dilated", conv(dilation=(2, 2))),
    Case("conv dilated in one direction", conv(dilation=(2, 1)), "dilation", "dilated by 2 x 1"),
    Case("conv dilated where it is one wide", conv(dilation=(2, 1), kernel=(3, 1))),
    Case("conv in groups", conv(channels=2), "groups", "filters of 2", certain=False),
    Case("conv with computed weights", conv(weights=T((4, 3, 3, 4))), "constant", "a constant was expected"),
    Case("conv of a batch", conv(data=T((2, 6, 6, 4))), "rank", "only the three innermost sizes"),
    Case("conv of int16", conv(data=T(IMAGE, dtype="int16")), "type", "int16: int8 or uint8 was expected"),
    Case("conv of uint8", conv(data=T(IMAGE, dtype="uint8"), weights=T((4, 3, 3, 4), dtype="uint8", data=np.ones((4, 3, 3, 4))))),
    Case("depthwise dilated", depthwise(2)),
    Case("depthwise dilated before 13", depthwise(2), "dilation", "needs Edge TPU runtime 13", 12),
    Case("dense", dense()),
    Case("dense of two rows", dense(2), "rows", "output is [2, 4]: one row was expected"),
    Case("dense of shuffled weights", dense(shuffled=1), "weights-format", "shuffled"),
    Case("dense with a scale for each row", dense_per_channel(), None, "its weights have 4 scales", certain=False),
    Case("average pool", pool("AVERAGE_POOL_2D")),
    Case("average pool with RELU", pool("AVERAGE_POOL_2D", 1), "fused-activation", "has RELU fused into it"),
    Case("max pool with RELU6", pool("MAX_POOL_2D", 3), "fused-activation", "has RELU6 fused into it"),
    Case("concatenation", concatenation(T(IMAGE), T(IMAGE), T(IMAGE))),
    Case("concatenation with RELU", concatenation(T(IMAGE), T(IMAGE), activation=1), "fused-activation", "RELU"),
    Case("concatenation with zeros", concatenation(T(IMAGE), ZERO)),
    Case("concatenation with ones", concatenation(T(IMAGE), ONE), "constant-input", "1 of its 2 inputs are constants"),
    Case("concatenation with what stands for zero", concatenation(T(IMAGE), T(IMAGE, 0.05, 5, data=np.full(IMAGE, 5)))),
    Case("concatenation with zeros that do not", concatenation(T(IMAGE), T(IMAGE, 0.05, 5, data=np.zeros(IMAGE))), "constant-input", "1 of its 2"),
    Case("concatenation of three with zeros", concatenation(T(IMAGE), T(IMAGE), ZERO), "constant-input", "1 of its 3"),
    Case("mean over the image", mean((1, 2))),
    Case("mean over four channels", mean((3,))),
    Case("mean over three channels", mean((3,), (1, 6, 6, 3)), "reduced-depth", "multiple of 4"),
    Case("mean over channels before 13", mean((3,)), "reduced-depth", "needs Edge TPU runtime 13", 12),
    Case("mean over the batch", mean((0, 1)), "batch", "reduces the batch axis", certain=False),
    Case("mean over a large image", mean((1, 2), (1, 256, 128, 3)), "size", "averages over 32768 pixels"),
    Case("mean between the sizes seen", mean((1, 2), (1, 128, 128, 3)), None, "16384 pixels", certain=False),
    Case("sum", mean((1,), name="SUM")),
    Case("sum before 13", mean((1,), name="SUM"), "runtime", "needs Edge TPU runtime 13, 12 was asked for", 12),
    Case("maximum over an axis", mean((1,), name="REDUCE_MAX")),
    Case("maximum over the batch", mean((0,), name="REDUCE_MAX"), "batch", "batch", certain=False),
    Case("pack", one_op("PACK", [ROW, ROW], [T((1, 2, 8))], options("PackOptions", valuesCount=2, axis=1))),
    Case("pack the batch", one_op("PACK", [ROW, ROW], [T((2, 1, 8))], options("PackOptions", valuesCount=2)), "batch", "packs"),
    Case("pad", pad((0, 0), (1, 1), (1, 1), (0, 0))),
    Case("pad channels", pad((0, 0), (0, 0), (0, 0), (0, 4))),
    Case("pad channels before 13", pad((0, 0), (0, 0), (0, 0), (0, 4)), "padded-depth", "runtime 13", 12),
    Case("pad the batch", pad((0, 1), (0, 0), (0, 0), (0, 0)), "rank", "only the three innermost sizes"),
    Case("prelu", one_op("PRELU", [T(IMAGE), T((1, 1, 4), data=np.ones((1, 1, 4)))], [T(IMAGE)], version=1)),
    Case(
        "prelu for each pixel",
        one_op("PRELU", [T(IMAGE), T((6, 6, 4), data=np.ones((6, 6, 4)))], [T(IMAGE)], version=1),
        "alpha", "one number for each channel",
    ),
    Case("quantize", one_op("QUANTIZE", [ROW], [T((1, 8), dtype="uint8")], options("QuantizeOptions"))),
    Case("quantize before 13", one_op("QUANTIZE", [ROW], [ROW], options("QuantizeOptions")), "runtime", "runtime 13", 12),
    Case("dequantize", one_op("DEQUANTIZE", [ROW], [T((1, 8), 0.0)], options("DequantizeOptions")), "operator", "not among"),
    Case("enlarged twice", resize("RESIZE_BILINEAR", 6, 12)),
    Case("enlarged eight times", resize("RESIZE_BILINEAR", 6, 48), "precision", "8 times", certain=False),
    Case("enlarged three times", resize("RESIZE_BILINEAR", 6, 18), None, "3 times", certain=False),
    Case("enlarged 16 times, corner on corner", resize("RESIZE_BILINEAR", 33, 513, align=True), "precision", "16 times"),
    Case("one pixel enlarged", resize("RESIZE_BILINEAR", 1, 33, align=True), "precision", "33 times"),
    Case("enlarged to a large image", resize("RESIZE_BILINEAR", 256, 512, channels=32), "size", "makes 8388608 values"),
    Case("nearest", resize("RESIZE_NEAREST_NEIGHBOR", 6, 48)),
    Case("nearest to a large image", resize("RESIZE_NEAREST_NEIGHBOR", 512, 1024, channels=3), "size", "3145728 values"),
    Case("rsqrt before 14", one_op("RSQRT", [ROW], [ROW]), "runtime", "runtime 14, 13 was asked for", 13),
    Case("softmax", one_op("SOFTMAX", [ROW], [ROW], options("SoftmaxOptions", beta=1.0))),
    Case(
        "softmax of rows",
        one_op("SOFTMAX", [T((1, 6, 8))], [T((1, 6, 8))], options("SoftmaxOptions", beta=1.0)),
        None, "works on 6 rows", certain=False,
    ),
    Case(
        "softmax of rows before 14",
        one_op("SOFTMAX", [T((1, 6, 8))], [T((1, 6, 8))], options("SoftmaxOptions", beta=1.0)),
        "rows", "works on 6 rows", 13, False,
    ),
    Case(
        "softmax of many",
        one_op("SOFTMAX", [T((1, 20000))], [T((1, 20000))], options("SoftmaxOptions", beta=1.0)),
        "size", "at most 16000",
    ),
    Case(
        "split the batch",
        one_op("SPLIT", [ints(0), T((2, 8))], [ROW, ROW], options("SplitOptions", numSplits=2)),
        "batch", "splits the batch axis",
    ),
    Case("strided slice", strided((1, 1, 1, 1))),
    Case("strided slice with steps", strided((1, 2, 2, 1)), "strides", "strides are [1, 2, 2, 1]"),
    Case("strided slice with an ellipsis", strided((1, 1, 1, 1), ellipsisMask=1), "masks", "ellipsis"),
    Case("transpose", transposed(0, 2, 1, 3)),
    Case("transpose before 14", transposed(0, 2, 1, 3), "runtime", "runtime 14", 13),
    Case("five axes", one_op("LOGISTIC", [T((1, 1, 2, 2, 4))], [T((1, 1, 2, 2, 4))])),
    Case("four axes in use", one_op("LOGISTIC", [T((2, 2, 2, 4))], [T((2, 2, 2, 4))]), "rank", "innermost"),
    Case("transpose of many", moved(784), "size", "it moves 199920 values", certain=False),
    Case("transpose between the sizes seen", moved(300), None, "it moves 76500 values", certain=False),
    Case("many rows", one_op("LOGISTIC", [T((1, 8400, 80))], [T((1, 8400, 80))]), None, "672000 values in rows", certain=False),
    Case("a large image", one_op("LOGISTIC", [T((1, 320, 320, 32))], [T((1, 320, 320, 32))])),
    Case("padding with int64", padding_int64(), "int64", "which the compiler reads as int32"),
    Case("padv2", one_op("PADV2", [T(IMAGE), ints([(0, 0)] * 4), T((), data=1)], [T(IMAGE)]), "operator", "PAD is, where"),
    Case("of integers without a scale", one_op(
        "ADD", [T((1, 8), 0.0, dtype="int32")] * 2, [T((1, 8), 0.0, dtype="int32")], options("AddOptions")
    ), "type", "is int32: int8 or uint8 was expected"),
    Case("hard swish", one_op("HARD_SWISH", [T(IMAGE)], [T(IMAGE)], version=1), "operator", "not among"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_operator_in_one_form(case: Case) -> None:
    """Each form is mapped or left as the published table, or what was seen of the compiler, says; with its reason."""
    found = judge(case.content, case.runtime)
    assert (case.code is None, case.certain) == (found.mapped, found.certain)
    assert case.code == found.code
    assert case.words in (found.reason or "")
    assert (found.reason is None) == (case.words == "")
    assert (found.source is None) == (found.reason is None)


def test_doubts_are_told_apart_from_knowledge() -> None:
    """An operator that is mapped as far as is known is listed as doubtful."""
    report = check(ModelFile.read(dense_per_channel()))
    assert [0] == [op.index for op in report.doubtful]
    assert 1 == len(report.mapped)

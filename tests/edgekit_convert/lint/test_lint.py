"""Each pattern is found in a model that was built to have it, and nothing in a clean one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.tensors import Array
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import open_data
from edgekit_convert.frontends import open_source
from edgekit_convert.frontends.freeze import import_tensorflow, to_float_tflite
from edgekit_convert.lint import LintFinding, lint
from edgekit_convert.lint.source import lint_source
from edgekit_convert.quantize import int8_operators, quantize
from edgekit_convert.ranges.extremes import extremes
from edgekit_convert.rewrite import rewrite


def kernel(seed: int, *shape: int) -> Array:
    """Random weights."""
    return np.random.default_rng(seed).normal(0, 0.4, shape).astype(np.float32)


@functools.cache
def from_function(function: Callable[[Any, Any], Any], *shape: int) -> bytes:
    """A float ``.tflite`` of a TensorFlow function of ``(tf, x)``, the output named ``y``."""
    tf = import_tensorflow()
    return to_float_tflite(lambda inputs: {"y": function(tf, inputs["x"])}, {"x": (shape, "float32")})


def samples(*shape: int, low: float = -1, high: float = 1, count: int = 40) -> Array:
    """Random samples."""
    return np.random.default_rng(5).uniform(low, high, (count, *shape[1:])).astype(np.float32)


def conv(tf: Any, x: Any, channels: int, seed: int = 0) -> Any:
    """A 3×3 convolution with RELU."""
    return tf.nn.relu(
        tf.nn.conv2d(x, kernel(seed, 3, 3, x.shape[-1], channels), 1, "SAME") + kernel(seed + 1, channels)
    )


def dense(tf: Any, x: Any, channels: int, seed: int = 0) -> Any:
    """A fully connected layer on the last axis."""
    return tf.matmul(x, kernel(seed, x.shape[-1], channels)) + kernel(seed + 1, channels)


def boxes_and_scores(tf: Any, x: Any) -> Any:
    """A detection head: boxes in pixels beside scores, joined and reshaped into the output."""
    features = conv(tf, x, 8)
    boxes = tf.nn.relu(tf.nn.conv2d(features, kernel(3, 1, 1, 8, 4) * 100, 1, "SAME"))
    scores = tf.nn.sigmoid(tf.nn.conv2d(features, kernel(4, 1, 1, 8, 2), 1, "SAME"))
    return tf.reshape(tf.concat([boxes, scores], -1), (1, 64, 6))


def mixed_inside(tf: Any, x: Any) -> Any:
    """The same join in the middle, read by a convolution."""
    large, small = tf.nn.relu(x * 300), tf.nn.sigmoid(x)
    return conv(tf, tf.concat([large, small], -1), 4)


@functools.cache
def padded(value: float) -> Callable[[Any, Any], Any]:
    """Convolution, padding, max-pool."""

    def build(tf: Any, x: Any) -> Any:
        features = tf.nn.conv2d(x, kernel(0, 3, 3, 3, 8), 1, "SAME")
        framed = tf.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=value)
        return conv(tf, tf.nn.max_pool2d(framed, 3, 2, "VALID"), 4, 7)

    return build


@functools.cache
def padded_for_convolution(value: float) -> Callable[[Any, Any], Any]:
    """Padding that a convolution reads."""

    def build(tf: Any, x: Any) -> Any:
        return tf.nn.conv2d(
            tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=value), kernel(0, 3, 3, 3, 8), 1, "VALID"
        )

    return build


def far_from_zero(tf: Any, x: Any) -> Any:
    """An activation between 9 and 11."""
    # Before a fully connected layer TensorFlow's converter takes the 10 into the bias; SAME padding prevents that here.
    return conv(tf, tf.tanh(tf.nn.conv2d(x, kernel(0, 3, 3, 3, 8) * 3, 1, "SAME")) + 10.0, 4, 3)


@functools.cache
def attention(mask: str | None) -> Callable[[Any, Any], Any]:
    """One head over 8 positions; the mask hides what comes later."""
    later = np.triu(np.ones((8, 8), np.float32), 1)

    def build(tf: Any, x: Any) -> Any:
        query, key, value = (dense(tf, x, 8, seed) for seed in (1, 3, 5))
        logits = tf.matmul(query, key, transpose_b=True) * 0.35
        if mask == "add":
            logits += later[None] * np.float32(-1e9)
        if mask == "computed":  # from the data: the first channel's sign hides a position
            hidden = tf.cast(x[:, None, :, 0] > 0.9, tf.float32)
            logits += hidden * np.float32(-1e9)
        if mask == "select":
            logits = tf.where(later[None] > 0, np.float32(-np.inf), logits)
        return dense(tf, tf.matmul(tf.nn.softmax(logits), value), 4, 7)

    return build


def layer_norm(tf: Any, x: Any) -> Any:
    """Layer normalisation over the last axis."""
    mean = tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), -1, keepdims=True)
    return dense(tf, (x - mean) * tf.math.rsqrt(variance + 1e-5) * kernel(1, 16) + kernel(2, 16), 4)


def instance_norm(tf: Any, x: Any) -> Any:
    """Each image's each channel by its own mean and deviation."""
    mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
    return conv(tf, (x - mean) / tf.sqrt(variance + 1e-5), 4)


def rms_norm(tf: Any, x: Any) -> Any:
    """Division by the root of the mean square."""
    return dense(tf, x * tf.math.rsqrt(tf.reduce_mean(x * x, -1, keepdims=True) + 1e-6), 4)


def divided(tf: Any, x: Any) -> Any:
    """A quotient whose divisor comes close to zero."""
    return dense(tf, x, 8) / (tf.nn.relu(dense(tf, x, 8, 3)) + 1e-6)


def exponential(tf: Any, x: Any) -> Any:
    """EXP of -20 to 20."""
    return tf.exp(x * 20.0) * 2.0


def two_constants() -> bytes:
    """Two constants added, and the sum added to the input."""
    b = models.Builder()
    x = b.tensor("x", (1, 4))
    one = b.tensor("one", (4,), data=np.full(4, 0.1, np.float32))
    two = b.tensor("two", (4,), data=np.full(4, 0.2, np.float32))
    total, y = b.tensor("total", (4,)), b.tensor("y", (1, 4))
    b.op("ADD", [one, two], [total], ("AddOptions", schema.AddOptionsT()))
    b.op("ADD", [x, total], [y], ("AddOptions", schema.AddOptionsT()))
    return b.build({"x": x}, {"y": y})


def computed_shape() -> bytes:
    """SHAPE → STRIDED_SLICE → PACK → RESHAPE, as an export with an open batch leaves behind."""
    b = models.Builder()

    def whole(name: str, *values: int) -> int:
        return b.tensor(name, (len(values),), "int32", data=np.array(values, np.int32))

    x = b.tensor("x", (1, 2, 4))
    sizes, batch, wanted = (
        b.tensor("sizes", (3,), "int32"),
        b.tensor("batch", (), "int32"),
        b.tensor("wanted", (2,), "int32"),
    )
    rest = b.tensor("rest", (), "int32", data=np.array(8, np.int32))
    flat = b.tensor("flat", (1, 8))
    weights = b.tensor("weights", (4, 8), data=kernel(1, 4, 8))
    y = b.tensor("y", (1, 4))
    shape = schema.ShapeOptionsT()
    shape.outType = schema.TensorType.INT32
    b.op("SHAPE", [x], [sizes], ("ShapeOptions", shape))
    options = schema.StridedSliceOptionsT()
    options.shrinkAxisMask = 1
    b.op(
        "STRIDED_SLICE",
        [sizes, whole("from", 0), whole("to", 1), whole("by", 1)],
        [batch],
        ("StridedSliceOptions", options),
    )
    pack = schema.PackOptionsT()
    pack.valuesCount = 2
    b.op("PACK", [batch, rest], [wanted], ("PackOptions", pack))
    b.op("RESHAPE", [x, wanted], [flat])
    b.op("FULLY_CONNECTED", [flat, weights, -1], [y], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    return b.build({"x": x}, {"y": y})


def unread_input() -> bytes:
    """A second input that nothing reads."""
    b = models.Builder()
    first, second, y = b.tensor("a", (1, 4)), b.tensor("b", (1, 4)), b.tensor("y", (1, 4))
    b.op("ADD", [first, first], [y], ("AddOptions", schema.AddOptionsT()))
    return b.build({"a": first, "b": second}, {"y": y})


@functools.cache
def keras_layer_norm() -> bytes:
    """Layer normalisation as Keras writes it, with a NEG."""
    import_tensorflow()
    import keras

    keras.utils.set_random_seed(1)
    x = inputs = keras.Input(ROWS[1:], name="x")
    x = keras.layers.Dense(4)(keras.layers.LayerNormalization()(x))
    return open_source(keras.Model(inputs, x)).export({"x": ROWS})


def one_more_axis() -> bytes:
    """EXPAND_DIMS between two additions."""
    b = models.Builder()
    x, double = b.tensor("x", (1, 4)), b.tensor("double", (1, 4))
    wide, y = b.tensor("wide", (1, 1, 4)), b.tensor("y", (1, 1, 4))
    axis = b.tensor("axis", (), "int32", data=np.array(1, np.int32))
    b.op("ADD", [x, x], [double], ("AddOptions", schema.AddOptionsT()))
    b.op("EXPAND_DIMS", [double, axis], [wide], ("ExpandDimsOptions", schema.ExpandDimsOptionsT()))
    b.op("ADD", [wide, wide], [y], ("AddOptions", schema.AddOptionsT()))
    return b.build({"x": x}, {"y": y})


def leaky(tf: Any, x: Any) -> Any:
    """LEAKY_RELU, which litert-quantizer has no int8 form of."""
    return dense(tf, tf.nn.leaky_relu(dense(tf, x, 8)), 4, 3)


IMAGE = (1, 8, 8, 3)
ROWS = (1, 8, 16)
Made = Callable[[], bytes]


def made(function: Callable[[Any, Any], Any], *shape: int) -> Made:
    """The model when it is asked for: TensorFlow is slow to import."""
    return lambda: from_function(function, *shape)


@dataclass(frozen=True)
class Case:
    """A model that has one pattern.

    Attributes:
        id: what to call it.
        model: makes it.
        data: samples.
        expected: level, code and automatic rule of each finding, in any order.
        words: texts that the findings must hold.
    """

    id: str
    model: Made
    data: Any
    expected: tuple[tuple[str, str, str | None], ...]
    words: tuple[str, ...] = ()


WARNING, NOTE = "warning", "note"
CASES = [
    Case(
        "boxes and scores",
        made(boxes_and_scores, *IMAGE),
        samples(*IMAGE),
        ((WARNING, "mixed-concat", None),),
        ("keeps less than 1 of 256 steps", "--io float32", "export the parts as separate outputs"),
    ),
    Case(
        "unequal join inside",
        made(mixed_inside, *IMAGE),
        samples(*IMAGE),
        ((WARNING, "mixed-concat", None),),
        ("Scale the parts alike",),
    ),
    Case(
        "-1e9 before a max-pool",
        made(padded(-1e9), *IMAGE),
        samples(*IMAGE),
        ((NOTE, "pad-value", "pad-value"),),
        ("pads with -1e+09", "less than 1 of 256 steps", "proven equal"),
    ),
    Case(
        "-infinity before a max-pool",
        made(padded(-np.inf), *IMAGE),
        samples(*IMAGE),
        ((NOTE, "pad-value", "pad-value"),),
        ("pads with -3.403e+38",),
    ),
    Case(
        "-100 before a convolution",
        made(padded_for_convolution(-100), *IMAGE),
        samples(*IMAGE),
        ((WARNING, "pad-value", None),),
        ("leaves the values 5 of 256 steps", "Pad with the lowest value"),
    ),
    Case(
        "-1 before a convolution",
        made(padded_for_convolution(-1), *IMAGE),
        samples(*IMAGE),
        ((NOTE, "pad-value", None),),
        ("holds both well",),
    ),
    Case(
        "9 to 11",
        made(far_from_zero, *IMAGE),
        samples(*IMAGE),
        ((WARNING, "range-without-zero", None),),
        ("9 to 11", "209 of its 256 steps stay unused, 47 are left"),
    ),
    Case(
        "attention",
        made(attention(None), *ROWS),
        samples(*ROWS),
        ((WARNING, "inner-softmax", None),),
        ("over 8 entries the average one is 32 steps",),
    ),
    *(
        Case(
            f"attention, mask by {kind}",
            made(attention(kind), *ROWS),
            samples(*ROWS),
            ((WARNING, "inner-softmax", None), (NOTE, "softmax-mask", "softmax-mask"), *more),
            ("puts -1e+09 before" if kind != "select" else "puts -3.403e+38 before", "less than 1 of 256 steps"),
        )
        for kind, more in (
            ("add", ()),
            ("select", ()),
            ("computed", ((WARNING, "no-int8-form", None), (WARNING, "no-int8-form", None))),  # GREATER and CAST
        )
    ),
    Case(
        "layer normalisation",
        made(layer_norm, *ROWS),
        samples(*ROWS),
        ((WARNING, "normalisation", None),),
        ("layer normalisation (",),
    ),
    Case(
        "layer normalisation by Keras",
        keras_layer_norm,
        samples(*ROWS),
        ((WARNING, "normalisation", None), (NOTE, "no-int8-form", "arithmetic")),
        ("layer normalisation (", "NEG"),
    ),
    Case(
        "instance normalisation",
        made(instance_norm, *IMAGE),
        samples(*IMAGE),
        ((WARNING, "normalisation", None),),
        ("instance normalisation (",),
    ),
    Case(
        "RMS normalisation",
        made(rms_norm, *ROWS),
        samples(*ROWS),
        ((WARNING, "normalisation", None),),
        ("RMS normalisation (",),
    ),
    Case(
        "L2 normalisation",
        made(lambda tf, x: tf.nn.l2_normalize(dense(tf, x, 8), -1), *ROWS),
        samples(*ROWS),
        ((WARNING, "normalisation", None), (WARNING, "no-int8-form", None)),
        ("L2 normalisation (",),
    ),
    Case(
        "division by almost zero",
        made(divided, *ROWS),
        samples(*ROWS),
        ((WARNING, "wide-range", None),),
        ("DIV", "the small ones become 0"),
    ),
    Case(
        "EXP of -20 to 20",
        made(exponential, *ROWS),
        samples(*ROWS),
        ((WARNING, "wide-range", None), (WARNING, "no-int8-form", None)),
        ("4.85e+08", "less than one int8 step"),
    ),
    Case(
        "two constants added",
        lambda: two_constants(),
        samples(1, 4),
        ((NOTE, "constant-operator", "fold"),),
        ("ADD 'total' has only constant inputs",),
    ),
    Case(
        "computed shape",
        computed_shape,
        samples(1, 2, 4),
        ((NOTE, "constant-operator", "fold"),),
        ("3 operators (PACK, SHAPE, STRIDED_SLICE",),
    ),
    Case(
        "unread input",
        unread_input,
        {"a": samples(1, 4), "b": samples(1, 4)},
        ((WARNING, "unused-input", None),),
        ("'b' is read by no operator",),
    ),
    Case(
        "input that never changes",
        models.add_two_inputs,
        {"a": samples(1, 4), "b": np.full((40, 4), 0.5, np.float32)},
        ((WARNING, "fixed-input", None),),
        ("'b' is 0.5 everywhere",),
    ),
    Case(
        "no int8 form",
        made(leaky, *ROWS),
        samples(*ROWS),
        ((WARNING, "no-int8-form", None),),
        ("LEAKY_RELU", "64 values a run stay in float", "--recipe auto"),
    ),
    Case(
        "one more axis",
        one_more_axis,
        samples(1, 4),
        ((NOTE, "no-int8-form", "squeeze"),),
        ("proven equal",),
    ),
    Case(
        "Flex",
        lambda: models.custom_op("FlexErf"),
        samples(1, 4),
        ((WARNING, "flex", None),),
        ("Replace Erf in the model",),
    ),
    Case(
        "custom operator",
        models.custom_op,
        samples(1, 4),
        ((WARNING, "custom-operator", None),),
        ("--allow-custom Mystery",),
    ),
]


def told(findings: tuple[LintFinding, ...]) -> list[tuple[str, str, str | None]]:
    """What is compared of findings."""
    return sorted(((item.level, item.code, item.automatic) for item in findings), key=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_pattern(case: Case) -> None:
    """A model that was built to have a pattern gives that finding, with its numbers, and no other."""
    report = lint_source(case.model(), case.data)
    assert sorted(case.expected, key=str) == told(report.findings), report.findings
    text = " ".join(f"{item.text} {item.fix}" for item in report.findings)
    assert [words for words in case.words if words not in text] == [], text
    assert all(item.tensors and item.fix for item in report.findings)
    assert report.passed == all(level == NOTE for level, _, _ in case.expected)


def test_what_to_leave_out_are_operators() -> None:
    """Each name that a finding would leave in float is the first output of an operator of that graph."""
    for case in CASES:
        content = case.model()
        firsts = {tensor_of(content, op.outputs[0]) for op in ModelFile.read(content).graph.main.ops}
        for finding in lint(ModelFile.read(content).graph, None, int8_operators()):
            assert set(finding.leave_out) <= firsts, case.id


def tensor_of(content: bytes, index: int) -> str:
    """A tensor's name."""
    return ModelFile.read(content).graph.main.tensors[index].name


def test_a_head_is_left_out_up_to_the_output() -> None:
    """The join and the reshape behind it."""
    report = lint_source(from_function(boxes_and_scores, *IMAGE), samples(*IMAGE))
    graph = ModelFile.read(from_function(boxes_and_scores, *IMAGE)).graph.main
    wanted = [graph.tensors[op.outputs[0]].name for op in graph.ops if op.name in ("CONCATENATION", "RESHAPE")]
    assert list(report.findings[0].leave_out) == wanted


def test_an_infinite_padding_left_by_torch() -> None:
    """TensorFlow writes -3.4e38 for -infinity, others write it as it is."""
    b = models.Builder()
    x, framed, y = b.tensor("x", (1, 4, 4, 2)), b.tensor("framed", (1, 6, 6, 2)), b.tensor("y", (1, 6, 6, 2))
    frame = b.tensor("frame", (4, 2), "int32", data=np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    number = b.tensor("number", (), data=np.array(-np.inf, np.float32))
    b.op("PADV2", [x, frame, number], [framed], ("PadV2Options", schema.PadV2OptionsT()))
    b.op("ADD", [framed, framed], [y], ("AddOptions", schema.AddOptionsT()))
    report = lint_source(b.build({"x": x}, {"y": y}), samples(1, 4, 4, 2))
    assert told(report.findings) == [(WARNING, "not-finite", None), (WARNING, "pad-value", None)]


class TestWithoutData:
    """What the structure alone tells."""

    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            pytest.param(made(padded(-1e9), *IMAGE), [(NOTE, "pad-value", "pad-value")], id="padding, mended"),
            pytest.param(made(padded_for_convolution(-100), *IMAGE), [(WARNING, "pad-value", None)], id="padding"),
            pytest.param(made(padded_for_convolution(-1), *IMAGE), [(NOTE, "pad-value", None)], id="small padding"),
            pytest.param(made(attention(None), *ROWS), [(WARNING, "inner-softmax", None)], id="attention"),
            pytest.param(
                made(attention("add"), *ROWS),
                [(NOTE, "softmax-mask", "softmax-mask"), (WARNING, "inner-softmax", None)],
                id="mask",
            ),
            pytest.param(made(layer_norm, *ROWS), [(WARNING, "normalisation", None)], id="normalisation"),
            pytest.param(two_constants, [(NOTE, "constant-operator", "fold")], id="constants"),
            pytest.param(unread_input, [(WARNING, "unused-input", None)], id="unread input"),
            pytest.param(made(leaky, *ROWS), [(WARNING, "no-int8-form", None)], id="no int8 form"),
            pytest.param(made(boxes_and_scores, *IMAGE), [], id="ranges are not known"),
        ],
    )
    def test_found(self, model: Made, expected: list[tuple[str, str, str | None]]) -> None:
        """Patterns that need no range are found, and the report says that nothing was measured."""
        report = lint_source(model())
        assert told(report.findings) == expected
        assert (report.samples, "no data were given" in str(report.unmeasured)) == (0, True)

    def test_open_batch_is_one(self) -> None:
        """A model with an open batch is looked at as one sample runs through it."""
        assert lint_source(models.dense_float(open_batch=True)).findings == ()

    def test_other_open_sizes_need_data(self) -> None:
        """Without data nobody knows how large the images are."""

        def loosen(model: Any) -> None:
            model.subgraphs[0].tensors[0].shapeSignature = [1, -1, -1, 3]

        with pytest.raises(ConversionError, match=r"open sizes besides the batch: give data .*--calibration"):
            lint_source(models.edited(models.conv_float(), loosen))


class TestRulesRan:
    """What a rule could not mend is a warning."""

    def test_flag(self) -> None:
        """The same graph before and after the rules had their chance."""
        graph = ModelFile.read(two_constants()).graph
        assert told(lint(graph, None, int8_operators())) == [(NOTE, "constant-operator", "fold")]
        assert told(lint(graph, None, int8_operators(), rules_ran=True)) == [(WARNING, "constant-operator", None)]

    def test_a_rule_that_was_taken_back(self) -> None:
        """A mask over whole rows cannot be made smaller, and the lint does not claim that it was."""
        hidden = np.full((8, 8), -1e9, np.float32)

        def build(tf: Any, x: Any) -> Any:
            return tf.nn.softmax(x + hidden)

        report = lint_source(from_function(build, 1, 8, 8), samples(1, 8, 8, low=-3, high=3))
        assert told(report.findings) == [(WARNING, "softmax-mask", None)]


def squeeze_excite(tf: Any, x: Any) -> Any:
    """What a good mobile network has: folded batch norm, RELU6, depthwise, squeeze and excite, a sum, a pool, softmax."""
    x = tf.nn.relu6(tf.nn.conv2d(x, kernel(0, 3, 3, 3, 8), 1, "SAME") + kernel(1, 8))
    y = tf.nn.depthwise_conv2d(x, kernel(2, 3, 3, 8, 1), [1, 1, 1, 1], "SAME") * kernel(3, 8) + kernel(4, 8)
    gate = tf.nn.sigmoid(dense(tf, tf.nn.relu(dense(tf, tf.reduce_mean(y, [1, 2], keepdims=True), 4)), 8, 5))
    x = tf.nn.max_pool2d(x + y * gate, 2, 2, "SAME")
    joined = tf.concat([conv(tf, x, 4, 6), conv(tf, x, 4, 8)], -1)
    return tf.nn.softmax(dense(tf, tf.reduce_mean(joined, [1, 2]), 5, 9))


def gated(tf: Any, x: Any) -> Any:
    """A gate around 0.5, which multiplies and nothing else: its offset is no waste."""
    gate = tf.nn.relu6(dense(tf, tf.reduce_mean(x, [1, 2], keepdims=True), 3) * 0.1 + 3.0) / 6.0
    return conv(tf, x * gate, 4)


CLEAN: list[tuple[str, Made, tuple[int, ...]]] = [
    ("squeeze and excite", made(squeeze_excite, *IMAGE), IMAGE),
    ("hard gate", made(gated, *IMAGE), IMAGE),
    ("dense", models.dense_float, (1, 8)),
    ("convolution", models.conv_float, (1, 12, 12, 3)),
]


@pytest.mark.parametrize(("model", "shape"), [item[1:] for item in CLEAN], ids=[item[0] for item in CLEAN])
def test_clean(model: Made, shape: tuple[int, ...]) -> None:
    """Nothing is found in a model that has none of the patterns."""
    content = model()
    assert lint_source(content).findings == ()
    assert lint_source(content, samples(*shape)).findings == ()


@dataclass(frozen=True)
class Real:
    """A real model, data for it, and the codes of what is mended in it."""

    id: str
    path: str
    data: str | None
    options: dict[str, Any]
    mended: tuple[str, ...] = ()


REAL = [
    Real("resnet8", "mlperf_tiny/resnet8/pretrainedResnet.tflite", "cifar10.npz", {"normalize": "none"}),
    Real("kws", "mlperf_tiny/kws/kws_ref_model_tf23_saved_model", "keyword_spotting.npz", {}),
    Real("kws, Keras 3", "keras3/kws_ds_cnn.keras", "keyword_spotting.npz", {}),
    Real("vww", "mlperf_tiny/vww/vww_96_float.tflite", "flowers_128.npz", {"normalize": "0,255", "resize": "96x96"}),
    Real("ad", "mlperf_tiny/ad/ad01_fp32.tflite", None, {}),
    Real(
        "mobilenet_v1", "mobilenet_v1_0.25_224/float.tflite", "flowers_224.npz", {"normalize": "127.5,127.5"}, ("no-int8-form",)
    ),
]  # fmt: skip


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.id)
def test_clean_real(real: Real, assets: Path) -> None:
    """No warning in real models; a SQUEEZE is noted, which becomes a RESHAPE."""
    data: Any = samples(1, 640, low=-60, high=20) if real.data is None else f"{assets / 'data' / real.data}:calibration"
    for given in (None, data):
        options = {"samples": 40, **real.options} if given is not None else {}
        report = lint_source(assets / real.path, given, **options)
        assert [(item.level, item.code) for item in report.findings] == [(NOTE, code) for code in real.mended]
        assert report.passed


def noise_db(content: bytes, data: Array, *, rules: bool, layers: dict[str, str] | None = None, part: int = 0) -> float:
    """SQNR in dB of a model with float edges in int8, on its calibration data, for its output's entries from ``part`` on."""
    inputs = ModelFile.read(content).inputs
    calibration = CalibrationSet(open_data(data, inputs, len(data), "calibration"), inputs, {})
    pivot = rewrite(content, calibration)[0] if rules else content
    ranges = {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in extremes(pivot, calibration).items()}
    quantised = quantize(pivot, ranges, "float32", layers=layers)
    results = []
    for model in (content, quantised):
        with edgekit.load(model, delegate="none") as session:
            results.append(np.stack([np.asarray(session.run(item[None]), np.float64)[..., part:] for item in data]))
    return float(10 * np.log10((results[0] ** 2).sum() / ((results[0] - results[1]) ** 2).sum()))


class TestEffect:
    """What is claimed to help does."""

    @pytest.mark.parametrize("kind", ["add", "select", "computed"])
    def test_masks(self, kind: str) -> None:
        """Attention under a mask of -1e9 loses nearly all, and keeps 30 dB under one that is just large enough."""
        content = from_function(attention(kind), *ROWS)
        assert noise_db(content, samples(*ROWS), rules=False) < 16
        assert noise_db(content, samples(*ROWS), rules=True) > 30

    def test_padding(self) -> None:
        """Of a feature map beside -1e9 nothing is left."""
        content = from_function(padded(-1e9), *IMAGE)
        assert noise_db(content, samples(*IMAGE), rules=False) < 3
        assert noise_db(content, samples(*IMAGE), rules=True) > 25

    def test_head(self) -> None:
        """Scores beside boxes in pixels are lost, and are back when what the finding names is left in float."""
        content = from_function(boxes_and_scores, *IMAGE)
        out = lint_source(content, samples(*IMAGE)).findings[0].leave_out
        assert noise_db(content, samples(*IMAGE), rules=True, part=4) < 3
        assert noise_db(content, samples(*IMAGE), rules=True, part=4, layers=dict.fromkeys(out, "float")) > 35

    def test_range_without_zero(self) -> None:
        """Half a range of unused steps costs more than 6 dB, which float gives back."""
        content = from_function(far_from_zero, *IMAGE)
        out = lint_source(content, samples(*IMAGE)).findings[0].leave_out
        plain = noise_db(content, samples(*IMAGE), rules=True)
        assert noise_db(content, samples(*IMAGE), rules=True, layers=dict.fromkeys(out, "float")) > plain + 6


def test_forms() -> None:
    """A finding as a conversion collects it, and as JSON prints it."""
    (finding,) = lint(ModelFile.read(unread_input()).graph, None, int8_operators())
    plain = finding.as_finding()
    assert (plain.level, plain.code) == (WARNING, "unused-input")
    assert plain.text.startswith("input 'b' is read by no operator")
    assert plain.text.endswith("Export the model without it.")
    assert finding.to_json() == {
        "level": WARNING,
        "code": "unused-input",
        "tensors": ["b"],
        "text": "input 'b' is read by no operator: whatever it is given changes nothing.",
        "fix": "Export the model without it.",
        "leave_out": [],
        "automatic": None,
    }

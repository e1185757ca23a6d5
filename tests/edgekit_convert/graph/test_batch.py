"""A second signature for several samples in one run: what is rewritten, what it shares, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import packed_weights as packed
import pytest
import small_nets as nets
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.errors import ConversionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateSpec
from edgekit.tensors import Array
from edgekit_convert.graph.batch import with_batch
from edgekit_convert.verify.batches import check_batch_possible, prove_batch, with_proven_batch

NONE, XNNPACK = DelegateSpec("none", 1), DelegateSpec("xnnpack", 1)


def _samples(content: bytes, count: int = 8) -> list[dict[str, Array]]:
    names = [spec.name for spec in ModelFile.read(content).inputs]
    return [dict(zip(names, row, strict=True)) for row in nets.samples(content, count)]


def flattened() -> bytes:
    """A RESHAPE with all sizes written down, and one with the features left open."""
    net = nets.Net(seed=1)
    x = net.input(1, 6, 6, 4)
    flat = net.reshape(net.conv(x, 4), 1, 144)
    y = net.result((1, 36, 4))
    net.op("RESHAPE", [flat, net.constant([1, -1, 4], "int32")], [y])
    return net.finish(net.dense(net.reshape(y, 1, 144), 3))


def written_in_the_options() -> bytes:
    """A RESHAPE of one input, as old converters wrote it."""
    net = nets.Net(seed=2)
    x = net.input(1, 8)
    y = net.result((2, 4))
    options = schema.ReshapeOptionsT()
    options.newShape = [2, 4]
    net.op("RESHAPE", [x], [y], ("ReshapeOptions", options))
    z = net.result((1, 8))
    options = schema.ReshapeOptionsT()
    options.newShape = [1, 8]
    net.op("RESHAPE", [net.simple("ABS", [y], (2, 4))], [z], ("ReshapeOptions", options))
    return net.finish(net.dense(z, 3))


def class_token() -> bytes:
    """A constant joined to the front of each sample's rows, as vision transformers do it, and picked out again."""
    net = nets.Net(seed=3)
    x = net.input(1, 5, 4)
    options = schema.ConcatenationOptionsT()
    options.axis = 1
    joined = net.simple(
        "CONCATENATION", [net.constant(net.normal(1, 1, 4)), x], (1, 6, 4), ("ConcatenationOptions", options)
    )
    options = schema.StridedSliceOptionsT()
    options.shrinkAxisMask = 2
    ends = [net.constant(values, "int32") for values in ([0, 0, 0], [1, 1, 4], [1, 1, 1])]
    mixed = net.simple(
        "ADD", [joined, net.constant(net.normal(1, 6, 4))], (1, 6, 4), ("AddOptions", schema.AddOptionsT())
    )
    first = net.simple("STRIDED_SLICE", [mixed, *ends], (1, 4), ("StridedSliceOptions", options))
    return net.finish(net.dense(first, 3))


def upsampled() -> bytes:
    """A TRANSPOSE_CONV, whose output's sizes are a constant."""
    net = nets.Net(seed=4)
    x = net.input(1, 4, 4, 3)
    options = schema.TransposeConvOptionsT()
    options.strideH = options.strideW = 2
    inputs = [net.constant([1, 8, 8, 5], "int32"), net.constant(net.normal(5, 2, 2, 3)), x]
    return net.finish(net.simple("TRANSPOSE_CONV", inputs, (1, 8, 8, 5), ("TransposeConvOptions", options)))


def sliced() -> bytes:
    """A SLICE whose sizes have the sample in them."""
    net = nets.Net(seed=10)
    x = net.input(1, 8)
    inputs = [x, net.constant([0, 2], "int32"), net.constant([1, 4], "int32")]
    return net.finish(net.dense(net.simple("SLICE", inputs, (1, 4)), 3))


def over_time() -> bytes:
    """Steps in front, samples behind, as unrolled recurrent layers have it: each step is cut out and joined with the last."""
    net = nets.Net(seed=12)
    steps = net.simple("TRANSPOSE", [net.input(1, 3, 4), net.constant([1, 0, 2], "int32")], (3, 1, 4))
    begin, size = [net.constant([1, 0, 0], "int32"), net.constant([1, 1, 4], "int32")]
    second = net.reshape(net.simple("SLICE", [steps, begin, size], (1, 1, 4)), 1, 4)
    options = schema.StridedSliceOptionsT()
    options.shrinkAxisMask = 1
    ends = [net.constant(values, "int32") for values in ([2, 0, 0], [3, 1, 4], [1, 1, 1])]
    third = net.simple("STRIDED_SLICE", [steps, *ends], (1, 4), ("StridedSliceOptions", options))
    options = schema.PackOptionsT()
    options.axis, options.valuesCount = 0, 3
    packed_steps = net.simple(
        "PACK", [second, net.constant(net.normal(1, 4)), third], (3, 1, 4), ("PackOptions", options)
    )
    back = net.simple("TRANSPOSE", [packed_steps, net.constant([1, 0, 2], "int32")], (1, 3, 4))
    return net.finish(net.dense(net.reshape(back, 1, 12), 3))


def rows_of_steps() -> bytes:
    """Steps and samples made rows of one dense layer, and taken apart again."""
    net = nets.Net(seed=13)
    steps = net.simple("TRANSPOSE", [net.input(1, 5, 4), net.constant([1, 0, 2], "int32")], (5, 1, 4))
    weights = [net.constant(net.normal(6, 4)), net.constant(net.normal(6, 1)[:, 0])]
    rows = net.result((5, 6))
    net.op("FULLY_CONNECTED", [net.reshape(steps, 5, 4), *weights], [rows],
           ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))  # fmt: skip
    apart = net.reshape(rows, 5, 1, 6)
    return net.finish(net.simple("TRANSPOSE", [apart, net.constant([1, 0, 2], "int32")], (1, 5, 6)))


def several() -> bytes:
    """Two inputs and two outputs."""
    return models.add_two_inputs()


@pytest.mark.parametrize(
    "build",
    [
        nets.residual,
        flattened,
        written_in_the_options,
        class_token,
        upsampled,
        sliced,
        over_time,
        rows_of_steps,
        several,
    ],
)
@pytest.mark.parametrize("spec", [NONE, XNNPACK], ids=["kernels", "xnnpack"])
def test_samples_together_come_out_as_they_do_alone(build: Callable[[], bytes], spec: DelegateSpec) -> None:
    """Whatever had the number of samples written down, each of three is what it is alone."""
    content = build()
    both = with_batch(content, 3)
    text = prove_batch(both, 3, _samples(content), spec)
    assert text.startswith("signature batch_3: 3 samples in one run give")
    inputs = ModelFile.read(content).inputs
    with edgekit.load(both, delegate="none", signature="batch_3") as session:
        assert [spec.shape for spec in session.inputs] == [(3, *spec.shape[1:]) for spec in inputs]
        assert all(output.shape[0] == 3 for output in session.outputs)


def test_an_int8_model_gives_the_very_values() -> None:
    """Integers add up in any order; quantised once, both signatures have the same constants."""
    content = nets.residual()
    int8 = nets.quantised(content, nets.samples(content, 40))
    text = prove_batch(with_batch(int8, 4), 4, _samples(content), XNNPACK)
    assert text == "signature batch_4: 4 samples in one run give the very values that they give one by one"


def test_the_weights_are_in_the_file_once() -> None:
    """Both graphs refer to the same bytes."""
    content = models.conv_float(size=32, channels=16, classes=1000)
    both = with_batch(content, 8)
    assert len(both) - len(content) < 2500
    main, second = ModelFile.read(both).graph.subgraphs
    kernels = [next(tensor for tensor in graph.tensors if tensor.name == "kernel") for graph in (main, second)]
    assert kernels[0].data is not None
    assert kernels[0].data.obj is kernels[1].data.obj  # type: ignore[union-attr]  # both are constants
    np.testing.assert_array_equal(kernels[0].array(), kernels[1].array())


def test_the_main_signature_stays_as_it_was() -> None:
    """One sample runs as before, under the old name and without one."""
    content = nets.residual()
    both = ModelFile.read(with_batch(content, 3))
    assert [signature.key for signature in both.graph.signatures] == ["serving_default", "batch_3"]
    assert both.inputs == ModelFile.read(content).inputs
    value = _samples(content, 1)[0]
    with edgekit.load(content, delegate="none") as before, edgekit.load(both, delegate="none") as after:
        np.testing.assert_array_equal(before.run(value), after.run(value))


def test_no_size_is_open() -> None:
    """Neither graph has a size that is found out at run time."""
    both = ModelFile.read(with_batch(flattened(), 3))
    assert all(-1 not in tensor.shape_signature for graph in both.graph.subgraphs for tensor in graph.tensors)


def test_a_session_batches_on_the_second_signature() -> None:
    """``Session.batch`` fills its runs, the last one padded."""
    content = nets.residual()
    both = with_batch(content, 4)
    rows = [next(iter(row.values())) for row in _samples(content, 6)]
    with edgekit.load(both, delegate="none", signature="batch_4") as many, edgekit.load(both, delegate="none") as one:
        for together, alone in zip(many.batch(rows), [one.run(row) for row in rows], strict=True):
            np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_constant_output_stays_one() -> None:
    """Anchors and the like are the same for any number of samples."""
    net = nets.Net(seed=11)
    content = net.finish(net.dense(net.input(1, 8), 4), net.constant([[1, 2, 3]]))
    assert "the very values" in prove_batch(with_batch(content, 2), 2, _samples(content), NONE)


def _turned() -> bytes:
    """Steps in front by a RESHAPE, as a rewrite rule spells a TRANSPOSE of one sample, and each step cut out."""
    net = nets.Net(seed=14)
    steps = net.reshape(net.input(1, 3, 4), 3, 1, 4)
    sizes = [net.constant([1, 0, 0], "int32"), net.constant([1, 1, 4], "int32")]
    second = net.reshape(net.simple("SLICE", [steps, *sizes], (1, 1, 4)), 1, 4)
    return net.finish(net.dense(second, 3))


def test_a_transpose_that_became_a_reshape_is_one_again() -> None:
    """For one sample the two are the same; for several only one of them gives what single runs give."""
    content, samples = _turned(), _samples(_turned())
    with pytest.raises(ConversionError):
        prove_batch(with_batch(content, 3), 3, samples, NONE)
    check_batch_possible(content, 3)
    both, text = with_proven_batch(content, 3, samples, NONE)
    assert "3 samples in one run give" in text
    first, second = ModelFile.read(both).graph.subgraphs
    assert [graph.ops[0].name for graph in (first, second)] == ["RESHAPE", "TRANSPOSE"]


def _mixing() -> bytes:
    """The mean over the samples is taken off: with one sample nothing would be left but what is added."""
    net = nets.Net(seed=6)
    x = net.input(1, 8)
    options = schema.ReducerOptionsT()
    options.keepDims = True
    mean = net.simple("MEAN", [x, net.constant([0], "int32")], (1, 8), ("ReducerOptions", options))
    return net.finish(
        net.simple("SUB", [net.simple("ABS", [x], (1, 8)), mean], (1, 8), ("SubOptions", schema.SubOptionsT()))
    )


def test_samples_that_are_mixed_are_noticed() -> None:
    """The graph works and computes something else: the operator is named."""
    both = with_batch(_mixing(), 2)
    with pytest.raises(ConversionError, match=r"2 samples in one run: the output .* samples are mixed \(first at MEAN"):
        prove_batch(both, 2, _samples(_mixing()), NONE)


def test_an_output_without_samples_is_noticed() -> None:
    """One whose first size counts something else cannot be taken apart again."""
    net = nets.Net(seed=7)
    x = net.input(1, 8)
    options = schema.ReducerOptionsT()
    options.keepDims = False
    content = net.finish(net.simple("MEAN", [x, net.constant([0], "int32")], (8,), ("ReducerOptions", options)))
    with pytest.raises(ConversionError, match="its first size does not count samples"):
        prove_batch(with_batch(content, 2), 2, _samples(content), NONE)


def test_a_graph_that_works_for_one_sample_only_is_refused() -> None:
    """The operator that gives up is named."""
    net = nets.Net(seed=8)
    x = net.input(1, 8)
    options = schema.SqueezeOptionsT()
    options.squeezeDims = [0]
    content = net.finish(net.simple("SQUEEZE", [x], (8,), ("SqueezeOptions", options)))
    with pytest.raises(
        ConversionError, match=r"2 samples in one run: the model does not work with .* The operator is SQUEEZE"
    ):
        with_batch(content, 2)


def test_an_input_without_samples_is_refused() -> None:
    """Its first size is not 1."""
    net = nets.Net(seed=9)
    x = net.input(3, 8)
    content = net.finish(net.simple("ABS", [x], (3, 8)))
    with pytest.raises(ConversionError, match=r"has sizes \[3, 8\], and a first size of 1 was expected"):
        with_batch(content, 2)


def test_other_subgraphs_are_refused() -> None:
    """Control flow has sizes that nobody knows before it runs."""
    content = packed.with_entry(models.dense_float(), models.add_two_inputs(), "add")
    with pytest.raises(ConversionError, match="runs other subgraphs"):
        with_batch(content, 2)


@pytest.mark.parametrize("recipe", ["auto", "int8", "int16x8", "dynamic", "float16", "weights"])
def test_a_conversion_has_the_second_signature(recipe: str, tmp_path: Any) -> None:
    """Under every recipe the file that was written runs four samples at once, and says what was seen."""
    content = nets.residual()
    data = np.concatenate([row[0] for row in nets.samples(content, 40)])
    path = tmp_path / "model.tflite"
    result = edgekit.convert(content, data, normalize="none", effort="fast", recipe=recipe, batch=4, output=path)
    assert any(finding.code == "batch" for finding in result.findings)
    with edgekit.load(path, signature="batch_4") as many, edgekit.load(path) as one:
        together = many.run(data[:4])
        alone = np.concatenate([one.run(row[None]) for row in data[:4]])
    np.testing.assert_allclose(together, alone, atol=0.01)
    assert many.inputs[0].dtype == one.inputs[0].dtype


def test_a_batch_that_cannot_be_had_is_said_before_the_work() -> None:
    """No calibration runs first."""
    steps: list[str] = []
    with pytest.raises(ConversionError, match="3 samples in one run"):
        edgekit.convert(
            _squeezed(),
            np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32),
            normalize="none",
            batch=3,
            progress=lambda step, done, total: steps.append(step),
        )
    assert set(steps) == {"Reading the model", "Making the float .tflite"}


def _squeezed() -> bytes:
    net = nets.Net(seed=8)
    options = schema.SqueezeOptionsT()
    options.squeezeDims = [0]
    return net.finish(net.simple("SQUEEZE", [net.input(1, 8)], (8,), ("SqueezeOptions", options)))


def test_a_batch_for_the_edge_tpu_is_refused() -> None:
    """Its compiler takes one graph."""
    with pytest.raises(edgekit.OptionError, match="the Edge TPU compiler takes one"):
        edgekit.convert(nets.residual(), np.zeros((4, 8, 8, 3), np.float32), device="coral-usb", batch=2)

"""Open sizes are fixed by the caller or by the data, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import small_nets as nets
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.errors import ConversionError, DataError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.tensors import TensorSpec
from edgekit_convert.frontends import Opening, Source, open_source
from edgekit_convert.frontends.freeze import import_tensorflow
from edgekit_convert.frontends.shapes import check_batch, fixed_shapes, with_shapes


def opened(*signature: int, content: bytes | None = None, shapes: Any = None) -> Source:
    """``conv_float`` with these sizes in its shape signature."""

    def leave_open(model: Any) -> None:
        main = model.subgraphs[0]
        main.tensors[main.inputs[0]].shapeSignature = list(signature)

    return open_source(models.edited(content or models.conv_float(), leave_open), Opening(shapes=fixed_shapes(shapes)))


@pytest.mark.parametrize("shapes", [(1, 16, 20, 3), {"image": (1, 16, 20, 3)}, {"image": np.array([1, 16, 20, 3])}])
def test_open_sizes_are_fixed(shapes: Any) -> None:
    """By name, or without for the only input; the pivot has no open size anywhere."""
    source = opened(-1, -1, -1, 3, shapes=shapes)
    assert source.inputs == (TensorSpec("image", (1, 16, 20, 3), "float32"),)
    pivot = ModelFile.read(source.export({"image": (1, 16, 20, 3)}))
    assert all(tensor.shape_signature == tensor.shape for tensor in pivot.graph.main.tensors)
    assert pivot.graph.main.tensors[3].shape == (1, 16, 20, 8)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        pytest.param(
            (1, 16, 16, 4), r"\[1, 16, 16, 4\] for image: .*image float32\[\?,\?,\?,3\].*question mark", id="fixed"
        ),
        pytest.param((1, 16, 16), "4 sizes were expected", id="rank"),
        pytest.param((4, 16, 16, 3), "its first size is 1. For 4 samples in one run add --batch 4", id="batch"),
        pytest.param({"picture": (1, 16, 16, 3)}, "unknown input picture: the model has image", id="name"),
        pytest.param(
            {"": (1, 9, 9, 3), "image": (1, 8, 8, 3)}, "two shapes were given for the input image", id="twice"
        ),
    ],
)
def test_what_does_not_fit_is_refused(shapes: Any, message: str) -> None:
    """The message has what was given and what the model takes."""
    with pytest.raises(OptionError, match=message):
        opened(-1, -1, -1, 3, shapes=shapes)


@pytest.mark.parametrize("shape", [(1, 0, 3), (1, -1, 3), (1, 2.5), "1,2,3", (True, 2), 7])
def test_sizes_are_whole_numbers_above_zero(shape: Any) -> None:
    """Anything else is an error, not an exception of Python's."""
    with pytest.raises(OptionError, match="whole numbers above 0 were expected, the batch first"):
        fixed_shapes({"x": shape})


@pytest.mark.parametrize("batch", [1, 0, -3, True, 2.0, 5000])
def test_a_batch_is_a_number_of_samples(batch: Any) -> None:
    """One sample is what the main signature is for."""
    with pytest.raises(OptionError, match=r"a whole number from 2 to 4096 was expected"):
        check_batch(batch)


def test_several_inputs_need_names() -> None:
    """A shape without a name would be anybody's."""
    with pytest.raises(
        OptionError, match=r"one input, and the model has a float32\[1,4\], b float32\[1,4\]: write --shape"
    ):
        open_source(models.add_two_inputs(), Opening(shapes={"": (1, 4)}))


def test_a_shape_in_the_order_of_the_original() -> None:
    """For an input whose axes were turned both orders are understood; the file's is taken where both fit."""
    source = opened(-1, -1, -1, 3)
    turned = replace(source, layouts={"image": (0, 2, 3, 1)})
    for shape in ((1, 3, 16, 20), (1, 16, 20, 3)):
        assert with_shapes(turned, {"image": shape}).inputs[0].shape == (1, 16, 20, 3)
    assert with_shapes(turned, {"image": (1, 3, 5, 3)}).inputs[0].shape == (1, 3, 5, 3)


def _rows_of_channels(last: int) -> bytes:
    """Places of an image as rows, as heads of detectors have it: ``[1, 36, last]`` of 6x6 places."""
    net = nets.Net(seed=3)
    x = net.input(1, 6, 6, 4)
    return net.finish(net.softmax(net.reshape(net.conv(x, 8), 1, 36 * 8 // last, last)))


@pytest.mark.parametrize("last", [4, 8])
def test_rows_of_channels_take_other_sizes(last: int) -> None:
    """A RESHAPE that has the number of places written down is loosened, and gives the rows of the larger image."""
    content = _rows_of_channels(last)
    source = opened(1, -1, -1, 4, content=content, shapes=(1, 9, 5, 4))
    pivot = source.export(
        {"t0": (1, 9, 5, 4)} if source.inputs[0].name == "t0" else {source.inputs[0].name: (1, 9, 5, 4)}
    )
    assert ModelFile.read(pivot).outputs[0].shape == (1, 45 * 8 // last, last)
    (said,) = source.export_notes
    assert said.startswith("1 RESHAPE with a fixed number of places loosened for these sizes: ")
    value = np.random.default_rng(0).normal(size=(1, 9, 5, 4)).astype(np.float32)
    small = value[:, :6, :5]
    other = opened(1, -1, -1, 4, content=content)
    with (
        edgekit.load(pivot, delegate="none") as large,
        edgekit.load(other.export({other.inputs[0].name: (1, 6, 5, 4)}), delegate="none") as part,
    ):
        rows = np.asarray(large.run(value)).reshape(9, 5, -1)
        np.testing.assert_allclose(rows[:5, :5], np.asarray(part.run(small)).reshape(6, 5, -1)[:5, :5], atol=1e-6)


def test_features_that_were_flattened_take_no_other_size() -> None:
    """The RESHAPE before a dense layer is named with its sizes."""
    net = nets.Net(seed=4)
    x = net.input(1, 6, 6, 4)
    content = net.finish(net.dense(net.reshape(x, 1, 144), 3))
    source = opened(1, -1, -1, 4, content=content, shapes=(1, 9, 5, 4))
    with pytest.raises(
        ConversionError, match=r"RESHAPE .* has the fixed sizes \[1, 144\]\. Use the sizes that it was exported"
    ):
        source.export({source.inputs[0].name: (1, 9, 5, 4)})


def test_features_that_would_become_several_rows_are_noticed() -> None:
    """A Flatten with its rows left open makes four of an image twice as large, which no error of the interpreter tells."""
    net = nets.Net(seed=4)
    x = net.input(1, 6, 6, 4)
    flat = net.result((1, 144))
    net.op("RESHAPE", [x, net.constant([-1, 144], "int32")], [flat])
    content = net.finish(net.dense(flat, 3))
    source = opened(1, -1, -1, 4, content=content, shapes=(1, 12, 12, 4))
    with pytest.raises(
        ConversionError, match=r"it makes 4 rows of 144 features out of \[1, 12, 12, 4\].*fixed sizes \[-1, 144\]"
    ):
        source.export({source.inputs[0].name: (1, 12, 12, 4)})
    same = opened(1, -1, -1, 4, content=content, shapes=(1, 6, 6, 4))
    assert ModelFile.read(same.export({same.inputs[0].name: (1, 6, 6, 4)})).outputs[0].shape == (1, 3)


def test_rows_of_whole_positions_are_meant() -> None:
    """The joined heads of an attention are a row for each place, at any size."""
    net = nets.Net(seed=5)
    x = net.input(1, 6, 6, 4)
    rows = net.result((6, 24))
    net.op("RESHAPE", [x, net.constant([-1, 24], "int32")], [rows])
    weights = [net.constant(net.normal(3, 24)), net.constant(np.zeros(3))]
    scores = net.result((6, 3))
    net.op("FULLY_CONNECTED", [rows, *weights], [scores], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    source = opened(1, -1, 6, 4, content=net.finish(scores), shapes=(1, 9, 6, 4))
    pivot = ModelFile.read(source.export({source.inputs[0].name: (1, 9, 6, 4)}))
    assert pivot.outputs[0].shape == (9, 3)


def test_the_data_fix_what_is_open() -> None:
    """Without a shape the first sample's sizes are taken, and the int8 file has them."""
    source = opened(-1, -1, -1, 3)
    assert source.inputs[0].shape == (-1, -1, -1, 3)
    data = np.random.default_rng(1).normal(size=(30, 10, 14, 3)).astype(np.float32)
    result = edgekit.convert(_open_everywhere(), data, normalize="none", effort="fast")
    assert result.model.inputs[0].shape == (1, 10, 14, 3)
    assert all(-1 not in tensor.shape_signature for tensor in result.model.graph.main.tensors)


def _open_everywhere() -> bytes:
    def leave_open(model: Any) -> None:
        main = model.subgraphs[0]
        main.tensors[main.inputs[0]].shapeSignature = [-1, -1, -1, 3]

    return models.edited(models.conv_float(), leave_open)


def test_data_of_another_size_than_the_shape_are_refused() -> None:
    """The message says what the input takes and how images are resized."""
    data = np.random.default_rng(1).normal(size=(30, 10, 14, 3)).astype(np.float32)
    with pytest.raises(
        DataError, match=r"sample 0 has shape \[10, 14, 3\], .* takes \[16, 16, 3\]. Pass --resize 16x16"
    ):
        edgekit.convert(_open_everywhere(), data, normalize="none", effort="fast", shapes=(1, 16, 16, 3))


def _fixed_batch(size: int) -> bytes:
    """A classifier of ``size`` images at once, whose RESHAPE and slice have that number written down."""
    net = nets.Net(seed=5)
    x = net.input(size, 6, 6, 4)
    pooled = net.result((size, 3, 3, 4))
    options = schema.Pool2DOptionsT()
    options.filterHeight = options.filterWidth = options.strideH = options.strideW = 2
    net.op("MAX_POOL_2D", [x], [pooled], ("Pool2DOptions", options))
    flat = net.reshape(pooled, size, 36)
    part = net.result((size, 30))
    net.op("SLICE", [flat, net.constant([0, 0], "int32"), net.constant([size, 30], "int32")], [part])
    scores = net.result((size, 3))
    weights = [net.constant(net.normal(3, 30)), net.constant(np.zeros(3))]
    net.op("FULLY_CONNECTED", [part, *weights], [scores], ("FullyConnectedOptions", schema.FullyConnectedOptionsT()))
    return net.finish(scores)


def test_a_model_of_several_samples_is_rewritten_for_one() -> None:
    """Its first size given as 1, every sample alone comes out as it does among the others."""
    content = _fixed_batch(4)
    name = open_source(content).inputs[0].name
    source = open_source(content, Opening(shapes={name: (1, 6, 6, 4)}))
    single = source.export({name: (1, 6, 6, 4)})
    value = np.random.default_rng(0).normal(size=(4, 6, 6, 4)).astype(np.float32)
    with edgekit.load(content, delegate="none") as many, edgekit.load(single, delegate="none") as one:
        np.testing.assert_allclose(np.concatenate([one.run(row[None]) for row in value]), many.run(value), atol=1e-5)
    assert source.notes[-1] == "made for 4 samples in one run, and rewritten for one"


def test_a_model_of_several_samples_and_no_shape() -> None:
    """The data are single samples, and the message says so."""
    data = np.random.default_rng(1).normal(size=(8, 6, 6, 4)).astype(np.float32)
    with pytest.raises(DataError, match="Its batch is fixed at 4, and samples are run one by one"):
        edgekit.convert(_fixed_batch(4), data, normalize="none", effort="fast")


def _keras_source(_: Any) -> Any:
    import_tensorflow()
    import keras

    return keras.Sequential(
        [
            keras.Input((None, None, 3), name="image"),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )


def _saved_model_source(folder: Any) -> Any:
    _keras_source(None).export(folder, verbose=False)
    return folder


@pytest.mark.parametrize("make", [_keras_source, _saved_model_source])
def test_every_frontend_takes_shapes(make: Callable[[Any], Any], tmp_path: Any) -> None:
    """Open sizes of a Keras model and of a SavedModel are fixed in the pivot."""
    source = open_source(make(tmp_path), Opening(shapes={"": (1, 20, 12, 3)}))
    pivot = ModelFile.read(source.export({spec.name: spec.shape for spec in source.inputs}))
    assert pivot.inputs[0].shape == (1, 20, 12, 3)
    assert -1 not in pivot.outputs[0].shape

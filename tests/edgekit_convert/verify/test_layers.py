"""Float against int8 at each tensor, for files of several makers; the figures are held against numpy's."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit.graph import parse
from edgekit.modelfile import ModelFile
from edgekit.tensors import dequantize, quantize
from edgekit_convert.calibration import CalibrationSet
from edgekit_convert.calibration.data import DataSource, open_data
from edgekit_convert.frontends.freeze import import_tensorflow
from edgekit_convert.verify.layers import LayerFigures, LayerReport, compare_layers

ROWS = np.random.default_rng(4).uniform(-5, 6, (50, 8)).astype(np.float32)


def dense_without_softmax() -> bytes:
    """The float original of ``dense_int8``."""

    def cut(model: Any) -> None:
        main = model.subgraphs[0]
        main.operators = main.operators[:1]
        main.outputs = [3]
        model.signatureDefs[0].outputs[0].tensorIndex = 3

    return models.edited(models.dense_float(), cut)


def prepared(float_model: bytes, data: Any, limit: int = 1000) -> CalibrationSet:
    """Data for a float model."""
    inputs = ModelFile.read(float_model).inputs
    return CalibrationSet(open_data(data, inputs, limit, "verification"), inputs, {})


@pytest.fixture(scope="module")
def dense_report() -> LayerReport:
    """The tiny pair on all fifty rows."""
    exact = dense_without_softmax()
    return compare_layers(exact, ModelFile.read(models.dense_int8()), prepared(exact, ROWS))


class TestFigures:
    """What is measured at a tensor."""

    def test_the_tensors_are_those_of_the_graph(self, dense_report: LayerReport) -> None:
        """The input first, with the int8 model's type and map."""
        assert [("INPUT", "x", "int8", (1, 8)), ("FULLY_CONNECTED", "logits", "int8", (1, 4))] == [
            (layer.operator, layer.name, layer.dtype, layer.shape) for layer in dense_report.layers
        ]
        assert (dense_report.samples, dense_report.unmatched) == (50, ())
        assert [layer.zero_point for layer in dense_report.layers] == [0, 0]
        assert [np.float32(8 / 255), np.float32(16 / 255)] == [layer.scale for layer in dense_report.layers]

    def test_the_input(self, dense_report: LayerReport) -> None:
        """Noise, mean error, range, clipping and steps as numpy finds them on the values themselves."""
        layer = dense_report.layers[0]
        integers = quantize(ROWS, models.DENSE_INPUT, "int8")
        error = dequantize(integers, models.DENSE_INPUT).astype(np.float64) - ROWS
        exact = ROWS.astype(np.float64)
        assert layer.sqnr_db == pytest.approx(10 * np.log10((exact**2).sum() / (error**2).sum()))
        assert layer.bias == pytest.approx(error.mean() / np.sqrt((exact**2).mean()))
        assert (layer.low, layer.high) == (ROWS.min(), ROWS.max())
        scale = models.DENSE_INPUT.scales[0]
        assert layer.clipped_high == np.mean(127.5 * scale < ROWS) > 0.1
        assert layer.clipped_low == np.mean(-128.5 * scale > ROWS) > 0.05
        assert layer.steps == int(integers.max()) - int(integers.min()) + 1

    def test_the_error_accumulates(self, dense_report: LayerReport) -> None:
        """The last tensor's noise is that of the whole int8 network, its input's rounding included."""
        exact = models.dense_logits(ROWS)
        with edgekit.load(models.dense_int8(), delegate="none") as session:
            rounded = np.concatenate([session.run(row[None]) for row in ROWS])
        expected = 10 * np.log10(
            (exact.astype(np.float64) ** 2).sum() / ((exact - rounded.astype(np.float64)) ** 2).sum()
        )
        assert dense_report.layers[1].sqnr_db == pytest.approx(expected, abs=1e-3)

    def test_order_of_the_samples_does_not_matter(self, dense_report: LayerReport) -> None:
        """Sums, extremes and counts are the same from the end."""
        exact = dense_without_softmax()
        again = compare_layers(exact, ModelFile.read(models.dense_int8()), prepared(exact, ROWS[::-1].copy()))
        for one, other in zip(dense_report.layers, again.layers, strict=True):
            assert other.noise_share == pytest.approx(one.noise_share, rel=1e-12)
            assert replace(one, noise_share=0, bias=0) == replace(other, noise_share=0, bias=0)

    def test_a_model_against_itself_has_no_error(self) -> None:
        """Nothing is lost, nothing is the worst, and JSON says so without infinity."""
        exact = models.conv_float()
        images = np.random.default_rng(0).uniform(-1, 1, (3, 12, 12, 3)).astype(np.float32)
        report = compare_layers(exact, ModelFile.read(exact), prepared(exact, images))
        assert {layer.sqnr_db for layer in report.layers} == {math.inf}
        assert report.worst() == ()
        rows = json.loads(json.dumps(report.to_json(), allow_nan=False))["layers"]
        assert [(row["noise_share"], row["sqnr_db"], row["scale"], row["steps"]) for row in rows] == [
            (0, None, None, None)
        ] * 5

    def test_at_most_as_many_samples_as_asked_for(self) -> None:
        """They are spread over the data, and progress tells how many there are."""
        exact = dense_without_softmax()
        rows = np.zeros((90, 8), np.float32)
        rows[::30] = 1, 2, 3, 4, 5, 6, 7, 8
        seen: list[tuple[int, int]] = []
        report = compare_layers(
            exact, ModelFile.read(models.dense_int8()), prepared(exact, rows), limit=3,
            progress=lambda done, total: seen.append((done, total)),
        )  # fmt: skip
        assert seen == [(1, 3), (2, 3), (3, 3)]
        assert (report.samples, report.layers[0].low) == (3, 1.0)

    def test_data_of_unknown_length_are_read_no_further_than_needed(self) -> None:
        """A function's samples stop being drawn when there are enough."""
        exact = dense_without_softmax()
        drawn: list[int] = []

        def read() -> Any:
            for number in range(1000):
                drawn.append(number)
                yield {"x": ROWS[number % 50]}, None

        data = CalibrationSet(DataSource("a function", read, None), ModelFile.read(exact).inputs, {})
        assert compare_layers(exact, ModelFile.read(models.dense_int8()), data, limit=5).samples == 5
        assert len(drawn) == 5


class TestReport:
    """What is made of the figures."""

    LAYER = LayerFigures(
        "ADD", "a", "b", (1, 4), "int8", 0.1, 3, -1.0, 1.0, 0.0, 0.25, 200, noise_share=0.01, bias=-0.002
    )  # fmt: skip

    def test_worst_by_the_noise_at_the_tensor(self) -> None:
        """The largest first; a layer without error is never among them."""
        shares = (0.0, 0.02, 0.3, 0.01)
        report = LayerReport(tuple(replace(self.LAYER, noise_share=share) for share in shares), 1, ())
        assert (report.worst(), report.worst(1)) == ((2, 1, 3), (2,))

    def test_worst_by_what_each_adds_alone(self) -> None:
        """Where that is known it decides, whichever of the two names it was given under."""
        layers = [replace(self.LAYER, name=f"f{n}", int8_name=f"q{n}", noise_share=n / 10) for n in range(4)]
        report = LayerReport(tuple(layers), 1, ()).with_alone({"f1": 0.1, "q2": 0.001, "unknown": 5.0})
        assert [None, 0.1, 0.001, None] == [layer.alone_share for layer in report.layers]
        assert report.layers[1].alone_db == pytest.approx(10.0)
        assert report.worst() == (1, 2)
        assert [None, 1, 2, None] == [row["worst"] for row in report.to_json()["layers"]]

    def test_an_error_without_bounds(self) -> None:
        """A value that is not finite: no decibels, no share, and the worst of all."""
        report = LayerReport((self.LAYER, replace(self.LAYER, noise_share=math.inf)), 1, ())
        assert report.layers[1].sqnr_db == -math.inf
        assert report.worst(1) == (1,)
        row = report.to_json()["layers"][1]
        assert (row["noise_share"], row["sqnr_db"]) == (None, None)


@pytest.fixture(scope="module")
def foreign(sources: dict[str, Any], image_data: Any) -> dict[str, bytes]:
    """The shared Keras model quantised by TFLiteConverter in its several ways, and by litert-quantizer on its own."""
    tf = import_tensorflow()
    from litert_quantizer import quantizer, recipe

    def convert(**options: Any) -> bytes:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(sources["saved_model"]))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        for name, value in options.items():
            setattr(converter.target_spec if name.startswith("supported") else converter, name, value)
        return bytes(converter.convert())

    def samples() -> Any:
        for image in image_data[:20]:
            yield [image[None]]

    name = ModelFile.read(sources["bytes"]).inputs[0].name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tool calibrates in a way that the interpreter warns of
        tool = quantizer.Quantizer(bytearray(sources["bytes"]), recipe.static_wi8_ai8())
        ranges = tool.calibrate({"serving_default": [{name: image[None]} for image in image_data[:20]]})
        by_the_tool = bytes(tool.quantize(ranges).quantized_model)
    only_int8 = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return {
        "int8": convert(representative_dataset=samples, supported_ops=only_int8, inference_input_type=tf.int8,
                        inference_output_type=tf.int8),
        "uint8": convert(representative_dataset=samples, supported_ops=only_int8, inference_input_type=tf.uint8,
                         inference_output_type=tf.uint8),
        "float edges": convert(representative_dataset=samples),
        "dynamic": convert(),
        "float16": convert(supported_types=[tf.float16]),
        "litert-quantizer": by_the_tool,
    }  # fmt: skip


@pytest.mark.parametrize("maker", ["int8", "uint8", "float edges", "dynamic", "float16", "litert-quantizer"])
def test_files_of_other_makers(maker: str, foreign: dict[str, bytes], sources: dict[str, Any], image_data: Any) -> None:
    """Every tensor of the float network is found, and the last one's SQNR is that of the whole model."""
    report = edgekit.verify(sources["bytes"], foreign[maker], image_data[20:], per_layer=True)
    assert report.layers is not None
    assert report.layers.unmatched == ()
    assert ["INPUT", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"] == [
        layer.operator for layer in report.layers.layers
    ]
    static = maker not in ("dynamic", "float16")
    held = {layer.dtype for layer in report.layers.layers[1:]}
    assert held == ({"int8"} if static else {"float32"})
    if static:
        assert report.layers.layers[-1].sqnr_db == pytest.approx(report.on["data"].sqnr_db.value, abs=6)
        assert all(layer.sqnr_db > 15 for layer in report.layers.layers)
    else:
        assert all(layer.sqnr_db > 30 for layer in report.layers.layers)


def test_mlperf_s_resnet8(assets: Path) -> None:
    """A model that others trained and quantised: every tensor is found, and none is a stranger to its counterpart."""
    folder = assets / "mlperf_tiny" / "resnet8"
    rounded = folder / "pretrainedResnet_quant.tflite"
    report = edgekit.verify(
        folder / "pretrainedResnet.tflite", rounded, f"{assets}/data/cifar10.npz:test", samples=12, per_layer=True
    )
    assert report.layers is not None
    assert (len(report.layers.layers), report.layers.unmatched) == (17, ())
    assert report.layers.likeness is not None
    assert report.layers.likeness > 0.99
    assert min(layer.sqnr_db for layer in report.layers.layers) > 15
    main = parse(rounded.read_bytes(), "the model").main
    assert main.tensors[main.outputs[0]].name == report.layers.layers[-1].int8_name


def test_two_that_were_trained_apart(assets: Path) -> None:
    """MLPerf's int8 keyword spotter is of another training than its SavedModel, and the report says so."""
    report = edgekit.verify(
        assets / "keras3" / "kws_ds_cnn_saved_model", assets / "mlperf_tiny" / "kws" / "kws_int8_ref.tflite",
        f"{assets}/data/keyword_spotting.npz:test", samples=12, per_layer=True,
    )  # fmt: skip
    assert report.layers is not None
    assert (len(report.layers.layers), report.layers.unmatched) == (13, ())
    assert report.layers.likeness is not None
    assert report.layers.likeness < 0.2
    (text,) = [check.text for check in report.checks if check.name == "layers compared"]
    assert "trained on its own" in text


def test_a_model_trained_anew_for_uint8(assets: Path) -> None:
    """Quantisation-aware training gave other weights: tensors correspond all the same, and the noise says how far apart."""
    folder = assets / "mobilenet_v1_0.25_224"
    report = edgekit.verify(
        folder / "float.tflite", folder / "uint8_qat.tflite", f"{assets}/data/flowers_224.npz:test", samples=4,
        normalize="127.5,127.5", per_layer=True,
    )  # fmt: skip
    assert report.layers is not None
    assert (len(report.layers.layers), report.layers.unmatched) == (32, ())
    assert {"uint8"} == {layer.dtype for layer in report.layers.layers}


def test_not_asked_for_is_not_measured() -> None:
    """Without ``per_layer`` the report has no layers, and its JSON says so."""
    report = edgekit.verify(dense_without_softmax(), models.dense_int8(), ROWS)
    assert report.layers is None
    assert report.to_json()["layers"] is None


def test_two_models_the_wrong_way_round() -> None:
    """The message says that they were swapped."""
    with pytest.raises(edgekit.AlreadyQuantisedError, match="give the float model first"):
        edgekit.verify(models.dense_int8(), dense_without_softmax(), ROWS)

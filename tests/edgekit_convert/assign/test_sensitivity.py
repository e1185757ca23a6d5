"""What each layer alone costs, on networks whose weak place is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spoiled
import tiny_models as models

from edgekit.modelfile import ModelFile
from edgekit_convert import graph as editing
from edgekit_convert.assign.sensitivity import first_samples, measure_alone, sensitivity
from edgekit_convert.quantize import quantize
from edgekit_convert.verify.pair import verify_pair

FLOAT = spoiled.float_model()
INT8, RANGES = spoiled.quantised(FLOAT)
SAMPLES = [[image[None]] for image in spoiled.images(24, seed=1)]


class TestSensitivity:
    """The noise share at the outputs when one layer alone is quantised."""

    def test_the_spoiled_layer_is_the_worst(self) -> None:
        """The mean over the enlarged channel, which no sum evens out any more, adds most; a last softmax is not judged."""
        shares = sensitivity(FLOAT, INT8, SAMPLES)
        assert ["pooled", "features", "logits", "image"] == sorted(shares, key=lambda name: -shares[name])
        assert shares["pooled"] > 5 * sum(share for name, share in shares.items() if name != "pooled")

    def test_weights_and_grids_apart(self) -> None:
        """The spoiled layer's grid is to blame, not its weights, which have a scale for each channel."""
        by_name = {item.name: item for item in measure_alone(FLOAT, INT8, SAMPLES, apart=True)}
        assert by_name["features"].grid > 100 * by_name["features"].weights > 0
        assert by_name["image"].weights == 0 < by_name["image"].grid
        assert by_name["features"].both is None

    def test_a_copy_on_the_same_grid_adds_nothing(self) -> None:
        """RESHAPE hands on what was rounded before."""
        float_model = editing.pin_shapes(models.fixed_reshape(), {"x": (1, 8)})
        int8 = quantize(float_model, {"x": (-3.0, 3.0), "y": (-3.0, 3.0)}, "int8")
        samples = [[np.random.default_rng(n).uniform(-3, 3, (1, 8)).astype(np.float32)] for n in range(8)]
        shares = sensitivity(float_model, int8, samples)
        assert shares["y"] == 0
        assert 1e-6 < shares["x"] < 1e-3

    def test_a_wrong_bias_is_seen(self) -> None:
        """The layer is given the int8 file's own bias, and an error that is the same on all samples counts."""
        before = sensitivity(FLOAT, INT8, SAMPLES)["logits"]
        tensors = ModelFile.read(INT8).graph.main.tensors
        bias = next(tensor for tensor in tensors if tensor.dtype == "int32" and tensor.shape == (5,))
        assert bias.quant is not None
        steps = np.rint(np.array([3.0, 0, 0, 0, 0]) / np.asarray(bias.quant.scales))
        edited = editing.read(INT8)
        editing.set_constant(edited, bias.index, (bias.array() + steps).astype(np.int32))
        assert sensitivity(FLOAT, editing.write(edited), SAMPLES)["logits"] > 20 * before

    def test_names_that_differ(self) -> None:
        """A file whose tensors have other names gives the same figures through a mapping."""

        def rename(model: Any) -> None:
            for tensor in model.subgraphs[0].tensors:
                tensor.name = b"x/" + tensor.name

        names = {name: f"x/{name}" for name in ("image", "features", "pooled", "logits")}
        renamed = models.edited(INT8, rename)
        assert sensitivity(FLOAT, INT8, SAMPLES) == sensitivity(FLOAT, renamed, SAMPLES, names)
        assert {} == sensitivity(FLOAT, renamed, SAMPLES)

    def test_weights_of_another_network_are_left_out(self) -> None:
        """Nothing is said of a layer whose weights are not those of the float model rounded."""
        other, _ = spoiled.quantised(models.conv_float(seed=50))
        assert {"features", "logits"}.isdisjoint(sensitivity(FLOAT, other, SAMPLES))

    def test_float_inputs_and_outputs(self) -> None:
        """With float32 inputs and outputs the grids behind them are found."""
        int8, _ = spoiled.quantised(FLOAT, "float32")
        plain, behind = sensitivity(FLOAT, INT8, SAMPLES), sensitivity(FLOAT, int8, SAMPLES)
        assert plain == pytest.approx(behind, rel=1e-6)

    def test_the_parts_add_up_on_a_real_model(self, assets: Path) -> None:
        """On ResNet8 the layers' own shares add up to what the whole int8 file loses, within a factor of 2."""
        float_model = (assets / "mlperf_tiny/resnet8/pretrainedResnet.tflite").read_bytes()
        images = np.load(assets / "data/cifar10.npz")["calibration"][:64].astype(np.float32)
        report = verify_pair(
            float_model,
            (assets / "mlperf_tiny/resnet8/pretrainedResnet_quant.tflite").read_bytes(),
            images,
            normalize="none",
            resize=None,
            color=None,
            crop=None,
            metric="accuracy",
            samples=64,
            choice=_choice(),
            per_layer=True,
            progress=None,
        )
        assert report.layers is not None
        alone = {layer.name: layer.alone_share for layer in report.layers.layers}
        assert alone["model/flatten/Reshape"] == 0
        assert report.layers.layers[report.layers.worst(1)[0]].operator == "AVERAGE_POOL_2D"
        logits = next(layer for layer in report.layers.layers if layer.operator == "FULLY_CONNECTED")
        total = sum(share for share in alone.values() if share is not None)
        assert logits.noise_share / 3 < total < 4 * logits.noise_share


def _choice() -> Any:
    from edgekit.runtime.delegates import DelegateChoice, DelegateSpec

    return DelegateChoice(DelegateSpec("xnnpack", 1), "testing")


class TestFirstSamples:
    """The samples that a report measures on."""

    def test_spread_evenly_and_bounded(self) -> None:
        """At most 32 of many, from the first to near the last."""
        data = spoiled.images(80)
        chosen = first_samples(spoiled.calibration_set(FLOAT, data))
        assert 32 == len(chosen)
        assert np.array_equal(data[0], chosen[0][0][0])
        assert np.array_equal(data[31 * 80 // 32], chosen[-1][0][0])


class TestJoins:
    """Tensors of different sizes in one."""

    def test_what_a_join_moves_to_its_grid(self) -> None:
        """A small input of CONCATENATION is moved to the coarse grid of a large one, which is the join's own doing."""
        b = models.Builder()
        large, small, joined = b.tensor("large", (1, 4)), b.tensor("small", (1, 4)), b.tensor("joined", (1, 8))
        options = models.schema.ConcatenationOptionsT()
        options.axis = 1
        b.op("CONCATENATION", [large, small], [joined], ("ConcatenationOptions", options))
        float_model = b.build({"large": large, "small": small}, {"joined": joined})
        int8 = quantize(float_model, {"large": (-99.0, 99.0), "small": (-1.0, 1.0), "joined": (-99.0, 99.0)}, "int8")
        random = np.random.default_rng(0)
        samples = [[random.uniform(-size, size, (1, 4)).astype(np.float32) for size in (99, 1)] for _ in range(8)]
        shares = sensitivity(float_model, int8, samples)
        assert shares["joined"] > 1000 * shares["small"]

"""What the ONNX frontend makes of a model, and that it is held to onnxruntime."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files as onnx
import pytest

import edgekit_convert
from edgekit.errors import ConversionError, ModelFileError, OptionError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit_convert.environments.worker import Worker
from edgekit_convert.frontends import Opening, Source, open_source
from edgekit_convert.frontends.from_onnx import _MODULE


def run(content: bytes, values: dict[str, Any]) -> dict[str, Any]:
    """The float model's outputs by name."""
    with Session(ModelFile.read(content), DelegateChoice(DelegateSpec("none", 1), "tests")) as session:
        result = session.run(values)
        names = [spec.name for spec in session.outputs]
    return result if isinstance(result, dict) else {names[0]: result}


def inputs_for(source: Source, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Random inputs as the file has them."""
    generator = np.random.default_rng(3)
    return {spec.name: generator.standard_normal(shapes[spec.name]).astype(spec.dtype) for spec in source.inputs}


@dataclass(frozen=True)
class Converted:
    """A model that was exported, for several tests to look at."""

    source: Source
    content: bytes

    @property
    def model(self) -> ModelFile:
        """The float model."""
        return ModelFile.read(self.content)


@pytest.fixture(scope="module")
def classifier(onnx_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """The small classifier, opened and exported once."""
    path = onnx.classifier(tmp_path_factory.mktemp("onnx") / "classifier.onnx", batch="N")
    source = open_source(path)
    return Converted(source, source.export({"image": (1, 12, 12, 3)}))


def test_images_come_out_with_the_channels_last(classifier: Converted) -> None:
    """Input, layout and names are those of the file; nothing is left of the original's order."""
    source, model = classifier.source, classifier.model
    assert ("onnx", "classifier.onnx") == (source.kind, source.name)
    assert [("image", (-1, 12, 12, 3), "float32")] == [(spec.name, spec.shape, spec.dtype) for spec in source.inputs]
    assert {"image": (0, 2, 3, 1)} == source.layouts
    assert {} == source.output_layouts
    assert [("image", (1, 12, 12, 3))] == [(spec.name, spec.shape) for spec in model.inputs]
    assert [("classes", (1, 5))] == [(spec.name, spec.shape) for spec in model.outputs]
    assert "TRANSPOSE" not in {op.name for op in model.graph.main.ops}


def test_the_float_model_says_what_onnxruntime_says(classifier: Converted) -> None:
    """The reference is the original, run on inputs in the file's order."""
    assert classifier.source.reference is not None
    values = inputs_for(classifier.source, {"image": (1, 12, 12, 3)})
    (expected,) = classifier.source.reference(values)
    assert expected.std() > 0.01
    np.testing.assert_allclose(expected, run(classifier.content, values)["classes"], atol=1e-5)


def test_channels_first_keeps_the_order(onnx_environment: Path, tmp_path: Path) -> None:
    """On request inputs are as in the original, and the values are the same."""
    source = open_source(onnx.classifier(tmp_path / "m.onnx"), Opening(channels_last=False))
    assert {} == source.layouts
    assert (1, 3, 12, 12) == source.inputs[0].shape
    content = source.export({"image": (1, 3, 12, 12)})
    values = inputs_for(source, {"image": (1, 3, 12, 12)})
    assert source.reference is not None
    np.testing.assert_allclose(source.reference(values)[0], run(content, values)["classes"], atol=1e-5)


def test_open_sizes_are_pinned(onnx_environment: Path, tmp_path: Path) -> None:
    """Batch, height and width are open in the source, and fixed by the export."""
    source = open_source(onnx.classifier(tmp_path / "m.onnx", batch="N", side="side"))
    assert (-1, -1, -1, 3) == source.inputs[0].shape
    content = source.export({"image": (1, 16, 16, 3)})
    assert [(1, 16, 16, 3)] == [spec.shape for spec in ModelFile.read(content).inputs]


def segmenter(path: Path) -> Path:
    """Two inputs, an image and a row of numbers, and two outputs: a map of the image's size, and numbers; names with odd characters."""
    net = onnx.Net()
    net.conv("in/image:0", "c1", (3, 4))
    net.op("Relu", ["c1"], "r1")
    net.conv("r1", "mask.1", (4, 2))
    net.op("GlobalAveragePool", ["r1"], "pooled")
    net.op("Flatten", ["pooled"], "flat", axis=1)
    net.op("Concat", ["flat", "1numbers"], "joined", axis=1)
    net.dense("joined", "0score", (7, 2))
    inputs = [onnx.value("in/image:0", [1, 3, 10, 8]), onnx.value("1numbers", [1, 3])]
    return net.save(path, inputs, [onnx.value("mask.1", [1, 2, 10, 8]), onnx.value("0score", [1, 2])])


def test_several_inputs_and_outputs_keep_their_names(onnx_environment: Path, tmp_path: Path) -> None:
    """Names survive as they are, the order too; a map comes out with the channels last, which is said."""
    source = open_source(segmenter(tmp_path / "m.onnx"))
    assert [("in/image:0", (1, 10, 8, 3)), ("1numbers", (1, 3))] == [(spec.name, spec.shape) for spec in source.inputs]
    shapes = {spec.name: spec.shape for spec in source.inputs}
    content = source.export(shapes)
    model = ModelFile.read(content)
    assert ["in/image:0", "1numbers"] == [spec.name for spec in model.inputs]
    assert [("mask.1", (1, 10, 8, 2)), ("0score", (1, 2))] == [(spec.name, spec.shape) for spec in model.outputs]
    assert {"mask.1": (0, 2, 3, 1)} == source.output_layouts
    values = inputs_for(source, shapes)
    results = run(content, values)
    assert source.reference is not None
    for name, expected in zip(sorted(results), source.reference(values), strict=True):
        np.testing.assert_allclose(expected, results[name], atol=1e-4)


def test_an_input_that_has_its_channels_last_keeps_them(onnx_environment: Path, tmp_path: Path) -> None:
    """A model that turns its input itself (as tf2onnx writes it) comes out as it went in, without the turn."""
    net = onnx.Net()
    net.op("Transpose", ["image"], "turned", perm=[0, 3, 1, 2])
    net.conv("turned", "c1", (3, 4))
    net.op("GlobalAveragePool", ["c1"], "mean")
    net.op("Flatten", ["mean"], "flat", axis=1)
    path = net.save(tmp_path / "m.onnx", [onnx.value("image", [1, 9, 7, 3])], [onnx.value("flat", [1, 4])])
    source = open_source(path)
    assert ((1, 9, 7, 3), {}) == (source.inputs[0].shape, source.layouts)
    content = source.export({"image": (1, 9, 7, 3)})
    assert "TRANSPOSE" not in {op.name for op in ModelFile.read(content).graph.main.ops}
    values = inputs_for(source, {"image": (1, 9, 7, 3)})
    assert source.reference is not None
    np.testing.assert_allclose(source.reference(values)[0], run(content, values)["flat"], atol=1e-5)


def test_inputs_without_channels_stay(onnx_environment: Path, tmp_path: Path) -> None:
    """A sequence of vectors is no image, whatever its number of sizes."""
    net = onnx.Net()
    net.op("MatMul", ["rows", net.weights("w", 6, 4)], "mapped")
    net.op("Softmax", ["mapped"], "soft", axis=-1)
    path = net.save(tmp_path / "m.onnx", [onnx.value("rows", [1, 5, 6])], [onnx.value("soft", [1, 5, 4])])
    source = open_source(path)
    assert ((1, 5, 6), {}) == (source.inputs[0].shape, source.layouts)
    content = source.export({"rows": (1, 5, 6)})
    values = inputs_for(source, {"rows": (1, 5, 6)})
    assert source.reference is not None
    np.testing.assert_allclose(source.reference(values)[0], run(content, values)["soft"], atol=1e-5)


def test_half_precision_is_made_float32(onnx_environment: Path, tmp_path: Path) -> None:
    """Weights and input in float16 become float32, and that is said."""
    net = onnx.Net()
    net.op("MatMul", ["x", net.constant("w", np.eye(4, dtype=np.float16) * 3)], "y")
    inputs = [onnx.value("x", [1, 4], "float16")]
    source = open_source(net.save(tmp_path / "m.onnx", inputs, [onnx.value("y", [1, 4], "float16")]))
    assert ("its float16 numbers were made float32, and it is compared as such.",) == source.notes
    content = source.export({"x": (1, 4)})
    x = np.array([[1, -2, 3, 0.5]], np.float32)
    np.testing.assert_allclose(x * 3, run(content, {"x": x})["y"])


def test_recurrent_layers_are_unrolled(onnx_environment: Path, tmp_path: Path) -> None:
    """An LSTM without bias and first states, which ONNX allows, has no loop in the file: its ranges can be measured."""
    net = onnx.Net()
    weights = [net.weights("w", 1, 20, 6), net.weights("r", 1, 20, 5)]
    net.nodes.append(onnx.node("LSTM", ["x", *weights], ["", "", "c"], hidden_size=5, name="lstm"))
    net.op("Squeeze", ["c", net.constant("axes", np.array([0]))], "y")
    source = open_source(net.save(tmp_path / "m.onnx", [onnx.value("x", [4, 1, 6])], [onnx.value("y", None)]))
    assert (4, 1, 6) == source.inputs[0].shape
    content = source.export({"x": (4, 1, 6)})
    assert "WHILE" not in {op.name for op in ModelFile.read(content).graph.main.ops}
    values = inputs_for(source, {"x": (4, 1, 6)})
    assert source.reference is not None
    np.testing.assert_allclose(source.reference(values)[0], run(content, values)["y"], atol=1e-5)


def test_an_input_that_nothing_reads_is_left_out(onnx_environment: Path, tmp_path: Path) -> None:
    """It would be in no file, and that is said."""
    net = onnx.Net()
    net.dense("x", "y", (4, 2))
    inputs = [onnx.value("x", [1, 4]), onnx.value("idle", [1, 3])]
    source = open_source(net.save(tmp_path / "m.onnx", inputs, [onnx.value("y", [1, 2])]))
    assert ["x"] == [spec.name for spec in source.inputs]
    assert ("nothing reads the input idle, which is left out.",) == source.notes


def outside(folder: Path, location: str = "weights.bin", values: Any = None, **entries: str) -> Path:
    """A model whose weights lie in a file of their own."""
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)
    if values is not None:
        (folder / location).write_bytes(values.tobytes())
    net = onnx.Net()
    net.constants.append(onnx.tensor("w", weights, outside={"location": location, **entries}))
    net.op("MatMul", ["x", "w"], "y")
    return net.save(folder / "m.onnx", [onnx.value("x", [1, 4])], [onnx.value("y", [1, 2])])


def test_weights_beside_the_model_are_read(onnx_environment: Path, tmp_path: Path) -> None:
    """A second file in the same folder is part of the model."""
    source = open_source(outside(tmp_path, values=np.arange(8, dtype=np.float32)))
    content = source.export({"x": (1, 4)})
    np.testing.assert_allclose([[2.0, 3.0]], run(content, {"x": np.eye(4, dtype=np.float32)[1:2]})["y"])


@pytest.mark.parametrize(
    ("location", "values", "entries", "message"),
    [
        pytest.param(
            "weights.bin", None, {}, r"weights in the file 'weights\.bin', which is not beside it", id="missing"
        ),
        pytest.param(
            "weights.bin", np.zeros(3, np.float32), {"length": "32"}, "which has 12: it was cut short", id="cut short"
        ),
        pytest.param("../weights.bin", None, {}, "not in its own folder", id="above"),
        pytest.param("/etc/hostname", None, {}, "not in its own folder", id="elsewhere"),
    ],
)
def test_weights_that_cannot_be_had(
    onnx_environment: Path, tmp_path: Path, location: str, values: Any, entries: dict[str, str], message: str
) -> None:
    """Each case gets its own message; a model cannot make edgekit read files from other folders."""
    with pytest.raises(ModelFileError, match=message):
        open_source(outside(tmp_path, location, values, **entries))


def test_options_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    """Before the environment is asked for."""
    path = onnx.classifier(tmp_path / "m.onnx")
    for opening in (Opening(signature="serve"), Opening(trust_source=True), Opening(model="nets:make")):
        with pytest.raises(OptionError, match="an ONNX file has no use for"):
            open_source(path, opening)


def test_without_the_environment_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never made by itself."""
    monkeypatch.setenv("EDGEKIT_ENVIRONMENTS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(
        ConversionError, match=r"m\.onnx is an ONNX model, which needs an environment of its own.*`edgekit setup onnx`"
    ):
        open_source(onnx.classifier(tmp_path / "m.onnx"))
    assert not (tmp_path / "nowhere").exists()


def test_wrong_sizes_are_onnxruntime_s_own_refusal(classifier: Converted) -> None:
    """Sizes that the graph cannot work with are said in onnxruntime's words."""
    with pytest.raises(ConversionError, match=r"onnxruntime cannot run classifier\.onnx"):
        classifier.source.export({"image": (1, 12, 12, 4)})


@pytest.mark.parametrize("spoiled", ["conv_c2", "gemm_scores"])
def test_a_wrong_conversion_by_a_spoiled_onnx2tf_is_an_error_that_names_the_layer(
    onnx_environment: Path, tmp_path: Path, spoiled: str
) -> None:
    """Weights of one layer are changed behind edgekit's back: nothing comes out, and the first layer that differs is that one."""
    path = onnx.classifier(tmp_path / "m.onnx")
    package = Path(edgekit_convert.__file__).parent
    done = run_in(onnx_environment, str(package), str(path), spoiled, cwd=tmp_path)
    answer = json.loads(done.stdout.splitlines()[-1])
    kind = {"conv_c2": "Conv", "gemm_scores": "Gemm"}[spoiled]
    assert "the float .tflite of m.onnx differs from onnxruntime on random inputs: output 'classes'" in answer["random"]
    assert f"The first layer that differs is {kind} '{spoiled}', by " in answer["random"]
    assert "differs from onnxruntime on the data" in answer["data"]
    assert f"The first layer that differs is {kind} '{spoiled}', by " in answer["data"]
    assert "no .tflite" == answer["file"]


def run_in(environment: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the script that spoils onnx2tf, in the environment's Python."""
    script = Path(__file__).parents[2] / "support" / "onnx_spoiled.py"
    python = environment / "venv" / "bin" / "python"
    return subprocess.run(
        [python, "-I", script, *arguments], capture_output=True, text=True, check=True, cwd=cwd, timeout=600
    )


def test_the_process_works_offline_and_ends_with_the_model(onnx_environment: Path, tmp_path: Path) -> None:
    """Its folder is gone with it."""
    from edgekit_convert.environments import require

    worker = Worker(require("onnx", "a test"), _MODULE)
    folder = worker.folder
    with pytest.raises(ConversionError, match="the task 'dance' failed: RuntimeError: no model was opened"):
        worker.ask("dance")
    assert folder.exists()
    worker.close()
    assert not folder.exists()
    with pytest.raises(ConversionError, match="the process for 'dance' ended"):
        worker.ask("dance")

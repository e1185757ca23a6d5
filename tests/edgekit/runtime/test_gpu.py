"""``edgekit.runtime.gpu``: a model is tried on the GPU in another process, and refused with the right reason.

The GPU is SwiftShader, a Vulkan driver that computes on the CPU; the failures come from stand-in drivers, built in the test.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_models as models
import vulkan_drivers

import edgekit
from edgekit import DelegateError, DelegateSpec, ModelFile
from edgekit.runtime import gpu
from edgekit.runtime.gpu import GpuProbe, GpuSettings, placement, probe_gpu
from edgekit.runtime.gpu_child import difference, samples
from edgekit.tensors import Array, QuantParams, TensorSpec

pytest.importorskip("ai_edge_litert.compiled_model", reason="CompiledModel is a part of ai-edge-litert only")


@pytest.fixture
def swiftshader(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Vulkan driver that works."""
    manifest = vulkan_drivers.swiftshader()
    monkeypatch.setenv("VK_DRIVER_FILES", str(manifest))
    monkeypatch.setattr(gpu, "_TRUSTED", {})
    return manifest


def squeezed(before: int, after: int) -> bytes:
    """Float: so many FULLY_CONNECTED, RESHAPE, SQUEEZE (which LiteRT's GPU accelerator refuses), and so many more."""
    b = models.Builder()
    x = last = b.tensor("x", (1, 8))

    def dense(source: int) -> int:
        number = len(b.tensors)
        weights = b.tensor(f"weights{number}", (8, 8), data=models._random(number, 8, 8))
        bias = b.tensor(f"bias{number}", (8,), data=models._random(number + 100, 8))
        result = b.tensor(f"dense{number}", (1, 8))
        options = ("FullyConnectedOptions", models.schema.FullyConnectedOptionsT())
        b.op("FULLY_CONNECTED", [source, weights, bias], [result], options)
        return result

    for _ in range(before):
        last = dense(last)
    if before + after:
        shape = b.tensor("shape", (3,), "int32", data=np.array([1, 1, 8], np.int32))
        three = b.tensor("three", (1, 1, 8))
        reshape = models.schema.ReshapeOptionsT()
        reshape.newShape = [1, 1, 8]
        b.op("RESHAPE", [last, shape], [three], ("ReshapeOptions", reshape))
        last, result_shape, dims = three, (1, 8), [1]
    else:
        result_shape, dims = (8,), [0]
    squeeze = models.schema.SqueezeOptionsT()
    squeeze.squeezeDims = dims
    two = b.tensor("two", result_shape)
    b.op("SQUEEZE", [last], [two], ("SqueezeOptions", squeeze))
    last = two
    for _ in range(after):
        last = dense(last)
    return b.build({"x": x}, {"y": last})


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "content",
    [models.dense_float(), models.dense_int8(), models.conv_float(), models.add_two_inputs()],
    ids=["dense_float", "dense_int8", "conv_float", "two_inputs"],
)
def test_a_model_that_the_gpu_runs(content: bytes, precision: str, swiftshader: Path) -> None:
    """Float and int8: all of it, with the CPU's results."""
    model = ModelFile.read(content)
    probe = probe_gpu(model, precision=precision)
    operators = len(model.graph.main.ops)
    assert probe.usable, probe
    assert probe.reason.startswith(
        f"the GPU (SwiftShader Device (Subzero), a software driver) takes all {operators} operators and gives what the CPU gives"
    )
    assert (True, operators, operators) == (probe.fully_accelerated, probe.taken, probe.operators)
    assert probe.max_difference is not None
    assert probe.max_difference <= probe.tolerance
    assert precision == probe.precision
    for milliseconds in (probe.compile_ms, probe.run_ms, probe.cpu_run_ms):
        assert milliseconds is not None
        assert milliseconds > 0


def test_a_model_that_the_gpu_takes_in_part(swiftshader: Path) -> None:
    """What it leaves is named, and a session tells which operators it took."""
    model = ModelFile.read(squeezed(2, 4))
    probe = probe_gpu(model)
    assert (True, False, 4, 8) == (probe.usable, probe.fully_accelerated, probe.taken, probe.operators)
    assert ("SQUEEZE: Operation is not supported.",) == probe.left
    with edgekit.load(squeezed(2, 4), delegate="gpu") as session:
        report = session.partitions
        assert (((4, 5, 6, 7),), (0, 1, 2, 3)) == (report.partitions, report.outside)
        assert "gpu: 4 of 8 operators in 1 partition; outside: FULLY_CONNECTED x2, RESHAPE, SQUEEZE" == str(report)
        assert "gpu" == session.got


def test_a_model_that_the_gpu_takes_none_of(swiftshader: Path) -> None:
    """LiteRT compiles it for the GPU without an error, and the CPU runs it."""
    probe = probe_gpu(ModelFile.read(squeezed(0, 0)))
    assert (False, 0) == (probe.usable, probe.taken)
    assert probe.reason.startswith("the GPU takes none of the model's operators (SQUEEZE: Operation is not supported.)")


@pytest.mark.parametrize("content", [models.dense_float(), squeezed(2, 4)], ids=["all", "part"])
def test_no_gpu_accelerator_in_the_package(
    content: bytes, swiftshader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its library LiteRT runs everything on the CPU and calls that fully accelerated."""
    import ai_edge_litert

    package = Path(ai_edge_litert.__file__).parent
    shutil.copytree(package, tmp_path / package.name, copy_function=os.symlink)
    (tmp_path / package.name / "libLiteRtWebGpuAccelerator.so").unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    probe = probe_gpu(ModelFile.read(content))
    assert not probe.usable
    assert probe.reason.startswith("this build of LiteRT has no accelerator for the GPU of this system")


def test_no_vulkan_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is a sentence that a maker understands; the model still runs, and the GPU when required is an error."""
    monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent.json")
    monkeypatch.setattr(gpu, "_TRUSTED", {})
    content = models.dense_float()
    probe = probe_gpu(ModelFile.read(content))
    assert not probe.usable
    assert "Vulkan" in probe.reason
    assert "apt-get install" in probe.reason
    assert probe.reason.endswith("The model runs on the CPU: --delegate xnnpack")
    assert probe.native is not None
    with pytest.raises(DelegateError, match=r"the model cannot run on the GPU: .*Vulkan.*The runtime said: "):
        edgekit.load(content, delegate="gpu")
    with edgekit.load(content, delegate="xnnpack") as session:
        assert (1, 4) == session.run(np.zeros((1, 8), np.float32)).shape


@dataclass
class Failure:
    """A stand-in driver and what is said of it."""

    fault: str
    reason: str


@pytest.mark.parametrize(
    "case",
    [
        Failure("crashes", "it was ended by SIGSEGV (it read or wrote outside its memory) while it compiled the model for the GPU"),
        Failure("crashes_running", "it was ended by SIGSEGV (it read or wrote outside its memory) while it ran the model on the GPU"),
        Failure("is_killed", "it was ended by SIGKILL (somebody killed it, perhaps the system for want of memory) while it compiled"),
        Failure("hangs", "it was not done in time while it compiled the model for the GPU, and was ended (limit 4 s)"),
        Failure("finds_no_gpu", "a Vulkan driver is installed, and it finds no GPU"),
        Failure("computes_nothing", "the GPU gives wrong numbers: they differ from the CPU's by "),
    ],
    ids=lambda case: case.fault,
)  # fmt: skip
def test_a_driver_that_fails(case: Failure, swiftshader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with that reason; this process goes on and was never in danger."""
    monkeypatch.setenv("VK_DRIVER_FILES", str(vulkan_drivers.stand_in(tmp_path, case.fault)))
    content = models.conv_float()
    probe = probe_gpu(ModelFile.read(content), timeout_s=4 if case.fault == "hangs" else 60)
    assert not probe.usable
    assert case.reason in probe.reason
    options = {"timeout_s": "4"} if case.fault == "hangs" else {}
    with pytest.raises(DelegateError) as error:
        edgekit.load(content, delegate=DelegateSpec("gpu", options=options))
    assert case.reason in str(error.value)
    with open("/proc/self/maps", encoding="utf-8") as file:
        assert "libstand_in" not in file.read()


def test_every_run_is_compared(swiftshader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is right until the last piece of the last run is found out, one that is right to the end is trusted."""
    count = tmp_path / "count"
    monkeypatch.setenv("VK_DRIVER_FILES", str(vulkan_drivers.stand_in(tmp_path, "computes_nothing_later")))
    monkeypatch.setenv("STAND_IN_COUNT_FILE", str(count))
    monkeypatch.setenv("STAND_IN_RIGHT_DISPATCHES", "1000000")
    model = ModelFile.read(models.conv_float())
    assert probe_gpu(model).usable
    dispatches = int(count.read_text())
    assert dispatches > 5
    monkeypatch.setenv("STAND_IN_RIGHT_DISPATCHES", str(dispatches - 1))
    probe = probe_gpu(model)
    assert not probe.usable
    assert probe.reason.startswith("the GPU gives wrong numbers: they differ from the CPU's by ")


def test_a_model_that_litert_computes_wrongly(swiftshader: Path, assets: Path) -> None:
    """An int8 ResNet-8, with ai-edge-litert 2.1.6 to 2.3.0 on SwiftShader; nothing but the numbers says so."""
    probe = probe_gpu(ModelFile.read(assets / "mlperf_tiny/resnet8/pretrainedResnet_quant.tflite"))
    assert (False, True) == (probe.usable, probe.fully_accelerated)
    assert probe.reason.startswith("the GPU gives wrong numbers")


def test_the_float_mobilenet(swiftshader: Path, assets: Path) -> None:
    """29 of 31 operators, and what the CPU gives."""
    model = ModelFile.read(assets / "mobilenet_v1_0.25_224/float.tflite")
    probe = probe_gpu(model)
    assert (True, 29) == (probe.usable, probe.taken)
    assert tuple(range(29)) == placement(model.graph.main, 29, probe.left)


def test_nobody_is_asked_twice(swiftshader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found good in this process is remembered, for these options and this driver."""
    model = ModelFile.read(models.dense_float())
    first = gpu.trusted(model, DelegateSpec("gpu"))
    monkeypatch.setattr(gpu, "probe_gpu", None)
    assert first is gpu.trusted(model, DelegateSpec("gpu"))
    with pytest.raises(TypeError):
        gpu.trusted(model, DelegateSpec("gpu", options={"precision": "fp16"}))
    monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent.json")
    with pytest.raises(TypeError):
        gpu.trusted(model, DelegateSpec("gpu"))


def test_without_a_try(swiftshader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For callers that tried it before."""
    monkeypatch.setattr(gpu, "probe_gpu", None)
    spec = DelegateSpec("gpu", options={"check": "off"})
    with edgekit.load(models.dense_float(), delegate=spec) as session:
        assert "gpu" == session.got


def test_a_model_with_golden_inputs(swiftshader: Path) -> None:
    """They are what it is tried with: real data, which seeded numbers are not."""
    golden_files = pytest.importorskip("golden_files", reason="golden data are made by the converters")
    model = ModelFile.read(golden_files.packed(models.dense_float(), golden_files.ROWS))
    found = samples(model, [(1, 8)], None)
    assert 4 == len(found)
    for sample in found:
        assert any(np.array_equal(sample[0], row["x"]) for row in golden_files.ROWS)
    assert probe_gpu(model).usable


def test_the_cpu_refuses_the_model_too(swiftshader: Path) -> None:
    """Then there is nothing to compare with, and the GPU is not blamed."""
    probe = probe_gpu(ModelFile.read(models.custom_op()))
    assert not probe.usable
    assert probe.reason.startswith("the CPU's results, which the GPU's are compared with, are missing: ")
    assert "Mystery" in probe.reason


def test_without_ai_edge_litert(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has tflite-runtime only the remedy is the other package."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else find(name))
    probe = probe_gpu(ModelFile.read(models.dense_float()))
    assert (False, True) == (probe.usable, "pip install ai-edge-litert" in probe.reason)
    with pytest.raises(
        DelegateError, match="the GPU is reached through LiteRT's CompiledModel, and ai-edge-litert is not"
    ):
        edgekit.load(models.dense_float(), delegate="gpu")


def test_an_interpreter_has_no_gpu() -> None:
    """The engine that was named is not exchanged for another."""
    with pytest.raises(DelegateError, match="not through an interpreter: leave the engine open"):
        edgekit.load(models.dense_float(), delegate="gpu", engine="litert")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": "high"}, "unknown option 'speed' of the delegate gpu: expected one of precision, check, tolerance, timeout_s"),
        ({"precision": "fp8"}, "unknown precision of the delegate gpu 'fp8': expected one of fp32, fp16"),
        ({"check": "maybe"}, "unknown value of the gpu's option check 'maybe': expected one of on, off"),
        ({"tolerance": "0"}, "the gpu's option tolerance is '0': a number above 0 was expected"),
        ({"timeout_s": "soon"}, "the gpu's option timeout_s is 'soon': a number above 0 was expected"),
        ({"tolerance": "nan"}, "the gpu's option tolerance is 'nan'"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, str], message: str) -> None:
    """The message names the option, what was seen and what was expected."""
    with pytest.raises(DelegateError, match=message):
        GpuSettings.of(options)


def test_options() -> None:
    """All of them."""
    options = {
        "precision": "fp16",
        "check": "off",
        "tolerance": "0.1",
        "timeout_s": "5",
        "infinite_float_capping": "on",
    }
    assert GpuSettings("fp16", False, 0.1, 5.0, ("infinite_float_capping",)) == GpuSettings.of(options)
    assert GpuSettings() == GpuSettings.of({})


def test_a_placement_that_is_not_determined() -> None:
    """Two parts of the same length, or a count that fits none: it is not known which was taken."""
    graph = ModelFile.read(squeezed(2, 3)).graph.main  # 2 dense and RESHAPE, SQUEEZE, 3 dense
    refused = ("SQUEEZE: Operation is not supported.",)
    assert placement(graph, 3, refused) is None
    assert placement(graph, 2, refused) is None
    assert placement(graph, 6, refused) == (0, 1, 2, 4, 5, 6)


FLOAT = TensorSpec("y", (1, 3), "float32")
CLASSES = TensorSpec("y", (1, 3), "int64")
INT8 = TensorSpec("y", (1, 3), "int8", QuantParams((0.1,), (0,)))


@pytest.mark.parametrize(
    ("spec", "right", "found", "expected"),
    [
        (FLOAT, [0, 5, 10], [0, 5, 10], 0.0),
        (FLOAT, [0, 5, 10], [0, 6, 10], 0.1),
        (FLOAT, [0, 5, 10], [0, np.nan, 10], np.inf),
        (FLOAT, [np.nan, 5, 10], [np.nan, 5, 10], 0.0),
        (FLOAT, [0, 5, 10], [0, np.inf, 10], np.inf),
        (FLOAT, [2, 2, 2], [2, 2, 2.5], 250.0),
        (INT8, [-100, 0, 100], [-100, 1, 100], 0.005),
        (CLASSES, [3, 3, 4], [3, 200, 4], 1 / 3),
    ],
    ids=["same", "a tenth", "nan", "nan on both sides", "infinite", "no range", "int8", "classes"],
)
def test_difference(spec: TensorSpec, right: list[float], found: list[float], expected: float) -> None:
    """Relative to the range; of numbers of classes the share that differs."""

    def rows(values: list[float]) -> list[tuple[int, list[Array]]]:
        return [(0, [np.array([values]).astype(spec.dtype)])]

    assert expected == pytest.approx(difference([spec], rows(right), rows(found)))


def test_samples_are_valid_and_the_same_each_time() -> None:
    """In the file's own types, over the range of each input."""
    model = ModelFile.read(models.dense_int8())
    one, other = samples(model, [(1, 8)], None), samples(model, [(1, 8)], None)
    assert 4 == len(one)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first[0], second[0])
        assert ("int8", (1, 8)) == (first[0].dtype.name, first[0].shape)
    assert len({row[0].tobytes() for row in one}) == 4


def test_a_probe_as_json() -> None:
    """Infinity is no JSON."""
    probe = GpuProbe(False, "why", None, None, float("inf"), 0.1, None, None, None, None, "fp32")
    assert "infinite" == probe.to_json()["max_difference"]
    assert 0.5 == probe._replace(max_difference=0.5).to_json()["max_difference"]

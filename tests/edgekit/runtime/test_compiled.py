"""``edgekit.runtime.engines.compiled``: LiteRT's CompiledModel gives what the interpreter gives."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
import vulkan_drivers

import edgekit
from edgekit import DelegateError, DelegateSpec, EngineError, ModelFile, TensorError
from edgekit.runtime.engines import open_engine
from edgekit.runtime.engines.xnnpack_options import XnnpackOptions
from edgekit.tensors import Array

pytest.importorskip("ai_edge_litert.compiled_model", reason="CompiledModel is a part of ai-edge-litert only")


def values(seed: int, *shape: int) -> Array:
    """Real numbers between -1.5 and 1.5."""
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape).astype(np.float32)


def load(content: bytes, engine: str, **options: Any) -> edgekit.Session:
    """A session on the CPU."""
    return edgekit.load(content, delegate="xnnpack", engine=engine, **options)


@pytest.mark.parametrize(
    "make", [models.dense_float, models.dense_int8, models.conv_float], ids=lambda make: make.__name__
)
def test_same_as_the_interpreter(make: Callable[[], bytes]) -> None:
    """Float, int8, and several operators."""
    content = make()
    with load(content, "litert") as one, load(content, "litert-compiled") as other:
        shape = tuple(abs(size) for size in one.inputs[0].shape)
        for seed in range(3):
            x = values(seed, *shape)
            np.testing.assert_allclose(one.run(x), other.run(x), rtol=1e-5, atol=1e-6)
        assert "CompiledModel" in other.engine
        assert other.got == "xnnpack"
        assert other.partitions.outside == ()


def test_several_inputs_and_outputs_by_name() -> None:
    """The runtime's order is not the caller's."""
    content = models.add_two_inputs()
    with load(content, "litert") as one, load(content, "litert-compiled") as other:
        given = {spec.name: values(number, *spec.shape) for number, spec in enumerate(one.inputs)}
        expected, actual = one.run(given), other.run(given)
        assert expected.keys() == actual.keys()
        for name in expected:
            np.testing.assert_array_equal(expected[name], actual[name])


def test_without_a_signature() -> None:
    """Files from before signatures run as well."""
    content = models.dense_float(signature=False)
    x = values(1, 1, 8)
    with load(content, "litert") as one, load(content, "litert-compiled") as other:
        np.testing.assert_allclose(one.run(x), other.run(x), rtol=1e-5)


def test_other_batch_sizes() -> None:
    """Open sizes take any number."""
    content = models.dense_float(open_batch=True)
    with load(content, "litert") as one, load(content, "litert-compiled") as other:
        for count in (1, 4, 2):
            x = values(count, count, 8)
            np.testing.assert_allclose(one.run(x), other.run(x), rtol=1e-5)


def test_what_is_written_is_checked() -> None:
    """CompiledModel itself takes a shorter array silently."""
    engine = open_engine(ModelFile.read(models.dense_float()), DelegateSpec("xnnpack"), "litert-compiled")
    with pytest.raises(EngineError, match=r"input 'x' takes float32\[1, 8\], not float32\[1, 3\]"):
        engine.set_input(0, values(1, 1, 3))
    with load(models.dense_float(), "litert-compiled") as session, pytest.raises(TensorError, match="expected"):
        session.run(values(1, 1, 3))


def test_other_delegates_are_refused() -> None:
    """It has no way to do without XNNPACK."""
    with pytest.raises(DelegateError, match="'none' was asked for: use --delegate xnnpack, or another engine"):
        open_engine(ModelFile.read(models.dense_float()), DelegateSpec("none"), "litert-compiled")


def test_reset_without_state() -> None:
    """Nothing to forget is no error."""
    x = values(1, 1, 8)
    with load(models.dense_float(), "litert-compiled") as session:
        before = session.run(x)
        session.reset()
        np.testing.assert_array_equal(before, session.run(x))


def test_a_model_with_state_is_refused_by_name() -> None:
    """The runtime does not take variable tensors; the message says where to look."""
    b = models.Builder()
    x = b.tensor("x", (1, 2))
    weights = [b.tensor(name, shape, data=np.ones(shape, np.float32)) for name, shape in (("f", (1, 2)), ("t", (1, 3)))]
    bias, state = b.tensor("bias", (1,), data=np.zeros(1, np.float32)), b.tensor("state", (1, 3))
    y = b.tensor("y", (1, 1))
    b.tensors[state].isVariable = True
    options = models.schema.SVDFOptionsT()
    options.rank = 1
    b.op("SVDF", [x, *weights, bias, state], [y], ("SVDFOptions", options))
    content = b.build({"x": x}, {"y": y})
    with pytest.raises(EngineError, match="The engine 'litert' may say more exactly why"):
        open_engine(ModelFile.read(content), DelegateSpec("xnnpack"), "litert-compiled")


ON_GPU = DelegateSpec("gpu", options={"check": "off"})


@pytest.fixture
def swiftshader(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Vulkan driver that works, and computes on the CPU."""
    manifest = vulkan_drivers.swiftshader()
    monkeypatch.setenv("VK_DRIVER_FILES", str(manifest))
    return manifest


@pytest.mark.parametrize(
    "make",
    [models.dense_float, models.dense_int8, models.conv_float, models.fixed_reshape],
    ids=lambda make: make.__name__,
)
def test_the_gpu_gives_what_the_interpreter_gives(make: Callable[[], bytes], swiftshader: Path) -> None:
    """Float, int8, several operators; run after run, each with its own input."""
    content = make()
    with load(content, "litert") as one, edgekit.load(content, delegate=ON_GPU) as other:
        shape = tuple(abs(size) for size in one.inputs[0].shape)
        for seed in (0, 1, 2, 0):
            x = values(seed, *shape)
            np.testing.assert_allclose(one.run(x), other.run(x), rtol=1e-4, atol=1e-5)
        assert ("gpu", ()) == (other.got, other.partitions.outside)


def test_the_gpu_with_several_inputs_and_outputs(swiftshader: Path) -> None:
    """By name, as everywhere."""
    content = models.add_two_inputs()
    with load(content, "litert") as one, edgekit.load(content, delegate=ON_GPU) as other:
        given = {spec.name: values(number, *spec.shape) for number, spec in enumerate(one.inputs)}
        expected, actual = one.run(given), other.run(given)
        assert expected.keys() == actual.keys()
        for name in expected:
            np.testing.assert_allclose(expected[name], actual[name], rtol=1e-5)


def test_the_gpu_with_other_batch_sizes(swiftshader: Path) -> None:
    """The model is compiled anew for each size."""
    content = models.dense_float(open_batch=True)
    with load(content, "litert") as one, edgekit.load(content, delegate=ON_GPU) as other:
        for count in (1, 4, 2):
            x = values(count, count, 8)
            np.testing.assert_allclose(one.run(x), other.run(x), rtol=1e-4)


def test_two_models_on_the_gpu_at_once(swiftshader: Path) -> None:
    """Each has an environment of its own; freeing one leaves the other."""
    x, image = values(1, 1, 8), values(2, 1, 12, 12, 3)
    with edgekit.load(models.conv_float(), delegate=ON_GPU) as other:
        before = other.run(image)
        with edgekit.load(models.dense_float(), delegate=ON_GPU) as one:
            one.run(x)
            np.testing.assert_array_equal(before, other.run(image))
        np.testing.assert_array_equal(before, other.run(image))


def test_opening_and_closing_on_the_gpu_keeps_nothing(swiftshader: Path) -> None:
    """No file, no thread, and no memory beyond what the driver keeps once."""
    page = os.sysconf("SC_PAGE_SIZE")

    def held() -> tuple[int, int, int]:
        with open("/proc/self/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * page
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), resident

    found = []
    for _ in range(12):
        with edgekit.load(models.conv_float(), delegate=ON_GPU) as session:
            session.run(values(1, 1, 12, 12, 3))
        found.append(held())
    files, threads, memory = zip(*found, strict=True)
    assert files[3] == files[-1]
    assert threads[3] >= threads[-1]
    assert memory[-1] - memory[3] < 24 << 20


def test_integers_that_buffers_do_not_know() -> None:
    """LiteRT's buffers read no int64, which the numbers of classes are in many files."""
    b = models.Builder()
    x, axis = b.tensor("x", (1, 8)), b.tensor("axis", (1,), "int32", data=np.array([1], np.int32))
    y = b.tensor("y", (1,), "int64")
    options = models.schema.ArgMaxOptionsT()
    options.outputType = 4
    b.op("ARG_MAX", [x, axis], [y], ("ArgMaxOptions", options))
    content = b.build({"x": x}, {"y": y})
    value = np.eye(8, dtype=np.float32)[5:6]
    with load(content, "litert") as one, load(content, "litert-compiled") as other:
        expected, actual = one.run(value), other.run(value)
        assert ([5], "int64") == (actual.tolist(), actual.dtype.name)
        np.testing.assert_array_equal(expected, actual)


def test_the_weight_cache(tmp_path: Path) -> None:
    """It is written by the first load, used by the next, and made anew when it is damaged or another model's."""
    cache = tmp_path / "weights"
    spec = DelegateSpec("xnnpack", options={"weight_cache": str(cache)})
    x = values(1, 1, 12, 12, 3)
    with load(models.conv_float(), "litert") as session:
        expected = session.run(x)
    for change in (None, None, b"not a cache", b""):
        if change is not None:
            cache.write_bytes(change)
        with edgekit.load(models.conv_float(), delegate=spec) as session:
            assert "CompiledModel" in session.engine
            np.testing.assert_array_equal(expected, session.run(x))
        assert cache.stat().st_size > 100
    with edgekit.load(models.dense_float(), delegate=spec) as session, load(models.dense_float(), "litert") as other:
        np.testing.assert_array_equal(other.run(values(2, 1, 8)), session.run(values(2, 1, 8)))


def test_flags_are_passed_on() -> None:
    """Without QS8 the int8 kernels are the interpreter's own; named flags keep it."""
    content = models.dense_int8()
    for flags, taken in (("0", False), ("force_fp16", True), ("0x1", True)):
        spec = DelegateSpec("xnnpack", options={"flags": flags})
        assert taken is open_engine(ModelFile.read(content), spec).takes_all()


def test_partitions_with_a_weight_cache(tmp_path: Path) -> None:
    """What XNNPACK leaves is read back from the interpreter of the same package."""
    b = models.Builder()
    x, two, y = b.tensor("x", (1, 8)), b.tensor("two", (8,)), b.tensor("y", (8,))
    squeeze = models.schema.SqueezeOptionsT()
    squeeze.squeezeDims = [0]
    b.op("SQUEEZE", [x], [two], ("SqueezeOptions", squeeze))
    b.op("LOGISTIC", [two], [y])
    content = b.build({"x": x}, {"y": y})
    spec = DelegateSpec("xnnpack", options={"weight_cache": str(tmp_path / "weights")})
    with edgekit.load(content, delegate=spec) as session, load(content, "litert") as other:
        assert other.partitions == session.partitions
        assert ("xnnpack", (0,)) == (session.got, session.partitions.outside)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "x"}, "unknown option 'cache' of the delegate xnnpack: expected one of flags, weight_cache"),
        ({"flags": "fast"}, "unknown flag 'fast' of xnnpack: expected qs8, qu8, force_fp16, .* joined by commas, or a number"),
        ({"flags": "-1"}, "the flags -1 of xnnpack: a number from 0 to 2147483647 was expected"),
        ({"weight_cache": "/nonexistent/weights"}, "the folder /nonexistent does not exist. Create it first"),
        ({"weight_cache": "/"}, "'/' is a folder; the name of a file was expected"),
    ],
)  # fmt: skip
def test_options_of_xnnpack_that_make_no_sense(options: dict[str, str], message: str) -> None:
    """XNNPACK itself goes on without a cache, and without a word to the program."""
    with pytest.raises(DelegateError, match=message):
        edgekit.load(models.dense_float(), delegate=DelegateSpec("xnnpack", options=options))


def test_named_flags_are_added_to_those_of_int8() -> None:
    """A number is taken as it is."""
    assert 0x7 == XnnpackOptions.of({"flags": "force_fp16"}).flags
    assert 0x203 == XnnpackOptions.of({"flags": "qs8, consistent_arithmetic"}).flags
    assert 0x4 == XnnpackOptions.of({"flags": "0x4"}).flags
    assert {} == XnnpackOptions.of({}).native()


def test_an_interpreter_has_no_options() -> None:
    """The engine that was named is not exchanged for another."""
    spec = DelegateSpec("xnnpack", options={"flags": "force_fp16"})
    with pytest.raises(
        DelegateError, match=r"the engine 'litert' has no options for the delegate xnnpack \(flags given\)"
    ):
        edgekit.load(models.dense_float(), delegate=spec, engine="litert")

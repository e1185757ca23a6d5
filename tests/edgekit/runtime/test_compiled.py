"""``edgekit.runtime.engines.compiled``: LiteRT's CompiledModel gives what the interpreter gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_models as models

import edgekit
from edgekit import DelegateError, DelegateSpec, EngineError, ModelFile, TensorError
from edgekit.runtime.engines import open_engine
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

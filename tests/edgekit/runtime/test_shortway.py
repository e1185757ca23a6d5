"""``edgekit.runtime.shortway``: the same numbers as the long way, and no array that it must not take.

These tests run under each interpreter (``--engine``).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import tiny_models as models

from edgekit.errors import TensorError
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.session import Session
from edgekit.runtime.shortway import dequantising, quantising
from edgekit.tensors import Array, QuantParams, dequantize, quantize

SHAPE = (3, 5, 7)


def put_real(quant: QuantParams, dtype: str, shape: tuple[int, ...] = SHAPE) -> tuple[Any, list[Array]]:
    """The quantising call, and what it has put so far."""
    taken: list[Array] = []
    return quantising(lambda array: taken.append(array.copy()), quant, dtype, shape), taken


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("scale", [0.5, 0.0173, 3e-9, 1.0, 40.0])
@pytest.mark.parametrize("zero_point", [0, -128, 5, 127])
@pytest.mark.parametrize("spread", [1e-6, 1.0, 200.0, 1e15])
def test_quantises_to_the_bit(dtype: str, scale: float, zero_point: int, spread: float) -> None:
    """Ties, saturation and all: as the long way does."""
    zero_point = abs(zero_point) if dtype == "uint8" else zero_point if dtype == "int8" else 0
    quant = QuantParams((scale,), (zero_point,))
    put, taken = put_real(quant, dtype)
    random = np.random.default_rng(0)
    noise = (random.normal(size=SHAPE) * spread * scale).astype(np.float32)
    ties = (np.round(noise / scale) * scale + scale / 2).astype(np.float32)
    for value in (noise, ties, np.asfortranarray(noise)):
        put(value)
        expected = quantize(value, quant, dtype)
        assert expected.dtype == taken[-1].dtype
        np.testing.assert_array_equal(expected, taken[-1])


@pytest.mark.parametrize("shape", [(1,), (1, 128, 128), (1, 129, 128), (3, 100, 100, 3), (1, 0, 4), ()], ids=str)
def test_any_size(shape: tuple[int, ...]) -> None:
    """Large inputs go part by part, the last one shorter; in whatever order they lie in memory."""
    quant = QuantParams((0.02,), (-3,))
    put, taken = put_real(quant, "int8", shape)
    value = np.asarray(np.random.default_rng(0).normal(size=shape), np.float32)
    turned = value.copy(order="F")
    for given in (value, turned):
        put(given)
        np.testing.assert_array_equal(quantize(value, quant, "int8"), taken[-1])


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(SHAPE),
        np.zeros(SHAPE, np.int8),
        np.zeros(SHAPE[1:], np.float32),
        np.zeros((1, 1, 1), np.float32),
        np.ma.zeros(SHAPE, np.float32),
        np.float32(0),
        np.zeros(SHAPE, np.float32).tolist(),
        None,
        "zeros",
        np.full(SHAPE, np.nan, np.float32),
        np.full(SHAPE, -np.inf, np.float32),
        np.full(SHAPE, 1e30, np.float32),
    ],
    ids=["float64", "int8", "axes", "sizes", "masked", "scalar", "list", "nothing", "text", "NaN", "infinite", "huge"],
)
def test_what_goes_the_long_way(value: Any) -> None:
    """Nothing is put, and nothing warned of."""
    put, taken = put_real(QuantParams((0.1,), (3,)), "int8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError):
            put(value)
    assert not taken


@pytest.mark.parametrize(
    ("quant", "dtype"),
    [
        (QuantParams((0.1, 0.2), (0, 0)), "int8"),
        (QuantParams((1e-30,), (0,)), "int8"),
        (QuantParams((float("nan"),), (0,)), "int8"),
        (QuantParams((0.1,), (0,)), "int32"),
    ],
    ids=["per axis", "tiny scale", "no scale", "int32"],
)
def test_no_short_way(quant: QuantParams, dtype: str) -> None:
    """What cannot be done in one pass without a warning, or is not worth it."""
    assert quantising(lambda _: None, quant, dtype, SHAPE) is None


def test_no_short_way_for_sizes_of_a_damaged_file() -> None:
    """Nothing is allocated for them."""
    assert quantising(lambda _: None, QuantParams((0.1,), (0,)), "int8", (1, 2**31 - 1)) is None


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
@pytest.mark.parametrize("zero_point", [0, 7])
def test_dequantises_to_the_bit(dtype: str, zero_point: int) -> None:
    """A float32 array that belongs to the caller."""
    quant = QuantParams((0.0173,), (zero_point,))
    limits = np.iinfo(dtype)
    integers = np.random.default_rng(0).integers(limits.min, limits.max, SHAPE, endpoint=True).astype(dtype)
    get = dequantising(lambda: integers, quant)
    first, second = get(), get()
    expected = dequantize(integers, quant)
    assert expected.dtype == first.dtype
    np.testing.assert_array_equal(expected, first)
    first[...] = 0
    np.testing.assert_array_equal(expected, second)


class TestSession:
    """A whole session."""

    def load(self, content: bytes, engine: str | None, **options: Any) -> Session:
        """A session on XNNPACK."""
        choice = DelegateChoice(DelegateSpec("xnnpack", 1), "for a test")
        return Session(ModelFile.read(content), choice, engine=engine, **options)

    @pytest.mark.parametrize("content", [models.dense_int8(), models.dense_float()], ids=["int8", "float"])
    def test_the_long_way_gives_the_same(self, engine: str | None, content: bytes) -> None:
        """float64 and lists go the long way."""
        x = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
        with self.load(content, engine) as session:
            assert "run" in vars(session)
            expected = session.run(x)
            assert "float32" == expected.dtype
            np.testing.assert_array_equal(expected, session.run(x.astype(np.float64)))
            np.testing.assert_array_equal(expected, session.run(x.tolist()))
            np.testing.assert_array_equal(expected, Session.run(session, x))
            assert 4 == session.latency.count

    @pytest.mark.parametrize("non_finite", ["refuse", "allow"])
    def test_not_finite(self, engine: str | None, non_finite: str) -> None:
        """An int8 input has no form for NaN; infinity saturates where it is allowed."""
        x = np.zeros((1, 8), np.float32)
        with self.load(models.dense_int8(), engine, non_finite=non_finite) as session:
            x[0, 3] = np.nan
            with pytest.raises(TensorError, match="holds 1 NaN"):
                session.run(x)
            x[0, 3] = np.inf
            if non_finite == "refuse":
                with pytest.raises(TensorError, match="holds 1 NaN or infinite"):
                    session.run(x)
            else:
                large = session.run(x)
                x[0, 3] = 3e38
                np.testing.assert_array_equal(large, session.run(x))

    def test_views_of_real_numbers_do_not_exist(self, engine: str | None) -> None:
        """``copy=False`` has no integers to show when real numbers are asked for: the results stay the caller's."""
        x = np.random.default_rng(0).normal(size=(2, 1, 8)).astype(np.float32)
        with self.load(models.dense_int8(), engine, copy=False) as session:
            first = session.run(x[0])
            kept = first.copy()
            session.run(x[1])
            np.testing.assert_array_equal(kept, first)

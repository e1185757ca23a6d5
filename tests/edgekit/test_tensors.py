"""``edgekit.tensors``: what a tensor is, and the map between its integers and real numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.tensors import NUMPY_TYPES, TENSOR_TYPES, Array, QuantParams, TensorSpec, dequantize, quantize

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int32": (-(2**31), 2**31 - 1)}


def by_formula(values: Array, scale: float, zero_point: int, dtype: str) -> list[int]:
    """The specification's formula, one Python number at a time (``round`` is half to even)."""
    low, high = LIMITS[dtype]
    return [min(max(round(float(value) / scale) + zero_point, low), high) for value in values.reshape(-1)]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize(("scale", "zero_point"), [(0.5, 0), (0.0625, 3), (0.03, -7), (7.25, 100)])
def test_quantize_follows_the_formula(dtype: str, scale: float, zero_point: int) -> None:
    """Values inside, at and beyond the limits become the integers that the specification gives."""
    low, high = LIMITS[dtype]
    # A third off the grid: nothing here is a tie, which binary fractions could tip either way.
    steps = np.linspace(low - 40, high + 40, 501).round() - zero_point + 1 / 3
    values = (steps * scale).reshape(3, 167)
    result = quantize(values, QuantParams((scale,), (zero_point,)), dtype)
    assert (dtype, (3, 167)) == (str(result.dtype), result.shape)
    assert by_formula(values, scale, zero_point, dtype) == result.reshape(-1).tolist()


def test_quantize_rounds_half_to_even() -> None:
    """A value in the middle goes to the even integer, before the zero point is added."""
    values = np.array([0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5], np.float32)
    assert quantize(values, QuantParams((1.0,), (0,)), "int8").tolist() == [0, 2, 2, 4, 0, -2, -2]
    assert quantize(values, QuantParams((1.0,), (1,)), "int8").tolist() == [1, 3, 3, 5, 1, -1, -1]


@pytest.mark.parametrize("dtype", sorted(LIMITS))
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_quantize_saturates(dtype: str, kind: str) -> None:
    """What lies far outside becomes the lowest or highest integer, without a warning about the overflow."""
    low, high = LIMITS[dtype]
    far = float(np.finfo(kind).max)
    result = quantize(np.array([-far, -1e12, 1e12, far], kind), QuantParams((0.25,), (5,)), dtype)
    # float32 has no integer between 2**31 - 128 and 2**31.
    top = high if dtype != "int32" else 2**31 - 128
    assert [low, low, top, top] == result.tolist()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quantize_along_an_axis(axis: int) -> None:
    """Each slice of the axis has its own scale and zero point."""
    quant = QuantParams((0.5, 0.25, 2.0), (0, -3, 7), axis)
    values = np.random.default_rng(axis).uniform(-20, 20, (3, 3, 3)).astype(np.float32)
    result = quantize(values, quant, "int8")
    restored = dequantize(result, quant)
    for index, (scale, zero_point) in enumerate(zip(quant.scales, quant.zero_points, strict=True)):
        own = by_formula(values.take(index, axis), scale, zero_point, "int8")
        assert own == result.take(index, axis).reshape(-1).tolist()
        assert [scale * (item - zero_point) for item in own] == restored.take(index, axis).reshape(-1).tolist()


@pytest.mark.parametrize("values", [np.array([3]), np.array([[True, False]]), np.array([7], np.uint8), np.array([2.5])])
def test_quantize_takes_each_kind_of_number(values: Array) -> None:
    """Integers, booleans and floats of any width are real numbers."""
    assert (
        by_formula(values, 0.5, 1, "int8") == quantize(values, QuantParams((0.5,), (1,)), "int8").reshape(-1).tolist()
    )


def test_a_scalar_stays_a_scalar() -> None:
    """An array without axes keeps its shape both ways."""
    quant = QuantParams((0.5,), (1,))
    integer = quantize(np.array(3.0), quant, "int8")
    assert (integer.shape, str(integer.dtype), int(integer)) == ((), "int8", 7)
    real = dequantize(integer, quant)
    assert ((), "float32", 3.0, np.ndarray) == (real.shape, str(real.dtype), float(real), type(real))


def test_dequantize_follows_the_formula() -> None:
    """``scale * (integer - zero_point)``, in float32."""
    integers = np.array([-128, -1, 0, 1, 127], np.int8)
    result = dequantize(integers, QuantParams((0.25,), (-128,)))
    assert (str(result.dtype), result.tolist()) == ("float32", [0.0, 31.75, 32.0, 32.25, 63.75])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_every_integer_survives_the_way_there_and_back(dtype: str) -> None:
    """Quantising what was dequantised gives the same integers."""
    low, high = LIMITS[dtype]
    integers = np.arange(low, high + 1).astype(dtype)
    quant = QuantParams((0.0173,), (11,))
    np.testing.assert_array_equal(integers, quantize(dequantize(integers, quant), quant, dtype))


def test_inputs_are_left_alone() -> None:
    """Neither direction writes into the caller's array."""
    values, integers, quant = np.array([1.0, 2.0], np.float32), np.array([1, 2], np.int8), QuantParams((0.5,), (1,))
    quantize(values, quant, "int8")
    dequantize(integers, quant)
    assert (values.tolist(), integers.tolist()) == ([1.0, 2.0], [1, 2])


@dataclass(frozen=True)
class Fit:
    """A declared shape, a seen one, and whether it fits."""

    id: str
    declared: tuple[int, ...]
    seen: tuple[int, ...]
    fits: bool


@pytest.mark.parametrize(
    "case",
    [
        Fit("same", (1, 8), (1, 8), True),
        Fit("other size", (1, 8), (1, 9), False),
        Fit("axis missing", (1, 8), (8,), False),
        Fit("axis too many", (1, 8), (1, 8, 1), False),
        Fit("open size", (-1, 8), (5, 8), True),
        Fit("open size of nothing", (-1, 8), (0, 8), False),
        Fit("two open sizes", (-1, -1), (2, 3), True),
        Fit("open beside wrong", (-1, 8), (5, 7), False),
        Fit("scalar", (), (), True),
        Fit("scalar and vector", (), (1,), False),
        Fit("declared empty", (0, 8), (0, 8), True),
    ],
    ids=lambda case: case.id,
)
def test_accepts(case: Fit) -> None:
    """An array fits when each size is the declared one, an open size taking any positive number."""
    assert case.fits == TensorSpec("x", case.declared, "float32").accepts(case.seen)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (TensorSpec("x", (1, 8), "float32"), "x float32[1,8]"),
        (TensorSpec("x", (-1, 8), "float32"), "x float32[?,8]"),
        (TensorSpec("n", (), "int32"), "n int32[]"),
        (
            TensorSpec("y", (1, 4), "int8", QuantParams((0.03125,), (-128,))),
            "y int8[1,4] scale=0.03125 zero_point=-128",
        ),
        (TensorSpec("w", (2, 4), "int8", QuantParams((0.5, 0.25), (0, 0))), "w int8[2,4]"),
    ],
    ids=["float", "open", "scalar", "quantised", "per axis"],
)
def test_spec_as_text(spec: TensorSpec, expected: str) -> None:
    """Name, type, sizes, and the one scale where there is one."""
    assert expected == str(spec)


def test_per_tensor() -> None:
    """One scale serves the whole tensor; several do not."""
    assert (QuantParams((1.0,), (0,)).per_tensor, QuantParams((1.0, 2.0), (0, 0)).per_tensor) == (True, False)


def test_type_names_are_the_schema_s() -> None:
    """Every code of the schema's ``TensorType`` has its name here, in the same place."""
    codes = {code: name for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
    assert [codes[code].lower() for code in range(len(codes))] == list(TENSOR_TYPES)


def test_numpy_has_its_types_under_these_names() -> None:
    """Each name that claims to be numpy's is."""
    assert sorted(NUMPY_TYPES) == sorted(np.dtype(name).name for name in NUMPY_TYPES)


class TestStored:
    """Scales that stay in the file until somebody asks."""

    def test_as_if_they_had_been_read(self) -> None:
        """Equal, and with the same text, as one that was made of numbers."""
        made = QuantParams.stored(lambda: (0.5, 0.25), (0, 0), 1, any_scale=True)
        assert not made.per_tensor
        assert made.any_scale
        assert QuantParams((0.5, 0.25), (0, 0), 1) == made
        assert repr(QuantParams((0.5, 0.25), (0, 0), 1)) == repr(made)
        assert QuantParams((1.0, 0.25), (0, 0), 1) == made._replace(scales=(1.0, 0.25))

    def test_they_are_read_once(self) -> None:
        """And not before."""
        asked: list[int] = []

        def read() -> tuple[float, ...]:
            asked.append(1)
            return (0.5, 0.25)

        made = QuantParams.stored(read, (0, 0), 1, any_scale=True)
        assert not asked
        assert ((0.5, 0.25), (0.5, 0.25)) == (made.scales, made.scales)
        assert [1] == asked

    def test_nothing_else_is_invented(self) -> None:
        """A misspelt name is an error, as everywhere."""
        with pytest.raises(AttributeError, match="has no attribute 'scale'"):
            _ = QuantParams((0.5,), (0,)).scale  # type: ignore[attr-defined]

"""``edgekit.inspection.left_outside``: what the interpreter says that a delegate left."""

from __future__ import annotations

import one_op_models as ones
import pytest
import tiny_models as models

from edgekit.errors import EngineError, ModelFileError
from edgekit.inspection import left_outside
from edgekit.runtime.delegates import DelegateSpec

XNNPACK = DelegateSpec("xnnpack", 1)


def between(name: str) -> bytes:
    """An int8 operator between a QUANTIZE and a DEQUANTIZE."""
    b = models.Builder()
    quant = models.DENSE_INPUT
    x, y = b.tensor("x", ones.IMAGE), b.tensor("y", ones.IMAGE)
    inner, outer = (b.tensor(text, ones.IMAGE, "int8", quant=quant) for text in ("inner", "outer"))
    b.op("QUANTIZE", [x], [inner], ones.options("QuantizeOptions"))
    b.op(name, [inner], [outer])
    b.op("DEQUANTIZE", [outer], [y], ones.options("DequantizeOptions"), version=2)
    return b.build({"x": x}, {"y": y})


def test_only_what_has_no_kernel() -> None:
    """The operators around it are taken."""
    assert left_outside(between("HARD_SWISH"), XNNPACK) == {"outer"}


def test_a_model_that_is_taken_whole() -> None:
    """Nothing is outside."""
    assert left_outside(models.conv_float(), XNNPACK) == frozenset()


def test_without_a_delegate() -> None:
    """Everything is outside, changes of type too."""
    assert left_outside(between("HARD_SWISH"), DelegateSpec("none", 1)) == {"inner", "outer", "y"}


def test_a_model_that_does_not_load() -> None:
    """The interpreter's refusal, and the parser's, are edgekit's errors."""
    with pytest.raises(EngineError, match="Mystery"):
        left_outside(models.custom_op(), XNNPACK)
    with pytest.raises(ModelFileError, match=r"is not a \.tflite model"):
        left_outside(b"no model at all", XNNPACK)

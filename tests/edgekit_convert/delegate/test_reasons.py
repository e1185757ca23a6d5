"""Each kind of reason, found by experiment on a real runtime."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import one_op_models as ones
import pytest
import tiny_models as models
from one_op_models import IMAGE, T, ints, one_op, options

from edgekit_convert.delegate.changes import changes
from edgekit_convert.delegate.learned import Capabilities
from edgekit_convert.delegate.one_op import OneOp
from edgekit_convert.delegate.reasons import KINDS, Experiments, Reason
from edgekit_convert.graph.slices import Sliceable
from edgekit_convert.package.oldest import VARIABLE


def reason(content: bytes, *, index: int = 0, python: str | None = None, target: str | None = None) -> Reason:
    """Why XNNPACK leaves an operator of a model outside."""
    found = Experiments(Sliceable(content), Capabilities(python=python), target=target).reasons([index])
    return found[index]


@pytest.fixture
def older() -> str:
    """A Python with tflite-runtime."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"{VARIABLE} names no environment with tflite-runtime; scripts/test makes one")
    return python


@dataclass(frozen=True)
class Left:
    """A model of one operator that XNNPACK leaves, why, and words that must be said."""

    id: str
    content: bytes
    kind: str
    words: str


def seven(scale: float = 0.0) -> T:
    """A tensor of seven axes."""
    return T((1, 2, 1, 2, 1, 2, 4), scale)


LEFT = [
    Left("type", ones.hard_swish(), "type", "XNNPACK has no kernel for HARD_SWISH in int8; in float32 it is taken"),
    Left("int16", ones.add(*[T(IMAGE, dtype="int16")] * 3), "type", "no kernel for ADD in int16; in int8 it is taken"),
    Left(
        "scale",
        ones.add(T(IMAGE, 0.001), T(IMAGE), T(IMAGE, 2.0)),
        "scale",
        "ADD in int8: the input scale over the output scale is 1/2,000; down to 1/",
    ),
    Left(
        "product of scales",
        one_op("MUL", [T(IMAGE, 0.001)] * 2, [T(IMAGE, 1.0)], options("MulOptions")),
        "scale",
        "the product of the input scales over the output scale is 1/1,000,000; down to 1/",
    ),
    Left(
        "equal scales",
        ones.reshape(out_scale=0.1),
        "scale",
        "the input scale over the output scale is 0.5; with equal scales it",
    ),
    Left("does not load", ones.conv(out_scale=0.0025 / 300), "scale", "over the output scale is 300; up to "),
    Left(
        "zero point",
        ones.batch_matmul(5),
        "zero_point",
        "the zero point of its right side is 5; with zero point 0 there it",
    ),
    Left("inputs", ones.concatenation(6), "count", "CONCATENATION in int8: it has 6 inputs; with up to "),
    Left("outputs", ones.split(8), "count", "SPLIT in int8: it has 8 outputs; with up to "),
    Left(
        "activation",
        ones.conv(activation=4),
        "activation",
        "CONV_2D in int8: it has TANH fused into it; without it is taken",
    ),
    Left("stride", ones.max_pool(1), "options", "MAX_POOL_2D in int8: its stride is 2x2; with stride 1x1 it is taken"),
    Left("alpha", ones.leaky_relu(0.001), "options", "its option alpha is 0.001; with 0.1 it is taken"),
    Left(
        "shape",
        ones.reshape(computed=True),
        "dynamic",
        "its shape is computed while the model runs; as a constant in the file it",
    ),
    Left(
        "weights",
        one_op("PRELU", [T(IMAGE, 0.0), T((1, 1, 4), 0.0)], [T(IMAGE, 0.0)], version=1),
        "dynamic",
        "PRELU in float32: its weights are computed while the model runs",
    ),
    Left("rank", ones.add(seven(), seven(), seven()), "rank", "ADD in float32: it has 7 axes; with 6 it is taken"),
    Left(
        "rank with an argument",
        one_op(
            "TRANSPOSE",
            [seven(), ints(0, 1, 2, 3, 4, 6, 5)],
            [T((1, 2, 1, 2, 1, 4, 2), 0.0)],
            options("TransposeOptions"),
        ),
        "rank",
        "TRANSPOSE in float32: it has 7 axes; with 6 it is taken",
    ),
    Left(
        "version",
        ones.add(*[T(IMAGE, 0.0)] * 3, version=9),
        "version",
        "the file asks for version 9 of the operator; with version ",
    ),
    Left(
        "operator",
        ones.argmax(),
        "operator",
        "XNNPACK takes no ARG_MAX in int8 to int32 or float32 in any form that was tried",
    ),
    Left(
        "two things",
        ones.concatenation(6, first_scale=0.1),
        "scale",
        "the input scale over the output scale is 2, and it has 6 inputs; ",
    ),
]


@pytest.mark.parametrize("case", LEFT, ids=lambda case: case.id)
def test_reasons(case: Left) -> None:
    """The kind, what was seen and what would be taken, and the runtime that said so."""
    learned = Capabilities()
    assert not learned.answer(case.content).taken
    found = reason(case.content)
    assert (found.kind, case.words in found.text) == (case.kind, True), found
    assert str(found) == f"{found.text} (tried on {learned})."


@pytest.mark.parametrize("make", [ones.concatenation, ones.split], ids=["CONCATENATION", "SPLIT"])
def test_the_count_that_is_named_is_the_largest(make: type) -> None:
    """So many are taken, and one more is not."""
    learned = Capabilities()
    found = re.search(r"with up to (\d+) it", reason(make(9)).text)
    assert found is not None
    most = int(found[1])
    assert [learned.answer(make(count)).taken for count in (most, most + 1)] == [True, False]


def test_the_ratio_that_is_named_is_a_limit() -> None:
    """At that ratio it is taken, and at half of it not."""
    learned = Capabilities()
    found = re.search(r"down to 1/([\d,]+) it", reason(ones.add(T(IMAGE, 1e-5), T(IMAGE, 1.0), T(IMAGE, 1.0))).text)
    assert found is not None
    limit = int(found[1].replace(",", ""))
    given = [ones.add(T(IMAGE, 1 / ratio), T(IMAGE, 1.0), T(IMAGE, 1.0)) for ratio in (limit, 2 * limit)]
    assert [learned.answer(content).taken for content in given] == [True, False]


def test_equal_forms_are_tried_once() -> None:
    """Operators that a delegate cannot tell apart have one reason."""
    b = models.Builder()
    x, y, z = (b.tensor(name, IMAGE, "int8", quant=models.DENSE_INPUT) for name in "xyz")
    b.op("HARD_SWISH", [x], [y])
    b.op("HARD_SWISH", [y], [z])
    tried: list[int] = []
    content = b.build({"x": x}, {"z": z})
    learned = Capabilities("xnnpack")
    Experiments(Sliceable(content), learned, progress=lambda done, total: tried.append(total)).reasons([0, 1])
    found = Experiments(Sliceable(content), learned, progress=lambda done, total: tried.append(-1)).reasons([0, 1])
    assert found[0] == found[1]
    assert -1 not in tried


def test_for_a_device_that_is_not_here() -> None:
    """It is a prediction, and says of which runtime it was learned."""
    found = reason(ones.hard_swish(), target="some-board")
    assert found.where == f"predicted for some-board, tried on {Capabilities()}"


def test_every_kind_is_explained() -> None:
    """A change can only give a reason that has a name."""
    kinds = {change.kind for case in LEFT for change in changes(OneOp(case.content))}
    assert kinds <= set(KINDS)


def test_nonsense_is_no_traceback() -> None:
    """An axis that does not exist is the runtime's to refuse."""
    wrong = models.edited(
        ones.concatenation(6), lambda m: setattr(m.subgraphs[0].operators[0].builtinOptions, "axis", 77)
    )
    found = reason(wrong)
    assert found.kind == "untried"
    assert "does not load alone" in found.text


class TestOlder:
    """tflite-runtime 2.14, which has other limits."""

    def test_broadcast(self, older: str) -> None:
        """PRELU with a slope for each row."""
        slopes = T((6, 1, 1), 0.0, data=[[[1]]] * 6)
        found = reason(one_op("PRELU", [T(IMAGE, 0.0), slopes], [T(IMAGE, 0.0)], version=1), python=older)
        assert (found.kind, "it broadcasts [1, 6, 6, 4] with [6, 1, 1]" in found.text) == ("broadcast", True)
        assert "tried on tflite-runtime 2.14.0" in found.where

    def test_axes(self, older: str) -> None:
        """A mean over other axes than those of an image."""
        mean = one_op("MEAN", [T((1, 8, 4), 0.0), ints([1])], [T((1, 4), 0.0)], options("ReducerOptions"))
        found = reason(mean, python=older)
        assert (found.kind, found.text) == (
            "options", "MEAN in float32: it goes over axis 1 of 3; over axes 1 and 2 of 4 it is taken"
        )  # fmt: skip

    def test_one_computed_shape_keeps_everything_outside(self, older: str) -> None:
        """The operators behind are taken once the shape is fixed."""
        b = models.Builder()
        x, shape = b.tensor("x", IMAGE), b.tensor("shape", (2,), "int32")
        row, y = b.tensor("row", (1, 144)), b.tensor("y", (1, 144))
        b.op("RESHAPE", [x, shape], [row])
        b.op("ADD", [row, row], [y], options("AddOptions"))
        content = b.build({"x": x, "shape": shape}, {"y": y})
        found = reason(content, index=1, python=older)
        assert found.kind == "position"
        whole = Experiments(Sliceable(content), Capabilities(python=older)).reasons([0, 1])
        assert [item.kind for item in whole.values()] == ["dynamic", "dynamic"]

    def test_where_it_stands(self, older: str) -> None:
        """An operator that is taken alone, in a model that the runtime takes nothing of."""
        b = models.Builder()
        x, dims, value = (
            b.tensor("x", IMAGE),
            b.tensor("dims", (2,), "int32"),
            b.tensor("value", (), data=models._random(1)[()]),
        )
        y, filled = b.tensor("y", IMAGE), b.tensor("filled", (1, 1))
        b.op("ADD", [x, x], [y], options("AddOptions"))
        b.op("FILL", [dims, value], [filled], options("FillOptions"))
        found = reason(b.build({"x": x, "dims": dims}, {"y": y, "filled": filled}), python=older)
        assert (found.kind, found.text) == (
            "position", "ADD is taken alone and with its neighbours, and left in the whole model"
        )  # fmt: skip

"""Changes to how an operator's numbers are held: zero points, scales, types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from edgekit_convert.delegate.one_op import BINARY, FIXED_OUTPUT, PRODUCTS, Change, OneOp

#: Types that stand for real numbers by a scale.
_QUANTISED = ("int8", "uint8", "int16", "int4")


def zero_points(one: OneOp) -> Iterator[Change]:
    """Zero points at 0, or equal."""
    found = [index for index in one.quantised(constants=True) if any(one.zero_points(index))]
    if one.name == "BATCH_MATMUL" and len(one.inputs) > 1 and one.inputs[1] in found:
        right = one.inputs[1]
        yield Change(
            "zero_point",
            f"the zero point of its right side is {one.zero_points(right)[0]}",
            "with zero point 0 there",
            one.changed(partial(OneOp.set_quant, index=right, zero_point=0)),
        )
    constants = [index for index in found if one.is_constant(index)]
    for index in constants:
        yield Change(
            "zero_point",
            f"the zero point of a constant is {one.zero_points(index)[0]}",
            "with zero point 0 there",
            one.changed(partial(OneOp.set_quant, index=index, zero_point=0)),
        )
    activations = one.quantised()
    points = [one.zero_points(index)[0] if one.zero_points(index) else 0 for index in activations]
    if len(set(points)) > 1 and one.name not in FIXED_OUTPUT:

        def equal(other: OneOp) -> None:
            for index in activations:
                other.set_quant(index, zero_point=points[-1])

        yield Change(
            "zero_point",
            f"its zero points are {listed(points)}",
            "with equal zero points",
            one.changed(equal),
        )


@dataclass(frozen=True)
class Ratio:
    """The scale of what goes in over the scale of what comes out.

    Attributes:
        value: the ratio that is farthest from 1.
        text: what it is of.
    """

    value: float
    text: str


def ratio_of(one: OneOp) -> Ratio | None:
    """How far apart an operator's scales are; ``None`` where it has no scales, or its output's is fixed."""
    if not one.outputs or one.name in FIXED_OUTPUT or len(one.scales(one.outputs[0])) != 1:
        return None
    out = one.scales(one.outputs[0])[0]
    sides = [one.scales(index) for index in one.inputs if one.scales(index) and one.dtype(index) != "int32"]
    if not sides or not out > 0:
        return None
    if one.name in PRODUCTS:
        if len(sides) < 2:
            return None
        return Ratio(max(sides[0]) * max(sides[1]) / out, "the product of the input scales over the output scale")
    values = [value / out for side in sides for value in side if value > 0]
    return Ratio(max(values, key=lambda value: abs(math.log2(value))), "the input scale over the output scale")


def with_ratio(one: OneOp, ratio: float, *, same_zero_point: bool = False) -> OneOp:
    """The operator with every input's scale so far from the output's.

    Args:
        one: an operator for which ``ratio_of`` gives one.
        ratio: of what goes in to what comes out.
        same_zero_point: whether all are given the output's zero point as well.
    """

    def change(other: OneOp) -> None:
        out = other.outputs[0]
        points = other.zero_points(out)
        inputs = [index for index in other.inputs if other.scales(index) and other.dtype(index) != "int32"]
        if other.name in PRODUCTS:
            for index in other.outputs:
                other.set_quant(index, scale=max(other.scales(inputs[0])) * max(other.scales(inputs[1])) / ratio)
        else:
            for index in inputs:
                if len(other.scales(index)) == 1:
                    other.set_quant(index, scale=other.scales(out)[0] * ratio)
            for index in other.outputs:
                other.set_quant(index, scale=other.scales(out)[0])
        if same_zero_point and points:
            for index in other.quantised():
                other.set_quant(index, zero_point=points[0])

    return one.changed(change)


def scales(one: OneOp) -> Iterator[Change]:
    """Equal scales."""
    ratio = ratio_of(one)
    if ratio is None:
        return
    seen = f"{ratio.text} is {ratio_text(ratio.value)}"
    yield Change("scale", seen, "at 1", with_ratio(one, 1.0))
    if one.name not in PRODUCTS:
        yield Change("scale", seen, "at 1 with equal zero points", with_ratio(one, 1.0, same_zero_point=True))


def ratio_text(value: float) -> str:
    """A ratio as people compare it: ``300``, ``1/1,024``, ``1.5``."""
    if 0 < value < 0.1:
        return f"1/{1 / value:,.0f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def types(one: OneOp) -> Iterator[Change]:
    """Other types; float comes last."""
    seen = types_of(one)
    kinds = {one.dtype(index) for index in one.used}
    if kinds & {"uint8", "int16"} and all(one.scales(index) for index in one.used if one.dtype(index) in _QUANTISED):
        yield Change("type", seen, "in int8", one.changed(_to_int8))
    if any(len(one.scales(index)) > 1 for index in one.inputs):
        yield Change(
            "type", f"{seen} with a scale for each channel", "with one scale for all", one.changed(_per_tensor)
        )
    if kinds - {"float32"}:
        yield Change("type", seen, "in float32", one.changed(_to_float))


def types_of(one: OneOp) -> str:
    """The types of an operator's activations, as text."""
    numbers = {index for index in one.used if one.scales(index) or one.dtype(index).startswith("float")}
    sides = []
    for indices in (one.inputs, one.outputs):
        data = [index for index in indices if not one.is_constant(index)]
        # Sizes and places beside the data say nothing.
        kinds = dict.fromkeys(one.dtype(index) for index in data if index in numbers or not numbers & set(data))
        sides.append(" and ".join(kinds))
    weights = {one.dtype(i) for i in one.inputs if one.is_constant(i) and one.scales(i)} - {"int32"}
    if sides == ["float32", "float32"] and weights:
        return f"float32 with {' and '.join(sorted(weights))} weights"
    return sides[0] if sides[0] == sides[1] or not sides[1] else sides[1] if not sides[0] else " to ".join(sides)


def _to_int8(other: OneOp) -> None:
    for index in other.used:
        dtype, scales = other.dtype(index), other.scales(index)
        if dtype in ("uint8", "int16"):
            points = other.zero_points(index) or [0]
            other.set_type(index, "int8")
            if len(scales) == 1:
                point = 0 if dtype == "int16" or other.is_constant(index) else points[0] - 128
                other.set_quant(index, scale=scales[0] * (256 if dtype == "int16" else 1), zero_point=point)
        elif dtype == "int64" and scales:
            other.set_type(index, "int32")


def _per_tensor(other: OneOp) -> None:
    for index in other.inputs:
        if len(other.scales(index)) > 1:
            quant = other.types.QuantizationParametersT()
            quant.scale, quant.zeroPoint = [max(other.scales(index))], [0]
            other.main.tensors[index].quantization = quant


def _to_float(other: OneOp) -> None:
    """Everything that is quantised as float; of an operator on whole numbers these."""
    numbers = [i for i in other.used if other.scales(i) or other.dtype(i) in ("float16", "float32", "float64")]
    for index in numbers or [i for i in other.used if not other.is_constant(i) or other.name in BINARY]:
        if other.dtype(index) != "float32":
            other.set_type(index, "float32")


def listed(values: Iterable[int]) -> str:
    """Numbers in a row."""
    return ", ".join(str(value) for value in values)

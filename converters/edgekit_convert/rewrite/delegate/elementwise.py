"""An activation function that is spelled out in many operators → the one operator that it is, or the shortest spelling.

Exporters write GELU, HARD_SWISH, ELU or SiLU in many ways. They are not told apart by their spelling: a stretch of elementwise
operators that depends on one tensor and on single constants is a function of one number, and its values are compared with those
of the functions that have an operator. In int8 each step of the spelling would be rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgekit.graph import Op
from edgekit.tensors import Array
from edgekit_convert.rewrite.delegate.draft import NONE, RELU, RELU6, RELU_N1_TO_1, Draft, Match

_Function = Callable[[Array], Array]
#: Where functions are compared; activations of a sound network lie within. The end points are far enough out for what saturates.
_GRID = np.concatenate([np.linspace(-12, 12, 4801), np.array([-40.0, -20.0, 20.0, 40.0])])
#: How far the tanh approximation of GELU is from GELU is 5e-4; any two of the others differ by more than 1e-2.
_SAME = 1e-4
_UNARY: dict[str, _Function] = {
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "TANH": np.tanh,
    "EXP": np.exp,
    "LOG": np.log,
    "ABS": np.abs,
    "NEG": np.negative,
    "SQRT": np.sqrt,
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "SQUARE": np.square,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}
_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "POW": np.power,
    "SQUARED_DIFFERENCE": lambda a, b: np.square(a - b),
}
_FUSED: dict[int, _Function] = {
    NONE: lambda x: x,
    RELU: _UNARY["RELU"],
    RELU6: _UNARY["RELU6"],
    RELU_N1_TO_1: _UNARY["RELU_N1_TO_1"],
}


def _erf(x: Array) -> Array:
    """The error function by its series and its continued fraction (Abramowitz and Stegun, 7.1.5 and 7.1.14)."""
    small = np.clip(x, -3, 3)
    term = total = small
    for n in range(1, 60):
        term = term * -small * small / n
        total = total + term / (2 * n + 1)
    size = np.maximum(np.abs(x), 3)
    tail = np.zeros_like(size)
    for n in range(60, 0, -1):
        tail = n / 2 / (size + tail)
    outer = 1 - np.exp(-size * size) / np.sqrt(np.pi) / (size + tail)
    return np.asarray(np.where(np.abs(x) <= 3, 2 / np.sqrt(np.pi) * total, np.sign(x) * outer))


#: The longest stretch that is looked at.
_MOST = 24


@dataclass(frozen=True)
class _Target:
    """A function with an operator of its own, or a short spelling.

    Attributes:
        name: the operator, or ``SILU`` for LOGISTIC and MUL.
        values: the function.
        options: the operator's options.
        operators: how many operators it takes.
    """

    name: str
    values: _Function
    options: tuple[tuple[str, Any], ...] = ()
    operators: int = 1


_TARGETS: tuple[_Target, ...] = (
    _Target("GELU", lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))), (("approximate", False),)),
    _Target(
        "GELU",
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        (("approximate", True),),
    ),
    _Target("HARD_SWISH", _UNARY["HARD_SWISH"]),
    _Target("ELU", _UNARY["ELU"]),
    _Target("LOGISTIC", _UNARY["LOGISTIC"]),
    _Target("TANH", _UNARY["TANH"]),
    _Target("RELU", _UNARY["RELU"]),
    _Target("RELU6", _UNARY["RELU6"]),
    _Target("SILU", lambda x: x * _UNARY["LOGISTIC"](x), operators=2),
)


def find(draft: Draft) -> list[Match]:
    """Every such stretch that is one of the functions, from its end."""
    found: list[Match] = []
    taken: set[int] = set()
    for op in reversed(draft.ops):
        if op.index in taken or not _is_elementwise(draft, op):
            continue
        for root, region in _regions(draft, op):
            target = _target(draft, root, region, op) if len(region) > 1 else None
            if target is not None and len(region) > target.operators:
                found.append(Match(region, partial(_change, root=root, region=region, op=op, target=target)))
                taken.update(item.index for item in region)
                break
    return found


def _is_elementwise(draft: Draft, op: Op) -> bool:
    if not draft.float_op(op, *_UNARY, *_BINARY) or (op.name in _BINARY and draft.act(op) not in _FUSED):
        return False
    shape = draft.shape(op.outputs[0])
    return all(
        draft.shape(index) == shape or draft.number(op, place) is not None for place, index in enumerate(op.inputs)
    )


def _regions(draft: Draft, end: Op) -> list[tuple[int, tuple[Op, ...]]]:
    """Stretches of operators that end here and begin at one tensor, the longest first."""
    main = draft.wiring.main
    found = []
    region: dict[int, Op] = {end.index: end}
    while True:
        inside = {index for op in region.values() for index in op.outputs}
        open_ends = {
            index
            for op in region.values()
            for place, index in enumerate(op.inputs)
            if draft.number(op, place) is None and index not in inside
        }
        if len(open_ends) == 1:
            found.append((next(iter(open_ends)), tuple(region[index] for index in sorted(region))))
        # An operator joins once all that read its result are in; so what is within is read nowhere else.
        joining = None
        for index in sorted(open_ends, reverse=True):
            maker = draft.wiring.made_by.get(index)
            if maker is None or not _is_elementwise(draft, maker) or index in main.outputs or len(maker.outputs) != 1:
                continue
            if all(reader.index in region for reader in draft.wiring.read_by[index]):
                joining = maker
                break
        if joining is None or len(region) >= _MOST:
            return found[::-1]
        region[joining.index] = joining


def _target(draft: Draft, root: int, region: tuple[Op, ...], end: Op) -> _Target | None:
    values: dict[int, Array] = {root: _GRID}
    with np.errstate(all="ignore"):
        for op in region:
            inputs = []
            for place, index in enumerate(op.inputs):
                number = draft.number(op, place)
                inputs.append(values[index] if number is None else np.full_like(_GRID, number))
            if op.name in _UNARY:
                result = _UNARY[op.name](inputs[0])
            else:
                result = _FUSED[draft.act(op)](_BINARY[op.name](inputs[0], inputs[1]))
            values[op.outputs[0]] = result
        seen = values[end.outputs[0]]
        for target in _TARGETS:
            wanted = target.values(_GRID)
            # Exporters' own overflows (the exponential of a large number) are no difference between functions.
            usable = np.isfinite(seen)
            if usable.mean() > 0.95 and np.all(
                np.abs(seen - wanted)[usable] <= _SAME * np.maximum(1, np.abs(wanted[usable]))
            ):
                return target
    return None


def _change(draft: Draft, root: int, region: tuple[Op, ...], op: Op, target: _Target) -> None:
    first = next(item for item in region if root in item.inputs)
    source = draft.inputs(first)[first.inputs.index(root)]
    result = op.outputs[0]
    draft.remove(*region)
    if target.name != "SILU":
        draft.add(target.name, [source], result, **dict(target.options))
        return
    gate = draft.activation(result, "gate")
    draft.add("LOGISTIC", [source], gate)
    draft.add("MUL", [source, gate], result, act=NONE)

"""RELU, RELU6 and RELU_N1_TO_1, also as MAXIMUM and MINIMUM, → the fused activation of the operator before.

XNNPACK has no int8 form of an activation that stands alone, and litert-quantizer has one for RELU only. Fused it costs nothing, and
the int8 range of the operator before it is that of the values that are left.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import NONE, RELU, RELU6, RELU_N1_TO_1, Draft, Match

_ALONE = {"RELU": RELU, "RELU6": RELU6, "RELU_N1_TO_1": RELU_N1_TO_1}
_Ends = tuple[float | None, float | None]
_CODES: dict[_Ends, int] = {(0.0, None): RELU, (0.0, 6.0): RELU6, (-1.0, 1.0): RELU_N1_TO_1}
_ENDS = {code: ends for ends, code in _CODES.items()}
#: Also as they are spelled otherwise: with a constant, or with a slope of 0.
_CLAMPS = (*_ALONE, "MAXIMUM", "MINIMUM", "PRELU", "LEAKY_RELU")
#: What can have an activation fused to it, and has an int8 form with it. A pool compares or averages, and could; but its scale is tied.
_HOSTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL")


def find(draft: Draft) -> list[Match]:
    """Every activation whose operator before can have it, and every clamp that can be one activation."""
    found: list[Match] = []
    taken: set[int] = set()
    for op in draft.ops:
        own = ends_of(draft, op)
        if own is None or op.index in taken:
            continue
        ends = own
        chain: tuple[Op, ...] = (op,)
        host = draft.before(_source(draft, op), *_HOSTS, *_CLAMPS)
        while host is not None and host.index not in taken:  # clamps in a row are one clamp
            earlier = ends_of(draft, host)
            joined = _joined(earlier, ends) if earlier is not None else None
            if joined is None:
                break
            ends, chain = joined, (host, *chain)
            host = draft.before(_source(draft, host), *_HOSTS, *_CLAMPS)
        if host is not None and host.index not in taken and draft.float_op(host, *_HOSTS):
            held = _ENDS.get(draft.act(host)) if draft.act(host) != NONE else (None, None)
            joined = _joined(held, ends) if held is not None else None
            code = _CODES.get(joined) if joined is not None else None
            if code is not None:
                found.append(Match((host, *chain), partial(_fuse, host=host, chain=chain, code=code)))
                taken.update(item.index for item in (host, *chain))
                continue
        code = _CODES.get(ends)
        if code is not None and (len(chain) > 1 or op.name not in _ALONE):
            found.append(Match(chain, partial(_alone, chain=chain, code=code)))
            taken.update(item.index for item in chain)
    return found


def ends_of(draft: Draft, op: Op) -> _Ends | None:
    """Between which numbers an operator clamps its input; ``None`` for other operators."""
    if not draft.float_op(op, *_CLAMPS):
        return None
    if op.name in _ALONE:
        return _ENDS[_ALONE[op.name]]
    if op.name in ("PRELU", "LEAKY_RELU"):
        slopes = draft.values(op, 1) if op.name == "PRELU" else np.array(draft.option(op, "alpha", 0.0))
        return (0.0, None) if slopes is not None and not np.any(slopes) else None
    number = next((value for place in (0, 1) if (value := draft.number(op, place)) is not None), None)
    if number is None or draft.shape(_source(draft, op)) != draft.shape(op.outputs[0]):
        return None
    return (number, None) if op.name == "MAXIMUM" else (None, number)


def _source(draft: Draft, op: Op) -> int:
    """What a clamp clamps."""
    constant_first = len(op.inputs) > 1 and draft.number(op, 0) is not None
    return op.inputs[1 if constant_first else 0]


def _joined(first: _Ends, second: _Ends) -> _Ends | None:
    """One clamp after another as one, where the ranges have something in common."""
    lows = [end for end in (first[0], second[0]) if end is not None]
    highs = [end for end in (first[1], second[1]) if end is not None]
    low, high = max(lows, default=None), min(highs, default=None)
    return (low, high) if low is None or high is None or low <= high else None


def _fuse(draft: Draft, host: Op, chain: tuple[Op, ...], code: int) -> None:
    draft.set_options(host, act=code)
    draft.rewire(host, outputs=[chain[-1].outputs[0]])
    draft.remove(*chain)


def _alone(draft: Draft, chain: tuple[Op, ...], code: int) -> None:
    source = draft.inputs(chain[0])[0 if draft.number(chain[0], 0) is None else 1]
    draft.remove(*chain)
    draft.add(next(name for name, item in _ALONE.items() if item == code), [source], chain[-1].outputs[0])


def find_lone(draft: Draft) -> list[Match]:
    """Every activation that stands alone."""
    return [Match((op,), partial(_carried, op=op)) for op in draft.ops if draft.float_op(op, *_ALONE)]


def _carried(draft: Draft, op: Op) -> None:
    source, result = draft.inputs(op)[0], op.outputs[0]
    draft.remove(op)
    one = draft.constant(result, "one", np.array(1, np.float32))
    draft.add("MUL", [source, one], result, act=_ALONE[op.name])

"""MUL, ADD, SUB and DIV by constants in a row, where no layer can take them, → one MUL and one ADD.

PyTorch's batch normalisation behind a sum is a SUB, two MULs and an ADD; Keras's is a MUL and an ADD. In int8 each costs a pass over the
tensor, and rounds it once more.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.graph import Op
from edgekit.tensors import Array
from edgekit_convert.rewrite.delegate.affine import STEPS, factor_and_summand
from edgekit_convert.rewrite.delegate.draft import NONE, Draft, Match


def find(draft: Draft) -> list[Match]:
    """Every row of such operators that is longer than what it amounts to."""
    found = []
    taken: set[int] = set()
    for op in draft.ops:
        source = _source(draft, op)
        if op.index in taken or source is None:
            continue
        chain, index = [op], op.outputs[0]
        while draft.inner(index) and draft.act(chain[-1]) == NONE:
            reader = draft.wiring.read_by[index][0]
            if _source(draft, reader) != index:
                break
            chain.append(reader)
            index = reader.outputs[0]
        taken.update(item.index for item in chain)
        factor, summand = _together(draft, chain, source)
        needed = max(1, int(np.any(factor != 1)) + int(np.any(summand)))
        if len(chain) > needed and np.isfinite(factor).all() and np.isfinite(summand).all():
            change = partial(_change, chain=tuple(chain), source=source, factor=factor, summand=summand)
            found.append(Match(tuple(chain), change))
    return found


def _source(draft: Draft, op: Op) -> int | None:
    """What a step by a constant works on; ``None`` for other operators."""
    if not draft.float_op(op, *STEPS):
        return None
    read = [index for place, index in enumerate(op.inputs) if draft.values(op, place) is None]
    return read[0] if len(read) == 1 and factor_and_summand(draft, op, read[0]) is not None else None


def _together(draft: Draft, chain: list[Op], index: int) -> tuple[Array, Array]:
    factor, summand = np.ones(1), np.zeros(1)
    for op in chain:
        step = factor_and_summand(draft, op, index)
        assert step is not None  # _source has looked
        factor, summand = factor * step[0], summand * step[0] + step[1]
        index = op.outputs[0]
    return factor, summand


def _change(draft: Draft, chain: tuple[Op, ...], source: int, factor: Array, summand: Array) -> None:
    result, act = chain[-1].outputs[0], draft.act(chain[-1])
    draft.remove(*chain)
    added = bool(np.any(summand))
    if np.any(factor != 1) or not added:
        scaled = draft.activation(result, "scaled") if added else result
        draft.add("MUL", [source, _constant(draft, result, "factor", factor)], scaled, act=NONE if added else act)
        source = scaled
    if added:
        draft.add("ADD", [source, _constant(draft, result, "summand", summand)], result, act=act)


def _constant(draft: Draft, like: int, part: str, values: Array) -> int:
    """One number where all channels have the same."""
    same = np.unique(values.astype(np.float32))
    return draft.constant(like, part, same if len(same) == 1 else values.astype(np.float32))

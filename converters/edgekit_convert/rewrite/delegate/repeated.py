"""Operators that compute the same twice → once."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from functools import partial

from edgekit.graph import Op
from edgekit_convert.rewrite.delegate.draft import Draft, Match
from edgekit_convert.rewrite.fold import NOT_FIXED


def find(draft: Draft) -> list[Match]:
    """Every operator that has the name, inputs and options of an earlier one."""
    found: list[Match] = []
    seen: dict[Hashable, Op] = {}
    for op in draft.ops:
        plain = len(op.outputs) == 1 and not op.custom and op.name not in NOT_FIXED and op.inputs
        if not plain or op.outputs[0] in draft.wiring.main.outputs or any(_keeps(draft, i) for i in op.inputs):
            continue
        key = (
            op.name,
            tuple(_key(draft, index) for index in op.inputs),
            _options(draft, op),
            draft.tensor(op.outputs[0]).dtype,
        )
        if key in seen:
            found.append(Match((op,), partial(_same, op=op, first=seen[key])))
        else:
            seen[key] = op
    return found


def _keeps(draft: Draft, index: int) -> bool:
    return index >= 0 and draft.tensor(index).is_variable


def _key(draft: Draft, index: int) -> Hashable:
    data = draft.tensor(index).data if index >= 0 else None
    if data is None:
        return index
    return draft.tensor(index).dtype, draft.shape(index), hashlib.sha256(data).digest()


def _options(draft: Draft, op: Op) -> str:
    options = draft.options(op)
    return "" if options is None else repr(sorted((name, str(value)) for name, value in vars(options).items()))


def _same(draft: Draft, op: Op, first: Op) -> None:
    draft.replace_by(op, first.outputs[0])

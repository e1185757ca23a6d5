"""Operators that have no int8 form, and those that no plain runtime knows."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.graph import Op
from edgekit_convert.lint.finding import LintFinding, listed, mended
from edgekit_convert.lint.seen import Seen
from edgekit_convert.rewrite import fold

#: What a rewrite rule turns into an operator with an int8 form.
_REWRITTEN = {"SQUEEZE": "squeeze", "EXPAND_DIMS": "squeeze", "NEG": "arithmetic", "SQUARE": "arithmetic"}


def find(seen: Seen) -> Iterator[LintFinding]:
    """One finding for each kind of operator."""
    wiring = seen.wiring
    folded = {op.index for op in fold.find(seen.graph)}
    kinds: dict[str, list[Op]] = {}
    for op in wiring.main.ops:
        floats = any(wiring.is_activation(index) for index in (*op.inputs, *op.outputs))
        if op.custom or (floats and op.name not in seen.int8_operators and op.index not in folded):
            kinds.setdefault(op.name, []).append(op)
    for name, ops in kinds.items():
        yield _foreign(seen, name, ops) if ops[0].custom else _without_form(seen, name, ops)


def _foreign(seen: Seen, name: str, ops: list[Op]) -> LintFinding:
    tensors = tuple(seen.wiring.name(op) for op in ops)
    if ops[0].is_flex:
        plain = name.removeprefix("Flex")
        text = (
            f"{name} ({listed(tensors)}) is TensorFlow's own {plain}: it needs the Flex delegate, which the runtimes that pip "
            "installs do not have; it has no int8 form, and the model cannot be calibrated with it."
        )
        fix = f"Replace {plain} in the model by operators that TensorFlow Lite has, or cut the model before it."
        return LintFinding("warning", "flex", tensors, text, fix)
    text = (
        f"{name} ({listed(tensors)}) is a custom operator: only a runtime into which its kernel was built can run the model, and "
        "it stays in float."
    )
    fix = f"Cut the model before it and do its work outside, or allow it (--allow-custom {name}) where your runtime has it."
    return LintFinding("warning", "custom-operator", tensors, text, fix)


def _without_form(seen: Seen, name: str, ops: list[Op]) -> LintFinding:
    tensors = tuple(seen.wiring.name(op) for op in ops)
    values = sum(seen.wiring.tensor(index).elements for op in ops for index in op.outputs)
    times = "" if len(ops) == 1 else f" {len(ops)} times"
    text = (
        f"{name}{times} ({listed(tensors)}) has no int8 form: {values:,} values a run stay in float, with a DEQUANTIZE before and a "
        "QUANTIZE after them"
    )
    rule = seen.mends(_REWRITTEN[name]) if name in _REWRITTEN else None
    if rule is not None:
        return LintFinding("note", "no-int8-form", tensors, f"{text}.", mended(rule), (), rule)
    fix = f"Use --recipe auto, which leaves it in float, or replace {name} in the model by operators that have an int8 form."
    return LintFinding("warning", "no-int8-form", tensors, f"{text}, and --recipe int8 refuses the model.", fix)

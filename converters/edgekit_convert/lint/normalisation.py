"""Normalisation that is computed at run time: layer, instance, RMS and L2 normalisation.

Batch normalisation is not one of them: its factors are constants and are folded into the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.graph import Op
from edgekit_convert.graph.wiring import SHAPE_ONLY, Wiring
from edgekit_convert.lint.finding import LintFinding, listed
from edgekit_convert.lint.seen import Seen

_WHOLE = {"L2_NORMALIZATION": "L2 normalisation", "LOCAL_RESPONSE_NORMALIZATION": "local response normalisation"}
#: How many operators may stand between the sum of squares and its root; epsilon, a factor, reshapes.
_FAR = 8


def roots(wiring: Wiring) -> dict[int, tuple[str, tuple[Op, ...]]]:
    """Each operator that takes the root of a mean of squares: its place → what it normalises, and the operators of it."""
    found: dict[int, tuple[str, tuple[Op, ...]]] = {}
    for op in wiring.main.ops:
        if op.name not in ("RSQRT", "SQRT") and not _is_root(wiring, op):
            continue
        path = _to_squares(wiring, op)
        if path is not None:
            found[op.index] = (_kind(wiring, path), path)
    return found


def find(seen: Seen) -> Iterator[LintFinding]:
    """One finding for each kind of normalisation."""
    wiring = seen.wiring
    kinds: dict[str, list[tuple[str, list[str]]]] = {}
    for kind, path in roots(wiring).values():
        names = [wiring.name(op) for op in path]
        after = [wiring.name(op) for op in wiring.readers(path[0].outputs)]
        kinds.setdefault(kind, []).append((names[0], [*reversed(names), *after]))
    for op in wiring.main.ops:
        if op.name in _WHOLE and wiring.is_activation(op.outputs[0]):
            kinds.setdefault(_WHOLE[op.name], []).append((wiring.name(op), [wiring.name(op)]))
    for kind, places in kinds.items():
        tensors = tuple(name for name, _ in places)
        times = "" if len(places) == 1 else f" {len(places)} times"
        out = tuple(dict.fromkeys(name for _, names in places for name in names))
        text = (
            f"{kind}{times} ({listed(tensors)}): it divides by a root of sums of squares, which span far more orders of magnitude "
            "than 256 steps do; what is small rounds to 0, and its inverse is then the largest number there is."
        )
        fix = f"Leave {'its' if len(places) == 1 else 'their'} {len(out)} operators in float, or train with batch normalisation."
        yield LintFinding("warning", "normalisation", tensors, text, fix, out)


def _is_root(wiring: Wiring, op: Op) -> bool:
    exponent = wiring.constant(op.inputs[1]) if op.name == "POW" and len(op.inputs) == 2 else None
    return exponent is not None and exponent.size == 1 and abs(abs(float(exponent.reshape(-1)[0])) - 0.5) < 1e-6


def _to_squares(wiring: Wiring, root: Op) -> tuple[Op, ...] | None:
    """The operators from a root back to the squares that are summed, the root first."""
    path = [root]
    summed = False
    for _ in range(_FAR):
        op = path[-1]
        activations = [index for index in op.inputs if wiring.is_activation(index)]
        before = wiring.made_by.get(activations[0]) if activations else None
        if before is None:
            return None
        path.append(before)
        same = len(before.inputs) == 2 and before.inputs[0] == before.inputs[1]
        if before.name in ("SQUARED_DIFFERENCE", "SQUARE") or (before.name == "MUL" and same):
            return tuple(path) if summed else None
        if before.name in ("MEAN", "SUM"):
            summed = True
        elif before.name not in {"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "RELU", *SHAPE_ONLY}:
            return None
    return None


def _kind(wiring: Wiring, path: tuple[Op, ...]) -> str:
    squares, reduced = path[-1], next(op for op in reversed(path) if op.name in ("MEAN", "SUM"))
    rank = len(wiring.tensor(reduced.inputs[0]).shape)
    axes = wiring.constant(reduced.inputs[1]) if len(reduced.inputs) > 1 else None
    over = sorted(int(axis) % max(1, rank) for axis in axes.reshape(-1)) if axes is not None else []
    if rank >= 3 and over and rank - 1 not in over:
        return "instance normalisation"
    if squares.name == "SQUARED_DIFFERENCE" or any(op.name == "SUB" for op in path):
        return "layer normalisation"
    return "L2 normalisation" if reduced.name == "SUM" else "RMS normalisation"

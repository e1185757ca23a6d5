"""What an exported file is, checked against what its recipe says: types, shares, what is static, dynamic or only stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from edgekit.inspection import EDGE_OPERATORS, Inspection, LayerSummary, OpSummary, weights_of
from edgekit.modelfile import ModelFile

#: Operators whose activations are quantised at run time under the recipe ``dynamic``.
_DYNAMIC = ("CONV_2D", "FULLY_CONNECTED")
#: How layers with weights are held under each recipe that leaves the activations float.
_SCHEMES: dict[str, tuple[str, ...]] = {
    "dynamic": ("dynamic", "weights"),
    "weights": ("weights",),
    "float16": ("float16",),
}
_WHY_SCHEME = {
    "dynamic": "its weights are int8, its activations are quantised at run time",
    "weights": "its weights are only stored in int8",
    "float16": "its weights are only stored in float16",
}


@dataclass(frozen=True)
class Check:
    """One thing that the exported file was checked for.

    Attributes:
        name: what.
        passed: ``None`` where there is nothing to pass, only to know.
        text: what was seen.
    """

    name: str
    passed: bool | None
    text: str

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {"name": self.name, "passed": self.passed, "text": self.text}


def why_float(name: str, operators: frozenset[str], recipe: str = "auto") -> str:
    """Why an operator still computes on floats.

    Args:
        name: the operator's.
        operators: those that the quantizer has a form for under the recipe.
        recipe: the file's.
    """
    if name in EDGE_OPERATORS:
        return "changes the type at an edge"
    if recipe in _SCHEMES:
        return f"the recipe {recipe!r} leaves activations float"
    form = "int16" if recipe == "int16x8" else "int8"
    if name not in operators:
        return f"litert-quantizer has no {form} form of it"
    return f"litert-quantizer left it: the types or constants around it do not allow {form}"


def reasons(
    seen: Inspection, operators: frozenset[str], recipe: str, given_up: Mapping[int, str] = MappingProxyType({})
) -> tuple[tuple[str, str], ...]:
    """The operators that still compute on floats, each with why.

    Args:
        seen: the exported file.
        operators: see ``why_float``.
        recipe: the file's.
        given_up: why operators left int8, by their places.
    """
    schemes = {layer.index: layer.scheme for layer in seen.layers}
    return tuple(
        (op.name, given_up[op.index])
        if op.index in given_up
        else (op.name, _WHY_SCHEME.get(schemes.get(op.index, ""), "") or why_float(op.name, operators, recipe))
        for op in seen.float_ops
    )


def check_file(
    seen: Inspection,
    exported: ModelFile,
    io_type: str | None,
    recipe: str,
    strict: bool,
    allow_custom: tuple[str, ...],
    float_ops: tuple[tuple[str, str], ...],
) -> tuple[Check, ...]:
    """Everything that can be seen without running the file.

    Args:
        seen: the exported file.
        exported: the same.
        io_type: what the inputs and outputs should be; ``None`` where anything is right.
        recipe: what the file claims to be.
        strict: whether an operator on floats or 16-bit integers is a failure.
        allow_custom: custom operators that may be there.
        float_ops: what ``reasons`` gave.
    """
    return (
        _io_check(exported, io_type),
        *_recipe_checks(seen, exported, recipe, strict, float_ops),
        _foreign_check(seen, allow_custom),
    )


def _io_check(exported: ModelFile, io_type: str | None) -> Check:
    specs = (*exported.inputs, *exported.outputs)
    ends = [spec for spec in specs if spec.dtype in ("int8", "uint8", "float32", "int16")]
    return Check(
        "input and output types",
        all(spec.dtype == io_type for spec in ends) if io_type is not None else None,
        ", ".join(f"{spec.name} {spec.dtype}" for spec in specs),
    )


def _foreign_check(seen: Inspection, allow_custom: tuple[str, ...]) -> Check:
    foreign = [*seen.flex_ops, *(name for name in seen.custom_ops if name not in allow_custom)]
    return Check("no Flex or custom operators", not foreign, ", ".join(foreign) or "none")


def _recipe_checks(
    seen: Inspection, exported: ModelFile, recipe: str, strict: bool, float_ops: tuple[tuple[str, str], ...]
) -> list[Check]:
    """Whether the file is what its recipe says: what is int8, static or dynamic, and what is only stored so."""
    left = ", ".join(sorted({f"{name} ({why})" for name, why in float_ops})) or "none"
    if recipe == "int16x8":
        share = seen.int16_mac_share
        working = [layer for layer in seen.layers if layer.macs]
        return [
            Check(
                "multiply-accumulates with int16 activations",
                None if share is None else share == 1,
                _share_text(share, seen.macs),
            ),
            _weights_check("int8", working, [layer for layer in working if layer.scheme != "int16x8"], []),
            Check("operators left in float", None, left),
        ]
    if recipe in _SCHEMES:
        dtype = "float16" if recipe == "float16" else "int8"
        others = [layer for layer in seen.layers if layer.scheme not in _SCHEMES[recipe]]
        excused = [layer for layer in others if dtype == "float16" and _beyond_float16(exported, layer)]
        return [
            _weights_check(dtype, seen.layers, [layer for layer in others if layer not in excused], excused),
            _activations_check(seen, recipe),
        ]
    share = seen.int8_mac_share
    checks = [
        Check(
            "multiply-accumulates in int8",
            None if share is None else (share == 1 or not strict),
            _share_text(share, seen.macs),
        ),
        Check("operators left in float", not float_ops or not strict, left),
    ]
    if seen.int16_ops:
        checks.append(Check("operators with int16 activations", not strict, _names(seen.int16_ops)))
    schemes = seen.schemes()
    if set(schemes) - {"int8"}:
        text = ", ".join(f"{name} x{count}" for name, count in schemes.items())
        checks.append(Check("layers with weights", None, text))
    return checks


def _weights_check(
    dtype: str, layers: Sequence[LayerSummary], missing: Sequence[LayerSummary], excused: Sequence[LayerSummary]
) -> Check:
    """How many of the layers' weights are in the type; what is not fails, but for what that type cannot hold."""
    total = sum(layer.weight_elements for layer in layers)
    if not total:
        return Check(f"weights in {dtype}", None, "the model has none")
    others = sum(layer.weight_elements for layer in (*missing, *excused))
    text = f"{100 * (1 - others / total):.1f} % of {total:,}"
    if missing:
        text += f"; not those of {', '.join(f'{layer.name} {layer.output}' for layer in missing)}"
    if excused:
        names = ", ".join(f"{layer.name} {layer.output}" for layer in excused)
        text += f"; left float32 because some values are beyond {dtype}: those of {names}"
    return Check(f"weights in {dtype}", not missing, text)


def _activations_check(seen: Inspection, recipe: str) -> Check:
    """What the activations are under a recipe without ranges."""
    if recipe != "dynamic":
        integers = [op for op in seen.ops if op.type in ("int8", "int16")]
        return Check("activations", not integers, f"integers in {_names(integers)}" if integers else "float32")
    able = [layer for layer in seen.layers if layer.name in _DYNAMIC]
    dynamic = [layer for layer in able if layer.scheme == "dynamic"]
    macs = sum(layer.macs for layer in dynamic)
    text = "float32"
    if dynamic:
        text = f"quantised at run time in {_names(dynamic)}, {_share_text(macs / max(1, seen.macs), seen.macs)}"
        text += " multiply-accumulates; float32 in the other operators"
    return Check("activations", len(dynamic) == len(able), text)


def _beyond_float16(exported: ModelFile, layer: LayerSummary) -> bool:
    main = exported.graph.main
    found = [tensor for tensor in weights_of(main, main.ops[layer.index]) if tensor.dtype == "float32"]
    top = float(np.finfo(np.float16).max)
    return any(not np.all(np.abs(tensor.array()) <= top) for tensor in found)


def _share_text(share: float | None, macs: int) -> str:
    return "the model has none" if share is None else f"{100 * share:.1f} % of {macs:,}"


def _names(ops: Sequence[OpSummary] | Sequence[LayerSummary]) -> str:
    counts: dict[str, int] = {}
    for op in ops:
        counts[op.name] = counts.get(op.name, 0) + 1
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in counts.items())

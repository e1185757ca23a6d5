"""Which tensor is which: names changed, types changed between operators, activations fused, branches in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

from edgekit.graph import Subgraph, parse
from edgekit.tensors import QuantParams
from edgekit_convert.verify.pairing import INPUT, Pairing, pair_tensors

RELU = 1  # schema.fbs, enum ActivationFunctionType


def dense(b: models.Builder, source: int, name: str, seed: int, *, fused: int = 0) -> int:
    """Add a FULLY_CONNECTED 4 → 4 with weights of its own, and return its output."""
    weights = b.tensor(f"{name}_w", (4, 4), data=np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32))
    output = b.tensor(name, (1, 4))
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = fused
    b.op("FULLY_CONNECTED", [source, weights, -1], [output], ("FullyConnectedOptions", options))
    return output


def one_op(
    b: models.Builder, operator: str, inputs: list[int], name: str, options: tuple[str, Any] | None = None
) -> int:
    """Add an operator with an output ``[1, 4]``, and return the output."""
    output = b.tensor(name, (1, 4))
    b.op(operator, inputs, [output], options)
    return output


def graph(content: bytes) -> Subgraph:
    """The main subgraph of a file."""
    return parse(content, "the model").main


def paired(exact: bytes, rounded: bytes) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Operator, float name and other name of each pair, and the names that were not matched."""
    a, b = graph(exact), graph(rounded)
    shapes = tuple({tensor.index: tensor.shape for tensor in side.tensors} for side in (a, b))
    found: Pairing = pair_tensors(
        a, b, (shapes[0], shapes[1]), list(zip(a.inputs, b.inputs, strict=True)), list(zip(a.outputs, b.outputs, strict=True))
    )  # fmt: skip
    return (
        [(pair.operator, a.tensors[pair.exact].name, b.tensors[pair.rounded].name) for pair in found.pairs],
        [b.tensors[b.ops[index].outputs[0]].name for index in found.unmatched],
    )


def renumbered(content: bytes) -> bytes:
    """The same model with every tensor's name replaced by a number that tells nothing."""

    def change(model: Any) -> None:
        for number, tensor in enumerate(model.subgraphs[0].tensors):
            tensor.name = f"arith.constant{number}".encode()

    return models.edited(content, change)


def branches(order: tuple[str, str], prefix: str = "") -> bytes:
    """Two layers of equal shapes on one input, and their sum, both in this order."""
    b = models.Builder()
    x = b.tensor("x", (1, 4))
    made = {name: dense(b, x, prefix + name, {"left": 1, "right": 2}[name]) for name in order}
    total = one_op(b, "ADD", [made[name] for name in order], f"{prefix}sum", ("AddOptions", schema.AddOptionsT()))
    return b.build({"x": x}, {"y": one_op(b, "ABS", [total], "y")})


def test_names_that_tell_nothing() -> None:
    """The same network with other names: every tensor is found by its place in the graph."""
    pairs, missing = paired(models.conv_float(), renumbered(models.conv_float()))
    assert missing == []
    assert [(operator, name) for operator, name, _ in pairs] == [
        (INPUT, "image"), ("CONV_2D", "features"), ("MEAN", "pooled"), ("FULLY_CONNECTED", "logits"),
        ("SOFTMAX", "probabilities"),
    ]  # fmt: skip
    names = {tensor.index: tensor.name for tensor in graph(models.conv_float()).tensors}
    assert [
        f"arith.constant{number}" for number in sorted(names) if names[number] in {name for _, name, _ in pairs}
    ] == [other for _, _, other in pairs]


def test_weights_tell_equal_branches_apart() -> None:
    """Two layers of one shape on one input, in the other order and under other names."""
    pairs, missing = paired(branches(("left", "right")), branches(("right", "left"), prefix="n_"))
    assert missing == []
    assert ("FULLY_CONNECTED", "left", "n_left") in pairs
    assert ("FULLY_CONNECTED", "right", "n_right") in pairs
    assert ("ADD", "sum", "n_sum") in pairs


@pytest.mark.parametrize("fused_side", ["float", "int8"])
def test_an_activation_that_one_side_fused(fused_side: str) -> None:
    """A layer with its activation inside is compared behind the activation of the other side's."""

    def build(fuse: bool) -> bytes:
        b = models.Builder()
        x = b.tensor("x", (1, 4))
        inside = dense(b, x, "fused" if fuse else "bare", 1, fused=RELU if fuse else 0)
        behind = inside if fuse else one_op(b, "RELU", [inside], "activated")
        return b.build({"x": x}, {"y": one_op(b, "ABS", [dense(b, behind, "next", 2)], "y")})

    pairs, missing = paired(build(fused_side == "float"), build(fused_side == "int8"))
    names = ("fused", "activated") if fused_side == "float" else ("activated", "fused")
    assert pairs == [
        (INPUT, "x", "x"),
        ("FULLY_CONNECTED", *names),
        ("FULLY_CONNECTED", "next", "next"),
        ("ABS", "y", "y"),
    ]
    assert missing == []


def test_the_value_is_taken_where_it_is_held_as_integers() -> None:
    """Float input and output with type changes inside, and a float operator between two of them."""
    quant = QuantParams((0.1,), (0,))
    exact = models.Builder()
    x = exact.tensor("x", (1, 4))
    exact_file = exact.build({"x": x}, {"y": one_op(exact, "ABS", [one_op(exact, "EXP", [x], "e")], "y")})
    b = models.Builder()
    x = b.tensor("in", (1, 4))
    held = b.tensor("in_q", (1, 4), "int8", quant=quant)
    b.op("QUANTIZE", [x], [held])
    real = one_op(b, "DEQUANTIZE", [held], "in_f")
    powers = one_op(b, "EXP", [real], "powers")
    held = b.tensor("powers_q", (1, 4), "int8", quant=quant)
    b.op("QUANTIZE", [powers], [held])
    size = b.tensor("size", (1, 4), "int8", quant=quant)
    b.op("ABS", [held], [size])
    rounded = b.build({"in": x}, {"out": one_op(b, "DEQUANTIZE", [size], "out")})
    assert paired(exact_file, rounded) == (
        [(INPUT, "x", "in_q"), ("EXP", "e", "powers_q"), ("ABS", "y", "size")],
        [],
    )


def test_a_reshape_more_or_less_changes_nothing() -> None:
    """One side reshapes between two layers, the other does not."""

    def build(reshape: bool) -> bytes:
        b = models.Builder()
        x = b.tensor("x", (1, 4))
        middle = dense(b, x, "first", 1)
        if reshape:
            shape = b.tensor("shape", (2,), "int32", data=np.array([1, 4], np.int32))
            middle = one_op(b, "RESHAPE", [middle, shape], "flat")
        return b.build({"x": x}, {"y": one_op(b, "ABS", [one_op(b, "EXP", [middle], "second")], "y")})

    pairs, missing = paired(build(False), renumbered(build(True)))
    assert [(operator, name) for operator, name, _ in pairs] == [
        (INPUT, "x"), ("FULLY_CONNECTED", "first"), ("EXP", "second"), ("ABS", "y"),
    ]  # fmt: skip
    assert missing == []


def test_what_has_no_counterpart_is_told() -> None:
    """An operator that only the quantised graph has is named, and what follows is found by its weights."""
    exact = models.Builder()
    x = exact.tensor("x", (1, 4))
    exact_file = exact.build({"x": x}, {"y": one_op(exact, "ABS", [dense(exact, x, "layer", 1)], "y")})
    b = models.Builder()
    x = b.tensor("x", (1, 4))
    odd = one_op(b, "NEG", [x], "odd")
    rounded = b.build({"x": x}, {"y": one_op(b, "ABS", [dense(b, odd, "other_name", 1)], "y")})
    pairs, missing = paired(exact_file, rounded)
    assert ("FULLY_CONNECTED", "layer", "other_name") in pairs
    assert ["odd"] == missing


def test_a_name_serves_where_the_graph_does_not() -> None:
    """Behind an operator that only one side has, and without weights to know it by."""

    def build(odd: bool) -> bytes:
        b = models.Builder()
        x = b.tensor("x", (1, 4))
        start = one_op(b, "NEG", [x], "odd") if odd else x
        return b.build({"x": x}, {"y": one_op(b, "ABS", [one_op(b, "EXP", [start], "powers")], "y")})

    pairs, missing = paired(build(False), build(True))
    assert ("EXP", "powers", "powers") in pairs
    assert ["odd"] == missing


def test_nothing_is_paired_twice() -> None:
    """Two equal layers of the quantised graph cannot both be the float graph's one."""
    b = models.Builder()
    x = b.tensor("x", (1, 4))
    exact_file = b.build({"x": x}, {"y": one_op(b, "ABS", [dense(b, x, "layer", 1)], "y")})
    b = models.Builder()
    x = b.tensor("x", (1, 4))
    twice = dense(b, x, "layer", 1), dense(b, x, "copy", 1)
    rounded = b.build({"x": x}, {"y": one_op(b, "ABS", [twice[0]], "y"), "z": twice[1]})
    a, c = graph(exact_file), graph(rounded)
    shapes = ({t.index: t.shape for t in a.tensors}, {t.index: t.shape for t in c.tensors})
    found = pair_tensors(a, c, shapes, [(a.inputs[0], c.inputs[0])], [(a.outputs[0], c.outputs[0])])
    assert len({pair.exact for pair in found.pairs}) == len(found.pairs) == 3
    assert ["copy"] == [c.tensors[c.ops[index].outputs[0]].name for index in found.unmatched]

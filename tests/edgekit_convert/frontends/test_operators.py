"""Operators that a conversion cannot go on with are named, with their place, before anything is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import packed_weights as packed
import pytest
import tiny_models as models
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.errors import ConversionError
from edgekit_convert.lint.source import lint_source

DATA = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def convert(content: bytes) -> Any:
    """A conversion that takes no time."""
    return edgekit.convert(content, DATA, normalize="none", effort="fast")


def test_flex_operators_are_refused() -> None:
    """By TensorFlow's name, with the tensor that the layer makes."""
    with pytest.raises(
        ConversionError, match=r"that TFLite does not have \(Flex\): Erf at 'y'\. .*without SELECT_TF_OPS"
    ):
        convert(models.custom_op("FlexErf"))


def test_custom_operators_are_refused() -> None:
    """An interpreter without a kernel for it can measure nothing."""
    with pytest.raises(ConversionError, match="custom operators that no interpreter here can run: Mystery at 'y'"):
        convert(models.custom_op("Mystery"))


def test_several_places_are_counted() -> None:
    """The first one is named."""
    b = models.Builder()
    x, y, z = b.tensor("x", (1, 4)), b.tensor("y", (1, 4)), b.tensor("z", (1, 4))
    for source, result in ((x, y), (y, z)):
        b.op("CUSTOM", [source], [result])
        b.codes[-1].customCode = b"FlexErf"
    with pytest.raises(ConversionError, match="Erf at 'y' and 1 more"):
        convert(b.build({"x": x}, {"z": z}))


def test_control_flow_is_refused() -> None:
    """A graph that branches has no ranges of its own inside."""
    content = packed.with_entry(packed.with_entry(_branching(), _absolute(), "then"), _absolute(), "else")

    def forget(model: Any) -> None:
        model.signatureDefs = model.signatureDefs[:1]

    with pytest.raises(ConversionError, match=r"control flow, .* cannot be measured: IF at 'y'"):
        convert(models.edited(content, forget))


def _absolute() -> bytes:
    b = models.Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 4))
    b.op("ABS", [x], [y])
    return b.build({"x": x}, {"y": y})


def _branching() -> bytes:
    b = models.Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 4))
    condition = b.tensor("condition", (), "int32")
    b.tensors[condition].type = 6  # schema.fbs, TensorType.BOOL
    limit = b.tensor("limit", (), "float32", data=np.array(0, np.float32))
    axes = b.tensor("axes", (2,), "int32", data=np.array([0, 1], np.int32))
    total = b.tensor("total", ())
    b.op("SUM", [x, axes], [total], ("ReducerOptions", schema.ReducerOptionsT()))
    b.op("GREATER", [total, limit], [condition])
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    b.op("IF", [condition, x], [y], ("IfOptions", options))
    return b.build({"x": x}, {"y": y})


def test_a_function_of_its_own_is_refused_with_the_operator() -> None:
    """As other converters write a sort."""
    b = models.Builder()
    x, y = b.tensor("x", (1, 4)), b.tensor("y", (1, 4))
    b.op("STABLEHLO_SORT", [x], [y])
    sorting = packed.with_entry(b.build({"x": x}, {"y": y}), _absolute(), "compare")

    def forget(model: Any) -> None:
        model.signatureDefs = model.signatureDefs[:1]

    with pytest.raises(ConversionError, match=r"functions of their own, .* cannot be measured: STABLEHLO_SORT at 'y'"):
        convert(models.edited(sorting, forget))


def test_random_numbers_are_refused() -> None:
    """No two runs give the same, so that a conversion could neither measure nor compare."""
    b = models.Builder()
    sizes = b.tensor("sizes", (2,), "int32", data=np.array([1, 4], np.int32))
    x, noise, y = b.tensor("x", (1, 4)), b.tensor("noise", (1, 4)), b.tensor("y", (1, 4))
    b.op("RANDOM_STANDARD_NORMAL", [sizes], [noise], ("RandomOptions", schema.RandomOptionsT()))
    b.op("ADD", [x, noise], [y], ("AddOptions", schema.AddOptionsT()))
    with pytest.raises(ConversionError, match="random numbers while it runs: RANDOM_STANDARD_NORMAL at 'noise'"):
        convert(b.build({"x": x}, {"y": y}))


def test_outputs_as_long_as_the_data_say_are_refused() -> None:
    """Places of what is above zero: the file's own size of them means nothing."""
    b = models.Builder()
    x, zero = b.tensor("x", (1, 4)), b.tensor("zero", (1,), data=np.zeros(1, np.float32))
    above, places = b.tensor("above", (1, 4)), b.tensor("places", (1, 2), "int64")
    b.tensors[above].type = schema.TensorType.BOOL
    b.op("GREATER", [x, zero], [above], ("GreaterOptions", schema.GreaterOptionsT()))
    b.op("WHERE", [above], [places], ("WhereOptions", schema.WhereOptionsT()))
    with pytest.raises(ConversionError, match="the output 'y' is as long as the data say: WHERE at 'places'"):
        convert(b.build({"x": x}, {"y": places}))


def test_open_sizes_do_not_hide_the_reason() -> None:
    """Where the interpreter has to work sizes out first, the operator is named all the same."""

    def leave_open(model: Any) -> None:
        model.subgraphs[0].tensors[0].shapeSignature = [-1, 4]

    with pytest.raises(ConversionError, match=r"\(Flex\): Erf at 'y'"):
        convert(models.edited(models.custom_op("FlexErf"), leave_open))


def test_variables_are_refused() -> None:
    """Weights that a function left outside of the file are named."""
    b = models.Builder()
    x, y, handle = b.tensor("x", (1, 4)), b.tensor("y", (1, 4)), b.tensor("kernel", ())
    b.tensors[handle].type = 13  # schema.fbs, TensorType.RESOURCE
    value = b.tensor("value", (1, 4))
    options = schema.VarHandleOptionsT()
    options.sharedName, options.container = b"kernel", b""
    b.op("VAR_HANDLE", [], [handle], ("VarHandleOptions", options))
    b.op("READ_VARIABLE", [handle], [value])
    b.op("ADD", [x, value], [y], ("AddOptions", schema.AddOptionsT()))
    with pytest.raises(
        ConversionError, match="variables that are set while it runs: VAR_HANDLE at 'kernel', READ_VARIABLE at"
    ):
        convert(b.build({"x": x}, {"y": y}))


def test_a_look_at_the_structure_needs_no_interpreter() -> None:
    """``edgekit lint`` names such operators among everything else."""
    codes = {finding.code for finding in lint_source(models.custom_op("FlexErf"), DATA).findings}
    assert "flex" in codes

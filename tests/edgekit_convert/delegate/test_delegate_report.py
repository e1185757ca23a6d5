"""The report: partitions, reasons and measured costs of a whole model."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import one_op_models as ones
import pytest
import tiny_models as models

from edgekit.api import delegate_report as for_users
from edgekit.errors import EngineError, OptionError
from edgekit.inspection import inspect
from edgekit.modelfile import ModelFile
from edgekit.report.fields import table
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.assign.costs import CostTable
from edgekit_convert.delegate.learned import Capabilities
from edgekit_convert.delegate.report import GROUP_FIELDS, DelegateReport, delegate_report
from edgekit_convert.delegate.sizes import AS_ONE, with_sizes
from edgekit_convert.package.oldest import VARIABLE

XNNPACK = DelegateSpec("xnnpack", 1)
SIZE = (1, 24, 24, 16)


def chain(*names: str) -> bytes:
    """Int8 operators of one input, one behind the other; their outputs are ``t1`` and so on."""
    b = models.Builder()
    quant = models.DENSE_INPUT
    tensors = [b.tensor(f"t{number}", SIZE, "int8", quant=quant) for number in range(len(names) + 1)]
    for number, name in enumerate(names):
        inputs = [tensors[number]] * (2 if name == "ADD" else 1)
        b.op(name, inputs, [tensors[number + 1]], ones.options("AddOptions") if name == "ADD" else None)
    return b.build({"t0": tensors[0]}, {f"t{len(names)}": tensors[-1]})


def report(content: bytes, **named: object) -> DelegateReport:
    """The report for XNNPACK on one thread."""
    return delegate_report(ModelFile.read(content), XNNPACK, **named)  # type: ignore[arg-type]  # named arguments of every type


MIXED = chain("ADD", "HARD_SWISH", "ADD", "HARD_SWISH", "ABS", "ADD")


class TestReasons:
    """Without measuring."""

    def test_each_operator_outside_has_its_reason(self) -> None:
        """By name, output and kind; nothing else is outside."""
        seen = report(MIXED)
        assert [(item.name, item.output, item.reason and item.reason.kind) for item in seen.outside] == [
            ("HARD_SWISH", "t2", "type"),
            ("HARD_SWISH", "t4", "type"),
            ("ABS", "t5", "type"),
        ]
        assert seen.partitions == inspect(MIXED).partitions
        assert (seen.whole_ns, seen.breaks_ns, seen.outside[0].ns) == (None, None, None)
        assert seen.runtime == inspect(MIXED).engine

    def test_groups(self) -> None:
        """A row for operators of one name and reason, the most frequent first; empty columns are left out."""
        seen = report(MIXED)
        assert [(row.name, row.count, row.kind) for row in seen.groups()] == [
            ("HARD_SWISH", 2, "type"),
            ("ABS", 1, "type"),
        ]
        titles, rows = table(GROUP_FIELDS, seen.groups())
        assert titles == ["operator", "times", "reason", "why"]
        assert rows[1] == ["ABS", "1", "type", "XNNPACK has no kernel for ABS in int8; in float32 it is taken."]

    def test_a_model_that_is_taken_whole(self) -> None:
        """There is nothing to explain."""
        seen = report(models.conv_float())
        assert (seen.outside, seen.groups(), seen.notes) == ((), [], ())
        assert seen.summary() == "xnnpack: 4 of 4 operators in 1 partition"

    def test_without_a_delegate(self) -> None:
        """Everything is outside, and needs no reason."""
        seen = delegate_report(ModelFile.read(MIXED), DelegateSpec("none", 1))
        assert [item.reason for item in seen.outside] == [None] * 6

    def test_a_prediction(self) -> None:
        """For another device it is marked as such, in the line and in JSON."""
        seen = report(MIXED, target="some-board")
        assert seen.predicted
        assert seen.summary().startswith("predicted for some-board: xnnpack: 3 of 6 operators")
        assert seen.to_json()["predicted"] is True
        assert all(item.reason is not None and "predicted for some-board" in str(item.reason) for item in seen.outside)

    def test_json(self) -> None:
        """Everything, as plain JSON."""
        data = json.loads(json.dumps(report(MIXED).to_json()))
        assert data["outside"][0] == {
            "index": 1,
            "name": "HARD_SWISH",
            "output": "t2",
            "reason": "type",
            "text": f"XNNPACK has no kernel for HARD_SWISH in int8; in float32 it is taken (tried on {Capabilities()}).",
            "ns": None,
            "share": None,
        }
        assert (data["predicted"], data["breaks_estimate"]) == (False, None)


class TestCosts:
    """With measuring."""

    def test_what_is_outside_costs_something(self) -> None:
        """Each operator, as a share of the whole; the parts and the breaks are no more than the whole, or the breaks are free."""
        seen = report(MIXED, measure=True)
        assert seen.whole_ns is not None
        assert seen.outside_ns is not None
        assert seen.breaks_ns is not None
        assert all(item.ns is not None and item.ns > 0 for item in seen.outside)
        assert [item.share for item in seen.outside] == [(item.ns or 0) / seen.whole_ns for item in seen.outside]
        assert seen.breaks_ns >= 0
        if seen.breaks_ns > 0:
            assert seen.outside_ns + seen.breaks_ns <= seen.whole_ns

    def test_a_given_table_is_used_and_added_to(self) -> None:
        """With it the same figures follow again."""
        costs = CostTable(XNNPACK)
        first = report(MIXED, measure=True, costs=costs)
        before = costs.to_json()
        assert first == report(MIXED, measure=True, costs=costs)
        assert before == costs.to_json()

    def test_the_most_expensive_come_first(self) -> None:
        """Rows are in the order of what they cost."""
        times = [row.ns for row in report(MIXED, measure=True).groups()]
        assert times == sorted((time for time in times if time is not None), reverse=True)

    def test_of_another_runtime_nothing_is_measured(self) -> None:
        """The message says whose times they would be."""
        learned = Capabilities()
        learned.python = "/another/python"
        with pytest.raises(OptionError, match="times are measured with the interpreter of this process"):
            report(MIXED, measure=True, learned=learned)


class TestSizes:
    """Sizes that the file does not fix."""

    def test_open_sizes(self) -> None:
        """They are taken as 1, which is said."""
        model = models.edited(
            MIXED, lambda edited: [setattr(t, "shapeSignature", [-1, *SIZE[1:]]) for t in edited.subgraphs[0].tensors]
        )
        seen = report(model)
        assert (seen.notes, len(seen.outside)) == ((AS_ONE,), 3)

    def test_computed_sizes(self) -> None:
        """Each tensor has the size that it has when the model runs."""
        b = models.Builder()
        x, y = b.tensor("x", (1, 6), open_batch=True), b.tensor("y", (1, 1))
        sizes = b.tensor("sizes", (2,), "int32")
        begin, tail = b.tensor("begin", (1,), "int32", data=np.array([1], np.int32)), b.tensor("tail", (1,), "int32")
        one = b.tensor("one", (1,), "int32", data=np.array([1], np.int32))
        b.op("SHAPE", [x], [sizes], ones.options("ShapeOptions", outType=2))
        b.op("SLICE", [sizes, begin, one], [tail], ones.options("SliceOptions"))
        b.op("RESHAPE", [x, tail], [y])
        content, note = with_sizes(ModelFile.read(b.build({"x": x}, {"y": y})))
        main = ModelFile.read(content).graph.main
        assert note == AS_ONE
        assert {tensor.name: tensor.shape for tensor in main.tensors}["y"] == (6,)
        assert all(-1 not in tensor.shape_signature for tensor in main.tensors)


def test_what_runs_another_subgraph() -> None:
    """It cannot be tried or measured alone, and both are said."""

    def call_another(model: Any) -> None:
        schema = models.schema
        other, op, code = schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
        other.tensors, other.inputs, other.outputs, other.operators, other.name = [], [], [], [], b"other"
        code.builtinCode = schema.BuiltinOperator.CALL_ONCE
        code.deprecatedBuiltinCode, code.version = 127, 1
        model.operatorCodes.append(code)
        op.opcodeIndex, op.inputs, op.outputs = len(model.operatorCodes) - 1, [], []
        op.builtinOptionsType = schema.BuiltinOptions.CallOnceOptions
        op.builtinOptions = schema.CallOnceOptionsT()
        op.builtinOptions.initSubgraphIndex = 1
        model.subgraphs.append(other)
        model.subgraphs[0].operators.insert(0, op)

    seen = report(models.edited(MIXED, call_another), measure=True)
    assert [(item.name, item.reason and item.reason.kind, item.ns is None) for item in seen.outside] == [
        ("CALL_ONCE", "untried", True),
        ("HARD_SWISH", "type", False),
        ("HARD_SWISH", "type", False),
        ("ABS", "type", False),
    ]
    assert seen.notes == (
        "1 of the operators outside cannot be measured alone; their time is counted with the breaks.",
    )


class TestRefused:
    """Models that do not load."""

    def test_by_the_delegate(self) -> None:
        """The operator that it refuses is named, with what it would take."""
        with pytest.raises(
            EngineError, match="Refused is 'out0': CONV_2D in int8: the product of the input scales over the output"
        ):
            report(ones.conv(out_scale=0.0025 / 300))

    def test_by_every_kernel(self) -> None:
        """A custom operator is the runtime's own message; nothing is tried."""
        with pytest.raises(EngineError, match="unresolved custom op: Mystery") as caught:
            report(models.custom_op())
        assert "Refused is" not in str(caught.value)


def test_for_users() -> None:
    """The one call that joins the packages."""
    assert for_users(MIXED, delegate="xnnpack") == report(MIXED)


def test_another_runtime() -> None:
    """tflite-runtime's XNNPACK has no int8 on x86-64: everything is outside, and the runtime is named."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"{VARIABLE} names no environment with tflite-runtime; scripts/test makes one")
    seen = for_users(chain("ADD", "HARD_SWISH"), delegate="xnnpack", runtime_python=python)
    assert seen.runtime == "tflite-runtime 2.14.0"
    assert [item.reason and item.reason.kind for item in seen.outside] == ["type", "type"]

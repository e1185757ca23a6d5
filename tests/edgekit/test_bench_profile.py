"""A model's time by operator, held against the whole model and the machine's ceiling."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tiny_models as models

from edgekit.bench.op_times import GROUP_FIELDS, OP_FIELDS, Group, OpProfile, OpTime
from edgekit.bench.profile import _Run, profile, timed
from edgekit.bench.roofline import Roofline, copy_gbs, measure_roofline
from edgekit.errors import OptionError
from edgekit.modelfile import ModelFile
from edgekit.report.fields import table
from edgekit.runtime.delegates import DelegateSpec

CEILING = Roofline("xnnpack", 1, {"float32": 10.0, "int8": 40.0}, {1000: 50.0, 1_000_000: 5.0})


def op(index: int, name: str, median_ns: float | None, **changes: object) -> OpTime:
    """An operator's time."""
    plain = OpTime(index, name, "float", "y", (1, 2), median_ns, 1000, 500, 0, 100.0, None)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # any of its fields


def made(*ops: OpTime, together: tuple[float | None, ...] = (150.0,)) -> OpProfile:
    """A profile of these operators."""
    return OpProfile("m", "00", "xnnpack", 1, "litert 0", ops, 400.0, (390, 400, 410), together, CEILING)


def with_a_variable() -> bytes:
    """A variable that is written and read, and the negative of what was read."""
    b = models.Builder()
    x, y, read = (b.tensor(name, (2,)) for name in ("x", "y", "read"))
    handle = b.tensor("handle", (), "int32")
    b.tensors[handle].type = models.schema.TensorType.RESOURCE
    options = models.schema.VarHandleOptionsT()
    options.container, options.sharedName = b"", b"v"
    b.op("VAR_HANDLE", [], [handle], ("VarHandleOptions", options))
    b.op("ASSIGN_VARIABLE", [handle, x], [], ("AssignVariableOptions", models.schema.AssignVariableOptionsT()))
    b.op("READ_VARIABLE", [handle], [read], ("ReadVariableOptions", models.schema.ReadVariableOptionsT()))
    b.op("NEG", [read], [y], ("NegOptions", models.schema.NegOptionsT()))
    return b.build({"x": x}, {"y": y})


class TestCeiling:
    """What work takes at least."""

    def test_computing_or_moving_decides(self) -> None:
        """A million multiply-accumulates over few bytes, and few over many."""
        assert CEILING.least_ns(1_000_000, 1000, "float32") == 100_000.0
        assert CEILING.least_ns(1_000_000, 1000, "int8") == 25_000.0
        assert CEILING.least_ns(1000, 5_000_000, "float32") == 1_000_000.0

    def test_bandwidth_is_that_of_the_size(self) -> None:
        """Of the next smaller size that was measured, and of the smallest below that."""
        assert [50.0, 50.0, 50.0, 5.0, 5.0] == [
            CEILING.bandwidth(size) for size in (1, 1000, 999_999, 1_000_000, 10**9)
        ]

    def test_type_that_was_not_measured(self) -> None:
        """Nothing is said of computing in it; what only moves bytes has its ceiling."""
        partial = dataclasses.replace(CEILING, peak_gmacs={"float32": 10.0})
        assert partial.least_ns(1000, 1000, "int8") is None
        assert partial.least_ns(0, 1000, "int8") == 20.0

    @pytest.mark.parametrize("spec", [DelegateSpec("xnnpack", threads=1), DelegateSpec("none", threads=2)], ids=str)
    def test_this_machine_has_one(self, spec: DelegateSpec) -> None:
        """Both types and every size are measured, with what they were measured on; it is JSON."""
        steps: list[tuple[int, int]] = []
        found = measure_roofline(spec, progress=lambda step, done, total: steps.append((done, total)))
        assert {"float32", "int8"} == set(found.peak_gmacs)
        assert all(value > 0 for value in (*found.peak_gmacs.values(), *found.bandwidth_gbs.values()))
        assert (spec.kind, spec.threads) == (found.delegate, found.threads)
        assert found == Roofline.from_json(json.loads(json.dumps(found.to_json())))
        assert steps[-1][0] == steps[-1][1] == len(steps) - 1

    def test_copies_of_several_threads(self) -> None:
        """They are timed together, and tiny parts by one thread."""
        assert copy_gbs(4 * 1024 * 1024, threads=3) > 0
        assert copy_gbs(1024, threads=64) > 0


class TestGroups:
    """Operators together."""

    def test_by_name(self) -> None:
        """The longest first, with shares of the sum of all; what has no time counts as an operator without."""
        found = made(op(0, "ADD", 100.0), op(1, "CONV_2D", 200.0), op(2, "ADD", 100.0), op(3, "IF", None, note="no"))
        assert ["NEG", "ADD"] == [group.name for group in made(op(0, "ADD", 1.0), op(1, "NEG", 9.0)).by_name()]
        groups = {group.name: (group.count, group.total_ns, group.share) for group in found.by_name()}
        assert {"ADD": (2, 200.0, 0.5), "CONV_2D": (1, 200.0, 0.5), "IF": (1, 0.0, 0.0)} == groups
        assert (400.0, 1.0) == (found.sum_ns, found.explained)

    def test_by_partition(self) -> None:
        """Each partition with its time as one, then what is outside; rates are of the time as one."""
        found = made(op(0, "ADD", 100.0), op(1, "ADD", 200.0), op(2, "NEG", 50.0, partition=None))
        inside, outside = found.by_partition()
        assert ("xnnpack 1", 2, 300.0, 150.0) == (inside.name, inside.count, inside.total_ns, inside.together_ns)
        assert (2000 / 150.0, 200.0 / 150.0) == (inside.gmacs, inside.of_ceiling)
        assert ("outside", 1, None, 20.0, 2.0) == (
            outside.name, outside.count, outside.together_ns, outside.gmacs, outside.of_ceiling
        )  # fmt: skip

    def test_unknown_ceiling_of_one_is_unknown_of_all(self) -> None:
        """A sum with a hole in it is none."""
        found = made(op(0, "ADD", 100.0), op(1, "ADD", 100.0, ceiling_ns=None))
        assert found.by_name()[0].of_ceiling is None

    def test_tables(self) -> None:
        """Cells for people; an operator without multiply-accumulates has no rate."""
        titles, rows = table(GROUP_FIELDS, [Group("ADD", 2, 2e6, 0.25, 0, 5000, None)])
        assert {
            "operators": "ADD",
            "number": "2",
            "each alone": "2.00 ms",
            "share": "25.0 %",
            "bytes moved": "5.0 kB",
        } == dict(zip(titles, rows[0], strict=True))
        titles, rows = table(OP_FIELDS, [op(0, "CONV_2D", 2e6, macs=4_000_000, ceiling_ns=1e6)])
        cells = dict(zip(titles, rows[0], strict=True))
        assert ("4.00", "2", "50 %", "1") == tuple(cells[key] for key in ("MMAC", "GMAC/s", "of ceiling", "partition"))


class TestProfile:
    """On this machine."""

    @pytest.mark.parametrize("kind", ["xnnpack", "none"])
    def test_convolution(self, kind: str) -> None:
        """Every operator has times, bytes and its place; the delegate's partitions are those that it took."""
        model = ModelFile.read(models.conv_float())
        found = profile(model, delegate=kind, threads=1, op_ms=0.1, roofline=CEILING)
        assert [item.name for item in model.graph.main.ops] == [item.name for item in found.ops]
        assert all(len(item.times_ns) >= 5 and item.note is None for item in found.ops)
        assert all(item.median_ns == float(np.median(item.times_ns)) for item in found.ops)
        first = found.ops[0]
        tensors = model.graph.main.tensors
        parts = [tensors[index] for index in (*model.graph.main.ops[0].inputs, *model.graph.main.ops[0].outputs)]
        assert first.size_bytes == sum(4 * tensor.elements for tensor in parts)
        assert first.macs > 0
        taken = {item.index for item in found.ops if item.partition is not None}
        assert (len(found.ops) if kind == "xnnpack" else 0) == len(taken)
        assert all(value is not None for value in found.partitions_ns)
        assert (len(taken) > 0) == (len(found.partitions_ns) > 0)

    def test_file_form(self) -> None:
        """All of it is JSON and comes back equal; what is derived is in it for other tools."""
        found = profile(models.dense_int8(), delegate="xnnpack", threads=1, op_ms=0.1, roofline=CEILING)
        data = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert found == OpProfile.from_json(data)
        assert ("edgekit-profile", 1) == (data["type"], data["schema"])
        assert len(data["operators"]) == len(found.ops)
        assert all(key in data["by_name"][0] for key in ("share", "gmacs", "of_ceiling"))

    def test_operator_that_cannot_run_alone(self) -> None:
        """A variable that is read where nobody has written it is told with its reason, and the others have their times."""
        found = profile(with_a_variable(), delegate="none", threads=1, op_ms=0.1, roofline=False)
        told = {item.name: item.note for item in found.ops if item.median_ns is None}
        assert {"ASSIGN_VARIABLE", "READ_VARIABLE"} == set(told)
        assert all((note or "").startswith("cannot run alone: ") for note in told.values())
        assert {"VAR_HANDLE", "NEG"} == {item.name for item in found.ops if item.median_ns is not None}

    def test_values_are_let_go(self) -> None:
        """What no later operator reads is not held: of a large model all together may not fit the memory."""
        model = ModelFile.read(models.conv_float())
        run = _Run(model, DelegateSpec("xnnpack", threads=1), None, None, 1e5, lambda step, done, total: None)
        run.profile(False)
        assert set(model.graph.main.outputs) == set(run._values)

    def test_without_a_ceiling(self) -> None:
        """None is measured, and no operator is held against any."""
        found = profile(models.dense_float(), delegate="none", threads=1, op_ms=0.1, roofline=False)
        assert found.roofline is None
        assert [None, None] == [item.of_ceiling for item in found.ops]

    def test_progress_reaches_its_end(self) -> None:
        """Each operator is a step."""
        steps: list[tuple[str, int, int]] = []
        profile(
            models.dense_float(), delegate="none", threads=1, op_ms=0.1, roofline=False,
            progress=lambda step, done, total: steps.append((step, done, total)),
        )  # fmt: skip
        assert [number for _, number, _ in steps] == list(range(steps[-1][2] + 1))

    def test_sizes_follow_the_inputs(self) -> None:
        """Three samples at once: what the operators read and write grows, weights apart."""
        values = {"x": np.ones((3, 8), np.float32)}
        found = profile(
            models.dense_float(open_batch=True), delegate="none", threads=1, op_ms=0.1, roofline=False, inputs=values
        )
        assert [4 * (3 * 8 + 32 + 4 + 3 * 4), 4 * (3 * 4 + 3 * 4)] == [item.size_bytes for item in found.ops]

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"delegate": "gpu"}, "one by one on gpu"), ({"delegate": "none", "op_ms": 0.0}, "more than 0 was expected")],
    )
    def test_refused(self, options: dict[str, object], message: str) -> None:
        """What cannot be timed is told before anything is."""
        with pytest.raises(OptionError, match=message):
            profile(models.dense_float(), **options)  # type: ignore[arg-type]  # wrong on purpose

    def test_number_of_runs(self) -> None:
        """At least five however long they take, at most five hundred however short."""
        assert len(timed(lambda: None, 0.0)) == 5
        assert len(timed(lambda: None, 1e15)) == 500

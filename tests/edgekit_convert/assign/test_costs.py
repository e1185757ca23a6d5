"""The cost table: measured once, kept, read again, and never mixed between machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spoiled
import tiny_models as models

from edgekit.errors import DataError, OptionError
from edgekit.runtime.delegates import DelegateSpec
from edgekit_convert.assign.costs import CostTable, Form, change_ns, changes, form_of
from edgekit_convert.graph.slices import Sliceable

SPEC = DelegateSpec("none", 1)
INT8, _ = spoiled.quantised(spoiled.float_model())


def forms() -> list[Form]:
    """Each operator of the int8 network."""
    whole = Sliceable(INT8)
    return [form_of(whole, op) for op in whole.main.ops]


def filled() -> CostTable:
    """A table with all operators of the int8 network."""
    table = CostTable(SPEC)
    table.measure([[form] for form in forms()])
    return table


class TestMeasure:
    """What is measured."""

    def test_each_operator_has_a_time(self) -> None:
        """A convolution over an image takes longer than a softmax of five values."""
        table = filled()
        times = {form.key.split("(")[0]: table.ns(form.key) for form in forms()}
        assert {"CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"} == set(times)
        convolution, softmax = times["CONV_2D"], times["SOFTMAX"]
        assert convolution is not None
        assert softmax is not None
        assert convolution > softmax

    def test_keys_do_not_hold_weights(self) -> None:
        """Networks of the same shapes share their times: biases of a few values are not part of a key."""
        other, _ = spoiled.quantised(models.conv_float(seed=50))
        whole = Sliceable(other)
        assert [form.key for form in forms()] == [form_of(whole, op).key for op in whole.main.ops]

    def test_nothing_is_measured_twice(self) -> None:
        """A second call changes nothing, and only tells of what is missing."""
        table = filled()
        before = table.to_json()
        told: list[tuple[int, int]] = []
        table.measure([forms()], lambda done, total: told.append((done, total)))
        assert before == table.to_json()
        assert [] == told

    def test_what_cannot_run_has_no_time(self) -> None:
        """An operator that the interpreter refuses is known not to run."""
        table = CostTable(SPEC)
        table.measure([[Form("mystery", models.custom_op())]])
        assert table.ns("mystery") is None

    def test_changes_of_type_follow_a_line(self) -> None:
        """Between the two sizes that are measured, and beyond, time grows with the number of values; never below 0."""
        small, large = (form.key for form in changes("int8", "float32"))
        entries: dict[str, float | None] = {"an empty run": 1000.0, small: 1200.0, large: 1200.0 + 65280}
        table = CostTable(SPEC, measured_on={}, entries=entries)
        assert 200.0 == change_ns(table, "int8", "float32", 256)
        assert pytest.approx(1200.0) == change_ns(table, "int8", "float32", 1256)
        assert 0.0 == change_ns(table, "int8", "float32", 1)

    @pytest.mark.parametrize(("source", "result"), [("int8", "float32"), ("float32", "int16"), ("int16", "int8")])
    def test_each_change_runs(self, source: str, result: str) -> None:
        """The models of changes of type are valid."""
        table = CostTable(SPEC)
        table.measure([changes(source, result)])
        value = change_ns(table, source, result, 100_000)
        assert value is not None
        assert value > 0

    def test_whole_models_beside_each_other(self) -> None:
        """Models are measured in turn, and read again when the same ones are asked for."""
        table = CostTable(SPEC)
        first = table.beside({"a": INT8, "b": models.dense_int8(), "same": INT8})
        assert first["a"] == first["same"]
        assert None not in first.values()
        assert first == table.beside({"a": INT8, "b": models.dense_int8(), "same": INT8})


class TestFile:
    """The table as a file."""

    def test_round_trip(self, tmp_path: Path) -> None:
        """What is read is what was written, with the same digest; the file says of which machine it is."""
        table, path = filled(), tmp_path / "costs.json"
        table.save(path)
        again = CostTable.open(path, SPEC)
        assert table.to_json() == again.to_json()
        assert table.sha256 == again.sha256
        content = json.loads(path.read_bytes())
        assert (1, "none", 1) == (content["schema"], content["delegate"], content["threads"])
        assert {"engine", "host"} == set(content["measured_on"])

    def test_the_digest_follows_the_times(self) -> None:
        """Another time is another table."""
        first, second = (CostTable(SPEC, measured_on={}, entries={"a": value}) for value in (1.0, 2.0))
        assert first.sha256 != second.sha256

    def test_a_file_that_does_not_exist_yet(self, tmp_path: Path) -> None:
        """It begins an empty table."""
        assert {} == CostTable.open(tmp_path / "new.json", SPEC).to_json()["entries"]

    def test_another_delegate(self, tmp_path: Path) -> None:
        """Times of one delegate say nothing of another."""
        filled().save(tmp_path / "costs.json")
        with pytest.raises(OptionError, match=r"measured on the delegate none with 1 threads.*for xnnpack with 4"):
            CostTable.open(tmp_path / "costs.json", DelegateSpec("xnnpack", 4))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b"\xff\xfe",
            b'{"schema": 1}',
            b'{"schema": 1, "measured_on": {}, "entries": {"a": -1}}',
            b'{"schema": 1, "measured_on": {}, "entries": {"a": "fast"}}',
            b'{"schema": 1, "measured_on": {}, "entries": {"a": NaN}}',
        ],
    )
    def test_not_a_table(self, tmp_path: Path, content: bytes) -> None:
        """Anything else is refused, and what to do is said."""
        path = tmp_path / "costs.json"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"is not a cost table.*Give another name"):
            CostTable.open(path, SPEC)

    def test_a_newer_schema(self, tmp_path: Path) -> None:
        """A table of a later edgekit is named as such."""
        path = tmp_path / "costs.json"
        path.write_text(json.dumps({**filled().to_json(), "schema": 7}))
        with pytest.raises(DataError, match=r"schema 7.*update edgekit"):
            CostTable.open(path, SPEC)


class TestAnotherMachine:
    """A table that was measured elsewhere."""

    ELSEWHERE: dict[str, Any] = {"host": {"cpu_model": "Cortex-A53"}, "engine": "ai-edge-litert 9.9"}  # noqa: RUF012

    def test_a_complete_one_is_taken(self) -> None:
        """With all its times the same decisions follow here."""
        entries = filled().to_json()["entries"]
        table = CostTable(SPEC, measured_on=self.ELSEWHERE, entries=entries)
        table.measure([forms()])
        assert entries == table.to_json()["entries"]
        assert self.ELSEWHERE == table.measured_on

    def test_a_missing_time_is_an_error(self) -> None:
        """Times of two machines are not put into one table."""
        table = CostTable(SPEC, measured_on=self.ELSEWHERE, entries={})
        with pytest.raises(OptionError, match=r"lacks 5 times.*Cortex-A53, ai-edge-litert 9\.9.*do not go together"):
            table.measure([forms()])
        assert {"a": None} == table.beside({"a": INT8})

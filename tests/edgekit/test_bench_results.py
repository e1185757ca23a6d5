"""Figures are derived from raw samples, and a benchmark file can be read again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bench import BenchmarkReport, Case, CaseResult, Launch, Ratio, Trial
from edgekit.bench.cases import case_names
from edgekit.bench.results import FIELDS, ratio, with_ratios
from edgekit.bench.validity import verdict_of
from edgekit.errors import DataError, OutputError
from edgekit.report.fields import as_json, table


def launch(total_ns: list[int], **changes: Any) -> Launch:
    """A launch with these steady samples; the other figures are made up from the first one."""
    first = Launch(
        started_unix_s=0.0,
        asked={"delegate": "xnnpack", "threads": 1, "reason": "", "profile": None, "rejected": {}},
        got={"delegate": "none", "partitions": 0, "operators": 2, "taken": 0, "outside": {"ADD": 2}},
        engine="litert 0",
        threads=1,
        engine_import_ns=5,
        load_ns=1000,
        first_run_ns=500,
        warmup_ns=(400, 300),
        total_ns=tuple(total_ns),
        invoke_ns=tuple(value - 1 for value in total_ns),
        steady_wall_ns=sum(total_ns),
        steady_cpu_ns=2 * sum(total_ns),
        rss_before_load_bytes=100,
        rss_after_load_bytes=130,
        peak_rss_bytes=150,
        warmup_runs=2,
    )
    return dataclasses.replace(first, **changes)


def case(name: str, *launches: Launch, error: str | None = None, **fields: Any) -> CaseResult:
    """A case's result."""
    return CaseResult(Case(name, "00", 7, **fields), launches, error)


def report(*cases: CaseResult) -> BenchmarkReport:
    """A benchmark of these cases."""
    return BenchmarkReport("0.1.0", {"machine": None}, 12.5, 2, 2, 0, with_ratios(cases))


class TestFigures:
    """What is derived from the samples."""

    def test_percentiles_are_over_the_runs_of_all_launches(self) -> None:
        """p50 of 100, 200, 300, 400 over two launches is 200, nearest rank."""
        figures = as_json(FIELDS, case("m", launch([100, 400]), launch([300, 200])))
        assert (figures["p50_ns"], figures["p90_ns"], figures["p99_ns"], figures["runs"]) == (200, 400, 400, 4)

    def test_figures_of_a_launch_are_medians_over_launches(self) -> None:
        """Load, first run and memory take the middle launch, so that one slow start does not shift them."""
        result = case("m", launch([1]), launch([1], load_ns=90_000, peak_rss_bytes=151), launch([1], load_ns=2000))
        figures = as_json(FIELDS, result)
        assert (figures["load_ns"], figures["first_run_ns"], figures["peak_rss_bytes"]) == (2000, 500, 150)

    def test_memory_of_loading_is_the_growth(self) -> None:
        """Resident memory after loading minus before; unknown where the system does not tell."""
        assert as_json(FIELDS, case("m", launch([1])))["load_rss_bytes"] == 30
        unknown = launch([1], rss_before_load_bytes=None)
        assert as_json(FIELDS, case("m", unknown))["load_rss_bytes"] is None

    def test_processor_time_is_per_run(self) -> None:
        """Two runs of 10 ns on two cores are 20 ns of processor time each."""
        assert as_json(FIELDS, case("m", launch([10, 10])))["cpu_per_run_ns"] == 20

    def test_every_key_of_a_time_or_size_carries_its_unit(self) -> None:
        """Numbers in the summary end in their unit, but counts and the ratio."""
        figures = as_json(FIELDS, case("m", launch([1])))
        bare = {key for key, value in figures.items() if type(value) is int and not key.endswith(("_ns", "_bytes"))}
        assert {"threads", "launches", "runs", "warmup_runs"} == bare

    def test_table_has_asked_and_got(self) -> None:
        """A delegate that took nothing shows as a difference; one that runs is named once."""
        runs = launch([1], got={"delegate": "xnnpack", "partitions": 1, "operators": 2, "taken": 2, "outside": {}})
        titles, rows = table(FIELDS, [case("m", launch([1])), case("n", runs)])
        assert [row[titles.index("asked → got")] for row in rows] == ["xnnpack → none", "xnnpack"]

    def test_failed_case_is_a_row_with_its_error(self) -> None:
        """The row has the name and the error, and no figure."""
        titles, rows = table(FIELDS, report(case("good", launch([1])), case("bad", error="it broke")).cases)
        row = dict(zip(titles, rows[1], strict=True))
        assert {key: text for key, text in row.items() if text != "–"} == {"model": "bad", "error": "it broke"}


class TestRatio:
    """Medians compared, with an interval over launches."""

    def test_value_is_the_ratio_of_the_medians(self) -> None:
        """300 against 200 is 1.5."""
        assert ratio(case("a", launch([100, 200, 900])), case("b", launch([300, 300, 10]))).value == 1.5

    def test_single_launch_has_no_interval(self) -> None:
        """Nothing is known of the spread over launches from one."""
        one = ratio(case("a", launch([100])), case("b", launch([150])))
        assert (one.low, one.high) == (None, None)
        assert str(one) == "1.50"

    def test_interval_covers_the_spread_over_launches(self) -> None:
        """Launches at ratios 1.0 and 2.0 give an interval between them, which a steady pair does not."""
        steady = case("a", *(launch([100, 100]) for _ in range(4)))
        mixed = case("b", launch([100, 100]), launch([200, 200]), launch([100, 100]), launch([200, 200]))
        wide = ratio(steady, mixed)
        assert (wide.low, wide.high) == (1.0, 2.0)
        narrow = ratio(steady, steady)
        assert (narrow.value, narrow.low, narrow.high) == (1.0, 1.0, 1.0)

    def test_slow_minute_that_met_both_cancels(self) -> None:
        """Rounds are drawn whole: where both halve their speed together, the ratio stays."""
        first = case("a", launch([100]), launch([200]), launch([100]))
        other = case("b", launch([50]), launch([100]), launch([50]))
        found = ratio(first, other)
        assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)

    def test_interval_is_the_same_each_time(self) -> None:
        """The resampling has a fixed seed."""
        random = np.random.default_rng(3)
        first = case("a", *(launch(random.integers(90, 110, 20).tolist()) for _ in range(5)))
        other = case("b", *(launch(random.integers(50, 70, 20).tolist()) for _ in range(5)))
        assert ratio(first, other) == ratio(first, other)

    def test_failed_cases_are_not_compared(self) -> None:
        """Neither a failed case nor any against a failed first one gets a ratio, and the first itself has none."""
        good, bad = case("good", launch([1])), case("bad", error="it broke")
        assert [result.ratio for result in with_ratios((good, bad))] == [None, None]
        assert [result.ratio for result in with_ratios((bad, good))] == [None, None]
        assert with_ratios((good, good))[1].ratio is not None

    def test_a_sample_is_compared_where_batches_differ(self) -> None:
        """Four samples in 200 are half as long as one in 100."""
        one = case("a", launch([100, 100]), launch([100, 100]))
        four = CaseResult(Case("a", "00", 7, batch=4), (launch([200, 200]), launch([200, 200])))
        assert ratio(one, four) == Ratio(0.5, 0.5, 0.5)

    def test_thousands_of_runs_are_thinned_and_not_shifted(self) -> None:
        """Launches of 5000 runs that are all 1.5 times as long give 1.5, with an interval around it."""
        random = np.random.default_rng(5)
        times = [random.integers(900, 1100, 5000) for _ in range(5)]
        below = case("a", *(launch([2 * int(value) for value in row]) for row in times))
        above = case("b", *(launch([3 * int(value) for value in row]) for row in times))
        found = ratio(below, above)
        assert found.low is not None
        assert found.high is not None
        assert found.value == 1.5
        assert found.low <= 1.5 <= found.high
        assert found.high - found.low < 0.01


def test_cases_are_called_by_what_differs() -> None:
    """The model alone where that is enough; of one model, its delegates and threads, and nothing that all have."""
    cases = [
        CaseResult(Case("a", "00", 7, delegate="none", engine="litert"), ()),
        CaseResult(Case("b", "00", 7, delegate="none", threads=1, engine="litert"), ()),
        CaseResult(Case("b", "00", 7, delegate="xnnpack", threads=2, engine="litert"), ()),
        CaseResult(Case("b", "00", 7, threads=2, engine="litert"), ()),
    ]
    assert case_names(cases) == [
        "a",
        "b, none, threads 1",
        "b, xnnpack, threads 2",
        "b, the default delegate, threads 2",
    ]


class TestInterval:
    """The median over launches."""

    def test_one_slow_launch_does_not_move_it(self) -> None:
        """Four launches at 100 and one at 300: the median is 100, and the interval tells of the other."""
        found = case("m", *(launch([100, 100, 100]) for _ in range(4)), launch([300, 300, 300])).interval
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert round(found.value) == 100
        assert found.low < 60
        assert found.high > 160

    def test_without_single_runs_there_is_none(self) -> None:
        """Offline launches have a throughput in its place."""
        offline = launch([], samples=50, steady_wall_ns=2_000_000_000)
        found = case("m", offline, offline)
        assert found.interval is None
        assert found.throughput is not None
        assert found.throughput.value == pytest.approx(25.0)


def trial(rate: float, purpose: str, valid: bool, disturbance: str | None = None) -> Trial:
    """A trial of the server scenario."""
    return Trial(rate, 0, purpose, 3, 0 if valid else 2, valid, (5, 6, 7), disturbance=disturbance)


class TestHighestRate:
    """What the trials of the server scenario say together."""

    @pytest.mark.parametrize(
        ("launches", "rate", "confirmations"),
        [
            ([[(10, "search", True), (20, "search", True), (30, "search", False)]], 20, 1),
            ([[(10, "search", True), (20, "search", True)], [(20, "confirm", True)]], 20, 2),
            ([[(10, "search", True), (20, "search", True)], [(20, "confirm", False)], [(19, "confirm", True)]], 19, 1),
            ([[(20, "search", True)], [(20, "confirm", True)], [(20, "confirm", False)]], None, 0),
            ([[(10, "search", False)]], None, 0),
            ([[(15, "replay", True)], [(15, "replay", True)]], 15, 2),
            ([[(15, "replay", True)], [(15, "replay", False)]], None, 0),
        ],
        ids=["searched", "confirmed", "lowered", "refuted", "none", "replayed", "not-always"],
    )
    def test_is_one_that_no_launch_refuted(
        self, launches: list[list[tuple[float, str, bool]]], rate: float | None, confirmations: int
    ) -> None:
        """The highest that was valid wherever it was tried, and the launches in which it was."""
        found = case("m", *(launch([], trials=tuple(trial(*item) for item in items)) for items in launches))
        assert (found.highest_rate_per_s, found.confirmations) == (rate, confirmations)

    def test_a_disturbed_trial_refutes_nothing(self) -> None:
        """A rate that did not hold while the machine was disturbed is judged by the other launches, and the reason is told."""
        trials = [trial(20, "search", True), trial(20, "confirm", False, "it stood still"), trial(20, "confirm", True)]
        found = case("m", *(launch([], trials=(item,)) for item in trials), scenario="server", latency_bound_ns=5)
        assert (found.highest_rate_per_s, found.confirmations, found.disturbed_launches) == (20, 2, 1)
        reason = dict(zip(verdict_of(found).codes, verdict_of(found).reasons, strict=True))["disturbed"]
        assert reason.startswith("1 of 3 trials did not hold")
        assert "(it stood still)" in reason

    def test_launches_that_were_all_disturbed_are_not_counted(self) -> None:
        """A reader is told so, and not that the rate was valid in none of none."""
        launches = (launch([], trials=(trial(15, "replay", False, "it stood still"),)) for _ in range(2))
        found = case("m", *launches, scenario="server", latency_bound_ns=5, rate_per_s=15)
        (field,) = (item for item in FIELDS if item.key == "confirmed")
        assert field.value(found) == [0, 0]
        assert field.cell(found) == "no launch was undisturbed"

    def test_a_named_rate_is_counted_where_it_held_though_not_always(self) -> None:
        """Four of five launches kept the rate that was named: it is not a valid one, and the four are told."""
        launches = (launch([], trials=(trial(15, "replay", number != 3),)) for number in range(5))
        found = case("m", *launches, scenario="server", latency_bound_ns=5, rate_per_s=15)
        assert (found.highest_rate_per_s, found.confirmations) == (None, 4)


class TestFile:
    """The benchmark file."""

    def test_schema_one_is_read(self) -> None:
        """A file of the first schema has none of what came later."""
        data = report(case("a", launch([1, 2]))).to_json()
        data["schema"] = 1
        data["settings"] = {"runs": 2, "warmup": 2, "seed": 0}
        for item in data["cases"]:
            item["case"] = {
                key: item["case"][key]
                for key in ("model", "sha256", "size_bytes", "delegate", "device", "threads", "engine")
            }
            for row in item["launches"]:
                for key in (
                    "warmup_runs",
                    "settled",
                    "steady_started_unix_s",
                    "samples",
                    "workers",
                    "trials",
                    "conditions",
                    "energy",
                ):
                    del row[key]
        del data["interrupted"], data["verdict"]
        found = BenchmarkReport.from_json(data)
        (first,) = found.cases
        assert (first.launches[0].total_ns, first.launches[0].warmup_runs, first.case.scenario) == (
            (1, 2),
            None,
            "single-stream",
        )
        assert (found.launches, found.inputs, found.interrupted) == (None, "random", False)

    def test_everything_new_is_read_back(self) -> None:
        """Trials, conditions, energy and settings survive the way through JSON."""
        full = launch(
            [3, 4], samples=8, settled=False, workers=2, trials=(trial(9.5, "search", True),),
            conditions=({"at_s": 0.0},), energy={"joules": 1.5, "seconds": 1.0, "inferences": 8, "idle_w": None, "source": "x"},
        )  # fmt: skip
        asked = Case("a", "00", 7, batch=4, scenario="server", workers=2, latency_bound_ns=5, rate_per_s=9.5)
        saved = dataclasses.replace(
            report(CaseResult(asked, (full,))),
            runs=None,
            warmup=None,
            target=0.02,
            budget_s=9.0,
            inputs="x.npz",
            interrupted=True,
        )
        assert BenchmarkReport.from_json(json.loads(json.dumps(saved.to_json()))) == saved

    def test_interrupted_and_refuted_benchmarks_did_not_pass(self) -> None:
        """Neither what was ended early nor a named rate that does not hold is a pass."""
        good = report(case("a", launch([1])))
        named = CaseResult(
            Case("a", "00", 7, scenario="server", rate_per_s=9.0), (launch([], trials=(trial(9.0, "replay", False),)),)
        )
        assert good.passed
        assert not dataclasses.replace(good, interrupted=True).passed
        assert not report(named).passed

    def test_round_trip(self, tmp_path: Path) -> None:
        """What was saved is read back equal, raw samples and ratios included."""
        path = tmp_path / "b.json"
        saved = report(
            case("a", launch([1, 2]), launch([3, 4])), case("b", launch([2, 2])), case("c", error="it broke")
        )
        saved.save(path)
        assert saved == BenchmarkReport.read(path)
        assert not saved.passed

    def test_existing_file_is_kept(self, tmp_path: Path) -> None:
        """Without overwrite nothing is replaced."""
        path = tmp_path / "b.json"
        path.write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            report(case("a", launch([1]))).save(path)
        assert path.read_text() == "mine"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "is not a benchmark"),
            ("[]", "is not a benchmark"),
            ('{"type":"edgekit-benchmark","schema":99}', "has schema 99, this edgekit reads up to 2"),
            ('{"type":"edgekit-benchmark","schema":1}', "is damaged"),
        ],
        ids=["not-json", "other-json", "newer", "incomplete"],
    )
    def test_other_files_are_refused(self, tmp_path: Path, text: str, message: str) -> None:
        """Each foreign file is named for what it is."""
        path = tmp_path / "b.json"
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            BenchmarkReport.read(path)

    def test_missing_file_is_told(self, tmp_path: Path) -> None:
        """A wrong path is an edgekit error."""
        with pytest.raises(Exception, match="no such file"):
            BenchmarkReport.read(tmp_path / "none.json")

    def test_schema_and_type_are_in_the_file(self) -> None:
        """Readers can tell what it is."""
        data = json.loads(json.dumps(report(case("a", launch([1]))).to_json()))
        assert (data["type"], data["schema"]) == ("edgekit-benchmark", 2)
        assert data["cases"][0]["launches"][0]["total_ns"] == [1]

"""Benchmarks are compared with intervals, a gate that finds a slowdown and lets chance pass, and checks of the machines."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from bench_reports import case, launch, report, steady

from edgekit.bench.compare import chance, compare, ratio_interval
from edgekit.bench.launch import Trial
from edgekit.bench.results import BenchmarkReport
from edgekit.errors import OptionError


def measured(median_ns: float, seed: int = 0, **options: Any) -> BenchmarkReport:
    """A benchmark of one model with launches around one time."""
    return report(case("m.tflite", *steady(median_ns, seed=seed, **options)))


def host(**facts: Any) -> dict[str, Any]:
    """A machine's facts as a benchmark has them."""
    return {name: {"value": value, "source": "here"} for name, value in facts.items()}


class TestRatio:
    """How two cases differ."""

    def test_value_is_the_ratio_of_the_medians_over_launches(self) -> None:
        """A launch that was disturbed moves nothing: 200 over 100 is 2."""
        base = report(case("m", launch([100, 101, 99]), launch([100]), launch([900])))
        other = report(case("m", launch([200]), launch([200]), launch([200, 5000, 200])))
        change = compare([base, other]).against[0].changes[0]
        assert (100.0, 200.0, 2.0, (3, 3)) == (change.base_ns, change.new_ns, change.ratio, change.launches)

    def test_interval_is_of_launches(self) -> None:
        """Launches of one side are at 100 and 200, so the ratio is somewhere between 1/2 and 2."""
        base, other = np.array([100.0, 200, 100, 200, 150]), np.array([150.0] * 5)
        assert (0.75, 1.5) == ratio_interval(base, other)
        assert (1.0, 1.0) == ratio_interval(other, other)

    def test_single_launch_has_neither_interval_nor_chance(self) -> None:
        """Nothing is known of the spread; the ratio is there."""
        change = compare([report(case("m", launch([100]))), report(case("m", launch([120])))]).against[0].changes[0]
        assert (1.2, None, None, None, "not known") == (change.ratio, change.low, change.high, change.p, change.word)

    def test_chance_of_two_launches_each(self) -> None:
        """Four launches are dealt to two sides in six ways, and two of them differ as much as this one."""
        assert chance(np.array([1.0, 1.1]), np.array([2.0, 2.2])) == pytest.approx(2 / 6)

    def test_chance_of_no_difference_is_one(self) -> None:
        """Every deal of equal launches differs as much."""
        assert chance(np.full(5, 3.0), np.full(5, 3.0)) == 1.0

    def test_chance_of_sides_of_another_size(self) -> None:
        """Two launches above the other four: of fifteen deals that one and its mirror image differ as much."""
        assert chance(np.array([1.0, 1.0]), np.array([9.0, 1.0])) == 1.0
        assert chance(np.array([9.0, 9.01]), np.array([1.0, 1.01, 1.02, 1.03])) == pytest.approx(2 / 15)

    def test_launch_that_was_disturbed_hides_nothing(self) -> None:
        """Six launches of seven agree on each side, one took twice as long: the difference of the others is shown."""
        found = chance(np.array([100.0, 101, 102, 103, 104, 105, 200]), np.array([110.0, 111, 112, 113, 114, 115, 116]))
        assert found is not None
        assert found < 0.05

    def test_many_launches_are_sampled_alike(self) -> None:
        """Where there are too many deals to go through, enough are drawn, the same ones each time."""
        random = np.random.default_rng(5)
        base, other = random.normal(100, 1, 30), random.normal(100.5, 1, 30)
        found = chance(base, other)
        # The rank sum of thirty launches of sixty is about normal, with mean 30 · 61 / 2 and variance 30 · 30 · 61 / 12.
        ranks = np.argsort(np.argsort(np.concatenate([base, other])))[:30] + 1
        z = abs(ranks.sum() - 915) / math.sqrt(30 * 30 * 61 / 12)
        assert found == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.01)
        assert found == chance(base, other)


class TestGate:
    """What ``fail_over`` finds and what it lets pass."""

    def test_slowdown_is_found_every_time(self) -> None:
        """Ten per cent more, with launches that differ by one: all of 40 are found with a gate of 5 %."""
        found = [compare([measured(1e6, 2 * n), measured(1.1e6, 2 * n + 1)], fail_over=0.05).passed for n in range(40)]
        assert found.count(False) == 40

    def test_no_change_passes(self) -> None:
        """The same time, measured again 40 times: none is found slower, even at launches that differ by three per cent."""
        pairs = [(measured(1e6, 2 * n, spread=0.03), measured(1e6, 2 * n + 1, spread=0.03)) for n in range(40)]
        assert [compare(pair, fail_over=0.05).passed for pair in pairs].count(True) >= 38

    def test_faster_passes(self) -> None:
        """Less time is no failure."""
        comparison = compare([measured(1e6), measured(0.8e6, 1)], fail_over=0.0)
        assert comparison.passed
        assert comparison.against[0].changes[0].word == "faster"

    def test_over_the_gate_by_chance_passes(self) -> None:
        """The median is 10 % up, and the interval reaches below 1: launches that differ so show nothing."""
        base = report(case("m", *(launch([value]) for value in (80, 120, 100, 70, 130))))
        other = report(case("m", *(launch([value]) for value in (110, 70, 150, 60, 160))))
        comparison = compare([base, other], fail_over=0.05)
        change = comparison.against[0].changes[0]
        assert change.low is not None
        assert change.low < 1 < 1.05 < (change.ratio or 0)
        assert comparison.passed

    def test_slower_by_less_than_the_gate_passes(self) -> None:
        """Three per cent more, surely, and five are allowed; with two allowed it is found."""
        pair = [measured(1e6, spread=0.002), measured(1.03e6, 1, spread=0.002)]
        assert compare(pair, fail_over=0.05).passed
        assert not compare(pair, fail_over=0.02).passed

    @pytest.mark.parametrize(
        ("before", "after", "what"),
        [
            ((102, 102, 108, 100, 99, 101), (111, 112, 109, 119, 99, 108), "by chance"),
            ((110, 110, 101, 107, 99), (124, 118, 119, 119, 105), "from below 1"),
        ],
    )
    def test_both_tests_have_to_agree(self, before: tuple[int, ...], after: tuple[int, ...], what: str) -> None:
        """An interval above 1 whose difference chance gives as often, and a rare difference whose interval reaches below 1."""
        sides = [report(case("m", *(launch([value]) for value in values))) for values in (before, after)]
        comparison = compare(sides, fail_over=0.05)
        change = comparison.against[0].changes[0]
        assert change.ratio is not None
        assert change.low is not None
        assert change.p is not None
        assert change.ratio > 1.05
        assert (what == "by chance", what == "by chance") == (change.low > 1, change.p >= 0.05)
        assert comparison.passed

    @pytest.mark.parametrize("launches", [2, 3, 4])
    def test_few_launches_still_find_it(self, launches: int) -> None:
        """Too few for chance to be excluded: then the interval alone decides."""
        pair = [measured(1e6, launches=launches), measured(1.3e6, 1, launches=launches)]
        assert not compare(pair, fail_over=0.05).passed

    def test_case_that_fails_now_or_is_gone(self) -> None:
        """Both are worse than before; a case that failed before and one that is new are not."""
        good, bad = steady(1e6), "it broke"
        base = report(case("a", *good), case("b", *good), case("c", error=bad))
        other = report(case("a", error=bad), case("c", *good), case("d", *good))
        comparison = compare([base, other], fail_over=0.05)
        failed = {change.name: (change.failed, change.error) for change in comparison.against[0].changes}
        assert {
            "a": (True, "it broke"), "b": (True, "was not measured"),
            "c": (False, "failed before: it broke"), "d": (False, "is new"),
        } == failed  # fmt: skip
        assert ("a: it broke", "b: was not measured") == comparison.failures

    def test_another_machine_does_not_pass(self) -> None:
        """A gate that cannot judge is not passed; without a gate it is told and no more."""
        first, second = measured(1e6), report(case("m.tflite", *steady(1e6)), host=host(cpu_model="Cortex-A72"))
        comparison = compare([first, second], fail_over=0.05)
        assert not comparison.passed
        assert "another machine" in comparison.failures[0]
        assert ("the processor differs: Cortex-A76 → Cortex-A72",) == comparison.against[0].differences
        assert compare([first, second]).passed

    def test_without_a_gate_all_passes(self) -> None:
        """Twice as slow is shown."""
        comparison = compare([measured(1e6), measured(2e6, 1)])
        assert comparison.passed
        assert ("slower", False) == (comparison.against[0].changes[0].word, comparison.against[0].changes[0].failed)


class TestPairs:
    """Which cases belong together."""

    def test_same_model_in_the_same_way(self) -> None:
        """Threads tell two cases of one model apart, in the name too; the content may have changed."""
        base = report(case("m", *steady(2e6), threads=1), case("m", *steady(1e6), threads=2))
        other = report(case("m", *steady(1e6), threads=2), case("m", *steady(2e6), threads=1))
        changes = compare([base, other]).against[0].changes
        assert [("m, 1 thread", 1.0), ("m, 2 threads", 1.0)] == [(change.name, change.ratio) for change in changes]

    def test_two_single_cases_belong_together(self) -> None:
        """A model before and after a change of its name."""
        change = compare([report(case("old", *steady(2e6))), report(case("new", *steady(1e6)))]).against[0].changes[0]
        assert ("old → new", pytest.approx(0.5, rel=1e-3)) == (change.name, change.ratio)

    def test_offline_scenario_by_its_throughput(self) -> None:
        """Runs that overlap have no time of their own: samples per second, turned over."""
        fast = [launch((), samples=2000, steady_wall_ns=10**9, workers=2) for _ in range(3)]
        slow = [launch((), samples=1000, steady_wall_ns=10**9, workers=2) for _ in range(3)]
        assert compare([report(case("m", *fast)), report(case("m", *slow))]).against[0].changes[0].ratio == 2.0

    def test_server_scenario_by_its_rate(self) -> None:
        """The highest valid rate, turned over: half the rate is twice the time."""

        def served(rate: float) -> BenchmarkReport:
            trial = Trial(rate, 1, "search", 9, 0, True, (5,) * 9)
            return report(case("m", launch((), trials=(trial,)), scenario="server", latency_bound_ns=10))

        assert compare([served(100.0), served(50.0)]).against[0].changes[0].ratio == 2.0


class TestWords:
    """What is told besides the ratios."""

    def test_differences_that_are_not_the_machine(self) -> None:
        """Governor, interpreter, version: told, and the machine is the same."""
        first = report(
            case("m", *steady(1e6)), host=host(cpu_model="A", cpu_governor="ondemand", memory_bytes=2 * 10**9)
        )
        later = report(
            case("m", *(launch([10] * 20, engine="litert 1") for _ in range(5))),
            host=host(cpu_model="A", cpu_governor="performance", memory_bytes=2 * 10**9), edgekit="0.2.0",
        )  # fmt: skip
        item = compare([first, later]).against[0]
        assert item.same_host
        assert (
            "the governor differs: ondemand → performance",
            "the version of edgekit differs: 0.1.0 → 0.2.0",
            "the interpreter differs: litert 0 → litert 1",
        ) == item.differences

    @pytest.mark.parametrize(("memory_bytes", "same"), [(1_999_000_000, True), (4_000_000_000, False)])
    def test_memory_that_a_kernel_keeps_is_no_difference(self, memory_bytes: int, same: bool) -> None:
        """Half a per mille less is the same board, twice as much another."""
        first = report(case("m", *steady(1e6)), host=host(memory_bytes=2_000_000_000))
        item = compare([first, report(case("m", *steady(1e6)), host=host(memory_bytes=memory_bytes))]).against[0]
        assert (same, 0 if same else 1) == (item.same_host, len(item.differences))

    def test_unknown_machine_is_told_and_not_taken_for_another(self) -> None:
        """A benchmark without that fact says nothing against it."""
        item = compare([measured(1e6), report(case("m.tflite", *steady(1e6)), host={"x": None})]).against[0]
        assert item.same_host
        assert ("the processor differs: Cortex-A76 → not known",) == item.differences

    def test_noisy_benchmark_is_told(self) -> None:
        """Its verdict and reasons stand with the comparison."""
        warnings = compare([measured(1e6, launches=2), measured(1e6, 1)], labels=["main", "branch"]).against[0].warnings
        assert len(warnings) == 1
        assert warnings[0].startswith("main is NOISY: 2 launches:")

    def test_markdown(self) -> None:
        """A table for a pull request: one row a case, the gate's result above, what to know below."""
        text = compare([measured(1e6), measured(1.2e6, 1)], fail_over=0.05, labels=["main", "pull|request"]).markdown()
        lines = text.splitlines()
        assert "### Latency against main" == lines[0]
        assert "**FAILED** (at most 5 % slower)" in lines
        header, rule, row = [line for line in lines if line.startswith("|")]
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in (header, rule, row)}) == 1
        assert re.search(r"\| m\.tflite \| [0-9.]+ ms \| [0-9.]+ ms \| 1\.\d{3} \(1\.\d{3}–1\.\d{3}\) \|", row)
        assert "slower ✗" in row
        assert "- m.tflite takes" in text
        assert "pull\\|request" in text

    def test_markdown_of_several_names_them(self) -> None:
        """With more than two benchmarks each row says of which it is."""
        text = compare([measured(1e6), measured(1e6, 1), measured(1e6, 2)], labels=["a", "b", "c"]).markdown()
        rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
        assert ["benchmark", "b", "c"] == rows

    def test_json_has_all_of_it(self) -> None:
        """Plain JSON with the gate, each case and its figures."""
        comparison = compare([measured(1e6), measured(1e6, 1)], fail_over=0.05)
        data = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
        assert ("edgekit-comparison", 1, True, 0.05) == (
            data["type"],
            data["schema"],
            data["passed"],
            data["fail_over"],
        )
        found = data["against"][0]["cases"][0]
        assert (comparison.against[0].changes[0].ratio, [5, 5]) == (found["ratio"], found["launches"])
        assert found["others"]["load_ns"] == [1000, 1000]


class TestRefused:
    """What cannot be compared."""

    def test_one_benchmark(self) -> None:
        """There is nothing to compare it with."""
        with pytest.raises(OptionError, match="at least two were expected"):
            compare([measured(1e6)])

    @pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
    def test_gate_that_is_no_share(self, share: float) -> None:
        """A negative or endless limit makes no sense."""
        with pytest.raises(OptionError, match=r"such as 0\.05 for 5 %"):
            compare([measured(1e6), measured(1e6)], fail_over=share)

    def test_labels_for_others(self) -> None:
        """Each benchmark has one."""
        with pytest.raises(OptionError, match="1 labels for 2 benchmarks"):
            compare([measured(1e6), measured(1e6)], labels=["main"])

"""What speaks against a benchmark is found, named and graded, and a quiet one passes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine_trees
import power_trees
import pytest
from bench_reports import CALM, case, conditions, launch, report, steady

from edgekit.bench.conditions import Sampler
from edgekit.bench.launch import Trial
from edgekit.bench.validity import Verdict, of_samples, verdict, verdict_of

TIMES = [1000.0 + number for number in range(20)]
BOARD = {**CALM[0]["facts"], "model": "Raspberry Pi 5 Model B Rev 1.0"}
ZONE = "thermal_zone0 cpu-thermal"


@dataclass(frozen=True)
class Seen:
    """Conditions or a launch's figures that speak against a benchmark, and what is to be said of them."""

    id: str
    level: str
    code: str
    text: str
    samples: tuple[dict[str, Any], ...] = CALM
    launch: dict[str, Any] = dataclasses.field(default_factory=dict)


GPU = {"delegate": "gpu", "partitions": 1}
SEEN = [
    Seen("load", "NOISY", "load", "used 0.5 of the 2 processors", conditions({}, {}, {"busy_s": 115.0})),
    Seen("spinning", "INVALID", "load", "used 1.1 of the 2 processors", conditions({}, {}, {"busy_s": 120.9})),
    Seen("stolen", "NOISY", "stolen", "took 5 % of", conditions({}, {}, {"steal_s": 1.0})),
    Seen("stolen-much", "INVALID", "stolen", "took 15 % of", conditions({}, {}, {"steal_s": 3.0})),
    Seen("quota", "INVALID", "quota", "held it back for 10.0 %", conditions({"quota_s": 1.0}, {}, {"quota_s": 2.0})),
    Seen("swap", "NOISY", "swap", "15 pages were swapped", conditions({}, {}, {"swap_pages": 10})),
    Seen("swap-much", "INVALID", "swap", "pages were swapped", conditions({}, {}, {"swap_pages": 5000})),
    Seen(
        "governor", "INVALID", "governor", "ondemand → powersave",
        conditions({"governors": {"policy0": "ondemand"}}, {}, {"governors": {"policy0": "powersave"}}),
    ),
    Seen(
        "frequency", "NOISY", "frequency", "between 2160 and 2400 MHz",
        conditions({"khz": {"p": 1500000}}, {"khz": {"p": 2400000}}, {"khz": {"p": 2160000}}),
    ),
    Seen(
        "frequency-much", "INVALID", "frequency", "between 1500 and 2400 MHz",
        conditions({}, {"khz": {"p": 2400000}}, {"khz": {"p": 1500000}}),
    ),
    Seen(
        "limit", "INVALID", "frequency", "highest frequency that is allowed",
        conditions({"limit_khz": {"p": 2400000}}, {"limit_khz": {"p": 1500000}}),
    ),
    Seen(
        "limit-of-one-group", "INVALID", "frequency", "between 1000 and 1800 MHz",
        conditions({"limit_khz": {"p": 2400000, "q": 1800000}}, {"limit_khz": {"p": 2400000, "q": 1000000}}),
    ),
    Seen(
        "frequency-of-several-groups", "NOISY", "frequency", "between 1200 and 2400 MHz",
        conditions({}, {"khz": {"p": 2400000, "q": 1200000}}, {"khz": {"p": 1200000, "q": 1200000}}),
    ),
    Seen("under-voltage", "INVALID", "under-voltage", "reports under-voltage during", conditions({}, {"throttled": 0x10001})),
    Seen(
        "under-voltage-between", "INVALID", "under-voltage", "reports under-voltage during",
        conditions({"throttled": 0}, {}, {"throttled": 0x10000}),
    ),
    Seen("under-voltage-before", "NOISY", "under-voltage", "since it was started", conditions(throttled=0x10000)),
    Seen("voltage-monitor", "INVALID", "under-voltage", "the kernel's monitor", conditions({}, {"under_voltage": True})),
    Seen("capped", "INVALID", "throttled", "frequency was capped", conditions({}, {"throttled": 0x2})),
    Seen("throttling", "INVALID", "throttled", "reports throttling", conditions({}, {"throttled": 0x4})),
    Seen("soft-limit", "INVALID", "throttled", "soft temperature limit", conditions({}, {"throttled": 0x8})),
    Seen(
        "pc-throttling", "INVALID", "throttled", "slowed down for its temperature 20 times",
        conditions({"throttle_count": 10}, {}, {"throttle_count": 14}),
    ),
    Seen(
        "board-hot", "INVALID", "temperature", "reached 81 °C, and slows down from 80 °C",
        conditions({"facts": BOARD}, {"thermal_c": {ZONE: 81.2}}),
    ),
    Seen(
        "board-warm", "NOISY", "temperature", "reached 78 °C, near the 80 °C",
        conditions({"facts": BOARD}, {"thermal_c": {ZONE: 78.0}}),
    ),
    Seen(
        "zone-over-its-limit", "INVALID", "temperature", "slows down from 70 °C",
        conditions({"facts": {**CALM[0]["facts"], "trip_c": {"z soc": 70.0}}}, {"thermal_c": {"z soc": 71.0}}),
    ),
    Seen("zone-warm", "NOISY", "temperature", "is not known", conditions(thermal_c={"z soc": 84.0})),
    Seen("zone-hot", "INVALID", "temperature", "is not known", conditions(thermal_c={"z soc": 99.0})),
    Seen("delegate", "INVALID", "delegate", "xnnpack was asked for and none ran", launch={"got": {"delegate": "none"}}),
    Seen(
        "threads-not-told", "INVALID", "threads", "2 threads were asked for",
        launch={"asked": {"delegate": "xnnpack", "threads": 2}},
    ),
    Seen(
        "threads-idle", "NOISY", "threads", "1.0 processors were busy",
        launch={"asked": {"delegate": "xnnpack", "threads": 2}, "threads": 2},
    ),
    Seen("threads-more", "NOISY", "threads", "2.0 processors were busy", launch={"steady_cpu_ns": 2 * sum(map(int, TIMES))}),
    Seen(
        "threads-for-processors", "NOISY", "threads", "4 threads were asked for on 2 processors",
        launch={
            "asked": {"delegate": "xnnpack", "threads": 4}, "threads": 4, "steady_cpu_ns": 4 * sum(map(int, TIMES))
        },
    ),
    Seen("waiting", "NOISY", "waiting", "had 80 % of a processor", launch={"steady_cpu_ns": 16152}),
    Seen("waiting-long", "INVALID", "waiting", "had 50 % of a processor", launch={"steady_cpu_ns": 10095}),
    Seen("unsettled", "NOISY", "warm-up", "still had a trend", launch={"settled": False}),
    Seen("samples-without-load", "NOISY", "unrecorded", "was not recorded", ({"at_s": 0.0}, {"at_s": 9.0})),
    Seen("few-runs", "NOISY", "samples", "a launch of 4 runs", launch={"total_ns": (1000, 1001, 1002, 1003)}),
    Seen("unrecorded", "NOISY", "unrecorded", "was not recorded", samples=()),
    Seen(
        "usb", "INVALID", "usb", "480 Mbit/s",
        conditions({"facts": {**CALM[0]["facts"], "usb": {"accelerators": {"2-1": 480}, "fastest_port": 5000}}}),
        {"asked": {"delegate": "edgetpu", "threads": 1}, "got": {"delegate": "edgetpu"}},
    ),
]  # fmt: skip


class TestReasons:
    """One thing at a time on an otherwise quiet machine."""

    @pytest.mark.parametrize("seen", SEEN, ids=lambda seen: seen.id)
    def test_each_is_found_alone(self, seen: Seen) -> None:
        """The level, the kind and the words, and no other reason."""
        fields = {"total_ns": TIMES, **seen.launch}
        found = verdict_of(case("m", *(launch(watched=seen.samples, **fields) for _ in range(5))))
        assert (seen.level, (seen.code,)) == (found.level, found.codes)
        assert seen.text in found.reasons[0]

    def test_quiet_machine_is_valid(self) -> None:
        """Five launches that agree, on a machine that did nothing else."""
        found = verdict(report(case("m", *steady(1e6))))
        assert ("VALID", ()) == (found.level, found.reasons)
        assert found.valid

    def test_slow_usb_is_no_reason_where_there_is_no_faster(self) -> None:
        """A board with USB 2 alone is measured as it is."""
        facts = {**CALM[0]["facts"], "usb": {"accelerators": {"1-1": 480}, "fastest_port": 480}}
        fields = {"asked": {"delegate": "edgetpu", "threads": 1}, "got": {"delegate": "edgetpu"}}
        items = [launch(TIMES, conditions({"facts": facts}), **fields) for _ in range(5)]
        assert verdict_of(case("m", *items)).valid

    def test_idle_frequency_is_no_reason(self) -> None:
        """A frequency that is low before the model runs, and once it has ended, says nothing of the runs."""
        samples = conditions({"khz": {"p": 600000}}, {"khz": {"p": 2400000}}, {"khz": {"p": 2400000}})
        later = {"at_s": 11.0, "busy_s": 110.2, "steal_s": 0.0, "own_s": 10.9, "swap_pages": 7, "khz": {"p": 600000}}
        assert verdict_of(case("m", *(launch(TIMES, (*samples, later)) for _ in range(5)))).valid

    def test_one_disturbed_launch_of_five_is_noise(self) -> None:
        """Others took both processors once; the median launch was undisturbed."""
        disturbed = launch(TIMES, conditions({}, {}, {"busy_s": 125.0}))
        found = verdict_of(case("m", disturbed, *(launch(TIMES) for _ in range(4))))
        assert ("NOISY", ("load",)) == (found.level, found.codes)
        assert "at worst" in found.reasons[0]

    def test_few_launches(self) -> None:
        """One launch is told from the five that are the least."""
        found = verdict_of(case("m", launch(TIMES)))
        assert ("NOISY", ("samples",)) == (found.level, found.codes)
        assert found.reasons[0].startswith("1 launch:")

    @pytest.mark.parametrize(("factor", "level"), [(1.05, "NOISY"), (1.5, "INVALID")])
    def test_launches_that_differ(self, factor: float, level: str) -> None:
        """Half of the launches take longer: what the model takes is not known well, or not at all."""
        slow = [value * factor for value in TIMES]
        found = verdict_of(case("m", *(launch(slow if number % 2 else TIMES) for number in range(6))))
        assert (level, ("spread",)) == (found.level, found.codes)

    def test_launches_of_many_workers(self) -> None:
        """Without single runs there is no rule about their number, and each worker may keep its processors busy."""
        fields = {"total_ns": (), "samples": 2000, "steady_wall_ns": 10**9, "steady_cpu_ns": 2 * 10**9, "workers": 2}
        assert verdict_of(case("m", *(launch(**fields) for _ in range(5)))).valid

    def test_pauses_between_queries_are_no_waiting(self) -> None:
        """A server that is asked now and then leaves its processor idle."""
        trial = Trial(10.0, 1, "search", 20, 0, True, (1000,) * 20)
        fields = {"total_ns": (), "trials": (trial,), "steady_wall_ns": 10**9, "steady_cpu_ns": 10**8}
        assert verdict_of(case("m", *(launch(**fields) for _ in range(5)))).valid


class TestWhole:
    """A benchmark of several cases."""

    def test_worst_case_decides(self) -> None:
        """The grave reason comes first, each with its case's name, the same one once."""
        noisy = case("one", *(launch(TIMES, conditions({}, {}, {"swap_pages": 9})) for _ in range(5)))
        bad = case("two", *(launch(TIMES, got={"delegate": "none"}) for _ in range(5)))
        found = verdict(report(noisy, bad))
        assert ("INVALID", ("delegate", "swap")) == (found.level, found.codes)
        assert found.reasons[0].startswith("two: xnnpack")
        assert found.reasons[1].startswith("one: ")

    def test_nothing_measured_is_invalid(self) -> None:
        """A benchmark whose every case failed has no valid figure."""
        assert ("INVALID", ("nothing",)) == (lambda it: (it.level, it.codes))(
            verdict(report(case("m", error="it broke")))
        )

    def test_failed_case_beside_a_good_one_says_it_itself(self) -> None:
        """Its error is its own; the other's figures are as good as they were."""
        assert verdict(report(case("m", *steady(1e6)), case("bad", error="it broke"))).valid

    def test_text_and_json(self) -> None:
        """One line for people, all fields for programs."""
        found = Verdict("NOISY", ("15 pages were swapped",), ("swap",))
        assert str(found) == "NOISY: 15 pages were swapped"
        assert {"level": "NOISY", "reasons": ["15 pages were swapped"], "codes": ["swap"]} == found.to_json()


class TestRecordedMachines:
    """From a planted machine's files to the verdict, through the sampler."""

    def test_quiet_board(self, tmp_path: Path) -> None:
        """A Raspberry Pi 5 at 49 °C that does nothing else."""
        root = machine_trees.plant(tmp_path, power_trees.PI5)
        with Sampler(root, period_s=3600) as sampler:
            power_trees.change(root, {"sys/class/thermal/thermal_zone0/temp": "49900\n"})
        assert of_samples(sampler.samples).valid

    def test_load_of_others(self, tmp_path: Path) -> None:
        """An hour of processor time went by that no child of ours used: the clock says how many processors that was."""
        root = machine_trees.plant(tmp_path, power_trees.PI5)
        with Sampler(root, period_s=3600) as sampler:
            power_trees.spend(root, busy_s=3600.0)
        found = of_samples(sampler.samples)
        assert ("INVALID", ("load",)) == (found.level, found.codes)

    @pytest.mark.parametrize(
        ("file", "text", "code"),
        [
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n", "under-voltage"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "80008\n", "throttled"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n", "under-voltage"),
            ("sys/class/thermal/thermal_zone0/temp", "84000\n", "temperature"),
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n", "governor"),
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1500000\n", "frequency"),
            ("proc/vmstat", "pswpin 5100\npswpout 20\n", "swap"),
        ],
    )
    def test_board_that_changes(self, tmp_path: Path, file: str, text: str, code: str) -> None:
        """One file changes while the model runs, and that is the first reason."""
        root = machine_trees.plant(tmp_path, power_trees.PI5)
        with Sampler(root, period_s=3600) as sampler:
            power_trees.change(root, {file: text})
        found = of_samples(sampler.samples)
        assert ("INVALID", code) == (found.level, found.codes[0])

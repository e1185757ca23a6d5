"""Energy is read from counters, chips and meters' files, idle is subtracted, and without a source there is none."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import machine_trees
import numpy as np
import power_trees
import pytest
from bench_reports import case, launch, report

from edgekit.bench.energy import CsvMeter, Meter, PmicMeter, RaplMeter, energy_of, no_source, per_inference
from edgekit.bench.firmware import pmic_watts
from edgekit.bench.meter_csv import Power, read_power, with_meter
from edgekit.errors import DataError, EngineError

PACKAGE = "sys/class/powercap/intel-rapl:0/energy_uj"


@pytest.fixture
def pc(tmp_path: Path) -> Path:
    """A planted PC with power counters."""
    return machine_trees.plant(tmp_path, power_trees.RAPL)


class TestCounters:
    """The counters of x86 processors."""

    def test_packages_and_memory_count_once(self, pc: Path) -> None:
        """Cores are in their package and the platform has both in it: neither is counted again."""
        meter = Meter.find(pc)
        assert isinstance(meter, RaplMeter)
        assert meter.source == "RAPL (package-0, dram, package-1)"
        meter.start()
        power_trees.change(
            pc,
            {
                PACKAGE: "4000000\n",
                "sys/class/powercap/intel-rapl:0:0/energy_uj": "99000000\n",
                "sys/class/powercap/intel-rapl:0:1/energy_uj": "750000\n",
                "sys/class/powercap/intel-rapl:1/energy_uj": "2500000\n",
                "sys/class/powercap/intel-rapl:2/energy_uj": "99000000\n",
            },
        )
        assert meter.stop() == pytest.approx(3.0 + 0.25 + 0.5)

    def test_counter_that_goes_round(self, pc: Path) -> None:
        """It begins again at zero behind its range."""
        power_trees.change(pc, {PACKAGE: "262143000000\n"})
        meter = Meter.find(pc)
        assert meter is not None
        meter.start()
        power_trees.change(pc, {PACKAGE: "671150\n"})
        assert meter.stop() == pytest.approx((262143328850 - 262143000000 + 671150) / 1e6)

    def test_it_can_be_started_again(self, pc: Path) -> None:
        """The second count begins at nothing."""
        meter = Meter.find(pc)
        assert meter is not None
        for energy in ("2000000\n", "2500000\n"):
            meter.start()
            power_trees.change(pc, {PACKAGE: energy})
            found = meter.stop()
        assert found == pytest.approx(0.5)

    def test_counter_that_vanishes(self, pc: Path) -> None:
        """What cannot be read any more is an error, not a figure."""
        meter = Meter.find(pc)
        assert meter is not None
        meter.start()
        (pc / PACKAGE).unlink()
        with pytest.raises(EngineError, match="no longer answers"):
            meter.stop()

    def test_record_of_a_launch(self, pc: Path) -> None:
        """Joules, time, number of inferences, idle and the source: plain JSON."""
        meter = Meter.find(pc)
        assert meter is not None
        meter.start()
        power_trees.change(pc, {PACKAGE: "3000000\n"})
        found = json.loads(json.dumps(meter.reading(50, 1.5)))
        assert {"joules": 2.0, "inferences": 50, "idle_w": 1.5, "source": meter.source} == {
            key: value for key, value in found.items() if key != "seconds"
        }
        assert found["seconds"] == pytest.approx(meter.seconds)

    def test_idle_is_power(self, pc: Path) -> None:
        """Joules over seconds, measured while nothing is done."""
        meter = Meter.find(pc)
        assert meter is not None
        assert meter.idle_w(0.001) == 0.0


class TestPowerChip:
    """The rails of a Raspberry Pi 5."""

    def test_power_is_summed_over_time(self, tmp_path: Path) -> None:
        """A steady power times the time."""
        power_trees.change(tmp_path, {"recorded/vcgencmd pmic_read_adc.txt": power_trees.PMIC})
        meter = Meter.find(tmp_path)
        assert isinstance(meter, PmicMeter)
        meter.start()
        joules = meter.stop()
        assert joules == pytest.approx((pmic_watts(power_trees.PMIC) or 0) * meter.seconds, rel=0.05, abs=1e-3)

    def test_chip_that_no_longer_answers(self, tmp_path: Path) -> None:
        """One reading is no energy."""
        power_trees.change(tmp_path, {"recorded/vcgencmd pmic_read_adc.txt": power_trees.PMIC})
        meter = Meter.find(tmp_path)
        assert meter is not None
        meter.start()
        (tmp_path / "recorded/vcgencmd pmic_read_adc.txt").unlink()
        with pytest.raises(EngineError, match="fewer than two readings"):
            meter.stop()


class TestNone:
    """Machines without a source."""

    def test_virtual_machine(self, tmp_path: Path) -> None:
        """No counters at all: no meter, and a sentence that says what would help."""
        root = machine_trees.plant(tmp_path, machine_trees.X86_64_PC)
        assert Meter.find(root) is None
        assert no_source(root).startswith("no source: this machine has no energy counter")

    def test_board_whose_command_is_silent(self, tmp_path: Path) -> None:
        """A Raspberry Pi 5 has the chip, and the user may lack the group."""
        root = machine_trees.plant(tmp_path, machine_trees.RASPBERRY_PI_5)
        assert Meter.find(root) is None
        assert "group video" in no_source(root)

    def test_counters_that_do_not_answer(self, pc: Path) -> None:
        """Since Linux 5.10 only root may read them: counters whose value cannot be had are told from a machine without."""
        for path in list(pc.rglob("energy_uj")):
            path.unlink()
        assert Meter.find(pc) is None
        assert "sys/class/powercap/intel-rapl:0/energy_uj" in no_source(pc)


class TestPerInference:
    """From launches' readings to joules per inference."""

    def reading(self, joules: float, **changes: Any) -> dict[str, Any]:
        """Ten seconds and a hundred inferences on a machine that takes 2 W idle."""
        return {
            "joules": joules,
            "seconds": 10.0,
            "inferences": 100,
            "idle_w": 2.0,
            "source": "RAPL (package-0)",
            **changes,
        }

    def test_idle_is_subtracted(self) -> None:
        """30 J in 10 s at 2 W idle are 10 J for a hundred inferences."""
        found = energy_of([self.reading(30.0)] * 3)
        assert found is not None
        assert [pytest.approx(0.1)] * 3 == [found.joules, found.low, found.high]
        assert (2.0, 3) == (found.idle_w, found.launches)
        assert "100 mJ per inference (100 mJ to 100 mJ), idle's 2.00 W subtracted, RAPL (package-0)" == str(found)

    def test_interval_is_of_launches(self) -> None:
        """Three launches at 0.1, 0.2 and 0.3 J: the mean and Student's interval with two degrees of freedom (4.303 × 0.1 / √3)."""
        found = energy_of([self.reading(joules) for joules in (30.0, 40.0, 50.0)])
        assert found is not None
        assert found.low is not None
        assert 0.2 == pytest.approx(found.joules)
        assert pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4) == found.joules - found.low

    def test_idle_that_is_not_known_is_not_subtracted_anywhere(self) -> None:
        """One launch without it: all are told with idle in them."""
        found = energy_of([self.reading(30.0), self.reading(30.0, idle_w=None)])
        assert found is not None
        assert (0.3, None, None) == (found.joules, found.low, found.idle_w)
        assert "with the idle machine's" in str(found)

    def test_case_without_readings_has_none(self) -> None:
        """No source, no figure."""
        assert per_inference(case("m", launch([5]), launch([5]))) is None

    def test_case_with_readings(self) -> None:
        """Launches that have one count."""
        found = per_inference(case("m", launch([5], energy=self.reading(30.0)), launch([5])))
        assert found is not None
        assert (0.1, 1) == (found.joules, found.launches)


HEADS = [
    ("time,power\n0,5\n10,5\n", 50.0),
    ("timestamp;power (mW)\n0;5000\n10;5000\n", 50.0),
    ("Time (ms)\tVoltage (V)\tCurrent (mA)\n0\t5\t1000\n10000\t5\t1000\n", 50.0),
    ("sample,unix_s,voltage_mv,current_ma\n1,0,5000,1000\n2,10,5000,1000\n", 50.0),
    ("time,u,i\n0,5,1\n10,5,3\n", 100.0),
    ("date,watts\n1970-01-01T00:00:00Z,5\n1970-01-01T00:00:10+00:00,5\n", 50.0),
    ("# a meter's own words, first\nfirmware 1.2\ntime,w\n0,5\n10,5\n\n7,", 50.0),
    ("time,power\n10,5\n0,5\n4,nan\n", 50.0),
    ("\ufefftime,power\n0,5\n10,5\n", 50.0),
]


class TestMeterFile:
    """What an external meter's program wrote."""

    @pytest.mark.parametrize(("text", "joules"), HEADS, ids=[str(number) for number in range(len(HEADS))])
    def test_headings_and_units(self, tmp_path: Path, text: str, joules: float) -> None:
        """Separators, names, units, dates, lines before the head and torn ones after it."""
        path = tmp_path / "meter.csv"
        path.write_text(text, encoding="utf-8")
        assert read_power(path).joules() == pytest.approx(joules)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is not a meter's file"),
            ("time,temperature\n1,2\n", "is not a meter's file"),
            ("time,voltage\n1,2\n", "is not a meter's file"),
            ("time,power (horses)\n1,2\n", "is not a meter's file"),
            ("time,power\n", "no readings below it"),
            ("time,power\nyesterday,much\n", "no readings below it"),
        ],
    )
    def test_other_files_are_refused(self, tmp_path: Path, text: str, message: str) -> None:
        """What is missing is named."""
        path = tmp_path / "meter.csv"
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_power(path)

    def test_missing_file(self, tmp_path: Path) -> None:
        """It is told when the meter is named, not after the benchmark."""
        with pytest.raises(DataError, match="no such file"):
            Meter.find(tmp_path, csv=tmp_path / "none.csv")

    def test_part_of_it(self) -> None:
        """Both ends are put in between the readings beside them."""
        power = Power(np.array([0.0, 2.0, 4.0]), np.array([0.0, 4.0, 4.0]))
        part = power.between(1.0, 3.0)
        assert ([1.0, 2.0, 3.0], [2.0, 4.0, 4.0]) == (part.times_s.tolist(), part.watts.tolist())
        assert part.joules() == 7.0
        assert part.mean_w() == 3.5

    def test_part_that_was_not_recorded(self) -> None:
        """A meter that ended early is told with both times."""
        with pytest.raises(DataError, match=r"from 1\.0 to 9\.0 .* from 0\.0 to 4\.0"):
            Power(np.array([0.0, 4.0]), np.array([1.0, 1.0])).between(1.0, 9.0)

    def test_hole(self) -> None:
        """Nothing is assumed of seconds without a reading, and a hole elsewhere does not matter."""
        power = Power(np.array([0.0, 1.0, 9.0, 10.0, 11.0]), np.ones(5))
        with pytest.raises(DataError, match="a hole of 8 s"):
            power.between(0.5, 9.5)
        assert power.between(9.5, 10.5).joules() == 1.0

    def test_live_meter(self, tmp_path: Path) -> None:
        """A file that reaches over the time of the runs gives their joules."""
        path = tmp_path / "meter.csv"
        path.write_text("time,power\n0,3\n1,3\n")
        meter = Meter.find(csv=path)
        assert isinstance(meter, CsvMeter)
        meter.start()
        now = meter._from_unix_s
        path.write_text("time,power\n" + "".join(f"{now + step:.3f},3\n" for step in range(-4, 60, 4)))
        assert meter.stop() == pytest.approx(3 * meter.seconds, abs=1e-4)

    def test_live_meter_that_writes_late(self, tmp_path: Path) -> None:
        """What the meter's program has not written yet is waited for."""
        path = tmp_path / "meter.csv"
        path.write_text("time,power\n0,3\n1,3\n")
        meter = Meter.find(csv=path)
        assert isinstance(meter, CsvMeter)
        meter.start()
        now = meter._from_unix_s

        def write() -> None:
            path.write_text("time,power\n" + "".join(f"{now + step:.3f},3\n" for step in range(-4, 60, 4)))

        later = threading.Timer(0.3, write)
        later.start()
        assert meter.stop() == pytest.approx(3 * meter.seconds, abs=1e-4)
        later.join()

    def test_finished_benchmark(self, tmp_path: Path) -> None:
        """Each launch gets its own part, idle is the power before the benchmark, and the meter's clock may be ahead."""
        path = tmp_path / "meter.csv"
        rows = [(second, 2.0 if second < 150 else 7.0) for second in range(105, 180)]
        path.write_text("time,power\n" + "".join(f"{second},{watts}\n" for second, watts in rows))
        launches = [
            launch([10**9] * 4, steady_started_unix_s=151.0 - 5.0, steady_wall_ns=4 * 10**9),
            launch([10**9] * 8, steady_started_unix_s=160.0 - 5.0, steady_wall_ns=8 * 10**9),
        ]
        found = with_meter(report(case("m", *launches), started_unix_s=149.0 - 5.0), path, ahead_s=5.0)
        readings = [dict(item.energy or {}) for item in found.cases[0].launches]
        assert [(28.0, 4.0, 4, 2.0), (56.0, 8.0, 8, 2.0)] == [
            (item["joules"], item["seconds"], item["inferences"], item["idle_w"]) for item in readings
        ]
        energy = per_inference(found.cases[0])
        assert energy is not None
        assert energy.joules == pytest.approx(5.0)

    def test_benchmark_that_does_not_know_its_times(self, tmp_path: Path) -> None:
        """A file of schema 1 cannot be joined with a meter's."""
        path = tmp_path / "meter.csv"
        path.write_text("time,power\n0,3\n1,3\n")
        with pytest.raises(DataError, match="does not say when"):
            with_meter(report(case("m", dataclasses.replace(launch([5]), steady_started_unix_s=None))), path)

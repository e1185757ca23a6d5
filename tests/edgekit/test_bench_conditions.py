"""Samples of a machine's conditions hold what its files say, and nothing where there is nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import machine_trees
import power_trees
import pytest

from edgekit.bench.conditions import Reader, Sampler
from edgekit.bench.firmware import pmic_watts

HOUR_S = 3600.0


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    """A planted machine of two processors."""
    return machine_trees.plant(tmp_path, power_trees.QUIET)


@pytest.fixture
def pi5(tmp_path: Path) -> Path:
    """A planted Raspberry Pi 5."""
    return machine_trees.plant(tmp_path, power_trees.PI5)


class TestSample:
    """One reading of a recorded machine."""

    def test_processor_time_is_what_was_not_idle(self, quiet: Path) -> None:
        """User, nice, system and interrupts count, in ticks of 10 ms; idle, waiting and stolen time do not."""
        power_trees.spend(quiet, busy_s=2.0, steal_s=0.5)
        found = Reader(quiet).sample()
        assert (3.0, 0.5) == (found["busy_s"], found["steal_s"])

    def test_own_time_counts_children_running_and_ended(self, quiet: Path) -> None:
        """Ended children have 0.1 s, the running child 0.5 s; a name with brackets shifts nothing."""
        assert Reader(quiet).sample()["own_s"] == pytest.approx(0.6)

    def test_children_from_before_are_others(self, quiet: Path) -> None:
        """A child that was there at the beginning counts neither while it runs nor once it has ended, a new one does."""
        reader = Reader(quiet)
        reader.begin()
        assert reader.sample()["own_s"] == pytest.approx(0.1)
        power_trees.change(
            quiet,
            {
                "proc/self/task/41/children": "42 43 \n",
                "proc/43/stat": "43 (x) R 41 41 41 0 -1 4194304 99 0 0 0 20 10 0 0 20 0 1 0 48 313 37\n",
            },
        )
        power_trees.spend(quiet, own_s=1.0)
        assert reader.sample()["own_s"] == pytest.approx(0.1 + 0.3)
        (quiet / "proc/42/stat").unlink()
        power_trees.change(
            quiet,
            {
                "proc/self/task/41/children": "43 \n",
                "proc/self/stat": "41 (a (b) c) S 1 41 41 0 -1 4194304 99 0 0 0 30 10 160 0 20 0 1 0 48 313 37\n",
            },
        )
        assert reader.sample()["own_s"] == pytest.approx(0.1 + 0.3)

    def test_counters_are_sums(self, quiet: Path) -> None:
        """Pages of both directions, and the container's held-back time in seconds."""
        found = Reader(quiet).sample()
        assert (120, 0.25) == (found["swap_pages"], found["quota_s"])

    def test_board_tells_its_frequencies_and_flags(self, pi5: Path) -> None:
        """Governor, frequency, limit, temperature, firmware flags and the voltage monitor of a Raspberry Pi."""
        power_trees.change(pi5, {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n"})
        found = Reader(pi5).sample()
        assert {"policy0": "ondemand"} == found["governors"]
        assert ({"policy0": 2400000}, {"policy0": 2400000}) == (found["khz"], found["limit_khz"])
        assert {"thermal_zone0 cpu-thermal": 48.85} == found["thermal_c"]
        assert (0x50005, False) == (found["throttled"], found["under_voltage"])

    def test_flags_come_from_the_command_where_there_is_no_file(self, pi5: Path) -> None:
        """Newer kernels have no such file; the command is asked only when time does not matter."""
        (pi5 / "sys/devices/platform/soc/soc:firmware/get_throttled").unlink()
        power_trees.change(pi5, {"recorded/vcgencmd get_throttled.txt": "throttled=0xe0008\n"})
        reader = Reader(pi5)
        assert reader.sample(slow=True)["throttled"] == 0xE0008
        assert "throttled" not in reader.sample()

    def test_facts_of_a_board(self, pi5: Path) -> None:
        """Its name, processors, the lowest temperature at which it slows down, and the speed of its ports."""
        power_trees.change(
            pi5,
            {
                **machine_trees.CORAL_USB,
                "sys/bus/usb/devices/2-1/speed": "480\n",
                "sys/class/thermal/thermal_zone0/trip_point_1_type": "active\n",
                "sys/class/thermal/thermal_zone0/trip_point_1_temp": "50000\n",
                "sys/class/thermal/thermal_zone0/trip_point_2_type": "passive\n",
                "sys/class/thermal/thermal_zone0/trip_point_2_temp": "85000\n",
            },
        )
        facts = Reader(pi5).facts()
        assert ("Raspberry Pi 5 Model B Rev 1.0", 2) == (facts["model"], facts["cores"])
        assert {"thermal_zone0 cpu-thermal": 85.0} == facts["trip_c"]
        assert {"accelerators": {"2-1": 480}, "fastest_port": 5000} == facts["usb"]

    def test_slow_downs_of_a_pc_are_counted(self, quiet: Path) -> None:
        """Core and package of every processor."""
        for number in range(2):
            folder = f"sys/devices/system/cpu/cpu{number}/thermal_throttle"
            power_trees.change(
                quiet, {f"{folder}/core_throttle_count": "2\n", f"{folder}/package_throttle_count": "3\n"}
            )
        assert Reader(quiet).sample()["throttle_count"] == 10

    def test_frequencies_of_an_old_kernel(self, quiet: Path) -> None:
        """Without policies they lie with each processor."""
        power_trees.change(quiet, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1200000\n"})
        assert Reader(quiet).sample()["khz"] == {"cpu0": 1200000}

    def test_empty_machine_tells_nothing(self, tmp_path: Path) -> None:
        """A sample of a tree without files is empty, and so are the facts."""
        assert {} == Reader(tmp_path).sample(slow=True)
        assert {"cores": None, "model": None, "trip_c": {}, "sources": []} == {
            key: value for key, value in Reader(tmp_path).facts().items() if key != "usb"
        }

    @pytest.mark.parametrize("text", ["", "cpu\n", "cpu x y z w v\n", "\0\xff" * 500, "9" * 100_000])
    def test_garbage_is_never_an_error(self, pi5: Path, text: str) -> None:
        """Every file that is read may hold anything."""
        for path in [path for path in pi5.rglob("*") if path.is_file()]:
            path.write_text(text)
        assert isinstance(Reader(pi5).sample(slow=True), dict)


class TestSampler:
    """Samples around a piece of work."""

    def test_first_and_last_are_always_taken(self, pi5: Path) -> None:
        """Entering and leaving take one each, the first with the facts; all of it is JSON."""
        with Sampler(pi5, period_s=HOUR_S) as sampler:
            power_trees.change(pi5, {"sys/class/thermal/thermal_zone0/temp": "81000\n"})
        first, last = json.loads(json.dumps(sampler.samples))
        assert [48.85, 81.0] == [item["thermal_c"]["thermal_zone0 cpu-thermal"] for item in (first, last)]
        assert "facts" in first
        assert "facts" not in last
        assert 0 <= first["at_s"] <= last["at_s"]

    def test_it_takes_more_while_work_goes_on(self, quiet: Path) -> None:
        """Every period another sample is taken, until it is left."""
        with Sampler(quiet, period_s=0.001) as sampler:
            while len(sampler.samples) < 5:
                pass
        times = [sample["at_s"] for sample in sampler.samples]
        assert sorted(times) == times

    def test_slow_source_is_asked_before_and_after(self, pi5: Path) -> None:
        """The firmware's command is started at both ends, and not while the model runs."""
        (pi5 / "sys/devices/platform/soc/soc:firmware/get_throttled").unlink()
        power_trees.change(pi5, {"recorded/vcgencmd get_throttled.txt": "throttled=0x0\n"})
        with Sampler(pi5, period_s=HOUR_S) as sampler:
            sampler.take()
        assert [True, False, True] == ["throttled" in sample for sample in sampler.samples]

    def test_what_was_started_before_is_not_ours(self, quiet: Path) -> None:
        """A child that was there when it is entered counts as others' load."""
        with Sampler(quiet, period_s=HOUR_S) as sampler:
            power_trees.spend(quiet, busy_s=5.0, own_s=5.0)
        first, last = sampler.samples
        assert (0.0, 5.0) == (last["own_s"] - first["own_s"], last["busy_s"] - first["busy_s"])

    def test_it_ends_with_the_work_that_failed(self, quiet: Path) -> None:
        """An error in the work passes, and the last sample is there."""
        with pytest.raises(ZeroDivisionError), Sampler(quiet, period_s=HOUR_S) as sampler:
            _ = 1 / 0
        assert len(sampler.samples) == 2

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of processes in /proc")
    def test_work_of_a_child_is_our_own(self) -> None:
        """On this machine: what a child process computes is counted as ours while it runs and after it ended."""
        code = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True)\nwhile time.process_time() < 0.6: pass"
        with Sampler(period_s=HOUR_S) as sampler:
            with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                child.stdout.readline()
                sampler.take()
            assert child.wait() == 0
        first, while_running, last = (sample["own_s"] for sample in sampler.samples)
        tick = 1 / os.sysconf("SC_CLK_TCK")
        assert while_running - first >= 0.4 - 2 * tick
        assert last - first >= 0.6 - 2 * tick


class TestPowerChip:
    """What the power management chip's readings add up to."""

    def test_rails_with_both_readings_count(self) -> None:
        """The published reading: 12 rails, the sum of the products of current and voltage; the 5 V input has no current."""
        core = 10.87674 * 0.8974594
        others = 0.06245952 * 3.306322 + 0.1610285 * 1.798289 + 0.00780744 * 1.102929 + 0.1756674 * 1.104394
        others += 0.3279125 * 0.8025633 + 0.0003663 * 3.304942 + 0.00042735 * 3.302194 + 0.00579975 * 0.7973619
        assert pmic_watts(power_trees.PMIC) == pytest.approx(core + others + 0.0136752 * 5.07056)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "VDD_CORE_A current(7)=1.0A\n",
            "VDD_CORE_V volt(15)=nanV\n",
            "X_A current(1)=3.0V\nX_V volt(2)=1.0V\n",
            'error=1 error_msg="Command not registered"',
        ],
    )
    def test_nothing_is_made_of_half_a_reading(self, text: str) -> None:
        """A current without its voltage, or another board's answer, is no power."""
        assert pmic_watts(text) is None

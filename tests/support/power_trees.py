"""Root folders of machines for what is read beside a benchmark: load, frequencies, temperatures, throttling, power."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import machine_trees

#: Two processors, of which one second was busy since boot; the children of this process, number 41, that have ended used 0.1 s, and
#: its child used half a second.
QUIET: dict[str, str | bytes] = {
    "proc/stat": "cpu  60 10 20 5000 5 5 5 0 0 0\ncpu0 30 5 10 2500 2 2 2 0 0 0\ncpu1 30 5 10 2500 3 3 3 0 0 0\nintr 5\n",
    "proc/self/stat": "41 (a (b) c) S 1 41 41 0 -1 4194304 99 0 0 0 30 10 10 0 20 0 1 0 48 313 37\n",
    "proc/self/task/41/children": "42 \n",
    "proc/42/stat": "42 (worker) R 41 41 41 0 -1 4194304 99 0 0 0 40 10 0 0 20 0 1 0 48 313 37\n",
    "proc/42/task/42/children": "",
    "proc/vmstat": "nr_free_pages 500\npswpin 100\npswpout 20\nthp_split 0\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 500\nnr_throttled 3\nthrottled_usec 250000\n",
}

#: A Raspberry Pi 5 (``machine_trees``) with its frequencies, the firmware's flags and voltage monitor. Layout: the kernel's
#: cpufreq documentation for policies, raspberrypi/linux drivers/firmware/raspberrypi.c and drivers/hwmon/raspberrypi-hwmon.c;
#: 110 °C as critical temperature is that of the board's published device tree (bcm2712.dtsi, cpu-crit).
PI5: dict[str, str | bytes] = {
    **machine_trees.RASPBERRY_PI_5,
    **QUIET,
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "2400000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "2400000\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "110000\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
    "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
    "sys/bus/usb/devices/usb1/speed": "480\n",
    "sys/bus/usb/devices/usb2/speed": "5000\n",
}

#: A PC's power counters, as the kernel lists them (kernel documentation, "Power Capping Framework"): two packages, the memory of the
#: first, its cores, and the whole platform, which has the packages in it.
RAPL: dict[str, str | bytes] = {
    "sys/class/powercap/intel-rapl/enabled": "1\n",
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "1000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "700000\n",
    "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:1/name": "dram\n",
    "sys/class/powercap/intel-rapl:0:1/energy_uj": "500000\n",
    "sys/class/powercap/intel-rapl:0:1/max_energy_range_uj": "65712999613\n",
    "sys/class/powercap/intel-rapl:1/name": "package-1\n",
    "sys/class/powercap/intel-rapl:1/energy_uj": "2000000\n",
    "sys/class/powercap/intel-rapl:1/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:2/name": "psys\n",
    "sys/class/powercap/intel-rapl:2/energy_uj": "9000000\n",
    "sys/class/powercap/intel-rapl:2/max_energy_range_uj": "262143328850\n",
}

#: ``vcgencmd pmic_read_adc`` of a Raspberry Pi 5 (published in github.com/jfikar/RPi5-power, README.md).
PMIC = """ 3V7_WL_SW_A current(0)=0.00000000A
   3V3_SYS_A current(1)=0.06245952A
   1V8_SYS_A current(2)=0.16102850A
  DDR_VDD2_A current(3)=0.00780744A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.32791250A
  VDD_CORE_A current(7)=10.87674000A
   3V3_DAC_A current(17)=0.00036630A
   3V3_ADC_A current(18)=0.00042735A
   0V8_AON_A current(16)=0.00579975A
      HDMI_A current(22)=0.01367520A
 3V7_WL_SW_V volt(8)=3.79999600V
   3V3_SYS_V volt(9)=3.30632200V
   1V8_SYS_V volt(10)=1.79828900V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.60476130V
   1V1_SYS_V volt(13)=1.10439400V
    0V8_SW_V volt(14)=0.80256330V
  VDD_CORE_V volt(15)=0.89745940V
   3V3_DAC_V volt(20)=3.30494200V
   3V3_ADC_V volt(21)=3.30219400V
   0V8_AON_V volt(19)=0.79736190V
      HDMI_V volt(23)=5.07056000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
"""


def spend(root: Path, *, busy_s: float = 0.0, own_s: float = 0.0, steal_s: float = 0.0) -> None:
    """Let processor time pass on a planted machine.

    Args:
        root: where ``QUIET`` was planted.
        busy_s: of all processes.
        own_s: of the child of this one.
        steal_s: of the machine below.
    """
    user, steal = 60 + round(100 * busy_s), round(100 * steal_s)
    (root / "proc/stat").write_text(
        f"cpu  {user} 10 20 5000 5 5 5 {steal} 0 0\ncpu0 30 5 10 2500 2 2 2 0 0 0\ncpu1 30 5 10 2500 3 3 3 0 0 0\n"
    )
    own = 40 + round(100 * own_s)
    (root / "proc/42/stat").write_text(
        f"42 (worker) R 41 41 41 0 -1 4194304 99 0 0 0 {own} 10 0 0 20 0 1 0 48 313 37\n"
    )


def change(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Overwrite some of a planted machine's files."""
    machine_trees.plant(root, files)

"""``Meter``: how many joules the runs took, from what the machine or an external meter tells.

Three sources, none of which is a promise of the others' scope; a figure always carries its source's name:

- RAPL, the energy counters of x86 processors (kernel documentation, "Power Capping Framework"): the processor packages, and the
  memory where it is counted. Other processes are in it.
- The power management chip of a Raspberry Pi 5 (``vcgencmd pmic_read_adc``): the rails that it measures, read a few times a second.
  USB devices, a fan on the 5 V pins and the conversion losses are not in it.
- A CSV file that an external meter's program writes: everything that the meter feeds.

What the machine takes without the model is measured before, for ``IDLE_S`` seconds, and subtracted: joules per inference are those of
the runs alone, ``(joules - idle watts × seconds) / inferences``, with an interval over launches. Without a source there is no figure.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.cases import CaseResult
from edgekit.bench.firmware import pmic_watts, vcgencmd
from edgekit.bench.meter_csv import Power, read_power
from edgekit.bench.statistics import student_quantile
from edgekit.errors import EngineError
from edgekit.host.tree import Tree, printable

#: Idle is measured for so long, before anything is loaded.
IDLE_S = 2.0
#: Each reading starts a program; more often, it would slow down what is measured.
_PMIC_PERIOD_S = 0.25
#: A counter of 65 kJ, the smallest that is usual, takes minutes to go round.
_RAPL_PERIOD_S = 20.0
#: A meter's program may write a few seconds at a time.
_CSV_WAIT_S = 5.0
_CSV_LOOK_S = 0.2
_POWERCAP = "/sys/class/powercap"


class Meter(ABC):
    """An energy source. ``find`` gives the one that the machine has.

    Attributes:
        source: what is measured, in words.
    """

    source: str = ""
    _period_s = 1.0

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._started_s = 0.0
        self._stopped_s = 0.0

    @staticmethod
    def find(root: str | os.PathLike[str] = "/", csv: str | os.PathLike[str] | None = None) -> Meter | None:
        """The machine's energy source.

        Args:
            root: the root folder of the machine's file system.
            csv: the file that an external meter's program writes, which is asked in place of the machine.

        Returns:
            ``None`` when there is none that this user may read; ``no_source`` says why.
        """
        if csv is not None:
            return CsvMeter(csv)
        tree = Tree(root)
        counters = [zone for zone in _zones(tree) if _counter(tree, zone) is not None]
        if counters:
            return RaplMeter(tree, counters)
        if pmic_watts(vcgencmd(tree, "pmic_read_adc") or "") is not None:
            return PmicMeter(tree)
        return None

    def start(self) -> None:
        """Begin to count."""
        self._over.clear()
        self._begin()
        self._started_s = time.monotonic()
        self._thread = threading.Thread(target=self._repeat, name="edgekit-energy", daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End, and return the joules since ``start``.

        Raises:
            EngineError: the source no longer answers.
        """
        self._stopped_s = time.monotonic()
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._look()
            return self._joules()

    @property
    def seconds(self) -> float:
        """From the last ``start`` to its ``stop``."""
        return self._stopped_s - self._started_s

    def idle_w(self, seconds: float = IDLE_S) -> float:
        """What the machine takes while this process does nothing, in watts.

        Args:
            seconds: for how long to wait and measure.
        """
        self.start()
        time.sleep(seconds)
        joules = self.stop()
        return joules / max(self.seconds, 1e-9)

    def reading(self, inferences: int, idle_w: float | None) -> dict[str, Any]:
        """Stop, and make a launch's record of it.

        Args:
            inferences: how many there were since ``start``.
            idle_w: what ``idle_w`` gave before, or ``None``.

        Returns:
            ``joules``, ``seconds``, ``inferences``, ``idle_w`` and ``source``, as ``Launch.energy`` holds them.
        """
        joules = self.stop()
        return {
            "joules": joules,
            "seconds": self.seconds,
            "inferences": inferences,
            "idle_w": idle_w,
            "source": self.source,
        }

    def _repeat(self) -> None:
        while not self._over.wait(self._period_s):
            with self._lock:
                self._look()

    @abstractmethod
    def _begin(self) -> None:
        """Read the counter for the first time."""

    @abstractmethod
    def _look(self) -> None:
        """Add what was used since the last look."""

    @abstractmethod
    def _joules(self) -> float:
        """What was used since the beginning."""


class RaplMeter(Meter):
    """Counters of the packages and their memory.

    Args:
        tree: the machine.
        zones: the counters' folders.
    """

    _period_s = _RAPL_PERIOD_S

    def __init__(self, tree: Tree, zones: Sequence[str]) -> None:
        super().__init__()
        self._tree = tree
        self._zones = tuple(zones)
        names = [printable(tree.text(f"{zone}/name")) or zone for zone in zones]
        self.source = f"RAPL ({', '.join(names)})"
        self._last: dict[str, int] = {}
        self._sum_uj = 0

    def _begin(self) -> None:
        self._sum_uj = 0
        self._last = {zone: self._read(zone) for zone in self._zones}

    def _look(self) -> None:
        for zone in self._zones:
            now, before = self._read(zone), self._last[zone]
            if now < before:  # it went round
                self._sum_uj += self._tree.number(f"{zone}/max_energy_range_uj") or 0
            self._sum_uj += now - before
            self._last[zone] = now

    def _read(self, zone: str) -> int:
        found = _counter(self._tree, zone)
        if found is None:
            raise EngineError(f"the energy counter {zone}/energy_uj no longer answers. Measure again without energy.")
        return found

    def _joules(self) -> float:
        return self._sum_uj / 1e6


class PmicMeter(Meter):
    """The rails of a Raspberry Pi 5's power management chip, whose power is read and summed up over time.

    Args:
        tree: the machine.
    """

    _period_s = _PMIC_PERIOD_S
    source = "the rails of the power management chip (vcgencmd pmic_read_adc)"

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self._tree = tree
        self._readings: list[tuple[float, float]] = []

    def _begin(self) -> None:
        self._readings = []
        self._look()

    def _look(self) -> None:
        watts = pmic_watts(vcgencmd(self._tree, "pmic_read_adc") or "")
        if watts is not None:  # one answer that is missing is bridged by its neighbours
            self._readings.append((time.monotonic(), watts))

    def _joules(self) -> float:
        if len(self._readings) < 2:
            raise EngineError("vcgencmd pmic_read_adc gave fewer than two readings. Measure again without energy.")
        times, watts = (np.array(values) for values in zip(*self._readings, strict=True))
        # The last reading comes a moment after the end: its time counts as the end's.
        return float(Power(np.minimum(times, max(self._stopped_s, times[-2])), watts).joules())


class CsvMeter(Meter):
    """An external meter, whose program writes a CSV file meanwhile.

    Args:
        path: the file; see ``meter_csv.read_power`` for its form.

    Raises:
        DataError: it is not there, or not such a file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = Path(path)
        self._from_unix_s = 0.0
        read_power(self._path)
        self.source = f"the meter of {self._path.name}"

    def _begin(self) -> None:
        self._from_unix_s = time.time()

    def _look(self) -> None:
        """Nothing: the meter's program does it."""

    def _joules(self) -> float:
        until_unix_s = self._from_unix_s + self.seconds
        give_up_s = time.monotonic() + _CSV_WAIT_S
        power = read_power(self._path)
        while power.times_s[-1] < until_unix_s and time.monotonic() < give_up_s:
            time.sleep(_CSV_LOOK_S)  # the meter's program writes what it has read a moment later
            power = read_power(self._path)
        return power.between(self._from_unix_s, until_unix_s).joules()


def _zones(tree: Tree) -> list[str]:
    """The counters that together make up what is counted, none of them twice.

    A package has its cores and graphics in it, and its memory beside it (kernel documentation, "Power Capping Framework"); ``psys``
    has all of that in it, and on many machines counts nothing.
    """
    found = []
    for entry in tree.names(_POWERCAP):
        folder = f"{_POWERCAP}/{entry}"
        name = printable(tree.text(f"{folder}/name")) or ""
        whole = entry.count(":") == 1 and name.startswith("package")
        if entry.startswith("intel-rapl:") and (whole or (entry.count(":") == 2 and name == "dram")):
            found.append(folder)
    return found


def _counter(tree: Tree, zone: str) -> int | None:
    return tree.number(f"{zone}/energy_uj")


def no_source(root: str | os.PathLike[str] = "/") -> str:
    """Why there is no energy source, in a sentence that names the remedy.

    Args:
        root: the root folder of the machine's file system.
    """
    tree = Tree(root)
    zones = _zones(tree)
    if zones:
        return (
            f"no source: the processor's energy counters are there, and this user may not read them. Make "
            f"{zones[0]}/energy_uj and the others readable, or name an external meter's CSV file."
        )
    model = tree.line("/proc/device-tree/model", "/sys/firmware/devicetree/base/model")
    if model is not None and "Raspberry Pi 5" in model.value:
        return (
            "no source: vcgencmd does not tell the rails' power. It takes the group video and firmware that knows pmic_read_adc; or "
            "name an external meter's CSV file."
        )
    return "no source: this machine has no energy counter that is known here. Name an external meter's CSV file."


@dataclass(frozen=True)
class Energy:
    """What one inference takes beyond what the idle machine does.

    Attributes:
        joules: the mean over launches; below 0 where idle took more than the runs, which says that it cannot be told.
        low: lower end of the 95 % interval over launches (Student's t); ``None`` with fewer than three launches.
        high: upper end.
        idle_w: the idle machine's power, the mean over launches; ``None`` where it was not measured, and then nothing was subtracted.
        launches: how many had a reading.
        source: what was measured, in words.
    """

    joules: float
    low: float | None
    high: float | None
    idle_w: float | None
    launches: int
    source: str

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(vars(self))

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({_joules(self.low)} to {_joules(self.high)})"
        idle = "with the idle machine's" if self.idle_w is None else f"idle's {self.idle_w:.2f} W subtracted"
        return f"{_joules(self.joules)} per inference{interval}, {idle}, {self.source}"


def per_inference(result: CaseResult) -> Energy | None:
    """What one inference of a case takes.

    Args:
        result: its launches.

    Returns:
        ``None`` when no launch has a reading.
    """
    readings = [launch.energy for launch in result.launches if launch.energy]
    return energy_of([reading for reading in readings if reading.get("inferences")])


def energy_of(readings: Sequence[Mapping[str, Any]]) -> Energy | None:
    """What launches' readings say together.

    Args:
        readings: see ``Meter.reading``.
    """
    if not readings:
        return None
    known = all(reading.get("idle_w") is not None for reading in readings)
    each = np.array(
        [
            (reading["joules"] - (reading["idle_w"] * reading["seconds"] if known else 0.0)) / reading["inferences"]
            for reading in readings
        ]
    )
    low = high = None
    if len(each) >= 3:
        half = student_quantile(0.975, len(each) - 1) * float(each.std(ddof=1)) / len(each) ** 0.5
        low, high = float(each.mean()) - half, float(each.mean()) + half
    idle_w = float(np.mean([reading["idle_w"] for reading in readings])) if known else None
    sources = dict.fromkeys(str(reading["source"]) for reading in readings)
    return Energy(float(each.mean()), low, high, idle_w, len(readings), ", ".join(sources))


def _joules(value: float) -> str:
    size = abs(value)
    for factor, unit in ((1.0, "J"), (1e3, "mJ"), (1e6, "µJ")):
        if size * factor >= 1 or unit == "µJ":
            return f"{value * factor:.3g} {unit}"
    raise AssertionError("unreachable")

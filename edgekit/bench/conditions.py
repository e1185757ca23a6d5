"""``Sampler``: what the machine did beside the benchmark: frequencies, temperatures, throttling, other load, swap.

Everything is read from files below a root folder, so that what is made of it can be tried on trees recorded on other machines;
one program is started, ``vcgencmd``, and only where a Raspberry Pi's kernel does not show the firmware's flags as a file. Linux
alone tells these things; elsewhere a sample holds its time and nothing else.

A sample is plain JSON. What a machine does not tell is left out:

==================== ======================================================================================
``at_s``             seconds since the sampler was entered
``unix_s``           the same moment on the calendar's clock
``busy_s``           processor time that was not idle, of all processors since boot (``/proc/stat``)
``steal_s``          time that the machine below a virtual one took (``/proc/stat``)
``own_s``            processor time of the processes that this one started since the sampler was entered, ended ones too
``quota_s``          time for which a container's limit held its processes back (cgroup v2, ``cpu.stat``)
``swap_pages``       pages that went to swap space or came back, since boot (``/proc/vmstat``)
``governors``        frequency governors, by policy
``khz``              frequencies, by policy
``limit_khz``        the highest frequency that is allowed, by policy
``thermal_c``        temperatures in degrees Celsius, by thermal zone and its type
``throttled``        the flags of a Raspberry Pi's firmware, see ``FLAGS``
``under_voltage``    whether the kernel's voltage monitor of a Raspberry Pi raises its alarm
``throttle_count``   how often the processor slowed down for its temperature (x86, ``thermal_throttle``)
``facts``            in the first sample: what does not change, see ``facts``
==================== ======================================================================================
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from edgekit.bench.firmware import under_voltage, vcgencmd
from edgekit.host import EDGETPU_USB_IDS
from edgekit.host.tree import Tree, integer, printable

#: The bits of the firmware's word (Raspberry Pi documentation, "vcgencmd", get_throttled): what is so now, and, 16 bits higher,
#: what has been so since the board was started.
FLAGS: Mapping[int, str] = {
    0: "under-voltage",
    1: "the frequency was capped",
    2: "throttling",
    3: "the soft temperature limit",
}
#: Reading a frequency may make the kernel ask that core; more than these tell nothing more.
_POLICIES = 16
_ZONES = 32
_PROCESSES = 256
_CPU = "/sys/devices/system/cpu"
_THERMAL = "/sys/class/thermal"
#: A recorded tree's ticks; nearly every Linux has 100 in a second (proc_stat(5), USER_HZ).
_TICKS = 100


class Sampler:
    """Takes a sample when it is entered, one every period, and one when it is left.

    A sample costs about a millisecond, on a thread that sleeps otherwise.

    Args:
        root: the root folder of the machine's file system, ``/`` for this one.
        period_s: seconds from one sample to the next.

    Attributes:
        samples: what was taken so far, oldest first; plain JSON.
    """

    def __init__(self, root: str | os.PathLike[str] = "/", period_s: float = 0.5) -> None:
        self.samples: list[dict[str, Any]] = []
        self._reader = Reader(root)
        self._period_s = period_s
        self._start = 0.0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Sampler:
        self._over.clear()
        self._reader.begin()
        self._start = time.monotonic()
        self.take(first=True)
        self._thread = threading.Thread(target=self._repeat, name="edgekit-conditions", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self.take()

    def take(self, *, first: bool = False) -> dict[str, Any]:
        """Take a sample now.

        Args:
            first: whether to add what does not change, and to ask slow sources.

        Returns:
            The sample, which is in ``samples`` now.
        """
        with self._lock:
            sample: dict[str, Any] = {"at_s": round(time.monotonic() - self._start, 4), "unix_s": round(time.time(), 3)}
            slow = first or self._over.is_set()
            sample.update(self._reader.sample(slow=slow))
            if first:
                sample["facts"] = self._reader.facts()
            self.samples.append(sample)
            return sample

    def _repeat(self) -> None:
        while not self._over.wait(self._period_s):
            self.take()


class Reader:
    """Reads what a sample holds.

    Args:
        root: the root folder of the machine's file system.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        tree = self._tree = Tree(root)
        self._tick_s = 1 / (os.sysconf("SC_CLK_TCK") if tree.real and hasattr(os, "sysconf") else _TICKS)
        self._strangers: dict[str, float] = {}
        self._policies = self._find_policies()
        self._zones = [name for name in tree.names(_THERMAL) if name.startswith("thermal_zone")][:_ZONES]
        self._kinds = {name: printable(tree.text(f"{_THERMAL}/{name}/type")) or "unknown" for name in self._zones}
        self._throttled = _throttled_file(tree)
        counters = [f"{_CPU}/{name}/thermal_throttle" for name in tree.names(_CPU) if re.fullmatch(r"cpu\d+", name)]
        self._counters = [path for path in counters if tree.exists(path)]

    def facts(self) -> dict[str, Any]:
        """What does not change while a benchmark runs.

        Returns:
            ``cores`` that this process may use, ``model`` of the board, ``trip_c`` with the lowest temperature at which the kernel
            slows the machine down for each thermal zone that says so, ``usb`` with the megabits per second of each Edge TPU and of
            the fastest port, and which of the sources above there are (``sources``).
        """
        tree = self._tree
        model = tree.line("/proc/device-tree/model", "/sys/firmware/devicetree/base/model")
        found = self.sample(slow=True)
        return {
            "cores": self._cores(),
            "model": None if model is None else model.value,
            "trip_c": {f"{name} {self._kinds[name]}": trip for name in self._zones if (trip := self._trip(name))},
            "usb": self._usb(),
            "sources": sorted(found),
        }

    def sample(self, *, slow: bool = False) -> dict[str, Any]:
        """What there is to read now.

        Args:
            slow: whether to start ``vcgencmd`` where the firmware's flags are not a file.
        """
        tree = self._tree
        found: dict[str, Any] = {}
        found.update(self._processors())
        own = self._own_s()
        if own is not None:
            found["own_s"] = round(own, 3)
        quota = _keyed(tree.text("/sys/fs/cgroup/cpu.stat")).get("throttled_usec")
        if quota is not None:
            found["quota_s"] = round(quota / 1e6, 6)
        pages = _keyed(tree.text("/proc/vmstat"))
        if "pswpin" in pages and "pswpout" in pages:
            found["swap_pages"] = pages["pswpin"] + pages["pswpout"]
        for key, file in (("khz", "scaling_cur_freq"), ("limit_khz", "scaling_max_freq")):
            values = {name: value for name, path in self._policies if (value := tree.number(f"{path}/{file}"))}
            if values:
                found[key] = values
        governors = {
            name: fact.value for name, path in self._policies if (fact := tree.line(f"{path}/scaling_governor"))
        }
        if governors:
            found["governors"] = governors
        heat = {
            f"{name} {self._kinds[name]}": value / 1000
            for name in self._zones
            if (value := tree.number(f"{_THERMAL}/{name}/temp")) is not None and -50_000 <= value <= 150_000
        }
        if heat:
            found["thermal_c"] = heat
        flags = self._flags(slow)
        if flags is not None:
            found["throttled"] = flags
        alarm = under_voltage(tree)
        if alarm is not None:
            found["under_voltage"] = alarm
        if self._counters:
            found["throttle_count"] = sum(
                tree.number(f"{path}/{kind}_throttle_count") or 0
                for path in self._counters
                for kind in ("core", "package")
            )
        return found

    def _find_policies(self) -> list[tuple[str, str]]:
        """Groups of processors that share a frequency: name and folder."""
        base = f"{_CPU}/cpufreq"
        names = [name for name in self._tree.names(base) if name.startswith("policy")]
        if names:
            return [(name, f"{base}/{name}") for name in sorted(names, key=lambda name: (len(name), name))[:_POLICIES]]
        names = [name for name in self._tree.names(_CPU) if re.fullmatch(r"cpu\d+", name)]
        found = [(name, f"{_CPU}/{name}/cpufreq") for name in sorted(names, key=lambda name: (len(name), name))]
        return [(name, path) for name, path in found if self._tree.exists(path)][:_POLICIES]

    def _processors(self) -> dict[str, Any]:
        words = (self._tree.text("/proc/stat") or "").partition("\n")[0].split()
        if len(words) < 5 or words[0] != "cpu":
            return {}
        ticks = [integer(word) or 0 for word in words[1:9]]
        ticks += [0] * (8 - len(ticks))
        # proc_stat(5): user (guests are in it), nice, system, idle, iowait, irq, softirq, steal.
        busy = ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]
        return {"busy_s": round(busy * self._tick_s, 3), "steal_s": round(ticks[7] * self._tick_s, 3)}

    def begin(self) -> None:
        """Count what is started from now on as our own; what this process started before is others' load, and so is its own."""
        self._strangers = {child: self._tree_s(child) for child in self._children("self")}

    def _own_s(self) -> float | None:
        own = self._times("self")
        if own is None:
            return None
        total = own[1]
        for child in self._children("self"):
            if child not in self._strangers:
                total += self._tree_s(child)
        for child, seconds in self._strangers.items():
            if self._times(child) is None:
                total -= seconds  # one that has ended since is among the ended children
            else:
                self._strangers[child] = self._tree_s(child)
        return total

    def _tree_s(self, process: str) -> float:
        """Processor time of a process and of all that it started, ended ones too."""
        total, waiting = 0.0, [process]
        seen: set[str] = set()
        while waiting and len(seen) < _PROCESSES:
            number = waiting.pop()
            times = None if number in seen else self._times(number)
            seen.add(number)
            if times is not None:
                total += sum(times)
                waiting += self._children(number)
        return total

    def _children(self, process: str) -> list[str]:
        found: list[str] = []
        for thread in self._tree.names(f"/proc/{process}/task"):
            found += (self._tree.text(f"/proc/{process}/task/{thread}/children") or "").split()
        return found

    def _times(self, process: str) -> tuple[float, float] | None:
        """Processor time of a process, and of its children that have ended and were waited for; ``None`` when it is not there."""
        # proc_pid_stat(5): the name, field 2, may hold blanks and brackets; 14 to 17 are user and system time of both.
        words = (self._tree.text(f"/proc/{process}/stat") or "").rpartition(")")[2].split()
        if len(words) < 15:
            return None
        ticks = [integer(word) or 0 for word in words[11:15]]
        return (ticks[0] + ticks[1]) * self._tick_s, (ticks[2] + ticks[3]) * self._tick_s

    def _flags(self, slow: bool) -> int | None:
        if self._throttled is not None:
            word = printable(self._tree.text(self._throttled))  # hexadecimal, without a prefix
            return None if word is None else integer(word.removeprefix("0x"), 16)
        if not slow:
            return None
        said = re.search(r"throttled=0x([0-9a-fA-F]{1,8})\b", vcgencmd(self._tree, "get_throttled") or "")
        return None if said is None else int(said[1], 16)

    def _trip(self, zone: str) -> float | None:
        """The lowest temperature at which the kernel slows down what heats a zone (kernel documentation, thermal sysfs-api).

        At an ``active`` one it starts a fan, and at the ``critical`` one it switches the machine off.
        """
        base = f"{_THERMAL}/{zone}"
        found = []
        for number in range(16):
            kind = printable(self._tree.text(f"{base}/trip_point_{number}_type"))
            if kind is None:
                break
            value = self._tree.number(f"{base}/trip_point_{number}_temp")
            if kind in ("passive", "hot") and value is not None and 0 < value <= 150_000:
                found.append(value / 1000)
        return min(found, default=None)

    def _usb(self) -> dict[str, Any]:
        base = "/sys/bus/usb/devices"
        accelerators, fastest = {}, 0
        for name in self._tree.names(base):
            speed = self._tree.number(f"{base}/{name}/speed")  # megabits per second (kernel ABI, sysfs-bus-usb)
            if speed is None or ":" in name:
                continue
            ids = [(self._tree.text(f"{base}/{name}/{file}") or "").strip() for file in ("idVendor", "idProduct")]
            if ":".join(ids) in EDGETPU_USB_IDS:
                accelerators[name] = speed
            if name.startswith("usb"):
                fastest = max(fastest, speed)
        return {"accelerators": accelerators, "fastest_port": fastest or None}

    def _cores(self) -> int | None:
        if self._tree.real:
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        text = self._tree.text("/proc/stat") or ""
        return sum(1 for line in text.split("\n") if re.match(r"cpu\d+ ", line)) or None


def _throttled_file(tree: Tree) -> str | None:
    """Where the kernel's driver shows the firmware's flags (raspberrypi/linux, drivers/firmware/raspberrypi.c), if it does.

    On most boards it is ``/sys/devices/platform/soc/soc:firmware/get_throttled``; the names hold the bus's address on some.
    """
    base = "/sys/devices/platform"
    for bus in tree.names(base):
        if bus.startswith("soc"):
            for device in tree.names(f"{base}/{bus}"):
                path = f"{base}/{bus}/{device}/get_throttled"
                if device.endswith(":firmware") and tree.exists(path):
                    return path
    return None


def _keyed(text: str | None) -> dict[str, int]:
    """A file of lines with a name and a number."""
    found = {}
    for line in (text or "").split("\n"):
        words = line.split()
        if len(words) == 2 and (value := integer(words[1])) is not None:
            found[words[0]] = value
    return found

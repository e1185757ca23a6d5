"""What a Raspberry Pi's firmware says, by ``vcgencmd`` and by the kernel's voltage monitor."""

from __future__ import annotations

import re

from edgekit.host.tree import Tree, printable

#: Where a recorded tree keeps what the command said; several answers follow each other with an empty line between.
RECORDED = "/recorded/vcgencmd {argument}.txt"
_LIMIT_S = 2.0


def vcgencmd(tree: Tree, argument: str) -> str | None:
    """What ``vcgencmd`` answers; ``None`` where it is not there, is not allowed to the user, or takes too long.

    Args:
        tree: the machine; of a recorded one the recorded answer is given.
        argument: what to ask, such as ``get_throttled`` or ``pmic_read_adc``.
    """
    if not tree.real:
        return tree.text(RECORDED.format(argument=argument))
    import shutil

    program = shutil.which("vcgencmd")
    if program is None:
        return None
    import subprocess

    try:
        done = subprocess.run(
            [program, argument], capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def under_voltage(tree: Tree) -> bool | None:
    """Whether the kernel's voltage monitor raises its alarm (drivers/hwmon/raspberrypi-hwmon.c); ``None`` where there is none."""
    base = "/sys/class/hwmon"
    for name in tree.names(base):
        if printable(tree.text(f"{base}/{name}/name")) == "rpi_volt":
            alarm = tree.number(f"{base}/{name}/in0_lcrit_alarm")
            if alarm is not None:
                return alarm != 0
    return None


#: One line of ``vcgencmd pmic_read_adc``: ``VDD_CORE_A current(7)=1.91102000A``; the numbers in brackets pair nothing.
_LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)([AV])\s*$", re.MULTILINE)


def pmic_watts(text: str) -> float | None:
    """The power of all rails that the power management chip of a Raspberry Pi 5 measures, in watts.

    Each rail with both a current and a voltage counts with their product. The 5 V input (``EXT5V``) has no current, so that what
    USB devices, fans and the chip's own conversion take is not in the sum.

    Args:
        text: what ``vcgencmd pmic_read_adc`` said.

    Returns:
        ``None`` when no rail has both.
    """
    values: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for rail, kind, number, unit in _LINE.findall(text.replace("\0", "\n")):
        if kind == unit and number.count(".") <= 1 and number != ".":
            values[kind][rail] = float(number)
    rails = values["A"].keys() & values["V"].keys()
    return sum(values["A"][rail] * values["V"][rail] for rail in rails) if rails else None

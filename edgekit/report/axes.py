"""``Axis``: from values to places in a picture, and the round numbers that stand along it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from edgekit.report.trend import span

#: Values that lie further apart than this, as the largest over the smallest, are shown on a logarithmic axis.
WIDE = 5.0


@dataclass(frozen=True)
class Axis:
    """One direction of a picture.

    Attributes:
        marks: where numbers stand, ascending, at least two; the axis reaches from the first to the last.
        log: whether equal ratios, and not equal differences, are equally far apart.
    """

    marks: tuple[float, ...]
    log: bool = False

    @classmethod
    def around(cls, values: Iterable[float], *, log: bool | None = None, zero: bool = False) -> Axis:
        """An axis on which all values lie.

        Args:
            values: what is to be shown; what is not a finite number is passed over.
            log: whether it is logarithmic; ``None`` where the values are above 0 and far apart.
            zero: whether a linear axis begins at 0.
        """
        known = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(known), max(known)
        if log is None:
            log = low > 0 and high / low > WIDE
        if log and low > 0:
            return cls(_decades(low, high), True)
        return cls(tuple(span(min(0.0, low) if zero else low, high)))

    def at(self, value: float) -> float:
        """Where a value lies: 0 is the beginning, 1 the end; what lies beyond is at the end of its side.

        Args:
            value: any number.
        """
        low, high = self.marks[0], self.marks[-1]
        if self.log:
            if value <= 0:
                return 0.0
            low, high, value = math.log(low), math.log(high), math.log(value)
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def texts(self, unit: str, width: float, letter: float = 6.8) -> list[str]:
        """What stands at each mark below a picture: the number, with the unit behind the last one.

        A number that would touch the last one is left out.

        Args:
            unit: of the values; may be empty.
            width: from the first mark to the last, in the picture's units.
            letter: what a letter takes at most, in the same units.
        """
        found = [self.text(mark) for mark in self.marks]
        found[-1] += f" {unit}" if unit else ""
        free = width - letter * (len(found[-1]) - 2)
        return [
            text if number in (0, len(found) - 1) or width * self.at(mark) + letter * len(text) / 2 < free else ""
            for number, (mark, text) in enumerate(zip(self.marks, found, strict=True))
        ]

    def text(self, mark: float) -> str:
        """A mark as people read it, with as many digits as tell the marks apart."""
        if self.log:
            return f"{mark:.10g}" if 1e-4 <= mark < 1e6 else f"{mark:.0e}"
        digits = max(0, -math.floor(math.log10(self.marks[1] - self.marks[0]) + 1e-9))
        return f"{mark:.{digits}f}"


def _decades(low: float, high: float) -> tuple[float, ...]:
    """Numbers around two values: 1, 2 and 5 of each power of ten where they are near, the powers where they are not."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        # The power that is read from text is the nearest number; 10.0 ** -3 is one off.
        every = [factor * float(f"1e{power}") for power in range(first, last + 1) for factor in steps]
        below = max((mark for mark in every if mark <= low * (1 + 1e-9)), default=every[0])
        above = min((mark for mark in every if mark >= high * (1 - 1e-9) and mark > below), default=10 * every[-1])
        found = [mark for mark in [*every, 10 * every[-1]] if below <= mark <= above]
        if len(found) <= 7:
            return tuple(found)
    step = math.ceil((last - first) / 6)
    return tuple(float(f"1e{power}") for power in range(first, first + 7 * step, step) if power < last + step)

"""Histograms of a few letters, for a line of text: block characters, or plain ASCII where a terminal has none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.report.axes import WIDE

BLOCKS = "▁▂▃▄▅▆▇█"
#: Darker and darker, the first one for a column that has a few.
ASCII = ".:-=+*#@"
#: A column without any value.
_EMPTY = " "


def counts(values: Sequence[float], width: int) -> list[int]:
    """How many values lie in each of so many columns, from the smallest value to the 99th percentile.

    What lies above is left out: one slow run in a thousand would push all others into the first column. Where the two ends are far
    apart all the same, columns are of one ratio, and not of one width.

    Args:
        values: numbers.
        width: how many columns.

    Returns:
        One count for each column; empty without values.
    """
    if not len(values):
        return []
    array = np.asarray(values, dtype=float)
    low, high = float(array.min()), float(np.percentile(array, 99))
    if high <= low:  # all alike: one column in the middle
        return [len(array) if column == width // 2 else 0 for column in range(width)]
    wide = low > 0 and high / low > WIDE
    edges = np.geomspace(low, high, width + 1) if wide else np.linspace(low, high, width + 1)
    found, _ = np.histogram(array, bins=edges)
    return [int(count) for count in found]


def spark(columns: Sequence[int], *, blocks: bool = True) -> str:
    """Columns as letters; the highest one has the highest letter, and none that holds a value is empty.

    Args:
        columns: what ``counts`` gives.
        blocks: whether the terminal can show block characters.
    """
    letters, top = BLOCKS if blocks else ASCII, max(columns, default=0)
    return "".join(
        letters[min(len(letters) - 1, count * len(letters) // (top + 1))] if count else _EMPTY for count in columns
    )

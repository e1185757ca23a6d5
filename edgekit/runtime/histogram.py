"""``Histogram``: how often each time was seen, in buckets that are all equally wide relative to their times.

A bucket is one of 128 equal parts of a power of two, so it is at most 1/128 of its times wide, and the time in its middle is
at most 0.4 % away from any of them. The buckets are the same in every histogram: adding the counts of two histograms gives
the histogram of both, whatever device, file or month each of them is from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: Each power of two is cut into 2**7 = 128 buckets.
SUB_BITS = 7
#: Times from 0 (a bucket of its own) to 2**63 ns.
BUCKETS = (64 << SUB_BITS) + 1
#: The bits of a double behind the first seven of its fraction, and what its exponent and fraction are for 1.0.
_SHIFT = 52 - SUB_BITS
_ONE = 1023 << SUB_BITS


class Histogram:
    """Times in nanoseconds, counted. It never grows, however many are added.

    Not thread-safe by itself; ``LatencyLog`` gives out copies.

    Args:
        counts: memory for the buckets, zeros; ``None`` to allocate it here.

    Attributes:
        count: how many times were added.
        sum_ns: their sum, exact.
        min_ns: the least of them, exact; 0 when there is none.
        max_ns: the greatest of them, exact; 0 when there is none.
    """

    def __init__(self, counts: npt.NDArray[np.int64] | None = None) -> None:
        self._counts = np.zeros(BUCKETS, np.int64) if counts is None else counts
        self.count = 0
        self.sum_ns = 0
        self.min_ns = 0
        self.max_ns = 0

    def add(self, times_ns: npt.ArrayLike) -> None:
        """Count some times; below 0 counts as 0.

        Args:
            times_ns: any number of integers below 2**62.
        """
        times = np.maximum(np.asarray(times_ns, np.int64).reshape(-1), 0)
        if times.size == 0:
            return
        _count(self._counts, _buckets(times, np.empty(times.shape)))
        most = int(times.max())
        # Times of months would not fit 64 bits when added up.
        total = int(times.sum()) if most * times.size < 1 << 63 else sum(times.tolist())
        self._note(times.size, total, int(times.min()), most)

    def _note(self, count: int, total: int, least: int, most: int) -> None:
        self.min_ns = min(self.min_ns, least) if self.count else least
        self.max_ns = max(self.max_ns, most)
        self.count += count
        self.sum_ns += total

    def merge(self, other: Histogram) -> None:
        """Add all that another histogram has counted."""
        if other.count:
            self._counts += other._counts
            self._note(other.count, other.sum_ns, other.min_ns, other.max_ns)

    def copy(self) -> Histogram:
        """A histogram of its own with the same content."""
        twin = Histogram(self._counts.copy())
        twin.count, twin.sum_ns, twin.min_ns, twin.max_ns = self.count, self.sum_ns, self.min_ns, self.max_ns
        return twin

    @property
    def mean_ns(self) -> int:
        """The arithmetic mean, exact; 0 when there is no time."""
        return round(self.sum_ns / self.count) if self.count else 0

    def percentile(self, percent: int) -> int:
        """The least time that this share of all times does not exceed (nearest rank), at most 1 % off.

        Args:
            percent: 0 to 100.

        Returns:
            Nanoseconds; 0 when there is no time.
        """
        if not self.count:
            return 0
        rank = max(1, -(-percent * self.count // 100))  # in whole numbers: 0.95 is no binary fraction
        if rank == self.count:
            return self.max_ns
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(max(_middle(bucket), self.min_ns), self.max_ns)

    def at_most(self, time_ns: int) -> int:
        """How many of the times were at most this long, give or take those within 1 % of it."""
        if time_ns < 0:
            return 0
        if time_ns >= self.max_ns:
            return self.count
        bits = int(np.float64(time_ns).view(np.int64))
        return int(self._counts[: max((bits >> _SHIFT) - (_ONE - 1), 0) + 1].sum())

    def to_json(self) -> dict[str, Any]:
        """The content as JSON: the buckets that are not empty, as number, count, number, count and so on."""
        filled = np.flatnonzero(self._counts)
        buckets = np.stack([filled, self._counts[filled]], axis=1).reshape(-1)
        return {
            "sub_bits": SUB_BITS,
            "count": self.count,
            "sum_ns": self.sum_ns,
            "min_ns": self.min_ns,
            "max_ns": self.max_ns,
            "buckets": buckets.tolist(),
        }

    @classmethod
    def from_json(cls, data: Any) -> Histogram:
        """Read what ``to_json`` gave.

        Raises:
            ValueError: it is something else.
        """
        wanted = ("sub_bits", "count", "sum_ns", "min_ns", "max_ns")
        if not isinstance(data, dict) or any(type(data.get(key)) is not int or data[key] < 0 for key in wanted):
            raise ValueError("not a histogram")
        buckets = data.get("buckets")
        if data["sub_bits"] != SUB_BITS or not isinstance(buckets, list) or len(buckets) % 2:
            raise ValueError("not a histogram of these buckets")
        if any(type(item) is not int or not 0 <= item < 1 << 62 for item in buckets):
            raise ValueError("not a histogram: a bucket is not a number")
        numbers, counts = buckets[::2], buckets[1::2]
        if len(set(numbers)) < len(numbers) or any(number >= BUCKETS for number in numbers):
            raise ValueError("not a histogram: a bucket that does not exist, or one given twice")
        if sum(counts) != data["count"]:
            raise ValueError("not a histogram: the buckets do not add up to the count")
        made = cls()
        made._counts[numbers] = counts
        made.count, made.sum_ns = data["count"], data["sum_ns"]
        made.min_ns, made.max_ns = data["min_ns"], data["max_ns"]
        return made


def _buckets(times_ns: npt.NDArray[np.int64], room: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The number of each time's bucket: a double's exponent and the first bits of its fraction, without a logarithm.

    Args:
        times_ns: times from 0.
        room: memory of the same shape; the result is in it.
    """
    room[...] = times_ns
    bits = room.view(np.int64)
    bits >>= _SHIFT
    bits -= _ONE - 1
    return np.maximum(bits, 0, out=bits)


def add_rows(
    counts: npt.NDArray[np.int64],
    histograms: list[Histogram],
    times_ns: npt.NDArray[np.int64],
    room: npt.NDArray[np.float64],
) -> None:
    """Count in several histograms at once, which is faster than one after the other.

    Args:
        counts: the memory of the histograms' buckets, a row for each.
        histograms: as many as there are rows.
        times_ns: a row of times for each of them, one or more, from 0 to 2**52.
        room: memory of the same shape, to compute in.
    """
    found = zip(_buckets(times_ns, room), times_ns.sum(axis=1).tolist(), strict=True)
    for number, (buckets, total) in enumerate(found):
        _count(counts[number], buckets)
        row = times_ns[number]
        histograms[number]._note(len(row), total, int(row.min()), int(row.max()))


def _count(counts: npt.NDArray[np.int64], buckets: npt.NDArray[np.int64]) -> None:
    """Count buckets, whose numbers this uses up. Times of one kind lie together, so that little memory is touched."""
    low = int(buckets.min())
    buckets -= low
    found = np.bincount(buckets.astype(np.intp, copy=False))
    counts[low : low + found.size] += found


def _middle(bucket: int) -> int:
    """The time in the middle of a bucket."""
    if bucket == 0:
        return 0
    power, part = divmod(bucket - 1, 1 << SUB_BITS)
    low = (1 << power) + (part << power >> SUB_BITS)
    return low + ((1 << power) >> (SUB_BITS + 1))

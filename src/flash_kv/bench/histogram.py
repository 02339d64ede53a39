"""Latencies in a high dynamic range histogram (G. Tene, HdrHistogram): constant relative error at any magnitude.

Values below 2^11 ns have a counter each; from there every power of two is cut into 2^10 equal counters, so a value is
known to one part in a thousand, from nanoseconds to minutes, in one array. Values beyond the last counter are an error,
never cut off.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

SUB_BITS = 10
"""Counters of each power of two, as a power of two: three significant digits."""
VALUE_BITS_MAX = 42
"""73 minutes in ns."""
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99, 100.0)


class Histogram:
    """Counts of latencies in whole ns."""

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * (VALUE_BITS_MAX - SUB_BITS + 1 << SUB_BITS)))
        self.total = 0

    def add(self, samples: Iterable[int]) -> None:
        """ValueError for what is negative or longer than the histogram reaches."""
        counts, added = self._counts, 0
        for sample in samples:
            if not 0 <= sample < 1 << VALUE_BITS_MAX:
                raise ValueError(f"a latency of {sample} ns is outside of the histogram")
            shift = max(0, sample.bit_length() - SUB_BITS - 1)
            counts[(shift << SUB_BITS) + (sample >> shift)] += 1
            added += 1
        self.total += added

    def merge(self, other: Histogram) -> None:
        for place, count in other._filled():
            self._counts[place] += count
        self.total += other.total

    def percentile(self, percent: float) -> int:
        """The highest value that is counted with the smallest one that `percent` of the samples don't exceed, in ns."""
        wanted = max(1, -(-self.total * round(percent * 1000) // 100_000))
        seen = 0
        for place, count in self._filled():
            seen += count
            if seen >= wanted:
                return _highest(place)
        raise ValueError("an empty histogram has no percentiles")

    def curve(self) -> list[tuple[float, int]]:
        """(part of the samples, latency in ns they don't exceed), rising: the cumulative distribution."""
        seen, points = 0, []
        for place, count in self._filled():
            seen += count
            points.append((seen / self.total, _highest(place)))
        return points

    def _filled(self) -> Iterator[tuple[int, int]]:
        return ((place, count) for place, count in enumerate(self._counts) if count)


def _highest(place: int) -> int:
    """The highest value whose counter this is."""
    shift = max(0, (place >> SUB_BITS) - 1)
    return ((place - (shift << SUB_BITS) + 1) << shift) - 1


def thinned(curve: list[tuple[float, int]], points: int) -> list[tuple[float, int]]:
    """At most about `points` points of a curve, the tail's kept: equal steps of the logarithm of what lies above."""
    if len(curve) <= points:
        return curve
    kept: list[tuple[float, int]] = [curve[0]]
    for part, value in curve[1:-1]:
        if value >= kept[-1][1] * 1.02 and (part - kept[-1][0]) >= (1 - part) / points * 4:
            kept.append((part, value))
    return [*kept, curve[-1]]

"""Latencies in a high dynamic range histogram (G. Tene, HdrHistogram), by the library hdrhistogram.

A value is known to one part in a thousand, from nanoseconds to minutes; values beyond that are an error, never cut off.
The library counts one value at a time, in Python; here equal ones are counted first, which Python does in C.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from flash_kv.bench.stores.base import BenchmarkError

VALUE_BITS_MAX = 42
"""73 minutes in ns."""
DIGITS = 3
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99, 100.0)


def _library() -> Any:
    try:
        return importlib.import_module("hdrh.histogram").HdrHistogram
    except ModuleNotFoundError as error:
        raise BenchmarkError(
            "latencies need the library hdrhistogram: pip install 'flash-kv[bench]'"
        ) from error


class Histogram:
    """Counts of latencies in whole ns. BenchmarkError where the library is not installed."""

    def __init__(self) -> None:
        self._counts: Any = _library()(1, 2**VALUE_BITS_MAX - 1, DIGITS)

    @property
    def total(self) -> int:
        return int(self._counts.total_count)

    def add(self, samples: Iterable[int]) -> None:
        """ValueError for what is negative or longer than the histogram reaches."""
        record = self._counts.record_value
        for sample, count in Counter(samples).items():
            # The library rounds its reach up.
            if sample >> VALUE_BITS_MAX or not record(sample, count):
                raise ValueError(f"a latency of {sample} ns is outside of the histogram")

    def merge(self, other: Histogram) -> None:
        self._counts.add(other._counts)

    def percentile(self, percent: float) -> int:
        """The highest value that is counted with the one that `percent` of the samples don't exceed, in ns."""
        if not self.total:
            raise ValueError("an empty histogram has no percentiles")
        return int(self._counts.get_value_at_percentile(percent))

    def curve(self) -> list[tuple[float, int]]:
        """(part of the samples, latency in ns they don't exceed), rising: the cumulative distribution."""
        return [
            (step.total_count_to_this_value / self.total, int(step.value_iterated_to))
            for step in self._counts.get_recorded_iterator()
        ]

    def encoded(self) -> str:
        """As text, in the library's own form: for another process."""
        return str(self._counts.encode().decode())

    @classmethod
    def decoded(cls, text: str) -> Histogram:
        found = cls()
        found._counts.decode_and_add(text.encode())
        return found


def thinned(curve: list[tuple[float, int]], points: int) -> list[tuple[float, int]]:
    """At most about `points` points of a curve, the tail's kept: equal steps of the logarithm of what lies above."""
    if len(curve) <= points:
        return curve
    kept: list[tuple[float, int]] = [curve[0]]
    for part, value in curve[1:-1]:
        if value >= kept[-1][1] * 1.02 and (part - kept[-1][0]) >= (1 - part) / points * 4:
            kept.append((part, value))
    return [*kept, curve[-1]]

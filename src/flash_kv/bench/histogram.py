"""Latencies in a high dynamic range histogram (G. Tene, HdrHistogram), by the library hdrhistogram.

A value is known to one part in a thousand, from nanoseconds to minutes; values beyond that are an error, never cut off.
The library counts one value at a time, in Python; here equal ones are counted first, which Python does in C.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from flash_kv.bench.stores.base import BenchmarkError

VALUE_BITS_MAX = 42
"""73 minutes in ns."""
DIGITS = 3
CURVE_POINTS_PER_DECADE = 40
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
        return self.percentiles([percent])[0]

    def percentiles(self, percents: Sequence[float]) -> list[int]:
        """`percentile` of each, in one pass over the counts. ValueError when there are none."""
        if not self.total:
            raise ValueError("an empty histogram has no percentiles")
        found = self._counts.get_percentile_to_value_dict(percents)
        return [int(found[percent]) for percent in percents]

    def curve(self) -> list[tuple[float, int]]:
        """(part of the samples, latency in ns they don't exceed), both rising: the cumulative distribution.

        At equal steps of the logarithm of the part that lies above, up to the single slowest sample.
        """
        steps = range(math.ceil(CURVE_POINTS_PER_DECADE * math.log10(max(self.total, 1))))
        percents = [100 - 100 * 10 ** (-step / CURVE_POINTS_PER_DECADE) for step in steps] + [100.0]
        highest: dict[int, float] = {}
        for percent, value in zip(percents, self.percentiles(percents), strict=True):
            highest[value] = percent / 100
        return [(part, value) for value, part in highest.items()]

    def encoded(self) -> str:
        """As text, in the library's own form: for another process."""
        return str(self._counts.encode().decode())

    @classmethod
    def decoded(cls, text: str) -> Histogram:
        found = cls()
        found._counts.decode_and_add(text.encode())
        return found

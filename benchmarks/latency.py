"""Latency of single puts while a store grows from nothing to all its keys: percentiles and the worst.

Every put is timed by itself, so rehashes, page splits, segment rotations, flushes and stalls all show. What
a clock read and the call of an empty built-in take is measured in the same run and subtracted.
"""

from __future__ import annotations

import random
import shutil
from array import array
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dataset import Dataset, in_slices
from benchmarks.runner import EMPTY, progress
from benchmarks.stores.base import Handle, Store
from benchmarks.timing import empty_handle, latencies_ns

PERCENTILES = (50.0, 99.0, 99.9)
_EXACT_NS = 1 << 16


class Histogram:
    """Exact counts of nanoseconds: one counter each below 65 us, the few values beyond kept one by one."""

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _EXACT_NS))
        self._slow: list[int] = []
        self.total = 0

    def add(self, samples: list[int]) -> None:
        counts, slow = self._counts, self._slow
        for sample in samples:
            if sample < _EXACT_NS:
                counts[sample] += 1
            else:
                slow.append(sample)
        self.total += len(samples)

    def percentile(self, percent: float) -> int:
        """The smallest latency that at least `percent` of the samples don't exceed."""
        wanted = max(1, -(-self.total * round(percent * 1000) // 100_000))
        seen = 0
        for value, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return value
        return sorted(self._slow)[wanted - seen - 1]

    def worst(self) -> int:
        return self.percentile(100.0)


@dataclass(frozen=True, kw_only=True)
class PutLatency:
    """One repeat of one store, in microseconds with the overhead of timing subtracted."""

    percentiles_us: dict[str, float]
    max_us: float


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """All repeats of all stores."""

    keys: int
    overhead_us: float
    """A timed empty call: each repeat subtracts the median of its own calls, this is the repeats' median."""
    stores: dict[str, list[PutLatency]]


def measure_latencies(
    stores: list[Store], data: Dataset, *, repeats: int, slice_operations: int, seed: int, directory: Path
) -> Latencies:
    """Load `data` into every store, interleaved by slices, each put timed; fresh directories each repeat."""
    found: dict[str, list[PutLatency]] = defaultdict(list)
    overheads: list[float] = []
    for repeat in range(repeats):
        progress(f"put latency, repeat {repeat + 1} of {repeats}: {data.key_count:,} keys")
        root = directory / f"latency-{repeat}"
        handles: dict[str, Handle] = {EMPTY: empty_handle(data.key_count)}
        try:
            for store in stores:
                path = root / store.name
                path.mkdir(parents=True)
                handles[store.name] = store.open(path)
            histograms = _load(handles, data, slice_operations, random.Random(seed + repeat))
        finally:
            for handle in handles.values():
                handle.close()
            handles.clear()
            shutil.rmtree(root, ignore_errors=True)
        overhead_us = histograms.pop(EMPTY).percentile(50.0) / 1e3
        overheads.append(overhead_us)
        for name, histogram in histograms.items():
            found[name].append(_summary(histogram, overhead_us))
    overheads.sort()
    return Latencies(keys=data.key_count, overhead_us=overheads[len(overheads) // 2], stores=dict(found))


def _load(
    handles: dict[str, Handle], data: Dataset, slice_operations: int, rng: random.Random
) -> dict[str, Histogram]:
    histograms = {name: Histogram() for name in handles}
    ordinals = list(range(data.key_count))
    rng.shuffle(ordinals)
    for part in in_slices(ordinals, slice_operations):
        for name in rng.sample(list(handles), len(handles)):
            samples = latencies_ns(handles[name].put, data.keys(part), data.values(part, 0))
            histograms[name].add(samples)
    return histograms


def _summary(histogram: Histogram, overhead_us: float) -> PutLatency:
    def less_overhead(value_ns: int) -> float:
        return max(0.0, value_ns / 1e3 - overhead_us)

    return PutLatency(
        percentiles_us={f"p{p:g}": less_overhead(histogram.percentile(p)) for p in PERCENTILES},
        max_us=less_overhead(histogram.worst()),
    )

"""The rows of a run as they grow: samples by repeat, histograms by repeat, and the overhead that is subtracted."""

from __future__ import annotations

from collections import defaultdict

from flash_kv.bench.histogram import PERCENTILES, Histogram
from flash_kv.bench.results import LATENCY, Row

EMPTY = "empty call"
"""The store that does nothing, measured among the others: its times are what is subtracted."""


class Rows:
    """Rows at one number of keys and one size of values, by workload, store and unit."""

    def __init__(self, keys: int, value_bytes: int) -> None:
        self._keys = keys
        self._value_bytes = value_bytes
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._histograms: dict[tuple[str, str], list[Histogram]] = defaultdict(list)

    def add(
        self, workload: str, store: str, unit: str, sample: float, *, operations: int = 0, planned: int = 0
    ) -> None:
        """One repeat's: it did `operations` of the `planned` ones, where that can be told."""
        key = (workload, store, unit)
        if key not in self._rows:
            self._rows[key] = self._row(workload, store, unit)
        row = self._rows[key]
        row.samples.append(sample)
        row.operations.append(operations)
        row.planned = max(row.planned, planned)

    def add_latencies(self, workload: str, store: str, histogram: Histogram) -> None:
        """Those of one repeat."""
        self._histograms[workload, store].append(histogram)

    def drop(self, store: str) -> None:
        """Forget a store that could not finish."""
        self._rows = {key: row for key, row in self._rows.items() if key[1] != store}
        for key in [key for key in self._histograms if key[1] == store]:
            del self._histograms[key]

    def finished(self) -> list[Row]:
        """All rows, the overhead of their workload's loop noted in each, and those of the latencies."""
        rows = [row for row in self._rows.values() if row.store != EMPTY]
        for row in rows:
            empty = self._rows.get((row.workload, EMPTY, row.unit))
            # The lowest: noise may make the overhead look larger, and subtracting its median would flatter all.
            row.subtract = 0.0 if empty is None else min(empty.samples)
        for (workload, store), histograms in self._histograms.items():
            if store != EMPTY:
                empties = self._histograms.get((workload, EMPTY), [])
                overhead_ns = min((empty.percentile(50.0) for empty in empties), default=0)
                rows.append(self._latency_row(workload, store, histograms, overhead_ns))
        return rows

    def _latency_row(self, workload: str, store: str, histograms: list[Histogram], overhead_ns: int) -> Row:
        def us(value_ns: int) -> float:
            return max(0, value_ns - overhead_ns) / 1e3

        row = self._row(workload, store, LATENCY)
        together = Histogram()
        for histogram in histograms:
            together.merge(histogram)
            row.operations.append(histogram.total)
            for percent, value in zip(PERCENTILES, histogram.percentiles(PERCENTILES), strict=True):
                row.percentiles.setdefault(f"p{percent:g}", []).append(us(value))
        row.curve = [(part, us(value)) for part, value in together.curve()]
        return row

    def _row(self, workload: str, store: str, unit: str) -> Row:
        return Row(workload=workload, store=store, unit=unit, keys=self._keys, value_bytes=self._value_bytes)

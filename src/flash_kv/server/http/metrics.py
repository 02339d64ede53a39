"""`/metrics` for Prometheus, by its client library: the meter's cells and the store's figures, read at each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

import flash_kv
from flash_kv import Stats
from flash_kv.server.histogram_cy import Cell, bucket_end
from flash_kv.server.http.answers import Answer
from flash_kv.server.http.requests import Request
from flash_kv.server.measuring import ENDLESS, Meter
from flash_kv.server.service import Service

# The ends of buckets of the meter: powers of two of microseconds, from 64 us to 17 s.
BOUNDS_US = [1 << power for power in range(6, 25)]


class Metrics:
    """The handler."""

    def __init__(self, service: Service, meter: Meter) -> None:
        self.service = service
        self.meter = meter

    async def get(self, request: Request) -> Answer:
        request.query(())
        stats = await self.service.call(self.service.db.stats)
        registry = CollectorRegistry()
        registry.register(_Collected(self.service, self.meter, stats))
        return Answer(200, [(b"content-type", CONTENT_TYPE_LATEST.encode())], generate_latest(registry))


class _Collected(Collector):
    """The metrics of one scrape."""

    def __init__(self, service: Service, meter: Meter, stats: Stats) -> None:
        self._service = service
        self._meter = meter
        self._stats = stats

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "flash_kv",
            "The server's version and its index.",
            value={"version": flash_kv.__version__, "index": self._stats.index},
        )
        yield from self._requests()
        yield from self._store()
        gauges = {"connections": self._service.connection_count, **self._service.gauges}
        for name, read in gauges.items():
            yield GaugeMetricFamily(f"flash_kv_server_{name}", f"Of the server: {name}.", value=read())

    def _requests(self) -> Iterator[Metric]:
        labels = ["method", "route", "status"]
        total = CounterMetricFamily("flash_kv_http_requests", "Requests answered.", labels=labels)
        bytes_in = CounterMetricFamily(
            "flash_kv_http_received_bytes", "Bytes of request bodies.", labels=labels
        )
        bytes_out = CounterMetricFamily(
            "flash_kv_http_sent_bytes", "Bytes of answers' bodies.", labels=labels
        )
        seconds = HistogramMetricFamily(
            "flash_kv_http_request_duration_seconds",
            "From a request's head to its answer's end.",
            labels=labels[:2],
        )
        routes: dict[tuple[str, str], list[Cell]] = {}
        for (method, route, status), cell in sorted(self._meter.cells.items()):
            names = [method, route, str(status)]
            total.add_metric(names, cell.count)
            bytes_in.add_metric(names, cell.bytes_in)
            bytes_out.add_metric(names, cell.bytes_out)
            if route not in ENDLESS:
                routes.setdefault((method, route), []).append(cell)
        for (method, route), cells in routes.items():
            seconds.add_metric(
                [method, route], _cumulated(cells), sum_value=sum(cell.seconds for cell in cells)
            )
        yield from (total, bytes_in, bytes_out, seconds)

    def _store(self) -> Iterator[Metric]:
        stats = self._stats
        gauges = {
            "keys": (stats.keys, "Keys."),
            "segments": (stats.segments, "Segments of the log."),
            "live_bytes": (stats.live_bytes, "Bytes of records that are the newest of their key."),
            "dead_bytes": (stats.dead_bytes, "Bytes that a compaction can give back."),
            "disk_bytes": (stats.disk_bytes, "What the directory takes on disk."),
            "index_bytes": (stats.index_bytes, "Memory of the index."),
            "snapshots": (stats.snapshots, "Open snapshots, those of running scans included."),
            "lsn": (stats.lsn, "The newest committed LSN."),
            "synced_lsn": (stats.synced_lsn, "Everything up to here survives a power cut."),
            "poisoned": (int(stats.is_poisoned), "1 after a failed sync: reads go on, writes do not."),
            "compacting": (int(stats.compaction is not None), "1 while a compaction runs."),
        }
        for name, (value, text) in gauges.items():
            yield GaugeMetricFamily(f"flash_kv_{name}", text, value=value)
        counters = {
            "syncs": (stats.syncs, "Syncs of the log."),
            "sync_duration_seconds": (stats.sync_duration_s, "Time spent in syncs."),
            "compactions": (stats.compactions, "Compactions."),
            "compaction_moved_bytes": (stats.compaction_bytes_moved, "Bytes that compactions copied."),
            "compaction_reclaimed_bytes": (stats.compaction_bytes_reclaimed, "Bytes that they gave back."),
        }
        for name, (count, text) in counters.items():
            yield CounterMetricFamily(f"flash_kv_{name}", text, value=count)


def _cumulated(cells: list[Cell]) -> list[tuple[str, float]]:
    """How many requests took at most each bound, in seconds."""
    found: list[tuple[str, float]] = []
    counts = [sum(column) for column in zip(*(cell.buckets for cell in cells), strict=True)]
    bucket = seen = 0
    for bound in BOUNDS_US:
        while bucket_end(bucket) <= bound:
            seen += counts[bucket]
            bucket += 1
        found.append((repr(bound / 1_000_000), seen))
    return [*found, ("+Inf", sum(cell.count for cell in cells))]

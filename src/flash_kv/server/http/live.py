"""`/v1/live`: the figures of the last second, once a second, as server-sent events for charts and `flash-kv top`.

One sampler serves all who look, and runs only while somebody does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from flash_kv import FlashKVError
from flash_kv.server.http.answers import Answer
from flash_kv.server.http.events import HEADERS, event, event_stream
from flash_kv.server.http.requests import Request
from flash_kv.server.jobs import Jobs
from flash_kv.server.measuring import Meter, Totals, quantile
from flash_kv.server.service import Service

PERIOD_S = 1.0


class Live:
    """The sampler and those who wait for its samples."""

    def __init__(self, service: Service, meter: Meter, jobs: Jobs) -> None:
        self.service = service
        self.meter = meter
        self.jobs = jobs
        self.period_s = PERIOD_S
        self.viewers = 0
        self._sample = b""
        self._turn = asyncio.Event()
        self._sampler: asyncio.Task[None] | None = None
        service.stoppers.append(self._stop)
        service.gauges["live_viewers"] = lambda: self.viewers

    async def get(self, request: Request) -> Answer:
        request.query(())
        if request.method == "HEAD":
            return Answer(200, HEADERS)
        return event_stream(self._view())

    async def _view(self) -> AsyncGenerator[bytes, None]:
        self.viewers += 1
        if self._sampler is None or self._sampler.done():
            self._sampler = asyncio.create_task(self._run(), name="live")
        sampler = self._sampler
        try:
            yield b"retry: 1000\n\n"
            while not self.service.is_stopping:
                await self._turn.wait()
                if sampler.done():
                    break
                # A viewer that is slow gets the newest one next and misses those in between.
                yield self._sample
        finally:
            self.viewers -= 1
            if self.viewers == 0:
                await self._stop()

    async def _stop(self) -> None:
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.cancel()
            await asyncio.gather(sampler, return_exceptions=True)
        self._tell()

    def _tell(self) -> None:
        before, self._turn = self._turn, asyncio.Event()
        before.set()

    async def _run(self) -> None:
        """Sample until the server stops."""
        try:
            before, began = self.meter.totals(), time.monotonic()
            while not self.service.is_stopping:
                await self._pause()
                now, ended = self.meter.totals(), time.monotonic()
                self._sample = event("live", await self._figures(before, now, ended - began))
                before, began = now, ended
                self._tell()
        except FlashKVError:
            return  # the store has been closed under the server
        finally:
            self._tell()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self.service.stopping.wait(), self.period_s)
        except TimeoutError:
            return

    async def _figures(self, before: Totals, now: Totals, seconds: float) -> dict[str, Any]:
        buckets = [b - a for a, b in zip(before.buckets, now.buckets, strict=True)]
        stats = await self.service.call(self.service.db.stats)
        return {
            "at": round(time.time(), 3),
            "ops": {
                name: round((now.counts[name] - before.counts[name]) / seconds, 1) for name in now.counts
            },
            "latency_us": {
                "p50": quantile(buckets, 0.5),
                "p99": quantile(buckets, 0.99),
                "max": quantile(buckets, 1.0),
            },
            "bytes_in": round((now.bytes_in - before.bytes_in) / seconds),
            "bytes_out": round((now.bytes_out - before.bytes_out) / seconds),
            "connections": self.service.connection_count(),
            "keys": stats.keys,
            "live_bytes": stats.live_bytes,
            "dead_bytes": stats.dead_bytes,
            "disk_bytes": stats.disk_bytes,
            "segments": stats.segments,
            "lsn": stats.lsn,
            "compaction": self._compaction(stats.compaction),
        }

    def _compaction(self, progress: Any) -> dict[str, Any]:
        """That of the job, and where there is none at work, that of the background."""
        shown = self.jobs.last["compaction"].as_dict()
        is_background = progress is not None and shown["state"] != "running"
        if is_background:
            share = progress.bytes_done / progress.bytes_total if progress.bytes_total else 0.0
            shown |= {"state": "running", "progress": share}
            shown |= {"bytes_done": progress.bytes_done, "bytes_total": progress.bytes_total}
        shown.pop("report", None)
        shown.pop("error", None)
        return {**shown, "is_background": is_background}

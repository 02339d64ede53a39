"""`/v1/stats`, `/v1/options`, `/v1/segments`, `/v1/slowlog`: figures that are at hand."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flash_kv import SegmentStats
from flash_kv.server.http.answers import Answer, json_answer
from flash_kv.server.http.requests import Request, number
from flash_kv.server.measuring import SLOW_MAX, Meter
from flash_kv.server.service import Service


class Figures:
    """The handlers."""

    def __init__(self, service: Service, meter: Meter) -> None:
        self.service = service
        self.meter = meter

    async def stats(self, request: Request) -> Answer:
        request.query(())
        # The size on disk is asked of the file system.
        stats = await self.service.call(self.service.db.stats)
        return json_answer({**stats.as_dict(), "server": self._server()})

    def _server(self) -> dict[str, Any]:
        totals = self.meter.totals()
        uptime_s = time.monotonic() - self.service.started_monotonic
        return {
            "uptime_s": round(uptime_s, 3),
            "connections": self.service.connection_count(),
            "requests": totals.counts,
            "rates": {name: round(count / uptime_s, 3) for name, count in totals.counts.items()},
            "bytes_in": totals.bytes_in,
            "bytes_out": totals.bytes_out,
        }

    async def options(self, request: Request) -> Answer:
        request.query(())
        store = {name: _plain(value) for name, value in asdict(self.service.db.options).items()}
        return json_answer({"store": store, "server": self.service.settings.as_dict()})

    async def segments(self, request: Request) -> Answer:
        request.query(())
        stats = await self.service.call(self.service.db.stats)
        return json_answer({"segments": [_segment(one) for one in stats.segment_stats]})

    async def slowlog(self, request: Request) -> Answer:
        limit = number(request.query(("limit",)), "limit", 100, 1, SLOW_MAX)
        return json_answer(
            {"threshold_ms": self.service.settings.slow_request_ms, "requests": self.meter.slowest(limit)}
        )

    async def clear_slowlog(self, request: Request) -> Answer:
        request.query(())
        self.meter.slow.clear()
        return Answer(204)


def _segment(one: SegmentStats) -> dict[str, Any]:
    return {
        "id": one.segment_id,
        "state": one.state,
        "bytes": one.bytes,
        "live_bytes": one.bytes - one.dead_bytes,
        "dead_bytes": one.dead_bytes,
        "records": one.records,
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value

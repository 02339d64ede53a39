"""What a person or a program looks after a server with; its parts share one meter and one list of jobs."""

from __future__ import annotations

from flash_kv.server.http.biggest import Biggest
from flash_kv.server.http.figures import Figures
from flash_kv.server.http.health import Health
from flash_kv.server.http.live import Live
from flash_kv.server.http.maintenance import Maintenance
from flash_kv.server.http.metrics import Metrics
from flash_kv.server.http.routing import Route
from flash_kv.server.measuring import Meter
from flash_kv.server.service import Service


def routes(service: Service) -> list[Route]:
    meter = Meter(service)
    maintenance = Maintenance(service)
    health = Health(service)
    figures = Figures(service, meter)
    return [
        Route("GET", "/healthz", health.healthz, None),
        Route("GET", "/readyz", health.readyz, None),
        Route("GET", "/metrics", Metrics(service, meter).get, "read"),
        Route("GET", "/v1/stats", figures.stats, "read"),
        Route("GET", "/v1/options", figures.options, "admin"),
        Route("GET", "/v1/segments", figures.segments, "read"),
        Route("GET", "/v1/slowlog", figures.slowlog, "admin"),
        Route("DELETE", "/v1/slowlog", figures.clear_slowlog, "admin"),
        Route("GET", "/v1/live", Live(service, meter, maintenance.jobs).get, "read"),
        Route("GET", "/v1/biggest", Biggest(service).get, "read"),
        *maintenance.routes(),
    ]

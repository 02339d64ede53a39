"""`POST /v1/sync`: back when everything committed so far survives a power cut."""

from __future__ import annotations

from flash_kv.server.http.answers import Answer
from flash_kv.server.http.requests import Request
from flash_kv.server.http.routing import Route
from flash_kv.server.service import Service


def routes(service: Service) -> list[Route]:
    async def sync(request: Request) -> Answer:
        request.query(())
        await service.call(service.db.sync)
        return Answer(204)

    return [Route("POST", "/v1/sync", sync, "write")]

"""`/v1/kv/{key}`: one value, its bytes as they are."""

from __future__ import annotations

from flash_kv.server.http.answers import OCTETS, Answer
from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import Request
from flash_kv.server.http.routing import Route
from flash_kv.server.http.spool import buffered_body
from flash_kv.server.service import Service


def routes(service: Service) -> list[Route]:
    values = Values(service)
    return [
        Route("GET", "/v1/kv/{key}", values.get, "read"),
        Route("PUT", "/v1/kv/{key}", values.put, "write"),
        Route("DELETE", "/v1/kv/{key}", values.delete, "write"),
    ]


class Values:
    """The handlers of `/v1/kv/{key}`."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.db = service.db

    async def get(self, request: Request) -> Answer:
        value = self.db.get(request.key)
        if value is None:
            raise missing()
        return Answer(200, [OCTETS], value)

    async def put(self, request: Request) -> Answer:
        key = request.key
        async with buffered_body(self.service, request, self.service.settings.value_bytes_max) as value:
            is_new = key not in self.db
            self.db.put(key, value)
        return Answer(201 if is_new else 204)

    async def delete(self, request: Request) -> Answer:
        if not self.db.delete(request.key):
            raise missing()
        return Answer(204)


def missing() -> Problem:
    return Problem(404, "there is no such key", slug="no-key")

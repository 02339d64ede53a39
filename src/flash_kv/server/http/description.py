"""`/openapi.json`: the description of this interface, made once."""

from __future__ import annotations

from flash_kv.server.http.answers import JSON, Answer, json_bytes
from flash_kv.server.http.requests import Request
from flash_kv.server.http.routing import Route
from flash_kv.server.openapi.document import document
from flash_kv.server.service import Service


def routes(service: Service) -> list[Route]:
    return [Route("GET", "/openapi.json", Description().get, None)]


class Description:
    """The handler of `/openapi.json`."""

    def __init__(self) -> None:
        self._body = b""

    async def get(self, request: Request) -> Answer:
        request.query(())
        self._body = self._body or json_bytes(document())
        return Answer(200, [JSON], self._body)

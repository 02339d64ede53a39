"""`GET /v1/watch`: the changes of the store as server-sent events."""

from __future__ import annotations

from flash_kv.server.http.answers import Answer
from flash_kv.server.http.events import HEADERS, event_stream
from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import Request, flag, number
from flash_kv.server.http.routing import Route
from flash_kv.server.service import Service
from flash_kv.server.watching import Hub, Watcher

LSN_MAX = 2**63 - 1


def routes(service: Service) -> list[Route]:
    return [Route("GET", "/v1/watch", Watch(service).get, "read")]


class Watch:
    """The handler of `/v1/watch`; all of its streams share one hub."""

    def __init__(self, service: Service) -> None:
        self.hub = Hub(service)

    async def get(self, request: Request) -> Answer:
        query = request.query(("prefix", "since", "values"))
        prefix = query.get("prefix", b"")
        if request.grant.prefixes:
            request.require_key(prefix)
        since = number(query, "since", -1, 0, LSN_MAX)
        # Where a client goes on after its connection was lost is newer than what it first asked for.
        if (last := request.headers.get(b"last-event-id")) is not None:
            if not last.isdigit() or len(last) > 19 or int(last) > LSN_MAX:
                raise Problem(400, "Last-Event-ID must be the id of an event")
            since = int(last)
        with_values = flag(query, "values")
        if request.method == "HEAD":
            return Answer(200, HEADERS)

        def wants(key: bytes) -> bool:
            return key.startswith(prefix)

        return event_stream(Watcher(self.hub, None if since < 0 else since, wants, with_values).stream())

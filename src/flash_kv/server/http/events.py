"""Server-sent events (WHATWG HTML, 9.2): one event as the bytes of a `text/event-stream`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from flash_kv.server.http.answers import Answer, json_bytes

HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # Proxies that gather answers would hold events back.
    (b"x-accel-buffering", b"no"),
)


def event(name: str, data: Any, number: int | None = None) -> bytes:
    """`data` as JSON, which has no line ends in it; `number` is what a client resumes from."""
    head = b"" if number is None else b"id: %d\n" % number
    return b"%sevent: %s\ndata: %s\n\n" % (head, name.encode(), json_bytes(data))


def event_stream(stream: AsyncGenerator[bytes, None]) -> Answer:
    """The answer to a request for events."""
    return Answer(200, HEADERS, stream=stream)

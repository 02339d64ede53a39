"""`Answer`: what a handler returns, a whole body or a stream of chunks."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

Header = tuple[bytes, bytes]

OCTETS = (b"content-type", b"application/octet-stream")
JSON = (b"content-type", b"application/json")


class Answer:
    """Status, headers and body. A body that is a stream has no length unless `headers` say one.

    A stream is an asynchronous generator; it is closed when it ends, when the client goes away (it is cancelled
    where it waits), and when the server stops.
    """

    __slots__ = ("body", "headers", "status", "stream")

    def __init__(
        self,
        status: int = 200,
        headers: Sequence[Header] = (),
        body: bytes = b"",
        stream: AsyncGenerator[bytes, None] | None = None,
    ) -> None:
        self.status = status
        self.headers = list(headers)
        self.body = body
        self.stream = stream

    def whole_headers(self) -> list[Header]:
        """The headers of an answer that is no stream, its length among them."""
        if self.status in (204, 304) or any(name == b"content-length" for name, _ in self.headers):
            return self.headers
        return [*self.headers, (b"content-length", b"%d" % len(self.body))]


def json_answer(content: Any, status: int = 200, headers: Sequence[Header] = ()) -> Answer:
    """`content` as JSON."""
    return Answer(status, [JSON, *headers], json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """`content` as compact JSON in UTF-8; ValueError for what JSON has no word for (NaN)."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

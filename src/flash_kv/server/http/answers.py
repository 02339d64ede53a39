"""`Answer`: what a handler returns, a whole body or a stream of chunks."""

from __future__ import annotations

import http
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

Header = tuple[bytes, bytes]

OCTETS = (b"content-type", b"application/octet-stream")
JSON = (b"content-type", b"application/json")


STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in http.HTTPStatus
}
# Statuses of answers that have no body, and so no length of one.
NO_BODY = frozenset((204, 304))


class Common:
    """Headers that many answers begin with, and the lines that say them, written once."""

    __slots__ = ("headers", "lines")

    def __init__(self, *headers: Header) -> None:
        self.headers = headers
        self.lines = b"".join(b"%b: %b\r\n" % header for header in headers)


NOTHING = Common()


class Answer:
    """Status, headers (`common` and then `headers`) and body. A stream has no length unless `headers` say one.

    A stream is an asynchronous generator; it is closed when it ends, when the client goes away (it is cancelled
    where it waits), and when the server stops.
    """

    __slots__ = ("body", "common", "headers", "status", "stream")

    def __init__(
        self,
        status: int = 200,
        headers: Sequence[Header] = (),
        body: bytes = b"",
        stream: AsyncGenerator[bytes, None] | None = None,
        common: Common = NOTHING,
    ) -> None:
        self.status = status
        self.headers = list(headers)
        self.body = body
        self.stream = stream
        self.common = common

    def all_headers(self) -> list[Header]:
        """The headers; of an answer that is no stream its length is among them."""
        if self.stream is not None or not self.needs_length():
            return [*self.common.headers, *self.headers]
        return [*self.common.headers, *self.headers, (b"content-length", b"%d" % len(self.body))]

    def needs_length(self) -> bool:
        """True when the body is all there and its length is not among the headers yet, but has to be."""
        if self.status in NO_BODY:
            return False
        for name, _ in self.headers:
            if name == b"content-length":
                return False
        return True

    def write_whole(self, stamp: bytes, *, is_head: bool, is_last: bool) -> bytes:
        """An answer that is no stream, as the bytes of HTTP/1.1; `stamp` are the lines every answer has."""
        pieces = [STATUS_LINES[self.status], stamp, self.common.lines]
        for name, value in self.headers:
            pieces += (name, b": ", value, b"\r\n")
        if self.needs_length():
            pieces.append(b"content-length: %d\r\n" % len(self.body))
        pieces.append(b"connection: close\r\n\r\n" if is_last else b"\r\n")
        if not is_head:
            pieces.append(self.body)
        return b"".join(pieces)


def json_answer(content: Any, status: int = 200, headers: Sequence[Header] = ()) -> Answer:
    """`content` as JSON."""
    return Answer(status, [JSON, *headers], json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """`content` as compact JSON in UTF-8; ValueError for what JSON has no word for (NaN)."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

"""Reading server-sent events, in tests."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx


class Sent(NamedTuple):
    """One event as it came."""

    name: str
    data: dict[str, Any]
    id: str | None


class Events:
    """The events of one open answer."""

    def __init__(self, response: httpx.Response) -> None:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream"
        self._events = _events(response)

    def next(self, *, beats: bool = False) -> Sent:
        """The next event; those that only say that the connection lives are passed over."""
        for sent in self._events:
            if beats or sent.name != "beat":
                return sent
        raise AssertionError("the stream has ended")

    def take(self, count: int) -> list[Sent]:
        """So many events, beats left out."""
        return [self.next() for _ in range(count)]

    def rest(self) -> list[Sent]:
        """All that comes until the server ends the stream, beats left out."""
        return [sent for sent in self._events if sent.name != "beat"]


def _events(response: httpx.Response) -> Iterator[Sent]:
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, text = line.partition(": ")
            fields[name] = text
        elif "event" in fields:
            yield Sent(fields["event"], json.loads(fields["data"]), fields.get("id"))
            fields = {}


@contextlib.contextmanager
def events(client: httpx.Client, url: str, **headers: str) -> Iterator[Events]:
    """The events at `url`, from the moment the server has begun to send them."""
    with client.stream("GET", url, headers=headers) as response:
        yield Events(response)

"""Answers that go on: paced by their reader, ended when it goes away and when the server stops. And observers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import httpx
import pytest

from flash_kv.server.http import resources
from flash_kv.server.http.answers import Answer
from flash_kv.server.http.requests import Request
from flash_kv.server.http.routing import Route, Table
from flash_kv.server.service import Service
from support.servers import DEADLINE_S, Served, served
from support.waiting import wait_until


class Endless:
    """A resource whose stream has nothing to say after its first chunk; and one that never stops talking."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.ended: list[str] = []
        self.sent = 0

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/test/silent", self.silent, "read"),
            Route("GET", "/test/talking", self.talking, "read"),
            Route("GET", "/test/stopping", self.stopping, "read"),
        ]

    async def silent(self, request: Request) -> Answer:
        return Answer(stream=self._silent())

    async def _silent(self) -> AsyncGenerator[bytes, None]:
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            self.ended.append("silent")

    async def talking(self, request: Request) -> Answer:
        return Answer(stream=self._talking())

    async def _talking(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                self.sent += 1
                yield b"x" * 65536
        finally:
            self.ended.append("talking")

    async def stopping(self, request: Request) -> Answer:
        return Answer(stream=self._stopping())

    async def _stopping(self) -> AsyncGenerator[bytes, None]:
        yield b"begun"
        await self.service.stopping.wait()
        yield b"ended"


@contextlib.contextmanager
def served_with_endless(
    path: Path, monkeypatch: pytest.MonkeyPatch, **settings: float
) -> Iterator[tuple[Served, Endless]]:
    made: list[Endless] = []

    def routes(service: Service) -> list[Route]:
        made.append(Endless(service))
        return made[0].routes()

    monkeypatch.setattr(resources, "RESOURCES", (*resources.RESOURCES, routes))
    with served(path, settings) as server:
        server.db[b"first"] = b""
        yield server, made[0]


def test_a_stream_ends_when_its_client_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served_with_endless(tmp_path / "db", monkeypatch) as (server, endless):
        for path in ("silent", "talking"):
            with httpx.stream("GET", f"{server.url}/test/{path}", timeout=DEADLINE_S) as answer:
                assert next(answer.iter_raw())
            wait_until(lambda path=path: endless.ended[-1:] == [path])
        assert server.client.get("/v1/kv/first").status_code == 200


def test_a_stream_behind_which_another_request_waits_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_with_endless(tmp_path / "db", monkeypatch) as (server, endless):
        with server.connect() as connection:
            head = b"GET /test/silent HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(head + head)
            assert connection.recv(100)
        wait_until(lambda: endless.ended == ["silent"])
        wait_until(lambda: server.service.connection_count() == 0)


def test_a_stream_waits_for_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served_with_endless(tmp_path / "db", monkeypatch) as (server, endless):
        with server.connect() as connection:
            connection.sendall(b"GET /test/talking HTTP/1.1\r\nHost: localhost\r\n\r\n")
            sent = 0
            while endless.sent == 0 or endless.sent > sent:
                sent = endless.sent
                # Ten answers later it has said all that the system takes for a reader that does not read.
                for _ in range(10):
                    assert server.client.get("/v1/kv/first").status_code == 200
            assert sent * 65536 < 64 << 20
        wait_until(lambda: endless.ended == ["talking"])


def test_a_stop_lets_streams_say_their_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=DEADLINE_S))
        with served_with_endless(tmp_path / "db", monkeypatch) as (server, _):
            answer = stack.enter_context(client.stream("GET", f"{server.url}/test/stopping"))
            chunks = answer.iter_raw()
            assert next(chunks) == b"begun"
        assert b"".join(chunks) == b"ended"


def test_a_stop_ends_streams_that_do_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=DEADLINE_S))
        with served_with_endless(tmp_path / "db", monkeypatch, stop_timeout_s=0.1) as (server, endless):
            answer = stack.enter_context(client.stream("GET", f"{server.url}/test/silent"))
            assert next(answer.iter_raw()) == b"begun"
        assert endless.ended == ["silent"]


def test_observers_see_every_request(tmp_path: Path) -> None:
    seen: list[Request] = []
    with served(tmp_path / "db") as server:
        server.db[b"first"] = b""
        server.service.observers.append(seen.append)
        server.client.put("/v1/kv/a%2Fb", content=b"12345")
        server.client.get("/v1/kv/a/b")
        server.client.get("/v1/dump")
        server.client.get("/nothing")
        with server.connect() as connection:
            connection.sendall(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab")
        wait_until(lambda: len(seen) == 5)
    rows = [(one.method, one.route, one.path, one.status, one.bytes_in) for one in seen]
    assert rows == [
        ("PUT", "/v1/kv/{key}", b"/v1/kv/a%2Fb", 201, 5),
        ("GET", "/v1/kv/{key}", b"/v1/kv/a/b", 200, 0),
        ("GET", "/v1/dump", b"/v1/dump", 200, 0),
        ("GET", "", b"/nothing", 404, 0),
        ("PUT", "/v1/kv/{key}", b"/v1/kv/k", 499, 2),
    ]
    assert seen[1].bytes_out == 5
    assert all(one.client == "127.0.0.1" and 0 <= one.duration_s < DEADLINE_S for one in seen)


def test_a_table_refuses_two_routes_for_one_request() -> None:
    async def handle(request: Request) -> Answer:
        return Answer()

    route = Route("GET", "/a/{key}", handle, None)
    with pytest.raises(ValueError, match="two routes"):
        Table([route, route])

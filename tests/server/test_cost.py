"""What a small request costs, in calls: a figure that a busy machine cannot change, for work that comes in unseen."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from types import FrameType

import pytest
from uvicorn.server import ServerState

import flash_kv
from flash_kv.server.process import make_config
from flash_kv.server.service import Service
from flash_kv.server.settings import ServerSettings

GET = b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n"
PUT = b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"


class Sink(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written += data


@pytest.mark.parametrize(("request_bytes", "status", "calls_max"), [(GET, 200, 26), (PUT, 204, 30)])
def test_a_small_request_takes_few_calls(
    tmp_path: Path, request_bytes: bytes, status: int, calls_max: int
) -> None:
    calls: list[str] = []
    counted: list[list[str]] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)

    async def count() -> bytes:
        config = make_config(service)
        config.load()
        connection = config.http_protocol_class(config, ServerState(), {})  # type: ignore[operator, call-arg]
        sink = Sink()
        connection.connection_made(sink)
        connection.data_received(request_bytes)
        # The fewest of several: one may be slow enough for the slow log, or be the first of its second.
        for _ in range(5):
            sink.written = b""
            sys.setprofile(note)
            try:
                connection.data_received(request_bytes)
            finally:
                sys.setprofile(None)
            counted.append(calls.copy())
            calls.clear()
        connection.connection_lost(None)
        return sink.written

    with flash_kv.open(tmp_path / "db", compaction="off") as db:
        db[b"k"] = b"abc"
        with contextlib.closing(Service(db, ServerSettings(http="127.0.0.1:0"))) as service:
            answer = asyncio.run(count())
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    fewest = min(counted, key=len)
    assert 0 < len(fewest) <= calls_max, fewest

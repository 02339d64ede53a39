"""A store in trouble, seen from outside: poisoned, full, damaged, read-only, closed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flash_kv import DB, Options
from flash_kv.io.faulty import Fault, FaultySystem
from flash_kv.server.http import spool
from flash_kv.server.http.app import Application
from flash_kv.server.http.requests import Request
from flash_kv.server.settings import ServerSettings
from support.servers import Served, served_db

Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(system, **options)`: a store on that system, served; both end with the test."""
    with contextlib.ExitStack() as stack:

        def serve_one(system: FaultySystem, **options: Any) -> Served:
            db = stack.enter_context(DB(tmp_path / "db", Options(**{"compaction": "off", **options}), system))
            return stack.enter_context(served_db(db, ServerSettings(http="127.0.0.1:0")))

        yield serve_one


def test_a_poisoned_store_is_503_for_writes_and_reads_go_on(serve: Serve) -> None:
    system = FaultySystem()
    server = serve(system, durability="always")
    assert server.client.put("/v1/kv/a", content=b"1").status_code == 201
    system.add(Fault("sync_data", errno=errno.EIO))
    answer = server.client.put("/v1/kv/b", content=b"2")
    system.heal()
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:flash-kv:poisoned")
    for method, path in [("PUT", "/v1/kv/c"), ("DELETE", "/v1/kv/a"), ("DELETE", "/v1/kv?all=true")]:
        assert server.client.request(method, path).status_code == 503
    assert server.client.post("/v1/load", content=b'{"key":"a","value":""}').status_code == 503
    assert server.client.get("/v1/kv/a").content == b"1"
    assert server.client.get("/v1/kv/b").status_code == 404
    assert server.client.get("/v1/kv").json()["items"][0]["key"] == "a"


def test_no_space_is_507_until_there_is_some(serve: Serve) -> None:
    system = FaultySystem()
    server = serve(system, segment_bytes_max=65536, reserve_bytes=0)
    assert server.client.put("/v1/kv/0", content=b"x" * 20_000).status_code == 201
    system.add(Fault("allocate", errno=errno.ENOSPC, from_then_on=True))
    statuses = [server.client.put(f"/v1/kv/{n}", content=b"x" * 20_000).status_code for n in range(1, 12)]
    assert statuses[-1] == 507
    assert server.client.get("/v1/kv/0").content == b"x" * 20_000
    assert server.client.get("/v1/kv/11").status_code == 404
    system.heal()
    assert server.client.put("/v1/kv/11", content=b"x" * 20_000).status_code == 201


def test_a_damaged_record_is_500_with_its_place_and_others_are_served(serve: Serve) -> None:
    system = FaultySystem()
    server = serve(system, io="file")
    server.db.update({b"good": b"good" * 10, b"bad": b"to be damaged"})
    (segment,) = [path for path in server.db.path.glob("*.seg") if b"to be damaged" in path.read_bytes()]
    content = segment.read_bytes()
    at = content.index(b"to be damaged")
    _overwrite(segment, at, b"T")
    answer = server.client.get("/v1/kv/bad")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:flash-kv:damaged")
    assert answer.json()["path"] == str(segment)
    assert 0 < answer.json()["offset"] <= at
    assert server.client.get("/v1/kv/good").content == b"good" * 10
    with pytest.raises(Exception, match="peer closed connection"):
        server.client.get("/v1/dump")
    # The store could not be closed clean with it.
    _overwrite(segment, at, b"t")


def _overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def test_a_store_for_reading_is_403_for_writes(tmp_path: Path, serve: Serve) -> None:
    serve(FaultySystem()).db.close()
    server = serve(FaultySystem(), read_only=True)
    assert server.client.put("/v1/kv/a", content=b"1").status_code == 403
    assert server.client.get("/v1/kv/a").status_code == 404


def test_a_closed_store_is_503(serve: Serve) -> None:
    server = serve(FaultySystem())
    server.db.close()
    assert server.client.get("/v1/kv/a").status_code == 503
    assert server.client.put("/v1/kv/a", content=b"1").status_code == 503


def test_what_nobody_foresaw_is_500_without_details(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(FaultySystem())

    def fail() -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("flash_kv.server.http.listing.bounds_of", lambda *arguments: fail())
    answer = server.client.get("/v1/count")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    assert server.client.get("/v1/kv/a").status_code == 404


def test_what_nobody_foresaw_while_a_head_is_read_is_logged_and_ends_the_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(FaultySystem())

    def fail(application: Application, request: Request) -> bool:
        raise RuntimeError("secret")

    monkeypatch.setattr(Application, "is_immediate", fail)
    get = b"GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = server.talk(get + get)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"secret" not in answer
    assert "secret" in caplog.text


def test_a_failed_sync_is_told_for_a_write_that_asked_for_it(serve: Serve) -> None:
    system = FaultySystem()
    server = serve(system)
    system.add(Fault("sync_data", errno=errno.EIO))
    assert server.client.put("/v1/kv/a", content=b"1").status_code == 201
    assert server.client.put("/v1/kv/b?durability=always", content=b"1").status_code == 503
    system.heal()


def test_a_body_for_which_there_is_no_space_is_refused_before_it_is_sent(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = os.statvfs_result((4096, 4096, 1 << 20, 1 << 20, 1000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(spool.os, "statvfs", lambda path: free)
    spool_bytes = server.service.settings.spool_bytes
    value_bytes_max = server.service.settings.value_bytes_max
    for size, status in (
        (4096 * 1000 + 1, b"507"),
        (4096 * 1000, b"100"),
        (spool_bytes, b"100"),
        # What nobody may send, however much space there is, has its own answer.
        (value_bytes_max + 1, b"413"),
    ):
        with server.connect() as connection:
            head = f"PUT /v1/kv/announced HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            answer = connection.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 %b " % status), size
    # Who does not ask first is answered once the body has been dropped.
    assert server.client.put("/v1/kv/announced", content=bytes(4096 * 1000 + 1)).status_code == 507
    assert server.client.get("/v1/kv/announced").status_code == 404

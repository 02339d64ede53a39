"""Clients that are too slow, too many, or say too much: each costs the server little, and the next one is served."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from support.servers import Served, read_all, served
from support.waiting import wait_until

HEAD_BYTES = 1024
VALUE_BYTES = 200_000
CONNECTIONS = 8
SETTINGS = {
    "header_bytes_max": HEAD_BYTES,
    "headers_max": 10,
    "value_bytes_max": VALUE_BYTES,
    "spool_bytes": 50_000,
    "connections_max": CONNECTIONS,
    "header_timeout_s": 0.3,
    "transfer_timeout_s": 0.4,
    "idle_timeout_s": 0.5,
}
GET = b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n"
PUT = b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with small limits and little patience."""
    with served(tmp_path_factory.mktemp("strict") / "db", SETTINGS) as server:
        server.db[b"first"] = b""
        yield server


@pytest.fixture(autouse=True)
def serves_afterwards(strict: Served) -> Iterator[None]:
    """After each test nothing of it is left, and the server serves."""
    yield
    wait_until(lambda: strict.service.connection_count() <= 1)
    assert strict.client.get("/v1/kv/first").status_code == 200


def status_of(answer: bytes) -> int:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    problem = json.loads(body)
    assert int(answer.split(b" ", 2)[1]) == problem["status"]
    return int(problem["status"])


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET + b"".join(b"X-%d: y\r\n" % n for n in range(10)) + b"\r\n", 431),
        (GET + b"X: " + b"y" * HEAD_BYTES + b"\r\n\r\n", 431),
        (GET + b"y" * HEAD_BYTES + b": x\r\n\r\n", 431),
        (b"GET /v1/kv/" + b"k" * HEAD_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /v1/kv/" + b"k" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    ],
)
def test_a_long_head_is_refused(strict: Served, head: bytes, status: int) -> None:
    assert status_of(strict.talk(head)) == status


@pytest.mark.parametrize("endless", [b"X: " + b"y" * 100, b"y" * 100, b"X: y\r\n"])
def test_a_head_without_an_end_is_refused_at_its_limit(strict: Served, endless: bytes) -> None:
    with strict.connect() as connection:
        connection.sendall(GET)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 24:
                connection.sendall(endless)
                sent += len(endless)
        assert sent < 1 << 22
        assert (
            status_of(read_all(connection) or b'HTTP/1.1 431 x\r\nconnection: close\r\n\r\n{"status":431}')
            == 431
        )


def test_ten_headers_are_not_too_many(strict: Served) -> None:
    head = GET + b"Connection: close\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(8)) + b"\r\n"
    assert strict.talk(head).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("begun", [b"G", GET, GET + b"X: y", GET + b"\r\n" + b"GET /"])
def test_a_head_that_is_not_finished_in_time_is_408(strict: Served, begun: bytes) -> None:
    answer = strict.talk(begun)
    assert b"HTTP/1.1 408 " in answer
    assert answer.count(b"HTTP/1.1 ") == 1 + begun.count(b"\r\n\r\n")


def test_a_connection_that_says_nothing_is_closed(strict: Served) -> None:
    strict.talk(b"")


def test_a_connection_without_another_request_is_closed(strict: Served) -> None:
    assert strict.talk(GET + b"\r\n").startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 60_000])
def test_a_body_that_stops_is_408_and_stores_nothing(strict: Served, body: bytes) -> None:
    answer = strict.talk(PUT + b"Content-Length: 100000\r\n\r\n" + body)
    assert status_of(answer) == 408
    assert b"k" not in strict.db


def test_a_chunked_body_that_stops_is_408_and_stores_nothing(strict: Served) -> None:
    answer = strict.talk(PUT + b"Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n5\r\nab")
    assert status_of(answer) == 408
    assert b"k" not in strict.db


def test_a_body_that_trickles_is_408(strict: Served) -> None:
    with strict.connect() as connection:
        connection.sendall(PUT + b"Content-Length: 100000\r\n\r\n")
        connection.settimeout(0.05)
        answer = b""
        while not answer:
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1 << 16)
                break
            connection.sendall(b"x")
        assert status_of(answer) == 408
    assert b"k" not in strict.db


@pytest.mark.parametrize("body", [b"x" * 10, b"x" * 60_000])
def test_a_client_that_leaves_in_the_middle_of_its_body_stores_nothing(strict: Served, body: bytes) -> None:
    with strict.connect() as connection:
        connection.sendall(PUT + b"Content-Length: 100000\r\n\r\n" + body)
    wait_until(lambda: strict.service.connection_count() <= 1)
    assert b"k" not in strict.db


def test_a_body_longer_than_announced_is_cut_and_its_rest_is_no_request(strict: Served) -> None:
    answer = strict.talk(PUT + b"Content-Length: 3\r\n\r\nabcdefg")
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert strict.db.pop(b"k") == b"abc"


@pytest.mark.parametrize("extra", [1, 100_000, 1 << 30])
def test_a_value_that_is_announced_too_long_is_413(strict: Served, extra: int) -> None:
    head = PUT + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (VALUE_BYTES + extra)
    assert status_of(strict.talk(head)) == 413


def test_a_value_that_turns_out_too_long_is_413(strict: Served) -> None:
    answer = strict.client.put("/v1/kv/k", content=iter([b"x" * 50_000] * 5))
    assert (answer.status_code, answer.json()["limit"]) == (413, VALUE_BYTES)
    assert strict.client.put("/v1/kv/k", content=b"x" * (VALUE_BYTES + 1)).status_code == 413
    assert b"k" not in strict.db


def test_a_value_of_just_the_limit_is_stored(strict: Served) -> None:
    value = bytes(range(256)) * (VALUE_BYTES // 256)
    assert strict.client.put("/v1/kv/k", content=value).status_code == 201
    assert strict.client.put("/v1/kv/k", content=iter([value[:60_000], value[60_000:]])).status_code == 204
    assert strict.db.pop(b"k") == value


def test_one_connection_too_many_is_503(strict: Served) -> None:
    with contextlib.ExitStack() as stack:
        # The client of this fixture has one.
        assert strict.client.get("/v1/kv/first").status_code == 200
        for _ in range(CONNECTIONS - 1):
            stack.enter_context(strict.connect()).sendall(b"G")
        wait_until(lambda: strict.service.connection_count() == CONNECTIONS)
        assert status_of(strict.talk(GET + b"\r\n")) == 503
        assert strict.client.get("/v1/kv/first").status_code == 200


def open_unread(server: Served) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(server.address)
    return connection


@pytest.mark.parametrize("path", [b"/v1/kv/large", b"/v1/dump?prefix=large"])
def test_a_client_that_never_reads_is_let_go(strict: Served, path: bytes) -> None:
    strict.db[b"large"] = b"x" * (32 << 20)
    with open_unread(strict) as connection:
        connection.sendall(GET.replace(b"/v1/kv/k", path) + b"\r\n")
        # The answer has begun, and goes no further. The other connection has nothing to do and is closed as well.
        assert connection.recv(1, socket.MSG_PEEK) == b"H"
        wait_until(lambda: strict.service.connection_count() == 0)
    del strict.db[b"large"]


def test_a_client_that_never_reads_its_small_answers_is_let_go(strict: Served) -> None:
    strict.db[b"k"] = b"x" * 60_000
    with open_unread(strict) as connection:
        with contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(200):
                connection.sendall(GET + b"\r\n")
        wait_until(lambda: strict.service.connection_count() <= 1)
    del strict.db[b"k"]

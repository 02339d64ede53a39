"""Requests for one key are answered at once or by way of ASGI: which of the two, nobody can tell.

The same bytes go to two servers, of which one never answers at once; answers, what is stored and what is counted have
to be the same. All requests of a sequence are sent in one piece, so they are in order both ways too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flash_kv.engine import record
from flash_kv.io.clock_cy import time_ms
from flash_kv.server import process
from flash_kv.server.histogram_cy import Counting
from flash_kv.server.http.app import Application
from flash_kv.server.http.protocol import Connection
from flash_kv.server.http.requests import Request
from support.servers import Served, served

VALUE_BYTES_MAX = 40
LIMITS = {"value_bytes_max": VALUE_BYTES_MAX, "headers_max": 12}
# What differs between two moments.
MOMENTS = re.compile(rb"(date|flashkv-expires|flashkv-ttl): [^\r]*")

METHODS = st.sampled_from([b"GET", b"PUT", b"PUT", b"GET", b"HEAD", b"DELETE", b"POST"])
PATHS = st.sampled_from(
    [
        *(b"/v1/kv/a", b"/v1/kv/a", b"/v1/kv/b", b"/v1/kv/b%2Fc", b"/v1/kv/b/c", b"/v1/kv/%zz", b"/v1/kv/"),
        *(b"/v1/kv/a?durability=process", b"/v1/kv/a?durability=always", b"/v1/kv/a?durability=never"),
        *(b"/v1/kv/a?other=1", b"/v1/count", b"/v1/kv", b"/nowhere", b"http://localhost/v1/kv/a"),
    ]
)
# <1> stands for the LSN of the first write of a sequence, and so on.
TAGS = st.sampled_from([b"*", b'"<1>"', b'"<2>"', b'"<3>"', b'W/"<2>"', b'"<1>", "<2>"', b"none", b""])
RANGES = st.sampled_from([b"bytes=0-1", b"bytes=2-", b"bytes=-3", b"bytes=100-", b"lines=1-2"])
HEADERS = st.lists(
    st.one_of(
        TAGS.map(lambda tag: (b"If-Match", tag)),
        TAGS.map(lambda tag: (b"if-none-match", tag)),
        RANGES.map(lambda part: (b"Range", part)),
        st.sampled_from([b"text/plain", b"application/octet-stream", b"\xff"]).map(
            lambda kind: (b"Content-Type", kind)
        ),
        st.sampled_from([b"1000", b"0", b"soon"]).map(lambda ttl: (b"FlashKV-TTL", ttl)),
        st.sampled_from([b"http://elsewhere", b"http://localhost"]).map(lambda own: (b"Origin", own)),
        st.sampled_from([(b"Accept", b"*/*"), (b"Connection", b"keep-alive"), (b"Expect", b"100-continue")]),
    ),
    max_size=3,
)
BODIES = st.one_of(st.just(b""), st.binary(max_size=VALUE_BYTES_MAX), st.just(b"x" * (VALUE_BYTES_MAX + 1)))
HOSTS = st.sampled_from([b"localhost"] * 5 + [b"example.org"])
REQUESTS = st.lists(st.tuples(METHODS, PATHS, HOSTS, HEADERS, BODIES), min_size=1, max_size=8)


class Patient(Application):
    """The application, if nothing could be answered at once."""

    def is_immediate(self, request: Request) -> bool:
        return False


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """A server as it is, and one that answers nothing at once."""
    folder: Path = tmp_path_factory.mktemp("both")
    with served(folder / "quick", LIMITS) as quick, pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "make_application", Patient)
        # Times to live begin at one moment for both, so that pages tell the same ends.
        now_ms = time_ms()
        patch.setattr(record, "time_ms", lambda: now_ms)
        with served(folder / "patient", LIMITS) as patient:
            for server in (quick, patient):
                server.db[b"first"] = b""
            yield quick, patient


def wire(requests: list[tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes]]) -> bytes:
    """The bytes of some requests, the last of their connection behind them."""
    pieces = []
    for method, path, host, headers, body in requests:
        lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: " + host]
        lines += [name + b": " + value for name, value in headers]
        if body or method in (b"PUT", b"POST"):
            lines.append(b"Content-Length: %d" % len(body))
        pieces += [b"\r\n".join(lines), b"\r\n\r\n", body]
    pieces.append(b"GET /v1/kv/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return b"".join(pieces)


def counted(server: Served) -> dict[tuple[str, str, int], tuple[int, int, int]]:
    """How many requests of each kind there were, and the bytes of bodies in and out."""
    (counting,) = {observe.__self__ for observe in server.service.observers}  # type: ignore[attr-defined]
    assert isinstance(counting, Counting)
    return {kind: (cell.count, cell.bytes_in, cell.bytes_out) for kind, cell in counting.cells.items()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=REQUESTS)
def test_what_is_answered_at_once_is_answered_as_all_else(
    both: tuple[Served, Served],
    requests: list[tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes]],
) -> None:
    quick, patient = both
    for server in both:
        server.db.clear()
    lsn = quick.db.last_lsn
    assert lsn == patient.db.last_lsn
    sent = re.sub(rb"<(\d)>", lambda number: b"%d" % (lsn + int(number[1])), wire(requests))
    answers = [MOMENTS.sub(rb"\1: then", server.talk(sent)) for server in both]
    assert answers[0] == answers[1]
    assert dict(quick.db) == dict(patient.db)
    # Every request is counted before its connection is closed.
    assert counted(quick) == counted(patient)


def test_only_one_of_the_servers_answers_at_once(
    both: tuple[Served, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[str] = []
    write_answer = Connection._write_answer

    def noting(connection: Connection, request: Request, answer: object) -> None:
        at_once.append(request.method)
        write_answer(connection, request, answer)  # type: ignore[arg-type]

    monkeypatch.setattr(Connection, "_write_answer", noting)
    for server in both:
        server.client.put("/v1/kv/k", content=b"v")
        server.client.get("/v1/kv/k")
        server.client.get("/v1/kv/missing")
        server.client.head("/v1/kv/k")
        server.client.delete("/v1/kv/k")
    assert at_once == ["PUT", "GET", "GET", "HEAD", "DELETE"]


def test_many_requests_in_one_piece_are_answered_in_order(both: tuple[Served, Served]) -> None:
    for server in both:
        puts = [(b"PUT", b"/v1/kv/%d" % n, b"localhost", [], b"%d" % n) for n in range(300)]
        # Every tenth goes by way of ASGI on either server, and those behind it wait for it.
        gets = [(b"GET", b"/v1/kv/%d" % n, b"localhost", [], b"") for n in range(300)]
        lists = [(b"GET", b"/v1/count", b"localhost", [], b"")] * 30
        for place, one in enumerate(lists):
            gets.insert(place * 11, one)
        answer = server.talk(wire(puts + gets))
        bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 ")[1:]]
        assert len(bodies) == 631
        values = [body for body in bodies[300:-1] if not body.startswith(b"{")]
        assert values == [b"%d" % n for n in range(300)]
        server.db.clear()

"""Requests that two servers could read differently, as raw bytes to the real parser: refused, and the connection ended.

Whatever comes behind such a request must never be read as another one: each case sends a PUT after it.
"""

from __future__ import annotations

import pytest

from support.servers import Served

SECOND = b"PUT /v1/kv/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
POST = b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

CASES = {
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "one length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a length with a plus": POST + b"Content-Length: +3\r\n\r\nabc",
    "a length below zero": POST + b"Content-Length: -1\r\n\r\n",
    "a length in hexadecimal": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "a length of 2**64 and 3": POST + b"Content-Length: 18446744073709551619\r\n\r\nabc",
    "a chunk longer than it says": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "a chunk that ends with LF": CHUNKED + b"3\r\nabc\n0\r\n\r\n",
    "a chunk size that ends with LF": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "a chunk extension that ends with LF": CHUNKED + b"3;a=b\nabc\r\n0\r\n\r\n",
    "a chunk of a negative size": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with a space": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding that is nearly chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and identity": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST /v1/batch HTTP/1.0\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": GET + b"X: a\r\n b\r\n\r\n",
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a head that begins with a space": b"GET /v1/kv/k HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "lines that end with LF": b"GET /v1/kv/k HTTP/1.1\nHost: localhost\n\n",
    "one line that ends with LF": GET + b"X: a\nY: b\r\n\r\n",
    "one line that ends with CR": GET + b"X: a\rY: b\r\n\r\n",
    "a NUL in a value": GET + b"X: a\0b\r\n\r\n",
    "a NUL in a name": GET + b"X\0Y: b\r\n\r\n",
    "a NUL in the path": b"GET /v1/kv/\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a byte above 127 in the path": b"GET /v1/kv/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a fragment": b"GET /v1/kv/k#x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /v1/kv/k HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: other\r\n\r\n",
    "no version": b"GET /v1/kv/k\r\n\r\n",
    "HTTP/2.0": b"GET /v1/kv/k HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("case", CASES)
def test_an_ambiguous_request_is_refused_and_nothing_behind_it_is_read(server: Served, case: str) -> None:
    answer = server.talk(CASES[case] + SECOND)
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 505), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.partition(b"\r\n\r\n")[2].startswith(b'{"type":"urn:flash-kv:malformed"')
    assert b"smuggled" not in server.db


def test_nothing_behind_an_upgrade_is_read(server: Served) -> None:
    head = GET + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    answer = server.talk(head + SECOND)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"smuggled" not in server.db


@pytest.mark.parametrize("path", [b"/v1/kv/k", b"/v1/count"])
def test_nothing_behind_the_last_request_is_read(server: Served, path: bytes) -> None:
    answer = server.talk(GET.replace(b"/v1/kv/k", path) + b"Connection: close\r\n\r\n" + SECOND + SECOND)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"smuggled" not in server.db


def test_an_answer_on_its_way_is_finished_before_the_refusal_of_what_follows(server: Served) -> None:
    server.db[b"k"] = b"v" * 10
    broken = b"BROKEN\0\r\n\r\n" + SECOND
    # One that is answered by a task; there is no room for a refusal behind it.
    answer = server.talk(GET.replace(b"/v1/kv/k", b"/v1/count?prefix=k") + b"\r\n" + broken)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"count":1}')
    # One that is answered at once.
    first, second = server.talk(GET + b"\r\n" + broken).split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ")
    assert first.endswith(b"v" * 10)
    assert second.startswith(b"400 ")
    del server.db[b"k"]
    assert b"smuggled" not in server.db


def test_requests_in_one_packet_are_answered_in_order(server: Served) -> None:
    last = GET.replace(b"/k ", b"/last ") + b"Connection: close\r\n\r\n"
    answer = server.talk(SECOND + GET.replace(b"/k ", b"/smuggled ") + b"\r\n" + last)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"201", b"200", b"404"]
    assert server.db.pop(b"smuggled") == b"x"

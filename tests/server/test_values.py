"""`/v1/kv/{key}`: single values over the network."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

import pytest

from support.servers import Served


def url_of(key: bytes) -> str:
    # Clients take "." and ".." out of a path unless they are encoded.
    return "/v1/kv/" + quote_from_bytes(key, safe="").replace(".", "%2E")


def test_a_value_is_put_read_and_deleted(server: Served) -> None:
    url = url_of(b"one")
    assert server.client.get(url).status_code == 404
    assert server.client.put(url, content=b"1").status_code == 201
    assert server.client.put(url, content=b"2").status_code == 204
    assert server.client.get(url).content == b"2"
    assert server.client.delete(url).status_code == 204
    assert server.client.delete(url).status_code == 404
    assert b"one" not in server.db


@pytest.mark.parametrize(
    "key",
    [b"\x00", b"\xff\xfe", b"a/b//c", b"../../etc/passwd", b".", b"..", b"a b+c%20", b"?#&=", b"k" * 9000],
    ids=repr,
)
def test_any_bytes_are_a_key(server: Served, key: bytes) -> None:
    assert server.client.put(url_of(key), content=key).status_code == 201
    assert server.db[key] == key
    assert server.client.get(url_of(key)).content == key
    assert server.client.delete(url_of(key)).status_code == 204


def test_slashes_dots_and_plus_are_taken_as_they_are(server: Served) -> None:
    answer = server.talk(
        b"PUT /v1/kv/a/../b//c+d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    )
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert server.db.pop(b"a/../b//c+d") == b"x"


@pytest.mark.parametrize("path", ["/v1/kv/", "/v1/kv/a%2", "/v1/kv/%zz"])
def test_what_is_no_key_is_400(server: Served, path: str) -> None:
    answer = server.talk(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


def test_head_has_the_length_and_no_body(server: Served) -> None:
    server.db[b"head"] = b"12345"
    answer = server.client.head(url_of(b"head"))
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "5", b"")

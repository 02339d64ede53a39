"""Entity tags, conditions, parts, media types and expiry of single values."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_kv.server.http.attributes import content_type_of, meta_of
from flash_kv.server.http.conditions import parse_tags, part_of, write_condition
from flash_kv.server.http.problems import Problem
from support.servers import Served


def put(server: Served, key: str, content: bytes, **headers: str) -> str:
    """The ETag of what was stored."""
    answer = server.client.put(f"/v1/kv/{key}", content=content, headers=headers)
    assert answer.is_success, answer.text
    return str(answer.headers["etag"])


def test_every_write_has_another_etag_and_a_read_shows_it(server: Served) -> None:
    first, second = put(server, "e", b"1"), put(server, "e", b"1")
    assert first != second
    assert server.client.get("/v1/kv/e").headers["etag"] == second
    record = server.db.get_record(b"e")
    assert record is not None
    assert second == f'"{record.lsn}"'


def test_only_a_new_key_is_created(server: Served) -> None:
    assert server.client.put("/v1/kv/new", content=b"1", headers={"If-None-Match": "*"}).status_code == 201
    answer = server.client.put("/v1/kv/new", content=b"2", headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.json()["type"]) == (412, "urn:flash-kv:condition")
    assert answer.json()["etag"] == answer.headers["etag"] == server.client.get("/v1/kv/new").headers["etag"]
    assert server.db.pop(b"new") == b"1"


def test_a_write_depends_on_the_etag_it_names(server: Served) -> None:
    old, new = put(server, "m", b"1"), put(server, "m", b"2")

    def status(tags: str, method: str = "PUT") -> int:
        return server.client.request(method, "/v1/kv/m", content=b"3", headers={"If-Match": tags}).status_code

    assert status(old) == 412
    assert status(f"W/{new}") == 412
    assert status('"x"') == 412
    assert status(f"{old}, W/{new}") == 412
    assert server.db[b"m"] == b"2"
    assert status(f"{old}, {new}") == 204
    assert status("*") == 204
    assert status(new, "DELETE") == 412
    assert status(server.client.get("/v1/kv/m").headers["etag"], "DELETE") == 204
    assert status("*") == 412
    assert status("*", "DELETE") == 412
    assert status(new) == 412
    assert b"m" not in server.db


@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": "17"},
        {"If-Match": '"1" "2"'},
        {"If-Match": '"1", x'},
        {"If-None-Match": '"1"'},
        {"If-Match": "*", "If-None-Match": "*"},
    ],
    ids=str,
)
def test_a_condition_that_is_none_is_400_and_writes_nothing(server: Served, headers: dict[str, str]) -> None:
    assert server.client.put("/v1/kv/c", content=b"1", headers=headers).status_code == 400
    assert b"c" not in server.db


def test_a_counter_that_many_raise_loses_nothing(server: Served) -> None:
    put(server, "counter", b"0")

    def count() -> None:
        for _ in range(20):
            while True:
                now = server.client.get("/v1/kv/counter")
                headers = {"If-Match": now.headers["etag"]}
                content = b"%d" % (int(now.content) + 1)
                if server.client.put("/v1/kv/counter", content=content, headers=headers).status_code == 204:
                    break

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.db.pop(b"counter") == b"80"


def test_what_the_client_has_is_304(server: Served) -> None:
    tag = put(server, "r", b"1", **{"Content-Type": "text/plain"})
    for known in (tag, f"W/{tag}", f'"1", {tag}', "*"):
        answer = server.client.get("/v1/kv/r", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "content-type" not in answer.headers
        assert server.client.head("/v1/kv/r", headers={"If-None-Match": known}).status_code == 304
    assert server.client.get("/v1/kv/r", headers={"If-None-Match": '"1"'}).content == b"1"
    assert server.client.get("/v1/kv/r", headers={"If-Match": '"1"'}).status_code == 412
    assert server.client.get("/v1/kv/r", headers={"If-Match": tag}).content == b"1"


@pytest.mark.parametrize("size", [10, 700_000])
@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("0-0", 0, 1),
        ("2-5", 2, 6),
        ("3-", 3, None),
        ("-4", -4, None),
        ("0-999999999", 0, None),
        ("-999999999", 0, None),
    ],
)
def test_a_part_of_a_value_is_206(server: Served, size: int, asked: str, begin: int, end: int | None) -> None:
    value = bytes(range(10)) * (size // 10)
    tag = put(server, "part", value)
    answer = server.client.get("/v1/kv/part", headers={"Range": f"bytes={asked}"})
    expected = value[begin:end]
    assert (answer.status_code, answer.content) == (206, expected)
    first = value.index(expected) if begin == 0 else begin % size
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{size}"
    for known, status in [(tag, 206), ('"1"', 200), (f"W/{tag}", 200)]:
        headers = {"Range": f"bytes={asked}", "If-Range": known}
        assert server.client.get("/v1/kv/part", headers=headers).status_code == status


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_part_that_is_not_there_is_416(server: Served, asked: str) -> None:
    put(server, "part", b"0123456789")
    answer = server.client.get("/v1/kv/part", headers={"Range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")


@pytest.mark.parametrize("asked", ["bytes=1-2,4-5", "lines=1-2", "bytes=x", "bytes=5-2", "bytes=-", "bytes"])
def test_what_is_no_single_part_is_the_whole(server: Served, asked: str) -> None:
    put(server, "part", b"0123456789")
    answer = server.client.get("/v1/kv/part", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_parts_are_slices(size: int, first: int, last: int) -> None:
    value = bytes(range(size))
    try:
        part = part_of({b"range": b"bytes=%d-%d" % (first, last)}, 1, size)
    except Problem as problem:
        assert problem.status == 416
        assert value[first : last + 1] == b""
        return
    assert (value if part is None else value[slice(*part)]) == (
        value if last < first else value[first : last + 1]
    )


@given(st.binary(max_size=40))
def test_any_bytes_are_a_list_of_tags_or_400(text: bytes) -> None:
    try:
        parse_tags(text)
        write_condition({b"if-match": text}, 5)
    except Problem as problem:
        assert problem.status in (400, 412)


def test_a_media_type_is_kept_and_shown_safely(server: Served) -> None:
    put(server, "t", b"<script>", **{"Content-Type": "text/html; charset=utf-8"})
    answer = server.client.get("/v1/kv/t")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    put(server, "t", b"x")
    answer = server.client.get("/v1/kv/t")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "content-security-policy" not in answer.headers


@given(st.binary(max_size=100))
def test_whatever_is_in_meta_is_no_header_of_ones_own(meta: bytes) -> None:
    for content_type in (content_type_of(meta), content_type_of(b"content-type: " + meta + b"\n")):
        assert content_type.isascii()
        assert not set(content_type) & {0, 10, 13}


def test_a_media_type_comes_back_from_meta() -> None:
    assert content_type_of(meta_of(b"text/plain")) == b"text/plain"
    assert meta_of(b"application/octet-stream") == meta_of(None) == b""


def test_a_value_lives_as_long_as_it_was_told(server: Served) -> None:
    before = time.time()
    put(server, "ttl", b"x", **{"FlashKV-TTL": "3600.5"})
    answer = server.client.get("/v1/kv/ttl")
    assert before + 3600.4 < float(answer.headers["flashkv-expires"]) < time.time() + 3600.6
    assert 3500 < float(answer.headers["flashkv-ttl"]) <= 3600.5
    put(server, "ttl", b"x")
    assert "flashkv-expires" not in server.client.get("/v1/kv/ttl").headers
    put(server, "ttl", b"x", **{"FlashKV-TTL": "0.001"})
    time.sleep(0.002)
    assert server.client.get("/v1/kv/ttl").status_code == 404
    assert server.client.delete("/v1/kv/ttl").status_code == 404
    assert server.client.put("/v1/kv/ttl", content=b"y", headers={"If-None-Match": "*"}).status_code == 201


@pytest.mark.parametrize("ttl", ["0", "-1", "x", "nan", "inf", "1e3", "", "99999999999", "1.", "1,5"])
def test_a_time_to_live_that_is_none_is_400(server: Served, ttl: str) -> None:
    answer = server.client.put("/v1/kv/ttl-wrong", content=b"x", headers={"FlashKV-TTL": ttl})
    assert answer.status_code == 400
    assert b"ttl-wrong" not in server.db


@pytest.mark.parametrize("durability", ["process", "always"])
def test_a_write_can_choose_its_durability(server: Served, durability: str) -> None:
    assert server.client.put(f"/v1/kv/dur?durability={durability}", content=b"x").status_code == 201
    stats = server.db.stats()
    assert (stats.synced_lsn >= stats.lsn) or durability == "process"
    assert server.client.delete(f"/v1/kv/dur?durability={durability}").status_code == 204
    assert server.client.put("/v1/kv/dur?durability=often", content=b"x").status_code == 400
    assert server.client.put("/v1/kv/dur?sync=1", content=b"x").status_code == 400

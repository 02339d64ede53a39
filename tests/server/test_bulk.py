"""Loads and reads of many keys."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_kv.server.http import frames
from support.servers import Served

FRAMES = {"Content-Type": frames.MEDIA_TYPE.decode()}


def framed(pairs: dict[bytes, bytes]) -> bytes:
    heads = (frames.HEAD.pack(len(key), len(value), 0) + key + value for key, value in pairs.items())
    return b"".join(heads) + frames.END


def test_many_keys_are_read_in_order(server: Served) -> None:
    server.db.update({b"m1": b"1", b"m\xff": b"\xff"})
    keys = ["m1", {"key_b64": "bf8="}, "nothing", {"key": "m1"}]
    found = server.client.post("/v1/mget", json={"keys": keys}).json()["items"]
    lsns = [None if item is None else item.pop("lsn") for item in found]
    assert found == [
        {"key": "m1", "value": "1"},
        {"key_b64": "bf8=", "value_b64": "/w=="},
        None,
        {"key": "m1", "value": "1"},
    ]
    records = [server.db.get_record(key) for key in (b"m1", b"m\xff", b"nothing", b"m1")]
    assert lsns == [None if record is None else record.lsn for record in records]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'"\\ud800"', 422),
        (b"[]", 422),
        (b'{"keys": "m1"}', 422),
        (b'{"keys": [1]}', 422),
        (b'{"keys": [""]}', 422),
        (b'{"keys": ["\\ud800"]}', 422),
        (b'{"keys": [{"key": "a", "key_b64": "YQ=="}]}', 422),
        (b'{"keys": [{"key_b64": "YQ"}]}', 422),
        (b'{"keys": [{"key_b64": "\xc3\xa9"}]}', 422),
        (b'{"keys": [{}]}', 422),
        (b'{"keys": [{"key": "a", "key_b64": null}]}', 422),
        (b'{"keys": [{"key": "a", "value": "b"}]}', 422),
        (b'{"keys": [], "values": null}', 422),
        (b'{"keys": [], "value": true}', 422),
        (b'{"keys": ["' + b"k" * 65537 + b'"]}', 422),
        (b'{"keys": [' + b'"k",' * 10_000 + b'"k"]}', 422),
        (b"\xff\xfe", 400),
    ],
)
def test_a_wrong_body_is_told_what_is_wrong(server: Served, body: bytes, status: int) -> None:
    answer = server.client.post("/v1/mget", content=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


def test_lines_are_loaded_as_they_are_dumped(server: Served) -> None:
    pairs = {b"l/%d" % n: bytes([n % 256]) * (n % 300) for n in range(7000)}
    server.db.update(pairs)
    dump = server.client.get("/v1/dump?prefix=l/").content
    server.db.delete_range(prefix=b"l/")
    assert server.client.post("/v1/load", content=dump).json() == {"loaded": 7000}
    assert dict(server.db.items(prefix=b"l/")) == pairs
    server.db.delete_range(prefix=b"l/")


def test_media_types_and_expiry_are_dumped_and_loaded(server: Served) -> None:
    server.db.put_record(b"o/1", b"x", meta=b"content-type: text/plain\n", expires_at=2e9)
    server.db.put_record(b"o/2", b"y", expires_at=3e9 + 0.5)
    before = [server.db.get_record(key) for key in (b"o/1", b"o/2")]
    dump = server.client.get("/v1/dump?prefix=o/").content
    server.db.delete_range(prefix=b"o/")
    assert server.client.post("/v1/load", content=dump).json() == {"loaded": 2}
    after = [server.db.get_record(key) for key in (b"o/1", b"o/2")]
    assert [record and record._replace(lsn=0) for record in after] == [
        record and record._replace(lsn=0) for record in before
    ]
    server.db.delete_range(prefix=b"o/")


def test_frames_are_loaded_as_they_are_dumped(server: Served) -> None:
    pairs = {b"f/%d" % n: b"\xff" * (n * 7 % 1000) for n in range(3000)}
    answer = server.client.post("/v1/load?durability=always", content=framed(pairs), headers=FRAMES)
    assert answer.json() == {"loaded": 3000}
    assert dict(server.db.items(prefix=b"f/")) == pairs
    server.db.delete_range(prefix=b"f/")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"{", 422),
        (b"[1]", 422),
        (b'{"key":"a"}', 422),
        (b'{"key":"a","value":1}', 422),
        (b'{"key":"a","value":"","other":1}', 422),
        (b'{"value":"a"}', 422),
    ],
)
def test_a_load_says_at_which_line_it_failed_and_what_is_in(server: Served, line: bytes, status: int) -> None:
    good = b'{"key":"b/1","value":"x"}\n\n{"key":"b/2","value":"x"}\n'
    answer = server.client.post("/v1/load", content=good + line + b"\n" + good)
    assert (answer.status_code, answer.json()["line"], answer.json()["loaded"]) == (status, 4, 2)
    assert server.db.delete_range(prefix=b"b/") == 2


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"\x01",
        frames.HEAD.pack(0, 1, 0),
        frames.END + b"x",
        frames.HEAD.pack(1, 2**32 - 1, 0) + b"k",
        frames.HEAD.pack(65537, 0, 0),
    ],
)
def test_frames_that_are_none_or_cut_off_say_how_many_are_in(server: Served, tail: bytes) -> None:
    good = framed({b"c/1": b"x", b"c/2": b""})[: -frames.HEAD.size]
    answer = server.client.post("/v1/load", content=good + tail, headers=FRAMES)
    assert (answer.status_code, answer.json()["record"], answer.json()["loaded"]) == (422, 3, 2)
    assert server.db.delete_range(prefix=b"c/") == 2


def test_a_load_of_another_type_is_415(server: Served) -> None:
    assert (
        server.client.post("/v1/load", content=b"", headers={"Content-Type": "text/csv"}).status_code == 415
    )


@given(
    st.dictionaries(st.binary(min_size=1, max_size=30), st.binary(max_size=100)),
    st.lists(st.integers(0, 5000)),
)
def test_frames_can_be_cut_anywhere(pairs: dict[bytes, bytes], cuts: list[int]) -> None:
    content = framed(pairs)
    reader = frames.FrameReader(100)
    places = [0, *sorted(cut for cut in cuts if cut < len(content)), len(content)]
    found = [pair for begin, end in itertools.pairwise(places) for pair in reader.pairs(content[begin:end])]
    reader.require_end()
    assert dict(found) == pairs


def test_a_line_of_a_dump_is_one_object(server: Served) -> None:
    server.db[b"line"] = b'new\nline\xc2\x85\xe2\x80\xa8"'
    (line,) = server.client.get("/v1/dump?prefix=line").content.split(b"\n")[:-1]
    assert json.loads(line)["value"].encode() == server.db.pop(b"line")


@pytest.mark.parametrize("expires_at", [0, 0.0, -1, 1e11, "1", True])
def test_an_expiry_that_is_none_is_told_with_its_line(server: Served, expires_at: object) -> None:
    line = json.dumps({"key": "expiry", "value": "", "expires_at": expires_at})
    answer = server.client.post("/v1/load", content=line, headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 422
    assert answer.json()["line"] == 1
    assert b"expiry" not in server.db


def test_an_expiry_long_ago_is_loaded_and_gone(server: Served) -> None:
    line = json.dumps({"key": "expiry", "value": "", "expires_at": 5e-324})
    answer = server.client.post("/v1/load", content=line, headers={"Content-Type": "application/x-ndjson"})
    assert (answer.status_code, answer.json()) == (200, {"loaded": 1})
    assert b"expiry" not in server.db

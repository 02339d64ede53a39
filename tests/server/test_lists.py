"""Pages, streams, counts and deletes of ranges."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_kv.server.auth import add_token
from flash_kv.server.http import frames
from flash_kv.server.http.problems import Problem
from flash_kv.server.http.ranges import Bounds
from support.servers import Served, served

FRAMES = frames.MEDIA_TYPE.decode()
NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of 1,000 keys, 500 of which begin with a/."""
    with served(tmp_path_factory.mktemp("listed") / "db") as server:
        server.db.put_many((b"%s/%03d" % (b"ab"[n % 2 : n % 2 + 1], n), b"v%d" % n) for n in range(1000))
        yield server


def pages(server: Served, between: Callable[[], object] = lambda: None, **parameters: Any) -> list[list[str]]:
    """The keys of all pages of a list; `between` two of them something may happen."""
    found = []
    while True:
        answer = server.client.get("/v1/kv", params=parameters)
        assert answer.status_code == 200, answer.text
        content = answer.json()
        found.append([item["key"] for item in content["items"]])
        if content["cursor"] is None:
            return found
        parameters["cursor"] = content["cursor"]
        between()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"prefix": "a/"},
        {"prefix": "a/1", "reverse": "true"},
        {"start": "a/900", "stop": "b/100"},
        {"start": "a/900", "reverse": "true"},
        {"prefix": "nothing"},
        {"start": "b", "stop": "a"},
    ],
    ids=str,
)
@pytest.mark.parametrize("limit", [17, 100, 1000])
def test_all_pages_together_are_the_range(listed: Served, parameters: dict[str, str], limit: int) -> None:
    bounds = {name: value for name, value in parameters.items() if name != "reverse"}
    expected = [key.decode() for key in listed.db.keys(**bounds, reverse="reverse" in parameters)]
    found = pages(listed, limit=limit, keys_only="true", **parameters)
    assert [key for page in found for key in page] == expected
    assert all(len(page) == limit for page in found[:-1])


def test_a_page_may_have_one_item(listed: Served) -> None:
    assert pages(listed, limit=1, prefix="a/00") == [["a/000"], ["a/002"], ["a/004"], ["a/006"], ["a/008"]]


def test_a_page_has_values_unless_only_keys_are_wanted(listed: Served) -> None:
    get = listed.client.get
    assert get("/v1/kv?limit=1").json()["items"] == [{"key": "a/000", "value": "v0", "lsn": 1}]
    assert get("/v1/kv?limit=1&keys_only=true").json()["items"] == [
        {"key": "a/000", "value_bytes": 2, "lsn": 1}
    ]


def test_keys_alone_come_with_the_size_of_their_values_and_their_end(server: Served) -> None:
    lsn = server.db.put_record("ends", bytes(3000), expires_at=2e9)
    target = "/v1/kv?prefix=ends&keys_only=true"
    item = {"key": "ends", "value_bytes": 3000, "lsn": lsn, "expires_at": 2e9}
    assert server.client.get(target).json()["items"] == [item]
    (line,) = server.client.get(target, headers={"Accept": NDJSON}).text.splitlines()
    assert json.loads(line) == item
    framed = server.client.get(target, headers={"Accept": FRAMES}).content
    assert framed == frames.HEAD.pack(4, 0, lsn) + b"ends" + frames.END
    del server.db["ends"]


def test_what_is_no_text_is_base64(server: Served) -> None:
    server.db[b"\xfe/1"] = b"\xff"
    (item,) = server.client.get("/v1/kv?prefix=%FE").json()["items"]
    assert base64.b64decode(item["key_b64"]) == b"\xfe/1"
    assert base64.b64decode(item["value_b64"]) == b"\xff"
    del server.db[b"\xfe/1"]


def test_pages_stay_right_while_others_write(server: Served, rng: random.Random) -> None:
    stays = {b"p/%04d" % n for n in rng.sample(range(10_000), 200)}
    server.db.put_many((key, b"") for key in stays)

    def write() -> None:
        for _ in range(40):
            key = b"p/%04d" % rng.randrange(10_000)
            if key not in stays:
                server.db[key] = b""
            server.db.pop(b"p/%04dx" % rng.randrange(10_000), None)
            server.db[b"p/%04dx" % rng.randrange(10_000)] = b""

    found = [
        key.encode() for page in pages(server, write, prefix="p/", limit=13, keys_only="true") for key in page
    ]
    assert found == sorted(set(found))
    assert stays <= set(found)
    server.db.delete_range(prefix=b"p/")


def test_a_page_ends_early_when_its_values_are_long(server: Served) -> None:
    for number in range(5):
        server.db[b"long/%d" % number] = b"x" * (3 << 20)
    found = pages(server, prefix="long/", limit=100)
    assert [len(page) for page in found] == [3, 2]
    server.db.delete_range(prefix=b"long/")


KEYS = st.binary(min_size=1, max_size=20)


@given(
    st.builds(Bounds, KEYS, st.none() | KEYS, st.none() | KEYS, st.booleans()), KEYS, st.binary(max_size=60)
)
def test_any_bytes_are_safe_as_a_cursor(bounds: Bounds, key: bytes, noise: bytes) -> None:
    left = bounds.after(bounds.cursor(key).encode())
    assert left.prefix == bounds.prefix
    assert left.reverse == bounds.reverse
    if bounds.reverse:
        assert left.stop == min(filter(None, (bounds.stop, key)))
    else:
        assert left.start == max(bounds.start or b"", key + b"\0")
    with pytest.raises(Problem, match="cursor"):
        bounds.after(noise)
    with pytest.raises(Problem, match="cursor"):
        Bounds(b"other" + (bounds.prefix or b"")).after(bounds.cursor(key).encode())


@pytest.mark.parametrize(
    "query",
    [
        "cursor=AAAA",
        "cursor=%00%FF",
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=" + "9" * 400,
        "reverse=maybe",
        "nonsense=1",
        "limit=1&limit=2",
        "prefix=%2",
    ],
)
def test_a_wrong_parameter_is_400_and_says_so(server: Served, query: str) -> None:
    answer = server.client.get(f"/v1/kv?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_lines_are_streamed_without_a_limit(listed: Served) -> None:
    answer = listed.client.get("/v1/kv?prefix=a/", headers={"Accept": NDJSON})
    assert answer.headers["content-type"] == NDJSON
    items = [json.loads(line) for line in answer.text.splitlines()]
    assert [(item["key"].encode(), item["value"].encode()) for item in items] == list(
        listed.db.items(prefix=b"a/")
    )


def test_frames_are_streamed_and_end_with_their_end(listed: Served) -> None:
    content = listed.client.get("/v1/kv?reverse=true&limit=700", headers={"Accept": FRAMES}).content
    reader = frames.FrameReader(100)
    assert list(reader.pairs(content)) == list(listed.db.items(reverse=True))[:700]
    reader.require_end()


def test_a_dump_is_one_moment_of_the_store(server: Served) -> None:
    pairs = {b"d/%05d" % n: b"x" * 2000 for n in range(2000)}
    server.db.put_many(pairs.items())
    with server.client.stream("GET", "/v1/dump?prefix=d/", headers={"Accept": FRAMES}) as answer:
        chunks = answer.iter_raw()
        begun = next(chunks)
        server.db.delete_range(prefix=b"d/")
        content = begun + b"".join(chunks)
    assert dict(frames.FrameReader(1 << 20).pairs(content)) == pairs


def test_a_form_that_is_not_there_is_406(server: Served) -> None:
    assert server.client.get("/v1/kv", headers={"Accept": "text/csv"}).status_code == 406


def test_ranges_are_counted(listed: Served) -> None:
    count = lambda query: listed.client.get(f"/v1/count{query}").json()  # noqa: E731
    assert count("") == {"count": 1000}
    assert count("?prefix=a/") == {"count": 500}
    assert count("?start=a/990&stop=b/010") == {"count": 10}
    assert count("?start=b&stop=a") == {"count": 0}


def test_a_range_is_deleted_and_nothing_else(server: Served) -> None:
    server.db.put_many((b"x/%d" % n, b"") for n in range(2500))
    server.db[b"y"] = b""
    assert server.client.delete("/v1/kv?prefix=x/&durability=always").json() == {"deleted": 2500}
    assert server.client.delete("/v1/kv?prefix=x/").json() == {"deleted": 0}
    assert server.db.pop(b"y") == b""


def test_the_whole_store_is_deleted_only_on_request(tmp_path: Path) -> None:
    with served(tmp_path / "db") as server:
        server.db.put_many((b"%d" % n, b"") for n in range(10))
        assert server.client.delete("/v1/kv").status_code == 400
        assert server.client.delete("/v1/kv?prefix=").status_code == 400
        assert server.client.delete("/v1/kv?prefix=1&all=true").status_code == 400
        assert server.client.delete("/v1/kv?all=true").json() == {"deleted": 10}


def test_a_store_without_order_says_how_to_list_it(tmp_path: Path) -> None:
    with served(tmp_path / "db", index="hash") as server:
        server.db.put_many((b"%d" % n, b"") for n in range(10))
        for method, url in [
            ("GET", "/v1/kv"),
            ("GET", "/v1/kv?prefix=1"),
            ("GET", "/v1/count?start=1"),
            ("DELETE", "/v1/kv?prefix=1"),
        ]:
            answer = server.client.request(method, url)
            assert (answer.status_code, answer.json()["type"]) == (422, "urn:flash-kv:unordered-index")
        assert server.client.get("/v1/kv?prefix=1", headers={"Accept": NDJSON}).status_code == 422
        assert len(server.client.get("/v1/dump").text.splitlines()) == 10
        assert server.client.get("/v1/count").json() == {"count": 10}


def test_a_token_with_a_prefix_lists_within_it_only(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = add_token(file, "one", ["read", "write"], [b"a/"])
    with served(tmp_path / "db", {"token_file": file}) as server:
        server.db.put_many((key, b"") for key in (b"a/1", b"a/2", b"b/1"))
        server.client.headers["Authorization"] = f"Bearer {token}"
        get = server.client.get
        assert [item["key"] for item in get("/v1/kv?prefix=a/").json()["items"]] == ["a/1", "a/2"]
        for path in (
            "/v1/kv",
            "/v1/kv?prefix=a",
            "/v1/kv?start=a/",
            "/v1/dump",
            "/v1/count",
            "/v1/kv?prefix=b/",
        ):
            assert get(path).status_code == 403, path
        assert server.client.delete("/v1/kv?all=true").status_code == 403
        body = {"keys": ["a/1", "b/1"]}
        assert server.client.post("/v1/mget", json=body).status_code == 403
        lines = b'{"key":"a/3","value":""}\n{"key":"b/3","value":""}\n'
        assert server.client.post("/v1/load", content=lines).json()["loaded"] == 1
        assert sorted(server.db) == [b"a/1", b"a/2", b"a/3", b"b/1"]

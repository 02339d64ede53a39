"""Batches: all or nothing, and only if the keys are as they were."""

from __future__ import annotations

from typing import Any

import pytest

from support.servers import Served


def post(server: Served, **body: Any) -> Any:
    return server.client.post("/v1/batch", json=body)


def test_a_batch_is_written_and_says_its_etags(server: Served) -> None:
    server.db[b"b/gone"] = b""
    answer = post(
        server,
        ops=[
            {"op": "put", "key": "b/1", "value": "one"},
            {"op": "put", "key_b64": "Yi//", "value_b64": "/w==", "content_type": "text/plain", "ttl_s": 60},
            {"op": "delete", "key": "b/gone"},
        ],
    )
    assert answer.status_code == 200, answer.text
    etags = answer.json()["etags"]
    assert len(etags) == len(set(etags)) == 3
    assert dict(server.db.items(prefix=b"b/")) == {b"b/1": b"one", b"b/\xff": b"\xff"}
    second = server.client.get("/v1/kv/b/%FF")
    assert (second.headers["etag"], second.headers["content-type"]) == (etags[1], "text/plain")
    assert 50 < float(second.headers["flashkv-ttl"]) <= 60
    server.db.delete_range(prefix=b"b/")


def test_conditions_hold_for_all_of_it(server: Served) -> None:
    server.db[b"q/1"] = b""
    tag = server.client.get("/v1/kv/q/1").headers["etag"]
    write = [{"op": "put", "key": "q/2", "value": ""}]
    for require in (
        [{"key": "q/1", "etag": None}],
        [{"key": "q/1", "etag": '"1"'}],
        [{"key": "q/1", "etag": tag}, {"key": "q/3", "etag": "*"}],
        [{"key": "q/3", "etag": tag}],
    ):
        answer = post(server, require=require, ops=write)
        assert answer.status_code == 412
        assert answer.json()["key"] == require[-1]["key"]
        assert answer.json()["etag"] == (tag if require[-1]["key"] == "q/1" else None)
        assert b"q/2" not in server.db
    require = [{"key": "q/1", "etag": tag}, {"key": "q/1", "etag": "*"}, {"key": "q/3", "etag": None}]
    assert post(server, require=require, ops=write).status_code == 200
    assert b"q/2" in server.db
    server.db.delete_range(prefix=b"q/")


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"ops": 5},
        {"other": []},
        {"ops": [1]},
        {"ops": [{}]},
        {"ops": [{"op": "move", "key": "w"}]},
        {"ops": [{"op": "put", "key": "w"}]},
        {"ops": [{"op": "put", "value": ""}]},
        {"ops": [{"op": "put", "key": "", "value": ""}]},
        {"ops": [{"op": "put", "key": "w", "value": "", "ttl": 5}]},
        {"ops": [{"op": "put", "key": "w", "value": "", "ttl_s": 0}]},
        {"ops": [{"op": "put", "key": "w", "value": "", "ttl_s": True}]},
        {"ops": [{"op": "put", "key": "w", "value": "", "ttl_s": None}]},
        {"ops": [{"op": "put", "key": "w", "value": "", "value_b64": None}]},
        {"ops": [{"op": "put", "key": "w", "value": "", "content_type": None}]},
        {"ops": [{"op": "delete", "key": "w", "key_b64": None}]},
        {"ops": [{"op": "put", "key": "w", "value": "", "ttl_s": 10**400}]},
        {"ops": [{"op": "put", "key": "w", "value": "", "content_type": "a\nb"}]},
        {"ops": [{"op": "put", "key": "w", "value": "", "content_type": 1}]},
        {"ops": [{"op": "delete", "key": "w", "value": ""}]},
        {"require": [{"key": "w"}], "ops": []},
        {"require": [{"key": "w", "etag": 5}], "ops": []},
        {"require": [{"key": "w", "etag": "5"}], "ops": []},
        {"require": [{"key": "w", "etag": 'W/"5"'}], "ops": []},
        {"require": [{"key": "w", "etag": '"x"'}], "ops": []},
    ],
    ids=repr,
)
def test_one_wrong_element_and_nothing_is_written(server: Served, body: Any) -> None:
    if isinstance(body, dict) and isinstance(body.get("ops"), list):
        body = {**body, "ops": [{"op": "put", "key": "w", "value": ""}, *body["ops"]]}
    answer = server.client.post("/v1/batch", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
    assert b"w" not in server.db


def test_an_empty_batch_is_nothing(server: Served) -> None:
    before = server.db.last_lsn
    assert post(server, ops=[]).json() == {"etags": []}
    assert server.db.last_lsn == before

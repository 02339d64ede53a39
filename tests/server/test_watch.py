"""`/v1/watch`: changes as events, from an LSN on; many watchers and one reader; whoever is too slow is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flash_kv import DB
from flash_kv.server import watching
from flash_kv.server.auth import add_token
from support.events import Sent, events
from support.servers import Served, served
from support.waiting import wait_until

COMPACTED = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off"}


def put(lsn: int, key: str, size: int) -> Sent:
    return Sent("put", {"key": key, "lsn": lsn, "value_bytes": size}, str(lsn))


def delete(lsn: int, key: str) -> Sent:
    return Sent("delete", {"key": key, "lsn": lsn}, str(lsn))


def gauge(server: Served, name: str) -> float:
    return server.service.gauges[name]()


@pytest.fixture(autouse=True)
def no_watcher_left(server: Served) -> Iterator[None]:
    yield
    wait_until(lambda: gauge(server, "watchers") == 0)


def test_changes_come_as_events(server: Served) -> None:
    with events(server.client, "/v1/watch") as found:
        lsn = found.next(beats=True).data["lsn"]
        assert lsn == server.db.last_lsn
        server.db["a"] = b"12"
        del server.db["a"]
        with server.db.batch() as batch:
            batch["b"] = b""
            batch["c"] = b"3"
        assert found.take(4) == [
            put(lsn + 1, "a", 2),
            delete(lsn + 2, "a"),
            put(lsn + 3, "b", 0),
            put(lsn + 4, "c", 1),
        ]


def test_writes_over_the_network_are_seen(server: Served) -> None:
    with events(server.client, "/v1/watch?prefix=net") as found:
        found.next(beats=True)
        assert server.client.put("/v1/kv/net%2F1", content=b"123").is_success
        assert found.next().data["key"] == "net/1"


def test_only_keys_with_the_prefix_come(server: Served) -> None:
    with events(server.client, "/v1/watch?prefix=user%2F%C3%A9") as found:
        found.next(beats=True)
        server.db["other"] = b""
        server.db["user/é1"] = b""
        server.db["user/e"] = b""
        server.db["user/é2"] = b""
        assert [sent.data["key"] for sent in found.take(2)] == ["user/é1", "user/é2"]


def test_values_come_on_request(server: Served) -> None:
    with events(server.client, "/v1/watch?values=true") as found:
        found.next(beats=True)
        server.db["text"] = "é\n\ndata: x".encode()
        server.db["bytes"] = b"\xff\x00"
        server.db[b"\xff"] = b""
        server.db["large"] = bytes(watching.VALUE_BYTES_MAX + 1)
        first, second, third, fourth = (sent.data for sent in found.take(4))
        assert first["value"] == "é\n\ndata: x"
        assert second["value_b64"] == "/wA="
        assert (third["key_b64"], third["value"]) == ("/w==", "")
        assert fourth["value_bytes"] == watching.VALUE_BYTES_MAX + 1
        assert not {"value", "value_b64"} & fourth.keys()


def test_a_watch_is_resumed_from_any_lsn(server: Served) -> None:
    since = server.db.last_lsn
    for number in range(20):
        server.db[f"resumed {number}"] = b""
    for place in (0, 7, 19):
        with events(server.client, f"/v1/watch?since={since + place}") as found:
            assert found.next() == put(since + place + 1, f"resumed {place}", 0)
            assert len(found.take(19 - place)) == 19 - place


def test_the_last_event_id_counts_more_than_since(server: Served) -> None:
    since = server.db.last_lsn
    server.db["one"] = server.db["two"] = b""
    with events(server.client, f"/v1/watch?since={since}", **{"Last-Event-ID": str(since + 1)}) as found:
        assert found.next() == put(since + 2, "two", 0)


def test_nothing_is_missed_and_nothing_twice_between_log_and_ring(server: Served) -> None:
    since = server.db.last_lsn
    for number in range(3000):
        server.db[f"before {number}"] = b""
    with events(server.client, f"/v1/watch?since={since}") as found:
        for number in range(500):
            server.db[f"beside {number}"] = b""
        assert [int(sent.id or 0) for sent in found.take(3500)] == list(range(since + 1, since + 3501))


@pytest.mark.parametrize(
    "query",
    ["since=-1", "since=x", "since=99999999999999999999", "values=maybe", "prefx=a", "since=1&since=2"],
)
def test_what_makes_no_sense_is_400(server: Served, query: str) -> None:
    answer = server.client.get(f"/v1/watch?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_last_event_id_that_is_none_is_400(server: Served) -> None:
    assert server.client.get("/v1/watch", headers={"Last-Event-ID": "x"}).status_code == 400


def test_head_does_not_wait(server: Served) -> None:
    assert server.client.head("/v1/watch").headers["content-type"] == "text/event-stream"


def test_an_lsn_that_is_not_there_yet_is_told(server: Served) -> None:
    with events(server.client, f"/v1/watch?since={server.db.last_lsn + 100}") as found:
        missed = found.next()
        assert (missed.name, missed.data["lsn"]) == ("missed", server.db.last_lsn)
        server.db["after"] = b""
        assert found.next().data["key"] == "after"


def test_history_that_compaction_removed_is_told(tmp_path: Path) -> None:
    with served(tmp_path / "db", **COMPACTED) as one:
        overwrite(one.db)
        one.db.compact()
        with events(one.client, "/v1/watch?since=10") as found:
            missed = found.next()
            assert missed == Sent("missed", {"since": 10, "lsn": one.db.last_lsn}, str(one.db.last_lsn))
            one.db["after"] = b""
            assert found.next().data["key"] == "after"


def overwrite(db: DB) -> None:
    for number in range(2000):
        db[b"%d" % (number % 10)] = bytes(100)


def test_many_watchers_share_one_reader(tmp_path: Path) -> None:
    watchers, count = 200, 20

    async def follow(one: Served, ready: asyncio.Semaphore) -> list[int]:
        seen: list[int] = []
        # No client library: 200 of them would be what is measured.
        reader, writer = await asyncio.open_connection(*one.address)
        writer.write(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async for line in reader:
            if line == b"event: beat\n":
                ready.release()
            elif line.startswith(b"id: "):
                last = int(line[4:])
            elif line == b"event: put\n":
                seen.append(last)
            if len(seen) == count:
                break
        writer.close()
        await writer.wait_closed()
        return seen

    async def run(one: Served) -> list[list[int]]:
        ready = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(follow(one, ready)) for _ in range(watchers)]
        for _ in range(watchers):
            await ready.acquire()
        for number in range(count):
            one.db[f"{number}"] = b""
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks)

    with served(tmp_path / "db") as one:
        seen = asyncio.run(run(one))
        assert seen == [list(range(1, count + 1))] * watchers
        assert gauge(one, "watch_reads") <= count
        wait_until(lambda: gauge(one, "watchers") == 0)


def test_a_client_that_never_reads_is_told_and_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "RING_BYTES", 256 * 1024)
    monkeypatch.setattr(watching, "PATIENCE_S", 0.1)
    with served(tmp_path / "db") as one, events(one.client, "/v1/watch?prefix=seen") as quick:
        quick.next(beats=True)
        with events(one.client, "/v1/watch?values=true") as slow:
            first = slow.next(beats=True).data["lsn"]
            began = time.monotonic()
            # More than the sockets between the two and the ring hold.
            for number in range(3000):
                one.db[f"{number}"] = b"x" * 10_000
            assert time.monotonic() - began < 20
            one.db["seen"] = b""
            assert quick.next().data["key"] == "seen"
            lsns = []
            while (sent := slow.next()).name == "put":
                lsns.append(sent.data["lsn"])
            assert lsns == list(range(first + 1, first + 1 + len(lsns)))
            assert (sent.name, sent.data["since"]) == ("missed", lsns[-1])
            assert sent.data["lsn"] > lsns[-1]


def test_a_quiet_stream_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "BEAT_S", 0.05)
    with served(tmp_path / "db") as one, events(one.client, "/v1/watch?prefix=nothing") as found:
        assert found.next(beats=True).id == "0"
        one.db["other"] = b""
        # What is not wanted counts as seen, so that a client resumes behind it.
        while (sent := found.next(beats=True)).id != "1":
            assert sent.name == "beat"


def test_the_end_of_the_server_ends_the_streams(tmp_path: Path) -> None:
    with httpx.Client(timeout=60) as client:
        with served(tmp_path / "db") as one:
            response = client.send(client.build_request("GET", f"{one.url}/v1/watch"), stream=True)
            one.db["a"] = b""
            pieces = response.iter_raw()
            # What is written in the last moment may come too late for a stream.
            while b"event: put" not in next(pieces):
                pass
        began = time.monotonic()
        assert b"event: put" not in b"".join(pieces)
        assert time.monotonic() - began < 5


def test_a_token_watches_what_it_may_read(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    limited = {"Authorization": f"Bearer {add_token(file, 'limited', ['read'], [b'mine/'])}"}
    with served(tmp_path / "db", {"token_file": file}) as one:
        assert one.client.get("/v1/watch").status_code == 401
        for query in ("", "?prefix=", "?prefix=min", "?prefix=yours%2F"):
            assert one.client.get(f"/v1/watch{query}", headers=limited).status_code == 403
        with events(one.client, "/v1/watch?prefix=mine%2F&since=0", **limited) as found:
            one.db["yours/1"] = b"secret"
            one.db["mine/1"] = b""
            assert found.next().data["key"] == "mine/1"

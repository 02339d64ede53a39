"""A client in a forked child: connections of its own, and what the parent has begun stays the parent's."""

from __future__ import annotations

import asyncio

import pytest

import flash_kv
from flash_kv import ForkedError
from flash_kv.client.remote_db import RemoteDB
from support.processes import Report, run_forked
from support.servers import Served
from support.waiting import wait_until


def test_a_child_opens_its_own_and_leaves_the_parents_alone(db: RemoteDB) -> None:
    db["a"] = b"1"
    before = connections_seen(db)

    def body(report: Report) -> None:
        assert db["a"] == b"1"
        assert connections_seen(db) == before + 1
        db["child"] = b"2"
        db.close()
        report(b"done")

    assert run_forked(body) == ([b"done"], 0)
    # Over the same connection as before: had the child used or ended it, there would be a new one.
    used = db._transport._client
    assert db["child"] == b"2"
    assert db._transport._client is used
    wait_until(lambda: connections_seen(db) == before)


def connections_seen(db: RemoteDB) -> int:
    """As the server counts them, the caller's own among them."""
    return int(db.server_stats()["connections"])


def test_what_the_parent_iterates_over_is_not_read_in_the_child(db: RemoteDB) -> None:
    db.update({f"{number:04}": bytes(2000) for number in range(1000)})
    items = iter(db.items())
    next(items)
    with db.watch(prefix="seen") as changes:
        db["seen"] = b"1"
        next(changes)

        def body(report: Report) -> None:
            # After the client has connections of its own, too.
            for _ in range(2):
                with pytest.raises(ForkedError):
                    list(items)
                with pytest.raises(ForkedError):
                    next(changes)
                assert db["seen"] == b"1"
            items.close()  # type: ignore[attr-defined]
            changes.close()
            report(b"done")

        assert run_forked(body) == ([b"done"], 0)
        assert len(list(items)) == 999
        db["seen"] = b"2"
        assert next(changes).key == b"seen"


def test_the_asynchronous_client_has_its_own_in_a_loop_of_the_child(server: Served) -> None:
    db = flash_kv.connect_async(server.url)

    async def use() -> bytes | None:
        await db.put("a", b"1")
        return await db.get("a")

    def body(report: Report) -> None:
        assert asyncio.run(use()) == b"1"
        report(b"done")

    async def around() -> None:
        assert await use() == b"1"
        used = db._transport._client
        assert await asyncio.to_thread(run_forked, body) == ([b"done"], 0)
        assert await use() == b"1"
        assert db._transport._client is used
        await db.close()

    asyncio.run(around())

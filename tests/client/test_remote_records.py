"""Records over HTTP: LSN, expiry, content type and conditions are those of the store behind the server."""

from __future__ import annotations

import time

import pytest

from flash_kv import ConflictError
from flash_kv.client.errors import RemoteError
from flash_kv.client.remote_db import RemoteDB
from support.servers import Served


def test_a_record_comes_back_with_what_was_stored(db: RemoteDB, server: Served) -> None:
    lsn = db.put_record("k", b"v", ttl_s=1000, meta=b"text/plain")
    found = db.get_record("k")
    assert found is not None
    assert (found.value, found.lsn, found.meta) == (b"v", lsn, b"text/plain")
    assert found.expires_at == pytest.approx(time.time() + 1000, abs=60)
    beneath = server.db.get_record("k")
    assert beneath is not None
    assert beneath.lsn == lsn
    assert db.get_record("absent") is None


@pytest.mark.parametrize("ttl_s", [1e-9, 1e-5, 0.5, 1e9, 1234567890.125])
def test_any_time_to_live_is_written_so_that_the_server_reads_it(db: RemoteDB, ttl_s: float) -> None:
    lsn = db.put_record("k", b"v", ttl_s=ttl_s)
    assert lsn > 0
    if ttl_s > 100:
        found = db.get_record("k")
        assert found is not None
        assert found.expires_at == pytest.approx(time.time() + ttl_s, abs=60)


@pytest.mark.parametrize("ttl_s", [0, -1.0, float("nan")])
def test_no_time_to_live_is_refused_by_the_server(db: RemoteDB, ttl_s: float) -> None:
    with pytest.raises(RemoteError):
        db.put_record("k", b"v", ttl_s=ttl_s)
    assert "k" not in db


def test_conditions_are_compared_where_the_store_is(db: RemoteDB) -> None:
    lsn = db.put_record("k", b"1", if_lsn=0)
    with pytest.raises(ConflictError) as caught:
        db.put_record("k", b"2", if_lsn=0)
    assert caught.value.lsn == lsn
    newer = db.put_record("k", b"2", if_lsn=lsn)
    with pytest.raises(ConflictError):
        db.delete_record("k", if_lsn=lsn)
    with db.batch() as batch:
        batch.require("k", newer)
        batch.require("other", 0)
        batch.put("other", b"x")
    assert db["other"] == b"x"
    assert db.delete_record("k", if_lsn=newer) is not None
    assert "k" not in db

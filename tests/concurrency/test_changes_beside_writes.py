"""Readers of the changes beside writers, rotation, compaction and close: each once and in order, or said to be lost."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from flash_kv import DB, Changes, ChangesLostError, ClosedError
from support.stores import OFTEN
from support.threads import call_together, repeat_together, switching_often

OpenDB = Callable[..., DB]
SECONDS = 0.7
pytestmark = pytest.mark.parametrize("index", ["btree"])
SMALL = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off"}


class Follower:
    """Follows a store, builds what it holds, and starts afresh where it is told that changes are lost."""

    def __init__(self, db: DB) -> None:
        self.db = db
        self.content: dict[bytes, bytes] = {}
        self.lost = 0
        self.batches = 0
        self.changes: Changes = db.changes()

    def step(self) -> None:
        try:
            found = self.changes.read(records_max=10)
        except ChangesLostError:
            self.lost += 1
            self.start_afresh()
            return
        for change in found:
            if change.is_delete:
                self.content.pop(change.key, None)
            else:
                assert change.value is not None
                self.content[change.key] = change.value

    def start_afresh(self) -> None:
        with self.db.snapshot() as snapshot:
            self.content = dict(snapshot.items())
            self.changes = self.db.changes(snapshot.sequence)

    def catch_up(self) -> None:
        while self.changes.lsn < self.db.last_lsn:
            self.step()


def test_followers_end_with_what_the_store_holds(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**OFTEN)
    followers = [Follower(db), Follower(db)]

    def write() -> None:
        key = b"%d" % rng.randrange(300)
        if rng.random() < 0.3:
            db.delete(key)
        else:
            db.put(key, rng.randbytes(rng.randrange(300)))

    def write_batch() -> None:
        with db.batch() as batch:
            for _ in range(20):
                batch.put(b"%d" % rng.randrange(300), rng.randbytes(20))

    with switching_often():
        repeat_together(
            SECONDS, write, write_batch, db.compact, *(follower.step for follower in followers), at_least=3
        )
    for follower in followers:
        follower.catch_up()
        assert follower.content == dict(db.items())


def test_nothing_is_missed_beside_rotation(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    numbers = itertools.count()
    seen: list[tuple[int, bytes]] = []
    changes = db.changes()

    def write() -> None:
        db.put(b"%d" % next(numbers), bytes(900))

    def read() -> None:
        seen.extend((change.lsn, change.key) for change in changes)

    repeat_together(SECONDS, write, write, read, db.sync)
    read()
    assert [lsn for lsn, _ in seen] == list(range(1, db.last_lsn + 1))
    assert {key for _, key in seen} == set(db.keys())


def test_batches_are_whole_beside_their_writers(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    numbers = itertools.count()
    changes = db.changes()

    def write() -> None:
        number = b"%d" % next(numbers)
        db.update({b"%d" % place: number for place in range(30)})

    def read() -> None:
        found = changes.read(records_max=1)
        assert len(found) in (0, 30)
        assert len({change.value for change in found}) <= 1

    repeat_together(SECONDS, write, write, read, read_of(db), at_least=5)


def read_of(db: DB) -> Callable[[], None]:
    """A reader that begins anew each time."""

    def read() -> None:
        since = db.last_lsn // 2
        found = db.changes(since).read(records_max=5)
        assert [change.lsn for change in found] == list(range(since + 1, since + 1 + len(found)))

    return read


def test_a_close_ends_readers_with_an_error(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db.update({b"%d" % number: bytes(1000) for number in range(500)})
    ended = []

    def read() -> None:
        while True:
            try:
                list(db.changes().read())
            except ClosedError:
                ended.append(True)
                return

    call_together(read, read, db.close)
    assert ended == [True, True]

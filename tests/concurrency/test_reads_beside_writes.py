"""Readers beside writers and compaction: old or new, nothing else; batches whole; memory equals what a reopen finds."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable

import pytest

from flash_kv import DB
from support.stores import OFTEN
from support.threads import repeat_together

OpenDB = Callable[..., DB]

SECONDS = 0.5
SMALL = {"segment_bytes_max": 65536, "reserve_bytes": 0}


def test_get_beside_puts_sees_old_or_new(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**OFTEN)
    names = [b"%03d" % number for number in range(100)]
    started = dict.fromkeys(names, 0)
    finished = dict.fromkeys(names, 0)
    db.put_many((name, b"%d " % 0 + bytes(100)) for name in names)
    writing = itertools.count()

    def write() -> None:
        name = names[next(writing) * 7 % len(names)]
        started[name] += 1
        db.put(name, b"%d " % started[name] + bytes(rng.randrange(200)))
        finished[name] = started[name]

    def check(name: bytes, read: Callable[[], bytes | None]) -> None:
        oldest = finished[name]
        value = read()
        assert value is not None
        assert oldest <= int(value.split()[0]) <= started[name]

    def read_one() -> None:
        name = names[rng.randrange(len(names))]
        check(name, lambda: db.get(name))

    def read_many() -> None:
        name = names[rng.randrange(len(names))]
        check(name, lambda: db.get_many([*names[:20], name])[-1])

    def scan() -> None:
        oldest = dict(finished)
        found = dict(db.items())
        assert found.keys() == oldest.keys()
        for name, value in found.items():
            assert oldest[name] <= int(value.split()[0]) <= started[name]

    repeat_together(SECONDS, write, read_one, read_many, scan)
    content = dict(db.items())
    db.close()
    assert dict(open_db().items()) == content


def test_deletes_beside_reads_and_compaction_lose_and_revive_nothing(
    open_db: OpenDB, rng: random.Random
) -> None:
    db = open_db(**SMALL, compaction="off")
    kept = {b"kept %03d" % number: b"%d" % number * 50 for number in range(200)}
    db.put_many(kept)
    turns = itertools.count()
    gone: list[bytes] = []

    def come_and_go() -> None:
        name = b"gone %d" % next(turns)
        db.put(name, bytes(300))
        assert db.delete(name)
        gone.append(name)

    def read() -> None:
        name = rng.choice(list(kept))
        assert db[name] == kept[name]
        if gone:
            assert db.get(rng.choice(gone)) is None

    def read_together() -> None:
        assert db.get_many(kept) == list(kept.values())

    repeat_together(SECONDS, come_and_go, read, read_together, db.compact)
    assert dict(db.items()) == kept
    db.close()
    assert dict(open_db().items()) == kept


def test_batches_are_whole_in_snapshots_and_scans(open_db: OpenDB) -> None:
    db = open_db(**OFTEN)
    names = [b"%03d" % number for number in range(150)]
    db.put_many((name, b"0") for name in names)
    turns = itertools.count(1)

    def put_all() -> None:
        value = b"%d" % next(turns)
        db.put_many((name, value * 20) for name in names)

    def commit_batch() -> None:
        value = b"%d" % next(turns)
        with db.batch() as batch:
            for name in names:
                batch.put(name, value * 30)

    def check_scan() -> None:
        values = list(db.values())
        assert len(values) == len(names)
        assert len(set(values)) == 1

    def check_snapshot() -> None:
        with db.snapshot() as snapshot:
            first = snapshot[names[0]]
            assert {snapshot[name] for name in names} == {first}
            assert set(snapshot.values()) == {first}

    repeat_together(SECONDS, put_all, commit_batch, check_scan, check_snapshot)


def test_snapshots_never_change_beside_everything(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**OFTEN)
    names = [b"%04d" % number for number in range(500)]
    db.put_many((name, b"first") for name in names[::2])

    def write() -> None:
        name = names[rng.randrange(len(names))]
        if rng.random() < 0.5:
            db.put(name, bytes([rng.randrange(256)]) * 80)
        else:
            db.pop(name, None)

    def look_twice() -> None:
        with db.snapshot() as snapshot:
            first = dict(snapshot.items())
            assert dict(snapshot.items()) == first
            assert {name: snapshot[name] for name in first} == first
            assert len(snapshot) == len(first)

    repeat_together(SECONDS, write, write, look_twice, look_twice, db.compact)
    assert db.stats().snapshots == 0
    content = dict(db.items())
    assert len(db) == len(content)
    db.close()
    assert dict(open_db().items()) == content


@pytest.mark.parametrize("size", [10, 3000])
def test_scan_of_one_moment_while_the_index_grows_and_shrinks(open_db: OpenDB, size: int) -> None:
    db = open_db()
    steady = {b"steady %05d" % number: b"%d" % number for number in range(size)}
    db.put_many(steady)
    others = [b"other %05d" % number for number in range(4000)]

    def grow_and_shrink() -> None:
        for name in others:
            db.put(name, b"")
        db.delete_many(others[1::2])
        for name in others[::2]:
            db.delete(name)

    def scan() -> None:
        found = list(db.keys())
        assert len(found) == len(set(found))
        assert steady.keys() <= set(found)

    repeat_together(SECONDS, grow_and_shrink, scan, scan, at_least=2)


def test_every_operation_at_once_ends_as_a_reopen_finds_it(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**OFTEN)
    names = [b"%04d" % number for number in range(300)]

    def some() -> list[bytes]:
        return rng.sample(names, 20)

    def put() -> None:
        db[rng.choice(names)] = bytes([rng.randrange(256)]) * rng.choice([0, 10, 500, 80_000])

    def delete() -> None:
        db.delete(rng.choice(names))
        db.delete_many(some())

    def commit() -> None:
        with db.batch() as batch:
            for name in some():
                batch.put(name, name)
            batch.delete(names[0])

    def take() -> None:
        db.setdefault(rng.choice(names), b"default")
        db.pop(rng.choice(names), None)
        with contextlib.suppress(KeyError):
            db.popitem()

    def read() -> None:
        db.get_many(some())
        with db.snapshot() as snapshot:
            assert len(list(snapshot)) == len(snapshot)
        next(iter(db.items()), None)
        assert db.stats().dead_bytes >= 0

    def compact_and_clear() -> None:
        db.compact()
        if rng.random() < 0.05:
            db.clear()
        db.sync()

    repeat_together(2 * SECONDS, put, delete, commit, take, read, compact_and_clear)
    content = dict(db.items())
    assert len(db) == len(content)
    assert db.get_many(names) == [content.get(name) for name in names]
    db.close()
    reopened = open_db()
    assert dict(reopened.items()) == content
    assert len(reopened) == len(content)

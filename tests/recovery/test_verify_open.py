"""Verify through an open handle: log and index as of one moment, while reads, writes and compaction go on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flash_kv
from flash_kv import DB, ClosedError, LockedError, PoisonedError
from flash_kv.io.faulty import Call, Fault, FaultySystem
from support.damage import cut, flip, records, segments, tree
from support.stores import crash_image, fill, settle
from support.threads import repeat_together
from support.workload import UNSYNCED, content, open_with

Open = Callable[..., DB]


@pytest.fixture
def open_small(tmp_path: Path, index: str, io: str) -> Iterator[Open]:
    """Stores with small segments, once for each index and io kind."""
    opened: list[DB] = []

    def open_one(name: str = "db", **options: object) -> DB:
        opened.append(open_with(tmp_path / name, **{"index": index, "io": io, **options}))
        return opened[-1]

    yield open_one
    for db in opened:
        db.close()


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A store that was killed: two sealed segments and one that was written to."""
    with open_with(tmp_path / "first") as db:
        fill(db, 150)
        db.compact()
        db["one"] = b"1" * 100
        db["two"] = b"2" * 100
        db["three"] = b"3" * 100
        return crash_image(db, tmp_path / "db")


def test_a_sound_store_has_no_damage_open_or_closed(open_small: Open) -> None:
    db = open_small()
    fill(db)
    settle(db)
    report = db.verify()
    assert report.is_ok
    assert report.damages == ()
    assert report.records == 302
    assert report.segments == db.stats().segments
    db.compact()
    assert db.verify().is_ok
    db.close()
    closed = flash_kv.verify(db.path)
    assert closed.is_ok
    assert closed.segments == len(segments(db.path))
    assert closed.bytes_checked == sum(
        path.stat().st_size for path in db.path.iterdir() if path.name not in ("LOCK", "RESERVE", "INDEX")
    )
    assert closed.torn_tail_bytes == 0


def test_an_empty_store_is_sound(open_small: Open) -> None:
    db = open_small()
    assert db.verify().is_ok
    db.close()
    assert flash_kv.verify(db.path).is_ok


def test_every_flipped_bit_is_found_in_an_open_store(open_small: Open, rng: random.Random) -> None:
    db = open_small()
    fill(db)
    settle(db)
    db["active"] = b"record" * 10
    ends = {part["segment_id"]: part["bytes"] + 64 for part in db.stats().as_dict()["segment_stats"]}
    for path in segments(db.path):
        end = ends.get(int(path.stem), 0)
        for offset in rng.sample(range(end), 20 if end else 0):
            flip(path, offset)
            assert any(one.path == path and one.offset <= offset for one in db.verify().damages), (
                path,
                offset,
            )
            flip(path, offset)
    assert db.verify().is_ok


def test_a_closed_store_is_not_checked_through_its_handle(open_small: Open) -> None:
    db = open_small()
    db.close()
    with pytest.raises(ClosedError):
        db.verify()


def test_a_store_opened_for_reading_is_checked_and_may_be_checked_by_others(
    open_small: Open, killed: Path
) -> None:
    before = tree(killed)
    db = open_small("db", read_only=True)
    report = db.verify()
    assert report.is_ok
    assert report.records == len(records(killed))
    assert flash_kv.verify(killed).is_ok
    assert tree(killed) == before


def test_a_store_that_is_open_elsewhere_is_locked(open_small: Open) -> None:
    db = open_small()
    with pytest.raises(LockedError) as caught:
        flash_kv.verify(db.path)
    assert caught.value.holder_pid == os.getpid()


def test_reads_writes_and_compactions_go_on_meanwhile(open_small: Open) -> None:
    db = open_small()
    fill(db)
    numbers = iter(range(10**9))

    def write() -> None:
        i = next(numbers)
        db[f"key {i % 200}"] = b"%d " % i * 50
        db.delete(f"key {(i + 50) % 200}")

    def check() -> None:
        report = db.verify()
        assert report.damages == ()

    repeat_together(1.5, write, check, db.compact, at_least=3)
    assert db.verify().is_ok


def test_segments_that_a_compaction_removes_meanwhile_are_still_checked(open_small: Open) -> None:
    system = FaultySystem(inner=UNSYNCED)
    db = open_small(system=system)
    fill(db)
    settle(db)
    last = records(db.path)[-1]

    def compact(call: Call) -> object:
        with last.path.open("r+b") as file:
            db._compactor.run_all(None)
            assert not last.path.exists()
            file.seek(last.record.offset + 8)
            file.write(b"damage")
        return call.proceed()

    system.add(Fault("open", path_contains=segments(db.path)[0].name, action=compact))
    report = db.verify()
    assert [(damage.path, damage.offset) for damage in report.damages] == [
        (last.path, last.record.offset - 64)
    ]
    assert report.records == 300
    assert db.verify().is_ok


def test_a_compaction_that_was_interrupted_is_no_damage(
    open_small: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(db: DB) -> None:
        raise KeyboardInterrupt

    db = open_small()
    fill(db)
    settle(db)
    del db["key 1"]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(DB, "_sync_for_compaction", interrupt)
        db.compact()
    # The index leads to segments that no manifest lists; those that they are to replace count.
    assert db._segments.unlisted
    assert db.verify().damages == ()
    db["key 2"] = b"more"
    assert db.verify().damages == ()
    db.compact()
    assert db.verify().damages == ()


def test_a_compaction_that_was_cancelled_is_no_damage(open_small: Open) -> None:
    """Aligned values: a record and its copy differ in what stands before the value, and either may be the one taken."""
    db = open_small(align=64)
    for number in range(400):
        db["key" + "x" * (number % 50) + str(number)] = bytes(number % 60)
    # What stands before a value depends on how long the value before it is.
    for key in list(db)[::3]:
        del db[key]
    db._compactor.step_bytes = 4096
    assert db.compact(progress=lambda done: done.bytes_moved < 20_000).is_cancelled
    for _ in range(2):
        assert db.verify().damages == ()
        expected = content(db)
        db.close()
        db = open_small(align=64)
        assert content(db) == expected


def test_a_file_removed_under_an_open_store_is_damage(open_small: Open) -> None:
    db = open_small()
    fill(db)
    settle(db)
    path = segments(db.path)[0]
    path.unlink()
    (damage,) = db.verify().damages
    assert (damage.path, damage.reason) == (path, "the segment is missing")


def test_a_file_cut_under_an_open_store_is_damage_and_no_crash(tmp_path: Path) -> None:
    with open_with(tmp_path / "db") as db:
        fill(db)
        settle(db)
        path = segments(db.path)[0]
        whole = path.read_bytes()
        cut(path, 100)
        assert path in {damage.path for damage in db.verify().damages}
        path.write_bytes(whole)


def test_a_damaged_manifest_of_an_open_store_is_found_before_it_is_needed(open_small: Open) -> None:
    db = open_small()
    fill(db)
    settle(db)
    flip(db.path / "MANIFEST", 50)
    assert db.path / "MANIFEST" in {damage.path for damage in db.verify().damages}


def test_an_index_that_has_lost_keys_is_found(open_small: Open) -> None:
    db = open_small()
    fill(db)
    settle(db)
    db._install_index(db._index_keeper.new_nameless(), 0)
    (damage,) = db.verify().damages
    assert damage.path == db.path
    assert damage.reason.startswith("the index has 0 keys, the log 200")
    with db._segments.space_lock:
        db._install_index(*db._index_without(0, 0, 0))
    assert db.verify().is_ok


def test_a_store_that_is_closed_meanwhile_says_so(open_small: Open) -> None:
    system = FaultySystem(inner=UNSYNCED)
    db = open_small(system=system)
    fill(db)
    settle(db)

    def close(call: Call) -> object:
        db.close()
        return call.proceed()

    system.add(Fault("read_at", path_contains=".seg", action=close))
    with pytest.raises(ClosedError):
        db.verify()


def test_a_store_that_is_closed_while_a_segment_is_compacted_away_says_so(open_small: Open) -> None:
    system = FaultySystem(inner=UNSYNCED)
    db = open_small(system=system)
    fill(db)
    settle(db)

    def compact_and_close(call: Call) -> object:
        db._compactor.run_all(None)
        db.close()
        return call.proceed()

    system.add(Fault("open", path_contains=segments(db.path)[0].name, action=compact_and_close))
    with pytest.raises(ClosedError):
        db.verify()


def test_a_poisoned_store_can_be_checked(open_small: Open) -> None:
    system = FaultySystem(inner=UNSYNCED)
    db = open_small(system=system, durability="always")
    db["before"] = b"durable"
    system.add(Fault("sync_data", from_then_on=True))
    with pytest.raises(PoisonedError):
        db["after"] = b"lost"
    assert db.verify().is_ok
    assert content(db) == {b"before": b"durable"}


def test_verify_tells_how_far_it_is_and_what_is_raised_ends_it(tmp_path: Path) -> None:
    with open_with(tmp_path / "db") as db:
        fill(db)
        told: list[tuple[int, int]] = []
        report = db.verify(progress=lambda done, total: told.append((done, total)))
        assert report.is_ok
        assert len(told) >= report.segments > 1
        assert told == sorted(told)
        assert told[0][0] == 0 < told[-1][0] < told[-1][1]

        def give_up(done: int, total: int) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            db.verify(progress=give_up)
        assert db.verify().is_ok
        assert db.compact().bytes_reclaimed >= 0

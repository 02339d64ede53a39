"""`compact()`: dead bytes come back while the store is open, and nothing else changes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flash_kv
from flash_kv import DB, ClosedError, CompactionProgress, CompactionReport, Options, ReadOnlyError
from flash_kv.engine.segment_set import POPULATE_BYTES
from flash_kv.errors import StrPath
from flash_kv.io.system import System
from flash_kv.log.names import segment_name
from support.stores import crash_image, disk_bytes, index_file_bytes, settle

OpenDB = Callable[..., DB]
SMALL: dict[str, Any] = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off"}


def fill(db: DB, count: int = 2000, size: int = 200) -> dict[bytes, bytes]:
    content = {b"%05d" % number: bytes([number % 256]) * size for number in range(count)}
    for key, value in content.items():
        db.put(key, value)
    return content


def sizes(db: DB) -> dict[str, int]:
    """The sizes of all segments."""
    return {path.name: path.stat().st_size for path in db.path.glob("*.seg")}


def test_space_is_back_while_the_store_is_open(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    content = fill(db, 6000)
    before = disk_bytes(db.path)
    for key in list(content)[: len(content) * 3 // 4]:
        del db[key]
        del content[key]
    report = db.compact()
    assert disk_bytes(db.path) < before * 0.4
    assert dict(db.items()) == content
    assert not report.is_dry_run
    assert not report.is_cancelled
    assert report.bytes_before - report.bytes_after == report.bytes_reclaimed > 0
    assert report.segments_compacted > report.segments_written
    assert report.records_moved <= len(content)
    assert report.tombstones_dropped == 4500
    assert db.stats().dead_bytes == 0
    db.close()
    assert dict(open_db().items()) == content


def test_overwritten_values_are_given_back(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    for _ in range(5):
        content = fill(db)
    live = db.stats().live_bytes
    db.compact()
    stats = db.stats()
    assert (stats.live_bytes, stats.dead_bytes) == (live, 0)
    assert stats.disk_bytes - index_file_bytes(db) < live * 1.3 + 100_000
    assert dict(db.items()) == content


def test_a_second_compaction_has_nothing_to_do(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    content = fill(db)
    db.delete_many(list(content)[::2])
    db.compact()
    db.compact()
    before = sizes(db)
    report = db.compact()
    assert (report.segments_compacted, report.records_moved, report.bytes_reclaimed) == (0, 0, 0)
    assert sizes(db) == before


def test_empty_and_untouched_stores_compact_to_themselves(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    assert db.compact().segments_compacted == 0
    db[b"a"] = b"1"
    db.compact()
    assert db[b"a"] == b"1"
    db.clear()
    db.compact()
    db.compact()
    assert len(db) == 0
    assert sum(one.bytes for one in db.stats().segment_stats) == 0
    db[b"a"] = b"2"
    db.close()
    assert dict(open_db().items()) == {b"a": b"2"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_dry_run_says_what_the_compaction_then_does(
    open_db: OpenDB, rng: random.Random, share: float
) -> None:
    db = open_db(**SMALL)
    content = fill(db)
    for key in rng.sample(sorted(content), int(len(content) * share)):
        if rng.random() < 0.5:
            del db[key]
        else:
            db[key] = b"overwritten"
    predicted = db.compact(dry_run=True)
    assert predicted.is_dry_run
    assert db.stats().compactions == 0
    done = db.compact()
    assert predicted.bytes_before == done.bytes_before
    assert predicted.bytes_reclaimed == pytest.approx(done.bytes_reclaimed, rel=0.1, abs=5000)
    assert predicted.segments_compacted == done.segments_compacted
    assert predicted.bytes_moved == pytest.approx(done.bytes_moved, rel=0.1, abs=5000)


def test_tombstones_disappear_with_what_they_hide(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    content = fill(db)
    db.delete_many(content)
    db.compact()
    db.compact()
    stats = db.stats()
    assert (stats.keys, stats.live_bytes, stats.dead_bytes) == (0, 0, 0)
    assert [one.bytes for one in stats.segment_stats if one.bytes] == []
    assert stats.disk_bytes - index_file_bytes(db) < 100_000


def test_tombstone_stays_while_an_older_value_does(open_db: OpenDB) -> None:
    # The value lies in a segment that is left alone by the cancelled compaction, its tombstone in a later one.
    db = open_db(**SMALL)
    content = fill(db, 1000)
    db.delete_many(list(content)[:500])
    db.compact(progress=lambda _: False)
    db.close()
    db = open_db(**SMALL)
    assert dict(db.items()) == dict(list(content.items())[500:])
    db.compact(progress=lambda step: step.segments_done < 2)
    db.close()
    assert dict(open_db().items()) == dict(list(content.items())[500:])


def test_deleted_keys_never_come_back_whatever_the_order(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**SMALL)
    content: dict[bytes, bytes] = {}
    for turn in range(25):
        for _ in range(150):
            key = b"%03d" % rng.randrange(300)
            if rng.random() < 0.5:
                db.delete(key)
                content.pop(key, None)
            else:
                db[key] = content[key] = bytes([turn]) * rng.randrange(400)
        step = rng.randrange(4)
        if step == 0:
            db.compact()
        elif step == 1:
            db.compact(progress=lambda _: rng.random() < 0.7)
        elif step == 2:
            db.close()
            db = open_db(**SMALL)
        assert dict(db.items()) == content, turn
        assert len(db) == len(content)
    db.close()
    for kind in ("hash", "btree", "skiplist", "bptree"):
        with open_db(**SMALL, index=kind) as reopened:
            assert dict(reopened.items()) == content
            assert len(reopened) == len(content)


def test_deleted_keys_stay_deleted_when_a_snapshot_closes_in_the_middle(open_db: OpenDB) -> None:
    """The values are copied for the snapshot; their tombstones follow when nobody reads the values any more."""
    db = open_db(**SMALL)
    content = fill(db, 100)
    gone = {b"gone %d" % number: b"old" for number in range(100)}
    db.put_many(gone)
    fill(db, 300)
    snapshot = db.snapshot()
    for key in gone:
        del db[key]
    content = fill(db, 350)
    db._compactor.step_bytes = 1
    calls = itertools.count()

    def close_snapshot(_: CompactionProgress) -> None:
        if next(calls) == 3:
            snapshot.close()
            db._collapse_versions(10_000)

    db.compact(progress=close_snapshot)
    assert next(calls) > 4
    assert dict(db.items()) == content
    db.close()
    assert dict(open_db().items()) == content


def test_progress_goes_from_nothing_to_everything(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    content = fill(db)
    db.delete_many(list(content)[::2])
    steps: list[CompactionProgress] = []
    report = db.compact(progress=steps.append)
    assert len(steps) >= report.segments_compacted > 2
    for before, after in itertools.pairwise(steps):
        assert before.bytes_done <= after.bytes_done <= after.bytes_total
        assert before.segments_done <= after.segments_done <= after.segments_total
        assert before.bytes_moved <= after.bytes_moved
    assert steps[-1].bytes_moved == report.bytes_moved
    assert steps[-1].bytes_total == report.bytes_before


@pytest.mark.parametrize("answer", [None, True, 0, "", []])
def test_only_false_cancels(open_db: OpenDB, answer: object) -> None:
    db = open_db(**SMALL)
    db.delete_many(fill(db, 500))
    assert not db.compact(progress=lambda _: answer).is_cancelled
    assert db.stats().dead_bytes == 0


def test_false_cancels_and_loses_nothing(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    content = fill(db)
    db.delete_many(list(content)[::2])
    kept = dict(list(content.items())[1::2])
    report = db.compact(progress=lambda step: step.segments_done < 2)
    assert report.is_cancelled
    assert dict(db.items()) == kept
    assert dict(shut_and_open(db, open_db).items()) == kept


def shut_and_open(db: DB, open_db: OpenDB) -> DB:
    db.close()
    return open_db(**SMALL)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_progress_that_raises_ends_it_and_loses_nothing(open_db: OpenDB, error: type[BaseException]) -> None:
    db = open_db(**SMALL)
    content = fill(db)
    db.delete_many(list(content)[::2])
    kept = dict(list(content.items())[1::2])

    def fail(step: CompactionProgress) -> None:
        if step.segments_done == 2:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        db.compact(progress=fail)
    assert dict(db.items()) == kept
    db[b"more"] = b""
    db = shut_and_open(db, open_db)
    assert dict(db.items()) == {**kept, b"more": b""}
    db.compact()
    assert db.stats().dead_bytes == 0
    assert dict(db.items()) == {**kept, b"more": b""}


def test_progress_may_use_the_store(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    content = fill(db)
    db.delete_many(list(content)[::2])

    def use(step: CompactionProgress) -> None:
        db[b"progress"] = b"%d" % step.bytes_done
        assert db[b"00001"] == content[b"00001"]
        assert db.stats().keys == len(db)
        db.delete(b"00003")

    db.compact(progress=use)
    assert b"00003" not in db
    assert b"progress" in db


def test_report_and_stats_agree(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db.delete_many(fill(db))
    assert db.stats().last_compaction is None
    report = db.compact()
    stats = db.stats()
    assert stats.last_compaction == report
    assert (stats.compactions, stats.compaction_bytes_reclaimed) == (1, report.bytes_reclaimed)
    assert isinstance(report, CompactionReport)
    assert report.as_dict()["bytes_reclaimed"] == report.bytes_reclaimed


def test_values_larger_than_a_segment_are_moved(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    large = {b"large %d" % number: bytes([number]) * 150_000 for number in range(4)}
    with db.batch() as batch:
        for key, value in large.items():
            batch.put(key, value)
            batch.put(b"small", key)
    db.delete(b"large 1")
    db.compact()
    del large[b"large 1"]
    assert dict(db.items()) == {**large, b"small": b"large 3"}
    assert db.stats().dead_bytes == 0
    assert db.stats().disk_bytes < 600_000


def test_needs_about_one_segment_of_extra_space(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    content = fill(db, 6000)
    for key in list(content)[::4]:
        db[key] = b"overwritten" * 18
    settle(db)  # hints that are still to be written are no part of what compaction needs
    before = disk_bytes(db.path)
    most = 0

    def watch(_: CompactionProgress) -> None:
        nonlocal most
        most = max(most, disk_bytes(db.path))

    db.compact(progress=watch)
    assert most - before < 2 * 65536


def test_segments_without_dead_bytes_are_left_alone(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    fill(db, 2000)
    for number in range(1500, 2000):
        db[b"%05d" % number] = b"overwritten"
    db.close()
    db = open_db(**SMALL)
    first = min(path.name for path in db.path.glob("*.seg"))
    inode = (db.path / first).stat().st_ino
    db.compact()
    assert (db.path / first).stat().st_ino == inode


def test_closed_and_read_only_stores_are_not_compacted(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db.delete_many(fill(db))
    db.close()
    with pytest.raises(ClosedError):
        db.compact()
    with pytest.raises(ClosedError):
        db.compact(dry_run=True)
    reader = open_db(**SMALL, read_only=True)
    with pytest.raises(ReadOnlyError):
        reader.compact()
    assert reader.compact(dry_run=True).bytes_reclaimed > 0


def test_compacted_store_is_whole_after_a_kill(open_db: OpenDB, tmp_path: Path) -> None:
    db = open_db(**SMALL)
    content = fill(db)
    db.delete_many(list(content)[::2])
    db.compact()
    db[b"later"] = b"1"
    crash_image(db, tmp_path / "killed")
    reopened = open_db("killed")
    assert dict(reopened.items()) == {**dict(list(content.items())[1::2]), b"later": b"1"}
    reopened.close()
    assert flash_kv.verify(reopened.path).is_ok


class NotingSystem(System):
    """The real one, which notes the names of the files that are synced."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self._names: dict[int, str] = {}

    def open(self, path: StrPath, flags: int, mode: int = 0o600) -> int:
        fd = super().open(path, flags, mode)
        self._names[fd] = Path(path).name
        return fd

    def sync_file(self, fd: int) -> None:
        self.synced.append(self._names[fd])
        super().sync_file(fd)


def test_an_output_is_synced_once_when_it_is_whole(tmp_path: Path, index: str, io: str) -> None:
    system = NotingSystem()
    with DB(tmp_path / "db", Options.from_kwargs(index=index, io=io, **SMALL), system) as db:
        db.delete_many(list(fill(db))[::2])
        db.compact()
        outputs = [segment for segment in db._segments.sealed() if segment.origin == "compaction"]
        assert len(outputs) > 1
        assert {system.synced.count(segment_name(segment.segment_id)) for segment in outputs} == {1}


def test_records_of_all_sizes_fit_the_pieces_that_an_output_grows_by(
    open_db: OpenDB, rng: random.Random
) -> None:
    # Some end at a piece's last byte, some are longer than one.
    db = open_db(segment_bytes_max=8 * POPULATE_BYTES, reserve_bytes=0, compaction="off")
    sizes_of_values = [POPULATE_BYTES * 2 + 5, POPULATE_BYTES - 64 - 32, 10, POPULATE_BYTES, 300_000, 0] * 2
    content = {
        b"%08d" % number: rng.randbytes(16) * (size // 16) for number, size in enumerate(sizes_of_values)
    }
    db.update(content)
    db.put("gone", b"v" * 1000)
    db.delete("gone")
    report = db.compact()
    assert report.records_moved >= len(content)
    assert dict(db.items()) == content
    assert db.verify().is_ok


def test_what_was_replaced_is_let_go_of_also_when_closing_it_fails_once(
    open_db: OpenDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = open_db(**SMALL)
    content = fill(db)
    db.delete_many(list(content)[::2])
    db._segments.rotate()
    db._segments.seal_rotated()
    segment = db._segments.sealed()[0]
    close, failures = segment.close, [OSError(5, "once")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()
        close()

    monkeypatch.setattr(segment, "close", fail_once)
    with pytest.raises(OSError, match="once"):
        db.compact()
    db.compact()
    db.put("more", "later")
    db.delete("more")
    db.compact()
    assert db._segments.released == []
    assert dict(db.items()) == dict(list(content.items())[1::2])

"""A backup: a store by itself, with all that was committed before, whatever goes on meanwhile."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flash_kv
from flash_kv import DB, ClosedError, LockedError, PoisonedError, Snapshot, StorageError
from flash_kv.io.faulty import Call, Fault, FaultySystem
from flash_kv.io.lockfile import acquire
from flash_kv.io.system import REAL
from support.damage import flip, hint_of, manifest_of, overwrite, records, segments, tree
from support.stores import crash_image, fill, settle
from support.workload import UNSYNCED, content, open_with

Open = Callable[..., DB]
NO_LINKS = Fault("link", errno=errno.EXDEV, from_then_on=True)


@pytest.fixture
def open_small(tmp_path: Path, index: str, io: str) -> Iterator[Open]:
    """Stores with small segments, once for each index and io kind; `system` to let calls fail."""
    opened: list[DB] = []

    def open_one(name: str = "db", **options: object) -> DB:
        db = open_with(tmp_path / name, **{"index": index, "io": io, **options})
        opened.append(db)
        return db

    yield open_one
    for db in opened:
        db.close()


@pytest.fixture
def open_one(tmp_path: Path) -> Iterator[Open]:
    """As `open_small`, of one kind."""
    opened: list[DB] = []

    def open_it(name: str = "db", **options: object) -> DB:
        opened.append(open_with(tmp_path / name, **options))
        return opened[-1]

    yield open_it
    for db in opened:
        db.close()


def test_a_backup_opens_as_a_store_with_the_same_content(open_small: Open, tmp_path: Path) -> None:
    db = open_small()
    fill(db)
    report = db.backup(tmp_path / "copy")
    assert report.path == tmp_path / "copy"
    assert report.keys == len(db)
    assert report.segments == len(segments(tmp_path / "copy"))
    assert flash_kv.verify(tmp_path / "copy").is_ok
    assert content(open_small("copy")) == content(db)


def test_a_backup_of_a_backup_works(open_small: Open, tmp_path: Path) -> None:
    fill(db := open_small())
    db.backup(tmp_path / "first")
    open_small("first").backup(tmp_path / "second")
    assert content(open_small("second")) == content(db)


def test_an_empty_store_has_an_empty_backup(open_small: Open, tmp_path: Path) -> None:
    report = open_small().backup(tmp_path / "copy")
    assert (report.keys, report.segments, report.bytes_linked, report.bytes_copied) == (0, 0, 0, 0)
    assert len(open_small("copy")) == 0


def test_segments_are_linked_and_take_no_new_space(open_one: Open, tmp_path: Path) -> None:
    fill(db := open_one())
    report = db.backup(tmp_path / "copy")
    copied = segments(tmp_path / "copy")
    assert copied
    assert all(path.samefile(db.path / path.name) for path in copied)
    assert report.bytes_copied == 0
    assert report.bytes_linked == sum(path.stat().st_size + hint_of(path).stat().st_size for path in copied)


def test_store_and_backup_go_separate_ways(open_small: Open, tmp_path: Path) -> None:
    fill(db := open_small())
    before = content(db)
    db.backup(tmp_path / "copy")
    db.put_many((f"key {i}", b"later") for i in range(300))
    db.compact()
    copy = open_small("copy")
    assert content(copy) == before
    copy.clear()
    copy["only"] = b"here"
    copy.compact()
    assert len(db) == 301
    assert db["key 3"] == b"later"


def test_a_backup_goes_on_where_it_was_made_after_a_kill(open_small: Open, tmp_path: Path) -> None:
    fill(db := open_small())
    db.backup(tmp_path / "copy")
    copy = open_small("copy")
    copy["more"] = b"written to the backup"
    wanted = content(copy)
    crash_image(copy, tmp_path / "killed")
    again = open_small("killed")
    assert content(again) == wanted
    assert again.stats().recovery.torn_tail_bytes == 0


def test_a_backup_is_private_to_its_owner(open_one: Open, tmp_path: Path) -> None:
    fill(db := open_one())
    db.backup(tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700


# While others work


def test_writers_go_on_and_the_backup_holds_a_prefix(open_small: Open, tmp_path: Path) -> None:
    db = open_small()
    written = -1
    is_over = threading.Event()

    def write() -> None:
        nonlocal written
        i = 0
        while not is_over.is_set():
            db.put(f"n{i}", b"%d " % i * 20)
            with db.batch() as batch:
                batch["left"] = batch["right"] = b"%d" % i
            written = i
            i += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            while written < 100 * number:
                is_over.wait(0.001)
            before = written
            report = db.backup(tmp_path / f"copy{number}")
            copy = open_small(f"copy{number}")
            found = content(copy)
            copy.close()
            last = sum(key.startswith(b"n") for key in found) - 1
            assert last >= before
            assert all(f"n{i}".encode() in found for i in range(last + 1))
            assert found[b"left"] == found[b"right"]
            assert int(found[b"left"]) in (last, last - 1)
            assert report.keys == len(found)
    finally:
        is_over.set()
        writer.join()


def test_what_a_compaction_drops_meanwhile_is_in_the_backup_in_its_newer_version(
    open_small: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db := open_small())
    open_snapshot = db.snapshot

    def work_first() -> Snapshot:
        # Between the sealing and the moment: a backup of the sealed segments alone would have no "key 1" at all.
        db["key 1"] = b"newer"
        db.delete("key 2")
        db._compactor.run_all(None)
        return open_snapshot()

    monkeypatch.setattr(db, "snapshot", work_first)
    report = db.backup(tmp_path / "copy")
    assert report.bytes_copied > 0
    copy = open_small("copy")
    assert copy["key 1"] == b"newer"
    assert content(copy) == content(db)


@pytest.mark.parametrize("operation", ["write_at", "sync_file"])
def test_segments_compacted_away_while_they_are_copied_are_copied_whole(
    open_small: Open, tmp_path: Path, operation: str
) -> None:
    def compact(call: Call) -> object:
        db.compact()
        return call.proceed()

    system = FaultySystem(inner=UNSYNCED)
    db = open_small(system=system)
    fill(db)
    before = content(db)
    system.add(NO_LINKS, Fault(operation, path_contains="-copy/0000", action=compact))
    report = db.backup(tmp_path / "copy")
    assert report.bytes_linked == 0
    assert not {path.name for path in segments(tmp_path / "copy")} & {path.name for path in segments(db.path)}
    assert content(open_small("copy")) == before


def test_a_store_closed_meanwhile_ends_the_backup_clearly(open_small: Open, tmp_path: Path) -> None:
    def close(call: Call) -> object:
        db.close()
        return call.proceed()

    system = FaultySystem(inner=UNSYNCED)
    db = open_small(system=system)
    fill(db)
    system.add(NO_LINKS, Fault("write_at", path_contains="-copy/0000", action=close))
    with pytest.raises(ClosedError):
        db.backup(tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_a_store_closed_before_a_read_gives_no_bytes_of_another_file(open_one: Open, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"secret" * 1000)

    def read_another_file(call: Call) -> object:
        db.close()
        fd = os.open(other, os.O_RDONLY)
        try:
            # The number of the closed file is free for the next one.
            os.dup2(fd, call.arguments["fd"])
            return call.proceed()
        finally:
            os.close(call.arguments["fd"])
            if fd != call.arguments["fd"]:
                os.close(fd)

    system = FaultySystem(inner=UNSYNCED)
    db = open_one(system=system, io="file")
    db["key"] = b"value" * 100
    settle(db)
    system.add(NO_LINKS, Fault("read_at", path_contains="db/0000", action=read_another_file))
    with pytest.raises(ClosedError):
        db.backup(tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "other"]


# Where links are not possible


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS])
def test_segments_that_cannot_be_linked_are_copied(open_small: Open, tmp_path: Path, code: int) -> None:
    system = FaultySystem(Fault("link", errno=code, from_then_on=True), inner=UNSYNCED)
    db = open_small(system=system)
    fill(db)
    report = db.backup(tmp_path / "copy")
    files = segments(tmp_path / "copy")
    assert report.bytes_linked == 0
    assert report.bytes_copied == sum(path.stat().st_size + hint_of(path).stat().st_size for path in files)
    assert all(path.stat().st_nlink == 1 for path in files)
    assert flash_kv.verify(tmp_path / "copy").is_ok
    copy = open_small("copy")
    assert content(copy) == content(db)
    assert copy.stats().recovery.segments_scanned == 0


def test_a_missing_hint_is_no_obstacle(open_one: Open, tmp_path: Path) -> None:
    system = FaultySystem(inner=UNSYNCED)
    db = open_one(system=system)
    fill(db)
    db.backup(tmp_path / "first")
    for path in segments(db.path):
        hint_of(path).unlink(missing_ok=True)
    db.backup(tmp_path / "linked")
    system.add(NO_LINKS)
    db.backup(tmp_path / "copied")
    for name in ("linked", "copied"):
        assert not list((tmp_path / name).glob("*.hint"))
        copy = open_one(name)
        assert content(copy) == content(db)
        copy.close()


def test_a_segment_whose_file_was_removed_under_the_store_is_in_the_backup(
    open_one: Open, tmp_path: Path
) -> None:
    fill(db := open_one())
    settle(db)
    segments(db.path)[0].unlink()
    db.backup(tmp_path / "copy")
    assert content(open_one("copy")) == content(db)


def test_damage_is_carried_over_as_it_is_and_stays_known(open_one: Open, tmp_path: Path) -> None:
    system = FaultySystem(NO_LINKS, inner=UNSYNCED)
    db = open_one(system=system)
    fill(db)
    settle(db)
    damaged = segments(db.path)[0]
    flip(damaged, 5000)
    db.backup(tmp_path / "copy")
    report = flash_kv.verify(tmp_path / "copy")
    assert [damage.path.name for damage in report.damages] == [damaged.name]


# Of stores that cannot be written to


def test_a_store_opened_for_reading_can_be_backed_up_unsealed_tail_included(
    open_small: Open, tmp_path: Path
) -> None:
    fill(db := open_small())
    crash_image(db, tmp_path / "killed")
    before = tree(tmp_path / "killed")
    reader = open_small("killed", read_only=True)
    report = reader.backup(tmp_path / "copy")
    assert report.keys == len(db)
    assert report.bytes_copied > 0
    assert tree(tmp_path / "killed") == before
    assert content(open_small("copy")) == content(db)


def test_what_an_open_leaves_out_is_not_in_the_backup_of_a_store_opened_for_reading(
    open_small: Open, tmp_path: Path
) -> None:
    db = open_small()
    # Nothing is sealed meanwhile: two segments are written to, and the first one has a torn tail.
    with db._segments._seal_lock:
        for i in range(100):
            db[f"key {i}"] = b"%d " % i * 300
        crash_image(db, tmp_path / "killed")
    torn = records(tmp_path / "killed")[20]
    overwrite(torn.path, torn.record.offset, bytes(torn.size))
    reader = open_small("killed", read_only=True)
    report = reader.backup(tmp_path / "copy")
    assert (report.keys, report.segments) == (20, 1)
    assert content(open_small("copy")) == content(reader)


def test_a_store_whose_disk_fails_can_still_be_backed_up(open_small: Open, tmp_path: Path) -> None:
    system = FaultySystem(inner=UNSYNCED)
    db = open_small(system=system)
    fill(db)
    system.add(
        Fault("sync_data", from_then_on=True), Fault("sync_file", path_contains="db/", from_then_on=True)
    )
    with pytest.raises(PoisonedError):
        db.sync()
    db.backup(tmp_path / "copy")
    assert content(open_small("copy")) == content(db)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_store_that_cannot_seal_is_backed_up_by_copying(
    open_small: Open, tmp_path: Path, code: int
) -> None:
    system = FaultySystem(inner=UNSYNCED)
    db = open_small(system=system)
    fill(db)
    db.backup(tmp_path / "before")
    db["unsealed"] = b"record"
    system.add(Fault("write_at", errno=code, path_contains="db/tmp-MANIFEST", from_then_on=True))
    report = db.backup(tmp_path / "copy")
    system.heal()
    assert report.bytes_copied > 0
    assert content(open_small("copy")) == content(db)


def test_a_closed_store_has_no_backup(open_one: Open, tmp_path: Path) -> None:
    db = open_one()
    db.close()
    with pytest.raises(ClosedError):
        db.backup(tmp_path / "copy")


# Destinations


@pytest.mark.parametrize("kind", ["empty", "full", "file", "link"])
def test_an_existing_destination_is_refused_and_left_alone(open_one: Open, tmp_path: Path, kind: str) -> None:
    fill(db := open_one())
    dest = tmp_path / "copy"
    match kind:
        case "file":
            dest.write_bytes(b"precious")
        case "link":
            dest.symlink_to(tmp_path / "nowhere")
        case _:
            dest.mkdir()
    if kind == "full":
        (dest / "photo").write_bytes(b"precious")
    with pytest.raises(StorageError) as caught:
        db.backup(dest)
    assert caught.value.errno == errno.EEXIST
    assert caught.value.path == str(dest)
    assert not list(tmp_path.glob("tmp-*"))
    assert os.path.lexists(dest)


@pytest.mark.parametrize("inside", ["copy", "../db/copy", "../link/copy"])
def test_a_destination_inside_the_store_is_refused(open_one: Open, tmp_path: Path, inside: str) -> None:
    fill(db := open_one())
    (tmp_path / "link").symlink_to(db.path)
    with pytest.raises(StorageError) as caught:
        db.backup(db.path / inside)
    assert caught.value.errno == errno.EINVAL
    assert not [name for name in os.listdir(db.path) if "copy" in name]


def test_a_destination_without_a_parent_is_named(open_one: Open, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file") as caught:
        open_one().backup(tmp_path / "absent" / "copy")
    assert caught.value.errno == errno.ENOENT


def test_what_an_interrupted_backup_left_is_removed(open_one: Open, tmp_path: Path) -> None:
    fill(db := open_one())
    left = tmp_path / "tmp-backup-1234-copy"
    left.mkdir()
    for name in ("0000000001.seg", "0000000001.hint", "tmp-MANIFEST", "LOCK"):
        (left / name).write_bytes(b"unfinished")
    other = tmp_path / "tmp-backup-1234-other"
    other.mkdir()
    db.backup(tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "db", other.name]


def test_a_backup_that_is_still_running_is_left_alone(open_one: Open, tmp_path: Path) -> None:
    fill(db := open_one())
    running = tmp_path / "tmp-backup-1234-copy"
    running.mkdir()
    lock = acquire(REAL, running)
    try:
        with pytest.raises(LockedError):
            db.backup(tmp_path / "copy")
    finally:
        lock.release()
    assert running.exists()


def test_foreign_files_in_a_leftover_are_never_removed(open_one: Open, tmp_path: Path) -> None:
    fill(db := open_one())
    left = tmp_path / "tmp-backup-1234-copy"
    left.mkdir()
    (left / "photo").write_bytes(b"precious")
    with pytest.raises(StorageError) as caught:
        db.backup(tmp_path / "copy")
    assert caught.value.errno == errno.ENOTEMPTY
    assert (left / "photo").read_bytes() == b"precious"


def test_a_link_with_the_name_of_a_leftover_is_not_followed(open_one: Open, tmp_path: Path) -> None:
    fill(db := open_one())
    victim = open_one("victim")
    victim["key"] = b"value"
    victim.close()
    (tmp_path / "tmp-backup-1234-copy").symlink_to(tmp_path / "victim")
    db.backup(tmp_path / "copy")
    assert content(open_one("victim")) == {b"key": b"value"}


def test_a_backup_has_the_identity_of_its_store(open_one: Open, tmp_path: Path) -> None:
    fill(db := open_one())
    db.backup(tmp_path / "copy")
    ours, copied = manifest_of(db.path), manifest_of(tmp_path / "copy")
    assert (copied.store_id, copied.hash_key, copied.epoch) == (ours.store_id, ours.hash_key, ours.epoch)
    assert copied.segments == tuple(entry for entry in ours.segments if entry.sealed_bytes is not None)
    assert copied.last_lsn == ours.last_lsn == db.stats().lsn


# Progress, and an end before the end


def test_a_backup_tells_how_far_it_is(open_one: Open, tmp_path: Path) -> None:
    db = open_one(system=FaultySystem(NO_LINKS, inner=UNSYNCED))
    fill(db)
    told: list[tuple[int, int]] = []
    report = db.backup(tmp_path / "copy", progress=lambda done, total: told.append((done, total)))
    assert told[0][0] == 0
    assert told == sorted(told)
    assert len(told) == report.segments + 1
    assert len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1] > 0


@pytest.mark.parametrize("system", [None, NO_LINKS], ids=["linked", "copied"])
@pytest.mark.parametrize("calls", [1, 3])
def test_what_is_raised_meanwhile_ends_a_backup_and_leaves_nothing(
    open_one: Open, tmp_path: Path, system: Fault | None, calls: int
) -> None:
    faults = () if system is None else (system,)
    db = open_one(system=FaultySystem(*faults, inner=UNSYNCED))
    fill(db)
    before = sorted(os.listdir(tmp_path))
    told: list[int] = []

    def give_up(done: int, total: int) -> None:
        told.append(done)
        # All that is linked is one step.
        if len(told) == (calls if faults else 1):
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        db.backup(tmp_path / "copy", progress=give_up)
    assert sorted(os.listdir(tmp_path)) == before
    assert db.backup(tmp_path / "copy").keys == len(db)

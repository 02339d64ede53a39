"""Repair: every undamaged key with its newest value, no older value for any other, nothing lost without a word."""

from __future__ import annotations

import errno
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flash_kv
from flash_kv import FormatVersionError, LockedError, PoisonedError, StorageError, StoreNotFoundError
from flash_kv.io.faulty import Fault, FaultySystem
from flash_kv.log.checksum_cy import crc32c
from flash_kv.log.records import KIND_TOMBSTONE, KIND_VALUE, make_segment_header
from support.damage import (
    Placed,
    flip,
    hints_removed,
    manifest_of,
    overwrite,
    records,
    segments,
    tree,
)
from support.repairs import Versions, build, check, newest, newest_records, salvaged
from support.stores import crash_image
from support.workload import content, open_with


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def versions(store: Path) -> Versions:
    return build(store)


# Sound stores


def test_a_sound_store_is_copied_whole(store: Path, versions: Versions) -> None:
    report, found = salvaged(store)
    assert found == newest(versions)
    assert (report.damages, report.lost_keys, report.records_lost) == ((), (), 0)
    assert report.records_salvaged == len(records(store))


def test_an_empty_store_gives_an_empty_store(store: Path) -> None:
    open_with(store).close()
    report, found = salvaged(store)
    assert found == {}
    assert report.damages == ()


def test_a_killed_store_is_repaired_to_what_an_open_finds(tmp_path: Path) -> None:
    with open_with(tmp_path / "first") as db:
        for i in range(100):
            db[f"key {i % 40}"] = b"%d" % i * 500
        crash_image(db, tmp_path / "db")
    last = records(tmp_path / "db")[-1]
    overwrite(last.path, last.record.value_offset, b"torn")
    report, found = salvaged(tmp_path / "db")
    assert report.damages == ()
    with open_with(tmp_path / "db") as db:
        assert content(db) == found
    assert found[b"key 19"] == b"59" * 500


def test_a_new_store_with_new_identity_is_made(store: Path, versions: Versions, tmp_path: Path) -> None:
    flash_kv.repair(store, tmp_path / "new")
    assert manifest_of(tmp_path / "new").store_id != manifest_of(store).store_id
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    with open_with(tmp_path / "new") as db:
        db["goes"] = b"on"
        assert db.stats().recovery.was_clean


# Damaged records


def test_a_damaged_newest_value_is_lost_and_no_older_one_takes_its_place(
    store: Path, versions: Versions
) -> None:
    chosen = next(
        placed
        for key, placed in newest_records(store).items()
        if placed.record.kind == KIND_VALUE
        and len(versions[key]) > 1
        and not versions[key][-1].startswith(b"b")
    )
    flip(chosen.path, chosen.record.value_offset)
    report, found = salvaged(store)
    check(found, report, versions, {chosen.record.key})
    assert report.lost_keys == (chosen.record.key,)
    assert report.records_lost == 1
    (damage,) = report.damages
    assert (damage.path, damage.offset, damage.size) == (chosen.path, chosen.record.offset, chosen.size)


def test_a_damaged_older_value_is_no_loss(store: Path, versions: Versions) -> None:
    last = newest_records(store)
    chosen = next(one for one in records(store) if last[one.record.key].path != one.path and one.size < 900)
    flip(chosen.path, chosen.record.offset + 1)
    report, found = salvaged(store)
    assert found[b"key 1"] == newest(versions)[b"key 1"]
    assert chosen.record.key not in report.lost_keys
    assert report.damages


def test_a_damaged_tombstone_still_deletes(store: Path, versions: Versions) -> None:
    chosen = [one for one in newest_records(store).values() if one.record.kind == KIND_TOMBSTONE]
    assert chosen
    for placed in chosen:
        flip(placed.path, placed.record.offset + 24)
    report, found = salvaged(store)
    check(found, report, versions, set())
    assert report.records_lost == len(chosen)
    assert report.lost_keys == ()


def test_every_flipped_bit_costs_the_records_it_hits_and_nothing_else(
    store: Path, versions: Versions, rng: random.Random
) -> None:
    wanted = newest(versions)
    for path in segments(store):
        for offset in rng.sample(range(path.stat().st_size), 15):
            flip(path, offset)
            report, found = salvaged(store)
            lost = set(report.lost_keys)
            assert found == {key: value for key, value in wanted.items() if key not in lost}
            # A batch of two at most is hit.
            assert len(lost) <= 2
            assert bool(report.damages)
            flip(path, offset)


def test_without_hints_every_undamaged_newest_value_is_there_all_the_same(
    store: Path, versions: Versions, rng: random.Random
) -> None:
    hints_removed(store)
    wanted = newest(versions)
    for path in segments(store):
        for offset in rng.sample(range(64, path.stat().st_size), 15):
            flip(path, offset)
            _, found = salvaged(store)
            wrong = {key for key in wanted.keys() | found.keys() if found.get(key) != wanted.get(key)}
            assert len(wrong) <= 2
            assert all(found[key] in versions[key] for key in found)
            flip(path, offset)


@given(data=st.data())
def test_any_damage_costs_no_sound_record_and_brings_no_older_value_back(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("store") / "db"
    versions = build(directory, data.draw(st.integers(0, 50)))
    last = newest_records(directory)
    hit = []
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(segments(directory)))
        offset = data.draw(st.integers(0, path.stat().st_size - 1))
        size = data.draw(st.integers(1, 3000))
        junk = data.draw(st.binary(min_size=1, max_size=64)) * (size // 64 + 1)
        overwrite(path, offset, junk[: min(size, path.stat().st_size - offset)])
        hit.append((path, offset, offset + size))
    report, found = salvaged(directory)
    for key, placed in last.items():
        is_hit = any(
            placed.path == path and placed.record.offset < end and start < placed.record.offset + placed.size
            for path, start, end in hit
        )
        if key in found:
            assert found[key] == versions[key][-1]
        elif versions[key][-1] is not None:
            assert key in report.lost_keys
        if not is_hit and not (versions[key][-1] or b"").startswith(b"batch"):
            assert found.get(key) == versions[key][-1]
    shutil.rmtree(directory.parent)


# Batches


def batch_store(path: Path) -> tuple[Placed, Placed]:
    """A store with a batch that overwrites `a` and `b`; the two records of it."""
    with open_with(path) as db:
        db["a"] = db["b"] = db["c"] = b"older"
        with db.batch() as batch:
            batch["a"] = b"newer a"
            batch["b"] = b"newer b"
            del batch["c"]
        db["d"] = b"after"
    last = newest_records(path)
    return last[b"a"], last[b"b"]


def test_of_a_damaged_batch_what_is_sound_is_salvaged(store: Path) -> None:
    one, _ = batch_store(store)
    flip(one.path, one.record.value_offset)
    report, found = salvaged(store)
    assert found == {b"b": b"newer b", b"d": b"after"}
    assert report.lost_keys == (b"a",)
    assert report.records_lost == 1


def test_the_damaged_frame_of_a_batch_loses_nothing(store: Path) -> None:
    one, _ = batch_store(store)
    flip(one.path, one.record.offset - 24 + 16)
    report, found = salvaged(store)
    assert found == {b"a": b"newer a", b"b": b"newer b", b"d": b"after"}
    assert report.lost_keys == ()
    assert len(report.damages) == 1


def test_without_a_hint_a_damaged_batch_is_lost_as_a_whole(store: Path) -> None:
    one, _ = batch_store(store)
    hints_removed(store)
    flip(one.path, one.record.value_offset)
    report, found = salvaged(store)
    # Nothing says what the damaged record itself was about, nor that the batch was not withdrawn.
    assert found == {b"a": b"older", b"d": b"after"}
    assert report.lost_keys == (b"b",)
    assert report.records_lost == 2


@pytest.mark.parametrize("has_hints", [True, False])
def test_a_withdrawn_batch_whose_void_is_damaged_does_not_come_back(store: Path, has_hints: bool) -> None:
    system = FaultySystem()
    with open_with(store, system, durability="always") as db:
        db["a"] = b"older"
        system.add(Fault("sync_data"))
        with pytest.raises(PoisonedError), db.batch() as batch:
            batch["a"] = b"newer a"
            batch["b"] = b"newer b"
    with open_with(store) as db:
        db["d"] = b"after"
    before = newest_records(store)[b"a"]
    if not has_hints:
        hints_removed(store)
    flip(before.path, before.record.offset + before.size)
    report, found = salvaged(store)
    assert len(report.damages) == 1
    # Without a hint nothing says that it was not committed.
    assert found == ({b"a": b"older", b"d": b"after"} if has_hints else {b"d": b"after"})


def test_a_batch_that_was_never_committed_takes_nothing_away(tmp_path: Path) -> None:
    with open_with(tmp_path / "first", durability="always") as db:
        for key in "xyz":
            db[key] = b"sound" * 10
        db["a"] = b"committed"
        with db.batch(durability="process") as batch:
            batch["a"] = b"never"
            del batch["x"]
        crash_image(db, tmp_path / "db")
    placed = {one.record.lsn: one for one in records(tmp_path / "db")}
    # The kill came before the frame's first word was written, and a bad sector hit a record that was durable.
    overwrite(placed[5].path, placed[5].record.offset - 24, bytes(8))
    flip(placed[2].path, placed[2].record.value_offset)
    report, found = salvaged(tmp_path / "db")
    assert found == {b"x": b"sound" * 10, b"z": b"sound" * 10, b"a": b"committed"}
    assert report.damages[0].offset == placed[2].record.offset


# Who may call, and where to


def test_a_store_that_is_open_is_locked(store: Path, tmp_path: Path) -> None:
    with open_with(store) as db:
        db["key"] = b"value"
        with pytest.raises(LockedError):
            flash_kv.repair(store, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["nothing", "file", "empty"])
def test_a_source_without_a_store_is_said_to_have_none(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "here"
    if kind == "file":
        source.write_bytes(b"data")
    elif kind == "empty":
        source.mkdir()
    with pytest.raises(StoreNotFoundError):
        flash_kv.repair(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_an_existing_destination_is_refused_and_left_alone(
    store: Path, versions: Versions, tmp_path: Path, kind: str
) -> None:
    dest = tmp_path / "new"
    if kind == "file":
        dest.write_bytes(b"precious")
    else:
        dest.mkdir()
    with pytest.raises(StorageError) as caught:
        flash_kv.repair(store, dest)
    assert caught.value.errno == errno.EEXIST
    assert not list(tmp_path.glob("tmp-*"))


def test_a_destination_inside_the_source_is_refused(store: Path, versions: Versions) -> None:
    before = tree(store)
    with pytest.raises(StorageError) as caught:
        flash_kv.repair(store, store / "new")
    assert caught.value.errno == errno.EINVAL
    assert tree(store) == before


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_store_of_a_later_version_is_left_to_it(
    store: Path, versions: Versions, tmp_path: Path, has_manifest: bool
) -> None:
    path = segments(store)[0]
    store_id = manifest_of(store).store_id
    header = make_segment_header(
        store_id=store_id, segment_id=int(path.stem), epoch=1, origin=0, created_ns=0
    )
    header = header[:8] + b"\x09" + header[9:60]
    overwrite(path, 0, header + crc32c(header).to_bytes(4, "little"))
    if not has_manifest:
        (store / "MANIFEST").unlink()
    with pytest.raises(FormatVersionError):
        flash_kv.repair(store, tmp_path / "new")
    assert not list(tmp_path.glob("*new"))


def test_a_store_without_its_lock_file_is_repaired_without_making_one(
    store: Path, versions: Versions
) -> None:
    (store / "LOCK").unlink()
    _, found = salvaged(store)
    assert found == newest(versions)


def test_what_an_interrupted_repair_left_is_removed(store: Path, versions: Versions, tmp_path: Path) -> None:
    left = tmp_path / "tmp-repair-1234-new"
    open_with(left).close()
    flash_kv.repair(store, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "new"]

"""Repair: every undamaged key with its newest value, no older value for any other, nothing lost without a word."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flash_kv
from flash_kv import FormatVersionError, LockedError, RepairReport, StorageError, StoreNotFoundError
from flash_kv.io.faulty import Call, Fault, FaultySystem
from flash_kv.log.checksum_cy import crc32c
from flash_kv.log.names import segment_name
from flash_kv.log.records import KIND_TOMBSTONE, KIND_VALUE, make_segment_header
from support.damage import (
    Placed,
    crash_image,
    cut,
    flip,
    hint_of,
    hints_removed,
    manifest_of,
    overwrite,
    records,
    segments,
    tree,
)
from support.workload import content, open_with

Versions = dict[bytes, list[bytes | None]]


def build(path: Path, seed: int = 1) -> Versions:
    """A closed store of several segments; of each key all values it had, oldest first, None for a delete."""
    chance = random.Random(seed)
    versions: Versions = {}
    with open_with(path) as db:
        for i in range(400):
            key = b"key %d" % chance.randrange(150)
            if chance.random() < 0.2 and versions.get(key, [None])[-1] is not None:
                db.delete(key)
                versions[key].append(None)
            elif chance.random() < 0.1:
                other = b"key %d" % (150 + chance.randrange(50))
                with db.batch() as batch:
                    batch[key] = batch[other] = b"batch %d" % i
                versions.setdefault(key, []).append(b"batch %d" % i)
                versions.setdefault(other, []).append(b"batch %d" % i)
            else:
                value = b"%d " % i * chance.randrange(1, 200)
                db[key] = value
                versions.setdefault(key, []).append(value)
    return versions


def newest(versions: Versions) -> dict[bytes, bytes]:
    """What the store holds."""
    return {key: values[-1] for key, values in versions.items() if values[-1] is not None}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def versions(store: Path) -> Versions:
    return build(store)


def salvaged(source: Path, **options: object) -> tuple[RepairReport, dict[bytes, bytes]]:
    """Repair into a new directory: the report and what the new store holds. `source` must not change."""
    before = tree(source)
    dest = source.parent / "repaired"
    report = flash_kv.repair(source, dest, **options)
    assert tree(source) == before
    assert flash_kv.verify(dest).is_ok
    with open_with(dest) as db:
        found = content(db)
    assert report.keys == len(found)
    assert report.path == dest
    assert report.source == source
    shutil.rmtree(dest)
    return report, found


def check(found: dict[bytes, bytes], report: RepairReport, versions: Versions, damaged: set[bytes]) -> None:
    """Each key has its newest value, unless the record of it is damaged: then it is absent and reported."""
    wanted = {key: value for key, value in newest(versions).items() if key not in damaged}
    assert found == wanted
    assert set(report.lost_keys) == {key for key in damaged if versions[key][-1] is not None}


def newest_records(source: Path) -> dict[bytes, Placed]:
    """Of each key the record that counts."""
    return {placed.record.key: placed for placed in records(source)}


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


@pytest.mark.parametrize("has_hints", [True, False])
def test_a_damaged_batch_is_lost_as_a_whole(store: Path, has_hints: bool) -> None:
    one, _ = batch_store(store)
    if not has_hints:
        hints_removed(store)
    flip(one.path, one.record.value_offset)
    report, found = salvaged(store)
    # Without hints nothing says what the damaged record itself was about.
    assert found == {b"d": b"after"} if has_hints else {b"a": b"older", b"d": b"after"}
    assert report.lost_keys == ((b"a", b"b") if has_hints else (b"b",))
    assert report.records_lost == (3 if has_hints else 2)


def test_the_damaged_frame_of_a_batch_loses_the_batch(store: Path) -> None:
    one, _ = batch_store(store)
    flip(one.path, one.record.offset - 24 + 16)
    report, found = salvaged(store)
    assert found == {b"d": b"after"}
    assert report.lost_keys == (b"a", b"b")


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


# Damaged files


def lose_nothing(directory: Path) -> None:
    """No damage at all."""


def lose_manifest(directory: Path) -> None:
    (directory / "MANIFEST").unlink()


def spoil_manifest(directory: Path) -> None:
    flip(directory / "MANIFEST", 200)


def say_another_version(directory: Path) -> None:
    overwrite(directory / "MANIFEST", 17, b"9")


def spoil_headers(directory: Path) -> None:
    for path in segments(directory):
        overwrite(path, 0, os.urandom(64))


def spoil_a_header_and_lose_the_manifest(directory: Path) -> None:
    lose_manifest(directory)
    overwrite(segments(directory)[1], 0, os.urandom(64))


def spoil_headers_and_lose_the_manifest(directory: Path) -> None:
    lose_manifest(directory)
    spoil_headers(directory)


def spoil_a_header_and_lose_manifest_and_hints(directory: Path) -> None:
    hints_removed(directory)
    spoil_a_header_and_lose_the_manifest(directory)


def spoil_the_last_header_and_lose_manifest_and_hints(directory: Path) -> None:
    hints_removed(directory)
    lose_manifest(directory)
    overwrite(segments(directory)[-1], 0, os.urandom(64))


def lose_hints(directory: Path) -> None:
    hints_removed(directory)


def spoil_hints(directory: Path) -> None:
    for path in segments(directory):
        flip(hint_of(path), 300)


def add_foreign_files(directory: Path) -> None:
    (directory / "photo.jpg").write_bytes(b"not ours")
    (directory / "0000000099.seg").write_bytes(os.urandom(5000))
    (directory / "0000000098.hint").write_bytes(os.urandom(500))


@pytest.mark.parametrize(
    "damage",
    [
        lose_nothing,
        lose_manifest,
        spoil_manifest,
        say_another_version,
        spoil_headers,
        spoil_a_header_and_lose_the_manifest,
        spoil_headers_and_lose_the_manifest,
        spoil_a_header_and_lose_manifest_and_hints,
        spoil_the_last_header_and_lose_manifest_and_hints,
        lose_hints,
        spoil_hints,
        add_foreign_files,
    ],
)
def test_damage_that_hits_no_record_costs_none(
    store: Path, versions: Versions, damage: Callable[[Path], None]
) -> None:
    damage(store)
    report, found = salvaged(store)
    check(found, report, versions, set())
    assert report.records_lost == 0


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_missing_segment_costs_its_records_only(
    store: Path, versions: Versions, has_manifest: bool
) -> None:
    path = segments(store)[1]
    damaged = {key for key, placed in newest_records(store).items() if placed.path == path}
    lost = sum(placed.path == path for placed in records(store))
    path.unlink()
    if not has_manifest:
        lose_manifest(store)
    report, found = salvaged(store)
    check(found, report, versions, damaged)
    assert damaged
    assert 0 < report.records_lost <= lost
    assert path in {damage.path for damage in report.damages}


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_cut_segment_costs_what_was_behind_the_cut(
    store: Path, versions: Versions, has_manifest: bool
) -> None:
    path = segments(store)[0]
    size = path.stat().st_size // 2
    last = newest_records(store)
    cut(path, size)
    if not has_manifest:
        lose_manifest(store)
    report, found = salvaged(store)
    gone = {key for key, one in last.items() if one.path == path and one.record.offset + one.size > size}
    halves = {key for key in report.lost_keys if (versions[key][-1] or b"").startswith(b"batch")}
    check(found, report, versions, gone | halves)
    assert gone


def test_sectors_that_cannot_be_read_cost_what_is_in_them(store: Path, versions: Versions) -> None:
    path = segments(store)[0]

    def refuse(call: Call) -> object:
        start, size = call.arguments["offset"], call.arguments["size"]
        if start < 12_288 and start + size > 8192:
            raise OSError(errno.EIO, "Input/output error")
        return call.proceed()

    last = newest_records(store)
    system = FaultySystem(Fault("read_at", path_contains=path.name, action=refuse, from_then_on=True))
    report, found = salvaged(store, system=system)
    hit = {
        key
        for key, one in last.items()
        if one.path == path and one.record.offset < 12_288 and one.record.offset + one.size > 8192
    }
    halves = {key for key in report.lost_keys if (versions[key][-1] or b"").startswith(b"batch")}
    check(found, report, versions, hit | halves)
    assert any("cannot be read" in damage.reason for damage in report.damages)


def test_durable_records_behind_lost_ones_are_salvaged(tmp_path: Path) -> None:
    with open_with(tmp_path / "first", durability="always") as db:
        for i in range(10):
            db[f"key {i}"] = b"value" * 10
        crash_image(db, tmp_path / "db")
    first = records(tmp_path / "db")[0]
    overwrite(first.path, first.record.offset, bytes(first.size))
    report, found = salvaged(tmp_path / "db")
    assert sorted(found) == [b"key %d" % i for i in range(1, 10)]
    assert any("were durable" in damage.reason for damage in report.damages)


# What must not come back


def test_segments_that_were_compacted_away_do_not_come_back(store: Path, versions: Versions) -> None:
    older = {path: path.read_bytes() for path in store.iterdir() if path.suffix in (".seg", ".hint")}
    with open_with(store) as db:
        for key in list(db)[:50]:
            db.delete(key)
        db.compact()
        wanted = content(db)
    for path, data in older.items():
        if not path.exists():
            path.write_bytes(data)
    flip(segments(store)[-1], 30)
    _, found = salvaged(store)
    assert found == wanted


def test_a_segment_of_another_store_is_left_out(store: Path, versions: Versions, tmp_path: Path) -> None:
    with open_with(tmp_path / "other") as db:
        db["foreign"] = b"value"
    (foreign,) = segments(tmp_path / "other")
    for name in ("MANIFEST", "keep"):
        shutil.copy(foreign, store / segment_name(90))
        if name == "MANIFEST":
            report, found = salvaged(store)
        else:
            lose_manifest(store)
            report, found = salvaged(store)
        check(found, report, versions, set())
        assert store / segment_name(90) in {damage.path for damage in report.damages}


def test_segments_an_older_manifest_does_not_know_are_salvaged(store: Path) -> None:
    with open_with(store) as db:
        db["first"] = b"value"
        db["gone"] = b"value"
    older = (store / "MANIFEST").read_bytes()
    with open_with(store) as db:
        db["first"] = b"newer"
        del db["gone"]
        db["second"] = b"value"
    (store / "MANIFEST").write_bytes(older)
    report, found = salvaged(store)
    assert found == {b"first": b"newer", b"second": b"value"}
    assert any("older copy" in damage.reason for damage in report.damages)


# Large values, many keys


def test_values_larger_than_a_segment_are_salvaged(store: Path) -> None:
    large = os.urandom(300_000)
    with open_with(store) as db:
        db["small"] = b"value"
        db["large"] = large
    flip(segments(store)[0], 40)
    _, found = salvaged(store)
    assert found == {b"small": b"value", b"large": large}


def test_values_of_zeros_at_the_end_are_no_empty_space(store: Path) -> None:
    with open_with(store) as db:
        db["zeros"] = bytes(5000)
    hints_removed(store)
    lose_manifest(store)
    report, found = salvaged(store)
    assert found == {b"zeros": bytes(5000)}
    assert [damage.path.name for damage in report.damages] == ["MANIFEST"]


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
        lose_manifest(store)
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

"""Verify: all damage is found, none is raised, nothing is changed; and what is no damage is not called one."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

import flash_kv
from flash_kv import FormatVersionError, StoreNotFoundError
from flash_kv.io.faulty import Call, Fault, FaultySystem
from flash_kv.log.checksum_cy import crc32c
from flash_kv.log.hints_cy import build_hint
from flash_kv.log.manifest import Manifest, write_manifest
from flash_kv.log.records import make_segment_header
from support.damage import cut, flip, hint_of, manifest_of, overwrite, records, segments, tree
from support.segments import SegmentBuilder
from support.stores import crash_image, fill, settle
from support.workload import UNSYNCED, open_with


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A closed store of some segments."""
    with open_with(tmp_path / "db") as db:
        fill(db)
    return tmp_path / "db"


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


def reasons(path: Path) -> list[str]:
    """What verify finds, in a few words each."""
    return [f"{damage.path.name}: {damage.reason}" for damage in flash_kv.verify(path).damages]


# Nothing wrong


def test_a_killed_store_is_sound_and_its_torn_tail_is_counted(killed: Path) -> None:
    assert flash_kv.verify(killed).torn_tail_bytes == 0
    last = records(killed)[-1]
    overwrite(last.path, last.record.offset + 40, bytes(last.size - 40))
    report = flash_kv.verify(killed)
    assert report.is_ok
    assert report.torn_tail_bytes == 40
    with open_with(killed, read_only=True) as db:
        assert db.verify().torn_tail_bytes == 40
        assert "three" not in db


def test_space_that_is_not_used_yet_is_no_damage_even_without_a_manifest(killed: Path) -> None:
    (killed / "MANIFEST").unlink()
    report = flash_kv.verify(killed)
    assert [damage.path.name for damage in report.damages] == ["MANIFEST"]
    last = max(segments(killed), key=lambda path: path.stat().st_size)
    assert last.read_bytes().endswith(bytes(1000))


def test_what_a_compaction_left_is_no_damage(tmp_path: Path) -> None:
    with open_with(tmp_path / "db") as db:
        fill(db)
        settle(db)
        inputs = {path: path.read_bytes() for path in db.path.iterdir() if path.suffix in (".seg", ".hint")}
        db.compact()
    for path, data in inputs.items():
        path.write_bytes(data)
    (tmp_path / "db" / "tmp-MANIFEST").write_bytes(b"unfinished")
    (tmp_path / "db" / "0000000099.seg").write_bytes(bytes(4096))
    assert flash_kv.verify(tmp_path / "db").is_ok


def test_a_missing_hint_is_no_damage(store: Path) -> None:
    hint_of(segments(store)[0]).unlink()
    assert flash_kv.verify(store).is_ok


def test_zeros_behind_the_sealed_end_are_no_damage(store: Path) -> None:
    with segments(store)[0].open("ab") as file:
        file.write(bytes(10_000))
    assert flash_kv.verify(store).is_ok


# Nothing changed


@pytest.mark.parametrize("is_locked", [True, False])
def test_a_damaged_store_is_checked_without_changing_it(store: Path, is_locked: bool) -> None:
    if not is_locked:
        (store / "LOCK").unlink()
    flip(segments(store)[1], 1000)
    (store / "MANIFEST").write_bytes(b"nonsense")
    (store / "tmp-MANIFEST").write_bytes(b"left")
    before = tree(store)
    assert not flash_kv.verify(store).is_ok
    assert tree(store) == before


# Damage


def test_every_flipped_bit_is_found(store: Path, rng: random.Random) -> None:
    for path in sorted(store.iterdir()):
        if path.name in ("LOCK", "RESERVE"):
            continue
        for offset in rng.sample(range(path.stat().st_size), 40):
            mask = 1 << rng.randrange(8)
            flip(path, offset, mask)
            found = [damage for damage in flash_kv.verify(store).damages if damage.path == path]
            assert found, (path, offset, mask)
            if path.suffix == ".seg":
                assert any(one.offset <= offset < one.offset + one.size for one in found), (offset, found)
            flip(path, offset, mask)
    assert flash_kv.verify(store).is_ok


def test_every_damaged_range_is_listed(store: Path) -> None:
    one, other = records(store)[3], records(store)[9]
    assert one.path == other.path
    overwrite(one.path, one.record.value_offset, b"damaged")
    overwrite(other.path, other.record.offset + 8, b"\xff" * 8)
    found = [(damage.offset, damage.size) for damage in flash_kv.verify(store).damages]
    assert found == [(one.record.offset, one.size), (other.record.offset, other.size)]


def test_a_missing_segment_is_named(store: Path) -> None:
    path = segments(store)[1]
    size = path.stat().st_size
    path.unlink()
    (damage,) = flash_kv.verify(store).damages
    assert (damage.path, damage.size, damage.reason) == (path, size, "the segment is missing")


@pytest.mark.parametrize("size", [0, 10, 64, 5000])
def test_a_cut_segment_is_damaged_from_its_end_on(store: Path, size: int) -> None:
    path = segments(store)[0]
    whole = path.stat().st_size
    cut(path, size)
    damages = [damage for damage in flash_kv.verify(store).damages if damage.path == path]
    assert max(damage.offset + damage.size for damage in damages) == whole
    assert any("ends before" in damage.reason for damage in damages)


def test_a_damaged_header_is_one_damage_and_hides_no_record(store: Path) -> None:
    sound = flash_kv.verify(store).records
    overwrite(segments(store)[0], 20, b"other store")
    report = flash_kv.verify(store)
    assert [(damage.offset, damage.size) for damage in report.damages] == [(0, 64)]
    assert report.records == sound


def test_swapped_segments_are_told_by_their_headers(store: Path) -> None:
    one, other = segments(store)[:2]
    names = (one.read_bytes(), other.read_bytes())
    one.write_bytes(names[1])
    other.write_bytes(names[0])
    assert reasons(store) == [
        f"{one.name}: header of segment {int(other.stem)}, not {int(one.stem)}",
        f"{other.name}: header of segment {int(one.stem)}, not {int(other.stem)}",
    ]


def test_another_stores_segment_is_told_by_its_header(store: Path, tmp_path: Path) -> None:
    with open_with(tmp_path / "other") as db:
        fill(db)
    path = segments(store)[0]
    path.write_bytes(segments(tmp_path / "other")[0].read_bytes())
    (reason,) = reasons(store)
    assert "segment of another store" in reason


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_a_segment_that_is_no_file_is_damage(store: Path, kind: str) -> None:
    path = segments(store)[0]
    path.unlink()
    match kind:
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to(segments(store)[0])
        case "fifo":
            os.mkfifo(path)
    assert path in {damage.path for damage in flash_kv.verify(store).damages}


@pytest.mark.parametrize("offset", [0, 8192])
def test_sectors_the_disk_cannot_read_are_damage(store: Path, offset: int) -> None:
    path = segments(store)[0]

    def refuse(call: Call) -> object:
        start, size = call.arguments["offset"], call.arguments["size"]
        if start < offset + 8192 and offset < start + size:
            raise OSError(errno.EIO, "Input/output error")
        return call.proceed()

    system = FaultySystem(Fault("read_at", path_contains=path.name, action=refuse, from_then_on=True))
    report = flash_kv.verify(store, system=system)
    unreadable = [damage for damage in report.damages if "cannot be read" in damage.reason]
    assert [(damage.path, damage.offset, damage.size) for damage in unreadable] == [(path, offset, 8192)]
    assert flash_kv.verify(store).records > report.records > 0


def test_a_segment_that_may_not_be_opened_is_an_error_and_no_damage(store: Path) -> None:
    system = FaultySystem(Fault("open", errno=errno.EMFILE, path_contains=".seg"))
    with pytest.raises(flash_kv.StorageError) as caught:
        flash_kv.verify(store, system=system)
    assert caught.value.errno == errno.EMFILE


# Hint files


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "foreign", "directory"])
def test_a_hint_that_cannot_be_used_is_named(store: Path, tmp_path: Path, how: str) -> None:
    path = hint_of(segments(store)[0])
    match how:
        case "flipped":
            flip(path, path.stat().st_size // 2)
        case "cut":
            cut(path, path.stat().st_size - 8)
        case "empty":
            cut(path, 0)
        case "foreign":
            with open_with(tmp_path / "other") as db:
                fill(db)
            path.write_bytes(hint_of(segments(tmp_path / "other")[0]).read_bytes())
        case "directory":
            path.unlink()
            path.mkdir()
    assert [damage.path for damage in flash_kv.verify(store).damages] == [path]


def test_a_hint_that_is_sound_and_says_something_else_is_named(tmp_path: Path) -> None:
    with open_with(tmp_path / "db") as db:
        db["real"] = b"value"
    (path,) = segments(tmp_path / "db")
    manifest = manifest_of(tmp_path / "db")
    other = SegmentBuilder(1, manifest.segments[0].epoch, store_id=manifest.store_id)
    other.put(b"fake", b"value")
    hint_of(path).write_bytes(b"".join(build_hint(other.scan()).chunks()))
    assert reasons(tmp_path / "db") == [f"{hint_of(path).name}: it does not say what its segment says"]


# The manifest


def test_a_missing_manifest_is_damage_and_the_segments_are_checked_all_the_same(store: Path) -> None:
    sound = flash_kv.verify(store)
    (store / "MANIFEST").unlink()
    report = flash_kv.verify(store)
    assert [damage.reason for damage in report.damages] == ["the manifest is missing"]
    assert (report.segments, report.records) == (sound.segments, sound.records)
    flip(segments(store)[0], 500)
    assert len(flash_kv.verify(store).damages) == 2


@pytest.mark.parametrize("content", [b"", b"nonsense", b"FLASHKV-MANIFEST 7\n", b"FLASHKV-MANIFEST 1\n{}\n"])
def test_a_manifest_that_says_nothing_is_damage(store: Path, content: bytes) -> None:
    (store / "MANIFEST").write_bytes(content)
    assert [damage.path.name for damage in flash_kv.verify(store).damages] == ["MANIFEST"]


def test_an_older_copy_of_the_manifest_is_told_by_segments_it_does_not_know(tmp_path: Path) -> None:
    with open_with(tmp_path / "db") as db:
        fill(db, 100)
    older = (tmp_path / "db" / "MANIFEST").read_bytes()
    with open_with(tmp_path / "db") as db:
        db["later"] = b"record"
    (tmp_path / "db" / "MANIFEST").write_bytes(older)
    (reason,) = reasons(tmp_path / "db")
    assert "missing from the manifest" in reason


def test_a_file_that_takes_the_place_of_the_next_segment_is_damage(store: Path) -> None:
    (store / "0000000099.seg").write_bytes(b"not a segment at all" * 10)
    (reason,) = reasons(store)
    assert "the manifest does not list this file" in reason


def test_an_impossible_size_in_the_manifest_is_damage(store: Path) -> None:
    manifest = manifest_of(store)
    entries = [
        {name: getattr(entry, name) for name in type(entry).__slots__} | {"sealed_bytes": 2**60}
        for entry in manifest.segments
    ]
    changed = Manifest(
        store_id=manifest.store_id,
        hash_key=manifest.hash_key,
        epoch=manifest.epoch,
        next_segment_id=manifest.next_segment_id,
        last_lsn=manifest.last_lsn,
        segments=tuple(type(manifest.segments[0])(**entry) for entry in entries),
    )
    write_manifest(UNSYNCED, store, changed)
    assert {path.name for path in segments(store)} <= {
        one.path.name for one in flash_kv.verify(store).damages
    }


# The end of the log


def test_a_record_that_was_durable_and_is_torn_is_damage(tmp_path: Path) -> None:
    with open_with(tmp_path / "first", durability="always") as db:
        for i in range(10):
            db[f"key {i}"] = b"value" * 10
        crash_image(db, tmp_path / "db")
    third = records(tmp_path / "db")[2]
    overwrite(third.path, third.record.value_offset, b"torn")
    (damage,) = flash_kv.verify(tmp_path / "db").damages
    assert (damage.offset, damage.size) == (third.record.offset, third.size)


def test_durable_records_that_are_gone_altogether_are_damage(tmp_path: Path) -> None:
    with open_with(tmp_path / "first", durability="always") as db:
        for i in range(10):
            db[f"key {i}"] = b"value" * 10
        crash_image(db, tmp_path / "db")
    first = records(tmp_path / "db")[0]
    overwrite(first.path, first.record.offset, bytes(first.size))
    (reason,) = reasons(tmp_path / "db")
    assert "were durable, but the log can be read up to 0 only" in reason


# Who may call


@pytest.mark.parametrize("kind", ["nothing", "file", "empty", "foreign"])
def test_a_path_without_a_store_is_said_to_have_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "here"
    if kind == "file":
        path.write_bytes(b"data")
    elif kind != "nothing":
        path.mkdir()
    if kind == "foreign":
        (path / "photo.jpg").write_bytes(b"data")
    with pytest.raises(StoreNotFoundError):
        flash_kv.verify(path)
    assert not (path / "LOCK").exists()


def test_segments_of_a_later_version_are_no_damage(store: Path) -> None:
    path = segments(store)[0]
    manifest = manifest_of(store)
    header = bytearray(
        make_segment_header(
            store_id=manifest.store_id, segment_id=int(path.stem), epoch=1, origin=0, created_ns=0
        )
    )
    header[8] = 9
    header[60:] = crc32c(bytes(header[:60])).to_bytes(4, "little")
    overwrite(path, 0, bytes(header))
    with pytest.raises(FormatVersionError):
        flash_kv.verify(store)

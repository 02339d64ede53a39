"""The names of codecs in a store: who gives them, who keeps them, who is refused."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flash_kv
from flash_kv import DB, CodecMismatchError, Options, StorageError
from flash_kv.io.faulty import Fault, FaultySystem
from flash_kv.io.system import REAL, System
from flash_kv.log.manifest import read_manifest
from flash_kv.log.names import MANIFEST
from support.stores import crash_image, fill

NAMES = ("json", "tuple")
RAW = ("raw", "raw")
SMALL: dict[str, Any] = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off"}

OpenDB = Callable[..., DB]


def named(path: Path, codecs: tuple[str, str] | None = None, system: System = REAL, **options: Any) -> DB:
    return DB(path, Options(**{**SMALL, **options}), system, codecs)


def stored(path: Path) -> tuple[str, str]:
    return read_manifest(REAL, path).codecs


def test_a_store_without_names_holds_plain_bytes_and_its_manifest_says_nothing(tmp_path: Path) -> None:
    with named(tmp_path / "db") as db:
        assert db.codecs == RAW
    with named(tmp_path / "db", RAW) as db:
        assert db.codecs == RAW
    assert b"codecs" not in (tmp_path / "db" / MANIFEST).read_bytes()


def test_a_new_store_has_its_names_before_anything_can_be_written_to_it(tmp_path: Path) -> None:
    system = FaultySystem(is_tracing=True)
    with named(tmp_path / "db", NAMES, system) as db:
        assert db.codecs == NAMES
        assert stored(tmp_path / "db") == NAMES
    # The very first manifest: whatever a crash leaves, it is never one without.
    first = system.trace.index(
        ("rename", f"{tmp_path / 'db' / 'tmp-MANIFEST'} -> {tmp_path / 'db' / MANIFEST}")
    )
    assert not any(call == "rename" for call, _ in system.trace[:first])


@pytest.mark.parametrize("operation", ["open", "write_at", "sync_file", "rename", "sync_directory"])
@pytest.mark.parametrize("nth", range(1, 9))
def test_a_creation_that_fails_anywhere_leaves_no_store_with_other_names(
    tmp_path: Path, operation: str, nth: int
) -> None:
    try:
        with named(tmp_path / "db", NAMES, FaultySystem(Fault(operation, nth=nth, errno=errno.EIO))) as db:
            db[b"key"] = b"value"
    except (StorageError, flash_kv.PoisonedError):
        pass
    if (tmp_path / "db" / MANIFEST).exists():
        assert stored(tmp_path / "db") == NAMES
    with named(tmp_path / "db", NAMES) as db:
        assert db.codecs == NAMES


def test_an_empty_store_takes_names(tmp_path: Path) -> None:
    with named(tmp_path / "db") as db:
        db[b"key"] = b"gone before"
        del db[b"key"]
    with named(tmp_path / "db", NAMES) as db:
        assert stored(tmp_path / "db") == NAMES
        db[b"key"] = b"value"
    assert stored(tmp_path / "db") == NAMES


def test_an_empty_store_read_only_is_read_and_not_named(tmp_path: Path) -> None:
    named(tmp_path / "db").close()
    with named(tmp_path / "db", NAMES, read_only=True) as db:
        assert dict(db) == {}
    assert stored(tmp_path / "db") == RAW


@pytest.mark.parametrize("wanted", [("str", "tuple"), ("json", "raw"), RAW])
@pytest.mark.parametrize("read_only", [False, True])
def test_other_names_are_refused_and_both_are_told(
    tmp_path: Path, wanted: tuple[str, str], read_only: bool
) -> None:
    with named(tmp_path / "db", NAMES) as db:
        db[b"key"] = b"value"
    content = (tmp_path / "db" / MANIFEST).read_bytes()
    with pytest.raises(CodecMismatchError, match="'json' values under 'tuple' keys") as caught:
        named(tmp_path / "db", wanted, read_only=read_only)
    assert (caught.value.stored, caught.value.wanted) == (NAMES, wanted)
    assert repr(wanted[0]) in str(caught.value)
    assert "without any" in str(caught.value)
    assert (tmp_path / "db" / MANIFEST).read_bytes() == content
    with named(tmp_path / "db", NAMES) as db:
        assert dict(db) == {b"key": b"value"}


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_bytes_is_not_taken_for_anything_else(tmp_path: Path, read_only: bool) -> None:
    with named(tmp_path / "db") as db:
        db[b"key"] = b"value"
    with pytest.raises(CodecMismatchError, match="put what they stand for into a new store"):
        named(tmp_path / "db", NAMES, read_only=read_only)
    with named(tmp_path / "db") as db:
        assert (db.codecs, dict(db)) == (RAW, {b"key": b"value"})


def test_a_refused_open_lets_the_next_one_in(tmp_path: Path) -> None:
    with named(tmp_path / "db") as db:
        db[b"key"] = b"value"
    for _ in range(3):
        with pytest.raises(CodecMismatchError):
            named(tmp_path / "db", NAMES)
    named(tmp_path / "db").close()


# Everything that writes a manifest


@pytest.fixture
def db(tmp_path: Path) -> Any:
    with named(tmp_path / "db", NAMES) as db:
        fill(db)
        yield db


def test_an_open_without_names_keeps_them(tmp_path: Path, db: DB) -> None:
    db.close()
    with flash_kv.open(tmp_path / "db") as again:
        assert again.codecs == NAMES
        again[b"another"] = b"value"
    assert stored(tmp_path / "db") == NAMES


def test_rotation_compaction_and_sealing_keep_them(tmp_path: Path, db: DB) -> None:
    before = read_manifest(REAL, tmp_path / "db")
    db.delete_range(prefix="key 1")
    assert db.compact().segments_compacted
    after = read_manifest(REAL, tmp_path / "db")
    assert after.segments != before.segments
    assert after.codecs == NAMES


def test_recovery_after_a_kill_keeps_them(tmp_path: Path, db: DB) -> None:
    image = crash_image(db, tmp_path / "killed")
    with named(image, NAMES) as killed:
        assert killed.codecs == NAMES
        assert dict(killed) == dict(db)


def test_a_backup_has_them(tmp_path: Path, db: DB) -> None:
    db.backup(tmp_path / "copy")
    assert stored(tmp_path / "copy") == NAMES
    with named(tmp_path / "copy", NAMES) as copy:
        assert dict(copy) == dict(db)


def test_verify_finds_nothing_wrong_with_them(tmp_path: Path, db: DB) -> None:
    assert db.verify().is_ok
    db.close()
    assert flash_kv.verify(tmp_path / "db").is_ok


def test_a_repaired_store_has_them(tmp_path: Path, db: DB) -> None:
    content = dict(db)
    db.close()
    flash_kv.repair(tmp_path / "db", tmp_path / "new", codecs=("other", "names"))
    with named(tmp_path / "new", NAMES) as new:
        assert dict(new) == content


def test_a_repair_without_a_manifest_is_told_them(tmp_path: Path, db: DB) -> None:
    content = dict(db)
    db.close()
    (tmp_path / "db" / MANIFEST).unlink()
    flash_kv.repair(tmp_path / "db", tmp_path / "untold")
    assert stored(tmp_path / "untold") == RAW
    flash_kv.repair(tmp_path / "db", tmp_path / "told", codecs=NAMES)
    with named(tmp_path / "told", NAMES) as new:
        assert dict(new) == content

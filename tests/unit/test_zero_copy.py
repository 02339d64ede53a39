"""`view`: values read where they lie in the log, valid and unchanged as long as they are looked at."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from flash_kv import DB, ClosedError, CorruptionError, KeySizeError, KeyTypeError, PoisonedError
from flash_kv.io.faulty import Call, Fault, FaultySystem
from flash_kv.io.memory_cy import allow_allocations, refuse_allocation
from flash_kv.options import Options
from flash_kv.torture.apart import each_apart
from support.damage import flip

OpenDB = Callable[..., DB]
SMALL = {"segment_bytes_max": 65536, "compaction": "off"}
# Below and above where a check is remembered, and above where it runs without the GIL.
SIZES = (0, 1, 7, 8, 100, 400, 470, 480, 490, 511, 512, 513, 4096, 70_000, 1_000_000)
mapped = pytest.mark.parametrize("io", ["mmap"])


@pytest.mark.parametrize("size", SIZES)
def test_a_view_is_the_value(open_db: OpenDB, size: int) -> None:
    value = os.urandom(size)
    db = open_db()
    db[b"key"] = value
    for _ in range(2):
        view = db.view(b"key")
        assert view is not None
        assert (view.readonly, view.format, view.itemsize, view.ndim, view.nbytes) == (True, "B", 1, 1, size)
        assert view.c_contiguous
        assert view == value == bytes(view)
        assert view[1:3] == value[1:3]
    assert db.view("key", recheck=True) == value


def test_an_absent_key_is_the_default(open_db: OpenDB) -> None:
    db = open_db()
    db[b"deleted"] = b"1"
    with db.snapshot() as snapshot:
        del db[b"deleted"]
        for key in (b"absent", b"deleted"):
            assert db.view(key) is None
            assert db.view(key, 7) == 7
        assert snapshot.view(b"absent", b"x") == b"x"
        assert snapshot.view(b"deleted") == b"1"


def test_a_view_refuses_what_get_refuses(open_db: OpenDB) -> None:
    db = open_db()
    with pytest.raises(KeyTypeError):
        db.view(1)  # type: ignore[call-overload]
    with pytest.raises(KeySizeError):
        db.view(b"")
    snapshot = db.snapshot()
    snapshot.close()
    with pytest.raises(ClosedError):
        snapshot.view(b"key")
    db.close()
    with pytest.raises(ClosedError):
        db.view(b"key")


@mapped
def test_nobody_gets_a_writable_view_or_what_lies_beside_it(open_db: OpenDB) -> None:
    db = open_db()
    db[b"key"] = b"value"
    view = db.view(b"key")
    assert view is not None
    with pytest.raises(TypeError):
        view[0] = 0
    with pytest.raises(BufferError):
        memoryview(view.obj)


def _change(db: DB, how: str) -> None:
    if how == "overwrite":
        db[b"key"] = b"other" * 100
    elif how == "delete":
        del db[b"key"]
    elif how == "clear":
        db.clear()
    elif how == "compact":
        for number in range(200):
            db[b"%d" % number] = os.urandom(1000)
        db.clear()
        db[b"key"] = b"other"
        db.compact()
        db[b"key"] = b"and another"
        db.compact()
    else:
        db.close()


@pytest.mark.parametrize("size", [0, 100, 5000, 200_000])
@pytest.mark.parametrize("how", ["overwrite", "delete", "clear", "compact", "close"])
def test_a_view_stays_as_it_was(open_db: OpenDB, how: str, size: int) -> None:
    value = os.urandom(size)
    db = open_db(**SMALL)
    db[b"key"] = value
    view = db.view(b"key")
    assert view is not None
    part = view[size // 2 :]
    _change(db, how)
    assert view == value
    del view
    assert part == value[size // 2 :]
    if how != "close":
        assert db.view(b"key") == db.get(b"key")
        db.close()
    assert part == value[size // 2 :]


@mapped
def test_the_mapping_of_a_compacted_segment_goes_with_its_last_view(open_db: OpenDB, tmp_path: Path) -> None:
    db = open_db(**SMALL)
    db[b"key"] = bytes(50_000)
    view = db.view(b"key")
    first = segment_files(db.path)[0]
    _change(db, "compact")
    db.close()
    assert not first.exists()
    assert str(first) in _maps()
    assert view == bytes(50_000)
    del view
    assert str(tmp_path) not in _maps()


def test_who_keeps_the_owner_of_a_view_and_not_its_buffer_keeps_the_bytes(open_db: OpenDB, io: str) -> None:
    with open_db() as db:
        db["key"] = bytes(range(256)) * 4096
        view = db.view("key")
        assert view is not None
        owner = view.obj
        # As numpy does it, which reads on by the address.
        array = numpy.ndarray(view.nbytes, numpy.uint8, view)
        view.release()
        del view, db["key"]
        db.compact()
    assert array.tobytes() == bytes(range(256)) * 4096
    del array
    segments = [line for line in _maps().splitlines() if str(db.path) in line and ".seg" in line]
    assert bool(segments) == (io == "mmap")
    del owner
    assert str(db.path) not in _maps()


def segment_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def _maps() -> str:
    return Path("/proc/self/maps").read_text("utf-8", "surrogateescape")


def test_a_view_outlives_store_snapshot_and_a_new_open(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db[b"key"] = b"old" * 1000
    with db.snapshot() as snapshot:
        db[b"key"] = b"new" * 1000
        old, new = snapshot.view(b"key"), db.view(b"key")
        assert (old, new) == (b"old" * 1000, b"new" * 1000)
    db.close()
    again = open_db(**SMALL)
    _change(again, "compact")
    again.close()
    assert (old, new) == (b"old" * 1000, b"new" * 1000)


@mapped
def test_a_forked_child_reads_the_views_of_its_parent(open_db: OpenDB) -> None:
    value = os.urandom(5000)
    db = open_db()
    db[b"key"] = value
    view = db.view(b"key")
    ((_, is_equal, end),) = each_apart(lambda _: view == value, [0])
    assert (is_equal, end) == (True, "")
    assert view == value


def test_scans_give_views(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    content = {b"%04d" % number: os.urandom(SIZES[number % len(SIZES)] % 100_000) for number in range(300)}
    db.update(content)
    for number in range(0, 300, 3):
        del db[b"%04d" % number]
        del content[b"%04d" % number]
    views = dict(db.items(view=True))
    assert all(type(view) is memoryview for view in views.values())
    assert views == content
    with db.snapshot() as snapshot:
        db.clear()
        assert dict(snapshot.items(view=True)) == content
        assert sorted(map(bytes, snapshot.values(view=True))) == sorted(content.values())
        assert b"nowhere" not in snapshot.values(view=True)
        assert next(iter(content.values())) in snapshot.values(view=True)
        assert next(iter(content.items())) in snapshot.items(view=True)
    db.close()
    assert views == content


@pytest.mark.parametrize("index", ["btree", "skiplist"])
def test_a_range_of_views_goes_either_way(open_db: OpenDB) -> None:
    db = open_db()
    db.update({b"%d" % number: b"%d" % number for number in range(10)})
    found = list(db.items(start="2", stop="6", reverse=True, view=True))
    assert found == [(b"5", b"5"), (b"4", b"4"), (b"3", b"3"), (b"2", b"2")]
    assert list(reversed(db.values(prefix="7", view=True))) == [b"7"]


def open_sealed(open_db: OpenDB, content: dict[bytes, bytes]) -> DB:
    """A store of which nothing is read or written before it is looked at."""
    with open_db(compaction="off") as db:
        db.update(content)
    return open_db(compaction="off")


def _value_place(db: DB) -> tuple[Path, int]:
    """The file and offset of the middle of the only value."""
    path = segment_files(db.path)[0]
    return path, path.read_bytes().index(b"needle")


@pytest.mark.parametrize("size", [100, 5000, 200_000])
def test_damage_is_found_by_the_first_view(open_db: OpenDB, size: int) -> None:
    db = open_sealed(open_db, {b"key": b"needle".center(size), b"other": b"x"})
    flip(*_value_place(db))
    with pytest.raises(CorruptionError):
        db.view(b"key")
    with pytest.raises(CorruptionError):
        dict(db.items(view=True))
    assert db.view(b"other") == b"x"


@mapped
@pytest.mark.parametrize("size", [5000, 200_000])
def test_damage_after_the_first_view_is_found_when_asked_for(open_db: OpenDB, size: int) -> None:
    db = open_sealed(open_db, {b"key": b"needle".center(size)})
    assert db.view(b"key") == b"needle".center(size)
    flip(*_value_place(db))
    assert db.view(b"key") != b"needle".center(size)
    with pytest.raises(CorruptionError):
        db.view(b"key", recheck=True)
    with pytest.raises(CorruptionError):
        db.get(b"key")
    db.close()
    with pytest.raises(CorruptionError):
        open_db().view(b"key")


@mapped
def test_a_short_record_is_checked_by_every_view(open_db: OpenDB) -> None:
    db = open_sealed(open_db, {b"key": b"needle".center(400)})
    assert db.view(b"key") == b"needle".center(400)
    flip(*_value_place(db))
    with pytest.raises(CorruptionError):
        db.view(b"key")


@mapped
def test_a_check_is_remembered_for_its_record_alone(open_db: OpenDB) -> None:
    """Records that lie back to back, each of one window and a little."""
    values = {
        b"%04d" % number: b"needle%04d" % number + os.urandom(480 + number % 40) for number in range(500)
    }
    db = open_sealed(open_db, values)
    for key in list(values)[::2]:
        assert db.view(key) == values[key]
    path = segment_files(db.path)[0]
    content = path.read_bytes()
    for key in list(values)[1::2]:
        flip(path, content.index(b"needle" + key))
    for key in list(values)[1::2]:
        with pytest.raises(CorruptionError):
            db.view(key)


@mapped
@pytest.mark.parametrize("index", ["hash"])
def test_without_memory_to_remember_a_view_is_checked_again(open_db: OpenDB) -> None:
    db = open_sealed(open_db, {b"key": b"needle".center(5000)})
    refuse_allocation(1, is_for_good=True)
    try:
        assert db.view(b"key") == b"needle".center(5000)
    finally:
        assert allow_allocations() == 1
    flip(*_value_place(db))
    with pytest.raises(CorruptionError):
        db.view(b"key")


@pytest.mark.parametrize("size", [20, 70_000])
def test_a_view_of_what_is_withdrawn_keeps_its_bytes(tmp_path: Path, index: Any, io: Any, size: int) -> None:
    """A commit whose sync fails is taken back; who looked at it meanwhile sees what it was."""
    seen: list[memoryview | None] = []

    def fail_under_a_view(call: Call) -> None:
        seen.append(db.view(b"key"))
        raise OSError(errno.EIO, "no")

    system = FaultySystem()
    db = DB(tmp_path / "db", Options(index=index, io=io, compaction="off"), system)
    db[b"key"] = b"kept"
    batch = db.batch(durability="always")
    batch[b"key"] = b"withdrawn".center(size)
    system.add(Fault("sync_data", action=fail_under_a_view))
    with pytest.raises(PoisonedError):
        batch.commit()
    assert seen == [b"withdrawn".center(size)]
    assert db.view(b"key") == b"kept"
    db.close()
    assert seen == [b"withdrawn".center(size)]

"""What a store refuses: a second writer, use after closing, another directory, wrong arguments, a broken callback.

A clear error each time, and the store is as it was.
"""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flash_kv
from flash_kv import (
    DB,
    BatchStateError,
    ClosedError,
    CorruptionError,
    FlashKVError,
    FormatVersionError,
    KeySizeError,
    KeyTypeError,
    LockedError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
    StoreNotFoundError,
    UnorderedIndexError,
    ValueSizeError,
    ValueTypeError,
)
from flash_kv.io.faulty import Fault, FaultySystem
from support.processes import Report, forked, run_forked
from support.workload import content, open_with

OpenDB = Callable[..., DB]

READS: dict[str, Callable[[DB], object]] = {
    "get": lambda db: db.get("a"),
    "item": lambda db: db["a"],
    "contains": lambda db: "a" in db,
    "len": len,
    "get_many": lambda db: db.get_many(["a"]),
    "keys": lambda db: list(db.keys()),
    "values": lambda db: list(db.values()),
    "items": lambda db: list(db.items()),
    "iteration": list,
    "snapshot": lambda db: db.snapshot(),
    "verify": lambda db: db.verify(),
    "stats": lambda db: db.stats(),
    "dry run": lambda db: db.compact(dry_run=True),
}
WRITES: dict[str, Callable[[DB], object]] = {
    "put": lambda db: db.put("a", "x"),
    "item": lambda db: db.__setitem__("a", "x"),
    "delete": lambda db: db.delete("a"),
    "del": lambda db: db.__delitem__("a"),
    "pop": lambda db: db.pop("a"),
    "popitem": lambda db: db.popitem(),
    "setdefault": lambda db: db.setdefault("b", "x"),
    "update": lambda db: db.update(a="x"),
    "clear": lambda db: db.clear(),
    "put_many": lambda db: db.put_many([("a", "x")]),
    "delete_many": lambda db: db.delete_many(["a"]),
    "delete_range": lambda db: db.delete_range(),
    "batch": lambda db: db.batch(),
    "sync": lambda db: db.sync(),
    "compact": lambda db: db.compact(),
}

# A second writer


def test_a_second_writer_in_this_process_is_told_who_holds_the_store(open_db: OpenDB, tmp_path: Path) -> None:
    db = open_db()
    db["a"] = "1"
    with pytest.raises(LockedError) as caught:
        flash_kv.open(tmp_path / "db")
    assert caught.value.holder_pid == os.getpid()
    assert caught.value.holder_host == os.uname().nodename
    assert str(os.getpid()) in str(caught.value)
    assert caught.value.path == str(tmp_path / "db" / "LOCK")
    db["a"] = "2"
    assert db["a"] == b"2"


def test_a_second_writer_in_another_process_is_told_who_holds_the_store(
    tmp_path: Path, index: str, io: str
) -> None:
    def body(report: Report) -> None:
        with open_with(tmp_path / "db") as db:
            db["a"] = "1"
            report(b"open")
            threading.Event().wait()

    with forked(body) as child:
        assert next(child.messages()) == b"open"
        for read_only in (False, True):
            with pytest.raises(LockedError) as caught:
                open_with(tmp_path / "db", index=index, io=io, read_only=read_only)
            assert caught.value.holder_pid == child.pid
        child.kill()
        assert child.was_killed
    with open_with(tmp_path / "db", index=index, io=io) as db:
        assert dict(db) == {b"a": b"1"}


def test_a_lock_is_gone_after_a_failed_open(tmp_path: Path) -> None:
    with open_with(tmp_path / "db") as db:
        db["a"] = "1"
    manifest = tmp_path / "db" / "MANIFEST"
    good = manifest.read_bytes()
    manifest.write_bytes(good[:-2])
    with pytest.raises(CorruptionError):
        open_with(tmp_path / "db")
    manifest.write_bytes(good)
    with open_with(tmp_path / "db") as db:
        assert db["a"] == b"1"


# A closed store


def test_a_closed_store_refuses_every_use(open_db: OpenDB) -> None:
    db = open_db()
    db["a"] = "1"
    snapshot, scan, batch, view = db.snapshot(), iter(db.items()), db.batch(), db.items()
    batch.put("b", "2")
    db.close()
    assert db.closed
    others: dict[str, Callable[[DB], object]] = {
        "get of a snapshot": lambda _: snapshot.get("a"),
        "next of a scan": lambda _: next(scan),
        "a view": lambda _: list(view),
        "commit of a batch": lambda _: batch.commit(),
    }
    for name, use in [*READS.items(), *WRITES.items(), *others.items()]:
        with pytest.raises(ClosedError) as caught:
            use(db)
        assert caught.value.path == str(db.path), name
    snapshot.close()
    db.close()
    assert dict(open_db()) == {b"a": b"1"}


def test_a_write_that_needs_room_when_the_store_has_just_been_closed_is_refused(
    open_db: OpenDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It must not begin a new segment in a directory that may be another process's by now.
    db = open_db(segment_bytes_max=64 * 1024, compaction="off")
    db["a"] = "1"
    is_waiting, is_closed = threading.Event(), threading.Event()
    make_room = db._segments.make_room
    outcomes: list[BaseException] = []

    def late(size: int, is_delete: bool) -> None:
        is_waiting.set()
        assert is_closed.wait(10)
        make_room(size, is_delete)

    def write() -> None:
        try:
            db["b"] = bytes(70_000)
        except BaseException as error:
            outcomes.append(error)

    monkeypatch.setattr(db._segments, "make_room", late)
    writer = threading.Thread(target=write)
    writer.start()
    assert is_waiting.wait(10)
    db.close()
    before = {file.name: file.read_bytes() for file in (tmp_path / "db").iterdir()}
    is_closed.set()
    writer.join()
    assert [type(error) for error in outcomes] == [ClosedError]
    assert {file.name: file.read_bytes() for file in (tmp_path / "db").iterdir()} == before
    assert dict(open_db()) == {b"a": b"1"}


# A directory that cannot be written


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Makes a directory unwritable: by its mode, or, for root, by a read-only mount over itself."""
    changed: list[Path] = []

    def change(path: Path) -> Path:
        if os.geteuid() == 0:
            for options in (["--bind", str(path), str(path)], ["-o", "remount,ro,bind", str(path)]):
                try:
                    done = subprocess.run(["mount", *options], capture_output=True, text=True)
                except FileNotFoundError:
                    pytest.skip("root writes everywhere, and there is no mount command")
                if done.returncode:
                    pytest.skip(f"root writes everywhere, and nothing can be mounted: {done.stderr.strip()}")
                if options[0] == "--bind":
                    changed.append(path)
        else:
            path.chmod(0o500)
            changed.append(path)
        return path

    yield change
    for path in changed:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(path)], check=True)
        else:
            path.chmod(0o700)


def test_a_read_only_directory_is_refused_for_writing_and_can_be_read(
    tmp_path: Path, unwritable: Callable[[Path], Path], index: str, io: str
) -> None:
    with open_with(tmp_path / "db") as db:
        db["a"] = "1"
    path = unwritable(tmp_path / "db")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    if os.geteuid() == 0:
        with pytest.raises(StorageError) as caught:
            open_with(path, index=index, io=io)
        assert caught.value.errno == errno.EROFS
        assert caught.value.path == str(path)
    with open_with(path, index=index, io=io, read_only=True) as db:
        assert dict(db) == {b"a": b"1"}
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_store_cannot_be_made_in_a_read_only_directory(
    tmp_path: Path, unwritable: Callable[[Path], Path]
) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    unwritable(parent)
    with pytest.raises(StorageError) as caught:
        open_with(parent / "db")
    assert caught.value.errno in (errno.EROFS, errno.EACCES)
    with pytest.raises(StoreNotFoundError):
        open_with(parent / "db", read_only=True)


def test_a_read_only_handle_refuses_to_write(open_db: OpenDB, tmp_path: Path) -> None:
    with open_db() as db:
        db["a"] = "1"
    before = {file.name: file.read_bytes() for file in (tmp_path / "db").iterdir()}
    db = open_db(read_only=True)
    for name, use in WRITES.items():
        with pytest.raises(ReadOnlyError) as caught:
            use(db)
        assert caught.value.path == str(db.path), name
    assert dict(db) == {b"a": b"1"}
    with open_db(read_only=True) as other:
        assert other["a"] == b"1"
    db.close()
    assert {file.name: file.read_bytes() for file in (tmp_path / "db").iterdir()} == before


# A directory of something else, or a damaged one


def test_a_directory_of_something_else_is_refused_and_left_as_it_is(
    tmp_path: Path, index: str, io: str
) -> None:
    directory = tmp_path / "other"
    directory.mkdir()
    (directory / "letter.txt").write_text("dear reader")
    for read_only in (False, True):
        with pytest.raises(NotAStoreError) as caught:
            open_with(directory, index=index, io=io, read_only=read_only)
        assert caught.value.path == str(directory)
        assert "letter.txt" in str(caught.value)
        assert [file.name for file in directory.iterdir()] == ["letter.txt"]


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("dear reader")
    with pytest.raises(StorageError) as caught:
        open_with(path)
    assert caught.value.errno == errno.ENOTDIR
    assert path.read_text() == "dear reader"


def test_no_directory_is_made_for_reading(tmp_path: Path) -> None:
    for options in ({"read_only": True}, {"create": False}):
        with pytest.raises(StoreNotFoundError) as caught:
            open_with(tmp_path / "db", **options)
        assert caught.value.path == str(tmp_path / "db")
    assert not (tmp_path / "db").exists()


def test_other_files_beside_a_store_are_left_alone(open_db: OpenDB, tmp_path: Path) -> None:
    with open_db() as db:
        db["a"] = "1"
    names = ["letter.txt", "0000000001.seg.bak", "1.seg", "tmp-letter", "0000000000.seg", "manifest"]
    for name in names:
        (tmp_path / "db" / name).write_text("dear reader")
    (tmp_path / "db" / "folder").mkdir()
    with open_db() as db:
        assert dict(db) == {b"a": b"1"}
        db.compact()
    for name in names:
        assert (tmp_path / "db" / name).read_text() == "dear reader"


def sample(path: Path) -> None:
    with open_with(path) as db:
        for number in range(60):
            db.put(f"k{number}", b"%d" % number * 1500)
    with open_with(path) as db:
        db.put("last", "1")
        assert db.stats().segments >= 2


def test_any_damage_of_the_manifest_is_an_error_and_changes_nothing(tmp_path: Path, rng: Any) -> None:
    path = tmp_path / "db"
    sample(path)
    manifest = path / "MANIFEST"
    good = manifest.read_bytes()
    cases = [good[:size] for size in rng.sample(range(len(good)), 30)]
    for offset in rng.sample(range(len(good)), 60):
        flipped = bytearray(good)
        flipped[offset] ^= 1 << rng.randrange(8)
        cases.append(bytes(flipped))
    cases += [b"", b"\0" * len(good), good + b"\n", good * 2, b"x" * 100_000]
    files = sorted(os.listdir(path))
    for bad in cases:
        manifest.write_bytes(bad)
        with pytest.raises((CorruptionError, FormatVersionError)) as caught:
            open_with(path)
        assert caught.value.path == str(manifest)
        assert sorted(os.listdir(path)) == files
    manifest.write_bytes(good)
    with open_with(path) as db:
        assert len(db) == 61


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "db"
    sample(path)
    manifest = path / "MANIFEST"
    manifest.write_bytes(manifest.read_bytes().replace(b"FLASHKV-MANIFEST 1", b"FLASHKV-MANIFEST 7", 1))
    with pytest.raises(FormatVersionError) as caught:
        open_with(path)
    assert (caught.value.found, caught.value.supported) == (7, 1)


@pytest.mark.parametrize("what", ["missing", "empty", "cut", "another's", "a directory", "a link", "a pipe"])
def test_a_segment_that_is_not_what_it_should_be_is_an_error(
    tmp_path: Path, what: str, index: str, io: str
) -> None:
    path = tmp_path / "db"
    sample(path)
    sample(tmp_path / "another")
    first = sorted(path.glob("*.seg"))[0]
    good = first.read_bytes()
    first.unlink()
    match what:
        case "empty":
            first.touch()
        case "cut":
            first.write_bytes(good[:-8])
        case "another's":
            first.write_bytes(sorted((tmp_path / "another").glob("*.seg"))[0].read_bytes())
        case "a directory":
            first.mkdir()
        case "a link":
            (tmp_path / "target").write_bytes(good)
            first.symlink_to(tmp_path / "target")
        case "a pipe":
            os.mkfifo(first)
    for _ in range(2):
        with pytest.raises((CorruptionError, StorageError)) as caught:
            open_with(path, index=index, io=io)
        assert caught.value.path == str(first)
    assert first.exists() or what == "missing"


@pytest.mark.parametrize("name", ["MANIFEST", "LOCK"])
@pytest.mark.parametrize("what", ["a directory", "a link", "a pipe"])
def test_a_planted_file_is_an_error_and_not_followed(tmp_path: Path, name: str, what: str) -> None:
    path = tmp_path / "db"
    sample(path)
    (path / name).rename(tmp_path / "target")
    before = (tmp_path / "target").read_bytes()
    match what:
        case "a directory":
            (path / name).mkdir()
        case "a link":
            (path / name).symlink_to(tmp_path / "target")
        case "a pipe":
            os.mkfifo(path / name)

    def body(report: Report) -> None:
        try:
            open_with(path)
        except FlashKVError as error:
            report(type(error).__name__.encode())
        else:
            report(b"opened")

    messages, _ = run_forked(body)
    assert messages[0] in (b"StorageError", b"CorruptionError", b"LockedError") or (name, what) == (
        "LOCK",
        "a pipe",
    )
    assert (tmp_path / "target").read_bytes() == before


# Arguments


@pytest.mark.parametrize("keys", [(None, 7, 1.5, ["a"], ("a",), object())])
def test_a_key_of_the_wrong_type_is_refused_everywhere(open_db: OpenDB, keys: tuple[Any, ...]) -> None:
    db = open_db()
    db["a"] = "1"
    batch = db.batch()
    calls: list[Callable[[Any], object]] = [
        lambda key: db.put(key, "x"),
        lambda key: db.get(key),
        lambda key: db[key],
        lambda key: key in db,
        lambda key: db.delete(key),
        lambda key: db.pop(key, None),
        lambda key: db.setdefault(key, "x"),
        lambda key: db.put_many([("b", "x"), (key, "x")]),
        lambda key: db.delete_many(["a", key]),
        lambda key: db.get_many(["a", key]),
        lambda key: batch.put(key, "x"),
        lambda key: batch.delete(key),
        lambda key: db.snapshot().get(key),
    ]
    for key in keys:
        for call in calls:
            with pytest.raises(KeyTypeError) as caught:
                call(key)
            assert type(key).__name__ in str(caught.value)
    assert dict(db) == {b"a": b"1"}


@pytest.mark.parametrize("values", [(None, 7, 1.5, ["a"], {"a": 1}, object())])
def test_a_value_of_the_wrong_type_is_refused_everywhere(open_db: OpenDB, values: tuple[Any, ...]) -> None:
    db = open_db()
    db["a"] = "1"
    batch = db.batch()
    calls: list[Callable[[Any], object]] = [
        lambda value: db.put("a", value),
        lambda value: db.setdefault("b", value),
        lambda value: db.put_many([("b", "x"), ("c", value)]),
        lambda value: db.update(b="x", c=value),
        lambda value: batch.put("b", value),
    ]
    for value in values:
        for call in calls:
            with pytest.raises(ValueTypeError) as caught:
                call(value)
            assert type(value).__name__ in str(caught.value)
    assert dict(db) == {b"a": b"1"}


@pytest.mark.parametrize("keys", [(b"", "", bytearray(), b"x" * 65_537, "ü" * 32_769)])
def test_a_key_of_the_wrong_size_is_refused_everywhere(open_db: OpenDB, keys: tuple[Any, ...]) -> None:
    db = open_db()
    db["a"] = "1"
    batch = db.batch()
    calls: list[Callable[[Any], object]] = [
        lambda key: db.put(key, "x"),
        lambda key: db.get(key),
        lambda key: db.delete(key),
        lambda key: db.put_many([("b", "x"), (key, "x")]),
        lambda key: db.get_many(["a", key]),
        lambda key: batch.put(key, "x"),
    ]
    for key in keys:
        for call in calls:
            with pytest.raises(KeySizeError):
                call(key)
    assert dict(db) == {b"a": b"1"}


def test_keys_and_values_of_the_greatest_size_are_taken(open_db: OpenDB) -> None:
    key, value = b"k" * 65_536, bytes(range(256)) * 4096
    with open_db(segment_bytes_max=65_536) as db:
        db[key] = value
        db["empty"] = b""
    assert dict(open_db()) == {key: value, b"empty": b""}


def test_a_value_too_long_for_any_record_is_refused_without_a_copy(open_db: OpenDB) -> None:
    db = open_db()
    # Pages that are never touched: of 4 GiB nothing is in memory.
    import mmap

    with mmap.mmap(-1, 2**32) as long:
        with pytest.raises(ValueSizeError) as caught:
            db["a"] = memoryview(long)
        assert caught.value.size == 2**32
        with pytest.raises(ValueSizeError):
            db.put_many([("b", "x"), ("a", memoryview(long))])
    assert len(db) == 0


@pytest.mark.parametrize("index", ["hash"])
def test_ordered_scans_without_order_are_refused_by_name(open_db: OpenDB) -> None:
    db = open_db()
    db["a"] = "1"
    calls: list[Callable[[], object]] = [
        lambda: db.keys(prefix="a"),
        lambda: db.items(start="a"),
        lambda: db.values(stop="a"),
        lambda: db.keys(reverse=True),
        lambda: reversed(db),
        lambda: db.delete_range(prefix="a"),
    ]
    for call in calls:
        with pytest.raises(UnorderedIndexError) as caught:
            call()
        assert "btree" in str(caught.value)


# Callbacks and iterables that raise


class Broken(Exception):
    """Raised by the test's own callbacks."""


def raising(items: Iterable[Any]) -> Iterator[Any]:
    yield from items
    raise Broken


def test_an_iterable_that_raises_leaves_the_store_as_it_was(open_db: OpenDB) -> None:
    db = open_db()
    db["a"] = "1"
    calls: list[Callable[[], object]] = [
        lambda: db.put_many(raising([("b", "2"), ("a", "x")])),
        lambda: db.update(raising([("b", "2")])),
        lambda: db.delete_many(raising(["a"])),
        lambda: db.get_many(raising(["a"])),
    ]
    for call in calls:
        with pytest.raises(Broken):
            call()
    assert dict(db) == {b"a": b"1"}


def test_a_batch_that_is_left_by_an_exception_is_discarded(open_db: OpenDB) -> None:
    db = open_db()
    db["a"] = "1"
    with pytest.raises(Broken), db.batch() as batch:
        batch.put("b", "2")
        batch.delete("a")
        raise Broken
    assert dict(db) == {b"a": b"1"}
    with pytest.raises(BatchStateError):
        batch.put("c", "3")


def dead_weight(db: DB) -> dict[bytes, bytes]:
    """Segments worth compacting; what is in the store then."""
    for number in range(300):
        db.put(f"k{number}", b"%d" % number * 800)
    for number in range(0, 300, 2):
        db.delete(f"k{number}")
    return dict(db)


@pytest.mark.parametrize(
    "error", [Broken, OSError, KeyboardInterrupt, SystemExit, StopIteration, MemoryError]
)
def test_a_progress_callback_that_raises_ends_the_compaction_and_loses_nothing(
    open_db: OpenDB, error: type[BaseException]
) -> None:
    db = open_db(segment_bytes_max=64 * 1024, compaction="off")
    before = dead_weight(db)
    raised = error("of the test")

    def progress(_: object) -> None:
        raise raised

    with pytest.raises(error) as caught:
        db.compact(progress=progress)
    assert caught.value is raised
    assert content(db) == before
    assert db.compact().bytes_reclaimed > 0
    assert content(db) == before
    db.close()
    assert content(open_db()) == before


@pytest.mark.parametrize(
    "call", ["close", "compact", "put", "delete", "items", "snapshot", "sync", "stats", "clear"]
)
def test_a_progress_callback_may_call_the_store_and_never_hangs(
    tmp_path: Path, index: str, io: str, call: str
) -> None:
    def body(report: Report) -> None:
        db = open_with(tmp_path / "db", index=index, io=io)
        before = dead_weight(db)
        errors: list[BaseException] = []

        def progress(_: object) -> None:
            if errors:
                return
            try:
                (READS.get(call) or WRITES.get(call) or DB.close)(db)
                errors.append(Broken("fine"))
            except (FlashKVError, RuntimeError) as error:
                errors.append(error)

        try:
            db.compact(progress=progress)
        except (FlashKVError, RuntimeError) as error:
            errors.append(error)
        db.close()
        with open_with(tmp_path / "db", index=index, io=io) as again:
            found = content(again)
        expected = {"put": before | {b"a": b"x"}, "clear": {}}.get(call, before)
        report(b"kept" if found == expected else b"lost")
        report(b"called" if errors else b"not called")

    assert run_forked(body) == ([b"kept", b"called"], 0)


def test_errors_of_the_background_reach_the_next_write_once(tmp_path: Path, index: str, io: str) -> None:
    system = FaultySystem()
    with open_with(tmp_path / "db", system, index=index, io=io) as db:
        db.put("a", b"x" * 40_000)
        # The background makes the spare segment ahead; its manifest cannot be renamed.
        system.add(Fault("rename", path_contains="MANIFEST", errno=errno.EIO))
        heard = 0
        for number in range(12):
            try:
                db.put(f"k{number}", b"x" * 30_000)
            except StorageError as error:
                assert error.errno == errno.EIO
                assert db.get(f"k{number}") is None
                db.put(f"k{number}", b"x" * 30_000)
                heard += 1
        assert heard <= 2
        assert len(db) == 13
    with open_with(tmp_path / "db", index=index, io=io) as db:
        assert len(db) == 13

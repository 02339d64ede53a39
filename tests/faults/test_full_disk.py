"""No space, too long a file, too many open files: a clear error, nothing acknowledged lost, and a way out.

The full disk is a real one, a small file system in memory, where the tests may mount one.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import flash_kv
from flash_kv import StorageError, StoreFullError
from flash_kv.io.faulty import Fault, FaultySystem
from support.processes import run_forked
from support.small_disks import fill, thin_out, tmpfs
from support.workload import Model, content, difference, open_with

DISK_BYTES = 4 * 1024**2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with tmpfs(tmp_path / "disk", DISK_BYTES) as directory:
        yield directory


# Everything below that touches the disk runs in a child: a SIGBUS must fail the test and not the run.


def in_child(body: Callable[[], None]) -> None:
    assert run_forked(lambda report: body()) == ([], 0)


@pytest.mark.parametrize("value_bytes", [100, 3000, 200_000])
def test_a_full_disk_is_filled_emptied_compacted_and_filled_again(
    small_disk: Path, index: str, io: str, value_bytes: int
) -> None:
    def body() -> None:
        model: Model = {}
        number = 0
        options = {"index": index, "io": io, "segment_bytes_max": 256 * 1024, "reserve_bytes": 512 * 1024}
        db = open_with(small_disk / "db", **options)
        for _ in range(3):
            before = number
            number = fill(db, model, number, value_bytes)
            assert (number - before) * value_bytes > DISK_BYTES // 8
            assert difference(content(db), model) == ""
            thin_out(db, model)
            db.compact()
            disk = os.statvfs(small_disk)
            assert disk.f_bavail * disk.f_frsize > DISK_BYTES // 4
            assert difference(content(db), model) == ""
            db.close()
            db = open_with(small_disk / "db", **options)
            assert difference(content(db), model) == ""
        db.close()

    in_child(body)


def test_deletes_have_their_half_of_the_reserve_when_not_a_block_is_free(
    small_disk: Path, index: str, io: str
) -> None:
    """Also for the manifest that lists the segment they begin."""

    def body() -> None:
        model: Model = {}
        size = 256 * 1024
        options = {"index": index, "io": io, "segment_bytes_max": size, "reserve_bytes": 2 * size}
        other = small_disk / "other"
        other.write_bytes(bytes(size))
        with open_with(small_disk / "db", **options) as db:
            db._maintenance._is_stopping = True  # nobody makes the next segment ahead
            number = fill(db, model, 0, 100)
            # So much more that the active segment has all its blocks, and no other can be begun.
            active = db._segments.open[max(db._segments.open)]
            os.truncate(other, size - (active.capacity - active.allocated))
            fill(db, model, number, 100)
            with other.open("ab", buffering=0) as appending, suppress(OSError):
                while True:
                    appending.write(bytes(4096))
            assert active.allocated == active.capacity
            deleted = 0
            with suppress(StoreFullError):
                for key in list(model):
                    assert db.delete(key)
                    del model[key]
                    deleted += 1
            # A tombstone of such a key takes 40 bytes; the manifest takes some blocks.
            assert deleted > 200 * 1024 // 40
            assert difference(content(db), model) == ""
            other.unlink()
            assert db.compact().bytes_reclaimed > 0
            assert difference(content(db), model) == ""

    in_child(body)


def test_space_that_deletes_were_given_is_for_nothing_else_until_the_reserve_is_whole(
    small_disk: Path, index: str, io: str
) -> None:
    def body() -> None:
        model: Model = {}
        size = 1024**2
        options = {"index": index, "io": io, "segment_bytes_max": 256 * 1024, "reserve_bytes": size}
        reserve = small_disk / "db" / "RESERVE"
        with open_with(small_disk / "db", **options) as db:
            number = fill(db, model, 0, 100)
            assert reserve.stat().st_size == size
            waiting = list(model)
            while reserve.stat().st_size == size:
                assert db.delete(waiting.pop())
            # There is free space now: puts fill the segment the delete has begun, and neither they nor the background
            # begin another.
            fill(db, model, number, 100)
            db._maintain(is_sync_due=False, is_look_due=False)
            disk = os.statvfs(small_disk)
            assert disk.f_bavail * disk.f_frsize > 150 * 1024
            with pytest.raises(StoreFullError):
                while True:
                    db.delete(waiting.pop())
            # Deletes have used up their half; the other one is compaction's.
            assert reserve.stat().st_size == size // 2
            assert db.compact().bytes_reclaimed > 0
            assert reserve.stat().st_size == size
            db.put("more", bytes(20_000))

    in_child(body)


def test_with_background_compaction_a_full_disk_is_usable_too(small_disk: Path, index: str, io: str) -> None:
    def body() -> None:
        model: Model = {}
        options = {"index": index, "io": io, "compaction": "auto", "compaction_interval_s": 0.002}
        options |= {"compaction_dead_bytes": 0, "reserve_bytes": 256 * 1024}
        with open_with(small_disk / "db", **options) as db:
            number = fill(db, model, 0, 2000)
            for _ in range(2):
                thin_out(db, model)
                with suppress(StoreFullError):  # the background has taken what there was to gain
                    db.compact()
                number = fill(db, model, number, 2000)
                assert difference(content(db), model) == ""
        with open_with(small_disk / "db", **options) as db:
            assert difference(content(db), model) == ""

    in_child(body)


def test_a_batch_that_does_not_fit_leaves_nothing(small_disk: Path, index: str, io: str) -> None:
    def body() -> None:
        with open_with(small_disk / "db", index=index, io=io) as db:
            db.put("a", "1")
            batch = db.batch()
            batch.put_many((f"b{i}", b"x" * 50_000) for i in range(100))
            with pytest.raises(StoreFullError):
                batch.commit()
            assert dict(db) == {b"a": b"1"}
            db.put("c", "3")
        with open_with(small_disk / "db", index=index, io=io) as db:
            assert dict(db) == {b"a": b"1", b"c": b"3"}

    in_child(body)


def test_a_store_on_a_disk_that_others_have_filled_opens_and_deletes(
    small_disk: Path, index: str, io: str
) -> None:
    def body() -> None:
        options = {"index": index, "io": io, "segment_bytes_max": 64 * 1024}
        with open_with(small_disk / "db", **options) as db:
            for number in range(300):
                db.put(f"k{number}", b"x" * 1000)
            db.put("more", "of it")
        with (small_disk / "other").open("wb", buffering=0) as other:
            with pytest.raises(OSError, match="No space"):
                while True:
                    other.write(bytes(4096))
            with pytest.raises(OSError, match="No space"):
                while True:
                    other.write(b"x")
        with open_with(small_disk / "db", **options) as db:
            assert len(db) == 301
            for number in range(0, 300, 2):
                assert db.delete(f"k{number}")
            assert db.compact().bytes_reclaimed > 100_000
            assert len(db) == 151
        with open_with(small_disk / "db", **options) as db:
            assert len(db) == 151

    in_child(body)


def test_a_store_that_does_not_fit_on_the_disk_at_all_is_refused(small_disk: Path) -> None:
    def body() -> None:
        with (
            pytest.raises(OSError, match="No space"),
            (small_disk / "other").open("wb", buffering=0) as other,
        ):
            while True:
                other.write(bytes(4096))
        with pytest.raises(StoreFullError), open_with(small_disk / "db") as db:
            db.put("a", "1")

    in_child(body)


# Limits of the process


@contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def test_files_longer_than_the_limit_are_refused_and_nothing_is_lost(
    tmp_path: Path, index: str, io: str
) -> None:
    def body() -> None:
        model: Model = {}
        with open_with(tmp_path / "db", index=index, io=io, segment_bytes_max=1024**2, reserve_bytes=0) as db:
            db.put("first", b"1")
            model[b"first"] = b"1"
            with limited(resource.RLIMIT_FSIZE, 500_000):
                with pytest.raises(StorageError) as caught:
                    for number in range(1000):
                        db.put(b"%d" % number, b"x" * 10_000)
                        model[b"%d" % number] = b"x" * 10_000
                assert caught.value.errno == errno.EFBIG
                assert difference(content(db), model) == ""
            db.put("after", b"2")
            model[b"after"] = b"2"
        with open_with(tmp_path / "db", index=index, io=io) as db:
            assert difference(content(db), model) == ""

    in_child(body)


def test_without_descriptors_calls_fail_and_go_on_once_there_are_some(
    tmp_path: Path, index: str, io: str
) -> None:
    def body() -> None:
        model: Model = {}
        with open_with(tmp_path / "db", index=index, io=io) as db:
            with limited(resource.RLIMIT_NOFILE, 0):
                refused = 0
                for number in range(40):
                    key, value = b"%d" % number, b"%d" % number * 5000
                    try:
                        db.put(key, value)
                    except StorageError as error:
                        assert error.errno == errno.EMFILE
                        refused += 1
                    else:
                        model[key] = value
                assert refused
                with pytest.raises(StorageError) as caught:
                    open_with(tmp_path / "other")
                assert caught.value.errno == errno.EMFILE
                assert difference(content(db), model) == ""
            for number in range(40):
                key, value = b"%d" % number, b"%d" % number * 4000
                try:
                    db.put(key, value)
                except StorageError as error:
                    # What failed in the background is heard once.
                    assert error.errno == errno.EMFILE
                    db.put(key, value)
                model[key] = value
            db.compact()
        with open_with(tmp_path / "db", index=index, io=io) as db:
            assert difference(content(db), model) == ""

    in_child(body)


def test_hundreds_of_segments_need_a_few_descriptors_only(tmp_path: Path, index: str) -> None:
    def body() -> None:
        with limited(resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) + 20):
            for _ in range(2):
                with open_with(tmp_path / "db", index=index, load_threads=2) as db:
                    for number in range(400):
                        db.put(f"{number}", b"x" * 25_000)
                    assert db.stats().segments > 150
                    assert len(db) == 400

    in_child(body)


# A disk that cannot be trusted any more


@pytest.mark.parametrize("durability", ["always", ("bytes", 1)])
def test_after_a_failed_sync_reads_go_on_and_writes_do_not(
    tmp_path: Path, index: str, io: str, durability: object
) -> None:
    system = FaultySystem()
    db = open_with(tmp_path / "db", system, index=index, io=io, durability=durability)
    db.put("a", "1")
    system.add(Fault("sync_data"))  # once: the next one would report success
    with pytest.raises(flash_kv.PoisonedError) as caught:
        db.put("b", "2")
    assert caught.value.errno == errno.EIO
    assert caught.value.path == str(db.path)
    for write in (
        lambda: db.put("c", "3"),
        lambda: db.delete("a"),
        lambda: db.put_many([("c", "3")]),
        db.sync,
        db.compact,
        db.batch,
        db.clear,
    ):
        with pytest.raises(flash_kv.PoisonedError):
            write()
    assert db["a"] == b"1"
    db.close()
    with open_with(tmp_path / "db", index=index, io=io) as again:
        assert again["a"] == b"1"
        if durability == "always":
            assert dict(again) == {b"a": b"1"}


def test_a_failed_sync_takes_back_only_the_commits_that_waited_for_it(
    tmp_path: Path, index: str, io: str
) -> None:
    system = FaultySystem()
    db = open_with(tmp_path / "db", system, index=index, io=io)
    db.update({f"k{i}": b"%d" % i for i in range(50)})
    db.delete("k7")
    model = dict(db)
    batch = db.batch(durability="always")
    batch.put("k1", "new")
    batch.put("more", "new")
    batch.delete("k2")
    system.add(Fault("sync_data"))
    with pytest.raises(flash_kv.PoisonedError):
        batch.commit()
    assert content(db) == model
    db.close()
    with open_with(tmp_path / "db", index=index, io=io) as again:
        assert content(again) == model


def test_a_snapshot_answers_as_before_or_not_at_all_once_a_sync_has_failed(
    tmp_path: Path, index: str, io: str
) -> None:
    system = FaultySystem()
    with open_with(tmp_path / "db", system, index=index, io=io) as db:
        db.update({f"k{i}": "old" for i in range(10)})
        with db.snapshot() as snapshot:
            before = dict(snapshot.items())
            for number in range(0, 10, 2):
                db.put(f"k{number}", "new")
            db.delete("k1")
            batch = db.batch(durability="always")
            batch.put("k3", "never")
            assert dict(snapshot.items()) == before
            system.add(Fault("sync_data"))
            with pytest.raises(flash_kv.PoisonedError):
                batch.commit()
            # What was taken back took the older versions with it.
            for read in (lambda: dict(snapshot.items()), lambda: {key: snapshot.get(key) for key in before}):
                try:
                    assert read() == before
                except flash_kv.PoisonedError:
                    continue


def test_a_failed_close_leaves_a_store_that_opens(tmp_path: Path, index: str, io: str) -> None:
    system = FaultySystem()
    db = open_with(tmp_path / "db", system, index=index, io=io)
    db.put("a", "1")
    system.add(Fault("*", from_then_on=True))
    with pytest.raises(StorageError):
        db.close()
    assert db.closed
    db.close()
    with open_with(tmp_path / "db", index=index, io=io) as again:
        assert dict(again) == {b"a": b"1"}

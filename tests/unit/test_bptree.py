"""The index on disk: its memory stays in its pool, and what its file does to it is an error and never an answer."""

from __future__ import annotations

import errno
import gc
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import flash_kv
from flash_kv.index.bptree_cy import BPTreeIndex
from flash_kv.index.probe_cy import IndexProbe
from flash_kv.index.timed_probe_cy import TimedProbe

PAGE = 4096
POOL = 64 << 10  # of a probe
only_bptree = pytest.mark.parametrize("index", ["bptree"])


def _index(probe: IndexProbe) -> BPTreeIndex:
    assert isinstance(probe.index, BPTreeIndex)
    return probe.index


def _index_files() -> set[int]:
    """The descriptors of the files of all indexes there are."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if "flash-kv-index" in os.readlink(f"/proc/self/fd/{name}"):
                found.add(int(name))
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return found


@contextmanager
def _instead(fd: int, path: str, flags: int) -> Iterator[None]:
    """Let the descriptor lead to another file for a while."""
    kept = os.dup(fd)
    other = os.open(path, flags)
    os.dup2(other, fd)
    try:
        yield
    finally:
        os.dup2(kept, fd)
        os.close(other)
        os.close(kept)


@pytest.fixture
def filled(rng: random.Random) -> tuple[IndexProbe, dict[bytes, int], int]:
    """An index several times as large as its pool, what is in it, and its file."""
    gc.collect()
    before = _index_files()
    probe = IndexProbe("bptree")
    (fd,) = _index_files() - before
    entries = {}
    for number in rng.sample(range(10**9), 20_000):
        key = b"key:%09d" % number
        entries[key] = probe.append(key)
        probe.upsert(key, entries[key])
    return probe, entries, fd


def test_memory_stays_in_the_pool_while_keys_grow_far_beyond_it() -> None:
    probe = TimedProbe("bptree")
    probe.prepare_many(200_000, 16, False, "shuffled")
    probe.time_upserts(0, 200_000)
    index = _index(probe)
    assert index.page_count * PAGE > 50 * POOL
    # Of so small a pool the least number of frames is left, beside seventeen bytes for each page.
    assert probe.memory_bytes() <= POOL * 1.01 + 17 * (index.page_count + 100)
    read, written = index.page_counts
    assert read > 0
    assert written > 0
    assert len(probe.walk()) == 200_000


def test_keys_in_order_fill_the_pages() -> None:
    probe = TimedProbe("bptree")
    probe.prepare_many(100_000, 16, True, "ascending")
    probe.time_upserts(0, 100_000)
    # A key of 16 bytes takes 32 of the 4072 that a page has room for.
    assert _index(probe).page_count <= 100_000 * 32 / 4072 * 1.03


def test_pages_of_removed_keys_are_used_again() -> None:
    probe = TimedProbe("bptree")
    probe.prepare_many(50_000, 16, False, "shuffled")
    probe.time_upserts(0, 50_000)
    full = _index(probe).page_count
    for _ in range(3):
        probe.time_removes(0, 45_000)
        assert _index(probe).page_count < full / 2
        probe.time_upserts(0, 45_000)
    assert _index(probe).page_count <= full * 1.1
    probe.time_removes(0, 50_000)
    assert _index(probe).page_count == 1


def test_clear_gives_memory_and_file_back(filled: tuple[IndexProbe, dict[bytes, int], int]) -> None:
    probe, _, fd = filled
    assert os.fstat(fd).st_size > 0
    probe.clear()
    assert os.fstat(fd).st_size == 0
    assert probe.memory_bytes() < PAGE
    assert probe.walk() == []
    assert probe.insert(b"key")
    assert probe.walk() == [b"key"]


@pytest.mark.parametrize("how", ["a bit", "zeros", "another page", "a shorter file"])
def test_a_damaged_page_is_an_error_and_never_an_answer(
    how: str, filled: tuple[IndexProbe, dict[bytes, int], int], rng: random.Random
) -> None:
    probe, entries, fd = filled
    # Then what the file has of a page is its newest, but for the root, which is always in memory.
    probe.walk()
    whole = os.pread(fd, os.fstat(fd).st_size, 0)
    pages = [whole[start : start + PAGE] for start in range(0, len(whole), PAGE)]
    if how == "a bit":
        place = [rng.randrange(PAGE) for _ in pages]
        bad = [
            page[:at] + bytes([page[at] ^ 1 << rng.randrange(8)]) + page[at + 1 :]
            for page, at in zip(pages, place, strict=True)
        ]
    elif how == "zeros":
        bad = [bytes(PAGE)] * len(pages)
    else:
        bad = [*pages[1:], pages[0]]
    os.pwrite(fd, b"".join(bad), 0)
    if how == "a shorter file":
        bad = [b""] * len(pages)
        os.ftruncate(fd, 0)
    failed = 0
    for key, entry in entries.items():
        try:
            assert probe.find(key) == entry
        except OSError:
            failed += 1
    assert failed > len(entries) / 2
    with pytest.raises(OSError):
        probe.walk()
    for number, page in enumerate(pages):
        # What was written meanwhile is newer.
        if how == "a shorter file" or os.pread(fd, PAGE, number * PAGE) == bad[number]:
            os.pwrite(fd, page, number * PAGE)
    assert probe.find_many(list(entries)) == list(entries.values())


def test_a_page_as_it_was_before_its_last_write_is_an_error_and_never_an_answer(
    filled: tuple[IndexProbe, dict[bytes, int], int], rng: random.Random
) -> None:
    probe, entries, fd = filled
    stale = 0
    # Until some block holds what another write of the same page left there: which blocks are free is chance.
    for _ in range(50):
        before = os.pread(fd, os.fstat(fd).st_size, 0)
        for key in rng.sample(sorted(entries), len(entries) * 2 // 3):
            entries[key] = probe.append(key)
            probe.upsert(key, entries[key])
        now = os.pread(fd, os.fstat(fd).st_size, 0)
        if any(
            before[start : start + PAGE] != now[start : start + PAGE]
            and before[start + 4 : start + 8] == now[start + 4 : start + 8] != bytes(4)
            for start in range(2 * PAGE, len(before), PAGE)
        ):
            break
    else:
        pytest.fail("no block holds what another write of the same page left")
    # What a kernel does that could not write pages back: it forgets them.
    os.pwrite(fd, before, 0)
    for key, entry in entries.items():
        try:
            assert probe.find(key) == entry
        except OSError as error:
            assert error.errno == errno.EBADMSG
            stale += 1
    assert stale > 1000


def test_asking_for_keys_reads_no_leaf_and_changes_nothing(
    filled: tuple[IndexProbe, dict[bytes, int], int], rng: random.Random
) -> None:
    empty = IndexProbe("bptree")
    empty.ask_for(b"anything")
    assert empty.find(b"anything") == 0
    probe, entries, fd = filled
    for key in (b"", b"key", b"zzz", b"long" * 300, *rng.sample(sorted(entries), 1000)):
        probe.ask_for(key)
    read, _ = _index(probe).page_counts
    for key in rng.sample(sorted(entries), 1000):
        probe.ask_for(key)
    # Inner pages come and go in so small a pool; leaves would be a thousand.
    assert _index(probe).page_counts[0] - read < 500
    assert all(probe.find(key) == entry for key, entry in entries.items())
    with _instead(fd, "/dev/null", os.O_RDONLY):
        for key in entries:
            probe.ask_for(key)
    assert all(probe.find(key) == entry for key, entry in entries.items())


def test_a_page_that_cannot_be_read_changes_nothing(filled: tuple[IndexProbe, dict[bytes, int], int]) -> None:
    probe, entries, fd = filled
    failed = 0
    with _instead(fd, "/dev/null", os.O_RDONLY):
        for key in list(entries)[:300]:
            try:
                probe.find(key)
            except OSError:
                failed += 1
                with pytest.raises(OSError):
                    probe.remove(key)
                with pytest.raises(OSError):
                    probe.upsert(key, entries[key] + 1)
                assert not probe.replace(key, entries[key], entries[key] + 1)
    assert failed > 0
    assert probe.walk() == sorted(entries)
    assert probe.find_many(list(entries)) == list(entries.values())


def test_a_walk_past_long_keys_leaves_out_nothing_that_cannot_be_read(
    filled: tuple[IndexProbe, dict[bytes, int], int],
) -> None:
    probe, entries, fd = filled
    for key in list(entries)[::400]:
        probe.insert(key + b"-" * 2000)
    whole = probe.walk()
    assert whole == sorted(whole)
    kept = os.pread(fd, os.fstat(fd).st_size, 0)
    for block in range(2, len(kept) // PAGE, 7):
        os.pwrite(fd, bytes(PAGE), block * PAGE)
        with suppress(OSError):
            assert probe.walk() == whole
        # A free block may have become a page's meanwhile, one that had to make room for others.
        if os.pread(fd, PAGE, block * PAGE) == bytes(PAGE):
            os.pwrite(fd, kept[block * PAGE :][:PAGE], block * PAGE)
        assert probe.walk() == whole


def test_a_page_that_cannot_be_written_changes_nothing(
    filled: tuple[IndexProbe, dict[bytes, int], int],
) -> None:
    probe, entries, fd = filled
    added: dict[bytes, int] = {}
    failed = 0
    with _instead(fd, f"/proc/self/fd/{fd}", os.O_RDONLY):
        for number in range(5000):
            key = b"new:%04d%s" % (number, b"-" * 90)
            position = probe.append(key)
            try:
                probe.upsert(key, position)
                added[key] = position
            except (OSError, MemoryError):
                failed += 1
    assert failed > 0
    entries |= added
    assert probe.walk() == sorted(entries)
    assert probe.find_many(list(entries)) == list(entries.values())


def test_frames_above_the_pool_are_lent_as_often_as_pages_cannot_be_written(
    filled: tuple[IndexProbe, dict[bytes, int], int], rng: random.Random
) -> None:
    probe, entries, fd = filled
    for _ in range(12):
        with _instead(fd, f"/proc/self/fd/{fd}", os.O_RDONLY):
            for key in rng.sample(list(entries), 60):
                assert probe.upsert(key, entries[key]) == entries[key]
        # Written again, they go back.
        assert probe.walk() == sorted(entries)
        assert probe.memory_bytes() <= 2 * POOL


def test_room_that_the_disk_does_not_have_is_refused(
    filled: tuple[IndexProbe, dict[bytes, int], int],
) -> None:
    probe, entries, fd = filled
    with _instead(fd, "/dev/null", os.O_RDWR):
        assert not probe.reserve(5000)
    assert probe.reserve(5000)
    assert probe.walk() == sorted(entries)


@only_bptree
def test_a_store_larger_than_its_cache_is_whole_and_opens_again(open_db: Callable[..., flash_kv.DB]) -> None:
    keys = [b"%08d" % (number * 7919 % 10**8) for number in range(20_000)]
    with open_db(index_cache_bytes=POOL) as db:
        for key in keys:
            db[key] = key
        assert db.stats().index_bytes < 4 * POOL
        del db[keys[0]]
    with open_db(index_cache_bytes=POOL) as db:
        assert keys[0] not in db
        assert [*db] == sorted(keys[1:])
        assert db.get_many(keys[1:]) == keys[1:]


@only_bptree
@pytest.mark.parametrize("cache", [POOL, 1 << 22])
@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_batches_write_where_their_keys_were_found_however_leaves_part_and_join_meanwhile(
    open_db: Callable[..., flash_kv.DB], rng: random.Random, cache: int, has_checkpoint: bool
) -> None:
    expected: dict[bytes, bytes] = {}
    with open_db(index_cache_bytes=cache, index_checkpoint_bytes=1 << 30, compaction="off") as db:
        index = db._index_keeper._index
        assert index is not None
        for number in range(40):
            # Now nearly all keys go, now thousands come, in a few places or everywhere.
            is_growing = number % 4 < 2
            span = 10 ** rng.randrange(2, 6)
            start = rng.randrange(10**5)
            with db.batch() as batch:
                for _ in range(3000):
                    key = b"%06d" % (start + rng.randrange(span)) * rng.choice((1, 2, 8))
                    if rng.random() < (0.9 if is_growing else 0.1):
                        expected[key] = b"%d" % number
                        batch.put(key, b"%d" % number)
                    elif expected:
                        key = key if rng.random() < 0.9 else rng.choice([*expected])
                        expected.pop(key, None)
                        batch.delete(key)
            gone = rng.sample(sorted(expected), len(expected) // (8 if is_growing else 2))
            assert db.delete_many(gone) == len(gone)
            for key in gone:
                del expected[key]
            assert index.check() == []
            if has_checkpoint and number % 8 == 0:
                assert db._index_keeper.checkpoint()
        db.compact()
        assert index.check() == []
        assert list(db.items()) == sorted(expected.items())


@only_bptree
def test_the_file_of_an_index_goes_when_another_kind_writes(
    tmp_path: Path, open_db: Callable[..., flash_kv.DB]
) -> None:
    open_db().close()
    assert (tmp_path / "db" / "INDEX").exists()
    (tmp_path / "db" / "tmp-INDEX").write_bytes(b"left")
    open_db(index="btree", read_only=True).close()
    assert (tmp_path / "db" / "INDEX").exists()
    open_db(index="btree").close()
    assert not [name for name in os.listdir(tmp_path / "db") if "INDEX" in name]


@only_bptree
def test_a_read_only_open_leaves_the_directory_alone(
    tmp_path: Path, open_db: Callable[..., flash_kv.DB]
) -> None:
    with open_db() as db:
        db.update({b"%06d" % number: b"" for number in range(10_000)})
    before = sorted(os.listdir(tmp_path / "db"))
    (tmp_path / "db").chmod(0o500)
    try:
        with open_db(read_only=True, index_cache_bytes=POOL) as db:
            assert len([*db]) == 10_000
            assert sorted(os.listdir(tmp_path / "db")) == before
    finally:
        (tmp_path / "db").chmod(0o700)


@only_bptree
def test_a_compaction_that_cannot_ask_the_index_loses_nothing(
    open_db: Callable[..., flash_kv.DB], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [b"%08d" % (number * 7919 % 10**8) for number in range(10_000)]
    options = {"index_cache_bytes": POOL, "segment_bytes_max": POOL, "compaction": "off"}
    with open_db(**options) as db:
        for key in keys:
            db[key] = b"old"
        for key in keys[::2]:
            db[key] = b"new"
        files = {
            int(name)
            for name in os.listdir("/proc/self/fd")
            if os.path.lexists(f"/proc/self/fd/{name}")
            and os.readlink(f"/proc/self/fd/{name}").endswith("/INDEX")
        }
        # The background would make the damage known in that other file.
        monkeypatch.setattr(db._index_keeper, "is_due", lambda: False)
        with _instead(files.pop(), "/dev/null", os.O_RDONLY), pytest.raises(flash_kv.StorageError):
            db.compact()
        monkeypatch.undo()
        expected = [b"new", b"old"] * (len(keys) // 2)
        assert db.get_many(keys) == expected
        db.compact()
        assert db.get_many(keys) == expected
    with open_db(**options) as db:
        assert db.get_many(keys) == expected

"""Every call to the system and every allocation fails once, and from some on for good: nothing acknowledged is lost.

For N = 1, 2, ... the Nth one of a history fails, until a run has fewer than that; flash_kv/torture/faults.py says what
is checked after each. By default every 37th, from one of chance; with FLASH_KV_TEST_FAULTS=all every one.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

import flash_kv
from flash_kv import DB, Options, PoisonedError, StorageError
from flash_kv.io.faulty import Call, Fault, FaultySystem
from flash_kv.io.memory_cy import allow_allocations, refuse_allocation
from flash_kv.torture.faults import FAILING, FaultRun, Plan
from flash_kv.torture.settings import Settings
from flash_kv.torture.stepped import open_stepped
from support.stores import crash_image

# An index in memory never sees a fault of the system, so each io kind is tried with one of them.
KINDS = {
    "mmap-btree": Settings(io="mmap", index="btree"),
    "mmap-skiplist": Settings(io="mmap", index="skiplist"),
    "mmap-bptree": Settings(io="mmap", index="bptree"),
    "file-hash": Settings(io="file", index="hash"),
    "always": Settings(io="file", index="btree", durability="always"),
}
STRIDE = 1 if os.environ.get("FLASH_KV_TEST_FAULTS") == "all" else 37


def sweep(run: FaultRun, first: int, code: int | None, *, is_for_good: bool, is_short: bool = False) -> int:
    """How many failed one after the other."""
    count = 0
    while run.attempt(Plan(first + count * STRIDE, code, is_for_good, is_short)):
        count += 1
    if run.tally.failures:
        pytest.fail("\n".join(map(str, run.tally.failures)), pytrace=False)
    return count


@pytest.mark.parametrize("is_for_good", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize(
    "code", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EINTR], ids=errno.errorcode.get
)
@pytest.mark.parametrize("kind", KINDS)
def test_any_call_may_fail(
    tmp_path: Path, kind: str, code: int, is_for_good: bool, rng: random.Random
) -> None:
    run = FaultRun(rng.randrange(2**31), KINDS[kind], tmp_path / "scratch")
    assert sweep(run, rng.randint(1, STRIDE), code, is_for_good=is_for_good) * STRIDE > 40


@pytest.mark.parametrize("kind", KINDS)
def test_any_write_may_be_short(tmp_path: Path, kind: str, rng: random.Random) -> None:
    run = FaultRun(rng.randrange(2**31), KINDS[kind], tmp_path / "scratch")
    assert sweep(run, rng.randint(1, STRIDE), errno.ENOSPC, is_for_good=True, is_short=True) * STRIDE > 40


@pytest.mark.parametrize("is_for_good", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_allocation_may_fail(tmp_path: Path, kind: str, is_for_good: bool, rng: random.Random) -> None:
    run = FaultRun(rng.randrange(2**31), KINDS[kind], tmp_path / "scratch")
    assert sweep(run, rng.randint(1, STRIDE), None, is_for_good=is_for_good) * STRIDE > 20


def test_a_sweep_notices_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that never says no would be of no use."""
    monkeypatch.setattr(DB, "_take_back", lambda self, *place: None)
    run = FaultRun(1, Settings(io="file", durability="always"), tmp_path / "scratch")
    for nth in range(1, 200):
        run.attempt(Plan(nth, errno.EIO, False))
        if run.tally.violations["resurrected"]:
            return
    pytest.fail("a commit that was refused and stayed was not noticed")


def test_all_calls_but_clocks_and_reports_can_fail() -> None:
    assert {"open", "close", "allocate", "write_at", "read_at", "sync_data", "map", "rename", "lock"} <= set(
        FAILING
    )
    assert "now_ns" not in FAILING


# What the sweeps found


def reopened_copy(db: DB, tmp_path: Path) -> dict[bytes, bytes]:
    """What an open finds if the process dies now."""
    with flash_kv.open(crash_image(db, tmp_path / "copy"), io="file") as found:
        return dict(found.items())


SMALL: dict[str, Any] = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off", "io": "file"}


@pytest.mark.parametrize("index", ["btree", "hash", "skiplist"])
def test_a_refused_write_leaves_nothing_behind_which_later_segments_are_not_believed(
    tmp_path: Path, index: Any
) -> None:
    with flash_kv.open(tmp_path / "db", index=index, **SMALL) as db:
        db._maintenance._is_stopping = True  # nobody seals what is full
        db[b"key"] = b"first" * 5000
        # The buffers exist by now; what is refused is the reading of the record that the new one replaces.
        with pytest.raises(MemoryError):
            refuse_allocation(1, True)
            try:
                db[b"key"] = b"refused" * 3000
            finally:
                allow_allocations()
        db[b"other"] = b"in the next segment" * 2500
        assert len(db._segments.unsealed) == 2
        assert set(reopened_copy(db, tmp_path)) == {b"key", b"other"}


def test_a_refused_commit_that_no_index_can_be_made_without_is_read_on_and_scans_end(
    tmp_path: Path, index: Any, io: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was void already when memory or disk for the index without it were short, and a scan met it for ever."""

    def refuse() -> object:
        raise MemoryError

    system = FaultySystem()
    options = Options(index=index, durability="always", **{**SMALL, "io": io})
    content = {b"a": b"1", b"b": b"2", b"c": b"3"}
    with open_stepped(tmp_path / "db", options, system) as db:
        db.put_many({key: content[key] for key in (b"a", b"c")})
        system.add(Fault("sync_data", errno=errno.EIO))
        with monkeypatch.context() as patch:
            patch.setattr(db._index_keeper, "new_nameless", refuse)
            with pytest.raises(PoisonedError) as caught:
                db[b"b"] = content[b"b"]
        assert caught.value.is_in_doubt
        assert dict(itertools.islice(db.items(), 10)) == content
        assert [db.get(key) for key in content] == list(content.values())
        assert db.verify().is_ok
    with DB(tmp_path / "db", options) as reopened:
        assert dict(reopened.items()) == content


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_sealing_that_failed_is_not_half_remembered_by_later_manifests(
    tmp_path: Path, index: Any, io: Any, is_replaced: bool
) -> None:
    """Its LSNs counted as those of sealed segments while it was listed as unsealed: the next open dropped it."""
    system = FaultySystem()
    options = Options(index=index, **{**SMALL, "io": io})
    with open_stepped(tmp_path / "db", options, system) as db:
        db[b"first"] = b"1" * 40_000

        def fail(call: Call) -> None:
            if is_replaced:
                call.proceed()
            raise OSError(errno.EIO, "no answer")

        system.add(Fault("rename", action=fail, path_contains="MANIFEST"))
        with pytest.raises(StorageError, match="manifest"):
            db.compact()
        db[b"second"] = b"2" * 40_000  # makes a segment, so it writes the manifest
        db[b"third"] = b"3" * 40_000
        assert set(reopened_copy(db, tmp_path)) == {b"first", b"second", b"third"}


@pytest.mark.parametrize("index", ["hash"])  # which reads a record for each key that is there
def test_a_batch_that_memory_ends_for_is_refused_whole(tmp_path: Path, index: Any) -> None:
    with flash_kv.open(tmp_path / "db", index=index, **SMALL) as db:
        before = {b"a": b"1", b"b": b"1", b"c": b"1"}
        db.put_many(before)

        def overwrite() -> None:
            db.put_many(dict.fromkeys(before, b"2"))

        for nth in range(1, 100):
            refuse_allocation(nth)
            try:
                overwrite()
                state = dict.fromkeys(before, b"2")
            except (MemoryError, flash_kv.PoisonedError):
                state = before
            finally:
                allow_allocations()
            if state is before:
                assert dict(db.items()) == before
                assert reopened_copy(db, tmp_path) == before
                shutil.rmtree(tmp_path / "copy")
                if db._state():
                    return
            else:
                before = state
    pytest.fail("memory never ended in the middle of the index")


@pytest.mark.parametrize("index", ["btree", "hash", "skiplist", "bptree"])
def test_a_write_beside_a_snapshot_is_indexed_or_refused(tmp_path: Path, index: Any) -> None:
    with flash_kv.open(tmp_path / "db", index=index, **SMALL) as db:
        state = {b"key": b"0"}
        db.put_many(state)
        for nth in range(1, 12):
            with db.snapshot():
                refuse_allocation(nth)
                try:
                    db[b"key"] = b"%d" % nth
                    state[b"key"] = b"%d" % nth
                except MemoryError:
                    assert nth < 11
                finally:
                    allow_allocations()
                assert dict(db.items()) == state


def test_a_segment_with_half_a_header_does_not_keep_the_store_from_opening(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db", **SMALL) as db:
        db[b"key"] = b"value"
    (segment,) = (tmp_path / "db").glob("*.seg")
    torn = segment.with_name("0000000009.seg")
    torn.write_bytes(segment.read_bytes()[:32] + bytes(4096))
    with flash_kv.open(tmp_path / "db", **SMALL) as db:
        assert db[b"key"] == b"value"
    assert not torn.exists()


def test_a_foreign_file_with_the_name_of_a_segment_is_not_removed(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db", **SMALL) as db:
        db[b"key"] = b"value"
    foreign = tmp_path / "db" / "0000000009.seg"
    foreign.write_bytes(b"my notes")
    with pytest.raises(flash_kv.CorruptionError, match="move it away"):
        flash_kv.open(tmp_path / "db", **SMALL)
    assert foreign.read_bytes() == b"my notes"


def test_a_file_that_cannot_be_unlinked_keeps_no_other_from_going(tmp_path: Path) -> None:
    system = FaultySystem()
    with DB(tmp_path / "db", Options(segment_bytes_max=65536, compaction="off"), system) as db:
        for number in range(60):
            db[b"%d" % (number % 7)] = bytes(7_000)
        db._segments.rotate()
        db._segments.seal_rotated()
        before = set(db._segments.entries)
        assert len(before) > 3
        system.add(Fault("unlink", path_contains=".seg"))
        with pytest.raises(StorageError, match="unlink"):
            db.compact()
        segments = db._segments
        # The table of segments forgets them as well: their dead values would hold back all tombstones.
        assert set(segments.open) == set(segments.entries)
        left = {int(path.stem) for path in (tmp_path / "db").glob("*.seg")} - set(segments.entries)
        assert len(left) == 1
        assert left <= before
        with DB(crash_image(db, tmp_path / "killed"), Options()) as killed:
            assert dict(killed.items()) == dict(db.items())
            # The next open removes it.
            assert not left & {int(path.stem) for path in (tmp_path / "killed").glob("*.seg")}

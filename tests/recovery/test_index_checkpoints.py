"""The index on disk across opens: its checkpoint is taken over, the rest replayed, what does not fit noticed."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import flash_kv
from flash_kv import DB, CorruptionError, StoreFullError
from flash_kv.engine import index_file
from flash_kv.engine.index_file import IndexKeeper
from flash_kv.io.faulty import Call, Fault, FaultySystem
from flash_kv.options import Options
from support.damage import flip, overwrite
from support.stores import crash_image, fill, settle
from support.waiting import wait_until

pytestmark = [pytest.mark.parametrize("index", ["bptree"]), pytest.mark.usefixtures("index")]

POOL = 64 << 10
BLOCK = 4096
SMALL = {"index_cache_bytes": POOL, "segment_bytes_max": POOL, "compaction": "off", "reserve_bytes": 0}
Open = Callable[..., DB]


def _fill_more(db: DB, rng: random.Random, count: int = 3000) -> dict[bytes, bytes]:
    """Many more keys than the pool has room for, some of them long, some overwritten, some deleted."""
    keys = [b"%06d" % rng.randrange(10**6) * rng.choice((1, 2, 8)) for _ in range(count)]
    keys += [b"%06d" % rng.randrange(10**6) * 200 for _ in range(20)]
    for key in keys:
        db[key] = key[:6]
    for key in rng.sample(keys, len(keys) // 4):
        db[key] = b"again"
    for key in rng.sample(keys, len(keys) // 4):
        db.pop(key, None)
    return dict(db.items())


def _check(db: DB, expected: dict[bytes, bytes]) -> None:
    assert dict(db.items()) == expected
    assert len(db) == len(expected)
    assert [db[key] for key in expected] == list(expected.values())
    assert db.verify().is_ok


def _pages_are_sound(db: DB) -> None:
    index = db._index_keeper._index
    assert index is not None
    assert index.check() == []


@pytest.mark.parametrize("read_only", [False, True])
def test_an_open_after_a_close_reads_no_segment(open_db: Open, rng: random.Random, read_only: bool) -> None:
    with open_db(**SMALL) as db:
        expected = _fill_more(db, rng)
        assert db.stats().segments > 3
    with open_db(**SMALL, read_only=read_only) as db:
        recovery = db.stats().recovery
        assert recovery.segments_from_index == db.stats().segments
        assert recovery.segments_from_hints == recovery.segments_scanned == 0
        assert recovery.index_fault is None
        _check(db, expected)
        _pages_are_sound(db)


@pytest.mark.parametrize("read_only", [False, True])
def test_what_follows_a_checkpoint_is_replayed_after_a_kill(
    open_db: Open, tmp_path: Path, rng: random.Random, read_only: bool
) -> None:
    with open_db(**SMALL, index_checkpoint_bytes=1 << 30) as db:
        _fill_more(db, rng)
        assert db._index_keeper.checkpoint()
        expected = _fill_more(db, rng, 500)
        db.delete_range(start=b"2", stop=b"3")
        expected = {key: value for key, value in expected.items() if not b"2" <= key < b"3"}
        crash_image(db, tmp_path / "killed")
    with open_db("killed", **SMALL, read_only=read_only) as db:
        recovery = db.stats().recovery
        assert recovery.segments_from_index > 0
        assert recovery.segments_scanned > 0
        _check(db, expected)
        _pages_are_sound(db)
        if not read_only:
            db[b"more"] = b"written"
            expected[b"more"] = b"written"
    with open_db("killed", **SMALL) as db:
        _check(db, expected)


def test_checkpoints_come_by_themselves(open_db: Open, tmp_path: Path, rng: random.Random) -> None:
    with open_db(**SMALL, index_checkpoint_bytes=POOL, compaction_interval_s=0.01) as db:
        expected = _fill_more(db, rng)
        deadline = threading.Event()
        while db._index_keeper.count == 0 and not deadline.wait(0.01):
            db[b"one more"] = b""
            expected[b"one more"] = b""
        crash_image(db, tmp_path / "killed")
    with open_db("killed", **SMALL) as db:
        assert db.stats().recovery.segments_from_index > 0
        _check(db, expected)


def test_a_checkpoint_comes_when_so_many_pages_have_changed(
    open_db: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_file, "CHANGED_PAGES_MAX", 64)
    options = SMALL | {"index_cache_bytes": 1 << 20, "segment_bytes_max": 1 << 24}
    with open_db(**options, index_checkpoint_bytes=1 << 30, compaction_interval_s=3600) as db:
        db.update({b"%08d" % number: b"" for number in range(20_000)})
        keeper, index = db._index_keeper, db._index_keeper._index
        assert index is not None
        with db._compactor.lock:
            keeper.checkpoint()
        before = keeper.count
        for number in range(60):
            db[b"%08d" % (number * 300)] = b""
        assert index.changed_pages <= 64
        db._maintain(is_sync_due=False, is_look_due=False)
        assert keeper.count == before
        # The same pages again do not count.
        for number in range(60):
            db[b"%08d" % (number * 300 + 1)] = b""
        db._maintain(is_sync_due=False, is_look_due=False)
        for number in range(120):
            db[b"%08d" % (number * 160 + 2)] = b""
        db._maintain(is_sync_due=False, is_look_due=False)
        # The background thread may be at it.
        wait_until(lambda: keeper.count == before + 1)
        # And may have begun before the last of these writes.
        assert index.changed_pages < 64


def test_a_checkpoint_while_others_write_is_that_of_one_moment(
    open_db: Open, tmp_path: Path, rng: random.Random
) -> None:
    between = threading.Lock()
    is_over = threading.Event()
    model: dict[bytes, bytes] = {}

    def write() -> None:
        writes = random.Random(rng.random())
        while not is_over.is_set():
            with between:
                for _ in range(20):
                    key = b"%05d" % writes.randrange(20_000)
                    if writes.random() < 0.7:
                        db[key] = model[key] = b"%f" % writes.random()
                    else:
                        model.pop(key, None)
                        db.pop(key, None)

    with open_db(**SMALL, index_checkpoint_bytes=1 << 30) as db:
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(8):
                assert db._index_keeper.checkpoint()
                with between:
                    crash_image(db, tmp_path / f"{number}")
                    expected = dict(model)
                with open_db(f"{number}", **SMALL) as left:
                    assert left.stats().recovery.index_fault is None
                    _check(left, expected)
                    _pages_are_sound(left)
        finally:
            is_over.set()
            writer.join()
        _pages_are_sound(db)


def test_version_chains_are_resolved_by_the_next_open(open_db: Open, tmp_path: Path) -> None:
    with open_db(**SMALL) as db:
        fill(db)
        db[b"long" * 400] = b"old"
        with db.snapshot() as before:
            old = dict(before.items())
            for number in range(0, 200, 3):
                db[f"key {number}"] = b"new"
            for number in range(1, 200, 3):
                db.pop(f"key {number}", None)
            db[b"long" * 400] = b"new"
            with db.snapshot():
                db["key 0"] = b"newest"
                assert db._index_keeper.checkpoint()
                expected = dict(db.items())
                crash_image(db, tmp_path / "killed")
                db.compact()
                crash_image(db, tmp_path / "compacted")
            assert dict(before.items()) == old
    for name in ("killed", "compacted"):
        with open_db(name, **SMALL) as db:
            assert db.stats().recovery.index_fault is None
            _check(db, expected)
            _pages_are_sound(db)


def test_a_compaction_ends_with_a_checkpoint_that_fits(
    open_db: Open, tmp_path: Path, rng: random.Random
) -> None:
    with open_db(**SMALL, index_checkpoint_bytes=1 << 30) as db:
        expected = _fill_more(db, rng)
        assert db._index_keeper.checkpoint()
        for key in rng.sample(sorted(expected), 1000):
            del db[key], expected[key]
        db.compact()
        crash_image(db, tmp_path / "killed")
    with open_db("killed", **SMALL) as db:
        recovery = db.stats().recovery
        assert recovery.index_fault is None
        assert recovery.segments_from_index > 0
        _check(db, expected)


@pytest.mark.parametrize("is_repeated", [False, True])
def test_a_compaction_interrupted_before_its_outputs_are_listed_leaves_a_checkpoint_that_fits(
    open_db: Open, rng: random.Random, monkeypatch: pytest.MonkeyPatch, is_repeated: bool
) -> None:
    def interrupt(db: DB) -> None:
        raise KeyboardInterrupt

    with open_db(**SMALL, index_checkpoint_bytes=1 << 30) as db:
        expected = _fill_more(db, rng)
        db._index_keeper.checkpoint()
        for key in rng.sample(sorted(expected), 1000):
            del db[key], expected[key]
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(DB, "_sync_for_compaction", interrupt)
            db.compact()
        assert db._segments.unlisted
        # The background may come by, or another compaction, which lists them.
        db._index_keeper.checkpoint_when_idle()
        if is_repeated:
            db.compact()
        db[b"more"] = expected[b"more"] = b"x" * 1000
        assert dict(db.items()) == expected
    for _ in range(2):
        with open_db(**SMALL) as db:
            assert db.stats().recovery.index_fault is None
            _check(db, expected)
            db.update({b"%d" % number: b"" for number in range(1000)})
            expected |= {b"%d" % number: b"" for number in range(1000)}


def test_deletes_give_pages_back_to_later_keys(open_db: Open) -> None:
    with open_db(**SMALL) as db:
        for _ in range(4):
            db.update({b"%08d" % number: b"" for number in range(20_000)})
            db._index_keeper.checkpoint()
            index = db._index_keeper._index
            assert index is not None
            full, size = index.page_count, (db.path / "INDEX").stat().st_size
            db.clear()
            db._index_keeper.checkpoint()
            assert index.page_count < full / 10
            _pages_are_sound(db)
        # Each page is in the last checkpoint, the one before, and the tree, at most.
        assert size < 4 * full * BLOCK


# -- files that do not fit


def test_a_file_of_another_store_is_noticed(open_db: Open, rng: random.Random, tmp_path: Path) -> None:
    with open_db("other", **SMALL) as db:
        _fill_more(db, rng)
    with open_db(**SMALL) as db:
        expected = _fill_more(db, rng)
    shutil.copy(tmp_path / "other" / "INDEX", tmp_path / "db" / "INDEX")
    for _ in range(2):
        with open_db(**SMALL, read_only=True) as db:
            assert "of another store" in str(db.stats().recovery.index_fault)
            _check(db, expected)
    with open_db(**SMALL) as db:
        assert "of another store" in str(db.stats().recovery.index_fault)
        _check(db, expected)
    with open_db(**SMALL) as db:
        assert db.stats().recovery.index_fault is None
        _check(db, expected)


@pytest.mark.parametrize("since", ["writes", "deletes", "a compaction", "another index"])
def test_an_older_copy_is_right_or_noticed(
    open_db: Open, rng: random.Random, tmp_path: Path, since: str
) -> None:
    with open_db(**SMALL) as db:
        _fill_more(db, rng)
    shutil.copy(tmp_path / "db" / "INDEX", tmp_path / "older")
    with open_db(**SMALL | {"index": "btree" if since == "another index" else "bptree"}) as db:
        expected = _fill_more(db, rng, 200)
        for key in sorted(expected)[::3]:
            del db[key], expected[key]
        if since in ("a compaction", "another index"):
            db.compact()
            db.clear()
            db.update(expected)
            db.compact()
    shutil.copy(tmp_path / "older", tmp_path / "db" / "INDEX")
    with open_db(**SMALL) as db:
        recovery = db.stats().recovery
        assert (recovery.index_fault is not None) == (since in ("a compaction", "another index"))
        _check(db, expected)
    with open_db(**SMALL) as db:
        _check(db, expected)


def test_a_file_younger_than_the_log_is_noticed(open_db: Open, rng: random.Random, tmp_path: Path) -> None:
    with open_db(**SMALL) as db:
        expected = _fill_more(db, rng, 300)
    shutil.copytree(tmp_path / "db", tmp_path / "older")
    with open_db(**SMALL) as db:
        _fill_more(db, rng, 300)
    shutil.copy(tmp_path / "db" / "INDEX", tmp_path / "older" / "INDEX")
    with open_db("older", **SMALL) as db:
        assert db.stats().recovery.index_fault is not None
        _check(db, expected)


@pytest.fixture
def sound(open_db: Open, rng: random.Random, tmp_path: Path) -> dict[bytes, bytes]:
    """The content of the closed store `db`, whose index has two levels, free pages, and two heads."""
    with open_db(**SMALL) as db:
        _fill_more(db, rng, 400)
        db._index_keeper.checkpoint()
        return _fill_more(db, rng, 400)


def _open_damaged(open_db: Open, expected: dict[bytes, bytes], read_only: bool) -> bool:
    """Open a store with a damaged index file: right answers, or errors that say so. Whether there were errors."""
    has_failed = False
    with open_db(**SMALL, read_only=read_only) as db:
        for key, value in expected.items():
            try:
                assert db[key] == value
            except CorruptionError as error:
                assert error.path.endswith("INDEX")
                has_failed = True
        try:
            assert dict(db.items()) == expected
        except CorruptionError as error:
            assert error.path.endswith("INDEX")
            has_failed = True
    return has_failed


@pytest.mark.parametrize("io", ["mmap"])
def test_no_flipped_bit_of_the_file_gives_a_wrong_answer(
    open_db: Open, sound: dict[bytes, bytes], rng: random.Random, tmp_path: Path
) -> None:
    path = tmp_path / "db" / "INDEX"
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "db", kept)
    places = [*rng.sample(range(512), 12), *rng.sample(range(BLOCK, BLOCK + 512), 12)]
    for block in range(2, path.stat().st_size // BLOCK):
        places += [block * BLOCK + rng.randrange(24), block * BLOCK + rng.randrange(BLOCK)]
    noticed = failed = 0
    for place in places:
        flip(path, place, 1 << rng.randrange(8))
        has_failed = _open_damaged(open_db, sound, True)
        failed += has_failed
        with open_db(**SMALL) as db:
            noticed += db.stats().recovery.index_fault is not None
            if not has_failed:
                assert dict(db.items()) == sound
        # What was damaged while the store was open is known to the next open.
        if has_failed:
            _open_damaged(open_db, sound, False)
            with open_db(**SMALL) as db:
                assert db.stats().recovery.index_fault is not None
                assert dict(db.items()) == sound
        shutil.rmtree(tmp_path / "db")
        shutil.copytree(kept, tmp_path / "db")
    assert noticed > 24
    assert failed > 10


@pytest.mark.parametrize("how", ["empty", "short", "zeros", "exchanged", "noise", "long"])
def test_a_broken_file_is_right_or_noticed(
    open_db: Open, sound: dict[bytes, bytes], rng: random.Random, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "db" / "INDEX"
    whole = path.read_bytes()
    blocks = [whole[start : start + BLOCK] for start in range(0, len(whole), BLOCK)]
    if how == "exchanged":
        blocks[2:] = rng.sample(blocks[2:], len(blocks) - 2)
    changed = {
        "empty": b"",
        "short": whole[: len(whole) // 2 + 100],
        "zeros": bytes(len(whole)),
        "exchanged": b"".join(blocks),
        "noise": rng.randbytes(len(whole)),
        "long": whole + rng.randbytes(10_000),
    }[how]
    path.write_bytes(changed)
    _open_damaged(open_db, sound, True)
    _open_damaged(open_db, sound, False)
    with open_db(**SMALL) as db:
        _check(db, sound)
    with open_db(**SMALL) as db:
        assert db.stats().recovery.index_fault is None
        _check(db, sound)


def test_a_damaged_newest_head_never_brings_the_one_before_back(
    open_db: Open, rng: random.Random, tmp_path: Path
) -> None:
    with open_db(**SMALL) as db:
        _fill_more(db, rng)
        db._index_keeper.checkpoint()
        expected = _fill_more(db, rng)
        db._index_keeper.checkpoint()
        number = db._index_keeper._file.checkpoint.number  # type: ignore[union-attr]
        expected = _fill_more(db, rng)
        settle(db)
        crash_image(db, tmp_path / "killed")
    overwrite(tmp_path / "killed" / "INDEX", number % 2 * BLOCK + 100, b"damage")
    with open_db("killed", **SMALL) as db:
        assert "damaged" in str(db.stats().recovery.index_fault)
        _check(db, expected)


def _without_hints(path: Path) -> None:
    for hint in path.glob("*.hint"):
        hint.unlink()
    (path / "INDEX").unlink()


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_rebuild_without_hints_has_its_runs_in_files(
    open_db: Open, tmp_path: Path, io: str, is_refused: bool
) -> None:
    with open_db(**SMALL | {"segment_bytes_max": 1 << 20}) as db:
        expected = {b"%08d" % number: b"%d" % (number % 7) for number in range(100_000)}
        for key, value in expected.items():
            db[key] = value
    _without_hints(tmp_path / "db")
    system = FaultySystem()
    if is_refused:
        system.add(Fault("open_nameless", from_then_on=True, errno=28))
    options = Options(index="bptree", io=io, **SMALL)  # type: ignore[arg-type]
    with DB(tmp_path / "db", options, system) as db:
        scanned = db.stats().recovery.segments_scanned
        assert scanned > 3
        assert system.calls["open_nameless"] == scanned
        _check(db, expected)
        _pages_are_sound(db)


# -- failures


@pytest.mark.parametrize("operation", ["write_at", "allocate"])
def test_a_checkpoint_that_fails_leaves_the_one_before(
    tmp_path: Path, io: str, rng: random.Random, open_db: Open, operation: str
) -> None:
    system = FaultySystem()
    options = Options(index="bptree", io=io, index_checkpoint_bytes=1 << 30, **SMALL)  # type: ignore[arg-type]
    with DB(tmp_path / "db", options, system) as db:
        _fill_more(db, rng, 500)
        assert db._index_keeper.checkpoint()
        expected = _fill_more(db, rng, 500)
        for nth in range(1, 40):
            system.add(Fault(operation, nth=nth, errno=28, path_contains="INDEX"))
            try:
                db._index_keeper.checkpoint()
            except StoreFullError:
                crash_image(db, tmp_path / f"killed-{nth}")
            system.heal()
            db[b"between"] = expected[b"between"] = b"%d" % nth
        _check(db, expected)
        _pages_are_sound(db)
        assert db._index_keeper.checkpoint()
        _pages_are_sound(db)
    left = sorted(tmp_path.glob("killed-*"))
    assert left or operation == "allocate"
    for path in left:
        with open_db(path.name, **SMALL) as db:
            assert db.stats().recovery.index_fault is None
            assert db.verify().is_ok
            assert {**expected, b"between": b""} == {**dict(db.items()), b"between": b""}


@pytest.mark.parametrize("errno", [5, 28])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("how", ["checkpoint", "compaction", "close"])
def test_a_sync_of_the_index_that_fails_poisons(
    tmp_path: Path, rng: random.Random, open_db: Open, errno: int, nth: int, how: str
) -> None:
    system = FaultySystem()
    options = Options(index="bptree", index_checkpoint_bytes=1 << 30, **SMALL)  # type: ignore[arg-type]
    db = DB(tmp_path / "db", options, system)
    _fill_more(db, rng, 500)
    assert db._index_keeper.checkpoint()
    expected = _fill_more(db, rng, 500)
    for key in sorted(expected)[::2]:
        del db[key], expected[key]
    system.add(Fault("sync_data", nth=nth, errno=errno, path_contains="INDEX"))
    with pytest.raises(flash_kv.PoisonedError):
        {"checkpoint": db._index_keeper.checkpoint, "compaction": db.compact, "close": db.close}[how]()
    if how != "close":
        # No sync fails any more, and none is made.
        before = db._index_keeper.count
        with pytest.raises(flash_kv.PoisonedError):
            db[b"more"] = b""
        assert not db._index_keeper.checkpoint()
        assert dict(db.items()) == expected
        db.close()
        assert db._index_keeper.count == before
    with open_db(**SMALL) as left:
        assert left.stats().recovery.index_fault is None
        _check(left, expected)
        _pages_are_sound(left)


def test_parts_of_an_older_checkpoint_are_noticed(open_db: Open, rng: random.Random, tmp_path: Path) -> None:
    olds = []
    path = tmp_path / "db" / "INDEX"
    with open_db(**SMALL) as db:
        for _ in range(4):
            for number in range(1000):
                db[b"%06d" % number] = b"%d" % rng.randrange(100)
            assert db._index_keeper.checkpoint()
            olds.append(path.read_bytes())
        expected = {b"%06d" % number: b"new" for number in range(1000)}
        db.update(expected)
    whole = path.read_bytes()
    stale = failed = 0
    for old in olds:
        for start in range(2 * BLOCK, len(whole), BLOCK):
            block = old[start : start + BLOCK]
            if not any(block) or block == whole[start : start + BLOCK]:
                continue
            overwrite(path, start, block)
            stale += 1
            with open_db(**SMALL, read_only=True) as db:
                fault = db.stats().recovery.index_fault
            failed += _open_damaged(open_db, expected, True) or fault is not None
            overwrite(path, start, whole[start : start + BLOCK])
    assert stale > 20
    assert failed > stale / 4
    with open_db(**SMALL) as db:
        assert db.stats().recovery.index_fault is None
        _check(db, expected)


@pytest.mark.parametrize("is_delete", [False, True])
def test_a_version_chain_whose_page_cannot_be_changed_stays_until_it_can(
    tmp_path: Path, is_delete: bool
) -> None:
    system = FaultySystem()
    options = Options(
        index="bptree", index_checkpoint_bytes=1 << 30, **SMALL | {"index_cache_bytes": 1 << 22}
    )  # type: ignore[arg-type]
    with DB(tmp_path / "db", options, system) as db:
        expected = {b"%08d" % (number * 7919 % 10**8): b"old" for number in range(20_000)}
        db.update(expected)
        snapshot = db.snapshot()
        for key in sorted(expected)[::100]:
            if is_delete:
                del db[key], expected[key]
            else:
                db[key] = expected[key] = b"new"
        left = []

        def close_snapshot(call: Call) -> object:
            # The first pages of a checkpoint are being written, and all others wait for it.
            system.heal()
            system.add(Fault("write_at", from_then_on=True, errno=5, path_contains="INDEX"))
            snapshot.close()
            left.append(db._chain_count())
            raise OSError(5, "no answer", call.path)

        system.add(Fault("write_at", path_contains="INDEX", action=close_snapshot))
        with pytest.raises(flash_kv.StorageError):
            db._index_keeper.checkpoint()
        assert left[0] > 0
        assert dict(db.items()) == expected
        system.heal()
        db._trim_versions()
        assert db._chain_count() == 0
        assert dict(db.items()) == expected
        assert db._index_keeper.checkpoint()
        _pages_are_sound(db)
    with DB(tmp_path / "db", options) as db:
        assert db.stats().recovery.index_fault is None
        _check(db, expected)


def test_a_compaction_without_room_for_a_checkpoint_does_without_one(
    tmp_path: Path, io: str, rng: random.Random, open_db: Open
) -> None:
    def refuse(call: Call) -> object:
        raise OSError(28, "no space", call.path)

    system = FaultySystem()
    options = Options(index="bptree", io=io, **SMALL)  # type: ignore[arg-type]
    with DB(tmp_path / "db", options, system) as db:
        expected = _fill_more(db, rng, 500)
        for key in sorted(expected)[::2]:
            del db[key], expected[key]
        # Heads can be written where they are; anything else cannot.
        system.add(
            Fault(
                "write_at",
                from_then_on=True,
                path_contains="INDEX",
                action=lambda call: call.proceed() if call.arguments["offset"] <= BLOCK else refuse(call),
            )
        )
        assert db.stats().dead_bytes > 0
        db.compact()
        assert db.stats().dead_bytes == 0
        crash_image(db, tmp_path / "killed")
        _check(db, expected)
        system.heal()
    with open_db("killed", **SMALL) as db:
        assert "no checkpoint" in str(db.stats().recovery.index_fault)
        _check(db, expected)
    with open_db(**SMALL) as db:
        assert db.stats().recovery.index_fault is None
        _check(db, expected)


def test_while_the_reserve_is_given_away_the_file_does_not_grow_and_no_delete_fails(
    tmp_path: Path, io: str, rng: random.Random
) -> None:
    system = FaultySystem()
    options = Options(index="bptree", io=io, **SMALL | {"reserve_bytes": POOL})  # type: ignore[arg-type]
    with DB(tmp_path / "db", options, system) as db:
        numbers = rng.sample(range(10**6), 12_000)
        expected = {b"%06d" % number * 8: b"%d" % number for number in numbers}
        db.update(expected)
        keeper = db._index_keeper
        assert keeper.checkpoint()
        system.add(Fault("allocate", errno=28, from_then_on=True, path_contains="RESERVE"))
        with db._segments.space_lock:
            assert db._segments.reserve.release_half()
        size = (db.path / "INDEX").stat().st_size
        # Every page is changed, which is more than the pool has room for: the last checkpoint is let go of for it.
        for key in sorted(expected)[::11]:
            assert db.delete(key)
            del expected[key]
        assert keeper._file is not None
        assert keeper._file.checkpoint is None
        with db.batch() as batch:
            for key in sorted(expected)[:40]:
                batch.delete(key)
                del expected[key]
        assert db.compact().bytes_reclaimed > 0
        assert (db.path / "INDEX").stat().st_size <= size
        _check(db, expected)
        _pages_are_sound(db)
        with pytest.raises(StoreFullError):
            for number in range(100_000):
                db[b"more %08d" % number] = b""
                expected[b"more %08d" % number] = b""
        system.heal()
        # Whoever was refused had it looked whether the reserve can be whole again.
        with suppress(StoreFullError):
            db[b"again"] = b""
        db[b"again"] = expected[b"again"] = b""
        crash_image(db, tmp_path / "killed")
        _check(db, expected)
    for name in ("db", "killed"):
        with DB(tmp_path / name, options) as db:
            _check(db, expected)
            _pages_are_sound(db)


@pytest.mark.parametrize("how", ["never", "before", "beside"])
def test_a_batch_deletes_whatever_there_is_when_the_file_cannot_grow(
    tmp_path: Path, io: str, rng: random.Random, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside: while the first checkpoint is being written, which has all blocks until it fails."""
    system = FaultySystem()
    options = Options(index="bptree", io=io, index_checkpoint_bytes=1 << 30, **SMALL)  # type: ignore[arg-type]
    with DB(tmp_path / "db", options, system) as db:
        expected = _fill_more(db, rng, 500)
        keeper = db._index_keeper
        if how == "before":
            assert keeper.checkpoint()
        system.add(Fault("allocate", errno=28, from_then_on=True, path_contains="INDEX"))
        with pytest.raises(StoreFullError):
            for number in range(100_000):
                db[b"more %08d" % number] = expected[b"more %08d" % number] = b""
        deleted = sorted(expected)[::2]
        is_writing, is_refused = threading.Event(), threading.Event()
        failures: list[Exception] = []

        def refuse(call: Call) -> object:
            is_writing.set()
            assert is_refused.wait(60)
            raise OSError(28, "no space", call.path)

        def write() -> None:
            try:
                keeper.checkpoint_when_idle()
            except StoreFullError as error:
                failures.append(error)

        def make_room(number: int, attempt: int) -> bool:
            is_refused.set()
            return IndexKeeper.make_room(keeper, number, attempt)

        writer = threading.Thread(target=write)
        if how == "beside":
            monkeypatch.setattr(keeper, "make_room", make_room)
            system.add(Fault("write_at", path_contains="INDEX", action=refuse))
            writer.start()
            assert is_writing.wait(60)
        with db.batch() as batch:
            for key in deleted:
                batch.delete(key)
                del expected[key]
        if how == "beside":
            writer.join()
            assert failures
        assert keeper._file is not None
        assert keeper._file.checkpoint is None
        _check(db, expected)
        _pages_are_sound(db)
        crash_image(db, tmp_path / "killed")
        with db.batch() as batch:
            for key in expected:
                batch.delete(key)
        assert len(db) == 0
        system.heal()
        _pages_are_sound(db)
    with DB(tmp_path / "killed", options) as db:
        _check(db, expected)


def test_a_delete_beside_a_checkpoint_without_room_is_done_and_the_checkpoint_is_not(
    open_db: Open, tmp_path: Path, io: str
) -> None:
    system = FaultySystem()
    sizes = {"index_cache_bytes": 1 << 20, "segment_bytes_max": 1 << 20, "index_checkpoint_bytes": 1 << 30}
    options = Options(index="bptree", io=io, **SMALL | sizes)  # type: ignore[arg-type]
    with DB(tmp_path / "db", options, system) as db:
        expected = {b"%08d" % number: b"" for number in range(5000)}
        db.update(expected)
        keeper = db._index_keeper
        assert keeper.checkpoint()
        for number in range(0, 5000, 50):
            db[b"%08d" % number] = expected[b"%08d" % number] = b"again"
        deleted = [b"%08d" % number for number in range(25, 5000, 50)]

        def delete(call: Call) -> object:
            """No page can be written any more, and nearly all are still frozen."""
            for key in deleted:
                assert db.delete(key)
            raise OSError(28, "no space", call.path)

        system.add(Fault("write_at", path_contains="INDEX", action=delete))
        system.add(Fault("write_at", errno=28, from_then_on=True, path_contains="INDEX"))
        with pytest.raises(StoreFullError):
            keeper.checkpoint()
        for key in deleted:
            del expected[key]
        crash_image(db, tmp_path / "killed")
        system.heal()
        _check(db, expected)
        _pages_are_sound(db)
    for name in ("db", "killed"):
        with open_db(name, **SMALL) as db:
            assert db.stats().recovery.index_fault is None
            _check(db, expected)


def test_a_full_disk_is_told_as_one(tmp_path: Path, index: str, io: str) -> None:
    system = FaultySystem()
    options = Options(index="bptree", io=io, **SMALL | {"index_cache_bytes": 1 << 20})  # type: ignore[arg-type]
    with DB(tmp_path / "db", options, system) as db:
        system.add(Fault("allocate", errno=28, from_then_on=True, path_contains="INDEX"))
        written: dict[bytes, bytes] = {}
        with pytest.raises(StoreFullError):
            for number in range(100_000):
                key = b"%08d" % (number * 7919 % 10**8)
                db[key] = written[key] = b""
        assert len(written) > 1000
        assert dict(db.items()) == written
        for key in list(written)[::2]:
            del db[key], written[key]
        system.heal()
        _check(db, written)
        db[b"more"] = b""
        _pages_are_sound(db)


def test_a_store_that_is_poisoned_writes_no_checkpoint(tmp_path: Path, io: str, open_db: Open) -> None:
    system = FaultySystem()
    options = Options(index="bptree", io=io, **SMALL)  # type: ignore[arg-type]
    db = DB(tmp_path / "db", options, system)
    db[b"kept"] = b""
    db.sync()
    assert db._index_keeper.checkpoint()
    db[b"lost, or not"] = b""
    system.add(Fault("sync_data", errno=5, from_then_on=True, path_contains=".seg"))
    with pytest.raises(flash_kv.PoisonedError):
        db._index_keeper.checkpoint()
    assert db[b"kept"] == b""
    with pytest.raises(flash_kv.PoisonedError):
        db[b"more"] = b""
    system.heal()
    lsn = db._index_keeper._file.checkpoint.lsn  # type: ignore[union-attr]
    assert lsn == 1
    db.close()
    with open_db(**SMALL) as left:
        assert left.stats().recovery.index_fault is None
        assert left[b"kept"] == b""

"""An open after a kill: what is whole needs no sync before the open returns, and is sealed in the background.

The process dies with its descriptors: `_let_go` without a close, which seals and syncs nothing.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from flash_kv import DB, Options
from flash_kv.engine.durability import SyncKeeper
from flash_kv.engine.maintenance import Maintenance
from flash_kv.engine.store_cy import CLOSED
from flash_kv.engine.sync_gate_cy import SyncGate
from flash_kv.io.crash import CrashSystem
from flash_kv.io.disk_image import RandomChooser, write_image
from flash_kv.io.system import System
from flash_kv.log.manifest import read_manifest
from flash_kv.log.names import parse
from flash_kv.options import parse_durability
from flash_kv.torture.journal import Journal, Violation
from flash_kv.torture.stepped import UNSYNCED, open_stepped
from support.waiting import wait_until


class CountingSystem(System):
    """The real one, which counts the calls that wait for the disk."""

    def __init__(self) -> None:
        self.syncs = 0

    def sync_data(self, fd: int) -> None:
        self.syncs += 1
        super().sync_data(fd)

    def sync_file(self, fd: int) -> None:
        self.syncs += 1
        super().sync_file(fd)

    def sync_directory(self, path: Any) -> None:
        self.syncs += 1
        super().sync_directory(path)


def options_of(**chosen: Any) -> Options:
    return Options(**{"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off", **chosen})


def die(db: DB) -> None:
    """What the end of its process does to a store."""
    db._let_go()
    db._set_state(CLOSED, True)


def killed(path: Path, count: int = 20, **chosen: Any) -> dict[bytes, bytes]:
    """A store whose process died; what is in it, partly in a segment that is full."""
    content = {b"key %03d" % number: b"%d" % number * 3000 for number in range(count)}
    db = open_stepped(path, options_of(**chosen), UNSYNCED)
    for key, value in content.items():
        db.put(key, value)
    die(db)
    return content


def sealed_segments(path: Path) -> list[bool]:
    manifest = read_manifest(UNSYNCED, path)
    return [entry.sealed_bytes is not None for entry in manifest.segments]


def hints(path: Path) -> int:
    found = [parse(file.name) for file in path.iterdir()]
    return sum(one is not None and one.kind == "hint" for one in found)


def test_an_open_waits_for_no_sync(tmp_path: Path, index: str, io: str) -> None:
    path = tmp_path / "db"
    content = killed(path)
    system = CountingSystem()
    db = open_stepped(path, options_of(index=index, io=io), system)
    assert system.syncs == 0
    assert dict(db.items()) == content
    assert sealed_segments(path) == [False, False]
    assert not db.stats().recovery.was_clean
    db._maintain(False, False)
    assert sealed_segments(path) == [True, True]
    assert hints(path) == 2
    assert dict(db.items()) == content
    db.close()


def test_the_background_seals_without_a_write(tmp_path: Path, index: str) -> None:
    path = tmp_path / "db"
    content = killed(path)
    with DB(path, options_of(index=index), UNSYNCED) as db:
        wait_until(lambda: sealed_segments(path) == [True, True] and hints(path) == 2)
        assert dict(db.items()) == content


def test_a_close_seals_what_the_background_has_not(tmp_path: Path, index: str, io: str) -> None:
    path = tmp_path / "db"
    content = killed(path)
    open_stepped(path, options_of(index=index, io=io), UNSYNCED).close()
    assert sealed_segments(path) == [True, True]
    with DB(path, options_of(index=index, io=io), UNSYNCED) as db:
        assert db.stats().recovery.was_clean
        assert dict(db.items()) == content


def test_an_open_needs_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "db"
    content = killed(path)

    def refuse(self: Maintenance) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Maintenance, "_start", refuse)
    db = DB(path, options_of(), UNSYNCED)
    assert dict(db.items()) == content
    db.close()
    assert sealed_segments(path) == [True, True]


def test_an_open_that_is_interrupted_at_its_end_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "db"
    content = killed(path)
    wake = Maintenance.wake
    started: list[Maintenance] = []

    def wake_and_interrupt(self: Maintenance) -> None:
        wake(self)
        started.append(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Maintenance, "wake", wake_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            DB(path, options_of(), UNSYNCED)
    assert started[0]._has_ended
    with DB(path, options_of(), UNSYNCED) as db:
        assert dict(db.items()) == content


def test_a_spare_that_was_never_used_goes_in_the_background(tmp_path: Path) -> None:
    path = tmp_path / "db"
    db = open_stepped(path, options_of(), UNSYNCED)
    db.put("key", b"v" * 40_000)
    db._segments.prepare_spare()
    assert db._segments.spare is not None
    die(db)
    db = open_stepped(path, options_of(), UNSYNCED)
    db._maintain(False, False)
    assert sealed_segments(path) == [True]
    assert len(list(path.glob("*.seg"))) == 1
    assert db["key"] == b"v" * 40_000
    db.close()


def test_nothing_is_left_to_the_background_behind_a_torn_tail(tmp_path: Path, index: str) -> None:
    # What is written next would be taken for lost together with the tail, were that still there after a crash.
    path = tmp_path / "db"
    content = killed(path, count=3)
    (segment,) = path.glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(len(segment.read_bytes().rstrip(b"\0")) + 64)
        file.write(b"torn")
    db = open_stepped(path, options_of(index=index), UNSYNCED)
    assert db.stats().recovery.torn_tail_bytes > 0
    assert sealed_segments(path) == [True]
    assert dict(db.items()) == content
    db.close()


def test_a_sync_covers_what_was_there_before_the_open(tmp_path: Path, index: str, io: str) -> None:
    path = tmp_path / "db"
    killed(path)
    system = CountingSystem()
    db = open_stepped(path, options_of(index=index, io=io), system)
    assert db.stats().synced_lsn < db.stats().lsn == 20
    db.sync()
    assert system.syncs == 2
    assert db.stats().synced_lsn == 20
    db.close()


def test_bytes_at_risk_before_the_open_count_for_the_next_sync(tmp_path: Path, io: str) -> None:
    path = tmp_path / "db"
    killed(path, durability=("bytes", 100_000))
    system = CountingSystem()
    db = open_stepped(path, options_of(io=io, durability=("bytes", 100_000)), system)
    before = db.stats().synced_lsn
    db.put("key", b"v" * 45_000)
    assert db.stats().synced_lsn == db.stats().lsn > before
    db.close()


def test_kills_one_after_another(tmp_path: Path, index: str, io: str, rng: random.Random) -> None:
    path = tmp_path / "db"
    expected: dict[bytes, bytes] = {}
    for life in range(6):
        db = open_stepped(path, options_of(index=index, io=io), UNSYNCED)
        assert dict(db.items()) == expected
        for _ in range(rng.randint(0, 12)):
            key = b"key %d" % rng.randrange(20)
            db.put(key, b"%d " % life * rng.randrange(3000))
            expected[key] = db[key]
        if rng.random() < 0.3:
            db._maintain(False, True)
        if rng.random() < 0.3:
            db.compact()
        die(db)
    with DB(path, options_of(index=index, io=io), UNSYNCED) as db:
        assert dict(db.items()) == expected
        assert db.verify().is_ok


def power_cuts_after_a_kill(
    tmp_path: Path, rng: random.Random, *, syncs_first: bool, **chosen: Any
) -> list[Violation]:
    """What the judge says of power cuts in the second life of a store whose first ended in a kill, nothing synced."""
    options = options_of(**chosen)
    reading = options_of(read_only=True, create=False, **chosen)
    journal = Journal({}, parse_durability(options.durability))
    wrong: list[Violation] = []
    root, image_root = tmp_path / "root", tmp_path / "image"
    root.mkdir()

    def look(moment: str) -> None:
        system.disk.note()
        if not is_watched:
            return
        write_image(system.disk.choose(RandomChooser(rng, rng.choice((0.0, 0.5, 0.9)))), image_root)
        with DB(image_root / "db", reading, UNSYNCED) as found:
            violation = journal.judge(dict(found.items()), journal.durable)
        wrong.extend([violation] if violation else [])
        shutil.rmtree(image_root)

    def commit(db: DB, number: int) -> None:
        journal.begin({b"%d" % number: b"%d" % number * 3000})
        db.put(b"%d" % number, b"%d" % number * 3000)
        journal.acknowledge()

    is_watched = False
    with CrashSystem(root, seed=rng.randrange(2**32), watch=look) as system:
        db = open_stepped(root / "db", options, system)
        for number in range(24):
            commit(db, number)
        die(db)
        is_watched = True
        db = open_stepped(root / "db", options, system)
        if syncs_first:
            db.sync()
            journal.make_durable()
            for _ in range(10):
                look("synced")
        for number in range(24, 30):
            commit(db, number)
            look("after a commit")
        db.sync()
        journal.make_durable()
        for number in range(30, 33):
            commit(db, number)
            look("after a commit")
        db._maintain(False, False)
        look("sealed")
        is_watched = False
        db.close()
    return wrong


@pytest.mark.parametrize(
    ("durability", "syncs_first"), [("process", False), ("process", True), ("always", False)]
)
def test_a_power_cut_after_an_open_after_a_kill(
    tmp_path: Path, index: str, durability: Any, syncs_first: bool, rng: random.Random
) -> None:
    wrong = power_cuts_after_a_kill(
        tmp_path, rng, syncs_first=syncs_first, index=index, durability=durability
    )
    assert wrong == []


def test_what_a_kill_has_left_must_not_count_as_synced(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge is judged: the test before has to notice that."""

    def begin_at(self: SyncKeeper, lsn: int) -> None:
        self._gate = SyncGate(self.store._log_end()[4])

    monkeypatch.setattr(SyncKeeper, "begin_at", begin_at)
    assert {one.kind for one in power_cuts_after_a_kill(tmp_path, rng, syncs_first=True)} == {"lost"}

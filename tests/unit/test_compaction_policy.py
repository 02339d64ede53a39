"""The background compaction: when it starts by itself, and when it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from flash_kv import DB
from flash_kv.engine import maintenance
from support.waiting import wait_until

OpenDB = Callable[..., DB]
WATCHFUL: dict[str, Any] = {
    "segment_bytes_max": 65536,
    "reserve_bytes": 0,
    "compaction_interval_s": 0.01,
    "compaction_dead_bytes": 0,
    "compaction_segment_bytes_min": 0,
}
pytestmark = pytest.mark.parametrize(
    ("index", "io"), [("btree", "mmap"), ("hash", "file"), ("skiplist", "mmap")]
)


def fill(db: DB, count: int = 1500, size: int = 200) -> list[bytes]:
    names = [b"%05d" % number for number in range(count)]
    for name in names:
        db.put(name, bytes(size))
    return names


def is_quiet(db: DB, seconds: float = 0.3) -> bool:
    """Whether no compaction happens for a while."""
    before = db.stats().compactions
    time.sleep(seconds)
    return db.stats().compactions == before


def dead_bytes_of_sealed(db: DB) -> int:
    return sum(one.dead_bytes for one in db.stats().segment_stats if one.is_sealed)


def test_dead_bytes_come_back_by_themselves(open_db: OpenDB) -> None:
    db = open_db(**WATCHFUL, compaction_dead_ratio=0.3)
    names = fill(db, 5000)
    most = db.stats().disk_bytes
    db.delete_many(names[: len(names) * 3 // 4])
    wait_until(lambda: db.stats().disk_bytes < most / 2)
    assert list(db.get_many(names[-3:])) == [bytes(200)] * 3
    assert len(db) == len(names) // 4


def test_ratio_below_the_limit_is_left_alone(open_db: OpenDB) -> None:
    db = open_db(**WATCHFUL, compaction_dead_ratio=0.5)
    names = fill(db)
    for name in names[::5]:
        db[name] = bytes(200)
    assert is_quiet(db)
    for name in names[1::5] + names[2::5] + names[3::5]:
        db[name] = bytes(200)
    wait_until(lambda: db.stats().compactions > 0)


def test_few_dead_bytes_are_left_alone(open_db: OpenDB) -> None:
    db = open_db(**{**WATCHFUL, "compaction_dead_bytes": 10_000_000}, compaction_dead_ratio=0.01)
    names = fill(db)
    for name in names:
        db[name] = bytes(200)
    assert is_quiet(db)


def test_off_means_only_by_hand(open_db: OpenDB) -> None:
    db = open_db(**WATCHFUL, compaction="off", compaction_dead_ratio=0.01)
    names = fill(db)
    for name in names:
        db[name] = bytes(200)
    assert is_quiet(db)
    assert db.compact().bytes_reclaimed > 0


def test_small_segments_are_merged(open_db: OpenDB) -> None:
    options = {**WATCHFUL, "compaction_segment_bytes_min": 32768}
    for number in range(12):
        with open_db(**WATCHFUL, compaction="off") as db:
            db[b"%d" % number] = bytes(100)
    assert len(list(db.path.glob("*.seg"))) == 12
    db = open_db(**options)
    db[b"start"] = b""
    wait_until(lambda: db.stats().compactions > 0)
    assert db.stats().segments <= 2
    assert len(db) == 13
    assert is_quiet(db)


def test_few_small_segments_are_not_worth_it(open_db: OpenDB) -> None:
    for number in range(4):
        with open_db(**WATCHFUL, compaction="off") as db:
            db[b"%d" % number] = bytes(100)
    db = open_db(**{**WATCHFUL, "compaction_segment_bytes_min": 32768})
    db[b"start"] = b""
    assert is_quiet(db)


@pytest.mark.parametrize(
    ("window", "hour", "is_inside"),
    [
        (None, 3, True),
        ((2, 5), 1, False),
        ((2, 5), 2, True),
        ((2, 5), 4, True),
        ((2, 5), 5, False),
        ((22, 6), 21, False),
        ((22, 6), 22, True),
        ((22, 6), 0, True),
        ((22, 6), 5, True),
        ((22, 6), 6, False),
    ],
)
def test_window_is_hours_of_the_day_start_included_end_not(
    monkeypatch: pytest.MonkeyPatch, index: str, io: str, window: Any, hour: int, is_inside: bool
) -> None:
    moment = time.struct_time((2026, 1, 1, hour, 30, 0, 0, 1, 0))
    monkeypatch.setattr(time, "localtime", lambda *_: moment)
    assert maintenance.is_within(window) is is_inside


def test_outside_the_window_nothing_is_compacted(open_db: OpenDB) -> None:
    later = (time.localtime().tm_hour + 2) % 24
    db = open_db(**WATCHFUL, compaction_dead_ratio=0.01, compaction_window=(later, (later + 1) % 24))
    for _ in range(3):
        fill(db)
    assert dead_bytes_of_sealed(db) > 0
    assert is_quiet(db)
    assert db.compact().bytes_reclaimed > 0


def test_rate_limit_slows_it_down_and_close_does_not_wait_for_it(open_db: OpenDB) -> None:
    db = open_db(**WATCHFUL, compaction_dead_ratio=0.01, compaction_rate_bytes_per_s=100_000)
    names = fill(db)
    while dead_bytes_of_sealed(db) < 800_000:
        fill(db)
    time.sleep(0.5)
    # At this rate it takes ten seconds and more.
    assert dead_bytes_of_sealed(db) > 200_000
    started = time.monotonic()
    db.close()
    assert time.monotonic() - started < 8
    with open_db(compaction="off") as reopened:
        assert len(reopened) == len(names)


def test_rate_limit_is_not_for_a_compaction_by_hand(open_db: OpenDB) -> None:
    db = open_db(**WATCHFUL, compaction="off", compaction_rate_bytes_per_s=1000)
    for _ in range(3):
        fill(db)
    started = time.monotonic()
    db.compact()
    # At that rate it would take a quarter of an hour.
    assert time.monotonic() - started < 60


def test_churn_for_a_while_keeps_the_disk_bounded(open_db: OpenDB) -> None:
    db = open_db(**WATCHFUL, compaction_dead_ratio=0.5)
    names = fill(db, 300)
    live = db.stats().live_bytes
    for _ in range(60):
        db.put_many((name, bytes(200)) for name in names)
        db.delete_many(names[::2])
        db.put_many((name, bytes(200)) for name in names[::2])
        time.sleep(0.002)
    wait_until(lambda: db.stats().disk_bytes < 6 * live + 300_000)
    assert len(db) == 300


def test_queue_whose_items_are_deleted_leaves_nothing_behind(open_db: OpenDB) -> None:
    db = open_db(**WATCHFUL, compaction_dead_ratio=0.3)
    for number in range(8000):
        db[b"%08d" % number] = bytes(100)
        if number >= 10:
            del db[b"%08d" % (number - 10)]
    assert len(db) == 10
    wait_until(lambda: db.stats().disk_bytes < 600_000)
    assert len(list(db)) == 10

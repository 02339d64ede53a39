"""Every allocation of Python's own fails once, in turn: an error is raised, no lock is kept, nothing is half done.

The allocations of the compiled modules have a sweep of their own (test_failing_calls.py). What is counted here are the
objects that calls make: numbers, tuples, exceptions, values that are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flash_kv import DB, Options
from flash_kv.torture.apart import each_apart
from flash_kv.torture.stepped import UNSYNCED, open_stepped
from support.stores import crash_image

_testcapi = pytest.importorskip("_testcapi", reason="this Python cannot refuse single allocations")

IS_EVERY_ONE_TRIED = os.environ.get("FLASH_KV_TEST_FAULTS") == "all"
# More than any of these calls makes.
ALLOCATIONS_MAX = 100_000
DEADLINE_S = 300

Content = dict[bytes, bytes]


def _batch(db: DB) -> None:
    with db.batch() as batch:
        for number in range(5):
            batch.put(b"batch %d" % number, b"new")
        batch.delete(b"key 3")


def _look_into_snapshot(db: DB) -> None:
    with db.snapshot() as snapshot:
        snapshot.get(b"key 1")
        list(snapshot)


def _scan(db: DB) -> None:
    list(db.items())


def _background(db: DB) -> None:
    db._maintain(True, True)
    # The next write is told what has failed.
    db.delete(b"absent")


WRITES: dict[str, Callable[[DB], Any]] = {
    "put": lambda db: db.put(b"put", b"1" * 100),
    "put of a large value": lambda db: db.put(b"large", b"2" * 20_000),
    "delete": lambda db: db.delete(b"key 2"),
    "put_many": lambda db: db.put_many([(b"many %d" % number, b"3") for number in range(5)]),
    "delete_many": lambda db: db.delete_many([b"key 7", b"key 8"]),
    "batch": _batch,
    "pop": lambda db: db.pop(b"key 4", None),
    "setdefault": lambda db: db.setdefault(b"default", b"4"),
}
OTHERS: dict[str, Callable[[DB], Any]] = {
    "get": lambda db: db[b"key 5"],
    "get_many": lambda db: db.get_many([b"key 5", b"key 6", b"absent"]),
    "scan": _scan,
    "snapshot": _look_into_snapshot,
    "sync": lambda db: db.sync(),
    "background": _background,
    "compact": lambda db: db.compact(),
    "stats": lambda db: db.stats(),
}


def _content(db: DB) -> Content:
    return dict(db.items())


def _sweep(db: DB, call: Callable[[DB], Any], *, is_write: bool, is_waiting: bool) -> int:
    """Repeat the call with one allocation more each time, until it passes; how many have failed.

    A call that `is_waiting` for a sync has written already: then what it does is there, all of it.
    """
    failed = 0
    error: BaseException | None = None
    number = 0
    while number < ALLOCATIONS_MAX:
        number += 1 if IS_EVERY_ONE_TRIED else 1 + number // 5
        if is_write:
            # In some rounds it has to make room.
            db.put(b"filler", bytes(30_000))
        before = _content(db)
        error = None
        _testcapi.set_nomemory(number, number + 1)
        try:
            call(db)
        except BaseException as caught:
            error = caught
        finally:
            _testcapi.remove_mem_hooks()
        if error is None:
            return failed
        failed += 1
        # Not only MemoryError: some of Python's own functions put another in its place.
        found = _content(db)
        if found != before:
            assert is_waiting, f"allocation {number}: {error!r}, and something has changed"
            call(db)
            assert _content(db) == found, f"allocation {number}: {error!r}, and a part has changed"
            db.delete_many([key for key in found if key not in before])
            db.update({key: value for key, value in before.items() if found.get(key) != value})
    raise AssertionError(f"it does not pass with {ALLOCATIONS_MAX} allocations: {error!r}")


@pytest.mark.parametrize("io", ["mmap", "file"])
@pytest.mark.parametrize("durability", ["process", "always"])
def test_any_allocation_of_an_object_may_fail(tmp_path: Path, index: str, io: Any, durability: Any) -> None:
    options = Options(index=index, io=io, durability=durability, segment_bytes_max=65536, reserve_bytes=0)

    def sweep_all(piece: int) -> dict[str, int]:
        path = tmp_path / f"{piece}"
        path.mkdir()
        db = open_stepped(path / "db", options, UNSYNCED)
        for number in range(20):
            db.put(b"key %d" % number, b"%d" % number * 50)
        failed = {}
        for name, call in {**WRITES, **OTHERS}.items():
            failed[name] = _sweep(db, call, is_write=name in WRITES, is_waiting=durability == "always")
        found = _content(db)
        db._segments.release_retired()
        # What was replaced, and is forgotten here, would keep all tombstones.
        assert set(db._segments.open) == set(db._segments.entries)
        with DB(crash_image(db, path / "killed"), Options()) as killed:
            assert _content(killed) == found
        db.close()
        with DB(path / "db", Options()) as again:
            assert _content(again) == found
            assert again.verify().damages == ()
        return failed

    ((_, failed, end),) = each_apart(sweep_all, [0], deadline_s=DEADLINE_S)
    # An end by the deadline is a lock that was kept.
    assert end == ""
    assert failed is not None
    assert failed["scan"] > 3
    assert failed["put_many"] > 3
    assert failed["background"] > 3

"""Threads interrupted at chosen points: what they see and leave is what some one order of their operations would.

`flash-kv torture --only schedules` tries more of them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from flash_kv import DB
from flash_kv.engine.segment_set import SegmentSet
from flash_kv.log.segment import Segment
from flash_kv.torture.linear import Operation, is_explained
from flash_kv.torture.schedules import ScheduleRun
from flash_kv.torture.settings import Settings
from flash_kv.torture.turns import BLOCKED_S, PointSystem, Turns

SECONDS = 6.0


# Turns


def logging_calls(turns: Turns, log: list[str]) -> list[Callable[[], None]]:
    def call(name: str) -> None:
        for step in range(3):
            turns.point("step")
            log.append(f"{name}{step}")

    return [lambda: call("a"), lambda: call("b")]


@pytest.mark.parametrize(
    ("switches", "order"),
    [
        ((), "a0 a1 a2 b0 b1 b2"),
        ((0,), "b0 b1 b2 a0 a1 a2"),
        ((2,), "a0 b0 b1 b2 a1 a2"),
        ((2, 4), "a0 b0 a1 a2 b1 b2"),
    ],
)
def test_another_thread_takes_over_where_the_schedule_says(switches: tuple[int, ...], order: str) -> None:
    turns, log = Turns(switches), []
    turns.run(logging_calls(turns, log))
    assert turns.errors == []
    assert " ".join(log) == order


def test_who_waits_for_a_lock_lets_its_holder_run() -> None:
    turns, lock, log = Turns((1,)), threading.Lock(), []

    def hold(name: str) -> None:
        with lock:
            turns.point("locked")
            log.append(name)

    turns.run([lambda: hold("a"), lambda: hold("b")])
    assert log == ["a", "b"]


def test_what_a_thread_raises_is_kept_and_the_others_go_on() -> None:
    turns, log = Turns(()), []

    def fail() -> None:
        raise RuntimeError("on purpose")

    turns.run([fail, lambda: log.append("other")])
    assert log == ["other"]
    assert [str(error) for error in turns.errors] == ["on purpose"]


def test_a_thread_that_takes_no_turns_passes_points(tmp_path: Path) -> None:
    system = PointSystem(Turns(()))
    system.make_directory(tmp_path / "d")
    system.sync_directory(tmp_path / "d")
    assert BLOCKED_S < 1


# The judge


def put(value: bytes, began: int, ended: int) -> Operation:
    return Operation("put", began, ended, {b"k": value})


def get(value: bytes | None, began: int, ended: int) -> Operation:
    return Operation("get", began, ended, seen={b"k": value})


@pytest.mark.parametrize("seen", [b"old", b"new"])
def test_a_read_that_overlaps_a_write_sees_old_or_new(seen: bytes) -> None:
    assert is_explained([[put(b"new", 0, 3)], [get(seen, 1, 2)]], {b"k": b"old"}, {b"k": b"new"})


@pytest.mark.parametrize(
    ("threads", "last"),
    [
        ([[put(b"new", 0, 1)], [get(b"old", 2, 3)]], b"new"),
        ([[put(b"new", 2, 3)], [get(b"new", 0, 1)]], b"new"),
        ([[put(b"new", 0, 5)], [get(b"new", 1, 2), get(b"old", 3, 4)]], b"new"),
        ([[put(b"new", 0, 5)], [get(b"other", 1, 2)]], b"new"),
        ([[put(b"new", 0, 1)]], b"old"),
        ([[put(b"a", 0, 1), put(b"b", 2, 3)]], b"a"),
    ],
)
def test_what_no_order_explains_is_found(threads: list[list[Operation]], last: bytes) -> None:
    assert not is_explained(threads, {b"k": b"old"}, {b"k": last})


def test_a_scan_is_one_moment() -> None:
    batch = Operation("batch", 0, 3, {b"a": b"2", b"b": b"2"})
    first, last = {b"a": b"1", b"b": b"1"}, {b"a": b"2", b"b": b"2"}
    for seen, is_right in ((first, True), (last, True), ({b"a": b"1", b"b": b"2"}, False)):
        assert is_explained([[batch], [Operation("scan", 1, 2, seen_all=seen)]], first, last) is is_right


# Schedules


def test_no_schedule_of_chance_breaks_a_promise(tmp_path: Path, rng: random.Random) -> None:
    ends = time.monotonic() + SECONDS
    count = 0

    def is_over() -> bool:
        return count > 20 and time.monotonic() > ends

    while not is_over():
        run = ScheduleRun(rng.randrange(2**31), Settings(), tmp_path / "scratch", is_over=is_over)
        count += run.run().schedules
        assert [str(failure) for failure in run.tally.failures] == []


def test_every_single_switch_of_one_history(tmp_path: Path) -> None:
    run = ScheduleRun(1, Settings(io="mmap", index="btree", durability="process"), tmp_path / "scratch")
    assert sum(1 for _ in run.every(1)) > 30
    assert [str(failure) for failure in run.tally.failures] == []


def test_every_schedule_of_a_short_history_with_three_switches(open_db: Callable[..., DB]) -> None:
    """Not a store's histories but its hardest moment: a key written, deleted and read while it is compacted."""
    tried = 0
    for switches in _combinations(points=7, most=3):
        turns = Turns(switches)
        db = open_db(f"db{tried}", segment_bytes_max=65536, reserve_bytes=0, compaction="off")
        db.put_many({b"k": b"old" * 1000, b"dead": b""})
        db.put_many({b"dead": b"again"})
        done: list[list[Operation]] = [[], []]
        turns.run([*_short_programs(db, turns, done), lambda db=db: _compact(db, turns)])  # type: ignore[misc]
        last = dict(db.items())
        assert turns.errors == []
        assert is_explained(done, {b"k": b"old" * 1000, b"dead": b"again"}, last), switches
        db.close()
        with open_db(f"db{tried}") as reopened:
            assert dict(reopened.items()) == last, switches
        tried += 1
    assert tried == 1 + 7 + 21 + 35


def _combinations(points: int, most: int) -> list[tuple[int, ...]]:
    return [switches for count in range(most + 1) for switches in combinations(range(points), count)]


def _compact(db: DB, turns: Turns) -> None:
    turns.point("compact")
    db.compact(progress=lambda progress: turns.point("step"))


def _short_programs(db: DB, turns: Turns, done: list[list[Operation]]) -> list[Callable[[], None]]:
    clock = iter(range(1000))

    def write() -> None:
        for value in (b"new", None):
            turns.point("write")
            operation = Operation("write", next(clock), 0, {b"k": value})
            db.delete(b"k") if value is None else db.put(b"k", value)
            operation.ended = next(clock)
            done[0].append(operation)

    def read() -> None:
        for _ in range(2):
            turns.point("read")
            began = next(clock)
            seen = db.get(b"k")
            done[1].append(get(seen, began, next(clock)))

    return [write, read]


def _install_without_looking(install: Callable[..., None]) -> Callable[..., None]:
    def broken(segments: SegmentSet, outputs: list[Segment], inputs: list[Segment]) -> None:
        install(segments, outputs, inputs)
        for segment in inputs:
            # A mapping that goes while a snapshot still needs it.
            segments.store._unregister(segment.segment_id)

    return broken


BREAKAGES: dict[str, tuple[object, str, Any]] = {
    "segments go while a snapshot needs them": (
        SegmentSet,
        "install",
        _install_without_looking(SegmentSet.install),
    ),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_a_broken_engine_is_noticed(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, replacement = BREAKAGES[what]
    monkeypatch.setattr(owner, name, replacement)
    for seed in range(20):
        run = ScheduleRun(seed, Settings(), tmp_path / "scratch")
        if not run.run().is_ok:
            return
    pytest.fail(f"{what}: not noticed")

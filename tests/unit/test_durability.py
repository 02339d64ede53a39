"""When commits are synced: never, at once, by the clock, by size; who shares a sync; what a failed one does."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flash_kv import DB, Options, PoisonedError
from flash_kv.io.faulty import Fault, FaultySystem
from flash_kv.io.system import System
from support.threads import call_together
from support.waiting import wait_until

Syncs = Callable[[], int]
pytestmark = pytest.mark.usefixtures("real_syncs")


class CountingSystem(System):
    """The real one, which counts the syncs of segments and can make them slow."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.syncs = 0
        self.delay_s = delay_s
        self._lock = threading.Lock()

    def sync_data(self, fd: int) -> None:
        with self._lock:
            self.syncs += 1
        if self.delay_s:
            time.sleep(self.delay_s)
        super().sync_data(fd)


@pytest.fixture
def system() -> CountingSystem:
    return CountingSystem()


@pytest.fixture
def opened(tmp_path: Path, index: str, io: str, system: CountingSystem) -> Iterator[Callable[..., DB]]:
    """Opens stores through the counting system."""
    stores: list[DB] = []

    def open_one(name: str = "db", system: System = system, **options: Any) -> DB:
        chosen = Options.from_kwargs(index=index, io=io, reserve_bytes=0, compaction="off", **options)
        stores.append(DB(tmp_path / name, chosen, system=system))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def test_process_durability_never_syncs_by_itself(opened: Callable[..., DB], system: CountingSystem) -> None:
    db = opened()
    for number in range(100):
        db[b"%d" % number] = b""
    assert system.syncs == 0
    assert db.stats().syncs == 0
    assert db.stats().synced_lsn < db.stats().lsn


def test_sync_makes_everything_durable_in_one(opened: Callable[..., DB], system: CountingSystem) -> None:
    db = opened()
    db.update({b"a": b"1", b"b": b"2"})
    db.sync()
    assert system.syncs == 1
    assert db.stats().synced_lsn == db.stats().lsn == 2
    db.sync()
    assert system.syncs == 1
    db[b"c"] = b"3"
    db.sync()
    assert system.syncs == 2


def test_sync_of_an_empty_store_does_nothing(opened: Callable[..., DB], system: CountingSystem) -> None:
    opened().sync()
    assert system.syncs == 0


def test_always_has_synced_when_a_write_returns(opened: Callable[..., DB], system: CountingSystem) -> None:
    db = opened(durability="always")
    writes: list[Callable[[], object]] = [
        lambda: db.put(b"a", b"1"),
        lambda: db.__setitem__(b"b", b"2"),
        lambda: db.put_many([(b"c", b"3"), (b"d", b"4")]),
        lambda: db.update({b"e": b"5"}),
        lambda: db.setdefault(b"f", b"6"),
        lambda: db.delete(b"a"),
        lambda: db.pop(b"b"),
        lambda: db.popitem(),
        lambda: db.delete_many([b"c", b"d"]),
        lambda: db.batch().__enter__().put(b"g", b"7"),
        lambda: db.clear(),
    ]
    for number, write in enumerate(writes):
        before = system.syncs
        write()
        if number != 9:
            assert system.syncs == before + 1, number
            assert db.stats().synced_lsn == db.stats().lsn


def test_always_does_not_sync_when_nothing_was_written(
    opened: Callable[..., DB], system: CountingSystem
) -> None:
    db = opened(durability="always")
    db[b"a"] = b"1"
    before = system.syncs
    db.delete(b"x")
    db.pop(b"x", None)
    db.setdefault(b"a", b"2")
    db.delete_many([b"x", b"y"])
    db.put_many([])
    db.get(b"a")
    assert system.syncs == before


def test_only_segments_with_something_new_are_synced(
    opened: Callable[..., DB], system: CountingSystem
) -> None:
    db = opened(durability="always", segment_bytes_max=65536)
    for number in range(300):
        before = system.syncs
        db.put(b"%d" % number, bytes(800))
        # One, and where the background thread has not yet sealed the segment before, that one too.
        assert system.syncs - before <= 3
    assert system.syncs < 330


def test_batch_may_ask_for_more_than_its_store(opened: Callable[..., DB], system: CountingSystem) -> None:
    db = opened()
    with db.batch(durability="always") as batch:
        batch.put(b"a", b"1")
    assert system.syncs == 1
    with db.batch() as batch:
        batch.put(b"b", b"2")
    assert system.syncs == 1


def test_batch_may_ask_for_less_than_its_store(opened: Callable[..., DB], system: CountingSystem) -> None:
    db = opened(durability="always")
    with db.batch(durability="process") as batch:
        batch.put(b"a", b"1")
    assert system.syncs == 0
    with db.batch() as batch:
        batch.put(b"b", b"2")
    assert system.syncs == 1


def test_interval_of_a_batch_is_kept_in_a_store_without(
    opened: Callable[..., DB], system: CountingSystem
) -> None:
    db = opened()
    with db.batch(durability=("interval", 0.05)) as batch:
        batch.put(b"a", b"1")
    wait_until(lambda: db.stats().synced_lsn == 1)
    assert system.syncs == 1


def test_bytes_sync_after_that_many(opened: Callable[..., DB], system: CountingSystem) -> None:
    db = opened(durability=("bytes", 10_000))
    for number in range(100):
        db[b"%03d" % number] = bytes(1000)
    assert 9 <= system.syncs <= 11
    assert db.stats().lsn - db.stats().synced_lsn <= 10


def test_bytes_count_batches_too(opened: Callable[..., DB], system: CountingSystem) -> None:
    db = opened(durability=("bytes", 10_000))
    db.put_many((b"%03d" % number, bytes(1000)) for number in range(5))
    assert system.syncs == 0
    db.put_many((b"%03d" % number, bytes(1000)) for number in range(5))
    assert system.syncs == 1


def test_bytes_take_the_write_back_whose_sync_failed(opened: Callable[..., DB], tmp_path: Path) -> None:
    system = FaultySystem(Fault("sync_data"))
    db = opened("failing", system=system, durability=("bytes", 3000))
    db[b"before"] = bytes(1000)
    with pytest.raises(PoisonedError) as caught:
        db[b"refused"] = bytes(2500)
    assert not caught.value.is_in_doubt
    assert [*db] == [b"before"]
    db.close()
    assert [*opened("failing")] == [b"before"]


@pytest.mark.parametrize("io", ["file"])
@pytest.mark.parametrize("refused", ["write_at", "read_at"])
def test_a_write_that_cannot_be_taken_back_is_said_to_be_in_doubt(
    opened: Callable[..., DB], refused: str
) -> None:
    system = FaultySystem()
    db = opened("failing", system=system, durability="always")
    db[b"before"] = b"1"
    # The record itself is written; then the sync fails, and what should take it back.
    system.add(Fault("sync_data"), Fault(refused, nth=2 if refused == "write_at" else 1))
    with pytest.raises(PoisonedError, match="could not be taken back") as caught:
        db[b"in doubt"] = b"2"
    assert caught.value.is_in_doubt
    assert db[b"before"] == b"1"


def test_interval_syncs_by_the_clock_while_there_is_something(
    opened: Callable[..., DB], system: CountingSystem
) -> None:
    db = opened(durability=("interval", 0.05))
    db[b"a"] = b"1"
    wait_until(lambda: db.stats().synced_lsn == 1)
    count = system.syncs
    time.sleep(0.2)
    assert system.syncs == count
    started = time.monotonic()

    def has_synced_again() -> bool:
        db[b"a"] = b"2"
        return system.syncs >= count + 5

    wait_until(has_synced_again)
    # Each began at least 50 ms after the one before.
    assert time.monotonic() - started > 0.15


def test_waiting_threads_share_syncs(opened: Callable[..., DB]) -> None:
    system = CountingSystem(delay_s=0.004)
    db = opened("slow", system=system, durability="always")
    threads, each = 16, 15

    def write(number: int) -> None:
        for turn in range(each):
            db.put(b"%d %d" % (number, turn), b"")
            assert db._syncs.synced_lsn >= turn

    call_together(*(lambda number=number: write(number) for number in range(threads)))
    assert len(db) == threads * each
    assert each <= system.syncs <= threads * each / 4
    assert db.stats().synced_lsn == db.stats().lsn


def test_every_commit_is_durable_when_its_write_returns(opened: Callable[..., DB]) -> None:
    system = CountingSystem(delay_s=0.001)
    db = opened("slow", system=system, durability="always", segment_bytes_max=65536)
    missed: list[int] = []

    def write(number: int) -> None:
        for turn in range(30):
            with db.snapshot() as before:
                db.put(b"%d %d" % (number, turn), bytes(3000))
                if db.stats().synced_lsn <= before.sequence:
                    missed.append(turn)

    call_together(*(lambda number=number: write(number) for number in range(4)))
    assert missed == []


def test_close_makes_everything_durable(opened: Callable[..., DB], tmp_path: Path) -> None:
    synced: list[str] = []

    class Recorder(System):
        def sync_file(self, fd: int) -> None:
            synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
            super().sync_file(fd)

    db = opened("recorded", system=Recorder())
    db[b"a"] = b"1"
    synced.clear()
    db.close()
    assert any(name.endswith(".seg") for name in synced)
    assert any("MANIFEST" in name for name in synced)


def test_stats_tell_syncs_and_their_time(opened: Callable[..., DB]) -> None:
    db = opened("slow", system=CountingSystem(delay_s=0.01), durability="always")
    for number in range(3):
        db[b"%d" % number] = b""
    stats = db.stats()
    assert stats.syncs == 3
    assert 0.03 <= stats.sync_duration_s < 3
    assert (stats.lsn, stats.synced_lsn) == (3, 3)


@pytest.mark.parametrize("durability", ["always", ("bytes", 1)])
def test_failed_sync_poisons_for_good_and_reads_go_on(opened: Callable[..., DB], durability: Any) -> None:
    system = FaultySystem()
    db = opened("faulty", system=system, durability=durability)
    db[b"a"] = b"1"
    system.add(Fault("sync_data", errno=errno.EIO))
    with pytest.raises(PoisonedError) as caught:
        db[b"b"] = b"2"
    assert isinstance(caught.value.__cause__ or caught.value.cause, OSError)
    system.heal()
    writes: list[Callable[[], object]] = [
        lambda: db.put(b"c", b"3"),
        lambda: db.delete(b"a"),
        lambda: db.update({b"c": b"3"}),
        lambda: db.sync(),
        lambda: db.compact(),
        lambda: db.batch(),
        lambda: db.clear(),
    ]
    for write in writes:
        with pytest.raises(PoisonedError):
            write()
    assert db[b"a"] == b"1"
    assert db.get_many([b"a"]) == [b"1"]
    assert (b"a", b"1") in db.items()
    assert db.stats().is_poisoned


def test_write_whose_sync_failed_is_not_there_afterwards(opened: Callable[..., DB]) -> None:
    system = FaultySystem()
    db = opened("faulty", system=system, durability="always")
    db.update({b"a": b"1", b"b": b"2"})
    system.add(Fault("sync_data"))
    with pytest.raises(PoisonedError):
        db.update({b"a": b"x", b"c": b"3"})
    expected = {b"a": b"1", b"b": b"2"}
    assert dict(db.items()) == expected
    assert len(db) == 2
    system.heal()
    db.close()
    assert dict(opened("faulty").items()) == expected


def test_failed_sync_in_the_background_reaches_the_next_write(opened: Callable[..., DB]) -> None:
    system = FaultySystem()
    db = opened("faulty", system=system, durability=("interval", 0.01))
    system.add(Fault("sync_data", from_then_on=True))
    db[b"a"] = b"1"
    wait_until(lambda: db.stats().is_poisoned)
    with pytest.raises(PoisonedError):
        db[b"b"] = b"2"
    assert db[b"a"] == b"1"
    system.heal()

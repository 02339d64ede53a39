"""A writer was killed or the power failed: what reached the disk decides what the next open finds.

Each case is named by what reached the disk. Above the last mark that says "synced up to here" a bad record is a torn
tail: cut, reported, and nothing behind it comes back. Below it is corruption: an error with path and offset.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flash_kv import CorruptionError
from flash_kv.log.records import HEADER_SIZE, SEGMENT_HEADER_SIZE
from support.processes import Report, run_forked
from support.workload import Model, content, open_with

KEYS = 12
VALUE = b"a value that is neither short nor long, number %d"
RECORD_BYTES = -(-(HEADER_SIZE + 3 + len(VALUE % 0)) // 8) * 8


def place(number: int) -> int:
    """Offset of the record of put `number`."""
    return SEGMENT_HEADER_SIZE + number * RECORD_BYTES


def model_of(count: int) -> Model:
    return {b"k%02d" % i: VALUE % (i % 10) for i in range(count)}


def killed(path: Path, synced: int | None = None, durability: str = "process", count: int = KEYS) -> Path:
    """A killed writer's store of `count` puts, with a sync after `synced` of them; its one segment."""

    def body(report: Report) -> None:
        db = open_with(path, durability=durability)
        for number, (key, value) in enumerate(model_of(count).items()):
            if number == synced:
                db.sync()
            db.put(key, value)
        os.kill(os.getpid(), signal.SIGKILL)

    assert run_forked(body)[1] == -signal.SIGKILL
    (segment,) = path.glob("*.seg")
    return segment


@dataclass(frozen=True)
class Torn:
    """What reached the disk of the writes from record `first` on."""

    name: str
    change: Callable[[bytearray], None]
    kept: int
    """Records that have to be there afterwards."""


def cut(size: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        del data[size:]

    return change


def write(offset: int, new: bytes) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[offset : offset + len(new)] = new

    return change


def flip(offset: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[offset] ^= 0x10

    return change


def copy(source: int, target: int, size: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[target : target + size] = data[source : source + size]

    return change


LAST = KEYS - 1
CASES = [
    Torn("all of it", lambda data: None, KEYS),
    Torn("all of it, the zeros behind it not", cut(place(KEYS)), KEYS),
    Torn("all but the last byte", cut(place(KEYS) - 1), LAST),
    Torn("half of the last record", cut(place(LAST) + RECORD_BYTES // 2), LAST),
    Torn("the header of the last record", cut(place(LAST) + HEADER_SIZE), LAST),
    Torn("half of the header of the last record", cut(place(LAST) + HEADER_SIZE // 2), LAST),
    Torn("one byte of the last record", cut(place(LAST) + 1), LAST),
    Torn("the last record without its first word", write(place(LAST), bytes(8)), LAST),
    Torn("the last record with zeros for its body", write(place(LAST) + HEADER_SIZE, bytes(40)), LAST),
    Torn("the last record with a wrong bit", flip(place(LAST) + HEADER_SIZE + 9), LAST),
    Torn("the last record with a wrong bit in its checksum", flip(place(LAST)), LAST),
    Torn(
        "the last record with a huge value size", write(place(LAST) + 12, struct.pack("<I", 2**32 - 1)), LAST
    ),
    Torn("the last record with a huge key size", write(place(LAST) + 8, struct.pack("<I", 2**32 - 1)), LAST),
    Torn("the last record but not the one before", write(place(LAST - 1), bytes(RECORD_BYTES)), LAST - 1),
    Torn("two records from the middle not", write(place(5), bytes(2 * RECORD_BYTES)), 5),
    Torn("nothing but the header of the segment", write(place(0), bytes(KEYS * RECORD_BYTES)), 0),
    Torn("nothing of the first record", write(place(0), bytes(RECORD_BYTES)), 0),
    Torn("garbage behind the last record", write(place(KEYS), b"\xa5" * 300), KEYS),
    Torn("one byte of garbage far behind the last record", write(place(KEYS) + 5000, b"\x01"), KEYS),
    Torn("an old record once more behind the last one", copy(place(3), place(KEYS), RECORD_BYTES), KEYS),
    Torn("an old record in the place of the last one", copy(place(3), place(LAST), RECORD_BYTES), LAST),
    Torn("only ones behind the last record", write(place(KEYS), b"\xff" * 4096), KEYS),
]


def damage(segment: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(segment.read_bytes())
    change(data)
    segment.write_bytes(data)


@pytest.fixture(scope="module")
def unsynced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A killed writer's store; copied for each case."""
    path = tmp_path_factory.mktemp("unsynced") / "db"
    killed(path)
    return path


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_what_reached_the_disk_is_read_and_nothing_else(
    unsynced: Path, tmp_path: Path, case: Torn, index: str, io: str
) -> None:
    path = tmp_path / "db"
    shutil.copytree(unsynced, path)
    (segment,) = path.glob("*.seg")
    damage(segment, case.change)
    end = place(case.kept)
    torn = len(segment.read_bytes()[end:].rstrip(b"\0"))
    wanted = model_of(case.kept)
    with open_with(path, io=io, index=index) as db:
        assert content(db) == wanted
        assert db.stats().recovery.torn_tail_bytes == torn
        # What is written now never lands behind the cut in the old file, nor brings anything back.
        for key in wanted:
            db.delete(key)
        db.put("new", "value")
    assert not segment.exists() or segment.stat().st_size == end
    with open_with(path, io=io, index=index) as db:
        assert content(db) == {b"new": b"value"}
        assert db.stats().recovery.torn_tail_bytes == 0


@pytest.mark.parametrize("durability", ["process", "always"])
@pytest.mark.parametrize("number", [0, 3, 6])
def test_damage_below_a_synced_mark_is_corruption(
    tmp_path: Path, number: int, durability: str, index: str, io: str
) -> None:
    # Each record says how far the log was synced when it was written: with "always" up to the one before.
    path = tmp_path / "db"
    segment = killed(path, synced=7 if durability == "process" else None, durability=durability)
    damage(segment, flip(place(number) + HEADER_SIZE + 9))
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    for _ in range(2):
        with pytest.raises(CorruptionError) as caught:
            open_with(path, io=io, index=index)
        assert caught.value.path == str(segment)
        assert caught.value.offset == place(number)
    after = {file.name: file.read_bytes() for file in path.iterdir()}
    assert before.keys() == after.keys()
    assert after[segment.name] == before[segment.name]


@pytest.mark.parametrize("number", [7, 9, LAST])
def test_damage_above_the_synced_mark_is_a_torn_tail(
    tmp_path: Path, number: int, index: str, io: str
) -> None:
    path = tmp_path / "db"
    segment = killed(path, synced=7)
    damage(segment, flip(place(number) + HEADER_SIZE + 9))
    torn = len(segment.read_bytes()[place(number) :].rstrip(b"\0"))
    with open_with(path, io=io, index=index) as db:
        assert content(db) == model_of(number)
        assert db.stats().recovery.torn_tail_bytes == torn


def test_a_synced_segment_that_was_cut_is_corruption(tmp_path: Path, index: str, io: str) -> None:
    # Of two unsealed segments the older one lost its end, and the newer one says that it was durable.
    path = tmp_path / "db"
    value = b"v" * 9000

    def body(report: Report) -> None:
        db = open_with(path)
        db._maintenance._is_stopping = True  # nobody seals the full one
        for number in range(12):
            if number == 9:
                db.sync()
            db.put(b"%d" % number, value)
        os.kill(os.getpid(), signal.SIGKILL)

    assert run_forked(body)[1] == -signal.SIGKILL
    first, _ = sorted(path.glob("*.seg"))
    first.write_bytes(first.read_bytes()[:30_000])
    with pytest.raises(CorruptionError):
        open_with(path, io=io, index=index)


def test_records_after_a_lost_end_of_the_segment_before_are_not_read(
    tmp_path: Path, index: str, io: str
) -> None:
    # Nothing says it was durable, so the log ends where it breaks: the store is a prefix of what was written.
    path = tmp_path / "db"
    value = b"v" * 9000

    def body(report: Report) -> None:
        db = open_with(path)
        db._maintenance._is_stopping = True  # nobody seals the full one
        for number in range(12):
            db.put(b"%02d" % number, value)
        os.kill(os.getpid(), signal.SIGKILL)

    assert run_forked(body)[1] == -signal.SIGKILL
    first, _ = sorted(path.glob("*.seg"))
    first.write_bytes(first.read_bytes()[:30_000])
    with open_with(path, io=io, index=index) as db:
        found = content(db)
    assert found == {b"%02d" % number: value for number in range(3)}


def test_a_torn_batch_is_not_there_at_all(tmp_path: Path, index: str, io: str) -> None:
    original = tmp_path / "original"

    def body(report: Report) -> None:
        db = open_with(original)
        db.put("before", "batch")
        report(str(db.stats().live_bytes).encode())
        db.put_many([(f"b{i}", b"x" * 50) for i in range(5)])
        os.kill(os.getpid(), signal.SIGKILL)

    messages, _ = run_forked(body)
    start = SEGMENT_HEADER_SIZE + int(messages[0])
    (segment,) = original.glob("*.seg")
    end = len(segment.read_bytes().rstrip(b"\0"))
    for size in (*range(start + 8, end, 24), end - 1):
        path = tmp_path / f"cut{size}"
        shutil.copytree(original, path)
        damage(path / segment.name, cut(size))
        with open_with(path, io=io, index=index) as db:
            assert content(db) == {b"before": b"batch"}, f"cut at {size}"
        shutil.rmtree(path)

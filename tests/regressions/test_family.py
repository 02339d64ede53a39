"""The bugs that log-structured stores before this one had, each as a test.

Found in the issue trackers and post-mortems of Bitcask, rosedb, nutsdb, badger, RocksDB, sled and redb. Deeper tests of
several of these are in the other suites; here each has its name.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flash_kv import DB, CorruptionError, NotAStoreError
from flash_kv.engine import compaction
from flash_kv.io.faulty import Fault, FaultySystem
from flash_kv.log.manifest import read_manifest
from flash_kv.log.records import HEADER_SIZE, SEGMENT_HEADER_SIZE
from support.processes import Report, killed, run_forked
from support.stores import settle
from support.workload import UNSYNCED, content, open_files_in, open_with

OpenSmall = Callable[..., DB]


@pytest.fixture
def open_small(tmp_path: Path, index: str, io: str) -> OpenSmall:
    """Opens the test's store, with segments of 64 KiB and compaction by hand."""

    def open_one(**options: object) -> DB:
        return open_with(tmp_path / "db", **{"index": index, "io": io, **options})

    return open_one


def fill_segment(db: DB, prefix: str) -> None:
    """Live records that make the segment worth keeping."""
    for number in range(5):
        db.put(f"{prefix}{number}", b"x" * 10_000)


def is_back_after_a_compaction_of_some_segments(open_small: OpenSmall) -> bool:
    """Of two segments, one with a value and one with its tombstone, only the second is compacted; then a reopen."""
    with open_small() as db:
        db.put("key", "value")
        fill_segment(db, "old")
    with open_small() as db:
        db.delete("key")
        fill_segment(db, "new")
        for number in range(5):
            db.delete(f"new{number}")
        settle(db)
        _, newer = db._segments.sealed()[:2]
        chosen = [one for one in _candidates(db) if one.segment is newer]
        with db._compactor.lock:
            db._compactor._run(chosen, None, None)
        assert "key" not in db
    # An index on disk would still know that it has gone, and hide that the log does not.
    (db.path / "INDEX").unlink(missing_ok=True)
    with open_small() as db:
        return "key" in db


def test_a_tombstone_dropped_by_a_compaction_of_some_segments_does_not_bring_the_key_back(
    open_small: OpenSmall,
) -> None:
    assert not is_back_after_a_compaction_of_some_segments(open_small)


def test_it_would_be_noticed_if_tombstones_were_dropped_too_early(
    open_small: OpenSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "tombstone_floor", lambda db, inputs: 2**63)
    assert is_back_after_a_compaction_of_some_segments(open_small)


def _candidates(db: DB) -> list:  # type: ignore[type-arg]
    from flash_kv.engine.candidates import candidates

    return candidates(db)


def test_a_compacted_copy_does_not_beat_a_newer_write(open_small: OpenSmall) -> None:
    with open_small() as db:
        model = {}
        for number in range(200):
            db.put(f"k{number}", b"old" * 300)
            model[b"k%d" % number] = b"old" * 300
        for number in range(0, 200, 3):
            db.delete(f"k{number}")
            del model[b"k%d" % number]

        def write_meanwhile(progress: object) -> None:
            # Between the copy of one megabyte and the next, and so behind the compaction's back.
            for number in range(1, 200, 3):
                db.put(f"k{number}", "newer")
                model[b"k%d" % number] = b"newer"

        db.compact(progress=write_meanwhile)
        assert content(db) == model
    with open_small() as db:
        assert content(db) == model


def test_a_crash_while_compacted_segments_are_swapped_in_keeps_every_key(
    open_small: OpenSmall, tmp_path: Path
) -> None:
    with open_small() as db:
        for number in range(100):
            db.put(f"k{number}", b"%d" % number * 900)
        for number in range(0, 100, 2):
            db.delete(f"k{number}")
        model = content(db)
    original = tmp_path / "original"
    shutil.copytree(tmp_path / "db", original)
    for operation in ("rename", "unlink", "sync_directory", "sync_file", "truncate"):
        for nth in range(1, 40):
            shutil.rmtree(tmp_path / "db")
            shutil.copytree(original, tmp_path / "db")

            def body(report: Report, operation: str = operation, nth: int = nth) -> None:
                system = FaultySystem(inner=UNSYNCED)
                db = open_small(system=system)
                system.add(Fault(operation, nth=nth, action="kill"))
                db.compact()
                os._exit(0)

            status = run_forked(body)[1]
            with open_small() as db:
                assert content(db) == model, f"killed before {operation} {nth}"
            if status == 0:
                break
        assert 1 < nth < 39


class Recorder:
    """What the system was asked for, in order."""

    def __init__(self, path: Path, **options: object) -> None:
        self.system = FaultySystem(inner=UNSYNCED, is_tracing=True)
        self.db = open_with(path, self.system, **options)

    def events(self) -> list[tuple[str, str]]:
        return [(operation, os.path.basename(path or "")) for operation, path in self.system.trace]


def test_inputs_of_a_compaction_are_removed_after_its_outputs_are_durable(
    tmp_path: Path, index: str, io: str
) -> None:
    recorder = Recorder(tmp_path / "db", index=index, io=io)
    db = recorder.db
    for number in range(100):
        db.put(f"k{number}", b"%d" % number * 900)
    for number in range(0, 100, 2):
        db.delete(f"k{number}")
    recorder.system.trace.clear()
    before = set(db._segments.entries)
    db.compact()
    events = recorder.events()
    db.close()
    removed = [name for operation, name in events if operation == "unlink" and name.endswith(".seg")]
    assert removed
    outputs = {name for operation, name in events if operation == "map" and name.endswith(".seg")}
    outputs |= {name for operation, name in events if operation == "truncate" and name.endswith(".seg")}
    outputs -= {f"{segment_id:010d}.seg" for segment_id in before}
    assert outputs
    first = min(position for position, event in enumerate(events) if event == ("unlink", removed[0]))
    flips = [position for position, event in enumerate(events[:first]) if event == ("rename", "MANIFEST")]
    # The last manifest before the first removal: outputs synced before it, the directory synced after it.
    assert ("sync_directory", "db") in events[flips[-1] : first]
    written_before = [name for name in outputs if ("sync_file", name) in events[: flips[-1]]]
    assert written_before


@pytest.mark.parametrize(
    "what", ["truncated", "empty", "flipped", "another store's", "older", "outside", "missing"]
)
def test_a_bad_hint_costs_time_and_never_data(
    open_small: OpenSmall, tmp_path: Path, what: str, rng: random.Random
) -> None:
    with open_small() as db:
        for number in range(100):
            db.put(f"k{number}", b"%d" % number * 500)
        db.delete("k7")
        model = content(db)
    hints = sorted((tmp_path / "db").glob("*.hint"))
    assert len(hints) > 1
    if what == "another store's":
        with open_with(tmp_path / "other") as other:
            for number in range(100):
                other.put(f"o{number}", b"%d" % number * 500)
    for hint in hints:
        good = hint.read_bytes()
        match what:
            case "truncated":
                hint.write_bytes(good[: rng.randrange(1, len(good))])
            case "empty":
                hint.write_bytes(b"")
            case "flipped":
                position = rng.randrange(len(good))
                hint.write_bytes(good[:position] + bytes([good[position] ^ 0x40]) + good[position + 1 :])
            case "another store's":
                hint.write_bytes(sorted((tmp_path / "other").glob("*.hint"))[0].read_bytes())
            case "older":
                hint.write_bytes(hints[0].read_bytes())
            case "outside":
                hint.write_bytes(good[: len(good) // 2] + b"\xff" * (len(good) - len(good) // 2))
            case "missing":
                hint.unlink()
    with open_small() as db:
        assert content(db) == model


def test_a_torn_tail_neither_blocks_the_open_nor_swallows_later_writes(
    open_small: OpenSmall, tmp_path: Path
) -> None:
    killed(lambda: open_small().update({"a": "1", "b": "2"}))
    (segment,) = (tmp_path / "db").glob("*.seg")
    data = segment.read_bytes()
    end = len(data.rstrip(b"\0")) + 7 & ~7
    segment.write_bytes(data[:end] + b"\x17\x42\x99" * 20)
    killed(lambda: open_small().put("c", "3"))
    with open_small() as db:
        assert dict(db) == {b"a": b"1", b"b": b"2", b"c": b"3"}


def test_damage_in_the_middle_is_not_taken_for_a_torn_tail(open_small: OpenSmall, tmp_path: Path) -> None:
    with open_small() as db:
        for number in range(50):
            db.put(f"k{number}", b"%d" % number * 100)
    # A sealed segment, and neither a hint nor an index on disk that would spare the scan.
    (tmp_path / "db" / "INDEX").unlink(missing_ok=True)
    (segment,) = (tmp_path / "db").glob("*.seg")
    (hint,) = (tmp_path / "db").glob("*.hint")
    hint.unlink()
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(CorruptionError) as caught:
        open_small()
    assert caught.value.path == str(segment)
    assert 0 < caught.value.offset <= len(data) // 2


def test_old_records_in_preallocated_space_are_not_read_again(open_small: OpenSmall, tmp_path: Path) -> None:
    def body() -> None:
        db = open_small()
        for number in range(10):
            db.put(f"k{number}", "old")
        db.put("k3", "new")
        db.delete("k4")

    killed(body)
    (segment,) = (tmp_path / "db").glob("*.seg")
    data = bytearray(segment.read_bytes())
    end = len(bytes(data).rstrip(b"\0")) + 7 & ~7
    # The whole log once more behind itself, as space that was in use before would show it.
    data[end : 2 * end - SEGMENT_HEADER_SIZE] = data[SEGMENT_HEADER_SIZE:end]
    segment.write_bytes(data)
    with open_small() as db:
        assert db["k3"] == b"new"
        assert "k4" not in db
        assert len(db) == 9


def test_a_new_segment_is_in_a_synced_directory_before_a_manifest_lists_it(
    tmp_path: Path, index: str, io: str
) -> None:
    synced: set[str] = set()
    wrong: list[str] = []
    path = tmp_path / "db"

    def sync_directory(call: object) -> None:
        synced.update(os.listdir(path))

    def rename(call: object) -> object:
        if "MANIFEST" in call.path:  # type: ignore[attr-defined]
            result = call.proceed()  # type: ignore[attr-defined]
            listed = {f"{one.segment_id:010d}.seg" for one in read_manifest(UNSYNCED, path).segments}
            wrong.extend(sorted(listed - synced))
            return result
        return call.proceed()  # type: ignore[attr-defined]

    system = FaultySystem(
        Fault("sync_directory", action=sync_directory, from_then_on=True),
        Fault("rename", action=rename, from_then_on=True),
        inner=UNSYNCED,
    )
    with open_with(path, system, index=index, io=io) as db:
        for number in range(60):
            db.put(f"k{number % 40}", b"%d" % number * 2000)
        db.compact()
        db.put("more", "of it")
    assert len(synced) > 4
    assert wrong == []


def test_an_iterator_during_compactions_misses_no_key_doubles_none_and_is_never_stale(
    open_small: OpenSmall,
) -> None:
    with open_small(compaction="auto", compaction_interval_s=0.002, compaction_dead_bytes=0) as db:
        for number in range(300):
            db.put(f"{number:04}", b"before %d" % number * 30)
        before = list(db.items())
        scan = iter(db.items())
        seen = [next(scan) for _ in range(5)]
        for round_number in range(3):
            for number in range(300):
                db.put(f"{number:04}", b"%d" % round_number * 200)
            for number in range(0, 300, 2):
                db.delete(f"{number:04}")
            db.compact()
            seen += [item for _, item in zip(range(20), scan, strict=False)]
        seen += list(scan)
        assert sorted(seen) == sorted(before)
        assert len(db) == 150


def test_compactions_use_up_no_descriptors_and_keep_no_removed_file_open(
    open_small: OpenSmall, tmp_path: Path
) -> None:
    with open_small() as db:
        counts = []
        for number in range(12):
            for key in range(40):
                db.put(f"k{key}", b"%d" % number * 1500)
            db.compact()
            left = open_files_in(tmp_path / "db")
            assert not [one for one in left if "(deleted)" in one and ".seg" in one]
            counts.append(len(left))
        assert max(counts) <= 10


@pytest.mark.parametrize("jump_s", [-10 * 365 * 86_400, 10 * 365 * 86_400])
def test_a_jump_of_the_clock_deletes_nothing(tmp_path: Path, index: str, io: str, jump_s: int) -> None:
    shift = 0

    def now(call: object) -> int:
        return call.proceed() + shift * 10**9  # type: ignore[attr-defined, no-any-return]

    def open_one() -> DB:
        system = FaultySystem(Fault("now_ns", action=now, from_then_on=True), inner=UNSYNCED)
        return open_with(tmp_path / "db", system, index=index, io=io)

    with open_one() as db:
        for number in range(60):
            db.put(f"k{number}", b"%d" % number * 1000)
        shift = jump_s
        for number in range(30):
            db.put(f"k{number}", b"%d" % number * 900)
        db.delete("k1")
        model = content(db)
        db.compact()
        assert content(db) == model
    shift = -jump_s
    with open_one() as db:
        assert content(db) == model
        db.compact()
    with open_one() as db:
        assert content(db) == model


@pytest.mark.parametrize("left", [b"", b"pid=1 host=nowhere started=2020-01-01T00:00:00Z\n", b"\xff" * 5000])
def test_an_empty_or_stale_lock_file_does_not_block_the_start(
    open_small: OpenSmall, tmp_path: Path, left: bytes
) -> None:
    with open_small() as db:
        db["a"] = "1"
    (tmp_path / "db" / "LOCK").write_bytes(left)
    with open_small() as db:
        assert dict(db) == {b"a": b"1"}
    (tmp_path / "db" / "LOCK").unlink()
    with open_small() as db:
        assert dict(db) == {b"a": b"1"}


def test_a_batch_that_begins_at_the_end_of_a_segment_is_whole_or_not_there(
    open_small: OpenSmall, tmp_path: Path
) -> None:
    def body() -> None:
        db = open_small()
        db.put("before", b"x" * 60_000)
        db.put_many([(f"b{number}", b"%d" % number * 2000) for number in range(10)])

    killed(body)
    for path in sorted((tmp_path / "db").glob("*.seg")):
        data = path.read_bytes()
        # All that a power cut could leave of the last segment, roughly.
        if b"b00" in data:
            assert b"before" not in data
            for size in range(SEGMENT_HEADER_SIZE, len(data.rstrip(b"\0")), 997):
                shutil.copytree(tmp_path / "db", tmp_path / "copy")
                (tmp_path / "copy" / path.name).write_bytes(data[:size])
                with open_with(tmp_path / "copy") as db:
                    assert list(db) == [b"before"], f"cut at {size}"
                shutil.rmtree(tmp_path / "copy")
    with open_small() as db:
        assert len(db) == 11


def test_a_batch_whose_records_are_sound_but_not_all_there_is_not_read(
    open_small: OpenSmall, tmp_path: Path
) -> None:
    # Each record of a batch has a checksum of its own; that must not make a part of the batch good.
    def body() -> None:
        db = open_small()
        db.put("before", "x")
        db.put_many([("b1", "1"), ("b2", "2"), ("b3", "3")])

    killed(body)
    (segment,) = (tmp_path / "db").glob("*.seg")
    data = bytearray(segment.read_bytes())
    last = bytes(data).rindex(b"b33")
    data[last + 2] = ord("X")
    segment.write_bytes(data)
    with open_small() as db:
        assert dict(db) == {b"before": b"x"}


def test_no_space_for_a_page_of_the_mapping_is_an_error_and_no_sigbus(tmp_path: Path, index: str) -> None:
    # What is written to is allocated first; so an allocation that fails is where a full disk shows.
    def body(report: Report) -> None:
        import errno

        system = FaultySystem(inner=UNSYNCED)
        db = open_with(tmp_path / "db", system, index=index, io="mmap")
        system.add(Fault("allocate", errno=errno.ENOSPC, from_then_on=True))
        for number in range(400):
            try:
                db.put(f"k{number}", b"x" * 1000)
            except OSError as error:
                assert error.errno == errno.ENOSPC
        assert len(db) == sum(1 for _ in db)
        report(b"alive")
        os._exit(0)

    assert run_forked(body) == ([b"alive"], 0)


@pytest.mark.parametrize("what", ["the value", "the whole record", "a page"])
def test_zeros_in_the_place_of_a_value_are_never_returned(
    open_small: OpenSmall, tmp_path: Path, what: str
) -> None:
    value = bytes(range(1, 251)) * 32
    with open_small() as db:
        for number in range(5):
            db.put(f"k{number}", value)
    (segment,) = (tmp_path / "db").glob("*.seg")
    data = bytearray(segment.read_bytes())
    start = data.index(b"k2" + value[:20])
    match what:
        case "the value":
            data[start + 2 : start + 2 + len(value)] = bytes(len(value))
        case "the whole record":
            data[start - HEADER_SIZE : start + 2 + len(value)] = bytes(HEADER_SIZE + 2 + len(value))
        case "a page":
            page = (start + 4096) // 4096 * 4096
            data[page : page + 4096] = bytes(4096)
    segment.write_bytes(data)
    # The hint is whole, so the open finds nothing wrong; the reads do.
    with open_small() as db:
        for number in range(5):
            try:
                assert db[f"k{number}"] == value
            except CorruptionError as error:
                assert error.path == str(segment)
                damaged = number
        assert damaged in (1, 2)
        assert db.get_many(["k0", "k4"]) == [value, value]


def test_a_crash_during_a_recovery_is_recovered_from(open_small: OpenSmall, tmp_path: Path) -> None:
    def body() -> None:
        db = open_small()
        db._maintenance._is_stopping = True  # so that two segments are left unsealed
        for number in range(15):
            db.put(f"k{number}", b"%d" % number * 3000)

    killed(body)
    for nth in range(1, 60):

        def reopen(report: Report, nth: int = nth) -> None:
            open_small(system=FaultySystem(Fault("*", nth=nth, action="kill"), inner=UNSYNCED))
            os._exit(0)

        if run_forked(reopen)[1] == 0:
            break
    assert nth > 5
    with open_small() as db:
        assert len(db) == 15


def test_opening_a_store_touches_no_directory_beside_it(tmp_path: Path, index: str, io: str) -> None:
    # The seed removed `X-merge` when it opened `X`.
    for name in ("db-merge", "db-backup", "tmp-db"):
        with open_with(tmp_path / name) as db:
            db["a"] = name
    with open_with(tmp_path / "db", index=index, io=io) as db:
        db["a"] = "1"
        db.compact()
    for name in ("db-merge", "db-backup", "tmp-db"):
        with open_with(tmp_path / name) as db:
            assert db["a"] == name.encode()
    with pytest.raises(NotAStoreError):
        open_with(tmp_path)


def test_a_thread_that_reads_during_compactions_never_sees_an_old_value(open_small: OpenSmall) -> None:
    with open_small(compaction="auto", compaction_interval_s=0.002, compaction_dead_bytes=0) as db:
        newest = [0] * 20
        is_over = threading.Event()
        stale: list[str] = []

        def read() -> None:
            while not is_over.is_set():
                for key in range(20):
                    least = newest[key]
                    found = db.get(f"k{key}")
                    if least and (found is None or int(found[:8]) < least):
                        stale.append(f"k{key}: {found and found[:8]!r} after {least}")

        reader = threading.Thread(target=read)
        for key in range(20):
            db.put(f"k{key}", b"%08d" % 1)
        reader.start()
        for version in range(2, 120):
            for key in range(20):
                db.put(f"k{key}", b"%08d" % version + b"x" * 1500)
                newest[key] = version
        is_over.set()
        reader.join()
        assert stale == []

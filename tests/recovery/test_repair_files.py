"""Repair of stores whose files are damaged as a whole: lost, cut, spoiled, foreign, or from another time."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flash_kv.io.faulty import Call, Fault, FaultySystem
from flash_kv.log.names import segment_name
from support.damage import (
    cut,
    flip,
    hint_of,
    hints_removed,
    overwrite,
    records,
    segments,
)
from support.repairs import Versions, build, check, newest_records, salvaged
from support.stores import crash_image
from support.workload import content, open_with


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def versions(store: Path) -> Versions:
    return build(store)


# Damaged files


def lose_nothing(directory: Path) -> None:
    """No damage at all."""


def lose_manifest(directory: Path) -> None:
    (directory / "MANIFEST").unlink()


def spoil_manifest(directory: Path) -> None:
    flip(directory / "MANIFEST", 200)


def say_another_version(directory: Path) -> None:
    overwrite(directory / "MANIFEST", 17, b"9")


def spoil_headers(directory: Path) -> None:
    for path in segments(directory):
        overwrite(path, 0, os.urandom(64))


def spoil_a_header_and_lose_the_manifest(directory: Path) -> None:
    lose_manifest(directory)
    overwrite(segments(directory)[1], 0, os.urandom(64))


def spoil_headers_and_lose_the_manifest(directory: Path) -> None:
    lose_manifest(directory)
    spoil_headers(directory)


def spoil_a_header_and_lose_manifest_and_hints(directory: Path) -> None:
    hints_removed(directory)
    spoil_a_header_and_lose_the_manifest(directory)


def spoil_the_last_header_and_lose_manifest_and_hints(directory: Path) -> None:
    hints_removed(directory)
    lose_manifest(directory)
    overwrite(segments(directory)[-1], 0, os.urandom(64))


def lose_hints(directory: Path) -> None:
    hints_removed(directory)


def spoil_hints(directory: Path) -> None:
    for path in segments(directory):
        flip(hint_of(path), 300)


def add_foreign_files(directory: Path) -> None:
    (directory / "photo.jpg").write_bytes(b"not ours")
    (directory / "0000000099.seg").write_bytes(os.urandom(5000))
    (directory / "0000000098.hint").write_bytes(os.urandom(500))


@pytest.mark.parametrize(
    "damage",
    [
        lose_nothing,
        lose_manifest,
        spoil_manifest,
        say_another_version,
        spoil_headers,
        spoil_a_header_and_lose_the_manifest,
        spoil_headers_and_lose_the_manifest,
        spoil_a_header_and_lose_manifest_and_hints,
        spoil_the_last_header_and_lose_manifest_and_hints,
        lose_hints,
        spoil_hints,
        add_foreign_files,
    ],
)
def test_damage_that_hits_no_record_costs_none(
    store: Path, versions: Versions, damage: Callable[[Path], None]
) -> None:
    damage(store)
    report, found = salvaged(store)
    check(found, report, versions, set())
    assert report.records_lost == 0


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_missing_segment_costs_its_records_only(
    store: Path, versions: Versions, has_manifest: bool
) -> None:
    path = segments(store)[1]
    damaged = {key for key, placed in newest_records(store).items() if placed.path == path}
    lost = sum(placed.path == path for placed in records(store))
    path.unlink()
    if not has_manifest:
        lose_manifest(store)
    report, found = salvaged(store)
    check(found, report, versions, damaged)
    assert damaged
    assert 0 < report.records_lost <= lost
    assert path in {damage.path for damage in report.damages}


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_cut_segment_costs_what_was_behind_the_cut(
    store: Path, versions: Versions, has_manifest: bool
) -> None:
    path = segments(store)[0]
    size = path.stat().st_size // 2
    last = newest_records(store)
    cut(path, size)
    if not has_manifest:
        lose_manifest(store)
    report, found = salvaged(store)
    gone = {key for key, one in last.items() if one.path == path and one.record.offset + one.size > size}
    halves = {key for key in report.lost_keys if (versions[key][-1] or b"").startswith(b"batch")}
    check(found, report, versions, gone | halves)
    assert gone


def test_sectors_that_cannot_be_read_cost_what_is_in_them(store: Path, versions: Versions) -> None:
    path = segments(store)[0]

    def refuse(call: Call) -> object:
        start, size = call.arguments["offset"], call.arguments["size"]
        if start < 12_288 and start + size > 8192:
            raise OSError(errno.EIO, "Input/output error")
        return call.proceed()

    last = newest_records(store)
    system = FaultySystem(Fault("read_at", path_contains=path.name, action=refuse, from_then_on=True))
    report, found = salvaged(store, system=system)
    hit = {
        key
        for key, one in last.items()
        if one.path == path and one.record.offset < 12_288 and one.record.offset + one.size > 8192
    }
    halves = {key for key in report.lost_keys if (versions[key][-1] or b"").startswith(b"batch")}
    check(found, report, versions, hit | halves)
    assert any("cannot be read" in damage.reason for damage in report.damages)


def test_durable_records_behind_lost_ones_are_salvaged(tmp_path: Path) -> None:
    with open_with(tmp_path / "first", durability="always") as db:
        for i in range(10):
            db[f"key {i}"] = b"value" * 10
        crash_image(db, tmp_path / "db")
    first = records(tmp_path / "db")[0]
    overwrite(first.path, first.record.offset, bytes(first.size))
    report, found = salvaged(tmp_path / "db")
    assert sorted(found) == [b"key %d" % i for i in range(1, 10)]
    assert any("were durable" in damage.reason for damage in report.damages)


def test_what_was_written_after_a_torn_tail_is_left_out_as_an_open_leaves_it_out(tmp_path: Path) -> None:
    # Nothing is sealed meanwhile, so that two segments are written to and not yet durable.
    with open_with(tmp_path / "first") as db, db._segments._seal_lock:
        for i in range(100):
            db[f"key {i}"] = b"%d " % i * 300
        crash_image(db, tmp_path / "db")
    placed = records(tmp_path / "db")
    torn = placed[20]
    assert placed[-1].path != torn.path
    overwrite(torn.path, torn.record.offset, bytes(torn.size))
    report, found = salvaged(tmp_path / "db")
    assert sorted(found) == sorted(b"key %d" % i for i in range(20))
    assert report.damages == ()
    with open_with(tmp_path / "db") as db:
        assert content(db) == found


# What must not come back


def test_an_older_value_in_a_younger_segment_does_not_win(store: Path) -> None:
    with open_with(store) as db:
        db["key"] = b"older"
        db["dead"] = db["dead"] = b"x"
        db._segments.rotate()
        db._segments.seal_rotated()
        db["other"] = b"in the segment that is written to"
        db._compactor.run_all(None)
        db["key"] = b"newer"
    both = [one for one in records(store) if one.record.key == b"key"]
    assert len(both) == 2
    assert both[0].path > both[1].path
    _, found = salvaged(store)
    assert found[b"key"] == b"newer"


def test_segments_that_were_compacted_away_do_not_come_back(store: Path, versions: Versions) -> None:
    older = {path: path.read_bytes() for path in store.iterdir() if path.suffix in (".seg", ".hint")}
    with open_with(store) as db:
        for key in list(db)[:50]:
            db.delete(key)
        db.compact()
        wanted = content(db)
    for path, data in older.items():
        if not path.exists():
            path.write_bytes(data)
    flip(segments(store)[-1], 30)
    _, found = salvaged(store)
    assert found == wanted


def test_a_segment_of_another_store_is_left_out(store: Path, versions: Versions, tmp_path: Path) -> None:
    with open_with(tmp_path / "other") as db:
        db["foreign"] = b"value"
    (foreign,) = segments(tmp_path / "other")
    for name in ("MANIFEST", "keep"):
        shutil.copy(foreign, store / segment_name(90))
        if name == "MANIFEST":
            report, found = salvaged(store)
        else:
            lose_manifest(store)
            report, found = salvaged(store)
        check(found, report, versions, set())
        assert store / segment_name(90) in {damage.path for damage in report.damages}


def test_segments_an_older_manifest_does_not_know_are_salvaged(store: Path) -> None:
    with open_with(store) as db:
        db["first"] = b"value"
        db["gone"] = b"value"
    older = (store / "MANIFEST").read_bytes()
    with open_with(store) as db:
        db["first"] = b"newer"
        del db["gone"]
        db["second"] = b"value"
    (store / "MANIFEST").write_bytes(older)
    report, found = salvaged(store)
    assert found == {b"first": b"newer", b"second": b"value"}
    assert any("older copy" in damage.reason for damage in report.damages)


# Large values, many keys


def test_values_larger_than_a_segment_are_salvaged(store: Path) -> None:
    large = os.urandom(300_000)
    with open_with(store) as db:
        db["small"] = b"value"
        db["large"] = large
    flip(segments(store)[0], 40)
    _, found = salvaged(store)
    assert found == {b"small": b"value", b"large": large}


def test_values_of_zeros_at_the_end_are_no_empty_space(store: Path) -> None:
    with open_with(store) as db:
        db["zeros"] = bytes(5000)
    hints_removed(store)
    lose_manifest(store)
    report, found = salvaged(store)
    assert found == {b"zeros": bytes(5000)}
    assert [damage.path.name for damage in report.damages] == ["MANIFEST"]

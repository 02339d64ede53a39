"""Values that begin where numpy, Arrow and FlatBuffers want them, wherever the log and compaction put them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flash_kv
from flash_kv import DB, OptionsError
from flash_kv.io.system import REAL
from flash_kv.log.manifest import read_manifest
from flash_kv.log.scan_cy import scan_segment
from flash_kv.log.segment import open_segment
from flash_kv.options import ALIGNMENTS

OpenDB = Callable[..., DB]
SMALL: dict[str, Any] = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off"}


def value_offsets(directory: Path) -> dict[bytes, list[int]]:
    """Where the values of each key begin in the files of a closed store."""
    found: dict[bytes, list[int]] = {}
    manifest = read_manifest(REAL, directory)
    for entry in manifest.segments:
        segment = open_segment(
            REAL,
            str(directory),
            segment_id=entry.segment_id,
            epoch=entry.epoch,
            origin=entry.origin,
            store_id=manifest.store_id,
            sealed_bytes=entry.sealed_bytes,
            is_writable=False,
            io="file",
        )
        scan = scan_segment(
            segment.source(),
            segment.readable_bytes,
            store_id=manifest.store_id,
            segment_id=entry.segment_id,
            epoch=entry.epoch,
            is_sealed=True,
        )
        segment.close()
        assert scan.is_sound
        for record in scan.records():
            if record.kind == 1:
                found.setdefault(record.key, []).append(record.value_offset)
    return found


def fill(db: DB, rng: random.Random) -> dict[bytes, bytes]:
    """Values of all sizes by every way to write one, over several segments."""
    content: dict[bytes, bytes] = {}

    def some(prefix: bytes, count: int) -> dict[bytes, bytes]:
        made = {
            prefix + b"%03d" % number + b"k" * rng.randrange(9): rng.randbytes(rng.choice((0, 1, 7, 64, 300)))
            for number in range(count)
        }
        content.update(made)
        return made

    for key, value in some(b"put", 300).items():
        db[key] = value
    for key, value in some(b"setdefault", 20).items():
        db.setdefault(key, value)
    db.put_many(some(b"many", 200))
    db.put_many(sorted(some(b"sorted", 200).items()), sorted=True)
    with db.batch() as batch:
        batch.delete(b"put")
        for key, value in some(b"batch", 50).items():
            batch[key] = value
    content[b"large"] = db[b"large"] = rng.randbytes(200_000)
    return content


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_every_value_begins_at_a_multiple(open_db: OpenDB, rng: random.Random, align: int) -> None:
    with open_db(align=align, **SMALL) as db:
        content = fill(db, rng)
        assert dict(db.items()) == content
        path = db.path
    places = value_offsets(path)
    assert places.keys() == content.keys()
    assert {place % align for places_of_one in places.values() for place in places_of_one} == {0}
    assert flash_kv.verify(path).is_ok


def test_a_compaction_keeps_them_aligned_whatever_the_open_asks_for(
    open_db: OpenDB, rng: random.Random
) -> None:
    with open_db(align=16, **SMALL) as db:
        content = fill(db, rng)
    with open_db(**SMALL) as db:
        for key in sorted(content)[::2]:
            db.delete(key)
            del content[key]
        content[b"plain"] = db[b"plain"] = b"x"
        for _ in range(2):
            for key in rng.sample(sorted(content), 3):
                content[key] = db[key] = b"another"
            assert db.compact().records_moved > 0
            assert dict(db.items()) == content
        stats, path = db.stats(), db.path
    places = value_offsets(path)
    old = {key for key, value in content.items() if value not in (b"another", b"x")}
    assert len(old) > 300
    assert {place % 64 for key in old for place in places[key]} == {0}
    # What was counted as records moved is what the next open counts.
    reopened = open_db(**SMALL)
    assert reopened.stats().live_bytes == stats.live_bytes
    assert dict(reopened.items()) == content


def test_a_segment_without_its_hint_counts_the_same(open_db: OpenDB, rng: random.Random) -> None:
    with open_db(align=64, **SMALL) as db:
        content = fill(db, rng)
        counted, path = db.stats().live_bytes, db.path
    # An index on disk would know the counters by itself.
    (path / "INDEX").unlink(missing_ok=True)
    with open_db(**SMALL) as db:
        assert db.stats().recovery.segments_from_hints > 1
        assert (db.stats().live_bytes, dict(db.items())) == (counted, content)
    for hint in path.glob("*.hint"):
        hint.unlink()
    (path / "INDEX").unlink(missing_ok=True)
    with open_db(**SMALL) as db:
        assert db.stats().recovery.segments_scanned > 1
        assert (db.stats().live_bytes, dict(db.items())) == (counted, content)


@pytest.mark.parametrize("io", ["mmap"])
def test_numpy_reads_an_aligned_value_where_it_lies(open_db: OpenDB) -> None:
    db = open_db(align=64, **SMALL)
    vectors = {b"%d" % number * number: np.arange(number + 1, dtype="f8") for number in range(1, 50)}
    for key, vector in vectors.items():
        db[key] = vector
    db.compact()
    for key, vector in vectors.items():
        seen = np.frombuffer(db.view(key), dtype="f8")
        assert seen.ctypes.data % 64 == 0
        assert seen.flags.aligned
        assert np.array_equal(seen, vector)


def test_repair_and_backup_keep_them_aligned(open_db: OpenDB, rng: random.Random, tmp_path: Path) -> None:
    with open_db(align=64, **SMALL) as db:
        content = fill(db, rng)
        db.backup(tmp_path / "backup")
        path = db.path
    assert flash_kv.repair(path, tmp_path / "repaired").keys == len(content)
    for copy in ("backup", "repaired"):
        assert {place % 64 for places in value_offsets(tmp_path / copy).values() for place in places} == {0}
        with flash_kv.open(tmp_path / copy, read_only=True) as db:
            assert dict(db.items()) == content


@pytest.mark.parametrize("align", [0, 3, 128, True, "64", -8])
def test_other_alignments_are_refused(tmp_path: Path, align: Any) -> None:
    with pytest.raises(OptionsError, match="align"):
        flash_kv.open(tmp_path / "db", align=align)
